"""The ahead-of-time nest: every dtype, every loop, and not a byte written beyond the output."""

import numpy as np
import pytest

from fastein import config, einsum, explain

INTEGERS = "bBhHiIlLqQ"
DTYPES = "?" + INTEGERS + "efdgFDG"
CHUNK = 8192  # terms that are added up one after the other
TOLERANCE = {"e": 1e-3, "f": 1e-5, "F": 1e-5}


@pytest.fixture(autouse=True)
def baseline():
    with config(jit="never", num_threads=1):
        yield


def values(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.3
    if kind.kind in "iu":
        count = int(np.prod(shape)) * kind.itemsize
        return rng.integers(0, 256, count, np.uint8).view(kind).reshape(shape)
    array = rng.standard_normal(shape).astype(kind)
    if kind.kind == "c":
        array.imag = rng.standard_normal(shape)
    elif dtype == "g":
        array += np.longdouble(2) ** -60  # more digits than a float64 has
    return array


def reference(equation, *arrays):
    """The answer of NumPy, float16 summed in float64 and rounded once."""
    dtype = arrays[0].dtype
    wide = [x.astype("d") for x in arrays] if dtype.char == "e" else arrays
    return np.asarray(np.einsum(equation, *wide)).astype(dtype)


def check(got, want, terms=1):
    """Assert equality, up to rounding where the order of a sum is free."""
    assert got.dtype == want.dtype
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
    else:
        eps = np.finfo(want.dtype).eps
        np.testing.assert_allclose(got, want, rtol=0, atol=float(8 * eps * terms))


def guarded(shape, dtype, order="C", step=1):
    """An output cut out of poisoned memory, and that memory."""
    whole = np.empty([n * step + 6 for n in shape], dtype, order)
    whole.reshape(-1, order="A").view(np.uint8)[:] = 0xFF  # NaN in every floating-point dtype
    return whole[tuple(slice(3, 3 + n * step, step) for n in shape)], whole


# operands, output and kind of innermost loop: dot, map, axpy, odometers of up to three outer loops
EQUATIONS = [
    "i->i",
    "i->",
    "ij->i",
    "ij->j",
    "ij->ji",
    "ijk->j",
    "ijk->ki",
    "ijkl->jl",
    "ijkl->ki",
    "i,i->",
    "i,i->i",
    "i,j->ij",
    "i,j->ji",
    "ij,j->i",
    "ij,i->j",
    "ij,jk->ik",
    "ij,kj->ik",
    "ij,jk->ki",
    "ijk,kl->ijl",
    "ijk,jil->kl",
    "ijkl,klm->mij",
    "ijk,ijk->",
    "ii,ij->j",
    "i,i,i->i",
    "i,i,i->",
    "ij,jk,ki->",
    "ij,jk,ki->ik",
    "i,j,k->kji",
    "ij,ik,il->jkl",
]
SIZES = {"i": 5, "j": 3, "k": 4, "l": 2, "m": 3}


def operands_of(equation, dtype, step=1):
    terms = equation.split("->")[0].split(",")
    shapes = [[SIZES[x] for x in term] for term in terms]
    if step == 1:
        return [values(dtype, shape, seed) for seed, shape in enumerate(shapes)]
    wide = [values(dtype, [2 * n for n in shape], seed) for seed, shape in enumerate(shapes)]
    return [
        x[tuple(slice(None, None, 2) if k % 2 else slice(None, 0, -2) for k in range(x.ndim))]
        for x in wide
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", [1, 2])
def test_every_dtype_in_every_loop(dtype, step):
    for equation in EQUATIONS:
        operands = operands_of(equation, dtype, step)
        want = reference(equation, *operands)
        check(np.asarray(einsum(equation, *operands, optimize=False)), want, 3000)
        for order, gap in (("C", 1), ("F", 1), ("C", 2)):
            out, whole = guarded(want.shape, dtype, order, gap)
            assert einsum(equation, *operands, out=out, optimize=False) is out
            check(out, want, 3000)
            out.view(np.uint8 if out.ndim == 0 else dtype)[...] = 0
            rest = whole.copy()
            rest[tuple(slice(3, 3 + n * gap, gap) for n in want.shape)] = np.nan if (
                want.dtype.kind in "fc"
            ) else 1
            if want.dtype.kind in "fc":
                assert np.isnan(rest).all(), equation
            elif dtype != "?":
                ones = np.zeros(1, dtype) - np.ones(1, dtype)  # every bit set
                outside = np.ones(whole.shape, bool)
                outside[tuple(slice(3, 3 + n * gap, gap) for n in want.shape)] = False
                assert (whole[outside] == ones).all(), equation
