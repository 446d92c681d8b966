"""Measuring the rates by which families of schedules are compared.

It takes some 20 ms, and is done where nobody waits: by the process that compiles in the background,
or by ``python -m fastein warmup``. Everything is timed as calls run it, the best of several times.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from .._nest import LoopNest
from .._parser import parse
from ..config import config
from ..equation import expand
from ..plan import Layout, Options
from ..planner import make_plan
from . import _cpuid
from ._loop_order import loop_order
from .axis_roles import roles
from .machine import MACHINE, Machine
from .rates import keep, kept
from .schedule import Schedule, matrix_axes, schedule
from .target import CpuTarget

ROUNDS = 7
ROUND_SECONDS = 1e-4

CLOCK_CYCLES = 120_000
SMALL = 2  # rows of a product that is nothing but its call
ROWS = 48  # where pairs of loops and NumPy's matmul are about as fast
SINGLE = 64  # rows up to which OpenBLAS multiplies on one thread
STACK, STACKED = 64, 8  # matrices in a stack, and rows of each
COPIED = 512  # rows of a matrix that is transposed
STREAMED = 2_000_000  # elements: more than caches hold


class OneFamily(CpuTarget):
    """The CPU with products of matrices in one way: by the baseline nest, or by NumPy's matmul."""

    def __init__(self, matmul: bool) -> None:
        self.matmul = matmul

    def schedule(self, nest: LoopNest) -> Schedule:
        chosen = schedule(nest, matmul=False, engine=False)
        axes = roles(chosen.nest)
        if not self.matmul or axes is None:
            return chosen
        return chosen.replace(family="matmul", matrix=matrix_axes(chosen.nest, axes))


def ensure() -> Machine:
    """Return the rates that are kept, after measuring and keeping them if there are none."""
    machine = kept()
    if machine is None:
        machine = measured()
        keep(machine)
    return machine


def measured() -> Machine:
    """Measure the rates of this machine."""
    cycle = best(lambda: _cpuid.pass_cycles(CLOCK_CYCLES)) / CLOCK_CYCLES
    nest, seconds = product(OneFamily(False), "ij,jk->ik", ROWS)
    _, expected = loop_order(nest, MACHINE)
    matmul = OneFamily(True)
    _, call = product(matmul, "ij,jk->ik", SMALL)
    _, large = product(matmul, "ij,jk->ik", SINGLE)
    _, stack = product(matmul, "bij,bjk->bik", STACKED, STACK)
    flops = 2.0 * SINGLE**3 / max(large - call, 0.1 * large)
    each = (stack - call) / STACK - 2.0 * STACKED**3 / flops
    return MACHINE.replace(
        cycle=cycle,
        paired=expected * cycle / MACHINE.cycle / seconds,
        matmul_call=call,
        matmul_each=max(each, 0.1 * stack / STACK),
        matmul_flops=flops,
        copy_bytes=copied_bytes(),
        stream_bytes=streamed_bytes(),
    )


def product(target: CpuTarget, equation: str, rows: int, stack: int = 1) -> tuple[LoopNest, float]:
    """Return the nest of a product of square matrices, and its seconds."""
    shape = (rows, rows) if stack == 1 else (stack, rows, rows)
    arrays = [np.ones(shape) for _ in range(3)]
    layout = Layout(shape, arrays[0].strides, arrays[0].dtype)
    parsed = expand(parse(equation), [shape, shape])
    plan = make_plan(parsed, (layout, layout), layout, Options(), target)
    with config(jit="never"):
        run = target.executable(plan)
        seconds = best(lambda: run(arrays[0], arrays[1], out=arrays[2]))
    (step,) = plan.steps
    chosen: Any = step
    return chosen.schedule.nest, seconds


def copied_bytes() -> float:
    """Measure how many bytes a second NumPy transposes."""
    source = np.ones((COPIED, COPIED))
    target = np.empty_like(source)
    return source.nbytes / best(lambda: np.copyto(target, source.T))


def streamed_bytes() -> float:
    """Measure how many bytes a second one core reads and writes in long runs."""
    source = np.ones(STREAMED)
    target = np.ones(STREAMED)
    return 2 * source.nbytes / best(lambda: np.copyto(target, source), rounds=3)


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the least seconds that some work takes."""
    work()
    start = perf_counter()
    work()
    turns = max(1, int(ROUND_SECONDS / max(perf_counter() - start, 1e-7)))
    times = []
    for _ in range(rounds):
        start = perf_counter()
        for _ in range(turns):
            work()
        times.append((perf_counter() - start) / turns)
    return min(times)
