"""Scheduling a contraction: who are the rows, and how operands are packed.

A nest with rows, columns and sums becomes two sides and a sum. The *rows* are the tile's vectors:
they are the side that holds the result's unit stride, so that tiles are stored as they are. The
rest follows from strides, and from the sizes of the caches (:mod:`fastein.cpu.blocking`).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from .._nest import LoopNest
from ..record import Record
from .axis_roles import Axis, Roles, by_stride, total_of
from .blocking import Blocks, blocks_of, depth_of, staged_blocks, up
from .isa import host
from .machine import Machine, caches
from .tile import ARITHMETIC, Tile, tile_for
from .words import together

HALF_DEPTH = 1 << 18  # most steps of a sum of float16: it is rounded once, so it is not split
STREAM_BYTES = 16e6
JOINED_RUN = (
    1024  # bytes of rows that follow each other in the result; their ends are no whole lines
)
JOINED_WORD = 4  # bytes of which the strides of a result are multiples

# Extent of the other side up to which a side is not packed: each of its elements is used so often.
DIRECT = 128
MIRRORED = 128  # steps of the sum from which computing an element takes longer than copying it
NEAR = 128 << 10  # bytes of an operand that tiles may read in any order
SPLIT_TILES = 64  # of a result that threads do not share; they take parts of the sum
PARTS = 32
PART_BLOCKS = 4  # of the sum in a part, beside which adding it up is nothing
LANES = 32  # results that interleave and are staged together, at most


class Contraction(Record):
    """How a contraction runs.

    Attributes
    ----------
    tile : Tile
    inputs : tuple of int
        Which operand is the rows' and which the columns'.
    batch, sums : tuple of Axis
        Outermost first.
    free : (axes, axes)
        The rows' and the columns' axes, outermost first.
    packing : (str, str)
        How each side is packed: ``'rows'``, ``'transposed'``, ``'gathered'``; or ``'direct'`` if
        it is not.
    along : (int, int)
        For each side that is packed by transposition, the summed axis along which it lies.
    shared : int
        Which side's blocks all threads use: 0 the rows', 1 the columns'.
    blocks : Blocks
    by_matrix : bool
        Whether each matrix of the batch is one thread's.
    is_far : bool
        Whether the result is too large for the second cache to hold it.
    streams : bool
        Whether the result is written past the caches, each vector by itself.
    joins : bool
        Whether that is done by the lines that tiles fill together where vectors are no whole lines.
    lanes : Axis or None
        The axis of the batch that holds the result's unit stride, if it does: results of its
        elements interleave. They are staged, `staged` at a time, and written together. It is then
        none of `batch`.
    staged : int
    parts : int
        Of the sum, if it is cut so that threads can share it; else 1.
    symmetric : bool
        Whether the result is symmetric, and half of it enough to compute, in calls whose operands
        are the same memory.
    rest : (int, Contraction) or None
        If matrices are abreast and do not fill whole vectors: the last ones that fill one, some of
        them once more, and the bytes to where they begin. They run when all is done.
    together : int
        Contiguous rows or columns of words that are packed at a time.
    """

    tile: Tile
    inputs: tuple[int, int]
    batch: tuple[Axis, ...]
    free: tuple[tuple[Axis, ...], tuple[Axis, ...]]
    sums: tuple[Axis, ...]
    packing: tuple[str, str]
    along: tuple[int, int]
    shared: int
    blocks: Blocks
    by_matrix: bool
    is_far: bool
    streams: bool
    joins: bool
    lanes: Axis | None
    staged: int
    parts: int
    symmetric: bool
    together: int
    rest: tuple[int, Contraction] | None = None

    def __str__(self) -> str:
        t, blocks = self.tile, self.blocks
        names = ("rows", "columns")
        sides = "; ".join(
            f"{names[side]} from operand {self.inputs[side]} {HOW[self.packing[side]]}"
            for side in range(2)
        )
        how = "one matrix a thread" if self.by_matrix else f"{names[self.shared]} shared"
        if t.is_abreast:
            how = f"{how}, {t.matrices} matrices abreast"
        if self.lanes is not None:
            how = f"results of {self.staged} matrices at a time interleaved"
        if self.parts > 1:
            how = f"the sum in {self.parts} parts"
        past = ""
        if self.streams or self.joins:
            past = f", streaming stores{'' if self.streams else ' of joined lines'}"
        half = "; half of it if both operands are the same memory" if self.symmetric else ""
        return (
            f"contraction: {t.dtype} tiles of {t.rows} rows ({t.vectors} vectors of "
            f"{t.vector_bytes} bytes) and {t.columns} columns; {sides}; blocks of "
            f"{blocks.free[0]} rows, {blocks.free[1]} columns, {blocks.depth} steps of the sum; "
            f"{how}{past}{half}"
        )


HOW = {
    "rows": "packed in runs",
    "transposed": "packed by transposition",
    "gathered": "packed element by element",
    "direct": "read where they lie",
    "lines": "packed as whole vectors",
}


def contraction(nest: LoopNest, roles: Roles, threads: int, form: str | None = None) -> Contraction:
    """Return the schedule of a nest whose axes have these roles; `form` is that of the tile."""
    itemsize = nest.itemsize
    inputs, batch, free, lanes = _sides(nest, roles)
    extent = [total_of(group) for group in free]
    holds_all = nest.dtype.kind in "iu" and itemsize == 2  # the values of its dtype, in pairs
    if form is None and holds_all and host().dots and min(extent) > DIRECT:
        form = "pairs"
    tile = tile_for(nest.dtype.name, host(), form)
    strides = [nest.strides[operand] for operand in inputs]
    summed = [Axis(nest.sizes[a], (strides[0][a], strides[1][a], 0)) for a in roles.sums]
    sums = _sums(summed, free, extent, itemsize, tile.arithmetic.steps == 1)
    total = total_of(sums)
    ways = [
        _packing(tile, side, free, extent, sums, itemsize, lanes is not None) for side in range(2)
    ]
    packing, along = zip(*ways, strict=True)
    by_matrix = total_of(batch) >= 2 * threads
    parts = 1 if lanes is not None else _parts(tile, extent, total_of(batch), total)
    grain = tile.arithmetic.steps
    if grain == 1 and 0 <= len(sums) - 2 in along:
        grain = sums[-1].size
    symmetric = lanes is None and "direct" not in packing and _is_symmetric(batch, free, sums)
    staged = 0
    if lanes is not None:
        staged = min(lanes.size, LANES)
        least = -(-threads // (total_of(batch) * -(-lanes.size // staged)))
        shared, blocks = 1, staged_blocks(tile, extent, depth_of(tile, total, grain), staged, least)
    else:
        apart = by_matrix or parts > 1
        long_columns = len(free[0]) == 1 and not symmetric  # of the result
        shared, blocks = blocks_of(
            tile, extent, total, grain, 1 if apart else threads, long_columns
        )
    nbytes = itemsize * prod([n for n, out in zip(nest.sizes, nest.strides[2], strict=True) if out])
    large = lanes is None and blocks.depth >= total and nbytes >= STREAM_BYTES
    return Contraction(
        tile,
        inputs,
        batch,
        free,
        sums,
        packing,
        along,
        shared,
        blocks,
        by_matrix,
        is_far=parts == 1 and 2 * nbytes >= caches().second,
        streams=large
        and _whole_vectors(tile, batch, free, itemsize)
        and (packing[0] != "direct" or free[0][-1].size % tile.vector_rows == 0),
        joins=large
        and tile.joins
        and _run(free[0], itemsize) * itemsize >= JOINED_RUN
        and all(axis.strides[2] % JOINED_WORD == 0 for axis in (*batch, *free[0], *free[1])),
        lanes=lanes,
        staged=staged,
        parts=parts,
        symmetric=symmetric,
        together=together(host()),
    )


def _sides(
    nest: LoopNest, roles: Roles
) -> tuple[
    tuple[int, int], tuple[Axis, ...], tuple[tuple[Axis, ...], tuple[Axis, ...]], Axis | None
]:
    """Return which operands are the rows' and the columns', the axes but those of the sum.

    The last is the axis of the batch along which results interleave, if there is one.
    """
    itemsize, out = nest.itemsize, nest.strides[2]
    holds_unit = [any(out[a] == itemsize for a in group) for group in roles.free]
    inputs = (1, 0) if holds_unit[1] and not holds_unit[0] else (0, 1)
    strides = (nest.strides[inputs[0]], nest.strides[inputs[1]], out)

    def axes(group: tuple[int, ...]) -> list[Axis]:
        return [Axis(nest.sizes[a], (strides[0][a], strides[1][a], out[a])) for a in group]

    free = (
        by_stride(axes(roles.free[inputs[0]]), 2),
        by_stride(axes(roles.free[inputs[1]]), 2, last=(1, itemsize)),
    )
    batch = by_stride(axes(roles.batch), 2)
    if batch and batch[-1].strides[2] == itemsize and not any(holds_unit):
        return inputs, batch[:-1], free, batch[-1]
    return inputs, batch, free, None


def _is_symmetric(
    batch: Iterable[Axis], free: tuple[tuple[Axis, ...], tuple[Axis, ...]], sums: tuple[Axis, ...]
) -> bool:
    """Whether rows and columns are one and the same if the operands are, and sums long enough."""
    rows, columns = ([(axis.size, axis.strides[side]) for axis in free[side]] for side in range(2))
    return (
        rows == columns
        and all(axis.strides[0] == axis.strides[1] for axis in (*batch, *sums))
        and total_of(sums) >= MIRRORED
    )


def _sums(
    axes: list[Axis],
    free: tuple[tuple[Axis, ...], tuple[Axis, ...]],
    extent: list[int],
    itemsize: int,
    in_parts: bool,
) -> tuple[Axis, ...]:
    """Return the summed axes, outermost first.

    Innermost is the one along which an operand lies in memory, of the operand of which more is
    packed. If the other operand lies along another one, both are blocked: a part of the one
    inside the other, so that the lines of both operands are used up while they are near. (Not where
    a word is to hold neighbouring steps, which would lie apart.)
    """
    heavier = (0, 1) if extent[0] >= extent[1] else (1, 0)
    needs = [
        side
        for side in heavier
        if free[side][-1].strides[side] != itemsize
        and any(axis.strides[side] == itemsize for axis in axes)
    ]
    if not needs:
        return by_stride(axes, heavier[0])
    ordered = by_stride(axes, heavier[0], last=(needs[0], itemsize))
    inner = ordered[-1]
    if in_parts and len(needs) == 2 and inner.strides[needs[1]] != itemsize:
        part = _part(inner.size)
        if part > 1:
            outer = Axis(inner.size // part, tuple([part * n for n in inner.strides]))  # type: ignore[arg-type]
            rest = by_stride([*ordered[:-1], outer], heavier[0], last=(needs[1], itemsize))
            return (*rest, Axis(part, inner.strides))
    return ordered


def _part(size: int) -> int:
    """Return the divisor of a size that is nearest to a line of elements, 1 if none is near."""
    return min((n for n in range(8, 33) if size % n == 0), key=lambda n: abs(n - 16), default=1)


def _packing(
    tile: Tile,
    side: int,
    free: tuple[tuple[Axis, ...], tuple[Axis, ...]],
    extent: list[int],
    sums: tuple[Axis, ...],
    itemsize: int,
    always: bool,
) -> tuple[str, int]:
    """Return how a side is packed, and along which summed axis if that is by transposition.

    Unless it is `always` packed, it may be left where it lies.
    """
    inner = free[side][-1]
    along = next(
        (k for k in range(max(len(sums) - 2, 0), len(sums)) if sums[k].strides[side] == itemsize),
        -1,
    )
    if 0 <= along == len(sums) - 2 and _part(sums[-1].size) != sums[-1].size:
        along = -1  # not a part that was split off for this
    converts = tile.arithmetic.itemsize != itemsize or tile.arithmetic.steps > 1
    few = extent[1 - side] <= DIRECT and not converts and not always
    unit = (tile.vector_rows, tile.columns)[side]
    # Tiles may overlap where the innermost axis ends, if they are not added to what is there.
    once = total_of(sums) == depth_of(tile, total_of(sums), 1)
    whole = inner.size % unit == 0 or (once and inner.size >= unit)
    if side == 0:
        in_runs = inner.strides[0] == itemsize
        direct = few and in_runs and whole
    else:
        in_runs = inner.strides[1] == itemsize
        near = in_runs or along == len(sums) - 1 or extent[1] * total_of(sums) * itemsize <= NEAR
        direct = few and near and whole
    if direct:
        return "direct", -1
    if in_runs:
        return "rows", -1
    return ("transposed", along) if along >= 0 else ("gathered", -1)


def _parts(tile: Tile, extent: list[int], matrices: int, total: int) -> int:
    """Return into how many parts to cut the sum, which does not depend on the threads."""
    if tile.dtype == "float16":  # rounded once
        return 1
    tiles = matrices * -(-extent[0] // tile.rows) * -(-extent[1] // tile.columns)
    if tiles > SPLIT_TILES:
        return 1
    return max(1, min(PARTS, total // (PART_BLOCKS * depth_of(tile, total, 1))))


def _whole_vectors(
    tile: Tile,
    batch: tuple[Axis, ...],
    free: tuple[tuple[Axis, ...], tuple[Axis, ...]],
    itemsize: int,
) -> bool:
    """Whether every tile of the result begins at a whole vector if the result does."""
    rows, columns = free
    vector = tile.vector_rows * tile.result_bytes
    return (
        rows[-1].strides[2] == itemsize
        and all(axis.strides[2] % vector == 0 for axis in (*batch, *rows[:-1], *columns))
        and (len(rows) == 1 or rows[-1].size % tile.vector_rows == 0)
    )


def _run(rows: tuple[Axis, ...], itemsize: int) -> int:
    """Return how many rows lie one after the other in the result."""
    run = 1
    for axis in reversed(rows):
        if axis.strides[2] != itemsize * run:
            break
        run *= axis.size
    return run


def computes(nest: LoopNest, roles: Roles) -> bool:
    """Whether there are tiles for a nest's dtype on this processor, and for so long a sum."""
    if nest.dtype.name != "float16":
        return nest.dtype.name in ARITHMETIC
    return host().half_conversion and prod([nest.sizes[a] for a in roles.sums]) <= HALF_DEPTH


