"""The kernel store: what was built, under the hash of what it was built from.

A key is a hash of everything that the machine code depends on (`content_key`), so that an entry
can never be stale: another generator, source, processor or compiler makes another key. The store
knows nothing of compilers; whoever asks for a missing key brings the function that builds it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from hashlib import sha256
else:  # hashlib loads OpenSSL, which takes 3 ms; CPython has its own
    try:
        from _sha2 import sha256
    except ImportError:
        try:
            from _sha256 import sha256  # up to Python 3.11
        except ImportError:
            from hashlib import sha256

__all__ = ["KernelStore", "content_key", "sha256"]

T = TypeVar("T")


def content_key(*parts: object) -> str:
    """Return the hexadecimal SHA-256 of `parts`, in which their boundaries count.

    Examples
    --------
    >>> content_key("ab", "c") == content_key("a", "bc")
    False
    """
    digest = sha256()
    for part in parts:
        encoded = str(part).encode()
        digest.update(b"%d:" % len(encoded))
        digest.update(encoded)
    return digest.hexdigest()


class KernelStore(Generic[T]):
    """A thread-safe map from content keys to what was built for them.

    Each key is built once: threads that ask for it meanwhile wait for the one that builds, and
    threads that ask for other keys do not. A build that raises leaves no entry: whoever waited
    for it builds in its turn.

    Examples
    --------
    >>> store = KernelStore()
    >>> store.get(content_key("source"), lambda: "machine code")
    'machine code'
    >>> len(store)
    1
    """

    def __init__(self) -> None:
        self._entries: dict[str, T] = {}
        self._building: dict[str, Any] = {}

    def get(self, key: str, build: Callable[[], T]) -> T:
        """Return the entry of `key`, made by `build` if there is none."""
        # An entry, once there, never changes: finding it needs no lock.
        if key not in self._entries:
            # a signal handler or a finaliser may ask for what this very thread is building
            with self._building.setdefault(key, threading.RLock()):
                if key not in self._entries:
                    self._entries.setdefault(key, build())
        return self._entries[key]

    def forget_builds(self) -> None:
        """Wait for nobody any more: in a forked child, those who were building are gone."""
        self._building.clear()

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)
