"""Explicit vectors for generated kernels: copies, masked copies and in-register transposes.

`moves` makes the operations for one element kind and one instruction set. They lower to LLVM
vector IR of exactly the stated widths, which the optimiser keeps, and work on the pointers of
:mod:`fastein.cpu.primitives`, which count in bytes.

Importing this module imports Numba; only a compilation does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastein.cpu import primitives

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_LANE = 16  # bytes within which the cheap shuffles of every instruction set stay


@dataclass(frozen=True, slots=True)
class Move:
    """How elements are copied: their sizes, what becomes of them, and the vectors' width.

    Attributes
    ----------
    source, packed : int
        Bytes of an element before and after.
    widen : {None, 'signed', 'unsigned', 'float'}
        How a source element becomes a packed one, if it changes.
    vector : int
        Bytes of a vector of packed elements.
    half_conversion : bool
        Whether the processor converts float16.
    """

    source: int
    packed: int
    widen: str | None
    vector: int
    half_conversion: bool

    @property
    def word(self) -> ir.IntType:
        """The integer type that an element is read as; elements of 16 bytes are two words."""
        return ir.IntType(8 * min(self.source, 8))

    def vector_type(self, elements: int) -> ir.VectorType:
        """Return the type of `elements` source elements in a register."""
        return ir.VectorType(self.word, elements * self.words)

    @property
    def words(self) -> int:
        """Words of an element."""
        return max(1, self.source // 8)

    def load(self, builder: Any, address: Any, elements: int) -> Any:
        """Read `elements` contiguous source elements."""
        value = builder.load(address, align=1, typ=self.vector_type(elements))
        value.set_metadata("noalias", primitives.output_scope(builder))
        return value

    def store(self, context: Any, builder: Any, address: Any, value: Any) -> None:
        """Write source elements in a register as packed ones."""
        value = self._packed(context, builder, value)
        place = builder.bitcast(address, value.type.as_pointer())
        builder.store(value, place, align=1).set_metadata(
            "alias.scope", primitives.output_scope(builder)
        )

    def _packed(self, context: Any, builder: Any, value: Any) -> Any:
        if self.widen is None:
            return value
        wide = ir.VectorType(ir.IntType(8 * self.packed), value.type.count)
        if self.widen == "signed":
            return builder.sext(value, wide)
        if self.widen == "unsigned":
            return builder.zext(value, wide)
        if self.half_conversion and primitives.converts_half(context):
            half = ir.VectorType(ir.HalfType(), value.type.count)
            floats = ir.VectorType(ir.FloatType(), value.type.count)
            return builder.fpext(builder.bitcast(value, half), floats)
        return primitives.half_to_float(builder, value)


def moves(move: Move) -> dict[str, Any]:
    """Return the operations on elements of one kind, by the names that sources use."""
    full = move.vector // move.packed

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def copy(typingctx: Any, to: Any, source: Any, elements: Any) -> Any:
        """Copy a constant number of contiguous elements."""
        count = elements.literal_value

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for start in range(0, count, full):
                value = move.load(
                    builder, _at(builder, args[1], start * move.source), min(full, count - start)
                )
                move.store(context, builder, _at(builder, args[0], start * move.packed), value)
            return context.get_dummy_value()

        return types.none(to, source, elements), lower

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def copy_first(typingctx: Any, to: Any, source: Any, count: Any, elements: Any) -> Any:
        """Read the first `count` of a vector of `elements`, write the vector: zeros follow."""
        width = elements.literal_value

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = _load_first(builder, move, args[1], args[2], width)
            move.store(context, builder, args[0], value)
            return context.get_dummy_value()

        return types.none(to, source, types.intp, elements), lower

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def copy_even(typingctx: Any, to: Any, source: Any, elements: Any) -> Any:
        """Copy a constant, even number of elements of which every second one is wanted."""
        count = elements.literal_value

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            # The second vector overlaps the first, so as to end at the last wanted element.
            first = move.load(builder, args[1], count)
            second = move.load(builder, _at(builder, args[1], (count - 1) * move.source), count)
            odd = range(count + 1, 2 * count, 2)
            value = _shuffle(builder, first, second, [*range(0, count, 2), *odd], move.words)
            move.store(context, builder, args[0], value)
            return context.get_dummy_value()

        return types.none(to, source, elements), lower

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def transpose(
        typingctx: Any,
        to: Any,
        step: Any,
        source: Any,
        offsets: Any,
        first: Any,
        rows: Any,
        columns: Any,
    ) -> Any:
        """Write a block of `rows` by `columns`, contiguous by rows, contiguous by columns.

        Row ``r`` is read at ``source + offsets[first + r]``, column ``k`` written at
        ``to + k * step``.
        """

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def row(r: int) -> Any:
                index = builder.add(args[4], ir.Constant(args[4].type, r))
                cell = builder.gep(args[3], [index], inbounds=True, source_etype=_I64)
                offset = builder.load(cell, typ=_I64)
                return builder.gep(args[2], [offset], inbounds=True, source_etype=_I8)

            block = rows.literal_value, columns.literal_value
            for k, value in enumerate(_transposed(builder, move, row, *block)):
                jump = builder.mul(args[1], ir.Constant(args[1].type, k))
                place = builder.gep(args[0], [jump], inbounds=True, source_etype=_I8)
                move.store(context, builder, place, value)
            return context.get_dummy_value()

        return types.none(to, types.intp, source, offsets, types.intp, rows, columns), lower

    return {
        "copy": copy,
        "copy_first": copy_first,
        "copy_even": copy_even,
        "transpose": transpose,
    }


def _at(builder: Any, address: Any, offset: int) -> Any:
    return builder.gep(address, [_I32(offset)], inbounds=True, source_etype=_I8)


def _shuffle(builder: Any, a: Any, b: Any, elements: Sequence[int], words: int) -> Any:
    """Return the chosen elements of `a` and `b` laid end to end."""
    chosen = [words * element + word for element in elements for word in range(words)]
    mask = ir.Constant(ir.VectorType(_I32, len(chosen)), chosen)
    return builder.shuffle_vector(a, b, mask)


def _load_first(builder: Any, move: Move, address: Any, count: Any, elements: int) -> Any:
    """Read the first `count` of `elements` elements, and nothing behind them."""
    vector = move.vector_type(elements)
    lanes = ir.VectorType(_I32, vector.count)
    bits = ir.VectorType(ir.IntType(1), vector.count)
    numbers = ir.Constant(lanes, [lane // move.words for lane in range(vector.count)])
    narrow = builder.insert_element(
        ir.Constant(lanes, ir.Undefined), builder.trunc(count, _I32), _I32(0)
    )
    counts = builder.shuffle_vector(narrow, narrow, ir.Constant(lanes, None))
    pointer = vector.as_pointer()
    name = f"llvm.masked.load.v{vector.count}i{move.word.width}.p0"
    read = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(vector, [pointer, _I32, bits, vector]), name
    )
    mask = builder.icmp_signed("<", numbers, counts)
    place = builder.bitcast(address, pointer)
    return builder.call(read, [place, _I32(1), mask, ir.Constant(vector, None)])


# In-register transposes. A register is a value together with the (row, column) of each of its
# elements, so that the network of shuffles keeps its own books: which column a register ends up
# with is read off, not derived.


@dataclass(frozen=True, slots=True)
class _Register:
    value: Any
    places: tuple[tuple[int, int], ...]


def _shuffled(builder: Any, a: _Register, b: _Register, mask: list[int], words: int) -> _Register:
    both = a.places + b.places
    value = _shuffle(builder, a.value, b.value, mask, words)
    return _Register(value, tuple(both[lane] for lane in mask))


def _transposed(
    builder: Any, move: Move, row: Callable[[int], Any], rows: int, columns: int
) -> list[Any]:
    """Return the columns of a block of `rows` x `columns` elements, each as a vector.

    Rows are read in pieces of `columns` elements, a register holding pieces of several rows when
    they are shorter than a column. Unpacking pairs of registers then interleaves the rows of each
    16-byte lane, dealing out their lanes brings in the rows of the others.
    """
    lane = _LANE // move.source
    low = min(rows, lane)  # rows that end up in one lane
    joined = max(rows, lane) // columns
    groups = rows // (low * joined)
    registers = [
        _joined(
            builder,
            move,
            [(r, row(r)) for r in range(group * low * joined + i, rows, low)[:joined]],
            columns,
        )
        for group in range(groups)
        for i in range(low)
    ]
    stages = [(1 << bit, True) for bit in range(low.bit_length() - 1)]
    stages += [(low << bit, False) for bit in range(groups.bit_length() - 1)]
    for distance, unpack in stages:
        registers = _stage(builder, move, registers, distance, unpack)
    found = {}
    for register in registers:
        for start in range(0, len(register.places), rows):
            places = register.places[start : start + rows]
            column = places[0][1]
            assert places == tuple((r, column) for r in range(rows)), "the network is wrong"
            found[column] = _slice(builder, move, register, start, rows)
    return [found[column] for column in range(columns)]


def _joined(builder: Any, move: Move, rows: list[tuple[int, Any]], columns: int) -> _Register:
    """Read pieces of some rows into one register."""
    pieces = [
        _Register(move.load(builder, address, columns), tuple((r, k) for k in range(columns)))
        for r, address in rows
    ]
    while len(pieces) > 1:
        whole = list(range(2 * len(pieces[0].places)))
        pieces = [
            _shuffled(builder, a, b, whole, move.words)
            for a, b in zip(pieces[::2], pieces[1::2], strict=True)
        ]
    return pieces[0]


def _stage(
    builder: Any, move: Move, registers: list[_Register], distance: int, unpack: bool
) -> list[_Register]:
    """Shuffle each pair of registers `distance` apart."""
    lane, size = _LANE // move.source, len(registers[0].places)
    masks = _unpack(size, lane, distance) if unpack else _deal(size, lane)
    result = list(registers)
    for i in range(len(registers)):
        if not i & distance:
            pair = registers[i], registers[i + distance]
            for j, mask in zip((i, i + distance), masks, strict=True):
                result[j] = _shuffled(builder, *pair, mask, move.words)
    return result


def _unpack(size: int, lane: int, chunk: int) -> tuple[list[int], list[int]]:
    """Masks that interleave two registers within each lane, in chunks: low halves, high halves."""

    def mask(half: int) -> list[int]:
        return [
            register * size + start + half * (lane // 2) + piece + element
            for start in range(0, size, lane)
            for piece in range(0, lane // 2, chunk)
            for register in (0, 1)
            for element in range(chunk)
        ]

    return mask(0), mask(1)


def _deal(size: int, lane: int) -> tuple[list[int], list[int]]:
    """Masks that take the even, and the odd lanes of two registers."""

    def mask(odd: int) -> list[int]:
        starts = range(odd * lane, 2 * size, 2 * lane)
        return [start + element for start in starts for element in range(lane)]

    return mask(0), mask(1)


def _slice(builder: Any, move: Move, register: _Register, start: int, rows: int) -> Any:
    if len(register.places) == rows:
        return register.value
    chosen = range(start, start + rows)
    return _shuffle(builder, register.value, register.value, list(chosen), move.words)
