"""Schedules: which family runs a loop nest, and in which order its loops stand.

Families of this module:

nest
    one loop per axis, the innermost vectorised; any number of operands, any strides.
matmul
    NumPy's matmul on (reshaped) views of the operands, for products of matrices.
contraction
    packed panels and register tiles (:mod:`fastein.cpu.contraction`), for products of matrices
    in any layout. While its kernels are not there, one of the others stands in for it.
permutation
    blocks that are transposed on their way (:mod:`fastein.cpu.permutation`), for one operand of
    which nothing is summed.

The choice is the cheaper one by a small cost model over the canonical nest. Nothing here runs
anything.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from .._nest import LoopNest
from ..forks import no_fork
from ..record import Record
from ._loop_order import loop_order
from .abreast import abreast
from .axis_roles import Roles, roles
from .contraction import Contraction, computes, contraction, contraction_seconds
from .isa import SMALL
from .machine import MACHINE, Machine
from .permutation import Permutation, permutation, permutation_seconds

if TYPE_CHECKING:
    from types import ModuleType

    from .traversal import Traversal

MATMUL_DTYPES = frozenset("fdFD")
ENGINE_CALL = 0.3e-6  # seconds below which a nest is not worth packing
KERNEL_WORK = 4096  # iterations below which no kernel is generated


class MatrixAxes(Record):
    """The axes of a two-operand nest by role; the second operand has no rows, the first no columns.

    Axes within a role stand in an order in which the operand that holds most of the data can
    be read without a copy.
    """

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    sums: tuple[int, ...]


class Schedule(Record):
    """How one nest runs."""

    family: str
    nest: LoopNest
    """The nest with its loops in the order in which they run, outermost first."""
    seconds: float
    """Estimated time on one core."""
    parallel: bool
    """Whether the outermost loop may be shared among threads."""
    matrix: MatrixAxes | None = None
    """The axes of NumPy's matmul where that is the family or stands in for it."""
    contraction: Contraction | None = None
    gain: float = 0.0
    """Seconds that a contraction gains over what stands in for it."""
    traversal: Traversal | None = None
    """How a generated kernel goes through the nest, unless it is small."""
    permutation: Permutation | None = None

    @property
    def inner(self) -> str:
        """What the innermost loop does: 'dot' (it is summed), 'map', or 'scalar' (no loop)."""
        summed = self.nest.summed
        return "scalar" if not summed else "dot" if summed[-1] else "map"

    def __str__(self) -> str:
        if self.contraction is not None:
            return str(self.contraction)
        if self.permutation is not None:
            return str(self.permutation)
        if self.matrix is not None:
            m, sizes = self.matrix, self.nest.sizes
            extent = {
                role: [sizes[a] for a in axes]
                for role, axes in (
                    ("batch", m.batch),
                    ("rows", m.rows),
                    ("columns", m.columns),
                    ("sums", m.sums),
                )
                if axes
            }
            return "matmul: " + ", ".join(f"{role} {sizes}" for role, sizes in extent.items())
        loops = ", ".join(
            f"{'sum' if summed else 'out'} {size}"
            for size, summed in zip(self.nest.sizes, self.nest.summed, strict=True)
        )
        kernel = f"; kernel: {self.traversal}" if self.traversal is not None else ""
        return f"nest: {self.inner} over loops [{loops}]{kernel}"


def schedule(
    nest: LoopNest,
    matmul: bool = True,
    engine: bool = True,
    threads: int = 1,
    machine: Machine = MACHINE,
) -> Schedule:
    """The cheapest schedule of a nest.

    Parameters
    ----------
    nest : LoopNest
        In canonical form, loops in any order.
    matmul : bool
        Whether NumPy's matmul may be chosen.
    engine : bool
        Whether a contraction by packed panels may be chosen.
    threads : int
        How many threads may work on it.
    machine : Machine
        The rates to estimate with.
    """
    order, seconds = loop_order(nest, MACHINE)
    seconds *= machine.cycle / MACHINE.cycle
    ordered = nest.ordered(order)
    chosen = Schedule("nest", ordered, seconds, ordered.rank > 0 and not ordered.is_sum(0))
    if seconds > ENGINE_CALL:
        moved = permutation(ordered)
        if moved is not None and not (engine and _has_channels(ordered)):
            cost = permutation_seconds(ordered, machine)
            return Schedule("permutation", ordered, cost, True, permutation=moved)
    axes = roles(ordered) if seconds > ENGINE_CALL else None
    is_generated = engine and ordered.iterations >= KERNEL_WORK
    is_large = axes is not None and _is_large(ordered, axes)
    small = None
    if is_generated and not is_large:
        path = _generated().traversal_of(ordered)
        chosen = chosen.replace(traversal=path)
        small = path if path is not None and _generated().is_unrolled(path) else None
    if axes is None:
        return chosen
    paired = seconds if nest.dtype.kind == "c" else seconds / machine.paired
    if matmul and paired > machine.matmul_call and nest.dtype.char in MATMUL_DTYPES:
        matrix = matrix_axes(ordered, axes)
        cost = matmul_seconds(ordered, matrix, machine)
        if cost < paired:
            chosen = Schedule("matmul", ordered, cost, False, matrix)
    if is_generated and is_large and chosen.family == "nest":
        chosen = chosen.replace(traversal=_generated().traversal_of(ordered))
    if engine and computes(ordered, axes):
        plan = abreast(contraction(ordered, axes, threads), ordered, threads)
        cost = contraction_seconds(ordered, plan, machine)
        if cost < seconds:
            gain = chosen.seconds - cost
            chosen = chosen.replace(family="contraction", seconds=cost, contraction=plan, gain=gain)
    if small is not None:
        cost = _generated().unrolled_seconds(small, machine)
        if cost < chosen.seconds:  # NumPy's matmul stands in for it, where that was chosen
            chosen = chosen.replace(family="nest", seconds=cost, contraction=None, gain=0.0)
    return chosen


