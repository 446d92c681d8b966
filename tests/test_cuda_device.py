"""The GPU target on a real device: what the simulator is tested with, and other libraries' arrays.

All of it is skipped where there is no device; `.ci/gpu` runs it where there is one.
"""

import numpy as np
import pytest
from simulated import GPU, HALVES, corpus_faults, einsum, fuzz_faults
from test_corpus import DTYPES
from test_cuda_halves import CHAINS, error, exact
from test_cuda_halves import operands as halves

import fastein
import fastein_cuda
from fastein.testing.corpus import LAYOUTS
from fastein_cuda import DeviceArray, dispatch, loops
from fastein_cuda.devices import default_device
from fastein_cuda.driver import call

pytestmark = GPU


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_equation(layout):
    assert corpus_faults(layout=layout) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(dtype):
    assert corpus_faults(seed=1, dtype=dtype) == []


@pytest.mark.parametrize("first", range(0, 400, 200))
def test_random_calls(first):
    assert fuzz_faults(first, 200) == []


LARGE = [
    ("ij,jk->ik", [(1031, 517), (517, 769)]),
    ("ij,jk->ik", [(2048, 1024), (1024, 1536)]),
    ("bij,bkj->bik", [(33, 100, 130), (33, 70, 130)]),
    ("abcd,cdef->abef", [(20, 21, 22, 23), (22, 23, 18, 19)]),
    ("k,k->", [(3_000_001,)] * 2),
    ("ij->ji", [(3001, 2999)]),
    ("ij->j", [(100_000, 37)]),
]


WIDER = {"float16": "float32", "bfloat16": "float32"}
ACCURACY = {"float64": 1e-12, "complex128": 1e-12, "float16": 5e-3, "bfloat16": 1e-2, "int32": 0}


def check(equation, shapes, dtype):
    """Compare with NumPy on operands of many sizes, into an array that is there."""
    rng = np.random.default_rng(0)
    given = [(rng.random(shape) - 0.5).astype(dtype) for shape in shapes]
    if dtype == "int32":
        given = [rng.integers(-9, 9, shape, dtype="int32") for shape in shapes]
    exact = WIDER.get(dtype, dtype)
    expected = np.einsum(equation, *[x.astype(exact) for x in given], optimize=True)
    out = np.empty_like(expected, dtype) if expected.ndim else None
    found = einsum(equation, *given, out=out)
    accuracy = ACCURACY.get(dtype, 1e-4)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(
        found.astype(expected.dtype), expected, rtol=accuracy, atol=accuracy * scale
    )


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", *HALVES, "complex64", "complex128", "int32"]
)
@pytest.mark.parametrize(("equation", "shapes"), LARGE)
def test_large(equation, shapes, dtype):
    check(equation, shapes, dtype)


LARGEST_TILES = {
    "float64": "dmma tiles of 128 by 128 by 16",
    "float32": "simt tiles of 128 by 128 by 16",
    **dict.fromkeys(HALVES, "hmma tiles of 128 by 256 by 32"),
    "complex128": "dmma tiles of 64 by 64 by 8",
}


@pytest.mark.parametrize("dtype", LARGEST_TILES)
@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,kj->ik", "ji,jk->ik", "ji,kj->ik"])
def test_the_largest_tiles(equation, dtype):
    sizes = {"i": 3 * 1024 + 8, "j": 264, "k": 3 * 1024 - 8}
    shapes = [[sizes[x] for x in term] for term in equation.split("->")[0].split(",")]
    there = [fastein_cuda.asarray(np.ones(shape, dtype)) for shape in shapes]
    assert LARGEST_TILES[dtype] in str(fastein.explain(equation, *there))
    check(equation, shapes, dtype)


@pytest.mark.parametrize("tf32", [True, "3x"])
@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,kj->ik", "ji,jk->ik"])
def test_reduced_precision(equation, tf32):
    """Integers of 8 bits, whose products and sums every unit computes exactly."""
    rng = np.random.default_rng(0)
    sizes = {"i": 1100, "j": 264, "k": 1500}
    shapes = [[sizes[x] for x in term] for term in equation.split("->")[0].split(",")]
    given = [rng.integers(-99, 99, shape).astype("float32") for shape in shapes]
    with fastein.config(tf32=tf32):
        found = einsum(equation, *given)
    np.testing.assert_array_equal(found, np.einsum(equation, *given, optimize=True))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("equation", "shapes"), CHAINS)
