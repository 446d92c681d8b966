"""A directory of small files under content keys, which any number of processes share.

What is read is code that will be run. So nothing is taken from a directory or a file that belongs
to somebody else or that others may write to, and nothing whose checksum does not hold. Whatever
is wrong with the directory or a file, a reader finds nothing there, and a writer leaves nothing.

Files are never changed: a new one comes in the place of an old one at once. The least recently
used are removed when there are too many bytes.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from .store import sha256

MOST_BYTES = 64 << 20  # of a directory
MOST_FILE_BYTES = 4 << 20
USED_SECONDS = 86400  # a use is noted once a day
STALE_SECONDS = 3600  # after which what a writer has left behind is removed

_MAGIC = b"fastein kernel 1\n"
_SUFFIX = ".kernel"
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_TRICKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class KernelFiles:
    """The files of one directory.

    Parameters
    ----------
    folder : str
        Made, for its owner alone, when something is written.
    most_bytes : int
        Bound of the sizes of all files.
    """

    __slots__ = ("folder", "most_bytes")

    def __init__(self, folder: str, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes

    def read(self, key: str) -> bytes | None:
        """Return what was written under `key`; None if there is nothing that can be trusted."""
        try:
            if not _is_own(os.stat(self.folder)):
                return None
            path = self._path(key)
            data = _read(path)
        except OSError:
            return None
        if data is None or not data.startswith(_MAGIC):
            return None
        start = len(_MAGIC) + 32
        content = data[start:]
        if data[len(_MAGIC) : start] != _checksum(key, content):
            return None
        _note_use(path)
        return content

    def write(self, key: str, content: bytes) -> bool:
        """Have `content` under `key`; whether that was possible."""
        path = self._path(key)
        fresh = os.path.join(self.folder, f".{key[:32]}.{os.getpid()}.{os.urandom(8).hex()}")
        try:
            if not self.is_writable():
                return False
            self._make_room(len(content))
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_MAGIC + _checksum(key, content) + content)
                os.replace(fresh, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(fresh)
                raise
        except OSError:
            return False
        return True

    def is_writable(self) -> bool:
        """Whether there is, or now is, a directory that only its owner, this user, may change."""
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            return _is_own(os.stat(self.folder)) and os.access(self.folder, os.W_OK | os.X_OK)
        except OSError:
            return False

    def sizes(self) -> dict[str, int]:
        """Return the size of each key's file, the least recently used first."""
        return {
            os.path.basename(path).removesuffix(_SUFFIX): size
            for _, path, size in self._by_use()
            if path.endswith(_SUFFIX)
        }

    def clear(self) -> None:
        """Remove all files."""
        for _, path, _ in self._by_use():
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, key + _SUFFIX)

    def _by_use(self) -> list[tuple[float, str, int]]:
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(_SUFFIX) or entry.name.startswith("."):
                        with contextlib.suppress(OSError):
                            status = entry.stat(follow_symlinks=False)
                            found.append((status.st_mtime, entry.path, status.st_size))
        except OSError:
            return []
        return sorted(found)

    def _make_room(self, size: int) -> None:
        """Remove the least recently used files, and what killed writers have left."""
        files = self._by_use()
        excess = sum(size for _, _, size in files) + size - self.most_bytes
        stale = time.time() - STALE_SECONDS
        for used, path, size in files:
            if excess > 0 or (used < stale and not path.endswith(_SUFFIX)):
                with contextlib.suppress(OSError):
                    os.unlink(path)
                excess -= size


def _checksum(key: str, content: bytes) -> bytes:
    """A file that was renamed has the wrong one, too."""
    return sha256(key.encode() + content).digest()


def _read(path: str) -> bytes | None:
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _NO_TRICKS)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_own(status):
            return None
        data = file.read(MOST_FILE_BYTES + 1)
    return data if len(data) <= MOST_FILE_BYTES else None


def _is_own(status: os.stat_result) -> bool:
    """Whether a file or directory belongs to this user, and others may not write to it."""
    if not hasattr(os, "geteuid"):  # Windows: what is in a user's folder is the user's
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _note_use(path: str) -> None:
    with contextlib.suppress(OSError):
        if os.stat(path).st_mtime < time.time() - USED_SECONDS:
            os.utime(path)
