"""Typed primitives of the generated GPU kernels, as numba.cuda types and intrinsics.

This is the one module that knows how numba-cuda lowers code; :mod:`fastein_cuda.primitives_sim`
is its twin, which has the same names and runs on NumPy. Generated source works with five kinds of
value:

``Index``
    a signed integer of 32 bits, or of 64 where a nest is too large for that.
``Flag``
    the outcome of a comparison of these. Control flow never depends on it: stores and ``kept``
    take it, so that all threads run in step.
``Pointer``
    an address in bytes of elements of one dtype, in global memory. ``p + n`` lies n bytes on.
``Value``
    one element, or some (lanes) that lie next to each other, in the type that arithmetic wants.
``Shelf``
    the block's shared memory as elements of the type that a sum has.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.cudadecl import registry as _declarations
from numba.cuda.cudaimpl import registry as _implementations
from numba.cuda.extending import core_models, intrinsic, register_model
from numba.cuda.typing.templates import AbstractTemplate, signature

from .elements import ELEMENTS, Element

GLOBAL, SHARED = 1, 3  # address spaces of NVVM
_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_HALF, _F32, _F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()


# --- types --------------------------------------------------------------------------------------


class Index(types.Type):  # type: ignore[misc]
    """A signed integer of 32 or 64 bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(f"Index{bits}")


class Flag(types.Type):  # type: ignore[misc]
    """The outcome of a comparison."""

    def __init__(self) -> None:
        super().__init__("Flag")


class Pointer(types.Type):  # type: ignore[misc]
    """An address of `lanes` elements `stored` next to each other, aligned to `alignment` bytes."""

    def __init__(self, stored: str, arithmetic: str, lanes: int, alignment: int) -> None:
        self.stored = ELEMENTS[stored]
        self.arithmetic = ELEMENTS[arithmetic]
        self.lanes = lanes
        self.alignment = alignment
        super().__init__(f"Pointer({stored}, {arithmetic}, {lanes}, {alignment})")


