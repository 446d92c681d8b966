"""The GPU target against NumPy, on the simulated device: the corpus, the fuzz, hard cases."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import corpus_faults, einsum, fuzz_faults
from test_corpus import DTYPES, as_call

import fastein
import fastein_cuda
from fastein.testing.compare import compare
from fastein.testing.corpus import CORPUS, LAYOUTS, operands
from fastein_cuda import loops
from fastein_cuda.simulator import SMALL, simulated


@pytest.fixture(autouse=True)
def device():
    with simulated() as found:
        yield found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_equation(layout, device):
    assert corpus_faults(layout=layout) == []
    assert device.launched


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(dtype):
    assert corpus_faults(seed=1, dtype=dtype) == []


@pytest.mark.parametrize("first", range(0, 1500, 500))
def test_random_calls(first):
    assert fuzz_faults(first, 500) == []


def test_wide_indices(monkeypatch):
    """The kernels for giant operands, whose indices have 64 bits, on small ones."""
    monkeypatch.setattr(loops, "NARROW", 0)
    for layout in ("C", "reversed"):
        for example in CORPUS:
            assert compare(as_call(example, operands(example, layout=layout)), einsum) is None


@pytest.mark.parametrize("processors", [1, 7, 132])
@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("i->", [(100_003,)]),
        ("i,i->", [(65_536,)] * 2),
        ("ij->i", [(3, 20_011)]),
        ("ij->j", [(20_011, 3)]),
        ("ij->j", [(4096, 64)]),
        ("ij,j->i", [(257, 1023), (1023,)]),
        ("ij,i->j", [(1023, 257), (1023,)]),
        ("ijk->k", [(31, 33, 65)]),
        ("ijk->j", [(31, 33, 65)]),
        ("ij->ji", [(65, 129)]),
        ("ij,ji->ij", [(65, 129), (129, 65)]),
        ("ijk,kji->ijk", [(9, 33, 40), (40, 33, 9)]),
        ("ij,ji->", [(65, 129), (129, 65)]),
        ("bij,bjk->bik", [(300, 3, 3)] * 2),
        ("i,j->ij", [(100,), (300,)]),
    ],
)
def test_shares_of_a_machine(equation, shapes, processors):
    """However many threads and blocks share a sum, and where a block's share ends."""
    rng = np.random.default_rng(3)
    with simulated(replace(SMALL, processors=processors)):
        for dtype in ("float64", "float32", "float16", "complex64", "int32", "bool"):
            given = [(rng.random(shape) * 2 - 0.5).astype(dtype) for shape in shapes]
            exact = "float64" if dtype == "float16" else dtype
            expected = np.einsum(equation, *[x.astype(exact) for x in given]).astype(dtype)
            out = np.empty_like(expected) if expected.ndim else None
            found = einsum(equation, *given, out=out)
            accuracy = {"float64": 1e-12, "float16": 2e-3}.get(dtype, 3e-5)
            scale = max(1.0, float(np.abs(expected.astype(complex)).max()))
            np.testing.assert_allclose(found, expected, rtol=accuracy, atol=accuracy * scale)


def test_the_same_bits_every_time():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200_000)
    first, second = (einsum("i->", x) for _ in range(2))
    assert first == second


def test_an_address_that_vectors_cannot_begin_at():
    memory = fastein_cuda.asarray(np.arange(1001.0, dtype="float32"))
    for begin in range(5):
        part = fastein_cuda.DeviceArray(
            memory.address + 4 * begin, (996,), (4,), memory.dtype, memory.device, memory
        )
        doubled = fastein_cuda.to_host(fastein.einsum("i,i->i", part, part))
        np.testing.assert_array_equal(doubled, np.arange(begin, begin + 996.0) ** 2)
        total = fastein_cuda.to_host(fastein.einsum("i->", part))
        assert total == np.arange(begin, begin + 996.0).sum()


def test_many_operands_and_axes():
    rng = np.random.default_rng(0)
    given = [rng.integers(-2, 3, (2,) * 3) for _ in range(12)]
    labels = [[(k + m) % 12 for m in range(3)] for k in range(12)]
    arguments = [item for pair in zip(given, labels, strict=True) for item in pair]
    for optimize in (False, "greedy"):
        found = einsum(*arguments, [0, 5, 7], optimize=optimize)
        np.testing.assert_array_equal(found, np.einsum(*arguments, [0, 5, 7], optimize=True))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(70, 50), (50, 90)]),
        ("ij,jk->ki", [(70, 600), (600, 90)]),
        ("ij->j", [(100, 30)]),
        ("ij,ij->", [(100, 30)] * 2),
        ("ij->ji", [(64, 64)]),
        ("ij,jk,kl->il", [(20, 30), (30, 40), (40, 20)]),
    ],
)
def test_bfloat16(equation, shapes):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in shapes]
    expected = np.einsum(equation, *[x.astype("float64") for x in given])
    out = np.zeros(expected.shape, ml_dtypes.bfloat16)
    found = einsum(equation, *given, out=out)
    assert found.dtype == ml_dtypes.bfloat16
    error = np.abs(found.astype("float64") - expected).max()
    assert error <= 2**-8 * np.abs(expected).max()


def test_bfloat16_is_rounded_to_even():
    from fastein_cuda.elements import ELEMENTS
    from fastein_cuda.primitives_sim import converted

    wide = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -(2.0**-130), np.inf, np.nan], "float32")
    narrow = converted(wide, ELEMENTS["float32"], ELEMENTS["bfloat16"])
    back = converted(narrow, ELEMENTS["bfloat16"], ELEMENTS["float32"])
    np.testing.assert_array_equal(back, [1.0, 1.0, 1 + 2**-6, -(2.0**-130), np.inf, np.nan])


@pytest.mark.parametrize("dtype", [">f8", "longdouble"])
def test_dtypes_without_kernels(dtype):
    with pytest.raises(TypeError, match="no kernels"):
        einsum("i,i->", np.ones(3, dtype), np.ones(3, dtype))


def test_objects_stay_on_the_host():
    with pytest.raises(TypeError, match="no kernels"):
        fastein_cuda.asarray(np.ones(3, "O"))
    with pytest.raises(TypeError, match="no kernels"):
        einsum("i,i->", np.ones(3), np.ones(3), dtype="O")
