"""Kernel files: whatever is wrong with them, they are as good as not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastein import kernel_files
from fastein.kernel_files import KernelFiles

KEY, OTHER = "a" * 64, "b" * 64
CONTENT = bytes(range(256)) * 9


@pytest.fixture
def files(tmp_path):
    return KernelFiles(str(tmp_path / "cache" / "kernels"))


def path_of(files, key=KEY):
    return os.path.join(files.folder, f"{key}.kernel")


def test_what_was_written_is_read(files):
    assert files.read(KEY) is None
    assert files.write(KEY, CONTENT)
    assert files.read(KEY) == CONTENT
    assert files.read(OTHER) is None
    assert files.write(KEY, b"")
    assert files.read(KEY) == b""


def test_directory_and_files_are_their_owners_alone(files):
    before = os.umask(0)
    try:
        files.write(KEY, CONTENT)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(files.folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path_of(files)).st_mode) == 0o600


@pytest.mark.parametrize("end", [0, 1, 10, 17, 40, 49, 60, -1])
def test_truncated_files_are_not_read(files, end):
    files.write(KEY, CONTENT)
    with open(path_of(files), "rb+") as file:
        file.truncate(end if end >= 0 else os.path.getsize(path_of(files)) + end)
    assert files.read(KEY) is None
    assert files.write(KEY, CONTENT)
    assert files.read(KEY) == CONTENT


def test_no_bit_can_be_flipped(files):
    files.write(KEY, CONTENT)
    with open(path_of(files), "rb") as file:
        whole = file.read()
    for place in [*range(64), 99, len(whole) - 1]:
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        with open(path_of(files), "wb") as file:
            file.write(data)
        assert files.read(KEY) is None


def test_a_file_under_another_name_is_not_read(files):
    files.write(KEY, CONTENT)
    os.rename(path_of(files), path_of(files, OTHER))
    assert files.read(OTHER) is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_files_that_others_may_write_to_are_not_read(files, mode):
    files.write(KEY, CONTENT)
    os.chmod(path_of(files), mode)
    assert files.read(KEY) is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_not_used(files, mode):
    files.write(KEY, CONTENT)
    os.chmod(files.folder, mode)
    assert files.read(KEY) is None
    assert not files.is_writable()
    assert not files.write(OTHER, CONTENT)
    os.chmod(files.folder, 0o700)
    assert list(files.sizes()) == [KEY]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users are POSIX")
def test_what_belongs_to_others_is_not_used(files, monkeypatch):
    files.write(KEY, CONTENT)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(files.folder).st_uid + 1)
    assert files.read(KEY) is None
    assert not files.write(OTHER, CONTENT)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no symbolic links")
def test_no_link_pipe_or_directory_is_read(files, tmp_path):
    files.write(OTHER, CONTENT)
    os.symlink(path_of(files, OTHER), path_of(files))
    assert files.read(KEY) is None
    os.unlink(path_of(files))
    os.mkfifo(path_of(files), 0o600)
    assert files.read(KEY) is None  # and does not wait for a writer
    os.unlink(path_of(files))
    os.mkdir(path_of(files))
    assert files.read(KEY) is None
    assert not files.write(KEY, CONTENT)
    assert list(files.sizes()) == [KEY, OTHER] or list(files.sizes()) == [OTHER, KEY]


def test_a_file_of_any_size_may_lie_there(files):
    files.write(KEY, CONTENT)
    with open(path_of(files), "rb+") as file:
        file.truncate(1 << 40)
    assert files.read(KEY) is None


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    files = KernelFiles(str(tmp_path / "file" / "kernels"))
    assert files.read(KEY) is None
    assert not files.is_writable()
    assert not files.write(KEY, CONTENT)
    assert files.sizes() == {}
    files.clear()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full's file system")
def test_a_read_only_file_system():
    files = KernelFiles("/proc/self/kernels")
    assert not files.write(KEY, CONTENT)
    assert files.read(KEY) is None


def test_a_full_disk_leaves_nothing_behind(files, monkeypatch):
    assert files.is_writable()
    real = os.fdopen

    def full(descriptor, mode):
        file = real(descriptor, mode)
        if mode == "wb":
            file.close()
            raise OSError(28, "No space left on device")
        return file

    monkeypatch.setattr(os, "fdopen", full)
    assert not files.write(KEY, CONTENT)
    assert os.listdir(files.folder) == []


def test_the_least_recently_used_make_room(tmp_path):
    files = KernelFiles(str(tmp_path / "kernels"), most_bytes=4 * (len(CONTENT) + 100))
    keys = [f"{k:064x}" for k in range(4)]
    for age, key in enumerate(keys):
        files.write(key, CONTENT)
        past = time.time() - 10 * kernel_files.USED_SECONDS + age
        os.utime(path_of(files, key), (past, past))
    assert files.read(keys[0]) == CONTENT  # a use
    assert files.write(KEY, CONTENT)
    assert files.write(OTHER, CONTENT)
    assert sorted(files.sizes()) == sorted([keys[0], keys[3], KEY, OTHER])


def test_what_killed_writers_leave_is_removed(files):
    files.write(KEY, CONTENT)
    left, fresh = [os.path.join(files.folder, f".{name}.123.45") for name in ("old", "new")]
    for path in (left, fresh):
        with open(path, "wb") as file:
            file.write(b"half of a ker")
    os.utime(left, (0, time.time() - 2 * kernel_files.STALE_SECONDS))
    assert list(files.sizes()) == [KEY]
    files.write(OTHER, CONTENT)
    assert not os.path.exists(left)
    assert os.path.exists(fresh)
    files.clear()
    assert os.listdir(files.folder) == []


def test_a_directory_that_is_emptied_meanwhile(files):
    def write(k):
        return files.write(f"{k:064x}", CONTENT)

    def clear(_):
        files.clear()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            done = [pool.submit(write, k) for k in range(8)]
            done += [pool.submit(clear, k) for k in range(2)]
            assert all(x.exception() is None for x in done)
    files.write(KEY, CONTENT)
    assert files.read(KEY) == CONTENT


def test_readers_and_writers_of_many_processes(files):
    """Whoever reads gets all of what somebody wrote."""
    code = f"""
import sys
from fastein.kernel_files import KernelFiles
files, own = KernelFiles({files.folder!r}), int(sys.argv[1])
for turn in range(300):
    files.write({KEY!r}, bytes([own]) * 50000)
    found = files.read({KEY!r})
    assert found is not None and len(found) == 50000 and len(set(found)) == 1
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(k)]) for k in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