class Value(types.Type):  # type: ignore[misc]
    """One element or several in registers."""

    def __init__(self, element: Element, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(f"Value({element.name}, {lanes})")


class Shelf(types.Type):  # type: ignore[misc]
    """Shared memory as an array of elements."""

    def __init__(self, element: Element, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(f"Shelf({element.name}, {lanes})")


FLAG = Flag()


def _scalar(element: Element) -> ir.Type:
    """Return the LLVM type of a number in a register: of a part, where it is complex.

    Floats of two bytes are bits, which are floats once they have been converted.
    """
    if element.kind in "fc" and element.itemsize > 2:
        return _F64 if element.itemsize * (1 if element.kind == "c" else 2) == 16 else _F32
    return ir.IntType(8 * element.itemsize)


def _register(element: Element, lanes: int) -> ir.Type:
    """Return the LLVM type of a `Value`."""
    scalar = _scalar(element)
    if element.kind == "c":
        return ir.LiteralStructType([scalar, scalar])
    return ir.VectorType(scalar, lanes) if lanes > 1 else scalar


def _primitive_model(kind: type, representation: Callable[[Any], ir.Type]) -> None:
    class Model(core_models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, fe_type: Any) -> None:
            super().__init__(manager, fe_type, representation(fe_type))

    register_model(kind)(Model)


_primitive_model(Index, lambda kind: ir.IntType(kind.bits))
_primitive_model(Flag, lambda kind: _I1)
_primitive_model(Pointer, lambda kind: _I8.as_pointer())
_primitive_model(Value, lambda kind: _register(kind.element, kind.lanes))
_primitive_model(Shelf, lambda kind: _I8.as_pointer(SHARED))


# --- operators ----------------------------------------------------------------------------------


def _operator(
    function: Callable[..., Any], *kinds: type, result: Callable[..., types.Type | None]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Define an operator on these types; `result` tells the outcome's type, or None."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        key = function

        def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
            if len(args) != len(kinds) or not all(map(isinstance, args, kinds)):
                return None
            outcome = result(*args)
            return None if outcome is None else signature(outcome, *args)

    _declarations.register_global(function)(Template)
    return _implementations.lower(function, *kinds)  # type: ignore[no-any-return]


def _same(a: Any, b: Any) -> Any:
    return a if a == b else None


def _left(a: Any, b: Any) -> Any:
    return a


def _integer_operator(function: Callable[..., Any], name: str) -> None:
    """Define an operator between indices, and between an index and an int."""

    @_operator(function, Index, Index, result=_same)
    def of_two(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(*args)

    @_operator(function, Index, types.Integer, result=_left)
    def with_int(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(args[0], _as_index(builder, sig, args))


def _as_index(builder: Any, sig: Any, args: Any) -> Any:
    """Return an int argument in the width of the index before it."""
    wanted = ir.IntType(sig.args[0].bits)
    if args[1].type.width > wanted.width:
        return builder.trunc(args[1], wanted)
    return builder.sext(args[1], wanted) if args[1].type.width < wanted.width else args[1]


for _function, _name in (
    (operator.add, "add"),
    (operator.sub, "sub"),
    (operator.mul, "mul"),
    (operator.and_, "and_"),
    (operator.rshift, "ashr"),
):
    _integer_operator(_function, _name)


@_operator(operator.lt, Index, Index, result=lambda a, b: FLAG if a == b else None)
def _less(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.icmp_signed("<", *args)


@_operator(operator.lt, Index, types.Integer, result=lambda a, b: FLAG)
def _less_int(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.icmp_signed("<", args[0], _as_index(builder, sig, args))


@_operator(operator.and_, Flag, Flag, result=_left)
def _both(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.and_(*args)


@_operator(operator.add, Pointer, Index, result=_left)
def _advance(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    offset = args[1] if sig.args[1].bits == 64 else builder.sext(args[1], _I64)
    return builder.gep(args[0], [offset], inbounds=True, source_etype=_I8)


def _wider(a: Value, b: Value) -> Any:
    fits = a.element == b.element and (a.lanes == b.lanes or 1 in (a.lanes, b.lanes))
    return Value(a.element, max(a.lanes, b.lanes)) if fits else None


@_operator(operator.add, Value, Value, result=_wider)
def _sum(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a, b = _in_lanes(builder, sig, args)
    element = sig.return_type.element
    if element.kind == "c":
        parts = [builder.fadd(x, y) for x, y in zip(_parts(builder, a), _parts(builder, b))]  # noqa: B905
        return _complex(builder, *parts)
    if element.kind == "f":
        return builder.fadd(a, b)
    return builder.or_(a, b) if element.kind == "b" else builder.add(a, b)


@_operator(operator.mul, Value, Value, result=_wider)
def _product(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a, b = _in_lanes(builder, sig, args)
    element = sig.return_type.element
    if element.kind == "c":
        (ar, ai), (br, bi) = _parts(builder, a), _parts(builder, b)
        real = builder.fsub(builder.fmul(ar, br), builder.fmul(ai, bi))
        return _complex(builder, real, builder.fadd(builder.fmul(ar, bi), builder.fmul(ai, br)))
    if element.kind == "f":
        return builder.fmul(a, b)
    return builder.and_(a, b) if element.kind == "b" else builder.mul(a, b)


def _in_lanes(builder: Any, sig: Any, args: Any) -> list[Any]:
    """Return two values with as many lanes as their result has."""
    lanes = sig.return_type.lanes
    return [_spread(builder, x, kind.lanes, lanes) for x, kind in zip(args, sig.args, strict=True)]


def _spread(builder: Any, value: Any, lanes: int, wanted: int) -> Any:
    if lanes == wanted:
        return value
    vector = ir.Constant(ir.VectorType(value.type, wanted), ir.Undefined)
    for lane in range(wanted):
        vector = builder.insert_element(vector, value, _I32(lane))
    return vector


def _parts(builder: Any, value: Any) -> tuple[Any, Any]:
    return builder.extract_value(value, 0), builder.extract_value(value, 1)


def _complex(builder: Any, real: Any, imaginary: Any) -> Any:
    pair = ir.Constant(ir.LiteralStructType([real.type, real.type]), ir.Undefined)
    return builder.insert_value(builder.insert_value(pair, real, 0), imaginary, 1)


# --- where a thread is --------------------------------------------------------------------------


def _register_reader(name: str) -> Any:
    """Return a primitive that reads a special register as an index of the width of `like`."""

    def read(typingctx: Any, like: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = ir.FunctionType(_I32, [])
            register = builder.module.declare_intrinsic(
                f"llvm.nvvm.read.ptx.sreg.{name}", fnty=kind
            )
            number = builder.call(register, [])
            return number if like.bits == 32 else builder.zext(number, _I64)

        return like(like), lower

    return intrinsic(read)


thread = _register_reader("tid.x")
block_x = _register_reader("ctaid.x")
block_y = _register_reader("ctaid.y")


@intrinsic  # type: ignore[untyped-decorator]
def quotient(typingctx: Any, n: Any, divisor: Any, magic: Any, shift: Any) -> Any:
    """Return ``n // divisor``, in 32 bits by multiplication (see `schedule.magic`)."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if n.bits == 64:
            return builder.udiv(args[0], args[1])
        wide = builder.mul(builder.zext(args[0], _I64), builder.zext(args[2], _I64))
        high = builder.trunc(builder.lshr(wide, _I64(32)), _I32)
        return builder.lshr(builder.add(high, args[0]), args[3])

    return n(n, divisor, magic, shift), lower


@intrinsic  # type: ignore[untyped-decorator]
def clipped(typingctx: Any, n: Any, count: Any) -> Any:
    """Return n, or the last index below `count`."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        last = builder.sub(args[1], args[1].type(1))
        return builder.select(builder.icmp_signed("<", args[0], args[1]), args[0], last)

    return n(n, count), lower


@intrinsic  # type: ignore[untyped-decorator]
def smaller(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two indices."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed("<", *args), *args)

    return a(a, b), lower


@intrinsic  # type: ignore[untyped-decorator]
def barrier(typingctx: Any) -> Any:
    """Wait for all threads of the block."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(builder.module.declare_intrinsic("llvm.nvvm.barrier0", fnty=kind), [])
        return context.get_dummy_value()

    return types.void(), lower


# --- values -------------------------------------------------------------------------------------


def _arithmetic(pointer: Pointer) -> Value:
    return Value(pointer.arithmetic, pointer.lanes)


@intrinsic  # type: ignore[untyped-decorator]
def zero(typingctx: Any, like: Any) -> Any:
    """Return the empty sum of what a pointer points at."""
    value = _arithmetic(like)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_register(value.element, value.lanes), None)

    return value(like), lower


@intrinsic  # type: ignore[untyped-decorator]
def kept(typingctx: Any, value: Any, flag: Any) -> Any:
    """Return the value where the flag is set, and zero elsewhere."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(args[1], args[0], ir.Constant(args[0].type, None))

    return value(value, flag), lower


@intrinsic  # type: ignore[untyped-decorator]
def folded(typingctx: Any, value: Any) -> Any:
    """Return the sum over the lanes."""
    single = Value(value.element, 1)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = [args[0]]
        if value.lanes > 1:
            lanes = [builder.extract_element(args[0], _I32(k)) for k in range(value.lanes)]
        add = signature(single, single, single)
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [_sum(context, builder, add, lanes[k::half][:2]) for k in range(half)]
        return lanes[0]

    return single(value), lower


@intrinsic  # type: ignore[untyped-decorator]
def load(typingctx: Any, pointer: Any) -> Any:
    """Read what a pointer points at; no kernel writes what it reads."""
    value = _arithmetic(pointer)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        numbers = _numbers_at(builder, args[0], pointer)
        read = []
        for address, kind, alignment in numbers:
            number = builder.load(address, align=alignment, typ=kind)
            number.set_metadata("invariant.load", builder.module.add_metadata([]))
            read.append(number)
        stored = _assembled(builder, read, pointer)
        return _cast(builder, stored, pointer.stored, pointer.arithmetic)

    return value(pointer), lower


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx: Any, pointer: Any, value: Any, flag: Any) -> Any:
    """Write the value where the flag is set."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        spread = _spread(builder, args[1], value.lanes, pointer.lanes)
        stored = _cast(builder, spread, value.element, pointer.stored)
        with builder.if_then(args[2]):
            numbers = _numbers_at(builder, args[0], pointer)
            taken = _disassembled(builder, stored, len(numbers), pointer)
            for (address, _, alignment), number in zip(numbers, taken, strict=True):
                builder.store(number, address, align=alignment)
        return context.get_dummy_value()

    return types.void(pointer, value, flag), lower


def _numbers_at(builder: Any, address: Any, pointer: Pointer) -> list[tuple[Any, ir.Type, int]]:
    """Return address, type and alignment of each access that reads or writes a `Value`."""
    element = pointer.stored
    scalar = _scalar(element)
    step = 0
    if element.kind == "c" and pointer.alignment >= element.itemsize:
        kinds: list[ir.Type] = [ir.VectorType(scalar, 2)]
    elif element.kind == "c":
        kinds, step = [scalar, scalar], element.itemsize // 2
    else:
        kinds = [_memory(element, pointer.lanes)]
    found = []
    for number, kind in enumerate(kinds):
        at = builder.gep(address, [_I64(number * step)], inbounds=True, source_etype=_I8)
        at = builder.addrspacecast(builder.bitcast(at, kind.as_pointer()), kind.as_pointer(GLOBAL))
        found.append((at, kind, pointer.alignment))
    return found


def _memory(element: Element, lanes: int) -> ir.Type:
    """Return the LLVM type of one access; words, where NVVM would take bytes one by one."""
    words, rest = divmod(lanes * element.itemsize, 4)
    if element.itemsize >= 4:
        return _register(element, lanes)
    if rest:
        return ir.IntType(8 * rest)
    return ir.VectorType(_I32, words) if words > 1 else _I32


def _assembled(builder: Any, read: list[Any], pointer: Pointer) -> Any:
    """Return one value from the accesses that read it."""
    if pointer.stored.kind != "c":
        wanted = _register(pointer.stored, pointer.lanes)
        return read[0] if read[0].type == wanted else builder.bitcast(read[0], wanted)
    if len(read) == 1:
        read = [builder.extract_element(read[0], _I32(k)) for k in range(2)]
    return _complex(builder, *read)


def _disassembled(builder: Any, stored: Any, count: int, pointer: Pointer) -> list[Any]:
    """Return what each of `count` accesses writes."""
    if pointer.stored.kind != "c":
        wanted = _memory(pointer.stored, pointer.lanes)
        return [stored if stored.type == wanted else builder.bitcast(stored, wanted)]
    parts = _parts(builder, stored)
    if count == 2:
        return list(parts)
    pair = ir.Constant(ir.VectorType(parts[0].type, 2), ir.Undefined)
    for number, part in enumerate(parts):
        pair = builder.insert_element(pair, part, _I32(number))
    return [pair]


# --- conversions --------------------------------------------------------------------------------


def _like(value: Any, scalar: ir.Type) -> ir.Type:
    """Return the type with these numbers and as many lanes as `value` has."""
    if isinstance(value.type, ir.VectorType):
        return ir.VectorType(scalar, value.type.count)
    return scalar


def _cast(builder: Any, value: Any, source: Element, target: Element) -> Any:
    """Convert as NumPy's astype does."""
    if source == target:
        return value
    if source.kind == "f" and source.itemsize == 2:
        widen = _widened_half if source.name == "float16" else _widened_bfloat
        return _cast(builder, widen(builder, value), _FLOAT32, target)
    if target.kind == "f" and target.itemsize == 2:
        if source.name == "float64" and target.name == "float16":
            return _by_lane(builder, value, _half_of)
        single = _cast(builder, value, source, _FLOAT32)
        return (
            _by_lane(builder, single, _half_of)
            if target.name == "float16"
            else _rounded(builder, single)
        )
    if source.kind == "c":
        parts = _parts(builder, value)
        part = _PART[source.name]
        if target.kind == "c":
            return _complex(builder, *[_cast(builder, x, part, _PART[target.name]) for x in parts])
        if target.kind == "b":
            return builder.or_(*[_cast(builder, x, part, target) for x in parts])
        return _cast(builder, parts[0], part, target)
    if target.kind == "c":
        real = _cast(builder, value, source, _PART[target.name])
        return _complex(builder, real, ir.Constant(real.type, 0.0))
    wanted = _like(value, _scalar(target))
    if target.kind == "b":
        nothing = ir.Constant(value.type, None)
        compare = builder.fcmp_unordered if source.kind == "f" else builder.icmp_unsigned
        return builder.zext(compare("!=", value, nothing), wanted)
    if source.kind == "f":
        if target.kind == "f":
            convert = builder.fpext if target.itemsize > source.itemsize else builder.fptrunc
        else:
            convert = builder.fptosi if target.kind == "i" else builder.fptoui
    elif target.kind == "f":
        convert = builder.sitofp if source.kind == "i" else builder.uitofp
    elif target.itemsize == source.itemsize:
        return value
    elif target.itemsize < source.itemsize:
        convert = builder.trunc
    else:
        convert = builder.sext if source.kind == "i" else builder.zext
    return convert(value, wanted)


_FLOAT32 = ELEMENTS["float32"]
_PART = {"complex64": ELEMENTS["float32"], "complex128": ELEMENTS["float64"]}


def _by_lane(builder: Any, value: Any, convert: Callable[[Any, Any], Any]) -> Any:
    """Convert lane by lane: NVVM makes invalid PTX of conversions of vectors of halves."""
    if not isinstance(value.type, ir.VectorType):
        return convert(builder, value)
    lanes = [builder.extract_element(value, _I32(k)) for k in range(value.type.count)]
    converted = [convert(builder, lane) for lane in lanes]
    vector = ir.Constant(ir.VectorType(converted[0].type, len(converted)), ir.Undefined)
    for number, lane in enumerate(converted):
        vector = builder.insert_element(vector, lane, _I32(number))
    return vector


def _widened_half(builder: Any, value: Any) -> Any:
    return _by_lane(builder, value, lambda b, x: b.fpext(b.bitcast(x, _HALF), _F32))


def _half_of(builder: Any, value: Any) -> Any:
    return builder.bitcast(builder.fptrunc(value, _HALF), _I16)


def _widened_bfloat(builder: Any, value: Any) -> Any:
    wide = _like(value, _I32)
    shifted = builder.shl(builder.zext(value, wide), _filled(wide, 16))
    return builder.bitcast(shifted, _like(value, _F32))


def _filled(kind: ir.Type, number: int) -> ir.Constant:
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [number] * kind.count)
    return ir.Constant(kind, number)


def _rounded(builder: Any, value: Any) -> Any:
    """Round float32 to bfloat16, to the nearest and to even; NaN stays NaN."""
    wide, narrow = _like(value, _I32), _like(value, _I16)
    bits = builder.bitcast(value, wide)
    odd = builder.and_(builder.lshr(bits, _filled(wide, 16)), _filled(wide, 1))
    up = builder.add(bits, builder.add(odd, _filled(wide, 0x7FFF)))
    nan = builder.fcmp_unordered("uno", value, value)
    chosen = builder.select(nan, builder.or_(bits, _filled(wide, 0x400000)), up)
    return builder.trunc(builder.lshr(chosen, _filled(wide, 16)), narrow)


# --- shared memory ------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]
def shelf(typingctx: Any, value: Any) -> Any:
    """Return the block's shared memory as elements like `value`."""
    kind = Shelf(value.element, value.lanes)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(_dynamic_shared(builder.module), _I8.as_pointer(SHARED))

    return kind(value), lower


def _dynamic_shared(module: Any) -> Any:
    """Return the symbol at which the shared memory begins that a launch asks for."""
    name = "fastein_shared"
    if name not in module.globals:
        memory = ir.GlobalVariable(module, ir.ArrayType(_I8, 0), name, SHARED)
        memory.linkage = "external"
        memory.align = 16
    return module.globals[name]


def _slot(builder: Any, shelf: Shelf, args: Any) -> Any:
    kind = _register(shelf.element, shelf.lanes)
    return builder.gep(builder.bitcast(args[0], kind.as_pointer(SHARED)), [args[1]])


@intrinsic  # type: ignore[untyped-decorator]
def put(typingctx: Any, shelf: Any, slot: Any, value: Any) -> Any:
    """Write a value into a slot of shared memory."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _slot(builder, shelf, args))
        return context.get_dummy_value()

    return types.void(shelf, slot, value), lower


@intrinsic  # type: ignore[untyped-decorator]
def get(typingctx: Any, shelf: Any, slot: Any) -> Any:
    """Read a slot of shared memory."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_slot(builder, shelf, args))

    return Value(shelf.element, shelf.lanes)(shelf, slot), lower
