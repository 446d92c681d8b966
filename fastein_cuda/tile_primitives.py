"""The primitives of contractions, made for one tile: macros that emit all of their instructions.

Unrolled in the source, the same instructions would take numba's front end seconds to type. What
they do is written in `tile`, over the operations of `_Emitter`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from .conversions import (
    F32,
    F64,
    I8,
    I32,
    I64,
    cast,
    complex_of,
    memory_type,
    parts_of,
    register_type,
)
from .elements import ELEMENTS
from .primitives import command, shared_memory, slot_at, store_at
from .tile import Tile, entries, multiply
from .values import SHARED, primitive_model


class Sums(types.Type):  # type: ignore[misc]
    """The sums of one thread."""

    def __init__(self, tile: Tile) -> None:
        self.tile = tile
        super().__init__(f"Sums({tile})")

    @property
    def representation(self) -> ir.Type:
        """The LLVM type: an array."""
        scalar = register_type(ELEMENTS[self.tile.arithmetic], 1)
        return ir.ArrayType(scalar, self.tile.sums)


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
            ops = _Emitter(builder, sums.tile, capability)
            start = Word(ops, builder.trunc(args[1], I32))
            taken = [builder.extract_value(args[0], n) for n in range(sums.tile.sums)]
            result = ir.Constant(sums.representation, ir.Undefined)
            for number, total in enumerate(multiply(ops, sums.tile, taken, start)):
                result = builder.insert_value(result, total, number)
            return result

        return sums(sums, stage), lower

    return intrinsic(multiplied)


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
            ops = _Emitter(builder, sums.tile, (0, 0))
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
                total = builder.extract_value(args[0], number)
                stored = cast(builder, total, arithmetic, out.stored)
                store_at(builder, at, out, stored, builder.and_(in_rows, in_columns))
            return context.get_dummy_value()

        return types.void(totals, out, row_table, column_table, rows, columns), lower

    return intrinsic(write)


def _by_column(places: list[tuple[Any, Any]]) -> list[tuple[int, tuple[Any, Any]]]:
    """Return numbered places column by column, so that few columns are in registers at once."""
    seen: dict[Any, int] = {}
    ranks = [seen.setdefault(column.value, len(seen)) for _, column in places]
    return sorted(enumerate(places), key=lambda numbered: ranks[numbered[0]])


class Word:
    """A 32-bit integer of the kernel, with Python's operators; none is computed twice."""

    def __init__(self, ops: _Emitter, value: Any) -> None:
        self.ops = ops
        self.value = value

    def _with(self, name: str, other: Word | int, neutral: int, *flags: str) -> Word:
        if other == neutral:
            return self
        value = I32(other) if isinstance(other, int) else other.value
        operation = getattr(self.ops.builder, name)

        def make() -> Any:
            return (
                operation(self.value, value, flags=flags) if flags else operation(self.value, value)
            )

        constant = other if isinstance(other, int) else value
        return Word(self.ops, self.ops.once((name, self.value, constant), make))

    def __add__(self, other: Word | int) -> Word:
        return self._with("add", other, 0, "nsw", "nuw")

    __radd__ = __add__

    def __mul__(self, other: int) -> Word:
        return self._with("mul", other, 1, "nsw", "nuw")

    def __and__(self, other: int) -> Word:
        return self._with("and_", other, -1)

    def __rshift__(self, other: int) -> Word:
        return self._with("lshr", other, 0)


