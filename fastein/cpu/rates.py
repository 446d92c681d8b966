"""The rates of this machine, kept beside the kernels for later processes.

What a file says is used as it is in estimates, by which a plan chooses between ways to the same
answer. It is checked like a kernel is, and for sense: with anything else the usual rates do.
"""

from __future__ import annotations

import functools
import os
import struct

import numpy as np

from ..config import settings
from ..kernel_files import KernelFiles
from ..store import content_key
from .machine import MACHINE, Machine, processor

VERSION = 1  # of what is measured, and how
MEASURED = (
    "cycle",
    "paired",
    "matmul_call",
    "matmul_each",
    "matmul_flops",
    "copy_bytes",
    "stream_bytes",
)
MOST_FACTOR = 50.0  # by which a rate may differ from the usual one

_LAYOUT = struct.Struct(f"<{len(MEASURED)}d")


@functools.cache
def rates() -> Machine:
    """Return the rates that this process estimates with: those that are kept, or the usual ones."""
    return kept() or MACHINE


def kept() -> Machine | None:
    """Return the rates that were kept; None if there are none, or none that make sense."""
    own = files()
    data = own.read(_key()) if own is not None else None
    if data is None or len(data) != _LAYOUT.size:
        return None
    found = dict(zip(MEASURED, _LAYOUT.unpack(data), strict=True))
    return MACHINE.replace(**found) if _make_sense(found) else None


def keep(machine: Machine) -> bool:
    """Keep rates for other processes; whether that was possible."""
    own = files()
    if own is None:
        return False
    return own.write(_key(), _LAYOUT.pack(*[getattr(machine, name) for name in MEASURED]))


def described(machine: Machine) -> str:
    """Return the rates as people read them.

    Examples
    --------
    >>> described(MACHINE)
    "3.3 GHz; NumPy's matmul 50 Gflop/s, 4.0 us a call; 25 GB/s on one core"
    """
    return (
        f"{1e-9 / machine.cycle:.1f} GHz; NumPy's matmul {machine.matmul_flops * 1e-9:.0f} "
        f"Gflop/s, {machine.matmul_call * 1e6:.1f} us a call; "
        f"{machine.stream_bytes * 1e-9:.0f} GB/s on one core"
    )


def files() -> KernelFiles | None:
    """Return where rates are kept, None if they are not to be."""
    if settings.cache_dir is None:
        return None
    return KernelFiles(os.path.join(settings.cache_dir, "rates"))


def _make_sense(found: dict[str, float]) -> bool:
    # a comparison with NaN is false
    return all(
        1 / MOST_FACTOR <= value / getattr(MACHINE, name) <= MOST_FACTOR
        for name, value in found.items()
    )


def _key() -> str:
    """Return what tells these rates from others: processor and NumPy."""
    return content_key("rates", VERSION, np.__version__, processor())
