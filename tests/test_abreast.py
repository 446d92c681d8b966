"""Matrices abreast, whose batch is innermost in both operands and in the result."""

import helpers
import numpy as np
import pytest
from test_contraction import ISAS, TOLERANCE, check, nest_of

from fastein import config, einsum, explain
from fastein.cpu import abreast, contraction
from fastein.cpu.axis_roles import roles
from fastein.cpu.tile import ABREAST, source, tile_for

DTYPES = ["float32", "float64", "complex64", "complex128", "int32", "uint16", "int64"]
EQUATIONS = ["ijb,jkb->ikb", "jib,kjb->kib", "aijb,ajkb->aikb", "aijb,jkab->kiab", "ijb,jkb->bik"]


@pytest.fixture(autouse=True)
def compiled():
    with config(jit="always", num_threads=2):
        yield


def operands(equation, dtype, sizes):
    terms = equation.split("->")[0].split(",")
    return [
        helpers.numbers(dtype, tuple(sizes[x] for x in term), k) for k, term in enumerate(terms)
    ]


def is_abreast(equation, *arrays):
    return "matrices abreast" in explain(equation, *arrays)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_any_sizes(equation, dtype, threads):
    for i, j, k, b, a in (
        (17, 13, 11, 67, 3),
        (8, 8, 8, 64, 2),
        (9, 7, 70, 33, 5),
        (33, 200, 20, 32, 2),  # parts of the sum
        (4, 149, 5, 37, 1),
        (150, 21, 101, 39, 1),  # blocks of rows or of columns
    ):
        a_and_b = operands(equation, dtype, {"i": i, "j": j, "k": k, "b": b, "a": a})
        assert is_abreast(equation, *a_and_b)
        with config(num_threads=threads):
            got = check(equation, *a_and_b)
            room = np.full([n + 2 for n in got.shape], 7, dtype)
            inside = (slice(1, -1),) * got.ndim
            check(equation, *a_and_b, out=room[inside])
        room[inside] = 7
        assert (room == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int16"])
@pytest.mark.parametrize("matrices", range(1, 70, 3))
def test_any_number_of_matrices(dtype, matrices):
    a, b = operands("ijb,jkb->ikb", dtype, {"i": 10, "j": 60, "k": 9, "b": matrices})
    check("ijb,jkb->ikb", a, b)
    padded = np.zeros((10, 60, matrices + 5), dtype)  # strides that are no multiples of a vector
    padded[..., 2:-3] = a
    check("ijb,jkb->ikb", padded[..., 2:-3], b)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "matrices"),
    [("float32", 2), ("float32", 3), ("int16", 7), ("int8", 67), ("float16", 67), ("bool", 67)],
)
def test_others_are_staged(dtype, matrices, threads):
    """As are those of too few matrices for half a vector."""
    for i, j, k in ((20, 31, 50), (70, 34, 41), (30, 400, 9)):
        a, b = operands("ijb,jkb->ikb", dtype, {"i": i, "j": j, "k": k, "b": matrices})
        assert "interleaved" in explain("ijb,jkb->ikb", a, b)
        with config(num_threads=threads):
            got = check("ijb,jkb->ikb", a, b)
            room = np.full((*got.shape[:-1], matrices + 2), 1, dtype)
            check("ijb,jkb->ikb", a, b, out=room[..., 1:-1])
        assert (room[..., ::-1][..., :1] == 1).all()
        assert (room[..., :1] == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_the_number_of_threads_changes_no_bit(dtype):
    for sizes in ({"i": 40, "j": 130, "k": 50, "b": 19}, {"i": 9, "j": 70, "k": 8, "b": 517}):
        a, b = operands("ijb,jkb->ikb", dtype, sizes)
        with config(num_threads=1):
            want = einsum("ijb,jkb->ikb", a, b)
        for threads in (2, 3, 5):
            with config(num_threads=threads):
                np.testing.assert_array_equal(einsum("ijb,jkb->ikb", a, b), want)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_nan_and_infinity_stay_in_their_matrices(dtype):
    a, b = operands("ijb,jkb->ikb", dtype, {"i": 7, "j": 9, "k": 11, "b": 37})
    a[3, 4, 5], b[2, 1, 36] = np.nan, np.inf
    got = einsum("ijb,jkb->ikb", a, b)
    with np.errstate(invalid="ignore"):
        want = np.einsum("ijb,jkb->ikb", a, b)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=20 * TOLERANCE[dtype])


def test_large_results_are_written_past_the_caches():
    a, b = operands("ijb,jkb->ikb", "float32", {"i": 33, "j": 9, "k": 65, "b": 2048})
    out = np.zeros(33 * 65 * 2048 + 16, np.float32)
    out = out[-(out.ctypes.data // 4) % 16 :][: 33 * 65 * 2048].reshape(33, 65, 2048)
    check("ijb,jkb->ikb", a, b, out=out)
    moved = np.zeros(33 * 65 * 2048 + 1, np.float32)[1:].reshape(33, 65, 2048)
    check("ijb,jkb->ikb", a, b, out=moved)


def planned(equation, sizes, dtype="f4", threads=2):
    nest = nest_of(equation, sizes, dtype)
    plan = contraction.contraction(nest, roles(nest), threads)
    return abreast.abreast(plan, nest, threads)


@pytest.fixture
def avx512(monkeypatch):
    for module in (abreast, contraction):
        monkeypatch.setattr(module, "host", lambda: ISAS["avx512"])


@pytest.mark.parametrize(
    ("matrices", "vector_bytes", "rest"),
    [(16, 64, None), (17, 32, 9), (24, 32, None), (25, 64, 9), (40, 32, None), (9, 32, 1)],
)
def test_vectors_are_as_full_as_they_can_be(matrices, vector_bytes, rest, avx512):
    plan = planned("ijb,jkb->ikb", {"i": 20, "j": 20, "k": 20, "b": matrices})
    assert plan.tile.vector_bytes == vector_bytes
    if rest is None:
        assert plan.rest is None
    else:
        shift, last = plan.rest
        assert shift == 4 * rest
        assert last.batch == plan.batch[:-1]


def test_where_matrices_are_not_abreast(avx512):
    sizes = {"i": 20, "j": 20, "k": 20, "b": 40}
    for equation in ("ijb,bjk->ikb", "ijb,jkb->bik", "bij,bjk->bik"):
        assert not planned(equation, sizes).tile.is_abreast
    assert not planned("ijb,jkb->ikb", {**sizes, "b": 7}).tile.is_abreast
    for dtype in ("bool", "int8", "float16"):  # these are widened or packed as words
        assert not planned("ijb,jkb->ikb", sizes, dtype).tile.is_abreast


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sources(dtype, isa):
    tile = tile_for(dtype, ISAS[isa], ABREAST)
    assert tile.matrices * np.dtype(dtype).itemsize == tile.vector_bytes
    assert source(tile) != source(tile_for(dtype, ISAS[isa]))
    compile(source(tile), "source", "exec")


def test_explanations_name_the_kernel():
    a, b = operands("ijb,jkb->ikb", "float32", {"i": 30, "j": 40, "k": 50, "b": 64})
    text = explain("ijb,jkb->ikb", a, b, source=True)
    assert "packed as whole vectors" in text
    assert "pack(rows, steps)" in text
