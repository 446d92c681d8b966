"""Kernels that go through tiles: against NumPy, at every edge, and when they are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import check_golden
from test_schedule import nest_of

from fastein import config, einsum
from fastein.cpu import isa
from fastein.cpu.crossed import Crossed, crossed
from fastein.cpu.traversal import traversal

RNG = np.random.default_rng(5)

# equation, and the sizes at which operands are large enough for tiles
EQUATIONS = {
    "ij,ji->i": {"i": 731, "j": 709},
    "ij,ji->j": {"i": 731, "j": 709},
    "ij,ji->": {"i": 731, "j": 709},
    "ij,ji->ij": {"i": 731, "j": 709},
    "ij,ji->ji": {"i": 731, "j": 709},
    "ij,ji,j->i": {"i": 731, "j": 709},
    "ij,ji,i->": {"i": 731, "j": 709},
    "ijk,kji->": {"i": 85, "j": 87, "k": 89},
    "ijk,kji->i": {"i": 85, "j": 87, "k": 89},
    "ijk,kji->j": {"i": 85, "j": 87, "k": 89},
    "ijk,ikj->i": {"i": 7, "j": 301, "k": 303},
    "ijk,ikj->ij": {"i": 7, "j": 301, "k": 303},
}
DTYPES = ["f8", "f4", "f2", "F", "D", "i8", "i4", "i2", "u1", "?"]


def tiled(equation, dtype="f8", **sizes):
    return crossed(nest_of(equation, {**EQUATIONS[equation], **sizes}, dtype))


def operands(equation, dtype, sizes):
    for term in equation.split("->")[0].split(","):
        a = RNG.integers(0, 3, tuple(sizes[x] for x in term))
        if np.dtype(dtype).kind == "c":
            a = a + 1j * RNG.integers(0, 3, a.shape)
        if dtype == "f2":
            a = a / 32  # long sums of whole numbers overflow
        yield (a > 1) if dtype == "?" else a.astype(dtype)


def expected(equation, arrays, dtype):
    if dtype == "?":
        return np.einsum(equation, *arrays)
    wide = [a.astype({"c": "D", "f": "d"}.get(np.dtype(dtype).kind, "i8")) for a in arrays]
    return np.einsum(equation, *wide).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_against_numpy(equation, dtype):
    sizes = EQUATIONS[equation]
    arrays = list(operands(equation, dtype, sizes))
    want = expected(equation, arrays, dtype)
    for threads in (1, 3):
        with config(jit="always", num_threads=threads):
            got = einsum(equation, *arrays, optimize=False)
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_it_is_chosen(equation):
    path = traversal(nest_of(equation, EQUATIONS[equation], "f8"))
    assert isinstance(path.form, Crossed), path


def test_float16_is_summed_in_float32():
    sums, maps = (traversal(nest_of(e, EQUATIONS[e], "e")) for e in ("ij,ji->i", "ij,ji->ij"))
    assert isinstance(sums.form, Crossed)
    assert sums.form.wide
    assert sums.result
    assert isinstance(maps.form, Crossed)
    assert not maps.form.wide
    assert not maps.result
    whole = traversal(nest_of("ij,ji->", EQUATIONS["ij,ji->"], "e"))
    assert isinstance(whole.form, Crossed)
    assert whole.form.wide == (whole.parts > 1)


@pytest.mark.parametrize("rows", [800, 801, 807, 815, 831])
def test_edges(rows):
    x, y = RNG.integers(0, 9, (rows, 840 - rows // 100)).astype("f8"), None
    y = RNG.integers(0, 9, x.shape[::-1]).astype("f8")
    with config(jit="always"):
        for equation in ("ij,ji->i", "ij,ji->j", "ij,ji->", "ij,ji->ij"):
            want = np.einsum(equation, x, y)
            got = einsum(equation, x, y)
            np.testing.assert_array_equal(got, want)


def test_nothing_is_written_around_the_output():
    x, y = RNG.integers(0, 9, (731, 709)) * 1.0, RNG.integers(0, 9, (709, 731)) * 1.0
    memory = np.full((733, 711), -7.0)
    with config(jit="always"):
        einsum("ij,ji->ij", x, y, out=memory[1:-1, 1:-1])
    np.testing.assert_array_equal(memory[1:-1, 1:-1], x * y.T)
    for edge in (memory[0], memory[-1], memory[:, 0], memory[:, -1]):
        assert (edge == -7).all()


@pytest.mark.parametrize("equation", ["ij,ji->i", "ijk,kji->", "ij,ji->"])
def test_any_number_of_threads_gives_the_same_bits(equation):
    arrays = [RNG.standard_normal(a.shape) for a in operands(equation, "f8", EQUATIONS[equation])]
    results = set()
    for threads in (1, 2, 3, 5):
        with config(jit="always", num_threads=threads):
            results.add(np.asarray(einsum(equation, *arrays)).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize(
    ("equation", "dtype", "sizes"),
    [
        ("ij,ji->i", "f8", {"i": 70, "j": 70}),  # nothing is large: strides cost nothing
        ("ij,ji->ij", "f8", {"j": 9}),  # no tile fits
    ],
)
def test_what_is_not_done_by_tiles(equation, dtype, sizes):
    assert tiled(equation, dtype, **sizes) is None


def test_vectors_lie_along_the_output():
    nest, form = tiled("ij,ji->i")
    assert nest.summed == (False, True)
    assert not form.in_register
    assert tiled("ij,ji->").form.in_register
    assert tiled("ijk,kji->").nest.sizes[0] == 87


@pytest.mark.parametrize(
    ("name", "equation"),
    [("crossed_rows", "ij,ji->i"), ("crossed_sum", "ijk,kji->"), ("crossed_map", "ij,ji->ij")],
)
def test_golden(name, equation, request, monkeypatch):
    monkeypatch.setattr("fastein.cpu.crossed.host", lambda: isa.AVX2)
    source = tiled(equation).form.source()
    assert max(map(len, source.splitlines())) <= 110
    check_golden(source, f"crossed/{name}", request)
