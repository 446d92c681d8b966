"""Arrays given away by DLPack, and streams that wait for each other, on the simulated device."""

import gc

import numpy as np
import pytest

import fastein
import fastein_cuda
from fastein_cuda import dlpack, kinds
from fastein_cuda.dlpack import _Managed, _pointer
from fastein_cuda.simulator import simulated


@pytest.fixture
def device(monkeypatch):
    with simulated() as found:
        monkeypatch.setattr(kinds, "device_of_address", lambda address: found)
        yield found
    gc.collect()
    assert not dlpack._lent


def described(capsule):
    """What a consumer reads: address, shape, strides, code and bits of the dtype."""
    tensor = _Managed.from_address(_pointer(id(capsule), dlpack.NAME)).tensor
    rank = tensor.ndim
    assert (tensor.device_type, tensor.device_id, tensor.byte_offset) == (2, 0, 0)
    assert tensor.dtype.lanes == 1
    kind = tensor.dtype.code, tensor.dtype.bits
    return tensor.data, tuple(tensor.shape[:rank]), tuple(tensor.strides[:rank]), kind


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("float64", (2, 64)),
        ("float16", (2, 16)),
        ("int8", (0, 8)),
        ("uint32", (1, 32)),
        ("complex64", (5, 64)),
        ("bool", (6, 8)),
    ],
)
def test_a_capsule(device, dtype, kind):
    there = fastein_cuda.asarray(np.ones((3, 4), dtype).T)
    assert there.__dlpack_device__() == (2, 0)
    found = described(there.__dlpack__())
    assert found == (there.address, (4, 3), (1, 4), kind)


def test_bfloat16(device):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    there = fastein_cuda.asarray(np.ones(3, ml_dtypes.bfloat16))
    assert described(there.__dlpack__())[3] == (4, 16)


def test_memory_lives_while_a_capsule_does(device):
    there = fastein_cuda.asarray(np.ones(3))
    capsule = there.__dlpack__()
    del there
    assert device.memory.allocations
    del capsule
    assert not device.memory.allocations


def test_what_has_been_read_is_given_back_by_the_reader(device):
    utils = pytest.importorskip("cuda.core.utils")
    there = fastein_cuda.asarray(np.arange(6.0).reshape(2, 3))
    view = utils.StridedMemoryView.from_dlpack(there, stream_ptr=-1)
    assert (view.ptr, view.shape, view.strides) == (there.address, (2, 3), (3, 1))
    del there
    assert device.memory.allocations
    del view
    assert not device.memory.allocations


def test_what_dlpack_cannot_say(device):
    there = fastein_cuda.asarray(np.ones(6, "complex64"))
    halves = fastein_cuda.DeviceArray(there.address, (3,), (12,), there.dtype, device, there)
    with pytest.raises(BufferError, match="multiples of 8"):
        halves.__dlpack__()
    with pytest.raises(BufferError, match="copies"):
        there.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="copies"):
        there.__dlpack__(dl_device=(1, 0))
    there.readonly = True
    with pytest.raises(BufferError, match="read-only"):
        there.__dlpack__()


class OnlyDlpack:
    """An array that speaks nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **how):
        return self.array.__dlpack__(**how)


@pytest.mark.parametrize("dtype", ["float64", "int16", "bfloat16"])
def test_in_and_out(device, monkeypatch, dtype):

    pytest.importorskip("cuda.core")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(kinds, "numbered_device", lambda ordinal: device)
    host = np.arange(12).reshape(3, 4).astype(getattr(ml_dtypes, dtype, dtype))
    foreign = OnlyDlpack(fastein_cuda.asarray(host.T))
    found = fastein.einsum("ij,jk->ki", foreign, fastein_cuda.asarray(np.eye(3, dtype=host.dtype)))
    assert type(found) is fastein_cuda.DeviceArray
    assert found.dtype == host.dtype
    np.testing.assert_array_equal(fastein_cuda.to_host(found), host)


# Streams


class OnStream:
    """An array of an unknown library, computed on a stream."""

    def __init__(self, array, stream):
        self.__cuda_array_interface__ = dict(array.__cuda_array_interface__, stream=stream)
        self.array = array


def test_a_reader_waits_for_what_computes_an_array(device):
    there = fastein_cuda.asarray(np.ones(3))
    for stream, waits in ((None, []), (1, []), (-1, []), (9, [(9, 1)])):
        device.followed.clear()
        there.__dlpack__(stream=stream)
        assert device.followed == waits
    result = fastein.einsum("i,i->i", OnStream(there, 7), there)
    device.followed.clear()
    result.__dlpack__()
    assert device.followed == [(1, 7)]


def test_operands_of_several_streams(device):
    arrays = [fastein_cuda.asarray(np.arange(3.0)) for _ in range(3)]
    given = [OnStream(x, stream) for x, stream in zip(arrays, (5, 6, None), strict=True)]
    found = fastein.einsum("i,i,i->i", *given)
    np.testing.assert_array_equal(fastein_cuda.to_host(found), np.arange(3.0) ** 3)
    assert found.stream == 5
    # the work waits for the other stream, which may then not give its memory away before us
    assert device.followed == [(5, 6), (6, 5)]
    device.followed.clear()
    fastein.einsum("i,i->i", given[0], OnStream(arrays[1], 5))
    fastein.einsum("i,i->i", *arrays[:2])
    assert device.followed == []
    fastein.einsum("i->i", given[0], out=arrays[2])
    assert device.followed == [(5, 1), (1, 5)]
