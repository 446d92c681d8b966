"""Products of matrices through NumPy's matmul: every transposition, stride and grouping."""

import itertools

import numpy as np
import pytest

from fastein import config, einsum, explain
from fastein._nest import build
from fastein.cpu.axis_roles import roles
from fastein.cpu.gemm import Multiply, matrix_layouts
from fastein.cpu.schedule import Schedule, matrix_axes

RNG = np.random.default_rng(7)
SIZES = {"b": 2, "c": 3, "i": 4, "j": 5, "k": 6, "l": 7, "m": 3, "n": 2}


def arranged(term, memory, step=1, flip=False, dtype="f8"):
    """A random array with axes `term` that lie in memory in the order of `memory`."""
    sizes = [SIZES[x] * step for x in memory]
    whole = RNG.standard_normal(sizes).astype(dtype)
    if np.dtype(dtype).kind == "c":
        whole.imag = RNG.standard_normal(sizes)
    array = whole[(slice(None, None, step),) * len(memory)]
    array = array.transpose([memory.index(x) for x in term])
    return array[::-1] if flip and array.ndim else array


def matmul_schedule(equation, a, b, out):
    """The schedule that uses matmul whatever it costs."""
    left, right = equation.split("->")
    first, second = left.split(",")
    letters = "".join(dict.fromkeys(first + second))
    terms = [tuple(map(letters.index, t)) for t in (first, second, right)]
    nest = build(
        a.dtype,
        tuple(SIZES[x] for x in letters),
        ((terms[0], a.shape, a.strides), (terms[1], b.shape, b.strides)),
        terms[2],
        out.strides,
    )
    return Schedule("matmul", nest, 1.0, False, matrix_axes(nest, roles(nest)))


def at(array, layout):
    """The memory of an array as a layout sees it."""
    return np.lib.stride_tricks.as_strided(array, layout.shape, layout.strides)


def multiplied(equation, a, b, out):
    chosen = matmul_schedule(equation, a, b, out)
    layouts = matrix_layouts(chosen)
    multiply = Multiply(chosen)
    views = [at(x, layout) for x, layout in zip((a, b, out), layouts, strict=True)]
    multiply(*views)
    return multiply


def check(equation, a, b, out):
    out[...] = np.nan
    multiply = multiplied(equation, a, b, out)
    np.testing.assert_allclose(out, np.einsum(equation, a, b), rtol=1e-5, atol=1e-5)
    return multiply


ORDERS = list(itertools.product(("ij", "ji"), ("jk", "kj"), ("ik", "ki")))


@pytest.mark.parametrize("dtype", "fdFD")
def test_every_transposition(dtype):
    for first, second, third in ORDERS:
        a, b = arranged("ij", first, dtype=dtype), arranged("jk", second, dtype=dtype)
        assert check("ij,jk->ik", a, b, arranged("ik", third, dtype=dtype)).direct


@pytest.mark.parametrize(("step", "flip"), [(2, False), (1, True), (3, True)])
@pytest.mark.parametrize("which", range(3))
def test_every_operand_strided_or_reversed(step, flip, which):
    for orders in ORDERS:
        a, b, out = (
            arranged(term, order, step if k == which else 1, flip and k == which)
            for k, (term, order) in enumerate(zip(("ij", "jk", "ik"), orders, strict=True))
        )
        check("ij,jk->ik", a, b, out)


def test_a_result_that_blas_cannot_write_is_copied():
    out = arranged("ik", "ik", step=2)
    assert not check("ij,jk->ik", arranged("ij", "ij"), arranged("jk", "kj"), out).direct


def test_writing_a_strided_result_touches_nothing_else():
    whole = np.full((SIZES["i"] * 2, SIZES["k"] * 2), -1.0)
    check("ij,jk->ik", arranged("ij", "ij"), arranged("jk", "jk"), whole[::2, ::2])
    assert (whole[1::2] == -1).all()
    assert (whole[:, 1::2] == -1).all()
    gaps = np.full((SIZES["i"], SIZES["k"] + 3), -1.0)
    assert check("ij,jk->ik", arranged("ij", "ij"), arranged("jk", "jk"), gaps[:, :-3]).direct
    assert (gaps[:, -3:] == -1).all()


GROUPED = [
    "bij,bjk->bik",
    "bcij,bcjk->bcik",
    "bij,bjk->ibk",
    "ibj,jbk->kbi",
    "imj,jkn->imkn",
    "ijm,mjk->ik",
    "bimj,bjkn->bmink",
    "imj,jkn->nkmi",
    "jlm,mlk->jk",
    "ibmj,knbj->bimkn",
]


@pytest.mark.parametrize("equation", GROUPED)
def test_batches_and_groups_in_every_memory_order(equation):
    left, right = equation.split("->")
    terms = [*left.split(","), right]
    for turn in range(6):
        orders = ["".join(np.random.default_rng(turn).permutation(list(t))) for t in terms]
        check(equation, *[arranged(t, o) for t, o in zip(terms, orders, strict=True)])


@pytest.mark.parametrize("equation", GROUPED)
@pytest.mark.parametrize("which", range(3))
def test_batches_and_groups_with_one_operand_sliced(equation, which):
    left, right = equation.split("->")
    terms = [*left.split(","), right]
    check(equation, *[arranged(t, t, 2 if k == which else 1) for k, t in enumerate(terms)])


def test_the_layouts_are_batch_rows_columns():
    a, b, out = arranged("bij", "bij"), arranged("bjk", "bjk"), arranged("bik", "bik")
    first, second, third = matrix_layouts(matmul_schedule("bij,bjk->bik", a, b, out))
    assert (first.shape, first.strides) == (a.shape, a.strides)
    assert (second.shape, second.strides) == (b.shape, b.strides)
    assert (third.shape, third.strides) == (out.shape, out.strides)


@pytest.mark.parametrize("order", ["C", "F", "K"])
@pytest.mark.parametrize("equation", ["ij,jk->ki", "ij,kj->ik", "bij,bkj->kbi"])
def test_whole_calls_that_take_this_way(equation, order):
    sizes = {"b": 3, "i": 60, "j": 70, "k": 80}
    a, b = (RNG.standard_normal([sizes[x] for x in t]) for t in equation.split("->")[0].split(","))
    want = np.einsum(equation, a, b, order=order)
    with config(jit="never"):
        assert "matmul: " in explain(equation, a, b)
        got = einsum(equation, a, b, order=order)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        assert got.strides == want.strides
        out = np.full((2 * want.shape[0], *want.shape[1:]), np.nan)
        einsum(equation, a, b, out=out[::-2])
        np.testing.assert_allclose(out[::-2], want, rtol=1e-12, atol=1e-12)
        assert np.isnan(out[::2]).all()


@pytest.mark.filterwarnings("error")
def test_no_warnings_as_from_matmul():
    a = np.full((70, 70), 1e200)
    with np.errstate(all="raise"):
        assert np.isinf(einsum("ij,jk->ik", a, a)).all()
        a[0, 0] = np.inf
        assert np.isnan(einsum("ij,jk->ik", a, np.zeros((70, 70)))[0]).all()


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("factor", [np.inf, complex(np.inf, 0), complex(0, -np.inf)])
def test_infinite_complex_factors_follow_the_naive_formula(dtype, factor):
    x, ones = np.full((30, 30), factor, dtype), np.ones((30, 30), dtype)
    with config(jit="never"), np.errstate(all="ignore"):
        assert "matmul" in explain("ij,jk->ik", x, ones)
        np.testing.assert_array_equal(einsum("ij,jk->ik", x, ones), np.einsum("ij,jk->ik", x, ones))
