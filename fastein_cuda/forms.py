"""Forms: all that a kernel's source depends on, as plain data.

Sizes, strides and the numbers that divide by them are a kernel's arguments, so that one kernel
serves every shape of a form.
"""

from __future__ import annotations

from dataclasses import dataclass

from .elements import ELEMENTS, Element
from .tile import Tile

THREADS = 256  # of a block


class _Form:
    """What all forms have."""

    __slots__ = ()

    vast: bool  # whether items or terms take 64 bits to count
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
        Whether an element can lie so far from the first one that 32 bits do not reach it.
    vast : bool
        Whether items or terms take 64 bits to count.
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
    vast: bool = False

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
    vast: bool = False

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
        tight = self.wide and self.tile.sums > 16  # offsets of 64 bits take registers
        return 1 if tight else self.tile.resident

    @property
    def vast(self) -> bool:  # type: ignore[override]
        """Whether indices take 64 bits: where offsets do, since tables have both."""
        return self.wide

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


@dataclass(frozen=True, slots=True)
class Block:
    """How the elements that one item has of an operand lie in shared memory.

    Attributes
    ----------
    mode : str
        ``'run'``: the items follow each other in memory without gaps, and are copied as they lie;
        ``'spread'``: neighbouring threads copy the same element of neighbouring items;
        ``'single'``: all items have the same elements.
    count : int
        Elements of an item.
    steps : tuple of int
        Elements between iterations of each small loop.
    pitch : int
        Elements from item to item.
    lanes : int
        Neighbours that are copied at once.
    together : int
        Neighbours that a thread reads from shared memory at once.
    """

    mode: str
    count: int
    steps: tuple[int, ...]
    pitch: int
    lanes: int
    together: int

    @property
    def padded(self) -> bool:
        """Whether there are gaps between items."""
        return self.mode == "run" and self.pitch != self.count


@dataclass(frozen=True, slots=True)
class TinyForm(_Form):
    """The static key of a kernel for many items of small loops, which are unrolled.

    Attributes
    ----------
    stored, arithmetic, moves, alignment, wide, vast
        As in `NestForm`; the batch's loops come before the small ones.
    sizes : tuple of int
        Of the small loops, those of the output first.
    outputs : int
        Number of small loops of the output.
    blocks : tuple of Block
    split : int
        The small loop that an item's threads share, -1 if there is one thread.
    share : int
        Threads of an item.
    """

    stored: tuple[str, ...]
    arithmetic: str
    moves: tuple[str, ...]
    alignment: tuple[int, ...]
    wide: bool
    sizes: tuple[int, ...]
    outputs: int
    blocks: tuple[Block, ...]
    split: int
    share: int
    vast: bool = False

    @property
    def element(self) -> Element:
        """What the inputs' elements are."""
        return ELEMENTS[self.stored[0]]

    @property
    def batch(self) -> int:
        """Number of the batch's loops."""
        return self.rank - len(self.sizes)

    @property
    def items(self) -> int:
        """Items of a block, a power of two."""
        return THREADS // self.share

    @property
    def chunk(self) -> int:
        """Iterations that a thread has of the loop that is shared."""
        return -(-self.sizes[self.split] // self.share)

    def lanes_of(self, operand: int) -> int:
        """Return how many neighbours of an operand one instruction reads or writes."""
        return self.blocks[operand].lanes

    def itemsize(self, operand: int) -> int:
        """Return the bytes of an operand's elements in shared memory; of the output, a sum's."""
        name = self.stored[operand] if operand < self.nin else self.arithmetic
        return ELEMENTS[name].itemsize

    def room(self, operand: int) -> int:
        """Return the bytes that an operand has in shared memory, with what copies overshoot."""
        block = self.blocks[operand]
        elements = self.items * block.pitch
        if block.mode == "single":
            elements = block.count
        elif block.mode == "run" and operand < self.nin:
            vectors = self.items * block.count // block.lanes
            copied = -(-vectors // THREADS) * THREADS * block.lanes
            elements = -(-copied // block.count) * block.pitch
        return -(-elements * self.itemsize(operand) // 128) * 128

    def begin(self, operand: int) -> int:
        """Return where an operand begins in shared memory."""
        return sum([self.room(k) for k in range(operand)])

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block."""
        return self.begin(self.nin + 1)

    def small(self, operand: int) -> list[int]:
        """Return the small loops along which an operand moves, counted among them."""
        row = self.moves[operand][self.batch :]
        return [loop for loop, moves in enumerate(row) if moves == "1"]


Form = NestForm | TranspositionForm | ContractionForm | TinyForm
