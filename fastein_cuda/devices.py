"""Which devices there are, and which one is meant where nobody says."""

from __future__ import annotations

from contextvars import ContextVar

from .device import Device


class CudaUnavailableError(RuntimeError):
    """There is no CUDA device, no driver, or no numba-cuda to compile kernels with."""


#: Stands in for the current device: the simulator in tests.
stand_in: ContextVar[Device | None] = ContextVar("stand_in", default=None)


def default_device() -> Device:
    """Return the current device.

    Raises
    ------
    CudaUnavailableError
        If there is none.
    """
    chosen = stand_in.get()
    return current_device() if chosen is None else chosen


def current_device() -> Device:
    """Return the device of the current context, or the first one."""
    from .driver import current_ordinal

    return numbered_device(current_ordinal())


def numbered_device(ordinal: int) -> Device:
    """Return a device by its number."""
    from .driver import cuda_device

    return cuda_device(ordinal)


def device_of_address(address: int) -> Device:
    """Return the device whose memory an address lies in."""
    from .driver import ordinal_of

    return numbered_device(ordinal_of(address))
