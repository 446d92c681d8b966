"""Arrays of a device: what is asked of other libraries' arrays, and what people see of ours."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fastein
import fastein_cuda
from fastein._operands import lies_on_device
from fastein_cuda import kinds
from fastein_cuda.arrays import operand_of
from fastein_cuda.simulator import simulated


@pytest.fixture
def device(monkeypatch):
    with simulated() as found:
        monkeypatch.setattr(kinds, "device_of_address", lambda address: found)
        yield found


class Foreign:
    """An array of a library that fastein does not know."""

    def __init__(self, array, stream=None, strides=True):
        self.array = array
        self.stream = stream
        self.strides = strides

    @property
    def __cuda_array_interface__(self):
        interface = dict(self.array.__cuda_array_interface__, stream=self.stream)
        if not self.strides:
            interface["strides"] = None
        return interface


@pytest.mark.parametrize(
    "host",
    [
        np.arange(6.0),
        np.arange(24).reshape(2, 3, 4),
        np.arange(24).reshape(2, 3, 4).T,
        np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
        np.arange(24)[::-2],
        np.broadcast_to(np.arange(3), (4, 3)),
        np.array(3.5),
        np.zeros((0, 3)),
        np.ones(3, "bool"),
        [[1, 2], [3, 4]],
    ],
    ids=str,
)
def test_there_and_back(device, host):
    there = fastein_cuda.asarray(host)
    back = fastein_cuda.to_host(there)
    np.testing.assert_array_equal(back, host)
    assert back.dtype == np.asarray(host).dtype
    assert (there.ndim, there.size) == (back.ndim, back.size)
    assert fastein_cuda.asarray(there) is there


def test_memory_is_given_back(device):
    there = fastein_cuda.asarray(np.ones(10))
    view = fastein.einsum("i->i", there)
    del there
    assert device.memory.allocations
    assert fastein_cuda.to_host(view).sum() == 10
    del view
    assert not device.memory.allocations


def test_scratch_is_given_back(device):
    given = [fastein_cuda.asarray(np.ones((50, 50))) for _ in range(3)]
    fastein.einsum("ij,jk,kl->il", *given)
    assert len(device.memory.allocations) == 3


def test_results_are_of_the_first_operands_kind(device):
    own = fastein_cuda.asarray(np.ones((2, 3)))
    for kind in (own, Foreign(own), Foreign(own, strides=False), Foreign(own, stream=7)):
        assert isinstance(fastein.einsum("ij->i", kind), fastein_cuda.DeviceArray)


def test_views_share_memory(device):
    there = fastein_cuda.asarray(np.arange(9.0).reshape(3, 3))
    diagonal = fastein.einsum("ii->i", there)
    assert diagonal.address == there.address
    assert diagonal.strides == (32,)
    turned = fastein.einsum("ij->ji", Foreign(there))
    assert (turned.address, turned.strides) == (there.address, (8, 24))


def test_scalars_are_arrays_without_axes(device):
    there = fastein_cuda.asarray(np.arange(3.0))
    total = fastein.einsum("i,i->", there, there)
    assert total.shape == ()
    assert fastein_cuda.to_host(total) == 5


def test_out(device):
    a = fastein_cuda.asarray(np.arange(9.0).reshape(3, 3))
    out = fastein_cuda.asarray(np.zeros((3, 3)))
    assert fastein.einsum("ij,jk->ik", a, a, out=out) is out
    square = np.arange(9.0).reshape(3, 3) @ np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(fastein_cuda.to_host(out), square)
    assert fastein.einsum("ij,jk->ik", a, a, out=a) is a
    np.testing.assert_array_equal(fastein_cuda.to_host(a), square)


def test_a_readonly_out_is_refused(device):
    a = fastein_cuda.asarray(np.ones(3))
    a.readonly = True
    with pytest.raises(fastein.EinsumError, match="read-only"):
        fastein.einsum("i->i", a, out=a)


@pytest.mark.parametrize("host", [np.ones(3), [1.0, 2.0, 3.0], 2.0])
def test_mixing_host_and_device_is_an_error(device, host):
    there = fastein_cuda.asarray(np.ones(3))
    label = "" if isinstance(host, float) else "i"
    for equation, given in ((f"i,{label}", (there, host)), (f"{label},i", (host, there))):
        with pytest.raises(TypeError, match=r"in host memory, but operand \d is on a GPU"):
            fastein.einsum(equation, *given)
    with pytest.raises(TypeError, match="out of einsum is a ndarray in host memory"):
        fastein.einsum("i->i", there, out=np.ones(3))
    with pytest.raises(TypeError, match="operand 0 of einsum is a ndarray in host memory"):
        fastein.einsum("i->i", np.ones(3), out=there)
    with pytest.raises(TypeError, match="in host memory: bring all operands to one place"):
        fastein_cuda.einsum("i->", host if label else [host])


def test_two_devices_are_an_error(device):
    here = fastein_cuda.asarray(np.ones(3))
    with simulated():
        there = fastein_cuda.asarray(np.ones(3))
    with pytest.raises(TypeError, match="one device"):
        fastein.einsum("i,i", here, there)


def test_numpy_does_not_take_it_for_a_host_array(device):
    there = fastein_cuda.asarray(np.ones(3))
    with pytest.raises(TypeError, match="to_host"):
        np.asarray(there)
    assert "float64" in repr(there)


def test_lists_and_sublists(device):
    a = fastein_cuda.asarray(np.arange(6.0).reshape(2, 3))
    for result in (
        fastein.einsum("ij,kj->ik", [a, a]),
        fastein.einsum(b"ij,kj->ik", a, a),
        fastein.einsum(a, [0, 1], a, [2, 1], [0, 2]),
        fastein.einsum(a, ["i", "j"], a, ["k", "j"], ["i", "k"]),
    ):
        np.testing.assert_array_equal(fastein_cuda.to_host(result), [[5, 14], [14, 50]])


def test_paths_look_at_shapes_alone(device):
    a = fastein_cuda.asarray(np.ones((2, 10)))
    b = fastein_cuda.asarray(np.ones((10, 20)))
    path, _ = fastein.einsum_path("ij,jk,kl->il", a, b, np.ones((20, 2)))
    assert path == ["einsum_path", (1, 2), (0, 1)]


def test_explain_tells_what_the_device_would_do(device):
    a = fastein_cuda.asarray(np.ones((64, 64)))
    told = fastein.explain("ij,jk->ik", a, a, source=True)
    assert "contraction: 64 rows, 64 columns, 64 terms; dmma tiles of 64 by 64 by 16" in told
    assert "def kernel(a, b, out, batches" in told


def test_errors_are_those_of_the_cpu(device):
    a = fastein_cuda.asarray(np.ones((2, 3)))
    with pytest.raises(fastein.EinsumError, match="'ij,ij"):
        fastein.einsum("ij,ij,->", a, a)
    with pytest.raises(fastein.EinsumError):
        fastein.einsum("ij,jk", a, a)
    with pytest.raises(TypeError, match="cannot be cast"):
        fastein.einsum("ij->i", a, dtype="int8")


def test_what_lies_on_a_device():
    class Exporter:
        def __init__(self, kind):
            self.kind = kind

        def __dlpack_device__(self):
            return self.kind, 0

    assert lies_on_device(Exporter(2))
    assert lies_on_device(Exporter(13))
    assert not lies_on_device(Exporter(1))
    assert not lies_on_device(Exporter)
    assert not lies_on_device(np.ones(3))
    assert not lies_on_device("i")


# Other libraries, as far as this can be seen without them: their arrays' attributes.


@pytest.fixture
def library(device, monkeypatch):
    """Install a stand-in for a library and number the simulated device 0."""

    def install(name, **attributes):
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(kinds, "numbered_device", lambda ordinal: device)
        return module

    return install


def test_cupy(device, library):
    memory = fastein_cuda.asarray(np.arange(6.0).reshape(2, 3))

    class ndarray:  # noqa: N801
        def __init__(self, shape, dtype, memptr, strides):
            self.shape, self.dtype, self.data, self.strides = (
                shape,
                np.dtype(dtype),
                memptr,
                strides,
            )
            self.device = SimpleNamespace(id=0)

        @property
        def __cuda_array_interface__(self):
            raise AssertionError("it costs a microsecond")  # but hasattr must see it

    ndarray.__module__ = "cupy"
    ndarray.__cuda_array_interface__ = None
    alloc = lambda nbytes: SimpleNamespace(ptr=device.allocate(nbytes, 0))  # noqa: E731
    stream = SimpleNamespace(ptr=5)
    library(
        "cupy",
        ndarray=ndarray,
        cuda=SimpleNamespace(alloc=alloc, get_current_stream=lambda: stream),
    )
    a = ndarray((2, 3), "float64", SimpleNamespace(ptr=memory.address), (24, 8))
    assert operand_of(a).kind.stream(operand_of(a)) == 5
    sums = fastein.einsum("ij->j", a)
    assert type(sums) is ndarray
    np.testing.assert_array_equal(fastein_cuda.to_host(sums), [3, 5, 7])
    turned = fastein.einsum("ij->ji", a)
    assert (turned.data, turned.strides) == (a.data, (8, 24))


def test_torch(device, library):
    memory = fastein_cuda.asarray(np.arange(6.0).reshape(2, 3))

    class Tensor:
        requires_grad = False
        dtype = "torch.float64"
        device = SimpleNamespace(index=0)
        __cuda_array_interface__ = None

        def __init__(self, address, shape, strides):
            self.address, self.shape, self.strides = address, shape, strides

        def resolve_conj(self):
            return self

        resolve_neg = resolve_conj

        def stride(self):
            return self.strides

        def data_ptr(self):
            return self.address

        def storage_offset(self):
            return 0

        def as_strided(self, shape, strides, offset):
            return Tensor(self.address, shape, strides)

    Tensor.__module__ = "torch"

    def empty_strided(shape, strides, dtype, device):
        return Tensor(memory.device.allocate(1000, 0), shape, strides)

    stream = SimpleNamespace(cuda_stream=9)
    library(
        "torch",
        empty_strided=empty_strided,
        float64="torch.float64",
        cuda=SimpleNamespace(current_stream=lambda device: stream),
    )
    a = Tensor(memory.address, (2, 3), (3, 1))
    assert operand_of(a).kind.stream(operand_of(a)) == 9
    sums = fastein.einsum("ij->j", a)
    assert type(sums) is Tensor
    np.testing.assert_array_equal(fastein_cuda.to_host(sums), [3, 5, 7])
    assert fastein.einsum("ij->ji", a).strides == [1, 3]
    a.requires_grad = True
    with pytest.raises(TypeError, match="detach"):
        fastein.einsum("ij->j", a)


class JaxArray:
    """What is asked of JAX's arrays, which raise where the interface cannot name their dtype."""

    __module__ = "jaxlib.xla_extension"

    def __init__(self, own):
        self.own = own

    @property
    def __cuda_array_interface__(self):
        if self.own.dtype.name == "bfloat16":
            raise RuntimeError("INVALID_ARGUMENT: not supported for bfloat16 buffers")
        return self.own.__cuda_array_interface__

    def block_until_ready(self):
        return self

    def __dlpack__(self, **kwargs):
        return self.own.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.own.__dlpack_device__()


