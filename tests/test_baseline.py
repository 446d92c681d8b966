"""The ahead-of-time nest: every dtype, every loop, and not a byte written beyond the output."""

import itertools

import numpy as np
import pytest
from helpers import numbers

from fastein import config, einsum, explain

INTEGERS = "bBhHiIlLqQ"
DTYPES = "?" + INTEGERS + "efdgFDG"
CHUNK = 8192  # terms that are added up one after the other
TOLERANCE = {"e": 1e-3, "f": 1e-5, "F": 1e-5}


@pytest.fixture(autouse=True)
def baseline():
    with config(jit="never", num_threads=1):
        yield


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
    """An output cut out of memory full of NaN (every bit set), and that memory."""
    sizes = [n * step + 6 for n in shape]
    count = int(np.prod(sizes)) * np.dtype(dtype).itemsize
    whole = np.full(count, 0xFF, np.uint8)
    array = whole.view(dtype).reshape(sizes, order=order)
    return array[(..., *(slice(3, 3 + n * step, step) for n in shape))], whole


def only_wrote(out, whole):
    """Whether all memory around the output is still full of NaN."""
    out[...] = np.full(out.itemsize, 0xFF, np.uint8).view(out.dtype).reshape(())
    return (whole == 0xFF).all()


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
        return [numbers(dtype, shape, seed) for seed, shape in enumerate(shapes)]
    wide = [numbers(dtype, [2 * n for n in shape], seed) for seed, shape in enumerate(shapes)]
    return [
        x[tuple(slice(None, None, 2) if k % 2 else slice(None, 0, -2) for k in range(x.ndim))]
        for x in wide
    ]


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_every_loop(dtype, step):
    for equation in EQUATIONS:
        operands = operands_of(equation, dtype, step)
        want = reference(equation, *operands)
        for order, gap in (("C", 1), ("F", 1), ("C", 2)):
            out, whole = guarded(want.shape, dtype, order, gap)
            assert einsum(equation, *operands, out=out, optimize=False) is out
            check(out, want, 1000)
            assert only_wrote(out, whole), equation


# The two innermost loops: sums, rows and maps, without and with a summed loop around them
PAIRS = [
    "ij->i",
    "ij->j",
    "ij->",
    "ij->ji",
    "hij->i",
    "hij->j",
    "hij->ji",
    "ij,j->i",
    "j,ij->i",
    "ij,i->j",
    "ij,ij->",
    "ij,ij->i",
    "ij,ij->j",
    "ij,ji->",
    "i,j->ij",
    "hi,hj->ij",
    "hij,hj->i",
    "hij,hi->j",
    "hij,hij->i",
    "hij,hij->j",
    "hij,hji->",
    "ij,i,j->ij",
    "ij,ij,j->i",
    "ij,i,j->",
    "hij,hi,j->j",
    "hij,hij,hj->ji",
    "hi,hj,j->ij",
    "hij,hi,j,ij->i",
    "ij,ij,j,i->",
    "ij,j,ij,ij->i",
    "hj,hi,j->ij",
    "j,hi,hj->ij",
    "jh,jh,jh->jh",
    "jhi,jhi,jh->ji",
    "j,j,j->",
    "ij,ij,ij->",
    "ij,i,i->",
    "j,ij,j->i",
]
LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_two_innermost_loops(dtype, layout):
    for equation in PAIRS:
        terms = equation.split("->")[0].split(",")
        for rows, columns in ((2, 9), (3, 5), (4, 33), (7, 70), (9, 2)):
            sizes = {"h": 2, "i": rows, "j": columns}
            operands = [
                LAYOUTS[layout](numbers(dtype, [sizes[x] for x in term], seed))
                for seed, term in enumerate(terms)
            ]
            want = reference(equation, *operands)
            for order, gap in (("C", 1), ("F", 1), ("C", 2)):
                out, whole = guarded(want.shape, dtype, order, gap)
                einsum(equation, *operands, out=out, optimize=False)
                check(out, want, 2000)
                assert only_wrote(out, whole), (equation, sizes)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_rows_of_three_operands(dtype, layout):
    # lengths around those from which sums go block by block, and what stands still fills a room
    for equation in ("ij,i,j->ij", "ij,j,j->ij", "ij,ij,j->i", "ij,ij,ij->", "j,j,j->"):
        terms = equation.split("->")[0].split(",")
        for rows, columns in ((2, 47), (3, 48), (2, 255), (1, 256), (2, 1537), (3072, 2)):
            sizes = {"i": rows, "j": columns}
            operands = [
                LAYOUTS[layout](numbers(dtype, [sizes[x] for x in term], seed))
                for seed, term in enumerate(terms)
            ]
            want = reference(equation, *operands)
            out, whole = guarded(want.shape, dtype)
            einsum(equation, *operands, out=out, optimize=False)
            check(out, want, 50_000)
            assert only_wrote(out, whole), (equation, sizes)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_short_rows_one_after_another(dtype, layout):
    for equation in ("i,j->ij", "j,i->ij", "ij,j->ij", "j,ij->ij", "hi,hj->hij", "hij,hj->hij"):
        terms = equation.split("->")[0].split(",")
        for rows, columns in ((1, 4), (2, 2), (3, 16), (5, 7), (17, 3), (9, 9), (6, 17)):
            sizes = {"h": 2, "i": rows, "j": columns}
            operands = [
                LAYOUTS[layout](numbers(dtype, [sizes[x] for x in term], seed))
                for seed, term in enumerate(terms)
            ]
            want = reference(equation, *operands)
            whole = np.full((want.size + 128) * want.itemsize, 0xFF, np.uint8)
            for order in "CF":
                out = whole.view(dtype)[64:-64].reshape(want.shape, order=order)
                einsum(equation, *operands, out=out, optimize=False)
                check(out, want, 100)
                assert only_wrote(out, whole), (equation, sizes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [2, 511, 512, 513, 1030])
