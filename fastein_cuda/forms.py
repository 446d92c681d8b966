"""Forms: all that a kernel's source depends on, as plain data.

Sizes, strides and the numbers that divide by them are a kernel's arguments, so that one kernel
serves every shape of a form.
"""

from __future__ import annotations

from dataclasses import dataclass

from .tile import Tile

THREADS = 256  # of a block


class _Form:
    """What all forms have."""

    __slots__ = ()

    resident = 1  # blocks that a multiprocessor is to hold at once, at the least
    stored: tuple[str, ...]
    moves: tuple[str, ...]

    @property
    def nin(self) -> int:
        """Number of inputs."""
        return len(self.stored) - 1

    @property
    def rank(self) -> int:
        """Number of loops."""
        return len(self.moves[0])


@dataclass(frozen=True, slots=True)
class NestForm(_Form):
    """The static key of a nest's kernel.

    Attributes
    ----------
    stored : tuple of str
        Dtypes of the operands in memory; the output comes last.
    arithmetic : str
        Dtype of products and sums.
    outputs : int
        Number of output loops; the others are summed.
    moves : tuple of str
        Per operand one character per loop: ``'1'`` where it moves, ``'0'`` where it stands still.
    alignment : tuple of int
        Bytes at whose multiples each operand is read or written.
    lanes : int
        Neighbours that one instruction reads or writes.
    vectors : tuple of bool
        Which operands are read and written so.
    along : str
        ``'items'``: neighbouring threads have neighbouring results; ``'terms'``: they have
        neighbouring terms of one sum.
    parts : int
        Threads that share a sum.
    partial : bool
        Whether the output is the partial sums of a block.
    wide : bool
        Whether indices need 64 bits.
    """

    stored: tuple[str, ...]
    arithmetic: str
    outputs: int
    moves: tuple[str, ...]
    alignment: tuple[int, ...]
    lanes: int
    vectors: tuple[bool, ...]
    along: str
    parts: int
    partial: bool
    wide: bool

    @property
    def columns(self) -> int:
        """Results of one block."""
        return THREADS // self.parts

    def lanes_of(self, operand: int) -> int:
        """Return how many neighbours of an operand one instruction reads or writes."""
        return self.lanes if self.vectors[operand] else 1


@dataclass(frozen=True, slots=True)
class TranspositionForm(_Form):
    """The static key of a kernel that turns tiles round; the attributes are as in `NestForm`.

    Attributes
    ----------
    staged : tuple of bool
        Which inputs go through shared memory.
    edge : int
        Rows and columns of a tile.
    """

    stored: tuple[str, ...]
    arithmetic: str
    moves: tuple[str, ...]
    alignment: tuple[int, ...]
    staged: tuple[bool, ...]
    edge: int
    wide: bool

    def lanes_of(self, operand: int) -> int:
        """Return how many neighbours of an operand one instruction reads or writes."""
        return 1

    @property
    def pitch(self) -> int:
        """Slots from row to row in shared memory: one more than needed, for its banks' sake."""
        return self.edge + 1


@dataclass(frozen=True, slots=True)
class ContractionForm(_Form):
    """The static key of a contraction's kernel.

    Attributes
    ----------
    tile : Tile
        What a block multiplies at once.
    stored : tuple of str
        Dtypes in memory of the rows' operand, the columns' operand and the output.
    axes : tuple of int
        Numbers of batch axes, rows' axes, columns' axes and summed axes.
    moves, alignment, partial, wide
        As in `NestForm`.
    """

    tile: Tile
    stored: tuple[str, ...]
    axes: tuple[int, int, int, int]
    moves: tuple[str, ...]
    alignment: tuple[int, ...]
    partial: bool
    wide: bool

    @property
    def arithmetic(self) -> str:
        """Dtype of products and sums."""
        return self.tile.arithmetic

    def lanes_of(self, operand: int) -> int:
        """Return how many neighbours of an operand one instruction reads or writes."""
        return self.tile.lanes[operand] if operand < 2 else 1

    @property
    def resident(self) -> int:  # type: ignore[override]
        """Blocks that a multiprocessor is to hold at once, at the least."""
        return self.tile.resident

    @property
    def slot(self) -> int:
        """Bytes of one offset in a table."""
        return 8 if self.wide else 4

    @property
    def tables(self) -> int:
        """Bytes of the tables of offsets in front of the stages.

        Four tables have an offset for each line of a side, of an operand or of the output; two
        have those of the terms, the next `THREADS` while the last are in use.
        """
        return (4 + 2 * 2) * THREADS * self.slot

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block."""
        return self.tables + self.tile.stages * self.tile.stage


Form = NestForm | TranspositionForm | ContractionForm
