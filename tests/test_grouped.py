"""Kernels that work on several small matrices at once: against NumPy, and which nests they take."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import check_golden
from test_schedule import nest_of
from test_unrolled import EQUATIONS, arrays_for

from fastein import config, einsum
from fastein.cpu import isa
from fastein.cpu.grouped import NARROW, grouped
from fastein.cpu.traversal import traversal

DTYPES = ["e", "?", "i1", "u1", "i2", "u2"]


def several(equation, batch=100, size=3, dtype="i1"):
    sizes = {x: batch if x in "abe" else size for x in equation if x.isalpha()}
    return grouped(nest_of(equation, sizes, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_against_numpy(equation, dtype):
    for size, batch in ((2, 16), (3, 67), (5, 201)):
        arrays = list(arrays_for(equation, dtype, size, batch, "C"))
        with config(jit="always"):
            got = einsum(equation, *arrays, optimize=False)
        np.testing.assert_array_equal(got, np.einsum(equation, *arrays))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_element_of_an_operand_in_each_group(dtype):
    rng = np.random.default_rng(1)
    for equation in ("b,i->bi", "b,bi->bi", "bi,b->bi", "b,bij->bij", "b,bi->b"):
        for batch, size in ((33, 4), (129, 3), (16, 8)):
            sizes = {"b": batch, "i": size, "j": size}
            terms = equation.split("->")[0].split(",")
            arrays = [rng.integers(0, 3, [sizes[x] for x in term]).astype(dtype) for term in terms]
            with config(jit="always"):
                got = einsum(equation, *arrays)
            np.testing.assert_array_equal(got, np.einsum(equation, *arrays))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_written_around_the_output(dtype):
    for equation in ("bij,bjk->bik", "bij,bj->bi", "bi,bij,bj->b"):
        arrays = list(arrays_for(equation, dtype, 3, 101, "C"))
        want = np.einsum(equation, *arrays)
        memory = np.full(want.size + 128, 1, dtype)
        out = memory[64:-64].reshape(want.shape)
        with config(jit="always"):
            einsum(equation, *arrays, out=out)
        np.testing.assert_array_equal(out, want)
        assert (memory[:64] == 1).all()
        assert (memory[-64:] == 1).all()


def test_any_byte_is_a_truth():
    bytes_ = np.random.default_rng(0).integers(0, 4, (2, 70, 3, 3)).astype("u1")
    x, y = bytes_.view(bool)
    with config(jit="always"):
        got = einsum("bij,bjk->bik", x, y)
    np.testing.assert_array_equal(got, np.einsum("bij,bjk->bik", bytes_[0] != 0, bytes_[1] != 0))
    assert got.view("u1").max() == 1


def test_vectors_hold_as_many_matrices_as_fit(monkeypatch):
    monkeypatch.setattr("fastein.cpu.grouped.host", lambda: isa.AVX512)
    assert several("bij,bjk->bik").form.group == 14
    assert several("bij,bjk->bik").form.lanes == 126
    assert several("bij,bj->bi").form.lanes == 42
    assert several("bij,bjk->bik", dtype="i2").form.group == 7
    assert several("bij,bjk->bik", size=5, dtype="i2").form.group == 2
    assert several("bi,bj->bij", size=5, dtype="i2").form.group == 1
    monkeypatch.setattr("fastein.cpu.grouped.host", lambda: isa.AVX2)
    assert several("bij,bjk->bik").form.group == 7
    assert several("bij,bjk->bik", size=8, dtype="i2").form.group == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["e", "?", "i1", "u2"])
def test_a_vector_of_one_matrix(dtype):
    for equation in ("bij,bjk->bik", "bi,bj->bij", "bij,bj->bi", "bij,bi->bj", "bi,bij,bj->b"):
        for size in (6, 7, 8):
            most = 128 // (size * size * np.dtype(dtype).itemsize)
            assert several(equation, size=size, dtype=dtype).form.group in (1, most, most // 2)
            arrays = list(arrays_for(equation, dtype, size, 35, "C"))
            with config(jit="always"):
                got = einsum(equation, *arrays)
            np.testing.assert_array_equal(got, np.einsum(equation, *arrays))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["e", "?", "i1", "u2"])
@pytest.mark.parametrize("sizes", [(6, 5, 7), (7, 6, 6), (8, 8, 6), (2, 8, 3), (8, 5, 7)])
def test_products_of_matrices_of_different_sizes(sizes, dtype):
    m, k, n = sizes
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 3, shape).astype(dtype) for shape in ((35, m, k), (35, k, n)))
    out = np.empty((35, m, n), dtype)
    with config(jit="always"):
        einsum("bij,bjk->bik", a, b, out=out)
    np.testing.assert_array_equal(out, np.einsum("bij,bjk->bik", a, b))


@pytest.mark.parametrize("dtype", ["e", "i1", "i2"])
def test_sums_of_a_row(dtype):
    for equation, size in (("bi,bi->b", 9), ("bi->b", 16), ("bi,bi->b", 15), ("bi,bi->b", 17)):
        arrays = list(arrays_for(equation, dtype, size, 67, "C"))
        with config(jit="always"):
            got = einsum(equation, *arrays)
        np.testing.assert_array_equal(got, np.einsum(equation, *arrays))
    assert several("bi,bi->b", size=16, dtype="i1") is not None
    assert several("bi,bi->b", size=17, dtype="i1") is None
    assert several("bi,bi->b", size=9, dtype="e") is None


def test_where_all_products_are_made_at_once():
    assert several("bij,bj->bi", dtype="i1").form.multiplies_first
    assert not several("bij,bj->bi", dtype="i2").form.multiplies_first
    assert several("bi,bij,bj->b", dtype="i2").form.multiplies_first
    assert not several("bij,bjk->bik", dtype="i1").form.multiplies_first


def test_the_matrices_of_one_operand_may_be_the_same():
    form = several("bij,jk->bik").form
    assert form.access[1][0] == 0
    assert form.group == max(2 * isa.host().vector_bytes // 9, 1)


@pytest.mark.parametrize(
    ("equation", "batch", "size", "dtype"),
    [
        ("bij,bjk->bik", 100, 3, "f4"),  # wide enough to fill vectors by rows
        ("bij,bjk->bik", 9, 3, "i1"),  # too few
        ("bijk,bk->bij", 100, 6, "i1"),  # one matrix fills several vectors
        ("ijb,jkb->ikb", 100, 3, "i1"),  # the batch comes last
        ("abi,abi->ab", 100, 3, "O"),
        ("bi->i", 100, 3, "i1"),  # the batch is summed
    ],
)
def test_what_is_not_grouped(equation, batch, size, dtype):
    assert several(equation, batch, size, dtype) is None
    assert NARROW == 2


@pytest.mark.parametrize("dtype", ["i1", "?"])
def test_large_matrices_of_several_sizes_are_grouped(dtype):
    for i, j, k in ((6, 5, 7), (7, 6, 6), (8, 8, 6)):  # compiled above: lanes are powers of two
        nest = nest_of("bij,bjk->bik", {"b": 100, "i": i, "j": j, "k": k}, dtype)
        assert grouped(nest) is not None
    assert several("bij,bjk->bik", size=7, dtype=dtype) is not None


def test_strided_matrices_are_not_grouped():
    assert several("bij,bji->b").form is not None
    nest = nest_of("bij->bij", {"b": 100, "i": 3, "j": 3}, "i1")
    apart = tuple([tuple([2 * step for step in row]) for row in nest.strides])
    assert grouped(nest.with_output(apart[-1])) is None


def test_shares_are_whole_vectors():
    nest = nest_of("bij,bjk->bik", {"b": 1000, "i": 3, "j": 3, "k": 3}, "i1")
    assert traversal(nest).grain == traversal(nest).form.group


def test_golden(request, monkeypatch):
    monkeypatch.setattr("fastein.cpu.grouped.host", lambda: isa.AVX512)
    source = several("bij,bjk->bik", size=2).form.source()
    check_golden(source, "unrolled/grouped", request)
    source = several("bi,bij,bj->b", size=6).form.source()
    check_golden(source, "unrolled/grouped_products", request)