@pytest.fixture
def jax(library):
    def from_dlpack(array):
        assert array.__dlpack_device__() == (2, 0)
        return JaxArray(array)

    library("jax", dlpack=SimpleNamespace(from_dlpack=from_dlpack))


def test_jax_arrays_are_contiguous_and_finished(jax):
    a = JaxArray(fastein_cuda.asarray(np.arange(6.0).reshape(2, 3)))
    turned = fastein.einsum("ij->ji", a)
    assert type(turned) is JaxArray
    assert turned.own.strides == (16, 8)
    np.testing.assert_array_equal(fastein_cuda.to_host(turned.own), np.arange(6.0).reshape(2, 3).T)


def test_jax_arrays_are_never_written_to(jax):
    a = JaxArray(fastein_cuda.asarray(np.ones((2, 2))))
    with pytest.raises(fastein.EinsumError, match="read-only"):
        fastein.einsum("ij->ij", a, out=a)


def test_bfloat16_of_jax(jax):
    """JAX has no interface for it, and says so by an error that `hasattr` does not expect."""
    pytest.importorskip("ml_dtypes")
    pytest.importorskip("cuda.core", reason="DLPack is read by cuda.core")
    host = np.arange(6.0).reshape(2, 3)
    a = JaxArray(fastein_cuda.asarray(host.astype("bfloat16")))
    assert lies_on_device(a)
    for equation in ("ij,kj->ik", "ij->j", "ij->ji", "ij->"):
        given = [a] * (equation.count(",") + 1)
        found = fastein.einsum(equation, *given)
        assert type(found) is JaxArray
        back = fastein_cuda.to_host(found.own)
        assert back.dtype == "bfloat16"
        np.testing.assert_array_equal(back.astype(float), np.einsum(equation, *[host] * len(given)))
    np.testing.assert_array_equal(fastein_cuda.to_host(a).astype(float), host)
    with pytest.raises(TypeError, match="in host memory, but operand 0 is on a GPU"):
        fastein.einsum("ij,kj", a, host)


