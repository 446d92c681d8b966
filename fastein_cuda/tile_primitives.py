"""The primitives of contractions, made for one tile: macros that emit all of their instructions.

What they do is written in `tile`, over the operations of `emitter`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from .conversions import I8, I32, I64, cast, register_type
from .elements import ELEMENTS
from .emitter import Emitter, Word
from .primitives import command, slot_at, store_at
from .tile import Tile, entries, multiply, total
from .values import primitive_model


class Sums(types.Type):  # type: ignore[misc]
    """The sums of one thread."""

    def __init__(self, tile: Tile) -> None:
        self.tile = tile
        super().__init__(f"Sums({tile})")

    @property
    def representation(self) -> ir.Type:
        """The LLVM type: an array."""
        scalar = register_type(ELEMENTS[self.tile.arithmetic], 1)
        return ir.ArrayType(scalar, self.tile.sums * self.tile.parts)


primitive_model(Sums, lambda kind: kind.representation)


def tile_primitives(tile: Tile, capability: tuple[int, int]) -> dict[str, Any]:
    """Return the primitives of a tile by their names."""
    return {
        "nothing": _nothing(Sums(tile)),
        "multiply": _multiply(Sums(tile), capability),
        "write": _write(Sums(tile)),
    }


def _nothing(sums: Sums) -> Any:
    def nothing(typingctx: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return ir.Constant(sums.representation, None)

        return sums(), lower

    return intrinsic(nothing)


def _multiply(sums: Sums, capability: tuple[int, int]) -> Any:
    def multiplied(typingctx: Any, before: Any, stage: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            ops = Emitter(builder, sums.tile.element, sums.tile.arithmetic, capability)
            start = Word(ops, builder.trunc(args[1], I32))
            before = _taken_apart(builder, sums, args[0])
            result = ir.Constant(sums.representation, ir.Undefined)
            for number, value in enumerate(multiply(ops, sums.tile, before, start)):
                result = builder.insert_value(result, value, number)
            return result

        return sums(sums, stage), lower

    return intrinsic(multiplied)


def _taken_apart(builder: Any, sums: Sums, value: Any) -> list[Any]:
    return [builder.extract_value(value, n) for n in range(sums.tile.sums * sums.tile.parts)]


def _write(sums: Sums) -> Any:
    """Return what stores a thread's sums where the tables of offsets say."""

    def write(
        typingctx: Any,
        totals: Any,
        out: Any,
        row_table: Any,
        column_table: Any,
        rows: Any,
        columns: Any,
    ) -> Any:
        tables = (row_table, column_table)
        arithmetic = ELEMENTS[sums.tile.arithmetic]

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            ops = Emitter(builder, sums.tile.element, sums.tile.arithmetic)
            found = _taken_apart(builder, sums, args[0])
            index = args[4].type

            def line(side: int, number: Word) -> tuple[Any, Any]:
                """Return how far a row or column is in the output, and whether it exists."""
                slot = slot_at(builder, tables[side], args[2 + side], number.value)
                wide = number.value if index == I32 else builder.zext(number.value, index)
                return builder.load(slot), builder.icmp_signed("<", wide, args[4 + side])

            def next_column(number: Word) -> tuple[Any, Any]:
                # the assembler would read all of the table at once, and run out of registers
                command(builder, "bar.warp.sync -1;")
                return line(1, number)

            for number, (row, column) in _by_column(list(entries(sums.tile, ops.thread()))):
                across, in_columns = ops.once(column.value, partial(next_column, column))
                down, in_rows = line(0, row)
                offset = builder.add(down, across)
                offset = offset if index == I64 else builder.sext(offset, I64)
                at = builder.gep(args[1], [offset], inbounds=True, source_etype=I8)
                exact = total(ops, sums.tile, found, number)
                stored = cast(builder, exact, arithmetic, out.stored)
                store_at(builder, at, out, stored, builder.and_(in_rows, in_columns))
            return context.get_dummy_value()

        return types.void(totals, out, row_table, column_table, rows, columns), lower

    return intrinsic(write)


def _by_column(places: list[tuple[Any, Any]]) -> list[tuple[int, tuple[Any, Any]]]:
    """Return numbered places column by column, so that few columns are in registers at once."""
    seen: dict[Any, int] = {}
    ranks = [seen.setdefault(column.value, len(seen)) for _, column in places]
    return sorted(enumerate(places), key=lambda numbered: ranks[numbered[0]])
