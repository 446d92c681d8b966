"""The primitives of the generated GPU kernels, as numba.cuda intrinsics over `values`.

With `values` and `tile_primitives` this is all that knows how numba-cuda lowers code;
:mod:`fastein_cuda.primitives_sim` is its twin, which has the same names and runs on NumPy.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import extending, types
from numba.cuda.extending import intrinsic
from numba.cuda.typing.templates import signature

from .conversions import (
    I8,
    I32,
    I64,
    cast,
    complex_of,
    memory_type,
    parts_of,
    register_type,
    scalar_type,
    spread,
)
from .values import GLOBAL, SHARED, Pointer, Shelf, Value, add_values

# --- where a thread is --------------------------------------------------------------------------


def _register_reader(name: str) -> Any:
    """Return a primitive that reads a special register as an index of the width of `like`."""

    def read(typingctx: Any, like: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = ir.FunctionType(I32, [])
            register = builder.module.declare_intrinsic(
                f"llvm.nvvm.read.ptx.sreg.{name}", fnty=kind
            )
            number = builder.call(register, [])
            return number if like.bits == 32 else builder.zext(number, I64)

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
        wide = builder.mul(builder.zext(args[0], I64), builder.zext(args[2], I64))
        high = builder.trunc(builder.lshr(wide, I64(32)), I32)
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
        return ir.Constant(register_type(value.element, value.lanes), None)

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
            lanes = [builder.extract_element(args[0], I32(k)) for k in range(value.lanes)]
        add = signature(single, single, single)
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [add_values(context, builder, add, lanes[k::half][:2]) for k in range(half)]
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
        return cast(builder, stored, pointer.stored, pointer.arithmetic)

    return value(pointer), lower


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx: Any, pointer: Any, value: Any, flag: Any) -> Any:
    """Write the value where the flag is set."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = spread(builder, args[1], value.lanes, pointer.lanes)
        stored = cast(builder, wide, value.element, pointer.stored)
        store_at(builder, args[0], pointer, stored, args[2])
        return context.get_dummy_value()

    return types.void(pointer, value, flag), lower


def store_at(builder: Any, address: Any, pointer: Pointer, stored: Any, flag: Any) -> None:
    """Write elements to an address of a pointer's kind where the flag is set."""
    with builder.if_then(flag):
        numbers = _numbers_at(builder, address, pointer)
        taken = _disassembled(builder, stored, len(numbers), pointer)
        for (at, _, alignment), number in zip(numbers, taken, strict=True):
            builder.store(number, at, align=alignment)


def _numbers_at(builder: Any, address: Any, pointer: Pointer) -> list[tuple[Any, ir.Type, int]]:
    """Return address, type and alignment of each access that reads or writes a `Value`."""
    element = pointer.stored
    scalar = scalar_type(element)
    step = 0
    if element.kind == "c" and pointer.alignment >= element.itemsize:
        kinds: list[ir.Type] = [ir.VectorType(scalar, 2)]
    elif element.kind == "c":
        kinds, step = [scalar, scalar], element.itemsize // 2
    else:
        kinds = [memory_type(element, pointer.lanes)]
    found = []
    for number, kind in enumerate(kinds):
        at = builder.gep(address, [I64(number * step)], inbounds=True, source_etype=I8)
        at = builder.addrspacecast(builder.bitcast(at, kind.as_pointer()), kind.as_pointer(GLOBAL))
        found.append((at, kind, pointer.alignment))
    return found


def _assembled(builder: Any, read: list[Any], pointer: Pointer) -> Any:
    """Return one value from the accesses that read it."""
    if pointer.stored.kind != "c":
        wanted = register_type(pointer.stored, pointer.lanes)
        return read[0] if read[0].type == wanted else builder.bitcast(read[0], wanted)
    if len(read) == 1:
        read = [builder.extract_element(read[0], I32(k)) for k in range(2)]
    return complex_of(builder, *read)


def _disassembled(builder: Any, stored: Any, count: int, pointer: Pointer) -> list[Any]:
    """Return what each of `count` accesses writes."""
    if pointer.stored.kind != "c":
        wanted = memory_type(pointer.stored, pointer.lanes)
        return [stored if stored.type == wanted else builder.bitcast(stored, wanted)]
    parts = parts_of(builder, stored)
    if count == 2:
        return list(parts)
    pair = ir.Constant(ir.VectorType(parts[0].type, 2), ir.Undefined)
    for number, part in enumerate(parts):
        pair = builder.insert_element(pair, part, I32(number))
    return [pair]


