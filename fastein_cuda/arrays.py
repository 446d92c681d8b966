"""Arrays on a device: whoever made them, in and out.

An array is told by its type's package (`KINDS`), or by `__cuda_array_interface__` [1]_ or DLPack
[2]_ where fastein does not know the package. A kind says where an array lies, on which stream its
library works now, and how to make another array of the kind. No library is imported that the
caller has not imported.

References
----------
.. [1] https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html (version 3)
.. [2] https://dmlc.github.io/dlpack/latest/python_spec.html
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from fastein.plan import Layout

from .device import Device
from .devices import default_device, device_of_address, numbered_device
from .elements import ELEMENTS

CUDA_DEVICES = (2, 13)  # kDLCUDA and kDLCUDAManaged of DLPack
LEGACY_STREAM = 1


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


class DeviceArray:
    """An array on a device, for people who have no other library for them.

    It has a shape, a dtype and strides, and gives its memory to whoever reads
    ``__cuda_array_interface__``; `fastein_cuda.to_host` copies it back. It has no arithmetic but
    `fastein.einsum`.

    Attributes
    ----------
    shape, strides : tuple of int
    dtype : numpy.dtype
    address : int
        Of the first element.
    device : Device
    owner : object
        Keeps the memory.
    readonly : bool
        Whether `out` may not be this array.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "device",
        "dtype",
        "owner",
        "readonly",
        "shape",
        "strides",
    )

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any],
        device: Device,
        owner: Any,
        readonly: bool = False,
    ) -> None:
        self.readonly = readonly
        self.address = address
        self.shape = shape
        self.strides = strides
        self.dtype = dtype
        self.device = device
        self.owner = owner

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (self.address, self.readonly),
            "version": 3,
            "stream": LEGACY_STREAM,
        }

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("this array is on a GPU; fastein_cuda.to_host copies it to the host")

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device.name!r})"


class _Allocation:
    """Memory of a device that is given back when nobody has it any more."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.device = device
        self.address = device.allocate(max(nbytes, 1), LEGACY_STREAM)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self.device.release(self.address, LEGACY_STREAM)


# --- kinds --------------------------------------------------------------------------------------


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
        memory = _Allocation(like.device, layout.nbytes)
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
_OTHER = Kind()


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


def dense_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the strides of C order."""
    strides = []
    for size in reversed(shape):
        strides.append(itemsize)
        itemsize *= max(size, 1)
    return tuple(reversed(strides))


# --- finding them -------------------------------------------------------------------------------


def is_on_device(array: Any) -> bool:
    """Whether an object is an array on a CUDA device.

    Examples
    --------
    >>> import numpy as np
    >>> is_on_device(np.ones(3))
    False
    """
    if hasattr(array, "__cuda_array_interface__"):
        return True
    where = getattr(array, "__dlpack_device__", None)
    return where is not None and not isinstance(array, type) and where()[0] in CUDA_DEVICES


def operand_of(array: Any) -> Operand:
    """Say where an array lies.

    Raises
    ------
    TypeError
        If it is not on a CUDA device.
    """
    kind = KINDS.get(type(array).__module__.partition(".")[0], _OTHER)
    if kind is not _OTHER or hasattr(array, "__cuda_array_interface__"):
        return kind.operand(array)
    return _OTHER.operand(_imported(array))


def _imported(array: Any) -> DeviceArray:
    """Return our view of an array that only speaks DLPack."""
    from cuda.core.utils import StridedMemoryView

    seen = StridedMemoryView.from_dlpack(array, stream_ptr=LEGACY_STREAM)
    dtype = np.dtype(seen.dtype)
    strides = seen.strides
    return DeviceArray(
        seen.ptr,
        tuple(seen.shape),
        dense_strides(seen.shape, dtype.itemsize)
        if strides is None
        else tuple([n * dtype.itemsize for n in strides]),
        dtype,
        numbered_device(seen.device_id),
        seen,
    )


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
    if is_on_device(array):
        return array
    host = np.array(array, order="K", copy=True, subok=False)
    if host.dtype.hasobject:
        raise TypeError("Python objects cannot lie on a GPU: there are no kernels for them")
    chosen = default_device() if device is None else device
    memory = _Allocation(chosen, host.nbytes)
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
