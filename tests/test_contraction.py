"""The contraction engine: packed panels and register tiles, against NumPy in higher precision."""

import itertools
import pathlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import helpers
import numpy as np
import pytest

from fastein import config, einsum, explain
from fastein._nest import build
from fastein.cpu import background, engine, machine
from fastein.cpu import contraction as model
from fastein.cpu.blocking import Blocks
from fastein.cpu.contraction import contraction, roles
from fastein.cpu.engine import engine_for, engine_of
from fastein.cpu.isa import AVX2, AVX512, NEON, PLAIN
from fastein.cpu.schedule import Schedule
from fastein.cpu.tile import ARITHMETIC, Tile, kernel, source, tile_for

DTYPES = sorted(ARITHMETIC)
FLOATS = ("float32", "float64", "complex64", "complex128")
TOLERANCE = {"float16": 2e-3, "float32": 1e-5, "complex64": 1e-5}


@pytest.fixture(autouse=True)
def compiled():
    with config(jit="always", num_threads=2):
        yield


def numbers(dtype, shape, seed=0):
    return helpers.numbers(dtype, shape, seed, true=0.1)  # a sum is not nearly always true


def reference(equation, *operands):
    """NumPy's answer, in higher precision for floats."""
    kind = operands[0].dtype.kind
    wide = {"f": "f8", "c": "c16"}.get(kind)
    if wide and operands[0].dtype == wide:
        wide = {"f": "g", "c": "G"}[kind]
    return np.einsum(equation, *[x.astype(wide) if wide else x for x in operands])


def check(equation, *operands, out=None):
    want = reference(equation, *operands)
    got = einsum(equation, *operands, out=out)
    dtype = operands[0].dtype
    if dtype.kind in "fc":
        scale = np.abs(want).max() or 1
        tolerance = TOLERANCE.get(dtype.name, 1e-14)
        np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=tolerance)
    else:
        np.testing.assert_array_equal(got, want)
    return got


def uses_engine(equation, *operands):
    return "contraction: " in explain(equation, *operands)


def laid_out(x, how):
    """The same array in another place."""
    if how == "F":
        return np.asfortranarray(x)
    if how == "sliced":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), x.flat[0], x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if how == "reversed":
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    if how == "misaligned":
        room = np.empty(x.nbytes + 1, np.uint8)
        moved = room[1 if x.itemsize == 1 else 0 :][: x.nbytes].view(x.dtype).reshape(x.shape)
        moved[...] = x
        return moved
    return x


# Every dtype, every size around the tiles' edges, every layout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("equation", ["ij,jk->ik", "ji,jk->ik", "ij,kj->ik", "ji,kj->ki"])
def test_products_of_matrices(dtype, equation):
    for i, j, k in [(9, 9, 9), (16, 24, 16), (48, 5, 97), (7, 300, 13), (101, 67, 50)]:
        size = {"i": i, "j": j, "k": k}
        first, second = equation.split("->")[0].split(",")
        a = numbers(dtype, tuple(size[x] for x in first))
        b = numbers(dtype, tuple(size[x] for x in second), 1)
        assert uses_engine(equation, a, b)
        check(equation, a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int8", "int16", "bool"])
def test_sizes_around_the_edges_of_the_tile(dtype):
    tile = tile_for(dtype, model.host())
    for rows, columns in itertools.product(
        (1, tile.vector_rows - 1, tile.vector_rows + 1, tile.rows, tile.rows + 1),
        (1, tile.columns - 1, tile.columns, tile.columns + 1),
    ):
        a, b = numbers(dtype, (columns + 1, 11)), numbers(dtype, (11, rows + 1), 1)
        check("ij,jk->ik", a, b)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("columns", [3, 4, 11, 12, 76, 131, 132])
def test_the_last_columns_that_fill_half_a_tile(dtype, columns):
    for rows, steps in ((15, 30), (49, 30), (88, 9), (140, 700)):
        b, a = numbers(dtype, (steps, rows)), numbers(dtype, (columns, steps), 1)
        room = np.full((columns + 2, rows + 3), np.nan, dtype)
        check("ij,jk->ik", a, b, out=room[1:-1, 1:-2])
        assert np.isnan(room).sum() == room.size - columns * rows
        check("ji,jk->ik", a.T.copy(), b)
        check("ij,kj->ik", a, b.T.copy())


# Where the batch holds the result's unit stride, results interleave: attention's logits do

INTERLEAVED = ["bqhd,bkhd->bhqk", "bqhd,bkhd->hbqk", "qhd,khd->qkh"]
INTERLEAVED_SIZES = [
    {"b": 2, "h": 8, "q": 37, "k": 50, "d": 16, "i": 20, "j": 31},
    {"b": 2, "h": 5, "q": 101, "k": 41, "d": 400, "i": 70, "j": 34},  # parts of the sum
    {"b": 3, "h": 67, "q": 17, "k": 9, "d": 7, "i": 30, "j": 9},  # parts of the heads
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "complex128", "int8", "float16", "bool"])
@pytest.mark.parametrize("equation", INTERLEAVED)
def test_results_that_interleave(equation, dtype, threads):
    for size in INTERLEAVED_SIZES:
        first, second = equation.split("->")[0].split(",")
        a = numbers(dtype, tuple(size[x] for x in first))
        b = numbers(dtype, tuple(size[x] for x in second), 1)
        assert "interleaved" in explain(equation, a, b)
        with config(num_threads=threads):
            got = check(equation, a, b)
            room = np.full((*got.shape[:-1], got.shape[-1] + 2), 1, dtype)
            check(equation, a, b, out=room[..., 1:-1])
        assert (room[..., ::-1][..., :1] == 1).all()
        assert (room[..., :1] == 1).all()


