"""How generated kernels go through nests, and that threads and parts change no bit."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from test_schedule import nest_of

from fastein import config, einsum
from fastein.cpu._machine_code import MachineCode
from fastein.cpu.codegen import CannotCompile, Form
from fastein.cpu.compiler import kernel_of_form
from fastein.cpu.traversal import MOST_PARTS, STREAM_WORK, traversal
from fastein.cpu.unrolled import Unrolled

RNG = np.random.default_rng(7)


def path_of(equation, dtype="f8", **sizes):
    return traversal(nest_of(equation, sizes, dtype))


def loops(path):
    return [
        ("+" if s else ".") + str(n) for n, s in zip(path.nest.sizes, path.nest.summed, strict=True)
    ]


def test_loops_follow_the_strides_whichever_are_summed():
    assert loops(path_of("ijk->j", i=301, j=302, k=303)) == ["+301", ".302", "+303"]
    assert loops(path_of("ijk,ijk->j", i=301, j=302, k=303)) == ["+301", ".302", "+303"]
    assert loops(path_of("ij,i->j", i=2001, j=2002)) == ["+2001", ".2002"]
    assert loops(path_of("ij,ij,j->i", i=2001, j=2002)) == [".2001", "+2002"]


def test_sums_have_partial_results_and_outputs_do_not():
    column_sums = path_of("ij->j", i=4000, j=1000)
    assert 2 <= column_sums.parts <= MOST_PARTS
    assert column_sums.nest.strides[-1] == column_sums.result == (0, 8)
    assert path_of("i,i->", i=10**6).parts == MOST_PARTS
    assert path_of("ij->i", i=2000, j=2000).parts == 0


def test_a_result_as_large_as_the_operand_is_shared_instead():
    path = path_of("ij->j", i=12, j=10**6)
    assert (path.parts, path.form.shared, path.parallel) == (0, 1, True)
    assert path.block


def test_small_nests_stand_as_the_baseline_has_them():
    path = path_of("ijk->j", i=30, j=31, k=32)
    assert path.nest.iterations < STREAM_WORK
    assert (path.parts, path.block, path.parallel) == (0, 0, True)


def test_float16_is_summed_in_float32_wherever_its_sums_stand():
    assert path_of("ij->j", "e", i=4000, j=1000).form.wide
    assert not path_of("ij->i", "e", i=4000, j=1000).form.wide
    assert path_of("ij->j", "e", i=12, j=10**6).form.wide
    assert path_of("ijk->ik", "e", i=100, j=100, k=100).form.wide
    assert path_of("ij,ij->ij", "e", i=1000, j=1000).form.written == "float16"


@pytest.mark.parametrize("dtype", ["g", "G"])
def test_what_has_no_kernel(dtype):
    with pytest.raises(CannotCompile):
        path_of("ij->i", dtype, i=1000, j=1000)


def test_short_rows_are_one_stream_and_long_ones_share_a_pass():
    short = path_of("bij,bj->bi", b=500, i=200, j=200).form
    long = path_of("ij,j->i", i=6000, j=6000).form
    assert (short.jammed, long.jammed) == (None, 0)
    assert path_of("ij,jk->ik", i=200, j=200, k=200).form.jammed is not None


EQUATIONS = {
    "ij->j": (4001, 333),
    "ij->i": (333, 4001),
    "ij->": (1003, 997),
    "ijk->j": (101, 77, 103),
    "ijk->ik": (101, 77, 103),
    "ji->j": (70, 20_001),
    "iij->j": (301, 303),
    "ij,i->j": (1201, 703),
    "ij,j->i": (703, 4201),
    "ij,ij,j->i": (703, 1201),
    "ij,i,j->ij": (703, 1201),
    "ijk,ijk->j": (101, 77, 103),
    "abcd,abcd->ad": (23, 31, 37, 29),
    "bij,bi->bj": (51, 101, 103),
    "xyz,xyz,z->xy": (101, 77, 103),
    "i,i->": (700_001,),
    "i,j->ij": (701, 1009),
}


def operands(equation, shape, dtype):
    left = equation.split("->")[0].split(",")
    letters = sorted(set("".join(left)))
    sizes = dict(zip(letters, shape, strict=True))
    if left == ["iij"]:
        sizes["i"], sizes["j"] = shape
    for term in left:
        a = RNG.integers(-4, 5, tuple(sizes[x] for x in term))
        if np.dtype(dtype).kind == "c":
            a = a + 1j * RNG.integers(-4, 5, a.shape)
        elif np.dtype(dtype).kind in "bu":
            a = abs(a) > 3 if dtype == "?" else abs(a)
        yield a.astype(dtype)


@pytest.mark.parametrize("dtype", ["f8", "f4", "e", "D", "i2", "?", "u1", "i8"])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_large_nests_of_every_kind(equation, dtype):
    arrays = list(operands(equation, EQUATIONS[equation], dtype))
    want = np.einsum(equation, *[a.astype("D") for a in arrays], optimize=True)
    if dtype == "?":
        want = want.astype(bool)
    elif np.dtype(dtype).kind in "iu":
        want = want.real.astype("i8").astype(dtype)
    elif dtype in "ef8f4":
        want = want.real.astype(dtype)
    for threads in (1, 2, 3):
        with config(jit="always", num_threads=threads):
            for optimize in (False, "auto"):
                got = einsum(equation, *arrays, optimize=optimize)
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_any_number_of_threads_gives_the_same_bits(equation):
    arrays = [RNG.standard_normal(a.shape) for a in operands(equation, EQUATIONS[equation], "f8")]
    results = set()
    for threads in (1, 2, 3, 5):
        with config(jit="always", num_threads=threads):
            results.add(np.asarray(einsum(equation, *arrays, optimize=False)).tobytes())
    assert len(results) == 1


def test_long_rows_from_memory_are_read_by_blocks():
    blocks = path_of("ij->i", i=500, j=4001).form.block
    assert blocks
    assert blocks == path_of("i,i->", i=10**7).form.block
    assert not path_of("ij->i", i=5000, j=101).form.block  # short
    assert not path_of("ij,j->i", i=6000, j=6000).form.block  # several rows a pass
    assert not path_of("ij->i", "D", i=500, j=4001).form.block  # taken apart
    assert not path_of("i->", i=10**6).form.block  # in the last cache


@pytest.mark.parametrize("dtype", ["f8", "f4", "e", "D", "i2", "?", "u1", "i8"])
@pytest.mark.parametrize("beyond", [1, 31, 67])
def test_blocks_of_odd_lengths_anywhere_in_memory(dtype, beyond):
    kind = np.dtype(dtype)
    n = 5_400_000 // kind.itemsize + beyond
    memory = np.zeros(3 * n * kind.itemsize + 1, "u1")
    a = memory[1:].view(dtype).reshape(3, n)
    a[:, RNG.integers(0, n, 1000)] = 1  # no more than float16 holds
    count = (a != 0).sum(1)
    out = np.full(3, 7, dtype)
    with config(jit="always"):
        rows, products = einsum("ij->i", a, out=out), einsum("ij,ij->", a, a)
    np.testing.assert_array_equal(rows, count.astype(dtype))
    np.testing.assert_array_equal(products, count.sum().astype(dtype))


@pytest.mark.parametrize("dtype", ["f4", "f8", "D"])
def test_long_sums_have_no_larger_errors_than_pairwise_ones(dtype):
    def errors(total, n=3_000_017):
        for seed in range(8):
            a = np.random.default_rng(seed).standard_normal(n).astype(dtype)
            yield abs(complex(total(a)) - complex(a.astype("G").sum())) ** 2

    with config(jit="always"):
        ours, pairwise = (sum(errors(total)) for total in (lambda a: einsum("i->", a), np.sum))
    assert ours <= pairwise


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_from_memory_have_smaller_errors_than_pairwise_ones(dtype):
    n = 20_000_000 // np.dtype(dtype).itemsize + 33

    def errors(total):
        for seed in range(8):
            a = np.random.default_rng(seed).standard_normal(n).astype(dtype)
            yield float(total(a) - a.astype("g").sum()) ** 2

    assert path_of("i->", dtype, i=n).form.block
    with config(jit="always"):
        ours, pairwise = (sum(errors(total)) for total in (lambda a: einsum("i->", a), np.sum))
    assert ours <= 0.8 * pairwise


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_parts_of_a_sum_from_memory_lose_is_kept(dtype):
    """A term that is as large as 2**40 others, there and back."""
    a = np.ones((3, 20_000_000 // np.dtype(dtype).itemsize + 33), dtype)
    a[:, 1000], a[:, -1000] = 2.0**40, -(2.0**40)
    with config(jit="always"):
        rows = einsum("ij->i", a)
    assert np.all(abs(rows - (a.shape[1] - 2)) <= 8)  # what shares a lane of its part with these


@pytest.mark.parametrize("dtype", ["f4", "f8", "D"])
@pytest.mark.parametrize("values", [(np.inf,), (-np.inf,), (np.nan,), (np.inf, -np.inf)])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_infinite_and_undefined_terms_of_long_sums(dtype, values):
    a = np.ones(300_001, dtype)
    a[10_007 : 10_007 + 100_000 * len(values) : 100_000] = values
    with config(jit="always"):
        np.testing.assert_array_equal(einsum("i->", a), a.sum())
        if dtype != "D":  # an infinite number times 0j is undefined
            rows = einsum("ij,j->i", np.stack([a] * 9), np.ones_like(a))
            np.testing.assert_array_equal(rows[3], a.sum())


def test_shapes_share_their_kernels():
    for equation in EQUATIONS:
        if equation == "iij->j":
            continue
        letters = sorted(set(equation) - set("->,"))
        shapes = RNG.integers(9, 20_000 // 10 ** len(letters) + 200, (100, len(letters)))
        forms = {
            path_of(equation, **dict(zip(letters, map(int, n), strict=True))).form for n in shapes
        }
        assert len(forms) <= 8, equation


@pytest.mark.parametrize("jit", ["always", "never"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("equation", ["i->", "ij->i", "ij->j", "i,i->"])
def test_long_sums_are_as_exact_as_pairwise_ones(equation, dtype, jit):
    shape = (3_000_017,) if len(equation.split("->")[0]) < 2 or "," in equation else (3, 1_000_003)
    x = np.random.default_rng(0).random(shape).astype(dtype)  # the same in any order of the tests
    arrays = [x, np.ones_like(x)][: equation.count(",") + 1]
    exact = x.astype("g").sum(axis={"ij->i": 1, "ij->j": 0}.get(equation))
    with config(jit=jit):
        got = einsum(equation, *arrays)
    error = np.max(abs(got - exact) / exact)
    assert error <= 4 * np.finfo(dtype).eps


def test_results_are_written_through_any_strides():
    x = RNG.standard_normal((2000, 300))
    for jit in ("always", "never"):
        with config(jit=jit):
            out = np.full((300, 7), np.nan)
            einsum("ij->j", x, out=out[::-1, 3])
            np.testing.assert_allclose(out[::-1, 3], x.sum(0))
            assert np.isnan(np.delete(out, 3, axis=1)).all()
            half = np.full((300, 3), np.nan, "e")
            einsum("ij->j", abs(x).astype("e"), out=half[:, 1])
            np.testing.assert_allclose(half[:, 1], abs(x).sum(0), rtol=2e-3)
            assert np.isnan(half[:, ::2]).all()


@pytest.mark.parametrize("dtype", ["i1", "f2", "f4", "f8", "F", "D", "?"])
@pytest.mark.parametrize("step", [2, 3, 4])
def test_every_second_third_and_fourth_element(step, dtype):
    for size in (1, 2, 15, 16, 17, 63, 130):
        memory = RNG.integers(0, 2, (2, size * step)).astype(dtype)
        x, y = memory[:, ::step], memory[::-1, step - 1 :: step]
        with config(jit="always"):
            for equation in ("ij,ij->i", "ij,ij->j", "ij,ij->ij", "ij->", "ij,j->i"):
                terms = equation.partition("->")[0].split(",")
                operands = [x, y][: len(terms)]
                operands = [
                    z[0] if len(t) == 1 else z for z, t in zip(operands, terms, strict=True)
                ]
                got = einsum(equation, *operands)
                np.testing.assert_array_equal(got, np.einsum(equation, *operands))


def test_forms_are_those_of_loops_or_of_unrolled_ones():
    assert type(path_of("ij,jk->ik", i=50, j=50, k=50).form) is Form
    assert type(path_of("bij,bjk->bik", b=500, i=3, j=3, k=3).form) is Unrolled


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are kept on Linux")
@pytest.mark.parametrize(
    "equation",
    ["ij->", "ij->j", "ij,j->i", "ij,ji->i", "ij,ji->ij", "ijk,kji->", "i,j->ij", "bcd,bde->bce"],
)
@pytest.mark.parametrize("dtype", ["f4", "c16", "i8", "f2", "?"])
def test_every_kernel_can_be_kept(equation, dtype):
    small = dict.fromkeys("cde", 3)
    sizes = {x: small.get(x, 3000) for x in equation if x.isalpha()}
    if "k" in sizes:
        sizes = dict.fromkeys("ijk", 300)
    kernel = kernel_of_form(path_of(equation, dtype, **sizes).form)
    assert isinstance(kernel.keepalive, MachineCode)
