"""Building kernels while calls go on without them.

Numba compiles in Python, and would take the interpreter's lock from everybody for milliseconds at
a time. So a process of its own, a *worker*, compiles into the kernel files, from which a kernel is
loaded in a fraction of a millisecond. A thread waits for the worker. Both are there only while
something is being built, and for some seconds after that: starting a worker takes longer than
compiling most kernels. Where no worker can be started, or no files be kept, the thread compiles by
itself.

The worker has a lower priority and ends by itself, also if this process is gone: what it has
compiled is there for the next one.

A forked child has neither thread nor worker: what was being built for its parent is, for it, not
begun. Nothing is imported or compiled by the thread while the process forks
(:mod:`fastein.forks`).
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from ..config import settings
from ..forks import no_fork

WORKER_SECONDS = 300  # after which a worker that says nothing is given up
IDLE_SECONDS = 20  # that a worker waits for further orders

_MOST_REPORT = 4000  # characters


def _nothing() -> float:
    return 0.0


class Order(NamedTuple):
    """Something to be built.

    Attributes
    ----------
    kernels : tuple of callable
        What is to be called so that all kernels exist; can be pickled.
    finish : callable
        Takes the kernels into use, building what is missing.
    fail : callable
        Told the exception if `finish` is not possible.
    forget : callable
        Called in a forked child if `finish` will not be.
    worth : callable
        Tells how much the calls have lost by now for want of these kernels; the order that is worth
        most comes first.
    """

    kernels: tuple[Callable[[], object], ...]
    finish: Callable[[], object]
    fail: Callable[[Exception], None]
    forget: Callable[[], None]
    worth: Callable[[], float] = _nothing


class WorkerError(RuntimeError):
    """What went wrong in the worker, in its words."""


class Worker:
    """A process that compiles, and the pipes to it.

    Parameters
    ----------
    folder : str
        The cache directory, of which it fills the kernel files.

    Raises
    ------
    OSError
        If it cannot be started.
    """

    __slots__ = ("folder", "process")

    def __init__(self, folder: str) -> None:
        import pickle
        import subprocess

        from . import worker

        self.folder = folder
        self.process: Any = subprocess.Popen(
            [sys.executable, "-P", "-c", worker.COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # a forked child closes the pipes, whatever their buffers were at
            env=_environment(folder),
            process_group=0,  # out of reach of the terminal's Ctrl-C
        )
        self._send(pickle.dumps(sys.path))

    def build(self, request: bytes) -> str | None:
        """Have it build the pickled kernels; return what went wrong, None if it is gone."""
        self._send(request)
        limit = threading.Timer(WORKER_SECONDS, self.process.kill)
        limit.daemon = True
        try:
            limit.start()
        except RuntimeError:  # the interpreter is ending
            return None
        try:
            said: bytes = self.process.stdout.readline()
        finally:
            limit.cancel()
        if not said.endswith(b"\n"):
            return None
        return said[-_MOST_REPORT:].decode("unicode_escape").strip()

    def retire(self) -> None:
        """Have it end; it has nothing to do."""
        import subprocess

        self.let_go()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def let_go(self) -> None:
        """Close the pipes, and leave it to itself."""
        self.process.stdin.close()
        self.process.stdout.close()

    def disown(self) -> None:
        """Let go of a worker that nobody will wait for."""
        self.let_go()
        self.process.returncode = 0  # or its end would be waited for, or missed, later

    def _send(self, request: bytes) -> None:
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
        except OSError:  # it has died, as its silence will say
            pass


_changed = threading.Condition()
_orders: list[Order] = []  # the one at work included
_thread: threading.Thread | None = None
_worker: Worker | None = None


def submit(order: Order) -> None:
    """Have something built; return at once."""
    with _changed:
        _orders.append(order)
        _changed.notify_all()
        if not _start_thread():
            _orders.clear()


def prepare() -> None:
    """Have a worker ready: something will be ordered soon."""
    with _changed:
        _start_thread()


def wait(seconds: float | None = None) -> bool:
    """Wait until nothing is being built, at most so long; whether that is so."""
    with _changed:
        return _changed.wait_for(lambda: not _orders, seconds)


def _start_thread() -> bool:
    """Have the thread; whether it is there."""
    global _thread
    if _thread is None:
        _thread = threading.Thread(target=_serve, name="fastein builder", daemon=True)
        try:
            _thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            _thread = None
    return _thread is not None


def _serve() -> None:
    """The thread's life: orders, the one that is worth most first."""
    global _thread, _worker
    while True:
        with no_fork:
            _worker = _right_worker(_worker)
        with _changed:
            _changed.wait_for(lambda: _orders, IDLE_SECONDS if _worker is not None else 0)
            if not _orders:
                idle, _worker, _thread = _worker, None, None
                break
            order = max(_orders, key=lambda order: order.worth())
        try:
            _build(order)
        except Exception as reason:
            order.fail(reason)
        with _changed:
            _orders.remove(order)
            _changed.notify_all()
    if idle is not None:
        idle.retire()


def _build(order: Order) -> None:
    global _worker
    request = _pickled(order.kernels)
    if _worker is not None and request is not None:
        report = _worker.build(request)
        if report is None:
            _worker.process.kill()
            _worker.retire()
            _worker = None
        elif report:
            raise WorkerError(report)
    with no_fork:
        order.finish()


def _pickled(kernels: tuple[Callable[[], object], ...]) -> bytes | None:
    """Return a request for kernels, None where there can be none."""
    import pickle

    try:
        return pickle.dumps(kernels)
    except Exception:  # pickle raises what it likes
        return None


def _right_worker(present: Worker | None) -> Worker | None:
    """Return a worker for the directory that is to be filled now; None if there can be none."""
    folder = settings.cache_dir
    if present is not None and present.folder == folder:
        return present
    if present is not None:
        present.retire()
    if folder is None or not _is_python(sys.executable) or not _has_files():
        return None
    try:
        return Worker(folder)
    except (OSError, ValueError):
        return None


def _has_files() -> bool:
    from .compiler import files

    own = files()
    return own is not None and own.is_writable()


def _is_python(executable: str | None) -> bool:
    """Whether this is an interpreter, and not a program that has one inside."""
    name = os.path.basename(executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def _environment(folder: str) -> dict[str, str]:
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **one, "FASTEIN_CACHE_DIR": folder}


def _forget_orders() -> None:
    """A forked child has the orders, but not the thread that serves them, nor its worker."""
    global _changed, _thread, _worker
    abandoned = _orders[:]
    _changed = threading.Condition()
    _orders.clear()
    _thread = None
    worker, _worker = _worker, None
    if worker is not None:
        worker.disown()
    for order in abandoned:
        order.forget()


def _end() -> None:
    """At the interpreter's end: wait for what compiles, and have nothing begin to.

    LLVM must not run while its libraries are torn down. A worker is not waited for.
    """
    no_fork.acquire()
    if _worker is not None:
        _worker.process.returncode = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_orders)

atexit.register(_end)
