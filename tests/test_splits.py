"""Long sums of small results, which threads share part by part."""

import helpers
import numpy as np
import pytest
from test_contraction import DTYPES, FLOATS, check, laid_out, plan_of, run

from fastein import config, einsum, explain
from fastein.cpu.blocking import Blocks
from fastein.cpu.contraction import PARTS

LONG = {"float16": 5000, "bool": 100_003, "int8": 20_011, "uint8": 20_011}  # 5,003 for others


@pytest.fixture(autouse=True)
def compiled():
    with config(jit="always", num_threads=2):
        yield


def numbers(dtype, shape, seed=0):
    return helpers.numbers(dtype, shape, seed, true=0.002)


def operands(equation, dtype, **sizes):
    terms = equation.split("->")[0].split(",")
    return [numbers(dtype, tuple(sizes[x] for x in term), k) for k, term in enumerate(terms)]


def splits(equation, *operands):
    return "the sum in " in explain(equation, *operands)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("equation", ["ki,kj->ij", "ik,jk->ij", "ik,kj->ji", "ki,jk->ij"])
def test_products_of_long_vectors(dtype, equation):
    for i, j in ((2, 3), (13, 17), (8, 48), (53, 31)):
        a, b = operands(equation, dtype, i=i, j=j, k=LONG.get(dtype, 5003))
        if j > 8:  # fewer may be a nest
            assert splits(equation, a, b) == (dtype != "float16")
        check(equation, a, b)


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "int16"])
@pytest.mark.parametrize(
    ("equation", "sizes"),
    [
        ("bki,bkj->bij", {"b": 3, "i": 19, "j": 11, "k": 4001}),
        ("bki,bkj->ijb", {"b": 3, "i": 19, "j": 11, "k": 4001}),
        ("akbi,jbka->ij", {"a": 7, "b": 23, "i": 5, "j": 29, "k": 31}),
        ("iak,jka->ij", {"a": 68, "i": 13, "j": 29, "k": 73}),  # the sums lie along different axes
        ("kabi,kcj->abcij", {"a": 2, "b": 3, "c": 5, "i": 7, "j": 3, "k": 3301}),
    ],
)
def test_many_axes(dtype, equation, sizes):
    a, b = operands(equation, dtype, **sizes)
    assert splits(equation, a, b)
    check(equation, a, b)


@pytest.mark.parametrize("how", ["C", "F", "sliced", "reversed", "misaligned"])
def test_only_out_is_written(how):
    a, b = operands("ki,kj->ij", "float64", i=23, j=37, k=3001)
    room = np.full((29, 97), np.nan)
    for out in (room[3:26, 5:42], room[3:26, 1:75:2], room[25:2:-1, 41:4:-1]):
        check("ki,kj->ij", laid_out(a, how), laid_out(b, how), out=out)
        out[...] = np.nan
        assert np.isnan(room).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_number_of_threads_changes_no_bit(dtype):
    a, b = operands("ki,kj->ij", dtype, i=37, j=29, k=20_011)
    results = []
    for threads in (1, 2, 3, 7):
        with config(num_threads=threads):
            results.append(einsum("ki,kj->ij", a, b).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int32", "bool"])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_any_parts(dtype, parts):
    a, b = operands("bki,bkj->bij", dtype, b=2, i=50, j=27, k=33 * 11)
    for threads in (1, 2, 5):
        changes = {"parts": parts, "blocks": Blocks(32, (16, 8)), "packing": ("rows", "rows")}
        got = run("bki,bkj->bij", a, b, threads, **changes)
        want = np.einsum("bki,bkj->bij", a, b)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int64", "uint8"])
@pytest.mark.parametrize("equation", ["ki,kj->ij", "ik,jk->ij"])
def test_an_operand_and_itself(dtype, equation):
    for n in (7, 53):
        a, b = operands(equation, dtype, i=n, j=n, k=LONG.get(dtype, 5003))
        b[...] = a
        assert "half of it" in explain(equation, a, a)
        assert splits(equation, a, a)
        got = einsum(equation, a, a)
        np.testing.assert_array_equal(got, einsum(equation, a, b))


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_go_where_numpy_puts_them(dtype):
    a, b = operands("ki,kj->ij", dtype, i=21, j=19, k=9001)
    a[10, 3], a[5000, 7], b[8999, 2], b[4000, 5] = np.nan, np.inf, -np.inf, np.nan
    with np.errstate(all="ignore"):
        want, got = np.einsum("ki,kj->ij", a, b), einsum("ki,kj->ij", a, b)
    for part in ("real", "imag"):
        for find in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(find(getattr(got, part)), find(getattr(want, part)))


def test_when_the_sum_is_cut():
    sizes = {"i": 30, "j": 20, "k": 1_000_000}
    for threads in (1, 2, 16):
        assert plan_of("ki,kj->ij", sizes, threads).parts == PARTS
    assert plan_of("ki,kj->ij", sizes | {"k": 700}).parts == 1
    assert plan_of("ki,kj->ij", sizes | {"i": 500, "j": 500}).parts == 1
    assert plan_of("bki,bkj->bij", sizes | {"b": 1000, "k": 9000}).parts == 1
