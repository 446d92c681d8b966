"""Matrices abreast: contractions whose batch is innermost in both operands and in the result.

In ``'ijb,jkb->ikb'`` neighbouring elements belong to different matrices. So the lanes of a vector
are as many matrices: a row is a vector, a column is another, and a product multiplies them lane by
lane. Then nothing needs to be transposed, neither operands nor results, and the contraction is as
any other whose elements are whole vectors: the same blocks, threads and tables of offsets, and a
register tile that loads vectors where others repeat a scalar (:mod:`fastein.cpu.tile`).

Matrices that do not fill whole vectors are joined by some that were computed before.
"""

from __future__ import annotations

from math import prod

from .._nest import LoopNest
from .axis_roles import Axis
from .blocking import blocks_of
from .contraction import STREAM_BYTES, Contraction
from .isa import host
from .tile import ABREAST, ARITHMETIC, Tile, tile_for


def abreast(plan: Contraction, nest: LoopNest, threads: int) -> Contraction:
    """Return the schedule of matrices abreast in the place of another, or that one."""
    lanes = plan.lanes
    if lanes is None or any(step != nest.itemsize for step in lanes.strides):
        return plan
    if ARITHMETIC[nest.dtype.name].itemsize != nest.itemsize:  # widened where they are packed
        return plan
    tile = _tile(nest.dtype.name, lanes.size)
    if tile is None:
        return plan
    groups, left = divmod(lanes.size, tile.matrices)
    step = tile.vector_bytes
    rest = None
    if left:
        rest = (lanes.size - tile.matrices) * nest.itemsize, _scheduled(plan, tile, (), threads)
    group = (Axis(groups, (step, step, step)),)
    return _scheduled(plan, tile, group, threads).replace(
        rest=rest, streams=_streams(plan, nest, step)
    )


def _tile(dtype: str, matrices: int) -> Tile | None:
    """Return the tile whose vectors are left emptiest last, None if there are too few matrices."""
    widest = tile_for(dtype, host(), ABREAST)
    least = max(widest.vector_bytes // 2, 16)  # narrower ones run at half of the speed and less
    found = [widest.replace(vector_bytes=n) for n in {widest.vector_bytes, least}]
    fitting = [tile for tile in found if 1 < tile.matrices <= matrices]
    return min(
        fitting,
        key=lambda tile: (-(-matrices // tile.matrices) * tile.vector_bytes, -tile.vector_bytes),
        default=None,
    )


def _scheduled(plan: Contraction, tile: Tile, group: tuple[Axis, ...], threads: int) -> Contraction:
    """Return the schedule of some vectors of matrices."""
    batch = (*plan.batch, *group)
    extent = [prod([axis.size for axis in free]) for free in plan.free]
    total = prod([axis.size for axis in plan.sums])
    by_matrix = prod([axis.size for axis in batch]) >= 2 * threads
    shared, blocks = blocks_of(tile, extent, total, 1, 1 if by_matrix else threads)
    return plan.replace(
        tile=tile,
        batch=batch,
        packing=("lines", "lines"),
        along=(-1, -1),
        shared=shared,
        blocks=blocks,
        by_matrix=by_matrix,
        joins=False,
        lanes=None,
        staged=0,
    )


def _streams(plan: Contraction, nest: LoopNest, vector: int) -> bool:
    """Whether results are written past the caches."""
    axes = (*plan.batch, *plan.free[0], *plan.free[1])
    assert plan.lanes is not None
    size = nest.itemsize * prod([axis.size for axis in axes]) * plan.lanes.size
    return size >= STREAM_BYTES and all(axis.strides[2] % vector == 0 for axis in axes)
