"""Kernels with unrolled loops: against NumPy, and what makes two of them one."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import check_golden
from test_schedule import nest_of

from fastein import config, einsum
from fastein.cpu import isa
from fastein.cpu.unrolled import MOST_TERMS, SMALL, unrolled

RNG = np.random.default_rng(3)

EQUATIONS = [
    "bij,bjk->bik",
    "bij,bkj->bik",
    "bji,bjk->bik",
    "ijb,jkb->ikb",
    "bij,bj->bi",
    "bij,bi->bj",
    "ijb,jb->ib",
    "bi,bij,bj->b",
    "ib,ijb,jb->b",
    "bi,bj->bij",
    "bi,bi->b",
    "bii->b",
    "bij->bj",
    "bij->bi",
    "bij,j->bi",
    "bi,i->bi",
    "eij,ejk,ekl->eil",
    "ijk,bi,bj->bk",
    "abij,abjk->abik",
    "abij,bjk->abik",
    "bij,bij->bij",
]
DTYPES = ["f4", "f8", "e", "F", "D", "?", "i1", "u2", "i4", "i8"]


def small_nest(equation, batch=40, size=3, dtype="f8"):
    sizes = {x: batch if x in "abe" else size for x in equation if x.isalpha()}
    return unrolled(nest_of(equation, sizes, dtype))


def values(shape, dtype):
    a = RNG.integers(0, 4, shape)
    if np.dtype(dtype).kind == "c":
        return (a + 1j * RNG.integers(0, 4, shape)).astype(dtype)
    return (a > 1) if dtype == "?" else a.astype(dtype)


def arrays_for(equation, dtype, size, batch, layout):
    for term in equation.split("->")[0].split(","):
        shape = tuple(batch if x in "abe" else size for x in term)
        a = values(shape, dtype)
        if layout == "F":
            a = np.asfortranarray(a)
        elif layout == "strided":
            wide = np.zeros((*shape[:-1], 2 * shape[-1]), a.dtype)
            wide[..., ::2] = a
            a = wide[..., ::2]
        elif layout == "reversed":
            a = a[::-1].copy()[::-1]
        yield a


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed"])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_against_numpy(equation, layout):
    for dtype in DTYPES if layout == "C" else ["f8", "F"]:
        arrays = list(arrays_for(equation, dtype, 3, 67, layout))
        wanted = np.einsum(equation, *arrays)
        with config(jit="always"):
            np.testing.assert_array_equal(einsum(equation, *arrays, optimize=False), wanted)


@pytest.mark.parametrize("size", range(2, SMALL + 1))
def test_every_small_size(size):
    for equation in ("bij,bjk->bik", "ijb,jkb->ikb", "bij,bj->bi"):
        x, y = arrays_for(equation, "f8", size, 33, "C")
        with config(jit="always"):
            np.testing.assert_array_equal(einsum(equation, x, y), np.einsum(equation, x, y))


def test_nothing_is_written_around_the_output():
    for equation in ("bij,bjk->bik", "ijb,jkb->ikb", "bij,bj->bi"):
        arrays = list(arrays_for(equation, "f4", 3, 37, "C"))
        want = np.einsum(equation, *arrays)
        memory = np.full(want.size + 32, 77, "f4")
        out = memory[16:-16].reshape(want.shape)
        with config(jit="always"):
            einsum(equation, *arrays, out=out)
        np.testing.assert_array_equal(out, want)
        assert (memory[:16] == 77).all()
        assert (memory[-16:] == 77).all()


@pytest.mark.parametrize("shape", [(40, 3, 50), (40, 50, 3)])
def test_where_no_operand_moves_there_are_no_vectors(shape):
    """Along the batch, or along rows: what is written by vectors would be read as one element."""
    array = np.broadcast_to(values((40, 1, 1), "f8"), shape)
    for equation in ("ijk->jik", "ijk->ij", "ijk,ijk->kij"):
        operands = [array] * equation.partition("->")[0].count("i")
        want = np.einsum(equation, *operands)
        with config(jit="always"):
            got = einsum(equation, *operands, out=np.empty(want.shape))
        np.testing.assert_array_equal(got, want)


def test_where_vectors_lie():
    assert small_nest("ijb,jkb->ikb").form.by_batch
    rows = small_nest("bij,bjk->bik").form
    assert not rows.by_batch
    assert rows.lanes == 3
    assert small_nest("bij,bj->bi").form.lanes == 1


def test_vectors_follow_the_instruction_set(monkeypatch):
    monkeypatch.setattr("fastein.cpu.unrolled.host", lambda: isa.AVX2)
    assert small_nest("ijb,jb->ib").form.lanes == 4
    assert small_nest("ijb,jb->ib", dtype="i1").form.lanes == 32
    assert small_nest("ijb,jb->ib", dtype="e").form.lanes == 8


def test_all_batches_and_cut_out_ones_share_a_kernel():
    first = small_nest("bij,bjk->bik", batch=100)
    assert first.form == small_nest("xij,xjk->xik".replace("x", "b"), batch=7000).form
    assert first.form != small_nest("bij,bjk->bik", size=4).form
    lasts = {small_nest("ijb,jkb->ikb", batch=n).form for n in (100, 101, 4096)}
    assert len(lasts) == 1


@pytest.mark.parametrize(
    ("equation", "batch", "size"),
    [
        ("bij,bjk->bik", 9, 3),  # too few to be worth a kernel of their own
        ("bij,bjk->bik", 40, SMALL + 1),
        ("bi->i", 4000, 3),  # the large loop is summed
        ("b,b->b", 4000, 3),
    ],
)
def test_what_is_not_unrolled(equation, batch, size):
    assert small_nest(equation, batch, size) is None


def test_bodies_are_bounded():
    assert small_nest("bij,bkl->bikjl", size=SMALL) is None
    assert SMALL**4 * 2 // SMALL > MOST_TERMS


@pytest.mark.parametrize(
    ("name", "equation"),
    [
        ("unrolled_rows", "bij,bjk->bik"),
        ("unrolled_batch", "ijb,jb->ib"),
        ("unrolled_scalars", "bi,bij,bj->b"),
    ],
)
def test_golden(name, equation, request, monkeypatch):
    monkeypatch.setattr("fastein.cpu.unrolled.host", lambda: isa.AVX512)
    source = small_nest(equation, size=2).form.source()
    check_golden(source, f"unrolled/{name}", request)