def test_unrounded_intermediates(equation, shapes, dtype):
    given = halves(shapes, dtype)
    expected = exact(equation, given)
    found = einsum(equation, *given)
    assert error(found, expected) <= 1.02 * error(expected.astype(dtype), expected) + 2e-7


@pytest.mark.parametrize("dtype", ["float64", "float16", "float32"])
@pytest.mark.parametrize(("equation", "shapes"), LARGE)
def test_wide_offsets(equation, shapes, dtype, monkeypatch):
    """As if every operand spanned gigabytes."""
    monkeypatch.setattr(loops, "NARROW", 0)
    monkeypatch.setattr(dispatch, "_plans", {})
    check(equation, shapes, dtype)


def test_the_same_bits_every_time():
    x = fastein_cuda.asarray(np.random.default_rng(0).standard_normal(2_000_000))
    first, second = (fastein_cuda.to_host(fastein.einsum("i,i->", x, x)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("library", ["cupy", "torch", "jax", "numba"])
def test_arrays_of(library):
    host = np.arange(12.0, dtype="float32").reshape(3, 4)
    if library == "cupy":
        cupy = pytest.importorskip("cupy")
        a, back = cupy.asarray(host), cupy.asnumpy
    elif library == "torch":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("torch without CUDA")
        a, back = torch.from_numpy(host).cuda(), lambda x: x.cpu().numpy()
    elif library == "jax":
        jax = pytest.importorskip("jax")
        if jax.default_backend() != "gpu":
            pytest.skip("JAX without CUDA")
        a, back = jax.numpy.asarray(host), np.asarray
    else:
        cuda = pytest.importorskip("numba.cuda")
        a, back = cuda.to_device(host), lambda x: x.copy_to_host()
    for equation in ("ij,kj->ik", "ij->j", "ij->ji", "ij->"):
        given = [a] * (equation.count(",") + 1)
        found = fastein.einsum(equation, *given)
        assert type(found).__module__.partition(".")[0] == type(a).__module__.partition(".")[0]
        expected = np.einsum(equation, *[host] * len(given))
        np.testing.assert_allclose(back(found), expected, rtol=1e-6)


def test_a_call_can_be_captured_without_other_libraries():
    driver = pytest.importorskip("cuda.bindings.driver")
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 64, 64))
    device = default_device()
    with device.active():
        stream = int(call("cuStreamCreate", driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value))
        given, into = fastein_cuda.asarray(first), fastein_cuda.asarray(np.zeros((64, 64)))
        a, out = (
            DeviceArray(x.address, x.shape, x.strides, x.dtype, device, x, stream=stream)
            for x in (given, into)
        )

        def run():
            fastein.einsum("ij,jk,kl->il", a, a, a, out=out)

        run()
        device.wait(stream)
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
        call("cuStreamBeginCapture", stream, mode)
        run()
        graph = call("cuGraphInstantiate", call("cuStreamEndCapture", stream), 0)
        device.to_device(a.address, second, stream)
        for _ in range(2):
            call("cuGraphLaunch", graph, stream)
        device.wait(stream)
    found = fastein_cuda.to_host(out)
    np.testing.assert_allclose(found, second @ second @ second, rtol=1e-12)


def test_a_call_can_be_captured_in_a_graph():
    cupy = pytest.importorskip("cupy")
    a = cupy.random.rand(64, 64)
    out = cupy.zeros_like(a)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        fastein.einsum("ij,jk,kl->il", a, a, a, out=out)
        stream.synchronize()
        stream.begin_capture()
        fastein.einsum("ij,jk,kl->il", a, a, a, out=out)
        graph = stream.end_capture()
        a *= 2
        graph.launch()
        stream.synchronize()
    cupy.testing.assert_allclose(out, a @ a @ a, rtol=1e-12)
