"""A process that compiles kernels into the kernel files, and ends."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable

#: What its interpreter runs: with the parent's import path, what the parent has sent.
COMMAND = """\
import sys, pickle
sys.path[:] = pickle.load(sys.stdin.buffer)
build, kernels = pickle.load(sys.stdin.buffer)
build(kernels)
"""

NICE = 1  # calls that keep all cores busy would wait for their kernels ten times as long with 10
MOST_SECONDS = 300


def build(kernels: Iterable[Callable[[], object]]) -> None:
    """Call all `kernels`; print what goes wrong, for the parent."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    if hasattr(signal, "alarm"):
        signal.alarm(MOST_SECONDS)
    try:
        for kernel in kernels:
            kernel()
    except Exception as reason:
        with contextlib.suppress(OSError):
            print(f"{type(reason).__name__}: {reason}", flush=True)
