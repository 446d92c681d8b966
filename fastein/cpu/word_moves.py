"""What the source of a kernel that packs words calls, as Numba functions.

Importing this module imports Numba; only a compilation does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .elements import Element, Words
from .isa import Isa
from .vectors import I32, I64, Emitter, repeated
from .words import WORD_BYTES


def moves(words: Words, isa: Isa) -> dict[str, Any]:
    """Return the functions for words of one kind, by name.

    Pointers count in bytes. ``table`` holds the offsets of `steps` steps, then those of the rows.
    """

    def lowered(emit: Callable[..., None], *constants: int) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            variable = args[: len(args) - len(constants)]
            emitter = Emitter(Element(words.source, WORD_BYTES), isa, context, builder)
            emit(_Words(words, emitter), *variable, *constants)
            return context.get_dummy_value()

        return lower

    word = types.intp

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def words_of_runs(
        typingctx: Any,
        panel: Any,
        step: Any,
        source: Any,
        table: Any,
        steps: Any,
        rows: Any,
        together: Any,
    ) -> Any:
        """Pack contiguous rows, a constant number of them at a time."""
        signature = types.none(panel, word, source, table, word, word, together)
        return signature, lowered(_Words.of_runs, together.literal_value)

    @intrinsic  # type: ignore[untyped-decorator]
    def words_along(
        typingctx: Any, panel: Any, step: Any, source: Any, table: Any, steps: Any, rows: Any
    ) -> Any:
        """Pack whole words, each of which is contiguous."""
        return types.none(panel, word, source, table, word, word), lowered(_Words.along)

    @intrinsic  # type: ignore[untyped-decorator]
    def words_of_singles(
        typingctx: Any,
        panel: Any,
        step: Any,
        source: Any,
        table: Any,
        first: Any,
        steps: Any,
        rows: Any,
    ) -> Any:
        """Pack the words from step `first` on, element by element."""
        signature = types.none(panel, word, source, table, word, word, word)
        return signature, lowered(_Words.of_singles)

    functions = words_of_runs, words_along, words_of_singles
    return {function._name: function for function in functions}


class _Words:
    """Emits the packing of words of one kind."""

    def __init__(self, words: Words, emit: Emitter) -> None:
        self.words = words
        self.emit = emit
        self.builder = emit.builder

    def of_runs(
        self, panel: Any, step: Any, source: Any, table: Any, steps: Any, rows: Any, together: int
    ) -> None:
        emit = self.emit
        source = emit.move(source, emit.entry(table, steps))
        last = self.builder.sub(rows, I64(together))
        with emit.loop(steps, self.words.steps) as first, emit.loop(rows, together) as start:
            r = emit.least(start, last)  # the last rows end with the last one: some come twice
            row = emit.source(source, r)
            self._put(panel, step, first, r, self._gathered(row, table, first, steps, together))

    def along(self, panel: Any, step: Any, source: Any, table: Any, steps: Any, rows: Any) -> None:
        emit, count = self.emit, self.words.steps
        whole = self.builder.and_(steps, I64(-count))
        with emit.loop(rows) as r:
            row = emit.move(source, emit.entry(table, self.builder.add(steps, r)))
            with emit.loop(whole, count) as first:
                here = emit.load(emit.move(row, emit.entry(table, first)), count)
                self._put(panel, step, first, r, self._joined(here))

    def of_singles(
        self, panel: Any, step: Any, source: Any, table: Any, begin: Any, steps: Any, rows: Any
    ) -> None:
        emit = self.emit
        with emit.loop(steps, self.words.steps, begin) as first, emit.loop(rows) as r:
            row = emit.move(source, emit.entry(table, self.builder.add(steps, r)))
            self._put(panel, step, first, r, self._gathered(row, table, first, steps, 1))

    def _put(self, panel: Any, step: Any, first: Any, r: Any, value: Any) -> None:
        """Write the words of rows from `r` on, whose first step is `first`."""
        word = self.builder.udiv(first, I64(self.words.steps))
        at = self.emit.packed(self.emit.move(panel, self.builder.mul(word, step)), r)
        self.emit.store(at, value)

    def _gathered(self, row: Any, table: Any, first: Any, steps: Any, count: int) -> Any:
        """Return `count` words of neighbouring rows, step by step."""
        builder, emit = self.builder, self.emit
        kind = ir.VectorType(I32, count)
        left = emit.least(builder.sub(steps, first), I64(self.words.steps))
        before = builder.block
        loop, after = builder.append_basic_block("word"), builder.append_basic_block("put")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, total = builder.phi(I64), builder.phi(kind)
        offset = emit.entry(table, builder.add(first, k))
        value = self._narrow(emit.load(emit.move(row, offset), count), kind)
        shift = builder.trunc(builder.mul(k, I64(self.words.bits)), I32)
        joined = builder.or_(total, builder.shl(value, repeated(builder, shift, count)))
        following = builder.add(k, I64(1))
        k.add_incoming(I64(0), before)
        k.add_incoming(following, loop)
        total.add_incoming(ir.Constant(kind, None), before)
        total.add_incoming(joined, loop)
        builder.cbranch(builder.icmp_signed("<", following, left), loop, after)
        builder.position_at_end(after)
        return joined

    def _narrow(self, value: Any, kind: Any) -> Any:
        """Return elements as lanes of a word, without the bits that are not kept."""
        builder = self.builder
        if self.words.bits == 1:
            return builder.zext(self._true(value), kind)
        width = value.type.element.width
        if width > 32:
            value = builder.trunc(value, kind)
        if width <= self.words.bits:
            return builder.zext(value, kind)
        if width < 32:
            value = builder.zext(value, kind)
        return builder.and_(value, kind([(1 << self.words.bits) - 1] * kind.count))

    def _true(self, value: Any) -> Any:
        return self.builder.icmp_unsigned("!=", value, ir.Constant(value.type, None))

    def _joined(self, value: Any) -> Any:
        """Return one word of neighbouring elements."""
        builder, bits = self.builder, self.words.bits
        if bits == 1:
            value = self._true(value)
        elif value.type.element.width > bits:
            value = builder.trunc(value, ir.VectorType(ir.IntType(bits), self.words.steps))
        return builder.bitcast(value, ir.VectorType(I32, 1))