def test_a_strided_row_that_all_rows_share(dtype, columns):
    sizes = {"h": 2, "i": 5, "j": columns, "k": 2}
    for equation in ("i,j->ij", "j,i->ij", "hi,hj->hij", "ki,kj->ij"):
        terms = equation.split("->")[0].split(",")
        operands = [
            LAYOUTS["strided"](numbers(dtype, [sizes[x] for x in term], seed))
            for seed, term in enumerate(terms)
        ]
        want = reference(equation, *operands)
        for order in "CF":
            out, whole = guarded(want.shape, dtype, order)
            einsum(equation, *operands, out=out, optimize=False)
            check(out, want, 100)
            assert only_wrote(out, whole), (equation, order)


@pytest.mark.parametrize("dtype", DTYPES)
def test_short_rows_of_inputs_that_stand_still(dtype):
    shape = 6, 5
    matrix, row, column = (numbers(dtype, n, k) for k, n in enumerate([shape, 5, (6, 1)]))
    inputs = [matrix, *(np.broadcast_to(x, shape) for x in (row, column, row[0]))]
    for x, y in itertools.product(inputs, repeat=2):
        want = reference("ij,ij->ij", x, y)
        whole = np.full((want.size + 128) * want.itemsize, 0xFF, np.uint8)
        out = whole.view(dtype)[64:-64].reshape(shape)
        einsum("ij,ij->ij", x, y, out=out, optimize=False)
        check(out, want, 100)
        assert only_wrote(out, whole)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["?", "b", "q", "f", "d", "D", "g"])
@pytest.mark.parametrize("length", [63, 64, 255, 256, 1024, 1025])
def test_rows_at_the_limits_of_short(dtype, layout, length):
    matrix, vector = numbers(dtype, (6, length)), numbers(dtype, length, 1)
    matrix, vector = LAYOUTS[layout](matrix), LAYOUTS[layout](vector)
    for equation, operands in (("ij->i", (matrix,)), ("ij,j->i", (matrix, vector))):
        check(einsum(equation, *operands), reference(equation, *operands), 10 * length)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
def test_sums_in_chunks(dtype, count):
    x, y = numbers(dtype, count), numbers(dtype, (2, count), 1)
    tall = numbers(dtype, (count, 2), 2)
    for equation, operands in (
        ("i->", (x,)),
        ("i,i->", (x, y[1])),
        ("i,i->", (x[::-1], tall[:, 1])),
        ("ai->a", (y,)),
        ("ai,i->a", (y, x)),
        ("i,i,i->", (x, y[0], tall[:, 0])),
    ):
        want = reference(equation, *operands)
        out, whole = guarded(want.shape, dtype)
        einsum(equation, *operands, out=out, optimize=False)
        check(out, want, 50 * count**0.5)
        assert only_wrote(out, whole)


def test_chunks_add_up_pairwise_enough():
    x = np.full(10**6, 0.1, "f4")
    assert abs(einsum("i->", x) - 1e5) < 30  # one long sum would be off by about 1000


def test_float16_accumulates_in_float32():
    ones = np.ones((4096, 3), "e")
    np.testing.assert_array_equal(einsum("ij->j", ones), [4096] * 3)
    np.testing.assert_array_equal(einsum("ij->i", ones.T.copy()), [4096] * 3)
    assert einsum("ij->", ones) == 12288
    cube = np.ones((40, 50, 3), "e")
    np.testing.assert_array_equal(einsum("ijk->k", cube), [2000] * 3)
    np.testing.assert_array_equal(einsum("ijk,ijk->k", cube, cube), [2000] * 3)
    long = np.ones(3 * CHUNK, "e")
    assert einsum("i,->", long, np.float16(0.125)) == 3 * CHUNK / 8


@pytest.mark.parametrize("equation", ["i->i", "i,->i"])
def test_every_float16_survives(equation):
    every = np.arange(2**16, dtype=np.uint16).view("e")
    operands = (every, np.ones((), "e"))[: 1 + equation.count(",")]
    with np.errstate(invalid="ignore"):
        got = einsum(equation, *operands, out=np.empty(2**16, "e"))
    np.testing.assert_array_equal(got, every)  # NaN equals NaN here


