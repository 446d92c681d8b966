"""What the source of a packing kernel calls: loops of moves, as Numba functions.

The inner loops are made here, not in the source, for the sake of compile time: a loop in the
source costs Numba 16 ms, a loop made here 3 ms, LLVM's share included.

Importing this module imports Numba; only a compilation does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import intrinsic

from fastein.cpu.elements import Element
from fastein.cpu.isa import Isa
from fastein.cpu.transposition import LANE, Transposition
from fastein.cpu.vectors import I64, Emitter
from fastein.record import Record


def moves(element: Element, isa: Isa) -> dict[str, Any]:
    """Return the functions for one kind of element and one instruction set, by name.

    Pointers count in bytes; ``table`` is one of words. Numbers of elements that a docstring calls
    constant must be literals in the source.
    """

    def lowered(emit: Callable[..., Any], *constants: int) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            variable = args[: len(args) - len(constants)]
            result = emit(Emitter(element, isa, context, builder), *variable, *constants)
            return context.get_dummy_value() if result is None else result

        return lower

    word = types.intp

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def copy_rows(
        typingctx: Any, panel: Any, source: Any, table: Any, steps: Any, count: Any
    ) -> Any:
        """Copy a constant number of elements per step, from where the table says."""
        signature = types.none(panel, source, table, word, count)
        return signature, lowered(_copy_rows, count.literal_value)

    @intrinsic  # type: ignore[untyped-decorator]
    def copy_segments(
        typingctx: Any, panel: Any, source: Any, table: Any, first: Any, end: Any
    ) -> Any:
        """Copy runs of elements: ``table[first:end]`` holds the offset and length of each."""
        return types.none(panel, source, table, word, word), lowered(_copy_segments)

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def transpose(
        typingctx: Any,
        panel: Any,
        step: Any,
        source: Any,
        table: Any,
        first: Any,
        steps: Any,
        rows: Any,
    ) -> Any:
        """Transpose a constant number of rows, whose offsets follow ``table[first]``.

        Step k is written `step` bytes behind step k - 1.
        """
        signature = types.none(panel, word, source, table, word, word, rows)
        return signature, lowered(_transpose, rows.literal_value)

    @intrinsic  # type: ignore[untyped-decorator]
    def gather(typingctx: Any, panel: Any, source: Any, table: Any, first: Any, rows: Any) -> Any:
        """Copy single elements, whose offsets follow ``table[first]``."""
        return types.none(panel, source, table, word, word), lowered(_gather)

    @intrinsic  # type: ignore[untyped-decorator]
    def every_second(typingctx: Any, table: Any, first: Any, rows: Any) -> Any:
        """Whether the offsets that follow ``table[first]`` are those of every second element."""
        return types.boolean(table, word, word), lowered(_every_second)

    @intrinsic  # type: ignore[untyped-decorator]
    def copy_every_second(typingctx: Any, panel: Any, source: Any, rows: Any) -> Any:
        """Copy every second element, `rows` of them, at least a vector."""
        return types.none(panel, source, word), lowered(_copy_every_second)

    functions = copy_rows, copy_segments, transpose, gather, every_second, copy_every_second
    return {function._name: function for function in functions}


def _copy_rows(emit: Emitter, panel: Any, source: Any, table: Any, steps: Any, count: int) -> None:
    with emit.loop(steps, plain=count > emit.width) as k:
        to = emit.packed(panel, emit.times(k, count))
        emit.copy(to, emit.move(source, emit.entry(table, k)), count)


def _copy_segments(
    emit: Emitter, panel: Any, source: Any, table: Any, first: Any, end: Any
) -> None:
    position = emit.variable()
    with emit.loop(end, 2, first) as i:
        offset, length = emit.entry(table, i), emit.entry(table, emit.builder.add(i, I64(1)))
        before = emit.builder.load(position, typ=I64)
        emit.copy_run(emit.packed(panel, before), emit.move(source, offset), length)
        emit.builder.store(emit.builder.add(before, length), position)


def _transpose(
    emit: Emitter, panel: Any, step: Any, source: Any, table: Any, first: Any, steps: Any, rows: int
) -> None:
    strip = _Strip(emit, panel, step, source, table, first, steps, rows)
    least = LANE // emit.size
    most = min(rows, 2 * least)

    def few() -> None:
        if least == 1:
            strip.blocks(1)
        else:
            emit.either(steps, ">=", least, lambda: strip.blocks(least), strip.singles)

    # Blocks of more than 512 bytes would be no faster, and compile twice as long.
    if most > least and rows * most * emit.size <= 512:
        emit.either(steps, ">=", most, lambda: strip.blocks(most), few)
    else:
        few()


class _Strip(Record):
    """Emits the transposition of a strip of rows; the fields are the arguments of `transpose`."""

    emit: Emitter
    panel: Any
    step: Any
    source: Any
    table: Any
    first: Any
    steps: Any
    rows: int

    def addresses(self, k: Any) -> list[Any]:
        """Return the addresses of the elements of step k."""
        emit, at = self.emit, self.emit.source(self.source, k)
        numbers = [emit.builder.add(self.first, I64(r)) for r in range(self.rows)]
        return [emit.move(at, emit.entry(self.table, number)) for number in numbers]

    def place(self, k: Any) -> Any:
        """Return the address of step k in the panel."""
        return self.emit.move(self.panel, self.emit.builder.mul(k, self.step))

    def blocks(self, columns: int) -> None:
        """Transpose some steps at a time, of which there are at least as many.

        The last block is moved back to end with the last step, so that some are written twice.
        So is the first, where that lets the others be read in aligned pieces: unaligned ones of
        rows that lie a power of two apart cost 11 cycles per 64 bytes, aligned ones 6.
        """
        emit = self.emit
        block, lane = Transposition(emit, self.rows), LANE // emit.size
        ahead = emit.builder.neg(emit.misalignment(self.addresses(I64(0))[0], columns))
        last = emit.builder.sub(self.steps, I64(columns))
        with emit.loop(self.steps, columns, ahead) as begin:
            k = emit.least(emit.most(begin, I64(0)), last)
            to, rows = self.place(k), self.addresses(k)
            for start in range(0, columns, lane):
                values = block.columns([emit.source(row, start) for row in rows])
                for column, value in enumerate(values, start):
                    emit.store(emit.move(to, emit.times(self.step, column)), value)

    def singles(self) -> None:
        """Copy element by element."""
        with self.emit.loop(self.steps) as k:
            to = self.place(k)
            for r, address in enumerate(self.addresses(k)):
                self.emit.copy(self.emit.packed(to, r), address, 1)


def _gather(emit: Emitter, panel: Any, source: Any, table: Any, first: Any, rows: Any) -> None:
    def address(r: Any) -> Any:
        return emit.move(source, emit.entry(table, emit.builder.add(first, r)))

    # Widening one float16 costs 4 cycles, widening 8 at once 1 cycle each.
    together = 8 if emit.converts else 1
    whole = emit.builder.and_(rows, I64(-together))
    if together > 1:
        with emit.loop(whole, together) as r:
            addresses = [address(emit.builder.add(r, I64(i))) for i in range(together)]
            emit.store(emit.packed(panel, r), emit.load_apart(addresses))
    with emit.loop(rows, start=whole if together > 1 else None, plain=together > 1) as r:
        emit.copy(emit.packed(panel, r), address(r), 1)


def _every_second(emit: Emitter, table: Any, first: Any, rows: Any) -> Any:
    # The bits that any of the offsets has wrong.
    wrong = emit.variable()
    origin = emit.entry(table, first)
    with emit.loop(rows) as r:
        expected = emit.builder.add(origin, emit.times(r, 2 * emit.size))
        differing = emit.builder.xor(emit.entry(table, emit.builder.add(first, r)), expected)
        found = emit.builder.load(wrong, typ=I64)
        emit.builder.store(emit.builder.or_(found, differing), wrong)
    return emit.builder.icmp_signed("==", emit.builder.load(wrong, typ=I64), I64(0))


def _copy_every_second(emit: Emitter, panel: Any, source: Any, rows: Any) -> None:
    width = emit.width
    last = emit.builder.sub(rows, I64(width))
    chosen = [*range(0, width, 2), *range(width + 1, 2 * width, 2)]
    with emit.loop(rows, width) as start:
        r = emit.least(start, last)
        at = emit.source(source, emit.times(r, 2))
        # The second vector overlaps the first, so as to end at the last element that is wanted.
        value = emit.shuffle(
            emit.load(at, width), emit.load(emit.source(at, width - 1), width), chosen
        )
        emit.store(emit.packed(panel, r), value)