def test_results_that_interleave_are_aligned_as_their_parts():
    """A complex64 is two float32: it need not lie as a word of 8 bytes does."""
    a, b = numbers("complex64", (9, 8, 16)), numbers("complex64", (7, 8, 16), 1)
    out = np.zeros(2 * 8 * 9 * 7 + 1, "f4")[1:].view("c8").reshape(9, 7, 8)
    assert out.ctypes.data % 8 == 4
    check("qhd,khd->qkh", a, b, out=out)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int32", "float16"])
@pytest.mark.parametrize(
    "hows",
    list(itertools.product(["C", "F", "sliced", "reversed", "misaligned"], repeat=2)),
    ids="-".join,
)
def test_layouts(dtype, hows):
    a = laid_out(numbers(dtype, (53, 41)), hows[0])
    b = laid_out(numbers(dtype, (41, 61), 1), hows[1])
    check("ij,jk->ik", a, b)


EQUATIONS = [
    ("dca,cbd->ba", {"a": 37, "b": 23, "c": 25, "d": 31}),
    ("dac,bcd->ba", {"a": 21, "b": 19, "c": 28, "d": 36}),  # the sums lie along different axes
    ("bfae,cedf->dcba", {"a": 11, "b": 9, "c": 7, "d": 5, "e": 16, "f": 24}),
    ("dabe,ec->dcba", {"a": 7, "b": 11, "c": 24, "d": 9, "e": 33}),
    ("abe,ec->cba", {"a": 8, "b": 16, "c": 24, "e": 16}),
    ("adb,cd->cba", {"a": 5, "b": 53, "c": 7, "d": 13}),  # read where they lie, tiles overlap
    ("aced,eb->dcba", {"a": 3, "b": 23, "c": 4, "d": 11, "e": 17}),
    ("abe,ec->cba", {"a": 4, "b": 37, "c": 9, "e": 13}),
    ("aged,cbfg->fedcba", {"a": 5, "b": 4, "c": 3, "d": 16, "e": 3, "f": 5, "g": 7}),
    ("bij,bjk->bik", {"b": 13, "i": 33, "j": 21, "k": 18}),
    ("bij,bjk->ikb", {"b": 5, "i": 33, "j": 21, "k": 18}),
    ("bqhd,bkgd->bhqk", {"b": 2, "q": 20, "h": 3, "k": 30, "g": 2, "d": 16}),
    ("ntkm,kq->mqn", {"n": 3, "t": 5, "k": 16, "m": 7, "q": 9}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int64", "uint8"])
@pytest.mark.parametrize(("equation", "sizes"), EQUATIONS, ids=[x for x, _ in EQUATIONS])
def test_many_axes(dtype, equation, sizes):
    first, second = equation.split("->")[0].split(",")
    a = numbers(dtype, tuple(sizes[x] for x in first))
    b = numbers(dtype, tuple(sizes[x] for x in second), 1)
    for out in ("K", "C", "F"):
        got = check(equation, a, b)
        if out != "K":
            np.testing.assert_array_equal(einsum(equation, a, b, order=out), got)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("run_length", [1, 2, 3, 4, 8])
def test_rows_in_short_runs(dtype, run_length):
    """Such runs are moved as words, where they are of a word's size and moved as they are."""
    a, b = numbers(dtype, (4, 13, 67)), numbers(dtype, (3, 5, 67, run_length), 1)
    check("bsd,tkdl->tbskl", a, b)


def test_only_out_is_written():
    a, b = numbers("float64", (50, 40)), numbers("float64", (40, 70), 1)
    for shape, part in (
        ((60, 90), np.s_[3:53, 7:77]),
        ((100, 70), np.s_[::2, :]),
        ((50, 210), np.s_[:, ::3]),
        ((50, 70), np.s_[::-1, ::-1]),
    ):
        room = np.full(shape, np.nan)
        check("ij,jk->ik", a, b, out=room[part])
        room[part] = 0
        assert np.isnan(room).sum() == room.size - 50 * 70


def test_a_large_result_is_written_past_the_caches():
    a, b = numbers("float32", (2048, 24)), numbers("float32", (24, 4096), 1)
    room = np.full(2048 * 4096 + 16, np.nan, np.float32)
    start = -room.ctypes.data % 64 // 4
    out = room[start : start + 2048 * 4096].reshape(2048, 4096)
    assert "streaming stores" in explain("ij,jk->ik", a, b)
    check("ij,jk->ik", a, b, out=out)
    check("ij,jk->ik", a, b, out=room[1 : 1 + out.size].reshape(out.shape))  # not aligned


# Blocks and threads


def run(equation, a, b, threads=1, **changes):
    """Contract with a schedule that is not the model's own."""
    terms = equation.split("->")[0].split(",")
    labels = sorted(set("".join(terms)))
    result = np.full(
        [
            dict(zip("".join(terms), a.shape + b.shape, strict=False))[x]
            for x in equation.split("->")[1]
        ],
        7,
        a.dtype,
    )
    number = {x: k for k, x in enumerate(labels)}
    sizes = [0] * len(labels)
    for term, x in zip(terms, (a, b), strict=True):
        for label, n in zip(term, x.shape, strict=True):
            sizes[number[label]] = n
    nest = build(
        a.dtype,
        tuple(sizes),
        tuple(
            (tuple(number[x] for x in term), x.shape, x.strides)
            for term, x in zip(terms, (a, b), strict=True)
        ),
        tuple(number[x] for x in equation.split("->")[1]),
        result.strides,
    )
    plan = contraction(nest, roles(nest), threads).replace(**changes)
    own = engine_for(plan.tile)
    own.build()
    runner = own.runner(Schedule("contraction", nest, 1.0, False, None, plan))
    with config(num_threads=threads):
        runner(a, b, result)
    return result


@pytest.mark.parametrize("dtype", ["float64", "complex64", "int16"])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shared", [0, 1])
def test_any_blocks(dtype, threads, shared):
    a, b = numbers(dtype, (2, 150, 90)), numbers(dtype, (2, 90, 170), 1)
    tile = tile_for(dtype, model.host())
    want = reference("bij,bjk->bik", a, b)
    for rows, columns, depth in ((1, 1, 90), (2, 3, 40), (1, 4, 7), (9, 9, 89)):
        free = (
            rows * (tile.rows if shared == 0 else tile.vector_rows),
            columns * tile.columns,
        )
        got = run(
            "bij,bjk->bik",
            a,
            b,
            threads,
            shared=shared,
            by_matrix=False,
            packing=("rows", "transposed"),
            along=(-1, 0),
            blocks=Blocks(depth, free),
        )
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_number_of_threads_changes_no_bit(dtype):
    a, b = numbers(dtype, (300, 700)), numbers(dtype, (700, 310), 1)
    results = []
    for threads in (1, 2, 3, 7):
        with config(num_threads=threads):
            results.append(einsum("ij,jk->ik", a, b))
    for result in results[1:]:
        assert result.tobytes() == results[0].tobytes()


def test_many_matrices_on_many_threads():
    a, b = numbers("float32", (64, 40, 30)), numbers("float32", (64, 30, 50), 1)
    for threads in (1, 2, 3, 7):
        with config(num_threads=threads):
            check("bij,bjk->bik", a, b)


# Values


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_go_where_numpy_puts_them(dtype):
    a, b = numbers(dtype, (40, 50)), numbers(dtype, (50, 60), 1)
    a[3, 4], a[7, 8], b[9, 10], b[11, 12] = np.nan, np.inf, -np.inf, np.nan
    with np.errstate(all="ignore"):
        want, got = np.einsum("ij,jk->ik", a, b), einsum("ij,jk->ik", a, b)
    for part in ("real", "imag"):
        w, g = getattr(want, part), getattr(got, part)
        np.testing.assert_array_equal(np.isnan(g), np.isnan(w))
        np.testing.assert_array_equal(np.isposinf(g), np.isposinf(w))
        np.testing.assert_array_equal(np.isneginf(g), np.isneginf(w))


@pytest.mark.parametrize("dtype", FLOATS)
def test_as_accurate_as_blas(dtype):
    a, b = numbers(dtype, (64, 1500)), numbers(dtype, (1500, 64), 1)
    want = reference("ij,jk->ik", a, b)
    ours = np.abs(einsum("ij,jk->ik", a, b) - want).max()
    theirs = np.abs(a @ b - want).max()
    assert ours <= 1.5 * theirs


@pytest.mark.parametrize("steps", [128, 384, 448, 512, 576, 640, 1024])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_as_accurate_as_blas_on_average(dtype, steps):
    errors = [0.0, 0.0]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a, b = (rng.standard_normal(n).astype(dtype) for n in ((32, steps), (steps, 64)))
        want = reference("ij,jk->ik", a, b)
        for k, got in enumerate((einsum("ij,jk->ik", a, b), a @ b)):
            errors[k] += float(np.square(got - want).sum())
    assert errors[0] <= 1.2**2 * errors[1]


def test_any_byte_but_zero_is_true():
    rng = np.random.default_rng(1)
    a = (rng.integers(0, 3, (70, 80)) * 2).astype(np.uint8).view(bool)
    b = (rng.integers(0, 8, (80, 90)) == 4).view(np.uint8) * np.uint8(4)
    got = einsum("ij,jk->ik", a, b.view(bool))
    want = (a.view(np.uint8).astype(int) @ b.astype(int)) > 0
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


def test_float16_is_rounded_once():
    a, b = np.full((20, 4000), 0.1, "f2"), np.full((4000, 20), 0.1, "f2")
    exact = 4000 * float(np.float16(0.1)) ** 2
    assert abs(float(einsum("ij,jk->ik", a, b)[0, 0]) - exact) <= 0.016  # half a unit


def test_a_long_sum_of_float16_is_not_split():
    a, b = np.full((45, 9000), 4, "f2"), np.full((9000, 37), 8, "f2")
    a[:, 4500:] = -4  # one half of the sum is beyond float16
    assert uses_engine("ij,jk->ik", a, b)
    np.testing.assert_array_equal(einsum("ij,jk->ik", a, b), 0)
    check("ij,jk->ik", numbers("float16", a.shape), numbers("float16", b.shape, 1))


def test_a_sum_of_float16_that_is_too_long_is_left_to_others():
    for dtype in ("float16", "float32"):
        nest = nest_of("ij,jk->ik", {"i": 9, "j": model.HALF_DEPTH + 1, "k": 9}, dtype)
        assert model.computes(nest, roles(nest)) == (dtype == "float32")


def test_parts_of_a_sum_of_float16_would_be_added_as_numbers():
    a, b = numbers("float16", (45, 90)) / 4, numbers("float16", (90, 53), 1) / 4
    got = run("ij,jk->ik", a, b, blocks=Blocks(30, (48, 8)))
    np.testing.assert_allclose(got, reference("ij,jk->ik", a, b), rtol=0, atol=0.01)


# The model and the sources


def nest_of(equation, sizes, dtype="f4"):
    terms, output = equation.split("->")
    labels = sorted(set(terms) - {","})
    number = {x: k for k, x in enumerate(labels)}

    def strides(term):
        steps, step = [], np.dtype(dtype).itemsize
        for x in reversed(term):
            steps.append(step)
            step *= sizes[x]
        return tuple(reversed(steps))

    return build(
        np.dtype(dtype),
        tuple(sizes[x] for x in labels),
        tuple(
            (tuple(number[x] for x in t), tuple(sizes[x] for x in t), strides(t))
            for t in terms.split(",")
        ),
        tuple(number[x] for x in output),
        strides(output),
    )


def plan_of(equation, sizes, threads=2, dtype="f4"):
    nest = nest_of(equation, sizes, dtype)
    return contraction(nest, roles(nest), threads)


def test_small_products_are_one_block():
    for n in range(16, 129, 8):
        assert plan_of("ij,jk->ik", dict.fromkeys("ijk", n), threads=1).blocks.free[0] >= n


def test_results_in_the_second_cache_are_not_asked_for():
    assert not plan_of("ij,jk->ik", dict.fromkeys("ijk", 128)).is_far
    assert plan_of("ij,jk->ik", dict.fromkeys("ijk", 2048)).is_far


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int16"])
def test_rows_that_end_in_half_a_vector(dtype):
    tile = tile_for(dtype, model.host())
    half = tile.vector_rows // 2
    for halves in range(1, 25):
        rows = max(halves * half - 1, 1)
        a, b = numbers(dtype, (rows, 33)), numbers(dtype, (33, 21), 1)
        check("ij,jk->ki", a, b)
        check("ji,jk->ki", a.T.copy(), b)


def test_the_rows_hold_the_units_of_the_result():
    sizes = {"i": 500, "j": 500, "k": 500}
    assert plan_of("ij,jk->ik", sizes).inputs == (1, 0)
    assert plan_of("ij,jk->ki", sizes).inputs == (0, 1)


def test_packing_follows_the_strides():
    sizes = {"i": 500, "j": 500, "k": 500}
    assert plan_of("ij,jk->ik", sizes).packing == ("rows", "transposed")
    assert plan_of("ji,jk->ik", sizes).packing == ("rows", "rows")
    assert plan_of("ij,kj->ik", sizes).packing == ("transposed", "transposed")


def test_a_side_that_few_meet_is_not_packed():
    plan = plan_of("ij,jk->ik", {"i": 24, "j": 300, "k": 48000})
    assert plan.packing[0] == "direct"
    plan = plan_of("ij,jk->ik", {"i": 48000, "j": 300, "k": 24})
    assert plan.packing[1] == "direct"


@pytest.mark.parametrize("size", [9, 17, 31, 47, 53])
def test_tiles_overlap_where_an_axis_ends(size):
    sizes = {"a": 9, "b": size, "c": 7, "d": 13}
    a = numbers("float32", (9, 13, size))
    b = numbers("float32", (7, 13), 1)
    assert plan_of("adb,cd->cab", sizes).packing[0] == ("direct" if size >= 16 else "rows")
    room = np.full((7, 11, size + 4), np.nan, np.float32)
    check("adb,cd->cab", a, b, out=room[:, 1:10, 2:-2])
    assert np.isnan(room).sum() == room.size - 7 * 9 * size


def test_sums_along_different_axes_are_blocked_both():
    plan = plan_of("dac,bcd->ba", {"a": 252, "b": 248, "c": 252, "d": 252})
    assert plan.packing == ("transposed", "transposed")
    assert plan.sums[-1].size == 14
    assert plan.blocks.depth % 14 == 0
    assert sorted(plan.along) == [1, 2]


def test_blocks_fit_the_caches():
    for sizes in (
        {"i": 4000, "j": 4000, "k": 4000},
        {"i": 10, "j": 1000000, "k": 10},
        {"i": 1000000, "j": 10, "k": 1000},
    ):
        plan = plan_of("ij,jk->ik", sizes)
        caches = machine.caches()
        own = 1 - plan.shared
        assert plan.blocks.free[own] * plan.blocks.depth * 4 <= caches.second
        assert plan.blocks.free[plan.shared] * plan.blocks.depth * 4 <= caches.third


def test_what_is_no_contraction():
    sizes = {"i": 50, "j": 60, "k": 70, "b": 5}
    for equation in ("ij,ij->ij", "ij,j->i", "i,k->ik", "ijb,jk->ik"):
        assert roles(nest_of(equation, sizes)) is None


GOLDEN = pathlib.Path(__file__).parent / "golden" / "tile"
ISAS = {isa.name: isa for isa in (AVX512, AVX2, NEON, PLAIN)}
SOURCES = [
    ("float32", "avx512"),
    ("complex128", "avx2"),
    ("float16", "neon"),
    ("int8", "plain"),
]


@pytest.mark.parametrize(("dtype", "isa"), SOURCES, ids="-".join)
def test_golden(dtype, isa, golden):
    golden(GOLDEN / f"{dtype}_{isa}.txt", source(tile_for(dtype, ISAS[isa])))


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {"_".join(names) for names in SOURCES}


def test_sources_differ_with_the_tile():
    sources = {
        source(Tile(dtype, width, vectors, columns))
        for dtype in DTYPES
        for width, vectors, columns in ((64, 3, 8), (32, 2, 6), (16, 2, 4))
    }
    assert len(sources) == 3 * len(DTYPES)
    for text in sources:
        compile(text, "source", "exec")


def test_one_kernel_serves_all_contractions_of_a_dtype():
    assert kernel(tile_for("float64", model.host())) is kernel(tile_for("float64", model.host()))


# Where the kernels come from


def test_kernels_are_compiled_once_they_are_earned(monkeypatch):
    monkeypatch.setattr(engine, "_engines", {})
    monkeypatch.setattr(engine, "COMPILE_SECONDS", 1e-9)
    a = numbers("float32", (60, 60))
    with config(jit="tiered"):
        check("ij,jk->ik", a, a)
        assert background.wait(60)
        assert engine_of("float32").ready
        check("ij,jk->ik", a, a)


def test_a_compiler_that_fails_costs_a_warning(monkeypatch):
    def fail(self):
        raise RuntimeError("no compiler today")

    monkeypatch.setattr(engine, "_engines", {})
    monkeypatch.setattr(engine, "COMPILE_SECONDS", 1e-9)
    monkeypatch.setattr(engine.Engine, "take", fail)
    a = numbers("float32", (60, 60))
    with config(jit="tiered"):
        with pytest.warns(RuntimeWarning, match=r"no compiler today.*report"):
            check("ij,jk->ik", a, a)
        check("ij,jk->ik", a, a)


def test_an_interrupted_compilation_is_tried_again(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_engines", {})
    monkeypatch.setattr(engine, "COMPILE_SECONDS", 1e-9)
    a = numbers("float32", (60, 60))
    with config(jit="tiered"):
        with monkeypatch.context() as patch:
            patch.setattr(engine.Engine, "take", interrupt)
            with pytest.raises(KeyboardInterrupt):
                engine_of("float32").spare(9.0)
        engine_of("float32").spare(9.0)
        assert engine_of("float32").ready
        check("ij,jk->ik", a, a)


def test_threads_that_make_a_runner_at_once(monkeypatch):
    """The runner that one thread uses outlives another one's coming in its place."""
    monkeypatch.setattr(engine, "_engines", {})
    make, late = engine.Engine.runner, threading.Event()
    meeting = threading.Barrier(2, timeout=60)

    def runner(self, schedule):
        made = make(self, schedule)
        if meeting.wait() == 0:  # one thread goes ahead, the other is ready while it computes
            late.wait(0.01)
        return made

    a = numbers("float64", (1200, 1200))
    with config(jit="tiered", num_threads=1):
        einsum("ij,jk->ki", a, a)  # not compiled yet: the plan has no runner
        engine_of("float64").build()
        monkeypatch.setattr(engine.Engine, "runner", runner)
        with ThreadPoolExecutor(2) as pool:
            got = [pool.submit(einsum, "ij,jk->ki", a, a) for _ in range(2)]
            first, second = [x.result() for x in got]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, (a @ a).T, rtol=0, atol=1e-11)


WITHOUT_ROOM = """
import resource
import numpy as np
import fastein

first, second = np.ones((33, 200000), "f2"), np.full((200000, 33), 0.125, "f2")
with fastein.config(jit="always", num_threads=1):
    fastein.einsum("ij,jk->ik", first[:, :90], second[:90])
    with open("/proc/self/statm") as sizes:
        size = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (30 << 20), resource.RLIM_INFINITY))
    assert (fastein.einsum("ij,jk->ik", first, second) == 25000).all()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_without_memory_for_panels_there_is_an_answer():
    command = [sys.executable, "-c", WITHOUT_ROOM]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr


def test_never_uses_no_engine():
    a = numbers("float32", (60, 60))
    with config(jit="never"):
        assert not uses_engine("ij,jk->ik", a, a)
        check("ij,jk->ik", a, a)