class _Emitter:
    """The operations of `tile`, as instructions."""

    def __init__(self, builder: Any, tile: Tile, capability: tuple[int, int]) -> None:
        self.builder = builder
        self.tile = tile
        self.capability = capability
        self.arithmetic = ELEMENTS[tile.arithmetic]
        self._done: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what an earlier call made for a key."""
        if key not in self._done:
            self._done[key] = make()
        return self._done[key]

    def thread(self) -> Word:
        kind = ir.FunctionType(I32, [])
        register = self.builder.module.declare_intrinsic("llvm.nvvm.read.ptx.sreg.tid.x", fnty=kind)
        return Word(self, self.once("thread", lambda: self.builder.call(register, [])))

    def load(self, address: Word, lanes: int) -> list[Any]:
        builder, element = self.builder, self.tile.element
        if element.kind == "c":
            part = register_type(element, 1).elements[0]
            kinds, memory = part, ir.VectorType(part, 2 * lanes)
        else:
            kinds, memory = register_type(element, 1), memory_type(element, lanes)
        at = builder.gep(shared_memory(builder), [address.value], inbounds=True, source_etype=I8)
        found = builder.load(
            builder.bitcast(at, memory.as_pointer(SHARED)), align=lanes * element.itemsize
        )
        if element.kind == "c":
            numbers = [builder.extract_element(found, I32(n)) for n in range(2 * lanes)]
            return [complex_of(builder, *numbers[n : n + 2]) for n in range(0, 2 * lanes, 2)]
        wanted = register_type(element, lanes)
        found = found if found.type == wanted else builder.bitcast(found, wanted)
        if lanes > 1:
            numbers = [builder.extract_element(found, I32(n)) for n in range(lanes)]
        else:
            numbers = [found]
        assert numbers[0].type == kinds
        return [cast(builder, x, element, self.arithmetic) for x in numbers]

    def matrices(self, address: Word, transposed: bool) -> list[Any]:
        builder = self.builder
        at = builder.gep(shared_memory(builder), [address.value], inbounds=True, source_etype=I8)
        place = builder.trunc(builder.ptrtoint(at, I64), I32)
        how = ".trans" if transposed else ""
        line = f"ldmatrix.sync.aligned.m8n8.x4{how}.shared.b16 {{$0,$1,$2,$3}}, [$4];"
        return self._assembly(line, [I32] * 4, [place], "r" * 5, clobbers=True)

    def parts(self, value: Any) -> tuple[Any, Any]:
        return parts_of(self.builder, value)

    def complex(self, real: Any, imaginary: Any) -> Any:
        return complex_of(self.builder, real, imaginary)

    def negative(self, value: Any) -> Any:
        return self.builder.fsub(ir.Constant(value.type, -0.0), value)

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        builder = self.builder
        if self.arithmetic.kind == "c":
            (ar, ai), (br, bi), (real, imaginary) = (self.parts(x) for x in (a, b, total))
            real = builder.fma(self.negative(ai), bi, builder.fma(ar, br, real))
            return self.complex(real, builder.fma(ai, br, builder.fma(ar, bi, imaginary)))
        if self.arithmetic.kind == "f":
            return builder.fma(a, b, total)
        if self.arithmetic.kind == "b":
            return builder.or_(total, builder.and_(a, b))
        return builder.add(total, builder.mul(a, b))

    def dmma(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        if self.capability >= (9, 0):
            line = (
                "mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 "
                "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
            )
            return self._assembly(line, [F64] * 4, [*a, *b, *totals], "d" * 14)
        upper, lower = totals[:2], totals[2:]
        for half in range(2):  # of the terms
            upper = self._small_dmma(upper, a[2 * half], b[half])
            lower = self._small_dmma(lower, a[2 * half + 1], b[half])
        return [*upper, *lower]

    def _small_dmma(self, totals: list[Any], a: Any, b: Any) -> list[Any]:
        line = "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {$0,$1}, {$2}, {$3}, {$4,$5};"
        return self._assembly(line, [F64] * 2, [a, b, *totals], "d" * 6)

    def tf32(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        rounded = [
            self.once(
                ("tf32", x),
                partial(self._assembly, "cvt.rna.tf32.f32 $0, $1;", [I32], [x], "rf"),
            )
            for x in (*a, *b)
        ]
        line = (
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
        )
        operands = [x[0] for x in rounded]
        return self._assembly(line, [F32] * 4, [*operands, *totals], "ffff" + "r" * 6 + "ffff")

    def hmma(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        kind = {"float16": "f16", "bfloat16": "bf16"}[self.tile.stored]
        line = (
            f"mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32 "
            "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
        )
        return self._assembly(line, [F32] * 4, [*a, *b, *totals], "ffff" + "r" * 6 + "ffff")

    def _assembly(
        self,
        line: str,
        results: list[Any],
        arguments: list[Any],
        kinds: str,
        clobbers: bool = False,
    ) -> list[Any]:
        """Emit an instruction; `kinds` has the constraint of each result and argument."""
        outputs = [f"={kind}" for kind in kinds[: len(results)]]
        constraints = [*outputs, *kinds[len(results) :], *(["~{memory}"] if clobbers else [])]
        result = results[0] if len(results) == 1 else ir.LiteralStructType(results)
        function = ir.FunctionType(result, [argument.type for argument in arguments])
        assembly = ir.InlineAsm(function, line, ",".join(constraints), side_effect=clobbers)
        found = self.builder.call(assembly, arguments)
        if len(results) == 1:
            return [found]
        return [self.builder.extract_value(found, n) for n in range(len(results))]
