"""Permutations against NumPy: every way of writing, inside memory whose rest must not change."""

from __future__ import annotations

import pathlib
import random
import warnings

import numpy as np
import pytest

import fastein
from fastein import _nest
from fastein.cpu import background, engine, machine, permutation_kernel
from fastein.cpu._permutation import Runner
from fastein.cpu.isa import AVX2, AVX512, AVX512_VBMI, PLAIN, host
from fastein.cpu.permutation import permutation
from fastein.cpu.schedule import schedule

ISAS = {isa.name: isa for isa in (AVX512, AVX2, PLAIN)}
if host().picks_bytes:  # an instruction that others lack
    ISAS["avx512, lines carried"] = AVX512_VBMI
LEVELS = ["ahead of time", *ISAS]
DTYPES = ["u1", "?", "i2", "f2", "f4", "i8", "c8", "c16"]
POISON = 0x5A
MARGIN = 192


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    with fastein.config(num_threads=request.param):
        yield request.param


def nest_of(array, axes, out):
    """Return the nest that copies ``array.transpose(axes)`` to `out`."""
    term = tuple(range(array.ndim))
    inputs = ((term, array.shape, array.strides),)
    return _nest.build(array.dtype, array.shape, inputs, tuple(axes), out.strides)


def placed(layout, dtype, shift=0):
    """An array of (memory order, extents, steps) amid poison, and the memory it is in.

    `shift` is by how many words its memory is off a line.
    """
    order, shape, steps, gaps = layout
    dtype = np.dtype(dtype)
    extents = [n * abs(step) + gap for n, step, gap in zip(shape, steps, gaps, strict=True)]
    held = [extents[k] for k in order]
    size = int(np.prod(held)) * dtype.itemsize
    memory = np.full(size + 2 * MARGIN, POISON, np.uint8)
    start = -memory.ctypes.data % 64 + 64 + shift * min(dtype.itemsize, 8)
    whole = np.ndarray(held, dtype, memory, start).transpose(np.argsort(order))
    pick = [
        slice(0, n * step, step) if step > 0 else slice(n * -step - 1, None, step)
        for n, step in zip(shape, steps, strict=True)
    ]
    return whole[tuple(pick)], memory


def compact(shape, gaps=None):
    return tuple(range(len(shape))), shape, (1,) * len(shape), gaps or (0,) * len(shape)


def fill(array, rng):
    """Any bit patterns; bool gets bytes other than 0 and 1, too."""
    raw = rng.integers(0, 256, (*array.shape, array.itemsize), np.uint8)
    if array.dtype == bool:
        raw &= 3
        array.view(np.uint8)[...] = raw[..., 0]
    else:
        array[...] = raw.view(array.dtype)[..., 0]


def check(array, axes, out, memory, level, streams):
    """Run a permutation; compare the result and everything around it. Return the schedule."""
    nest = nest_of(array, axes, out)
    plan = permutation(nest)
    if plan is None:
        return None
    plan = plan.replace(streams=streams)
    memory[...] = POISON
    moved = array.view(np.uint8) != 0 if array.dtype == bool else array
    with np.errstate(all="ignore"):
        out[...] = moved.transpose(axes)
    wanted = memory.copy()
    memory[...] = POISON
    if level in ISAS and plan.is_transposed:
        kernel = permutation_kernel.kernel(plan.element, ISAS[level])
        run = Runner(nest, plan, kernel, ISAS[level])
    else:
        run = Runner(nest, plan)
    run(array, out)
    assert (memory == wanted).all(), (array.dtype, array.shape, array.strides, axes, out.strides)
    return plan


