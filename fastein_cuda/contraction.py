"""Scheduling a contraction: which axes are rows, columns and terms, which tile multiplies them.

Any number of axes in any layout: tables of offsets in shared memory stand between a line's number
and its address, so nothing is transposed beforehand. (P. Springer and P. Bientinesi, "Design of a
High-Performance GEMM-like Tensor-Tensor Multiplication", ACM TOMS 44(3), 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod

from .elements import ELEMENTS
from .forms import THREADS, ContractionForm
from .loops import Loops, is_wide, partial_sums
from .machine import Machine
from .tile import COLUMNS, ROWS, Tile

LEAST_LINES = 16  # rows and columns below which a tile would be mostly empty
LEAST_TERMS = 8
LEAST_CHUNK = 256  # terms that are worth a block of their own
MOST_SPLITS = 64
MOST_STAGES = 4
MOST_HEIGHT = 8  # row tiles that share their columns in the second cache
TABLES = 16 << 10  # bytes of shared memory that tables of offsets may take
COPY = 16  # bytes that one instruction copies at the most

# Units whose largest tile has no registers left for offsets of 64 bits before capability 9.
TIGHT = {("dmma", 8), ("hmma", 2)}

UNITS = {"float64": "dmma", "complex128": "dmma", "float16": "hmma", "bfloat16": "hmma"}

# For what multiplies and the bytes of an element, tiles (rows, columns, depth), the largest first.
TILES = {
    ("dmma", 8): ((128, 128, 16), (64, 64, 16)),
    ("dmma", 16): ((64, 64, 8),),
    ("hmma", 2): ((128, 256, 32), (128, 128, 32), (64, 64, 32)),
    ("tf32", 4): ((128, 128, 32), (64, 64, 32)),
    ("tf32x3", 4): ((64, 128, 32), (64, 64, 32)),
    ("simt", 1): ((128, 128, 16), (64, 64, 16)),
    ("simt", 2): ((128, 128, 16), (64, 64, 16)),
    ("simt", 4): ((128, 128, 16), (64, 64, 16)),
    ("simt", 8): ((64, 64, 8),),
}


@dataclass(frozen=True, slots=True)
class ContractionSchedule:
    """A contraction dealt to blocks.

    Attributes
    ----------
    given : Loops
        The loops as they were to be scheduled.
    loops : Loops
        The operand of the rows, that of the columns, the output; batch axes, rows, columns, terms.
    form : ContractionForm
    order : tuple of int
        Which of the nest's operands is that of the rows, and which that of the columns.
    chunk : int
        Terms that one block sums.
    splits : int
        Blocks that share a sum.
    height : int
        Row tiles that follow each other before the next column.
    """

    given: Loops
    loops: Loops
    form: ContractionForm
    order: tuple[int, int]
    chunk: int
    splits: int
    height: int

    @property
    def family(self) -> str:
        return "contraction"

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """Batches, rows, columns and terms."""
        sizes = iter(self.loops.sizes)
        return tuple([prod([next(sizes) for _ in range(n)]) for n in self.form.axes])  # type: ignore[return-value]

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles along the rows and along the columns."""
        _, rows, columns, _ = self.extents
        tile = self.form.tile
        return -(-rows // tile.rows), -(-columns // tile.columns)

    @property
    def grid(self) -> tuple[int, int]:
        down, across = self.tiles
        return self.extents[0] * down * across, self.splits

    @property
    def workspace(self) -> int:
        """Bytes of the partial sums."""
        return partial_sums(self.loops, self.splits)

    def __str__(self) -> str:
        batches, rows, columns, terms = self.extents
        tile = self.form.tile
        split = f", {self.splits} blocks a sum" if self.splits > 1 else ""
        batch = f"{batches} times " if batches > 1 else ""
        return (
            f"contraction: {batch}{rows} rows, {columns} columns, {terms} terms; {tile.unit} tiles "
            f"of {tile.rows} by {tile.columns} by {tile.depth}, {tile.stages} stages{split}"
        )


def contraction(loops: Loops, machine: Machine, vectors: bool) -> ContractionSchedule | None:
    """Return a schedule by tiles if the loops are a product of (stacks of) large matrices.

    Parameters
    ----------
    loops : Loops
    machine : Machine
    vectors : bool
        Whether the operands' addresses suit vectors.
    """
    groups = _roles(loops)
    if groups is None or len(set(loops.stored[:2])) > 1:
        return None
    batch, rows, columns, terms = groups
    extents = [prod([loops.sizes[a] for a in group]) for group in groups]
    if min(extents[1:3]) < LEAST_LINES or extents[3] < LEAST_TERMS:
        return None
    order = (0, 1)
    unit = _lies_along(loops, 2)
    if unit in rows and unit not in columns:  # the output is written along its columns
        order, rows, columns = (1, 0), columns, rows
        extents[1], extents[2] = extents[2], extents[1]
    strides = [loops.strides[k] for k in (*order, 2)]
    lying = [_lies_along(loops, operand) for operand in order]
    ordered = replace(loops, strides=tuple(strides)).reordered(
        [
            *_outermost_first(batch, strides[2]),
            *_outermost_first(rows, strides[0], lying[0]),
            *_outermost_first(columns, strides[1], lying[1]),
            *_outermost_first(terms, strides[0], *lying),
        ]
    )
    counts = (len(batch), len(rows), len(columns), len(terms))
    tile = _tile(ordered, counts, extents, machine, vectors)
    blocks = extents[0] * -(-extents[1] // tile.rows) * -(-extents[2] // tile.columns)
    splits, chunk = _splits(blocks, extents[3], tile, machine)
    form = ContractionForm(
        tile=tile,
        stored=(*ordered.stored[:2], loops.arithmetic if splits > 1 else ordered.stored[2]),
        axes=counts,
        moves=ordered.moves,
        alignment=_alignment(ordered, tile, vectors, splits > 1),
        partial=splits > 1,
        wide=is_wide(ordered),
    )
    down = -(-extents[1] // tile.rows)
    height = max(n for n in range(1, MOST_HEIGHT + 1) if down % n == 0)
    return ContractionSchedule(loops, ordered, form, order, chunk, splits, height)


def multiplies_matrices(loops: Loops) -> bool:
    """Whether loops are a product of (stacks of) matrices of any size."""
    return _roles(loops) is not None


def _roles(loops: Loops) -> tuple[tuple[int, ...], ...] | None:
    """Return batch, row, column and summed axes if the loops are a product of matrices."""
    if loops.nin != 2:
        return None
    first, second, _ = loops.strides
    kinds = {
        (False, True, True): 0,
        (False, True, False): 1,
        (False, False, True): 2,
        (True, True, True): 3,
    }
    groups: list[list[int]] = [[], [], [], []]
    for axis, summed in enumerate(loops.summed):
        kind = kinds.get((summed, bool(first[axis]), bool(second[axis])))
        if kind is None or (not summed and not loops.strides[2][axis]):
            return None
        groups[kind].append(axis)
    if not (groups[1] and groups[2] and groups[3]):
        return None
    return tuple([tuple(group) for group in groups])


def _lies_along(loops: Loops, operand: int) -> int:
    """Return the axis along which an operand's elements lie next to each other, -1 if none."""
    itemsize = loops.elements[operand].itemsize
    row = loops.strides[operand]
    return row.index(itemsize) if itemsize in row else -1


def _outermost_first(group: tuple[int, ...], row: tuple[int, ...], *last: int) -> list[int]:
    """Return axes by falling stride; innermost is the first of `last` that is among them."""
    ordered = sorted(group, key=lambda a: -abs(row[a]))
    for axis in last:
        if axis in ordered:
            ordered.remove(axis)
            return [*ordered, axis]
    return ordered


def tiles(
    unit: str, itemsize: int, capability: tuple[int, int], wide: bool
) -> tuple[tuple[int, int, int], ...]:
    """Return the tiles (rows, columns, depth) of a unit, the largest first.

    Parameters
    ----------
    unit : str
    itemsize : int
        Of the operands.
    capability : tuple of int
    wide : bool
        Whether offsets have 64 bits.
    """
    found = TILES[unit, itemsize]
    spills = wide and capability < (9, 0) and (unit, itemsize) in TIGHT
    return found[1:] if spills else found


def _tile(
    loops: Loops, counts: tuple[int, ...], extents: list[int], machine: Machine, vectors: bool
) -> Tile:
    """Return the largest tile of which there are enough for the machine."""
    element = loops.elements[0]
    unit = UNITS.get(element.name, "simt")
    allowed = machine.tf32 or loops.tf32
    if allowed and element.name == "float32":
        unit = "tf32" if allowed is True else "tf32x3"
    for size in tiles(unit, element.itemsize, machine.capability, is_wide(loops)):
        tile = _tile_of(loops, counts, size, unit, machine, vectors)
        blocks = extents[0] * -(-extents[1] // tile.rows) * -(-extents[2] // tile.columns)
        if blocks >= machine.processors:
            break
    return tile


def _tile_of(
    loops: Loops,
    counts: tuple[int, ...],
    size: tuple[int, int, int],
    unit: str,
    machine: Machine,
    vectors: bool,
) -> Tile:
    ends = (counts[0] + counts[1] - 1, sum(counts[:3]) - 1, sum(counts) - 1)  # innermost axes
    sides = [_copying(loops, side, ends[side], ends[2], size, vectors) for side in (ROWS, COLUMNS)]
    tile = Tile(
        unit=unit,
        stored=loops.stored[0],
        arithmetic=loops.arithmetic,
        rows=size[0],
        columns=size[1],
        depth=size[2],
        along=(sides[0][0], sides[1][0]),
        lanes=(sides[0][1], sides[1][1]),
        stages=MOST_STAGES,
    )
    room = machine.shared // tile.resident - TABLES
    return replace(tile, stages=max(2, min(MOST_STAGES, room // tile.stage)))


def _copying(
    loops: Loops, side: int, line: int, term: int, size: tuple[int, int, int], vectors: bool
) -> tuple[str, int]:
    """Return along what a side lies, and how many neighbours are copied at once."""
    row, itemsize = loops.strides[side], loops.elements[side].itemsize
    for along, axis in (("terms", term), ("lines", line)):
        if row[axis] != itemsize:
            continue
        least = size[side] * size[2] // THREADS  # every thread copies something
        lanes = min(COPY // itemsize, least) if vectors else 1
        for a, stride in enumerate(row):
            lanes = gcd(lanes, loops.sizes[a] if a == axis else stride // itemsize)
            if stride % itemsize:
                lanes = 1
        return along, max(lanes, 1)
    return "terms", 1


def _alignment(loops: Loops, tile: Tile, vectors: bool, partial: bool) -> tuple[int, ...]:
    """Return the alignment in bytes that the kernel relies on, for each operand."""
    chosen = list(loops.alignment)
    for side, lanes in enumerate(tile.lanes):
        itemsize = tile.element.itemsize
        whole = all(stride % itemsize == 0 for stride in loops.strides[side])
        if vectors and whole:
            chosen[side] = lanes * itemsize
    if partial:
        chosen[2] = ELEMENTS[loops.arithmetic].itemsize
    return tuple(chosen)


def _splits(blocks: int, terms: int, tile: Tile, machine: Machine) -> tuple[int, int]:
    """Return how many blocks share a sum, and how many terms each of them has."""
    wanted = machine.processors // blocks if blocks < machine.processors else 1
    splits = max(1, min(wanted, terms // LEAST_CHUNK, MOST_SPLITS))
    chunk = -(-terms // (splits * tile.depth)) * tile.depth
    return -(-terms // chunk), chunk
