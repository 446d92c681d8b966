"""Arrays of ours for whoever reads DLPack [1]_: NumPy-like libraries that know no other protocol.

References
----------
.. [1] https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CUDA = 2  # kDLCUDA
NAME = b"dltensor"
CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
BFLOAT = 4


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


#: What consumers have of us, by the address of its description, until they give it back.
_lent: dict[int, tuple[Any, ...]] = {}


def _give_back(address: int) -> None:
    _lent.pop(address, None)


_deleter = _Deleter(_give_back)


_new = ctypes.pythonapi.PyCapsule_New
_new.restype = ctypes.py_object
_new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)


def _unread(capsule: int) -> None:
    """Give back what nobody has read; who reads a capsule renames it."""
    if _is_valid(capsule, NAME):
        _give_back(_pointer(capsule, NAME))


_destructor = _Destructor(_unread)


def capsule_of(
    address: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: np.dtype[Any],
    ordinal: int,
    owner: Any,
) -> Any:
    """Return a capsule that describes memory on a device, and keeps its owner.

    Raises
    ------
    BufferError
        If DLPack cannot describe it.
    """
    if any(stride % dtype.itemsize for stride in strides):
        raise BufferError(f"DLPack has no strides that are no multiples of {dtype.itemsize} bytes")
    code = BFLOAT if dtype.name == "bfloat16" else CODES.get(dtype.kind)
    if code is None:
        raise BufferError(f"DLPack has no {dtype}")
    rank = len(shape)
    sizes = (ctypes.c_int64 * rank)(*shape)
    steps = (ctypes.c_int64 * rank)(*[stride // dtype.itemsize for stride in strides])
    kind = _DataType(code, 8 * dtype.itemsize, 1)
    tensor = _Tensor(address, CUDA, ordinal, rank, kind, sizes, steps, 0)
    managed = _Managed(tensor, None, _deleter)
    _lent[ctypes.addressof(managed)] = managed, sizes, steps, owner
    return _new(ctypes.addressof(managed), NAME, _destructor)
