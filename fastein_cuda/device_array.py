"""An array of our own on a device, for people who have no other library for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device
from .dlpack import CUDA, capsule_of

LEGACY_STREAM = 1


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
    stream : int
        The stream on which it was computed.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "device",
        "dtype",
        "owner",
        "readonly",
        "shape",
        "stream",
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
        stream: int = LEGACY_STREAM,
    ) -> None:
        self.stream = stream
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
            "stream": self.stream or LEGACY_STREAM,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device.ordinal

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a capsule of DLPack, for `from_dlpack` of other libraries.

        Parameters
        ----------
        stream : int, optional
            The stream on which the caller will read: it waits for what computes this array. None
            is the legacy default stream; -1 asks for no wait.
        max_version, dl_device, copy : optional
            As in the array API standard; there are no copies, to other devices neither.

        Raises
        ------
        BufferError
            If the array is read-only, or DLPack cannot describe it.
        """
        if copy or (dl_device is not None and dl_device != self.__dlpack_device__()):
            raise BufferError("DLPack's copies are not made here: fastein_cuda.to_host copies")
        if self.readonly:
            raise BufferError("this array is read-only, which DLPack's first version cannot say")
        reader = LEGACY_STREAM if stream is None else stream
        if reader != -1 and (reader or LEGACY_STREAM) != (self.stream or LEGACY_STREAM):
            self.device.follow(reader, self.stream)
        return capsule_of(
            self.address, self.shape, self.strides, self.dtype, self.device.ordinal, self
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("this array is on a GPU; fastein_cuda.to_host copies it to the host")

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device.name!r})"


class Allocation:
    """Memory of a device that is given back when nobody has it any more, in a stream's order."""

    __slots__ = ("address", "device", "stream")

    def __init__(self, device: Device, nbytes: int, stream: int = LEGACY_STREAM) -> None:
        self.device = device
        self.stream = stream
        self.address = device.allocate(nbytes or 1, stream)

    def __del__(self) -> None:
        try:  # noqa: SIM105  (suppress() takes a microsecond)
            self.device.release(self.address, self.stream)
        except Exception:  # there is no memory yet, or the driver is gone before us
            pass


def dense_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the strides of C order."""
    strides = []
    for size in reversed(shape):
        strides.append(itemsize)
        itemsize *= max(size, 1)
    return tuple(reversed(strides))
