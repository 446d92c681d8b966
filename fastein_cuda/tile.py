"""The block's tile of a contraction: its shape in shared memory, and who multiplies what.

What threads do is written once, in `multiply` and `entries`, over a small set of operations that
`primitives` turns into instructions and `primitives_sim` carries out: so the simulator runs the
very assignment of elements to threads that the GPU runs.

The layouts of fragments are those of the PTX instruction set ("Warp Level Matrix Instructions").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from .elements import ELEMENTS, Element

WARP = 32
SIDE = 16  # threads along each side of a block where no tensor core multiplies

ROWS, COLUMNS = 0, 1  # the sides: the first operand's and the second's


@dataclass(frozen=True, slots=True)
class Tile:
    """What one block multiplies at once, and how it lies in shared memory.

    Attributes
    ----------
    unit : str
        What multiplies: ``'dmma'`` and ``'hmma'``, the tensor cores for float64 and for floats of
        two bytes; ``'tf32'``, those for float32 rounded to 11 bits; ``'tf32x3'``, the same for
        float32 cut into two parts of 11 bits; or ``'simt'``, the ordinary arithmetic units.
    stored, arithmetic : str
        Dtypes of the operands and of the sums.
    rows, columns : int
        Of the block's part of the result.
    depth : int
        Terms of one stage.
    along : tuple of str
        For each side, along what its elements lie: ``'terms'`` or ``'lines'`` (rows or columns).
    lanes : tuple of int
        For each side, neighbours that are copied at once.
    stages : int
        Parts of the operands that are in shared memory at once.
    """

    unit: str
    stored: str
    arithmetic: str
    rows: int
    columns: int
    depth: int
    along: tuple[str, str]
    lanes: tuple[int, int]
    stages: int

    @property
    def element(self) -> Element:
        """What the operands' elements are."""
        return ELEMENTS[self.stored]

    @property
    def extent(self) -> tuple[int, int]:
        """Lines of each side."""
        return self.rows, self.columns

    def pitch(self, side: int) -> int:
        """Elements from one line of shared memory to the next.

        The padding keeps lines aligned to 16 bytes and gives the threads that read together banks
        of their own: 4 elements for the fragments of `dmma`, 4 or 8 for those of `tf32`, 16 bytes
        for those of `hmma`.
        """
        inner = self.depth if self.along[side] == "terms" else self.extent[side]
        rounds = self.unit.startswith("tf32")
        if self.unit == "dmma" or (rounds and self.along[side] == "terms"):
            return inner + 4
        return inner + (8 if rounds else 16 // min(self.element.itemsize, 16))

    def place(self, side: int, line: Any, term: Any) -> Any:
        """Return where an element of a side lies in its part of a stage, in bytes."""
        pitch, itemsize = self.pitch(side), self.element.itemsize
        if self.along[side] == "terms":
            return line * (pitch * itemsize) + term * itemsize
        return term * (pitch * itemsize) + line * itemsize

    def part(self, side: int) -> int:
        """Return the bytes of one side in a stage."""
        lines = self.extent[side] if self.along[side] == "terms" else self.depth
        return -(-lines * self.pitch(side) * self.element.itemsize // 128) * 128

    @property
    def stage(self) -> int:
        """Bytes of one stage."""
        return self.part(ROWS) + self.part(COLUMNS)

    @property
    def warps(self) -> tuple[int, int]:
        """Warps along the rows and along the columns."""
        return 2, 4

    @property
    def fragment(self) -> tuple[int, int]:
        """Rows and columns of a warp's part of the result."""
        return self.rows // self.warps[0], self.columns // self.warps[1]

    @property
    def sums(self) -> int:
        """Sums of one thread."""
        return self.rows * self.columns // 256

    @property
    def parts(self) -> int:
        """Accumulators of each sum: where operands are cut, what their rests add has its own."""
        return 2 if self.unit == "tf32x3" else 1

    @property
    def resident(self) -> int:
        """Blocks that a multiprocessor is to hold at once, as registers allow without spills."""
        if self.sums <= 16 and self.unit in ("hmma", "tf32", "tf32x3"):
            return 2
        if self.unit == "tf32":
            return 2 if min(self.lanes) > 1 else 1
        if self.unit == "hmma":
            return 2 if self.sums <= 64 else 1
        if self.unit == "tf32x3":
            return 1
        return 2 if self.stored == "float32" and "lines" in self.along else 1

    @property
    def wide(self) -> bool:
        """Whether the sums are complex."""
        return self.element.kind == "c"


class Operations(Protocol):
    """What `multiply` and `entries` are made of, for the threads of a block."""

    def thread(self) -> Any:
        """Return the thread's number, an integer with the usual operators."""

    def load(self, address: Any, lanes: int) -> list[Any]:
        """Read neighbours from shared memory, converted for the arithmetic."""

    def matrices(self, address: Any, transposed: bool) -> list[Any]:
        """Read four 8 x 8 matrices of two-byte elements (``ldmatrix``)."""

    def parts(self, value: Any) -> tuple[Any, Any]:
        """Return a complex number's parts."""

    def complex(self, real: Any, imaginary: Any) -> Any:
        """Return a complex number."""

    def negative(self, value: Any) -> Any:
        """Return a real number with the other sign."""

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        """Return ``total + a * b``."""

    def dmma(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        """Return 16 x 8 sums after 8 terms: 4 elements, 2 elements and 4 sums a thread."""

    def rounded(self, value: Any) -> Any:
        """Return a float32 rounded to 11 bits."""

    def rest(self, value: Any) -> Any:
        """Return what `rounded` takes away, rounded to 11 bits."""

    def joined(self, total: Any, rest: Any) -> Any:
        """Return ``total + rest``, or `total` alone where the rest is infinite or no number."""

    def tf32(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        """Return what `dmma` does, of float32 rounded to 11 bits before."""

    def hmma(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        """Return 16 x 8 sums after 16 terms of two-byte floats."""


def multiply(ops: Operations, tile: Tile, sums: list[Any], stage: Any) -> list[Any]:
    """Return a thread's sums after the terms of one stage.

    Parameters
    ----------
    ops : Operations
    tile : Tile
    sums : list
        In the order of `entries`, once for each of the tile's parts.
    stage : integer
        Where the stage begins in shared memory, in bytes.
    """
    run = {"hmma": _hmma, "simt": _simt}.get(tile.unit, _dmma)
    return run(ops, tile, list(sums), (stage, stage + tile.part(ROWS)))


def total(ops: Operations, tile: Tile, sums: list[Any], number: int) -> Any:
    """Return one of a thread's sums."""
    if tile.parts == 1:
        return sums[number]
    return ops.joined(sums[number], sums[tile.sums + number])


def entries(tile: Tile, thread: Any) -> Iterator[tuple[Any, Any]]:
    """Yield row and column of each of a thread's sums, within the tile."""
    if tile.unit == "simt":
        across, down = thread & (SIDE - 1), thread >> (SIDE.bit_length() - 1)
        for i in range(tile.rows // SIDE):
            for j in range(tile.columns // SIDE):
                yield _simt_line(tile, ROWS, down, i), _simt_line(tile, COLUMNS, across, j)
        return
    row, column, group, place = _warp(tile, thread)
    for i in range(0, tile.fragment[0], 16):
        for j in range(0, tile.fragment[1], 8):
            for number in range(4):
                yield row + group + (i + 8 * (number >> 1)), column + place * 2 + (j + (number & 1))


def _warp(tile: Tile, thread: Any) -> tuple[Any, Any, Any, Any]:
    """Return the warp's first row and column, and the lane's group and place in it."""
    warp, lane = thread >> 5, thread & (WARP - 1)
    down, across = warp >> 2, warp & 3
    return down * tile.fragment[0], across * tile.fragment[1], lane >> 2, lane & 3


def _dmma(ops: Operations, tile: Tile, sums: list[Any], begin: tuple[Any, Any]) -> list[Any]:
    """Multiply by tensor cores, 8 terms at a time; complex numbers as four products of parts."""
    row, column, group, place = _warp(tile, ops.thread())
    corner = (
        begin[ROWS] + tile.place(ROWS, row + group, place),
        begin[COLUMNS] + tile.place(COLUMNS, column + group, place),
    )
    rows, columns = tile.fragment

    def element(side: int, line: int, term: int) -> Any:
        return ops.load(corner[side] + tile.place(side, line, term), 1)[0]

    product = partial(_tf32, ops) if tile.unit == "tf32" else ops.dmma
    if tile.wide:
        product = partial(_complex_dmma, ops)
    for k in range(0, tile.depth, 8):
        b = [[element(COLUMNS, j, k + q) for q in (0, 4)] for j in range(0, columns, 8)]
        for i in range(rows // 16):
            a = [element(ROWS, 16 * i + h, k + q) for q in (0, 4) for h in (0, 8)]
            for j in range(columns // 8):
                at = slice(4 * (i * (columns // 8) + j), 4 * (i * (columns // 8) + j) + 4)
                if tile.parts == 1:
                    sums[at] = product(sums[at], a, b[j])
                else:
                    beside = slice(at.start + tile.sums, at.stop + tile.sums)
                    sums[at], sums[beside] = _tf32x3(ops, sums[at], sums[beside], a, b[j])
    return sums


def _tf32(ops: Operations, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
    return ops.tf32(totals, *[[ops.rounded(x) for x in values] for values in (a, b)])


def _tf32x3(
    ops: Operations, totals: list[Any], rests: list[Any], a: list[Any], b: list[Any]
) -> tuple[list[Any], list[Any]]:
    """Multiply as precisely as float32 does, but for the product of the two rests.

    What the rests add has sums of its own, for infinity's sake: it has no rest, but the totals
    without rests are infinite, or no number, where the exact ones are.

    (H. Ootomo and R. Yokota, "Recovering single precision accuracy from Tensor Cores while
    surpassing the FP32 theoretical peak performance", IJHPCA 36(4), 2022.)
    """
    large_a, large_b = ([ops.rounded(x) for x in values] for values in (a, b))
    small_a, small_b = ([ops.rest(x) for x in values] for values in (a, b))
    rests = ops.tf32(ops.tf32(rests, small_a, large_b), large_a, small_b)
    return ops.tf32(totals, large_a, large_b), rests


def _complex_dmma(ops: Operations, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
    real, imaginary = (list(x) for x in zip(*map(ops.parts, totals), strict=True))
    (ar, ai), (br, bi) = (
        [list(x) for x in zip(*map(ops.parts, values), strict=True)] for values in (a, b)
    )
    real = ops.dmma(ops.dmma(real, ar, br), [ops.negative(x) for x in ai], bi)
    imaginary = ops.dmma(ops.dmma(imaginary, ar, bi), ai, br)
    return [ops.complex(x, y) for x, y in zip(real, imaginary, strict=True)]


def _hmma(ops: Operations, tile: Tile, sums: list[Any], begin: tuple[Any, Any]) -> list[Any]:
    """Multiply by the tensor cores for floats of two bytes, read four matrices at a time."""
    row, column, _, _ = _warp(tile, ops.thread())
    lane = ops.thread() & (WARP - 1)
    within, second, third = lane & 7, (lane >> 3) & 1, lane >> 4
    corner = (
        begin[ROWS] + _matrix_place(tile, ROWS, row, within, second, third),
        begin[COLUMNS] + _matrix_place(tile, COLUMNS, column, within, third, second),
    )
    rows, columns = tile.fragment

    def matrices(side: int, line: int, term: int) -> list[Any]:
        return ops.matrices(
            corner[side] + tile.place(side, line, term), tile.along[side] == "lines"
        )

    for k in range(0, tile.depth, 16):
        b = [matrices(COLUMNS, j, k) for j in range(0, columns, 16)]
        for i in range(rows // 16):
            a = matrices(ROWS, 16 * i, k)
            for j in range(columns // 8):
                at = slice(4 * (i * (columns // 8) + j), 4 * (i * (columns // 8) + j) + 4)
                sums[at] = ops.hmma(sums[at], a, b[j // 2][2 * (j % 2) : 2 * (j % 2) + 2])
    return sums


def _matrix_place(tile: Tile, side: int, line: Any, within: Any, lines: Any, terms: Any) -> Any:
    """Return where a lane's line of its 8 x 8 matrix begins, in bytes.

    `lines` and `terms` are 1 for the matrices that are 8 lines or 8 terms further on.
    """
    if tile.along[side] == "terms":
        return tile.place(side, line + within + lines * 8, terms * 8)
    return tile.place(side, line + lines * 8, within + terms * 8)


def _simt(ops: Operations, tile: Tile, sums: list[Any], begin: tuple[Any, Any]) -> list[Any]:
    """Multiply by the ordinary units: outer products of a few lines of each side."""
    thread = ops.thread()
    across, down = thread & (SIDE - 1), thread >> (SIDE.bit_length() - 1)
    corner = tuple(
        [
            begin[side] + tile.place(side, _simt_line(tile, side, which, 0), 0)
            for side, which in ((ROWS, down), (COLUMNS, across))
        ]
    )
    step = max(8 // tile.element.itemsize, 1) if "terms" in tile.along else 1
    columns = tile.columns // SIDE
    for k in range(0, tile.depth, step):
        a, b = (_simt_lines(ops, tile, side, corner[side], k, step) for side in (ROWS, COLUMNS))
        for u in range(step):
            for i in range(tile.rows // SIDE):
                for j in range(columns):
                    at = i * columns + j
                    sums[at] = ops.add_product(sums[at], a[i][u], b[j][u])
    return sums


def _simt_line(tile: Tile, side: int, which: Any, number: int) -> Any:
    """Return one of the lines that a thread has of a side: neighbours where they lie so."""
    run = _simt_run(tile, side)
    return which * run + (number % run + SIDE * run * (number // run))


def _simt_run(tile: Tile, side: int) -> int:
    if tile.along[side] == "terms":
        return 1
    return min(max(16 // tile.element.itemsize, 1), tile.extent[side] // SIDE)


def _simt_lines(
    ops: Operations, tile: Tile, side: int, corner: Any, k: int, step: int
) -> list[list[Any]]:
    """Return a thread's elements of a side, as one list of `step` terms for each of its lines."""
    run = _simt_run(tile, side)
    count = tile.extent[side] // SIDE
    if tile.along[side] == "terms":
        offsets = [tile.place(side, SIDE * number, k) for number in range(count)]
        return [ops.load(corner + offset, step) for offset in offsets]
    lines: list[list[Any]] = [[] for _ in range(count)]
    for u in range(step):
        for first in range(0, count, run):
            found = ops.load(corner + tile.place(side, SIDE * first, k + u), run)
            for number, value in enumerate(found):
                lines[first + number].append(value)
    return lines
