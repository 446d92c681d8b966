"""Scheduling a permutation: one operand, rearranged into the result, nothing summed.

Two axes decide: the *columns* lie along the operand's unit stride, the *rows* along the result's.
A block of both is read row by row and written column by column, transposed in registers on the
way (:mod:`fastein.cpu.permutation_kernel`). Where an axis is short, the next one that continues it
in memory is taken in as well. If one axis is contiguous in both, whole runs of it are what is
moved: copied, if they are long, or elements of their own kind.

The model:

* Memory is read in its order: the loops run by falling stride in the operand. A block has few rows,
  each read for as long as there are columns.
* A result that does not stay in the last cache is written past it, in whole lines. Where columns
  begin anywhere in a line, blocks have more rows, and go through an image in the first cache.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from .._nest import LoopNest
from ..record import Record
from .machine import Machine, caches

LINE = 64
RUN = 256  # bytes from which a run is copied rather than moved as an element
LONG = 1024  # bytes up to which short axes are joined
MOST_ENTRIES = 4096  # of joined axes
# What others leave of the last cache. Of 32 MB: 4 MB of int16 and its transpose at 40 GB/s without
# streaming stores, 16 MB at 14; with them 27.
OWN_SHARE = 1 / 4
WORDS = (1, 2, 4, 8, 16)  # sizes of elements that kernels transpose


class Axis(NamedTuple):
    """A loop: its size, and its strides in the operand and in the result, in bytes."""

    size: int
    read: int
    written: int


class Permutation(Record):
    """How a permutation runs.

    Attributes
    ----------
    element : str
        What is moved: a key of `fastein.cpu.elements.ELEMENTS`, or ``''`` for runs of any length.
    size : int
        Bytes of that.
    rows, columns : tuple of Axis
        The axes along which the result and the operand lie, outermost first.
    outer : tuple of Axis
        All others, by falling stride in the operand.
    origin : (int, int)
        Where iterations begin in the operand and in the result, in bytes: axes are turned so that
        rows and columns ascend.
    streams : bool
        Whether the result is written past the caches.
    """

    element: str
    size: int
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    outer: tuple[Axis, ...]
    origin: tuple[int, int]
    streams: bool

    @property
    def is_transposed(self) -> bool:
        """Whether a generated kernel moves the blocks."""
        return (
            bool(self.element and self.rows)
            and self.rows[-1].written == self.size == self.columns[-1].read
        )

    @property
    def is_aligned(self) -> bool:
        """Whether all columns begin at the same place in a line."""
        return self.is_transposed and all(axis.written % LINE == 0 for axis in self.columns)

    def __str__(self) -> str:
        def extent(axes: tuple[Axis, ...]) -> str:
            return " x ".join(str(axis.size) for axis in axes) or "1"

        what = f"{self.size}-byte {'elements' if self.element else 'runs'}"
        how = "transposed in registers" if self.is_transposed else "moved one by one"
        if not self.rows:
            how = "copied"
        past = ", streaming stores" if self.streams else ""
        return (
            f"permutation: {what} {how}; rows {extent(self.rows)}, columns "
            f"{extent(self.columns)}, outside {extent(self.outer)}{past}"
        )


def permutation(nest: LoopNest) -> Permutation | None:
    """Return the schedule of a nest that only rearranges its operand, else None."""
    if nest.nin != 1 or any(nest.summed) or not nest.rank:
        return None
    truth = nest.dtype.char == "?"  # a byte that is to become 0 or 1
    size = nest.itemsize
    axes, origin = _turned(nest)
    run = next((axis for axis in axes if axis.read == axis.written == size), None)
    if run is not None:
        if truth:
            return None
        axes.remove(run)
        size *= run.size
    streams = 2 * size * prod([axis.size for axis in axes]) > caches().third * OWN_SHARE
    element = "bool" if truth else f"raw{size}" if size in WORDS else ""
    rows: list[Axis] = []
    columns: list[Axis] = []
    if axes and size < RUN:
        rows.append(_nearest(axes, 1))
        axes.remove(rows[0])
        columns.append(_nearest(axes, 0) if axes else Axis(1, size, 0))
        if axes:
            axes.remove(columns[0])
            _join(rows, columns, axes, size)
    axes.sort(key=lambda axis: -abs(axis.read))
    return Permutation(element, size, tuple(rows), tuple(columns), tuple(axes), origin, streams)


def _turned(nest: LoopNest) -> tuple[list[Axis], tuple[int, int]]:
    """Return the axes, turned so that the result ascends, or the operand by its unit stride."""
    axes, begin = [], [0, 0]
    for size, read, written in zip(nest.sizes, *nest.strides, strict=True):
        unit = nest.itemsize
        if read == -unit if abs(written) != unit else written < 0:
            begin[0] += (size - 1) * read
            begin[1] += (size - 1) * written
            read, written = -read, -written
        axes.append(Axis(size, read, written))
    return axes, (begin[0], begin[1])


def _nearest(axes: list[Axis], operand: int) -> Axis:
    """Return the axis with the smallest stride; 0 is none."""
    return min(axes, key=lambda axis: (axis[1 + operand] == 0, abs(axis[1 + operand]), -axis.size))


def _join(rows: list[Axis], columns: list[Axis], axes: list[Axis], size: int) -> None:
    """Take axes that continue the rows or the columns in memory into these, while they are short.

    The shorter ones are served first.
    """
    while True:
        kinds = sorted((_total(group), kind) for kind, group in enumerate((columns, rows)))
        for extent, kind in kinds:
            group = (columns, rows)[kind]
            stride = group[-1][1 + kind] * extent
            following = [
                axis
                for axis in axes
                if axis[1 + kind] == stride and extent * axis.size <= MOST_ENTRIES
            ]
            if extent * size < LONG and following:
                group.insert(0, following[0])
                axes.remove(following[0])
                break
        else:
            return


def _total(axes: list[Axis]) -> int:
    return prod([axis.size for axis in axes])


def permutation_seconds(nest: LoopNest, machine: Machine) -> float:
    """Estimated time on one core."""
    return nest.iterations * nest.itemsize * SECONDS_PER_BYTE


SECONDS_PER_BYTE = 0.1e-9