def contraction_seconds(nest: LoopNest, plan: Contraction, machine: Machine) -> float:
    """Estimated time on one core."""
    tile = plan.tile
    rows, columns, total, matrices = map(total_of, (*plan.free, plan.sums, plan.batch))
    vectors: float = -(-rows // tile.vector_rows)
    if tile.has_narrow and tile.vector_rows < rows <= tile.vector_rows * 3 // 2:
        vectors = 1.5  # three half vectors
    steps = total / tile.arithmetic.steps
    cycles = vectors * up(columns, tile.columns) * steps * tile.parts * tile.vector_bytes / 64
    for extent, how in zip((rows, columns), plan.packing, strict=True):
        cycles += extent * total * PACK_CYCLES[how] * tile.parts
    if plan.free[0][-1].strides[2] != nest.itemsize:
        cycles += 2 * rows * columns  # stored element by element
    if plan.lanes is not None:
        matrices *= plan.lanes.size
    if plan.rest is not None:
        matrices += total_of(plan.rest[1].batch)
    return CALL_SECONDS + matrices * (MATRIX_SECONDS + cycles * machine.cycle)


CALL_SECONDS = 0.3e-6
MATRIX_SECONDS = 0.15e-6
# of an element
PACK_CYCLES = {"direct": 0.0, "rows": 0.15, "transposed": 0.3, "gathered": 1.0, "lines": 3.0}
