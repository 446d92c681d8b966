"""einsum on a simulated GPU, called as NumPy's is: what the corpus and the fuzz compare."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from test_corpus import as_call

import fastein
import fastein_cuda
from fastein.testing.compare import compare
from fastein.testing.corpus import CORPUS, operands
from fastein.testing.fuzz import case
from fastein_cuda.device_array import DeviceArray
from fastein_cuda.elements import ELEMENTS
from fastein_cuda.simulator import simulated

try:
    import ml_dtypes  # noqa: F401  (makes NumPy know bfloat16)

    HALVES = ("float16", "bfloat16")
except ImportError:  # a machine with a GPU may be without
    HALVES = ("float16",)

#: Marks of what needs a real device, and where tests run that need any device.
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not fastein_cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = ["simulator", pytest.param("gpu", marks=GPU)]


def on_device(name):
    """Have the simulated device, or the real one, be current; of the latter there is no object."""
    return simulated() if name == "simulator" else nullcontext()


class Mirror:
    """Host arrays on the device, each owner of memory once, so that views stay views."""

    def __init__(self):
        self.owners = {}  # id -> (host array, its bytes on the device)
        self.copies = []  # (array on the device, host array)

    def to_device(self, array):
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if id(owner) not in self.owners:
            self.owners[id(owner)] = owner, fastein_cuda.asarray(_bytes_of(owner))
        memory = self.owners[id(owner)][1]
        offset = array.ctypes.data - owner.ctypes.data
        copy = DeviceArray(
            memory.address + offset,
            array.shape,
            array.strides,
            array.dtype,
            memory.device,
            memory,
            not array.flags.writeable,
        )
        self.copies.append((copy, array))
        return copy

    def to_host(self, result):
        """Return a result as NumPy would give it: a view, a scalar or an array."""
        for copy, array in self.copies:
            if result is copy:
                return array
            if result.owner is copy:
                view = np.lib.stride_tricks.as_strided(array, result.shape, result.strides)
                return view if view.ndim else view[()]
        host = fastein_cuda.to_host(result)
        return host if host.ndim else host[()]

    def refresh(self):
        """Copy the device's memory back into the host's."""
        for owner, memory in self.owners.values():
            if owner.flags.writeable:
                _bytes_of(owner)[...] = fastein_cuda.to_host(memory)


def _bytes_of(owner):
    """Return all memory of an array that owns it."""
    if not owner.nbytes:
        return np.zeros(1, np.uint8)
    in_memory_order = sorted(range(owner.ndim), key=lambda a: -owner.strides[a])
    return owner.transpose(in_memory_order).reshape(-1).view(np.uint8)


def einsum(*arguments, out=None, **kwargs):
    """`fastein.einsum` with every array on the current device."""
    mirror = Mirror()

    def moved(x):
        return mirror.to_device(np.asarray(x))

    if not arguments:
        given = []
    elif isinstance(arguments[0], (str, bytes)):
        operands = arguments[1:]
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            listed = any(isinstance(x, np.ndarray) for x in operands[0])
            operands = operands[0] if listed else operands
        given = [arguments[0], *map(moved, operands)]
    else:
        pairs = len(arguments) // 2 * 2
        given = [moved(x) if k < pairs and k % 2 == 0 else x for k, x in enumerate(arguments)]
    into = mirror.to_device(out) if isinstance(out, np.ndarray) else out
    result = fastein.einsum(*given, out=into, **kwargs)
    if isinstance(out, np.ndarray):
        mirror.refresh()
    return mirror.to_host(result)


def is_for_devices(call):
    """Whether a call of the fuzz has only arrays that can be on a device."""
    listed = [x for x in call.operands if isinstance(x, (list, tuple))]
    if listed and len(call.operands) == 1:
        return False  # which may be an operand or a list of operands
    try:
        arrays = [np.asarray(x) for x in call.operands]
        dtypes = [x.dtype for x in arrays]
        if "dtype" in call.kwargs:
            dtypes.append(np.dtype(call.kwargs["dtype"]))
    except (TypeError, ValueError):
        return False
    if isinstance(call.kwargs.get("out"), np.ndarray):
        dtypes.append(call.kwargs["out"].dtype)
    return all(dtype.isnative and dtype.name in ELEMENTS for dtype in dtypes)


def corpus_faults(**how):
    """Compare every equation of the corpus on the current device, its operands built as asked."""
    found = [(case, compare(as_call(case, operands(case, **how)), einsum)) for case in CORPUS]
    return [(str(case), fault) for case, fault in found if fault]


def fuzz_faults(first, count):
    """Compare random calls on the current device."""
    faults = []
    for number in range(first, first + count):
        call = case(1, number)
        if is_for_devices(call):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of discarded imaginary parts, from NumPy
                fault = compare(call, einsum)
            if fault:
                faults.append((number, str(call)[:300], fault))
    return faults
