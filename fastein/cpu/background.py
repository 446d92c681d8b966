"""Building kernels while calls go on without them.

Numba compiles in Python, and would take the interpreter's lock from everybody for milliseconds at
a time. So a process of its own, a *worker*, compiles into the kernel files, from which a kernel is
loaded in a fraction of a millisecond. A thread waits for the worker; it is there only while
something is being built. Where no worker can be started, or no files be kept, the thread compiles
by itself.

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

WORKER_SECONDS = 300  # after which a worker is given up

_MOST_REPORT = 4000  # characters


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
    """

    kernels: tuple[Callable[[], object], ...]
    finish: Callable[[], object]
    fail: Callable[[Exception], None]
    forget: Callable[[], None]


class WorkerError(RuntimeError):
    """What went wrong in the worker, in its words."""


_changed = threading.Condition()
_orders: list[Order] = []  # the first is at work
_thread: threading.Thread | None = None


def submit(order: Order) -> None:
    """Have something built; return at once."""
    global _thread
    with _changed:
        _orders.append(order)
        if _thread is not None:
            return
        _thread = threading.Thread(target=_serve, name="fastein builder", daemon=True)
        try:
            _thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            _thread = None
            _orders.clear()


def wait(seconds: float | None = None) -> bool:
    """Wait until nothing is being built, at most so long; whether that is so."""
    with _changed:
        return _changed.wait_for(lambda: not _orders, seconds)


def _serve() -> None:
    global _thread
    while True:
        with _changed:
            if not _orders:
                _thread = None
                return
            order = _orders[0]
        try:
            _build(order)
        except Exception as reason:
            order.fail(reason)
        with _changed:
            _orders.pop(0)
            _changed.notify_all()


def _build(order: Order) -> None:
    worker = None
    with no_fork:
        if _has_files() and _is_python(sys.executable):
            worker = _start(order)
    report = worker and _ended(worker)
    if report:
        raise WorkerError(report)
    with no_fork:
        order.finish()


def _has_files() -> bool:
    from .compiler import files

    own = files()
    return own is not None and own.is_writable()


def _is_python(executable: str | None) -> bool:
    """Whether this is an interpreter, and not a program that has one inside."""
    name = os.path.basename(executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def _start(order: Order) -> Any:
    """Start a worker; None if there can be none."""
    import pickle
    import subprocess

    from . import worker

    try:
        request = pickle.dumps(sys.path) + pickle.dumps((worker.build, order.kernels))
    except Exception:  # pickle raises what it likes
        return None
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", worker.COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            process_group=0,  # out of reach of the terminal's Ctrl-C
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    try:
        assert process.stdin is not None
        process.stdin.write(request)
        process.stdin.close()
    except OSError:  # it has died already, as its exit status will say
        pass
    process.stdin = None
    return process


def _environment() -> dict[str, str]:
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **one, "FASTEIN_CACHE_DIR": settings.cache_dir or "none"}


def _ended(process: Any) -> str:
    """Wait for a worker; return what it says has gone wrong."""
    import subprocess

    try:
        said, _ = process.communicate(timeout=WORKER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""
    return str(said[-_MOST_REPORT:].decode(errors="replace")).strip()


def _forget_orders() -> None:
    """A forked child has the orders, but not the thread that serves them."""
    global _changed, _thread
    abandoned = _orders[:]
    _changed = threading.Condition()
    _orders.clear()
    _thread = None
    for order in abandoned:
        order.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_orders)

# What compiles when the interpreter ends is waited for, and nothing begins to: LLVM must not run
# while its libraries are torn down. A worker is not waited for.
atexit.register(no_fork.acquire)
