"""How large the blocks of a contraction are: a small model of the caches.

* ``depth`` steps of the sum make a block: deep enough that reading and writing the tile's part of
  the result is nothing beside the multiplications, shallow enough that a panel of columns stays
  in the first cache while the rows' panels stream by.
* A thread's own block fills half of the second cache. The shared block may take a part of the
  third.

The model is that of Low, Igual, Smith and Quintana-Orti, "Analytical Modeling Is Enough for
High-Performance BLIS" (2016), without associativity.
"""

from __future__ import annotations

from math import inf

from ..record import Record
from .machine import caches
from .tile import Tile

DEPTH = 384  # steps of the sum in a block, of elements of 4 bytes and less
WHOLE = 448  # of float32 in one piece: longer ones lose more digits than BLAS, which splits them
WIDE_DEPTH = 256
ABREAST_BYTES = 24 << 10  # of a panel of columns of whole vectors
COMPLEX_DEPTH = 128  # longer sums of real and imaginary parts apart lose more than BLAS does
TASKS = 4  # blocks for a thread in each stage, if they are not too small
WIDE = 384  # rows from which threads share them if the result's columns are contiguous
PARTIAL = 0.1  # what a panel that is not whole takes longer, in units (vectors of rows)
BLOCK = 0.02  # what a block takes beside its panels
ROW_PANELS = 16  # of a block whose results are staged, at most
TABLES = 64  # bytes of offsets that come with each element of a block


class Blocks(Record):
    """Extents of the blocks: steps of the sum, and elements of the rows and of the columns."""

    depth: int
    free: tuple[int, int]


def depth_of(tile: Tile, total: int, grain: int) -> int:
    """Return the steps of the sum in a block: parts of one size, multiples of `grain`."""
    if tile.dtype == "float16":
        return total
    if tile.is_abreast:
        most = ABREAST_BYTES // (tile.columns * tile.vector_bytes)
    elif tile.parts == 2:
        most = COMPLEX_DEPTH
    else:
        most = DEPTH if tile.arithmetic.itemsize <= 4 else WIDE_DEPTH
    whole = WHOLE if tile.dtype == "float32" and not tile.is_abreast else most * 3 // 2
    most *= tile.arithmetic.steps
    whole *= tile.arithmetic.steps
    return total if total <= whole else up(-(-total // -(-total // most)), grain)


def blocks_of(
    tile: Tile,
    extent: list[int],
    total: int,
    grain: int,
    threads: int,
    long_columns: bool = False,
) -> tuple[int, Blocks]:
    """Return which side is shared, and the blocks; depths are multiples of `grain`.

    `long_columns` says that columns of the result are contiguous.
    """
    cache = caches()
    itemsize = tile.arithmetic.itemsize
    depth = depth_of(tile, total, grain)
    each = -(-depth // tile.arithmetic.steps) * itemsize + TABLES  # bytes of an element of a block
    half = cache.second // 2 // each
    # rows that all stay in the second cache, while blocks of columns come and go, balance better
    shared = 0 if extent[0] < extent[1] and 4 * extent[0] <= 5 * half else 1
    if long_columns and threads > 1 and WIDE <= extent[0] <= 2 * extent[1]:
        shared = 0  # each thread writes whole columns
    own = 1 - shared
    units = (tile.vector_rows, tile.columns)
    panel = (tile.rows, tile.columns)
    block = [0, 0]
    count = -(-extent[own] // max(half, panel[own]))
    if threads > 1 and extent[own] >= threads * units[own]:
        # some for each thread: one that is held up leaves them to the others
        count = max(count, min(extent[own] // (4 * panel[own]), TASKS * threads))
        block[own] = units[own] * _balanced(
            -(-extent[own] // units[own]), count, threads, panel[own] // units[own]
        )
    else:
        block[own] = up(-(-extent[own] // count), units[own])
        if count > 1 and block[own] >= 2 * panel[own]:  # whole panels
            block[own] = (block[own] + panel[own] // 2) // panel[own] * panel[own]
    most_shared = max(cache.third // 8 // each, 4 * units[shared])
    parts = -(-extent[shared] // most_shared)
    block[shared] = up(-(-extent[shared] // parts), panel[shared])
    return shared, Blocks(depth, (block[0], block[1]))


def _balanced(units: int, count: int, threads: int, panel: int) -> int:
    """Return the units of a block, of which at least `count` make `units`, done soonest by threads.

    Panels have `panel` units.
    """
    counts = range(count, 2 * (count + threads))
    sizes = dict.fromkeys([-(-units // n) for n in counts])
    return min(sizes, key=lambda size: _last_thread(units, size, threads, panel))


def _last_thread(units: int, size: int, threads: int, panel: int) -> float:
    """Return how long threads take for blocks of one size, in units that are multiplied."""
    blocks, left = divmod(units, size)
    rounds, more = divmod(blocks, threads)
    each, rest = _block_cost(size, panel), _block_cost(left, panel)
    return max(rounds * each + rest, (rounds + bool(more)) * each)


def _block_cost(units: int, panel: int) -> float:
    """Return how long a block takes; panels that are not whole have slower tiles."""
    panels, left = divmod(units, panel)
    if left == 1:  # shared with the panel before, if there is one
        return units + (2 * PARTIAL if panels else 1) + BLOCK
    return units + (PARTIAL if left else 0) + (BLOCK if units else 0)


def staged_blocks(tile: Tile, extent: list[int], depth: int, staged: int, least: int = 1) -> Blocks:
    """Return the blocks for which least is packed, of which there are at least so many.

    The staged results of a block, and both of its operands, fit the second cache.
    """
    packed = depth * tile.arithmetic.itemsize
    result = staged * tile.result_bytes
    best, cost = (tile.vector_rows, tile.columns), inf
    for panels in range(1, ROW_PANELS + 1):
        rows = up(-(-extent[0] // -(-extent[0] // (panels * tile.rows))), tile.vector_rows)
        room = caches().second * 7 // 8 - rows * packed
        most = max(room // (rows * result + packed) // tile.columns, 1) * tile.columns
        row_blocks = -(-extent[0] // rows)
        column_blocks = max(-(-extent[1] // most), -(-least // row_blocks))
        columns = up(-(-extent[1] // column_blocks), tile.columns)
        each = column_blocks * extent[0] + row_blocks * extent[1]
        if each < cost:
            best, cost = (rows, columns), each
    return Blocks(depth, best)


def up(n: int, grain: int) -> int:
    """Return the least multiple of `grain` that is no smaller."""
    return -(-n // grain) * grain
