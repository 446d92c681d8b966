"""The libraries whose arrays lie on devices: what is asked of an array, how another one is made.

A kind says where an array lies, on which stream its library works now, and how to make an array of
the kind. No library is imported that the caller has not imported. Arrays of libraries that are
not in `KINDS` are read by ``__cuda_array_interface__`` [1]_, or by DLPack [2]_.

References
----------
.. [1] https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html (version 3)
.. [2] https://dmlc.github.io/dlpack/latest/python_spec.html
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Any

import numpy as np

from fastein._operands import has_cuda_interface
from fastein.plan import Layout

from .device import Device
from .device_array import LEGACY_STREAM, Allocation, DeviceArray, dense_strides
from .devices import device_of_address, numbered_device
from .elements import ELEMENTS


class Operand:
    """Where an array lies.

    Attributes
    ----------
    array : object
        The array itself, which keeps the memory.
    address : int
        Of its first element.
    form : tuple
        Shape, strides in bytes, dtype, and whether the elements are aligned: a `Layout`.
    device : Device
    kind : Kind
        The library it belongs to.
    readonly : bool
        Whether nobody may write to it.
    """

    __slots__ = ("address", "array", "device", "form", "kind", "readonly")

    def __init__(
        self,
        kind: Kind,
        array: Any,
        address: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any],
        device: Device,
        readonly: bool = False,
    ) -> None:
        self.kind = kind
        self.array = array
        self.address = address
        step = _alignment(dtype)
        bits = address
        for stride in strides:
            bits |= stride
        # alignments are powers of two: all bits below them must be clear
        self.form = (shape, strides, dtype, not bits & (step - 1))
        self.device = device
        self.readonly = readonly

    @property
    def layout(self) -> Layout:
        """Shape, strides, dtype and alignment, by name."""
        return Layout(*self.form)

    @property
    def range(self) -> tuple[int, int]:
        """The addresses from the lowest to behind the highest byte; empty where it is."""
        low, high = reach_of(self.layout)
        return self.address + low, self.address + high


def reach_of(layout: Layout) -> tuple[int, int]:
    """Return how far the lowest and the end of the highest byte are from the first element."""
    if 0 in layout.shape:
        return 0, 0
    low = high = 0
    for size, stride in zip(layout.shape, layout.strides, strict=True):
        far = (size - 1) * stride
        low, high = low + min(far, 0), high + max(far, 0)
    return low, high + layout.dtype.itemsize


@functools.cache
def _alignment(dtype: np.dtype[Any]) -> int:
    """Return the bytes at whose multiples elements lie, 1 where there are no kernels for them."""
    element = ELEMENTS.get(dtype.name)
    return 1 if element is None else element.alignment


class Kind:
    """Arrays that show themselves by `__cuda_array_interface__` alone; results are ours."""

    contiguous = False  # whether the library's arrays have no strides
    one_stream = False  # whether all arrays of the library are computed on the current stream

    def operand(self, array: Any) -> Operand:
        """Say where an array lies."""
        interface = array.__cuda_array_interface__
        dtype = np.dtype(interface["typestr"])
        shape = tuple(interface["shape"])
        strides = interface.get("strides")
        address, readonly = interface["data"]
        strides = dense_strides(shape, dtype.itemsize) if strides is None else tuple(strides)
        device = device_of_address(address)
        return Operand(self, array, address, shape, strides, dtype, device, bool(readonly))

    def stream(self, operand: Operand) -> int:
        """Return the handle of the stream on which the caller works."""
        return self.awaited(operand) or LEGACY_STREAM

    def awaited(self, operand: Operand) -> int | None:
        """Return the stream that computes an array, None where there is nothing to wait for."""
        stream = operand.array.__cuda_array_interface__.get("stream")
        return None if stream is None else int(stream)

    def empty(self, layout: Layout, like: Operand, stream: int) -> tuple[Any, int]:
        """Return a new array of this kind, and its address."""
        memory = Allocation(like.device, layout.nbytes, stream)
        address = memory.address
        array = DeviceArray(
            address,
            layout.shape,
            layout.strides,
            layout.dtype,
            like.device,
            memory,
            stream=stream,
        )
        return array, address

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        """Return the same memory with other axes."""
        dtype = operand.form[2]
        return DeviceArray(
            operand.address,
            shape,
            strides,
            dtype,
            operand.device,
            operand.array,
            operand.readonly,
            self.stream(operand),
        )

    def finished(self, result: Any) -> Any:
        """Return what `empty` gave and a kernel has filled as an array of this kind."""
        return result


def _described(kind: Kind, array: Any, view: DeviceArray) -> Operand:
    """Return an operand that lies where one of our arrays does."""
    return Operand(
        kind,
        array,
        view.address,
        view.shape,
        view.strides,
        view.dtype,
        view.device,
        view.readonly,
    )


class OwnKind(Kind):
    """`DeviceArray`."""

    def operand(self, array: DeviceArray) -> Operand:
        return _described(self, array, array)

    def awaited(self, operand: Operand) -> int:
        return int(operand.array.stream)


class CuPyKind(Kind):
    """`cupy.ndarray`."""

    one_stream = True

    def operand(self, array: Any) -> Operand:
        device = numbered_device(array.device.id)
        return Operand(self, array, array.data.ptr, array.shape, array.strides, array.dtype, device)

    def awaited(self, operand: Operand) -> int:
        return int(_library("cupy").cuda.get_current_stream().ptr)

    def empty(self, layout: Layout, like: Operand, stream: int) -> tuple[Any, int]:
        cupy = _library("cupy")
        memory = cupy.cuda.alloc(layout.nbytes or 1)
        return cupy.ndarray(layout.shape, layout.dtype, memory, layout.strides), memory.ptr

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        array = operand.array
        return _library("cupy").ndarray(shape, array.dtype, array.data, strides)


class TorchKind(Kind):
    """`torch.Tensor` on a CUDA device."""

    one_stream = True

    def operand(self, array: Any) -> Operand:
        if array.requires_grad:
            raise TypeError(
                "fastein does not compute gradients: give x.detach() for a tensor that requires "
                "them"
            )
        array = array.resolve_conj().resolve_neg()
        dtype = _numpy_dtype(array.dtype)
        strides = tuple([n * dtype.itemsize for n in array.stride()])
        device = numbered_device(array.device.index)
        shape = tuple(array.shape)
        return Operand(self, array, array.data_ptr(), shape, strides, dtype, device)

    def awaited(self, operand: Operand) -> int:
        return int(_library("torch").cuda.current_stream(operand.array.device).cuda_stream)

    def empty(self, layout: Layout, like: Operand, stream: int) -> tuple[Any, int]:
        torch = _library("torch")
        itemsize = layout.dtype.itemsize
        strides = [n // itemsize for n in layout.strides]
        dtype = getattr(torch, layout.dtype.name)
        array = torch.empty_strided(layout.shape, strides, dtype=dtype, device=like.array.device)
        return array, array.data_ptr()

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        itemsize = operand.form[2].itemsize
        array = operand.array
        return array.as_strided(shape, [n // itemsize for n in strides], array.storage_offset())


class NumbaKind(Kind):
    """`numba.cuda` device arrays."""

    def awaited(self, operand: Operand) -> int:
        stream = operand.array.stream
        return int(stream.handle) if hasattr(stream, "handle") else int(stream)

    def empty(self, layout: Layout, like: Operand, stream: int) -> tuple[Any, int]:
        array = _library("numba").cuda.device_array(
            layout.shape, layout.dtype, strides=layout.strides, stream=like.array.stream
        )
        return array, array.__cuda_array_interface__["data"][0]

    def view(self, operand: Operand, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        array = operand.array
        return type(array)(shape, strides, array.dtype, array.stream, array.gpu_data)


class JaxKind(Kind):
    """`jax.Array` on a CUDA device: immutable and contiguous, on streams that JAX alone knows."""

    contiguous = True
    one_stream = True

    def operand(self, array: Any) -> Operand:
        array.block_until_ready()
        if has_cuda_interface(array):
            operand = super().operand(array)
        else:
            operand = _described(self, array, imported(array))  # bfloat16 has no interface in JAX
        operand.readonly = True
        return operand

    def awaited(self, operand: Operand) -> None:
        return None  # `operand` has waited

    def finished(self, result: Any) -> Any:
        result.device.wait(LEGACY_STREAM)
        # by DLPack, since JAX would not keep the memory of what it reads by the interface
        return _library("jax").dlpack.from_dlpack(result)


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


def imported(array: Any) -> DeviceArray:
    """Return our view of an array that only speaks DLPack."""
    from cuda.core.utils import StridedMemoryView

    seen = StridedMemoryView.from_dlpack(array, stream_ptr=LEGACY_STREAM)
    shape, dtype = tuple(seen.shape), np.dtype(seen.dtype)
    strides = dense_strides(shape, dtype.itemsize)
    if seen.strides is not None:
        strides = tuple([n * dtype.itemsize for n in seen.strides])
    device = numbered_device(seen.device_id)
    return DeviceArray(seen.ptr, shape, strides, dtype, device, seen, seen.readonly)


def _library(name: str) -> Any:
    """Return a package that the caller has imported, or there were no array of it."""
    return sys.modules[name]


@functools.cache
def _numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the NumPy dtype of torch's; the one of bfloat16 is that of ml_dtypes."""
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        with contextlib.suppress(ImportError):
            import ml_dtypes  # noqa: F401  (makes NumPy know it)
    try:
        return np.dtype(name)
    except TypeError:
        raise TypeError(f"there is no NumPy dtype for {dtype}; bfloat16 needs ml_dtypes") from None


def kind_of(array_type: type) -> Kind:
    """Return the kind of a type's arrays."""
    kind = known_kinds.get(array_type)
    if kind is None:
        kind = KINDS.get(array_type.__module__.partition(".")[0], OTHER)
        known_kinds[array_type] = kind
    return kind


#: The kinds of types seen so far.
known_kinds: dict[type, Kind] = {}
