"""Arrays on a device, in and out: told by their library, by an interface, or by DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastein._operands import has_cuda_interface, lies_on_device

from .device import Device
from .device_array import LEGACY_STREAM, Allocation, DeviceArray
from .devices import default_device
from .kinds import OTHER, Operand, imported, kind_of, known_kinds


def operand_of(array: Any) -> Operand:
    """Say where an array lies.

    Raises
    ------
    TypeError
        If it is not on a CUDA device.
    """
    kind = known_kinds.get(type(array)) or kind_of(type(array))
    if kind is not OTHER or has_cuda_interface(array):
        return kind.operand(array)
    view = imported(array)
    return kind_of(type(view)).operand(view)


# --- copies -------------------------------------------------------------------------------------


def asarray(array: Any, device: Device | None = None) -> Any:
    """Copy an array to the device.

    Parameters
    ----------
    array : array_like
        Anything that NumPy makes an array of. An array on a device is returned as it is.
    device : Device, optional
        By default the current one.

    Returns
    -------
    DeviceArray
        With the axes in the same order in memory.

    Raises
    ------
    CudaUnavailableError
        If there is no device.
    TypeError
        If the elements are Python objects.
    """
    if lies_on_device(array):
        return array
    host = np.array(array, order="K", copy=True, subok=False)
    if host.dtype.hasobject:
        raise TypeError("Python objects cannot lie on a GPU: there are no kernels for them")
    chosen = default_device() if device is None else device
    memory = Allocation(chosen, host.nbytes)
    if host.nbytes:
        flat = _in_memory_order(host).reshape(-1).view(np.uint8)
        chosen.to_device(memory.address, flat, LEGACY_STREAM)
    return DeviceArray(memory.address, host.shape, host.strides, host.dtype, chosen, memory)


def to_host(array: Any) -> np.ndarray:
    """Copy an array of any library from its device, once what computes it is done.

    Returns
    -------
    ndarray
    """
    operand = operand_of(array)
    layout = operand.layout
    low, high = operand.range
    raw = np.empty(high - low, np.uint8)
    if raw.size:
        operand.device.to_host(raw, low, operand.kind.stream(operand))
    view: np.ndarray = np.ndarray(
        layout.shape, layout.dtype, raw, operand.address - low, layout.strides
    )
    return view


def _in_memory_order(array: np.ndarray) -> np.ndarray:
    """Return the view of an array without gaps whose C order is that of its memory."""
    order = sorted(range(array.ndim), key=lambda a: -array.strides[a])
    return array.transpose(order)