def drawn_layout(random, shape):
    order = list(range(len(shape)))
    random.shuffle(order)
    steps = [random.choice([1, 1, 1, 1, 2, -1]) for _ in shape]
    return order, shape, steps, [random.choice([0, 0, 0, 1, 3]) for _ in shape]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layouts(dtype, level):
    """Ranks 1 to 6, odd sizes, memory in any order, gaps, steps, axes reversed, all misaligned."""
    chance, rng = random.Random(dtype + level), np.random.default_rng(0)
    seen = set()
    for _ in range(120):
        shape, left = [], chance.choice([300, 3000, 40000])
        for _ in range(chance.randint(1, 6)):
            size = chance.choice([1, 2, 3, 5, 8, 16, 17, 33, 64, 70, 130, 301])
            shape.append(max(1, min(size, left)))
            left //= shape[-1]
        chance.shuffle(shape)
        axes = chance.sample(range(len(shape)), len(shape))
        array, _ = placed(drawn_layout(chance, shape), dtype, chance.randint(0, 8))
        fill(array, rng)
        result = drawn_layout(chance, [shape[k] for k in axes])
        out, memory = placed(result, dtype, chance.randint(0, 8))
        plan = check(array, axes, out, memory, level, chance.random() < 0.5)
        if plan is not None:
            seen.add((plan.is_transposed, plan.streams))
    assert len(seen) == 4


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["u1", "?", "i2", "f4", "i8", "c16"])
def test_sizes_around_those_of_tiles_and_blocks(dtype, level):
    rng = np.random.default_rng(1)
    side = 64 // np.dtype(dtype).itemsize
    sizes = [side - 1, side, side + 1, 2 * side + 3, 8 * side, 8 * side + 1, 19 * side + 5]
    for rows in sizes:
        for columns in sizes[:4]:
            for shift, gap in ((0, 0), (2, 0), (0, side - rows % side), (1, 3)):
                array, _ = placed(compact((rows, columns)), dtype, shift)
                fill(array, rng)
                out, memory = placed(compact((columns, rows), (0, gap)), dtype, shift)
                for streams in (False, True):
                    check(array, (1, 0), out, memory, level, streams)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(70, 4200), (4300, 70), (1100, 1030), (3, 5000), (5000, 3)])
def test_axes_longer_than_a_table(shape, level, threads):
    rng = np.random.default_rng(2)
    array, _ = placed(compact(shape), "f4", 3)
    fill(array, rng)
    for gap in (0, 1, -shape[0] % 16):
        out, memory = placed(compact(shape[::-1], (0, gap)), "f4", 1)
        for streams in (False, True):
            check(array, (1, 0), out, memory, level, streams)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["u1", "?", "i2", "f4", "i8", "c16"])
def test_rows_that_evict_each_other(dtype, level):
    """Rows near 4 KB apart that begin anywhere are read by windows, and written in every way."""
    rng = np.random.default_rng(6)
    size = np.dtype(dtype).itemsize
    side, page = 64 // size, 4096 // size
    for columns in (side, 2 * side - 1, 2 * side, 5 * side + 3):
        for rows in (2 * side, 8 * side, 17 * side + 1):
            for step in (page - 1, page, page + 1, -page - 1):
                array, _ = placed(compact((rows, abs(step)), (0, 0)), dtype, columns % 7)
                array = array[:, :columns] if step > 0 else array[::-1, :columns]
                fill(array, rng)
                for gap in (0, -rows % side):
                    out, memory = placed(compact((columns, rows), (0, gap)), dtype, rows % 5)
                    check(array, (1, 0), out, memory, level, True)


def test_which_rows_are_read_by_windows():
    kernel = permutation_kernel.kernel("raw4", AVX2)

    def has_windows(rows, columns, gap):
        array, _ = placed(compact((rows, columns), (0, gap)), "f4", 1)
        out, _ = placed(compact((columns, rows)), "f4", 1)
        nest = nest_of(array, (1, 0), out)
        plan = permutation(nest).replace(streams=True)
        return Runner(nest, plan, kernel, AVX2).has_windows

    assert has_windows(255, 1023, 0)
    assert has_windows(256, 1023, 2)  # columns begin alike
    assert not has_windows(255, 1023, 1)  # rows do
    assert not has_windows(255, 1000, 1)  # spread over the cache