@pytest.mark.parametrize("kind", [1, 2])
def test_an_interface_that_raises_anything(kind):
    class Array:
        @property
        def __cuda_array_interface__(self):
            raise KeyError("bfloat16")

        def __dlpack_device__(self):
            return kind, 0

    assert lies_on_device(Array()) == (kind == 2)


def test_numba(device, library):
    class DeviceNDArray:
        __module__ = "numba.cuda.cudadrv.devicearray"

        def __init__(self, shape, strides, dtype, stream=0, gpu_data=None):
            self.shape, self.strides, self.dtype = shape, strides, np.dtype(dtype)
            self.stream, self.gpu_data = stream, gpu_data

        @property
        def __cuda_array_interface__(self):
            return {
                "shape": self.shape,
                "strides": self.strides,
                "data": (self.gpu_data, False),
                "typestr": self.dtype.str,
                "stream": self.stream or None,
                "version": 3,
            }

    def device_array(shape, dtype, strides, stream):
        return DeviceNDArray(shape, strides, dtype, stream, device.allocate(100, 0))

    library("numba", cuda=SimpleNamespace(device_array=device_array))
    memory = fastein_cuda.asarray(np.arange(6.0).reshape(2, 3))
    for stream, handle in ((0, 1), (8, 8), (SimpleNamespace(handle=9), 9)):
        a = DeviceNDArray((2, 3), (24, 8), "float64", stream, memory.address)
        assert operand_of(a).kind.stream(operand_of(a)) == handle
    a.stream = 8
    sums = fastein.einsum("ij->j", a)
    assert (type(sums), sums.stream) == (DeviceNDArray, 8)
    np.testing.assert_array_equal(fastein_cuda.to_host(sums), [3, 5, 7])
    turned = fastein.einsum("ij->ji", a)
    assert (turned.gpu_data, turned.strides) == (memory.address, (8, 24))
