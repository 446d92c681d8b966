"""The libraries whose arrays lie on devices: what is asked of an array, how another one is made.

A kind says where an array lies, on which stream its library works now, and how to make an array of
the kind. No library is imported that the caller has not imported. Arrays of libraries that are
not in `KINDS` are read by ``__cuda_array_interface__`` [1]_.

References
----------
.. [1] https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html (version 3)
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from fastein.plan import Layout

from .device import Device
from .device_array import LEGACY_STREAM, Allocation, DeviceArray, dense_strides
from .devices import device_of_address, numbered_device
from .elements import ELEMENTS


class Operand(NamedTuple):
    """Where an array lies.

    Attributes
    ----------
    array : object
        The array itself, which keeps the memory.
    address : int
        Of its first element.
    layout : Layout
    device : Device
    kind : Kind
        The library it belongs to.
    readonly : bool
        Whether nobody may write to it.
    """

    array: Any
    address: int
    layout: Layout
    device: Device
    kind: Kind
    readonly: bool = False

    @property
    def range(self) -> tuple[int, int]:
        """The addresses from the lowest to behind the highest byte; empty where it is."""
        low = high = self.address
        shape, strides, dtype, _ = self.layout
        if 0 in shape:
            return low, low
        for size, stride in zip(shape, strides, strict=True):
            reach = (size - 1) * stride
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high + dtype.itemsize


class Kind:
    """Arrays that show themselves by `__cuda_array_interface__` alone; results are ours."""

    contiguous = False  # whether the library's arrays have no strides

    def operand(self, array: Any) -> Operand:
        """Say where an array lies."""
        interface = array.__cuda_array_interface__
        dtype = np.dtype(interface["typestr"])
        shape = tuple(interface["shape"])
        strides = interface.get("strides")
        address = interface["data"][0]
        strides = dense_strides(shape, dtype.itemsize) if strides is None else tuple(strides)
        device = device_of_address(address)
        operand = self._operand(array, address, shape, strides, dtype, device)
        return operand._replace(readonly=bool(interface["data"][1]))

    def _operand(
        self,
        array: Any,
        address: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any],
        device: Device,
    ) -> Operand:
        element = ELEMENTS.get(dtype.name)
        step = 1 if element is None else element.alignment
        aligned = address % step == 0 and not any(stride % step for stride in strides)
        return Operand(array, address, Layout(shape, strides, dtype, aligned), device, self)

    def stream(self, operand: Operand) -> int:
        """Return the handle of the stream on which the caller works."""
        stream = operand.array.__cuda_array_interface__.get("stream")
        return LEGACY_STREAM if stream is None else int(stream)

    def empty(self, layout: Layout, like: Operand) -> Any:
        """Return a new array of this kind."""
        memory = Allocation(like.device, layout.nbytes)
        return DeviceArray(
            memory.address, layout.shape, layout.strides, layout.dtype, like.device, memory
        )

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        """Return the same memory with other axes."""
        return DeviceArray(
            operand.address, shape, strides, operand.layout.dtype, operand.device, operand.array
        )

    def finished(self, result: Any) -> Any:
        """Return what `empty` gave and a kernel has filled as an array of this kind."""
        return result


class OwnKind(Kind):
    """`DeviceArray`."""

    def operand(self, array: DeviceArray) -> Operand:
        operand = self._operand(
            array, array.address, array.shape, array.strides, array.dtype, array.device
        )
        return operand._replace(readonly=array.readonly)

    def stream(self, operand: Operand) -> int:
        return LEGACY_STREAM


class CuPyKind(Kind):
    """`cupy.ndarray`."""

    def operand(self, array: Any) -> Operand:
        device = numbered_device(array.device.id)
        return self._operand(array, array.data.ptr, array.shape, array.strides, array.dtype, device)

    def stream(self, operand: Operand) -> int:
        return int(_library("cupy").cuda.get_current_stream().ptr)

    def empty(self, layout: Layout, like: Operand) -> Any:
        cupy = _library("cupy")
        memory = cupy.cuda.alloc(max(layout.nbytes, 1))
        return cupy.ndarray(layout.shape, layout.dtype, memory, layout.strides)

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        array = operand.array
        return _library("cupy").ndarray(shape, array.dtype, array.data, strides)


class TorchKind(Kind):
    """`torch.Tensor` on a CUDA device."""

    def operand(self, array: Any) -> Operand:
        if array.requires_grad:
            raise TypeError(
                "fastein does not compute gradients: give x.detach() for a tensor that requires "
                "them"
            )
        array = array.resolve_conj().resolve_neg()
        dtype = _numpy_dtype(str(array.dtype).removeprefix("torch."))
        strides = tuple([n * dtype.itemsize for n in array.stride()])
        device = numbered_device(array.device.index)
        return self._operand(array, array.data_ptr(), tuple(array.shape), strides, dtype, device)

    def stream(self, operand: Operand) -> int:
        return int(_library("torch").cuda.current_stream(operand.array.device).cuda_stream)

    def empty(self, layout: Layout, like: Operand) -> Any:
        torch = _library("torch")
        itemsize = layout.dtype.itemsize
        strides = [n // itemsize for n in layout.strides]
        dtype = getattr(torch, layout.dtype.name)
        return torch.empty_strided(layout.shape, strides, dtype=dtype, device=like.array.device)

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        itemsize = operand.layout.dtype.itemsize
        array = operand.array
        return array.as_strided(shape, [n // itemsize for n in strides], array.storage_offset())


class NumbaKind(Kind):
    """`numba.cuda` device arrays."""

    def stream(self, operand: Operand) -> int:
        stream = operand.array.stream
        return int(stream.handle) if hasattr(stream, "handle") else int(stream)

    def empty(self, layout: Layout, like: Operand) -> Any:
        return _library("numba").cuda.device_array(
            layout.shape, layout.dtype, strides=layout.strides
        )

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        array = operand.array
        return type(array)(shape, strides, array.dtype, array.stream, array.gpu_data)


class JaxKind(Kind):
    """`jax.Array` on a CUDA device: immutable and contiguous, on streams that JAX alone knows."""

    contiguous = True

    def operand(self, array: Any) -> Operand:
        array.block_until_ready()
        return super().operand(array)

    def stream(self, operand: Operand) -> int:
        return LEGACY_STREAM

    def finished(self, result: Any) -> Any:
        result.device.wait(LEGACY_STREAM)
        return _library("jax").numpy.asarray(result)


KINDS: dict[str, Kind] = {
    "cupy": CuPyKind(),
    "torch": TorchKind(),
    "numba": NumbaKind(),
    "numba_cuda": NumbaKind(),
    "jax": JaxKind(),
    "jaxlib": JaxKind(),
    "fastein_cuda": OwnKind(),
}
OTHER = Kind()


def _library(name: str) -> Any:
    """Return a package that the caller has imported, or there were no array of it."""
    return sys.modules[name]


def _numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a name; bfloat16 is known once ml_dtypes is imported."""
    try:
        return np.dtype(name)
    except TypeError:
        raise TypeError(
            f"NumPy knows no dtype {name!r}; where it is one of ml_dtypes, import that first"
        ) from None
