"""How loops are dealt to blocks and threads, and the numbers that kernels get."""

from dataclasses import replace

import numpy as np
import pytest

from fastein import _nest
from fastein_cuda.codegen import parameters
from fastein_cuda.launch import launch_of
from fastein_cuda.loops import Loops, fused, is_wide, loops_of, magic
from fastein_cuda.schedule import Machine, NestSchedule, TranspositionSchedule, adding_up, schedule

H100 = Machine((9, 0), 132, 227 << 10)


def loops(equation, *shapes, dtype="float64", out_order="C"):
    """The loops of one step on contiguous operands."""
    left, right = equation.split("->")
    terms = left.split(",")
    number = {label: k for k, label in enumerate(sorted(set(left) - {","}))}
    sizes = {}
    for term, shape in zip(terms, shapes, strict=True):
        sizes.update(zip(term, shape, strict=True))
    inputs = [
        (tuple(number[x] for x in term), shape, np.empty(shape, dtype).strides)
        for term, shape in zip(terms, shapes, strict=True)
    ]
    nest = _nest.build(
        np.dtype(dtype),
        tuple(sizes[label] for label in number),
        tuple(inputs),
        tuple(number[x] for x in right),
        np.empty([sizes[x] for x in right], dtype, order=out_order).strides,
    )
    return loops_of(nest)


@pytest.mark.parametrize("divisor", [1, 2, 3, 5, 7, 10, 255, 256, 641, 10**6, 2**30 - 1, 2**30])
def test_division_by_multiplication(divisor):
    multiplier, shift = magic(divisor)
    assert multiplier < 2**32
    rng = np.random.default_rng(0)
    edges = [0, 1, divisor - 1, divisor, divisor + 1, 2**31 - 1, 2**31 - divisor]
    for n in [*edges, *rng.integers(0, 2**31, 1000).tolist()]:
        total = (n * multiplier >> 32) + n
        assert total < 2**32
        assert total >> shift == n // divisor


def test_a_copy_is_one_loop():
    strides = ((240, 48, 8), (120, 24, 4))
    copy = Loops((4, 5, 6), strides, (False,) * 3, ("float64", "float32"), "float64", (8, 4))
    assert fused(copy).sizes == (120,)
    apart = replace(copy, strides=((480, 48, 8), (120, 24, 4)))
    assert fused(apart).sizes == (4, 30)
    assert fused(replace(copy, sizes=(), strides=((), ()), summed=())).sizes == ()


def test_wide_is_what_32_bits_cannot_count():
    small = loops("i->", (2**20,))
    assert not is_wide(small)
    assert is_wide(replace(small, sizes=(2**30,)))
    assert is_wide(replace(small, strides=((2**20,), (0,))))


def test_neighbours_are_read_together():
    chosen = schedule(loops("ij,ij->ij", (1000, 1000), (1000, 1000)), H100)
    assert isinstance(chosen, NestSchedule)
    assert (chosen.form.lanes, chosen.form.along, chosen.form.vectors) == (2, "items", (True,) * 3)
    assert schedule(chosen.loops, H100, vectors=False).form.lanes == 1


@pytest.mark.parametrize(
    ("dtype", "lanes"),
    [("int8", 16), ("float16", 8), ("float32", 4), ("float64", 2), ("complex64", 1)],
)
def test_a_vector_has_16_bytes(dtype, lanes):
    chosen = schedule(loops("i->i", (4096,), dtype=dtype), H100)
    assert chosen.form.lanes == lanes
    odd = schedule(loops("i->i", (4095,), dtype=dtype), H100)
    assert odd.form.lanes == 1


def test_rows_are_summed_by_neighbours_and_columns_by_strangers():
    rows = schedule(loops("ij->i", (100_000, 512)), H100)
    assert (rows.form.along, rows.form.parts) == ("terms", 32)
    columns = schedule(loops("ij->j", (512, 1_000_000)), H100)
    assert (columns.form.along, columns.form.parts) == ("items", 1)


def test_few_long_sums_are_split_among_blocks():
    chosen = schedule(loops("i->", (10**7,)), H100)
    assert chosen.splits > 100
    second = adding_up(chosen, H100, vectors=True)
    assert (second.loops.terms, second.splits) == (chosen.splits, 1)
    assert chosen.workspace == chosen.splits * 8
    assert schedule(loops("i->", (1000,)), H100).splits == 1


def test_partial_sums_of_float16_are_float32():
    chosen = schedule(loops("i->", (10**7,), dtype="float16"), H100)
    assert chosen.form.stored == ("float16", "float32")
    assert adding_up(chosen, H100, True).form.stored == ("float32", "float16")


def test_operands_that_lie_across_turn_round_in_tiles():
    turned = loops("ij->ji", (512, 512))
    assert isinstance(schedule(turned, H100), TranspositionSchedule)
    straight = loops("ij->ji", (512, 512), out_order="F")
    assert schedule(straight, H100).family == "nest"
    thin = loops("ij->ji", (512, 3))
    assert schedule(thin, H100).family == "nest"


@pytest.mark.parametrize(
    "chosen",
    [
        schedule(loops("ij,jk->ik", (50, 60), (60, 70)), H100),
        schedule(loops("i->", (10**7,)), H100),
        schedule(loops("ijk->kij", (64, 64, 64)), H100),
    ],
    ids=str,
)
def test_every_parameter_has_a_number(chosen):
    launch = launch_of(chosen)
    pointers = [name for name, kind in parameters(chosen.form) if kind == "pointer"]
    assert len(pointers) + len(launch.scalars) == len(parameters(chosen.form))
    assert all(isinstance(n, int) for n in launch.scalars)
    assert min(launch.grid) >= 1
