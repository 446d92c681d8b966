"""Typed primitives of the generated CPU kernels, as Numba types and operators.

Generated source (:mod:`fastein.cpu.codegen` and what it imports) works with two kinds of value:

``Pointer``
    what ``operand`` and ``output`` return. It counts in bytes: ``p + n`` lies ``n`` bytes further,
    ``p[n]`` reads the element ``n`` bytes further, ``p[n] = x`` writes it. ``wide(p, 3)`` is the
    same place, from where three elements are read or written at a time.
``Element``
    one element in a register, or a vector of them, with ``+`` and ``*`` as `einsum` means them: OR
    and AND for bool, wrap-around in the integer's own width, float32 for float16, the naive product
    for complex. Where a single element meets a vector it is in all its lanes.

Both lower straight to LLVM IR. Addresses are ``getelementptr`` on ``i8`` and never make a round
trip through integers, which LLVM 22 miscompiles. The output never overlaps an input, and the IR
says so by alias scopes: without them every loop would start with run-time overlap checks.

Importing this module imports Numba; only :mod:`fastein.cpu.compiler` does, when it compiles.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from fastein.cpu.halves import converts_half, float_to_half, half_to_float
from fastein.cpu.lanes import complex_of, parted, parts_of, picked, spread, truth

# What einsum promises of rounding. A sum may be reordered (vector lanes, several accumulators) and
# fused with its products. A product may not be regrouped: 1e200 * 1e200 * 1e-300 is inf, from the
# left. nnan and ninf are left out: they would break results that are NaN or infinite.
SUM_FLAGS = ("reassoc", "contract", "nsz")
PRODUCT_FLAGS = ("contract",)

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_F32 = ir.FloatType()


class Pointer(types.Type):  # type: ignore[misc]
    """A byte address of elements of `dtype`; `writes` tells the output from the inputs."""

    def __init__(self, dtype: types.Type, writes: bool, lanes: int = 1) -> None:
        self.dtype = dtype
        self.writes = writes
        self.lanes = lanes
        super().__init__(f"{'Output' if writes else 'Input'}({dtype}, {lanes})")


class Element(types.Type):  # type: ignore[misc]
    """An element, or a vector of them, of the dtype that arithmetic wants."""

    def __init__(self, dtype: types.Type, lanes: int = 1) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(f"Element({dtype}, {lanes})")


def elements_of(dtype: types.Type, lanes: int = 1) -> Element:
    """Return the kind of element that a `dtype` array holds, once it is in a register."""
    return Element(types.float32 if dtype == types.float16 else dtype, lanes)


def register_type(dtype: types.Type, lanes: int = 1) -> ir.Type:
    """Return the LLVM type that holds an element of `dtype`, or several, in a register."""
    if isinstance(dtype, types.Complex):
        part = register_type(dtype.underlying_float, lanes)
        return ir.LiteralStructType([part, part])
    if isinstance(dtype, types.Float):  # float16 too, as float32
        return _lanes(ir.DoubleType() if dtype.bitwidth == 64 else _F32, lanes)
    return _lanes(ir.IntType(8 if isinstance(dtype, types.Boolean) else dtype.bitwidth), lanes)


def _lanes(scalar: ir.Type, lanes: int) -> ir.Type:
    return scalar if lanes == 1 else ir.VectorType(scalar, lanes)


@register_model(Pointer)
class _PointerModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Pointer) -> None:
        super().__init__(manager, fe_type, _I8.as_pointer())


@register_model(Element)
class _ElementModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Element) -> None:
        super().__init__(manager, fe_type, register_type(fe_type.dtype, fe_type.lanes))


# Making pointers and zeros


def _pointer(data: Any, index: Any, dtype: Any, writes: bool) -> Any:
    pointer = Pointer(dtype.instance_type, writes)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cell = builder.gep(args[0], [args[1]], inbounds=True, source_etype=_I8.as_pointer())
        return builder.load(cell, typ=_I8.as_pointer())

    return pointer(data, index, dtype), lower


@intrinsic  # type: ignore[untyped-decorator]
def operand(typingctx: Any, data: Any, index: Any, dtype: Any) -> Any:
    """Return ``data[index]``, an input of `dtype`, as a pointer."""
    return _pointer(data, index, dtype, writes=False)


@intrinsic  # type: ignore[untyped-decorator]
def output(typingctx: Any, data: Any, index: Any, dtype: Any) -> Any:
    """Return ``data[index]``, the output, as a pointer."""
    return _pointer(data, index, dtype, writes=True)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def wide(typingctx: Any, pointer: Any, lanes: Any) -> Any:
    """Return `pointer`, from where a constant number of contiguous elements is read or written."""
    vectors = Pointer(pointer.dtype, pointer.writes, lanes.literal_value)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0]

    return vectors(pointer, lanes), lower


@intrinsic  # type: ignore[untyped-decorator]
def zero(typingctx: Any, dtype: Any) -> Any:
    """Return the zero of `dtype`, the empty sum."""
    element = elements_of(dtype.instance_type)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # None renders as zeroinitializer, which every type has.
        return ir.Constant(register_type(element.dtype), None)

    return element(dtype), lower


@intrinsic  # type: ignore[untyped-decorator]
def exact_sum(typingctx: Any, total: Any, lost: Any, part: Any) -> Any:
    """Return ``total + part``, and `lost` with what that addition rounds off (Knuth's two-sum)."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def add(total: Any, lost: Any, part: Any) -> tuple[Any, Any]:
            return two_sum(builder, total, lost, part)

        return context.make_tuple(builder, sig.return_type, _by_parts(builder, add, args))

    return types.UniTuple(total, 2)(total, lost, part), lower


def two_sum(builder: Any, total: Any, lost: Any, part: Any) -> tuple[Any, Any]:
    """Return ``total + part`` and `lost` with what is rounded off, of real numbers or vectors."""
    # without flags: nothing of this may be reordered
    found = builder.fadd(total, part)
    seen = builder.fsub(found, total)
    missed = builder.fsub(total, builder.fsub(found, seen))
    missed = builder.fadd(missed, builder.fsub(part, seen))
    return found, builder.fadd(lost, missed)


@intrinsic  # type: ignore[untyped-decorator]
def whole_sum(typingctx: Any, total: Any, lost: Any) -> Any:
    """Return a sum with what it has lost; that is NaN where the sum is infinite."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def add(total: Any, lost: Any) -> tuple[Any]:
            known = builder.fcmp_ordered("ord", lost, lost)
            return (builder.select(known, builder.fadd(total, lost), total),)

        return _by_parts(builder, add, args)[0]

    return total(total, lost), lower


def _by_parts(builder: Any, function: Callable[..., Any], values: Sequence[Any]) -> list[Any]:
    """Apply a function of real numbers to the parts of complex ones, or to real ones."""
    if not isinstance(values[0].type, ir.LiteralStructType):
        return list(function(*values))
    pairs = [parts_of(builder, value) for value in values]
    reals, imaginaries = (function(*[pair[k] for pair in pairs]) for k in (0, 1))
    return [complex_of(builder, *both) for both in zip(reals, imaginaries, strict=True)]


@intrinsic  # type: ignore[untyped-decorator]
def gathered(typingctx: Any, step: Any) -> Any:
    """Return `step` unchanged, but so that LLVM does not bet on its being 1.

    The vectoriser makes one version of a loop for a stride of 1, here a byte, which never is, and
    leaves the other version scalar. It does not for a stride that is the result of arithmetic.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lowest = args[0].type(-(2**63) + 1)
        return builder.select(builder.icmp_signed(">", args[0], lowest), args[0], lowest)

    return types.intp(types.intp), lower


# Operators


@infer_global(operator.add)
@infer_global(operator.iadd)
class _Add(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        left, right = args
        if isinstance(left, Pointer) and isinstance(right, types.Integer):
            return signature(left, left, types.intp)
        return _elementwise(left, right)


@infer_global(operator.mul)
class _Multiply(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        return _elementwise(*args)


def _elementwise(left: Any, right: Any) -> Any:
    """Return the signature of an operation on two elements, on vectors, or on one of each."""
    if not (isinstance(left, Element) and isinstance(right, Element) and left.dtype == right.dtype):
        return None
    if left.lanes != right.lanes and 1 not in (left.lanes, right.lanes):
        return None
    return signature(max(left, right, key=lambda x: x.lanes), left, right)


@infer_global(operator.getitem)
class _Read(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, offset = args
        if isinstance(pointer, Pointer) and isinstance(offset, types.Integer):
            return signature(elements_of(pointer.dtype, pointer.lanes), pointer, types.intp)
        return None


@infer_global(operator.setitem)
class _Write(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, offset, value = args
        if not (isinstance(pointer, Pointer) and isinstance(offset, types.Integer)):
            return None
        if pointer.writes and value == elements_of(pointer.dtype, pointer.lanes):
            return signature(types.none, pointer, types.intp, value)
        return None


@lower_builtin(operator.add, Pointer, types.Integer)  # type: ignore[untyped-decorator]
def _move(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.gep(args[0], [args[1]], inbounds=True, source_etype=_I8)


@lower_builtin(operator.getitem, Pointer, types.Integer)  # type: ignore[untyped-decorator]
def _read(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer = sig.args[0]
    return _load(context, builder, pointer, _move(context, builder, sig, args))


@lower_builtin(operator.setitem, Pointer, types.Integer, Element)  # type: ignore[untyped-decorator]
def _write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    store(context, builder, sig.args[0], _move(context, builder, sig, args[:2]), args[2])
    return context.get_dummy_value()


@lower_builtin(operator.add, Element, Element)  # type: ignore[untyped-decorator]
@lower_builtin(operator.iadd, Element, Element)  # type: ignore[untyped-decorator]
def _add(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return sum_of(builder, sig.args[0].dtype, *_alike(builder, sig, args))


def sum_of(builder: Any, dtype: types.Type, x: Any, y: Any) -> Any:
    """Return the sum of two elements, or vectors, in their register form."""
    if isinstance(dtype, types.Boolean):
        return builder.or_(x, y)
    if isinstance(dtype, types.Integer):
        return builder.add(x, y)
    if isinstance(dtype, types.Float):
        return builder.fadd(x, y, flags=SUM_FLAGS)
    (xr, xi), (yr, yi) = parts_of(builder, x), parts_of(builder, y)
    real, imag = builder.fadd(xr, yr, flags=SUM_FLAGS), builder.fadd(xi, yi, flags=SUM_FLAGS)
    return complex_of(builder, real, imag)


@lower_builtin(operator.mul, Element, Element)  # type: ignore[untyped-decorator]
def _multiply(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    dtype, (x, y) = sig.args[0].dtype, _alike(builder, sig, args)
    if isinstance(dtype, types.Boolean):
        return builder.and_(x, y)
    if isinstance(dtype, types.Integer):
        return _byte_products(builder, x, y) if dtype.bitwidth == 8 else builder.mul(x, y)
    if isinstance(dtype, types.Float):
        return builder.fmul(x, y, flags=PRODUCT_FLAGS)
    # Unfused, so that z * conj(z) has an imaginary part of exactly 0, as in NumPy.
    (xr, xi), (yr, yi) = parts_of(builder, x), parts_of(builder, y)
    real = builder.fsub(builder.fmul(xr, yr), builder.fmul(xi, yi))
    imag = builder.fadd(builder.fmul(xr, yi), builder.fmul(xi, yr))
    return complex_of(builder, real, imag)


def _byte_products(builder: Any, x: Any, y: Any) -> Any:
    """Return the products of bytes, which no processor has: of vectors, as words.

    Of the bytes of half a vector LLVM would make a whole vector of words on processors with
    AVX-512; whole ones it multiplies as well as this does.
    """
    if not (isinstance(x.type, ir.VectorType) and x.type.count in (16, 32)):
        return builder.mul(x, y)
    words = ir.VectorType(_I16, x.type.count // 2)

    def all_of(number: int) -> Any:
        return words([number] * words.count)

    left, right = builder.bitcast(x, words), builder.bitcast(y, words)
    even = builder.and_(builder.mul(left, right), all_of(0x00FF))
    odd = builder.mul(builder.lshr(left, all_of(8)), builder.and_(right, all_of(0xFF00)))
    return builder.bitcast(builder.or_(even, odd), x.type)


def _alike(builder: Any, sig: Any, args: Any) -> list[Any]:
    """Return the operands with single elements spread over the lanes of the result."""
    lanes = sig.return_type.lanes
    return [
        spread(builder, value, lanes) if kind.lanes < lanes else value
        for kind, value in zip(sig.args, args, strict=True)
    ]


# Memory


def _load(context: Any, builder: Any, pointer: Pointer, address: Any) -> Any:
    """Read the elements at `address` into their register form."""
    dtype, lanes = pointer.dtype, pointer.lanes

    def plain(typ: ir.Type, offset: int = 0) -> Any:
        value = builder.load(_at(builder, address, offset), align=_alignment(dtype), typ=typ)
        value.set_metadata("alias.scope" if pointer.writes else "noalias", output_scope(builder))
        return value

    if isinstance(dtype, types.Complex):
        part = register_type(dtype.underlying_float)
        if lanes == 1:
            return complex_of(builder, plain(part), plain(part, _alignment(dtype)))
        return parted(builder, plain(ir.VectorType(part, 2 * lanes)))
    if isinstance(dtype, types.Boolean):
        return truth(builder, plain(_lanes(_I8, lanes)))
    if dtype == types.float16:
        if converts_half(context):
            return builder.fpext(plain(_lanes(ir.HalfType(), lanes)), _lanes(_F32, lanes))
        return half_to_float(builder, plain(_lanes(_I16, lanes)))
    return plain(register_type(dtype, lanes))


def from_bits(context: Any, builder: Any, dtype: types.Type, raw: Any) -> Any:
    """Return elements in their register form, given their bits as a vector of integers."""
    if isinstance(dtype, types.Complex):
        part = register_type(dtype.underlying_float)
        count = raw.type.count * raw.type.element.width // (dtype.bitwidth // 2)
        return parted(builder, builder.bitcast(raw, ir.VectorType(part, count)))
    lanes = raw.type.count
    if isinstance(dtype, types.Boolean):
        return truth(builder, raw)
    if dtype == types.float16:
        if converts_half(context):
            halves = builder.bitcast(raw, _lanes(ir.HalfType(), lanes))
            return builder.fpext(halves, _lanes(_F32, lanes))
        return half_to_float(builder, raw)
    return builder.bitcast(raw, register_type(dtype, lanes))


def store(
    context: Any,
    builder: Any,
    pointer: Pointer,
    address: Any,
    value: Any,
    past_caches: bool = False,
) -> None:
    """Write a register's elements to `address`; past the caches only to where vectors align."""
    dtype, lanes = pointer.dtype, pointer.lanes
    size = lanes * _alignment(dtype) * (2 if isinstance(dtype, types.Complex) else 1)

    def plain(value: Any, offset: int = 0) -> None:
        place = builder.bitcast(_at(builder, address, offset), value.type.as_pointer())
        align = size & -size if past_caches else _alignment(dtype)
        store = builder.store(value, place, align=align)
        store.set_metadata("alias.scope", output_scope(builder))
        if past_caches:
            store.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))

    if isinstance(dtype, types.Complex):
        real, imag = parts_of(builder, value)
        if lanes == 1:
            plain(real)
            plain(imag, _alignment(dtype))
        else:
            pairs = [lane + part * lanes for lane in range(lanes) for part in (0, 1)]
            plain(picked(builder, real, pairs, imag))
    elif dtype == types.float16:
        halves = _lanes(ir.HalfType(), lanes)
        hardware = converts_half(context)
        plain(builder.fptrunc(value, halves) if hardware else float_to_half(builder, value))
    else:
        plain(value)


def _alignment(dtype: types.Type) -> int:
    """Return the bytes to which NumPy aligns elements: for complex, those of one component."""
    if isinstance(dtype, types.Boolean):
        return 1
    return int(dtype.bitwidth) // (16 if isinstance(dtype, types.Complex) else 8)


def _at(builder: Any, address: Any, offset: int) -> Any:
    if not offset:
        return address
    return builder.gep(address, [_I32(offset)], inbounds=True, source_etype=_I8)


def output_scope(builder: Any) -> Any:
    """Return the alias scope of the output: its accesses are in it, an input's never touch it."""
    module = builder.module
    domain = module.add_metadata(["fastein"])
    return module.add_metadata([module.add_metadata(["fastein output", domain])])
