"""A process that compiles kernels into the kernel files."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import signal
from collections.abc import Callable, Iterable
from typing import BinaryIO

#: What its interpreter runs, with the parent's import path. What else is printed goes nowhere.
COMMAND = """\
import sys, pickle, os
replies = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
sys.path[:] = pickle.load(sys.stdin.buffer)
from fastein.cpu import worker
worker.serve(sys.stdin.buffer, replies)
"""

NICE = 1  # calls that keep all cores busy would wait for their kernels ten times as long with 10
MOST_SECONDS = 300


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Build what is asked for, until nobody asks any more.

    Parameters
    ----------
    requests : file
        Pickled tuples of callables.
    replies : file
        Gets a line for each: what went wrong, or nothing.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    _load_compiler()
    while True:
        if hasattr(signal, "alarm"):
            signal.alarm(MOST_SECONDS)
        try:
            kernels = pickle.load(requests)
        except EOFError:
            return
        report = build(kernels).encode("unicode_escape")
        with contextlib.suppress(OSError):
            replies.write(report + b"\n")
            replies.flush()
        _measure()


def build(kernels: Iterable[Callable[[], object]]) -> str:
    """Call all `kernels`; return what goes wrong."""
    try:
        for kernel in kernels:
            kernel()
    except Exception as reason:
        return f"{type(reason).__name__}: {reason}"
    return ""


@functools.cache
def _measure() -> None:
    """Have this machine's rates kept, for processes to come."""
    with contextlib.suppress(Exception):  # the usual ones do as well
        from .rates import kept

        if kept() is None:
            from .calibration import ensure

            ensure()


def _load_compiler() -> None:
    """Import what takes long, before there is anything to compile."""
    with contextlib.suppress(Exception):  # whoever needs it will say so
        import llvmlite.binding  # noqa: F401
        import numba.core.compiler  # noqa: F401

        from . import compiler, primitives, tile_intrinsics  # noqa: F401
        from .frontend import compile_kernels_only

        compile_kernels_only()