@pytest.mark.parametrize("level", [level for level in ISAS if ISAS[level].picks_bytes])
def test_lines_are_carried_wherever_rows_begin_anywhere(level):
    kernel = permutation_kernel.kernel("raw1", ISAS[level])

    def has_windows(rows, columns):
        array, _ = placed(compact((rows, columns)), "u1", 1)
        out, _ = placed(compact((columns, rows)), "u1", 1)
        nest = nest_of(array, (1, 0), out)
        plan = permutation(nest).replace(streams=True)
        return Runner(nest, plan, kernel, ISAS[level]).has_windows

    assert has_windows(1023, 1000)
    assert has_windows(1024, 1000)
    assert not has_windows(1023, 1024)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "rows"), [("u1", 4097), ("i2", 4159), ("i8", 4500)])
def test_shifted_columns_in_parts(dtype, rows, level, threads):
    rng = np.random.default_rng(8)
    for columns in (1025, 130):
        array, _ = placed(compact((rows, columns)), dtype, 1)
        fill(array, rng)
        out, memory = placed(compact((columns, rows)), dtype, 3)
        check(array, (1, 0), out, memory, level, True)


@pytest.mark.parametrize("size", [1, 3, 8, 20, 64, 255, 256, 1000, 200_000])
def test_runs(size, threads):
    """What is contiguous in both is moved as one."""
    rng = np.random.default_rng(3)
    for first, second in ((3, 5), (1, 2), (1, 1)):
        array, _ = placed(compact((first, second, size), (0, 0, 1)), "u1", 1)
        fill(array, rng)
        out, memory = placed(compact((second, first, size), (0, 0, 2)), "u1", 5)
        for streams in (False, True):
            plan = check(array, (1, 0, 2), out, memory, "ahead of time", streams)
            if first > 1 and size > 1:
                assert plan.size == size


def test_a_broadcast_operand():
    for shape, wide in (((1, 70), (40, 70)), ((40, 1), (40, 70)), ((1, 1), (40, 70))):
        array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
        for equation in ("ij->ji", "ij->ij"):
            size = wide if equation == "ij->ij" else wide[::-1]
            want, got = np.zeros(size, "f4"), np.zeros(size, "f4")
            np.copyto(want, array if equation == "ij->ij" else array.T)
            with fastein.config(jit="always"):
                fastein.einsum(equation, array, out=got)
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("jit", ["never", "tiered", "always"])
@pytest.mark.parametrize("dtype", ["?", "i1", "f2", "f4", "f8", "c16", "g", "G"])
def test_through_einsum(dtype, jit, threads):
    rng = np.random.default_rng(4)
    with fastein.config(jit=jit):
        for equation, shape in (
            ("ij->ji", (301, 203)),
            ("ijk->kji", (31, 20, 70)),
            ("abcd->cadb", (14, 16, 17, 18)),
            ("abcdef->fbdeca", (5, 6, 7, 8, 3, 9)),
            ("iij->ji", (40, 40, 90)),
            ("abc->bac", (60, 70, 9)),
        ):
            array = rng.integers(0, 2, shape).astype(dtype)
            want = np.einsum(equation, array)
            for out in (np.zeros(want.shape, dtype), np.zeros(want.shape, dtype, order="F")):
                assert fastein.einsum(equation, array, out=out) is out
                np.testing.assert_array_equal(out, want)
            backwards = np.zeros(want.shape, dtype)[::-1]
            fastein.einsum(equation, array[::-1, ::-1], out=backwards)
            np.testing.assert_array_equal(backwards, np.einsum(equation, array[::-1, ::-1]))


def test_results_beyond_the_caches():
    """Chosen as such, not forced: 2 by 24 MB."""
    array = np.random.default_rng(5).random((1999, 1507))
    out = np.zeros((1507, 1999))
    streams = 2 * array.nbytes > machine.caches().third
    assert permutation(nest_of(array, (1, 0), out)).streams == streams
    for jit in ("never", "always"):
        with fastein.config(jit=jit):
            out[...] = 0
            fastein.einsum("ij->ji", array, out=out)
            np.testing.assert_array_equal(out, array.T)