def _generated() -> ModuleType:
    """What knows of generated kernels, loaded for the first nest that may have one."""
    with no_fork:
        from . import generated
    return generated


def _has_channels(nest: LoopNest) -> bool:
    return nest.iterations >= KERNEL_WORK and _generated().has_channels(nest)


def _is_large(nest: LoopNest, axes: Roles) -> bool:
    """Whether a product of matrices has many rows and many columns: it is one for the engine."""
    return all(any(nest.sizes[a] > SMALL for a in side) for side in axes.free)


def kernel_seconds(nest: LoopNest, threads: int, machine: Machine = MACHINE) -> float:
    """Estimated time of a nest on its compiled kernels."""
    path = _generated().traversal_of(nest)
    if path is not None and _generated().is_unrolled(path):
        return float(_generated().unrolled_seconds(path, machine))
    chosen = schedule(nest, threads=threads, machine=machine)
    if path is None:
        return chosen.seconds
    vectors = nest.iterations * nest.nin * nest.itemsize / machine.vector_bytes
    seconds = max(vectors * machine.cycle, nest.moved_bytes / machine.stream_bytes)
    return seconds if chosen.family == "nest" else min(chosen.seconds, seconds)


def matrix_axes(nest: LoopNest, axes: Roles) -> MatrixAxes:
    """The axes by role, in an order in which the larger operand can be read without a copy."""
    sizes, strides = nest.sizes, nest.strides
    extent = [prod([sizes[a] for a in group]) for group in axes.free]
    larger = strides[0 if extent[0] >= extent[1] else 1]

    def by(row: tuple[int, ...], group: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(group, key=lambda a: -abs(row[a])))

    rows, columns = axes.free
    return MatrixAxes(
        by(strides[2], axes.batch),
        by(strides[0], rows),
        by(strides[1], columns),
        by(larger, axes.sums),
    )


def matmul_seconds(nest: LoopNest, matrix: MatrixAxes, machine: Machine = MACHINE) -> float:
    """Estimated time of NumPy's matmul, the copies it needs included."""
    sizes, itemsize = nest.sizes, nest.itemsize
    stack = 1
    for a in matrix.batch:
        stack *= sizes[a]
    seconds = machine.matmul_call + stack * machine.matmul_each + product_seconds(nest, machine)
    for row, inner in (
        (nest.strides[0], (matrix.rows, matrix.sums)),
        (nest.strides[1], (matrix.sums, matrix.columns)),
        (nest.strides[2], (matrix.rows, matrix.columns)),
    ):
        if not as_matrices(row, sizes, inner, itemsize):
            elements = 1.0
            for a in (*matrix.batch, *inner[0], *inner[1]):
                elements *= sizes[a]
            seconds += elements * itemsize / machine.copy_bytes
    return seconds


def product_seconds(nest: LoopNest, machine: Machine = MACHINE) -> float:
    """Estimated time of NumPy's matmul for the products alone."""
    seconds = 2.0 * nest.iterations * nest.itemsize / 8 / machine.matmul_flops
    return 2 * seconds if nest.dtype.kind == "c" else seconds


def as_matrices(
    row: tuple[int, ...],
    sizes: tuple[int, ...],
    groups: tuple[tuple[int, ...], tuple[int, ...]],
    itemsize: int,
) -> bool:
    """Whether an operand's axes make matrices in place, in a layout that BLAS reads and writes.

    Parameters
    ----------
    row : tuple of int
        The operand's strides.
    sizes : tuple of int
        Sizes of the nest's axes.
    groups : (axes, axes)
        The axes that are to be the matrices' rows, and their columns, outermost first.
    itemsize : int
        Bytes per element.
    """
    return all(
        row[outer] == row[inner] * sizes[inner]
        for axes in groups
        for outer, inner in pairwise(axes)
    ) and any(row[axes[-1]] == itemsize for axes in groups)
