"""What kernels compute with in registers: operators that become instructions when they are used.

Unrolled in the source, the same instructions would take numba's front end seconds to type.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir

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
from .elements import ELEMENTS, Element
from .primitives import shared_memory
from .values import SHARED


class Word:
    """A 32-bit integer of the kernel, with Python's operators; none is computed twice."""

    def __init__(self, ops: Emitter, value: Any) -> None:
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


class Emitter:
    """The operations of `tile` and of `unrolled`, as instructions on one kind of element."""

    def __init__(
        self, builder: Any, element: Element, arithmetic: str, capability: tuple[int, int] = (0, 0)
    ) -> None:
        self.builder = builder
        self.element = element
        self.capability = capability
        self.arithmetic = ELEMENTS[arithmetic]
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

    def load(self, address: Word | int, lanes: int) -> list[Any]:
        builder, element = self.builder, self.element
        place = address.value if isinstance(address, Word) else I32(address)
        if element.kind == "c":
            part = register_type(element, 1).elements[0]
            kinds, memory = part, ir.VectorType(part, 2 * lanes)
        else:
            kinds, memory = register_type(element, 1), memory_type(element, lanes)
        at = builder.gep(shared_memory(builder), [place], inbounds=True, source_etype=I8)
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

    def zero(self) -> Any:
        return ir.Constant(register_type(self.arithmetic, 1), None)

    def add(self, total: Any, value: Any) -> Any:
        builder = self.builder
        if self.arithmetic.kind == "c":
            pairs = zip(self.parts(total), self.parts(value), strict=True)
            return self.complex(*[builder.fadd(x, y) for x, y in pairs])
        name = {"f": "fadd", "b": "or_"}.get(self.arithmetic.kind, "add")
        return getattr(builder, name)(total, value)

    def smaller(self, number: Word, most: int) -> Word:
        def make() -> Any:
            less = self.builder.icmp_unsigned("<", number.value, I32(most))
            return self.builder.select(less, number.value, I32(most))

        return Word(self, self.once(("smaller", number.value, most), make))

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

    def rounded(self, value: Any) -> Any:
        line = "cvt.rna.tf32.f32 $0, $1;"
        make = partial(self._assembly, line, [I32], [value], "rf")
        return self.once(("rounded", value), make)[0]

    def rest(self, value: Any) -> Any:
        def make() -> Any:
            large = self.builder.bitcast(self.rounded(value), F32)
            return self.rounded(self.builder.fsub(value, large))

        return self.once(("rest", value), make)

    def joined(self, total: Any, rest: Any) -> Any:
        builder = self.builder
        finite = builder.fcmp_ordered("==", builder.fsub(rest, rest), ir.Constant(F32, 0.0))
        return builder.select(finite, builder.fadd(total, rest), total)

    def tf32(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        line = (
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
        )
        return self._assembly(line, [F32] * 4, [*a, *b, *totals], "ffff" + "r" * 6 + "ffff")

    def hmma(self, totals: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        kind = {"float16": "f16", "bfloat16": "bf16"}[self.element.name]
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