def test_float16_rounds_to_nearest_even():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 2**16, (2, 50000), np.uint16).view("e")
    with np.errstate(all="ignore"):
        want = (a.astype("f4") * b.astype("f4")).astype("e")
    np.testing.assert_array_equal(einsum("i,i->i", a, b), want)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap(dtype):
    info = np.iinfo(dtype)
    extremes = np.array([info.min, info.max, info.max // 2 + 1, 1, info.max - 1], dtype)
    bits = np.dtype(dtype).itemsize * 8

    def wrapped(value):
        value %= 2**bits
        return value - 2**bits if value > info.max else value

    exact = [int(x) for x in extremes]
    with np.errstate(all="raise"):
        products = einsum("i,j->ij", extremes, extremes)
        assert int(einsum("i->", extremes)) == wrapped(sum(exact))
        assert int(einsum("i,i,i->", *[extremes] * 3)) == wrapped(sum(x**3 for x in exact))
    assert products.tolist() == [[wrapped(x * y) for y in exact] for x in exact]


EQUATIONS_OF_BOOL = ["i->i", "i->", "ij->j", "ij->i", "i,i->", "i,i->i", "ij,jk->ik", "i,i,i->i"]


@pytest.mark.parametrize("equation", EQUATIONS_OF_BOOL)
def test_bool_with_other_bytes_than_0_and_1(equation):
    terms, right = equation.split("->")
    sizes = {"i": 16, "j": 17, "k": 18}
    rng = np.random.default_rng(5)
    operands = []
    for term in terms.split(","):
        array = rng.choice(np.array([0, 1, 2, 4, 128, 255], np.uint8), [sizes[x] for x in term])
        operands.append(array.view(bool))
    want = np.einsum(equation, *[x.view(np.uint8) != 0 for x in operands])
    out = np.empty([sizes[x] for x in right], bool)
    einsum(equation, *operands, out=out)
    np.testing.assert_array_equal(out.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("dtype", ["d", "g", "D"])
@pytest.mark.parametrize("count", range(3, 17))
def test_products_go_from_left_to_right(count, dtype):
    huge, tiny = [
        np.array(x, "g") for x in (("1e200", "1e-300"), ("1e3000", "1e-4500"))[dtype == "g"]
    ]
    for first in range(count - 2):
        for last in range(first + 2, count):
            factors = [np.ones((2, 9), dtype)[:, ::2]] * count  # two loops
            factors[first] = factors[first + 1] = np.full((2, 9), huge, dtype)[:, ::2]
            factors[last] = np.full((2, 9), tiny, dtype)[:, ::2]
            for operands in (factors, [factors[0], *[x[0, 0] for x in factors[1:]]]):
                term = ",".join("hi" if np.ndim(x) else "" for x in operands)
                for right in ("hi", "i", "h", ""):
                    got = einsum(f"{term}->{right}", *operands, optimize=False)
                    assert not np.isfinite(got).any(), (first, last)


def test_complex_products_are_naive():
    got = einsum("i,i->i", np.array([complex(np.inf, 0)]), np.array([1 + 0j]))
    assert np.isinf(got.real[0])
    assert np.isnan(got.imag[0])


def test_nothing_is_skipped_and_nothing_read_from_the_output():
    zero, bad = np.zeros(4), np.array([np.nan, np.inf, 1, 2])
    got = einsum("i,j->ij", zero, bad)
    np.testing.assert_array_equal(np.isnan(got), np.tile([True, True, False, False], (4, 1)))
    for equation in ("ij->j", "ij->i", "ij,ik->jk", "ijk->j"):
        shapes = [(3,) * len(term) for term in equation.split("->")[0].split(",")]
        out = np.full((3,) * len(equation.split("->")[1]), np.nan)
        assert np.isfinite(einsum(equation, *map(np.ones, shapes), out=out)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_deep_odometers(dtype):
    wide = numbers(dtype, (3,) * 9)[::2, :, ::2, :, ::2, :, ::2]
    equation = "abcdefghi->bdfa"
    check(einsum(equation, wide), reference(equation, wide), 500)
    assert "nest: " in explain(equation, wide)


def test_conversions_do_not_raise():
    huge = np.full((2, 2), 1e300)
    signalling = np.full((2, 2), 0x7FA00000, "u4").view("f4")
    swapped = np.ones((2, 2), "i4").astype(">i4")
    with np.errstate(all="raise"):
        got = einsum("ij,jk->ik", huge, huge, dtype="f4", casting="same_kind")
        assert np.isinf(got).all()
        assert np.isnan(einsum("ij,jk->ik", signalling, signalling, dtype="f8")).all()
        assert np.isnan(einsum("ij,jk->ik", signalling, huge / 1e300)).all()
        assert np.array_equal(einsum("ij,jk->ik", swapped, huge / 1e300), np.full((2, 2), 2.0))