# --- shared memory ------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]
def shelf(typingctx: Any, like: Any, begin: Any) -> Any:
    """Return the block's shared memory from a byte on, as slots that hold what is like `like`."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(shared_memory(builder), [args[1]], inbounds=True, source_etype=I8)

    return Shelf(like)(like, begin), lower


def shared_memory(builder: Any) -> Any:
    """Return where the shared memory begins that a launch asks for."""
    module, name = builder.module, "fastein_shared"
    if name not in module.globals:
        memory = ir.GlobalVariable(module, ir.ArrayType(I8, 0), name, SHARED)
        memory.linkage = "external"
        memory.align = 128
    return builder.bitcast(module.globals[name], I8.as_pointer(SHARED))


def slot_at(builder: Any, shelf: Shelf, address: Any, number: Any) -> Any:
    """Return the address of a slot."""
    typed = builder.bitcast(address, shelf.representation.as_pointer(SHARED))
    return builder.gep(typed, [number], inbounds=True, source_etype=shelf.representation)


@intrinsic  # type: ignore[untyped-decorator]
def put(typingctx: Any, shelf: Any, slot: Any, value: Any) -> Any:
    """Write a value into a slot of shared memory."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], slot_at(builder, shelf, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(shelf, slot, value), lower


@intrinsic  # type: ignore[untyped-decorator]
def get(typingctx: Any, shelf: Any, slot: Any) -> Any:
    """Read a slot of shared memory."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(slot_at(builder, shelf, args[0], args[1]))

    return shelf.slot(shelf, slot), lower


# --- copies that nobody waits for ---------------------------------------------------------------

# `intrinsic` has no way to ask for the value of a constant argument; what it is made of does.
_of_literals = extending._intrinsic(prefer_literal=True, target="cuda")

_CACHED = {4: "ca", 8: "ca", 16: "cg"}  # copies of 16 bytes alone may pass the first cache by


@intrinsic  # type: ignore[untyped-decorator]
def copy(typingctx: Any, place: Any, pointer: Any, flag: Any) -> Any:
    """Copy what a pointer points at to a byte of shared memory, or zeros where the flag is clear.

    The copy is done once `wait` says so; where elements are too small for that, at once.
    """
    nbytes = pointer.lanes * pointer.stored.itemsize
    piece = min(nbytes, pointer.alignment)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = builder.gep(shared_memory(builder), [args[0]], inbounds=True, source_etype=I8)
        source = builder.addrspacecast(args[1], I8.as_pointer(GLOBAL))
        for begin in range(0, nbytes, piece):
            into, out_of = [
                builder.gep(end, [I64(begin)], inbounds=True, source_etype=I8)
                for end in (target, source)
            ]
            move = _copy_later if piece in _CACHED else _copy_now
            move(builder, into, out_of, args[2], piece)
        return context.get_dummy_value()

    return types.void(place, pointer, flag), lower


def _copy_later(builder: Any, target: Any, source: Any, flag: Any, nbytes: int) -> None:
    there = builder.select(flag, I32(nbytes), I32(0))
    kind = ir.FunctionType(ir.VoidType(), [I32, I64, I32])
    line = f"cp.async.{_CACHED[nbytes]}.shared.global [$0], [$1], {nbytes}, $2;"
    at = builder.trunc(builder.ptrtoint(target, I64), I32)
    assembly = ir.InlineAsm(kind, line, "r,l,r,~{memory}", side_effect=True)
    builder.call(assembly, [at, builder.ptrtoint(source, I64), there])


def _copy_now(builder: Any, target: Any, source: Any, flag: Any, nbytes: int) -> None:
    kind = ir.IntType(8 * nbytes)
    found = builder.load(builder.bitcast(source, kind.as_pointer(GLOBAL)), align=nbytes)
    kept_bits = builder.select(flag, found, kind(0))
    builder.store(kept_bits, builder.bitcast(target, kind.as_pointer(SHARED)), align=nbytes)


@intrinsic  # type: ignore[untyped-decorator]
def commit(typingctx: Any) -> Any:
    """End a group of copies."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        command(builder, "cp.async.commit_group;")
        return context.get_dummy_value()

    return types.void(), lower


@_of_literals  # type: ignore[untyped-decorator]
def wait(typingctx: Any, youngest: Any) -> Any:
    """Wait until all but the youngest groups of copies are done."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        command(builder, f"cp.async.wait_group {youngest.literal_value};")
        return context.get_dummy_value()

    return types.void(youngest), lower


def command(builder: Any, line: str) -> None:
    """Emit an instruction without operands, which nothing moves across."""
    kind = ir.FunctionType(ir.VoidType(), [])
    builder.call(ir.InlineAsm(kind, line, "~{memory}", side_effect=True), [])