def test_the_schedule():
    array, out = np.empty((30, 40, 50), "f4"), np.empty((50, 40, 30), "f4")
    chosen = schedule(nest_of(array, (2, 1, 0), out))
    assert chosen.family == "permutation"
    assert "transposed in registers; rows 40 x 30, columns 50, outside 1" in str(chosen)
    sums = np.empty((50,), "f4")
    nest = _nest.build(
        array.dtype, array.shape, (((0, 1, 2), array.shape, array.strides),), (2,), sums.strides
    )
    assert permutation(nest) is None


def test_small_contiguous_axes_make_larger_elements():
    array, out = np.empty((30, 40, 2), "f4"), np.empty((40, 30, 2), "f4")
    plan = permutation(nest_of(array, (1, 0, 2), out))
    assert (plan.element, plan.is_transposed) == ("raw8", True)


def test_short_axes_are_joined():
    array, out = np.empty((4, 5, 6, 7, 8), "f8"), np.empty((8, 6, 7, 5, 4), "f8")
    plan = permutation(nest_of(array, (4, 2, 3, 1, 0), out))
    assert [axis.size for axis in plan.rows] == [5, 4]
    assert [axis.size for axis in plan.columns] == [42, 8]


def test_all_equations_share_a_kernel():
    with fastein.config(jit="always"):
        for equation, shape in (("ij->ji", (90, 80)), ("ijk->kji", (20, 30, 40))):
            for dtype in ("f8", "i8", "u8", "c8"):
                array = np.ones(shape, dtype)
                fastein.einsum(equation, array, out=np.empty(shape[::-1], dtype))
    assert engine.transposer_of("raw8").ready
    assert set(engine._transposers) <= {"bool", *[f"raw{size}" for size in (1, 2, 4, 8, 16)]}


@pytest.fixture
def fresh(monkeypatch):
    """A transposer that has not been used."""
    transposer = engine.Transposer("raw4")
    monkeypatch.setitem(engine._transposers, "raw4", transposer)
    with fastein.config(jit="tiered"):
        yield transposer


def test_the_kernel_is_compiled_when_it_has_been_earned(fresh):
    array, out = np.ones((603, 499), "f4"), np.empty((499, 603), "f4")
    fastein.einsum("ij->ji", array, out=out)
    assert not fresh.ready
    assert fresh.seconds > 0
    fresh.seconds = 1.0
    fastein.einsum("ij->ji", array, out=out)
    assert fresh.ready
    for _ in range(2):
        out[...] = 0
        fastein.einsum("ij->ji", array, out=out)
        assert (out == 1).all()


def test_a_core_is_left_to_what_compiles_the_kernel(fresh, monkeypatch):
    orders = []
    monkeypatch.setattr(background, "submit", orders.append)
    shares = []
    monkeypatch.setattr(
        engine.Transposer, "threads", lambda self: shares.append(self.is_awaited) or 1
    )
    array, out = np.ones((607, 499), "f4"), np.empty((499, 607), "f4")
    fastein.einsum("ij->ji", array, out=out)
    assert shares == [False]
    fresh.looked = True  # and nothing was stored
    fresh.spend(engine.COMPILE_SECONDS)
    fastein.einsum("ij->ji", array, out=out)
    assert shares == [False, True]
    orders[0].finish()
    fastein.einsum("ij->ji", array, out=out)
    assert shares == [False, True]
    assert (out == 1).all()


def test_a_failing_compiler_costs_a_warning(fresh, monkeypatch):
    def fail(*args):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(permutation_kernel, "kernel", fail)
    fresh.seconds = 1.0
    array, out = np.ones((611, 507), "f4"), np.zeros((507, 611), "f4")
    with pytest.warns(RuntimeWarning, match="no compiler"):
        fastein.einsum("ij->ji", array, out=out)
    assert (out == 1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastein.einsum("ij->ji", array, out=out)


GOLDEN = pathlib.Path(__file__).parent / "golden" / "permutation"


@pytest.mark.parametrize(
    ("element", "isa"), [("raw1", AVX512_VBMI), ("raw2", AVX512), ("bool", AVX2)]
)
def test_golden(element, isa, golden):
    source = permutation_kernel.source(element, isa)
    golden(GOLDEN / f"{element}_{isa.name}.txt", source)
