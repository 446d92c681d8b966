"""Typed primitives of the generated CPU kernels, as Numba types and operators.

Generated source (:mod:`fastein.cpu.codegen`) works with two kinds of value only:

``Pointer``
    what ``operand`` and ``output`` return. It counts in bytes: ``p + n`` lies ``n`` bytes further,
    ``p[n]`` reads the element ``n`` bytes further, ``p[n] = x`` writes it.
``Element``
    one element in a register, with ``+`` and ``*`` as `einsum` means them: OR and AND for bool,
    wrap-around in the integer's own width, float32 for float16, the naive product for complex.

Both lower straight to LLVM IR. Addresses are ``getelementptr`` on ``i8`` and never make a round
trip through integers, which LLVM 22 miscompiles. The output never overlaps an input, and the IR
says so by alias scopes: without them every loop would start with run-time overlap checks.

Importing this module imports Numba; only :mod:`fastein.cpu.compiler` does, when it compiles.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# What einsum promises of rounding. A sum may be reordered (vector lanes, several accumulators) and
# fused with its products. A product may not be regrouped: 1e200 * 1e200 * 1e-300 is inf, from the
# left. nnan and ninf are left out: they would break results that are NaN or infinite.
SUM_FLAGS = ("reassoc", "contract", "nsz")
PRODUCT_FLAGS = ("contract",)

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_F32 = ir.FloatType()


class Pointer(types.Type):  # type: ignore[misc]
    """A byte address of elements of `dtype`; `writes` tells the output from the inputs."""

    def __init__(self, dtype: types.Type, writes: bool) -> None:
        self.dtype = dtype
        self.writes = writes
        super().__init__(f"{'Output' if writes else 'Input'}({dtype})")


class Element(types.Type):  # type: ignore[misc]
    """An element of a `dtype` array, held in the type that arithmetic wants."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(f"Element({dtype})")


def register_type(dtype: types.Type) -> ir.Type:
    """Return the LLVM type that holds an element of `dtype` in a register."""
    if isinstance(dtype, types.Complex):
        part = register_type(dtype.underlying_float)
        return ir.LiteralStructType([part, part])
    if isinstance(dtype, types.Float):
        return ir.DoubleType() if dtype.bitwidth == 64 else _F32
    return ir.IntType(8 if isinstance(dtype, types.Boolean) else dtype.bitwidth)


@register_model(Pointer)
class _PointerModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Pointer) -> None:
        super().__init__(manager, fe_type, _I8.as_pointer())


@register_model(Element)
class _ElementModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Element) -> None:
        super().__init__(manager, fe_type, register_type(fe_type.dtype))


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


@intrinsic  # type: ignore[untyped-decorator]
def zero(typingctx: Any, dtype: Any) -> Any:
    """Return the zero of `dtype`, the empty sum."""
    element = Element(dtype.instance_type)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # None renders as zeroinitializer, which every type has.
        return ir.Constant(register_type(element.dtype), None)

    return element(dtype), lower


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
        return signature(left, *args) if isinstance(left, Element) and left == right else None


@infer_global(operator.mul)
class _Multiply(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        left, right = args
        return signature(left, *args) if isinstance(left, Element) and left == right else None


@infer_global(operator.getitem)
class _Read(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, offset = args
        if isinstance(pointer, Pointer) and isinstance(offset, types.Integer):
            return signature(Element(pointer.dtype), pointer, types.intp)
        return None


@infer_global(operator.setitem)
class _Write(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, offset, _ = args
        if isinstance(pointer, Pointer) and pointer.writes and isinstance(offset, types.Integer):
            return signature(types.none, pointer, types.intp, Element(pointer.dtype))
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
    _store(context, builder, sig.args[0], _move(context, builder, sig, args[:2]), args[2])
    return context.get_dummy_value()


@lower_builtin(operator.add, Element, Element)  # type: ignore[untyped-decorator]
@lower_builtin(operator.iadd, Element, Element)  # type: ignore[untyped-decorator]
def _add(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    dtype, (x, y) = sig.args[0].dtype, args
    if isinstance(dtype, types.Boolean):
        return builder.or_(x, y)
    if isinstance(dtype, types.Integer):
        return builder.add(x, y)
    if isinstance(dtype, types.Float):
        return builder.fadd(x, y, flags=SUM_FLAGS)
    (xr, xi), (yr, yi) = _parts(builder, x), _parts(builder, y)
    real, imag = builder.fadd(xr, yr, flags=SUM_FLAGS), builder.fadd(xi, yi, flags=SUM_FLAGS)
    return _complex(builder, real, imag)


@lower_builtin(operator.mul, Element, Element)  # type: ignore[untyped-decorator]
def _multiply(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    dtype, (x, y) = sig.args[0].dtype, args
    if isinstance(dtype, types.Boolean):
        return builder.and_(x, y)
    if isinstance(dtype, types.Integer):
        return builder.mul(x, y)
    if isinstance(dtype, types.Float):
        return builder.fmul(x, y, flags=PRODUCT_FLAGS)
    # Unfused, so that z * conj(z) has an imaginary part of exactly 0, as in NumPy.
    (xr, xi), (yr, yi) = _parts(builder, x), _parts(builder, y)
    real = builder.fsub(builder.fmul(xr, yr), builder.fmul(xi, yi))
    imag = builder.fadd(builder.fmul(xr, yi), builder.fmul(xi, yr))
    return _complex(builder, real, imag)


def _parts(builder: Any, z: Any) -> tuple[Any, Any]:
    return builder.extract_value(z, 0), builder.extract_value(z, 1)


def _complex(builder: Any, real: Any, imag: Any) -> Any:
    z = builder.insert_value(ir.Constant(ir.LiteralStructType([real.type] * 2), None), real, 0)
    return builder.insert_value(z, imag, 1)


# Memory


def _load(context: Any, builder: Any, pointer: Pointer, address: Any) -> Any:
    """Read the element at `address` into its register form."""
    dtype = pointer.dtype

    def plain(typ: ir.Type, offset: int = 0) -> Any:
        value = builder.load(_at(builder, address, offset), align=_alignment(dtype), typ=typ)
        value.set_metadata("alias.scope" if pointer.writes else "noalias", output_scope(builder))
        return value

    if isinstance(dtype, types.Complex):
        part = register_type(dtype.underlying_float)
        return _complex(builder, plain(part), plain(part, _alignment(dtype)))
    if isinstance(dtype, types.Boolean):
        # Any non-zero byte is true.
        return builder.zext(builder.icmp_unsigned("!=", plain(_I8), _I8(0)), _I8)
    if dtype == types.float16:
        if converts_half(context):
            return builder.fpext(plain(ir.HalfType()), _F32)
        return half_to_float(builder, plain(_I16))
    return plain(register_type(dtype))


def _store(context: Any, builder: Any, pointer: Pointer, address: Any, value: Any) -> None:
    """Write a register's element to `address`."""
    dtype = pointer.dtype

    def plain(value: Any, offset: int = 0) -> None:
        place = builder.bitcast(_at(builder, address, offset), value.type.as_pointer())
        store = builder.store(value, place, align=_alignment(dtype))
        store.set_metadata("alias.scope", output_scope(builder))

    if isinstance(dtype, types.Complex):
        real, imag = _parts(builder, value)
        plain(real)
        plain(imag, _alignment(dtype))
    elif dtype == types.float16:
        hardware = converts_half(context)
        plain(builder.fptrunc(value, ir.HalfType()) if hardware else _float_to_half(builder, value))
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


# float16 where the processor does not convert it. LLVM would call libgcc, which a process need not
# have loaded. Branch-free, so that it vectorises; after Maratyszcza's FP16 library.


def converts_half(context: Any) -> bool:
    """Whether the compiled-for processor converts float16: with F16C on x86, always on ARMv8."""
    triple, _, features = context.codegen().magic_tuple()
    return not triple.startswith(("x86_64", "i386", "i686")) or "+f16c" in features.split(",")


def half_to_float(builder: Any, half: Any) -> Any:
    """Return a 16-bit integer, or a vector of them, read as float16 and converted to float32."""

    def of(scalar: Any) -> Any:
        vector = isinstance(half.type, ir.VectorType)
        return ir.VectorType(scalar, half.type.count) if vector else scalar

    def bits(n: int) -> Any:
        return _all(of(_I32), n)

    word = builder.shl(builder.zext(half, of(_I32)), bits(16))
    sign = builder.and_(word, bits(0x8000_0000))
    twice = builder.add(word, word)
    shifted = builder.add(builder.lshr(twice, bits(4)), bits(0xE0 << 23))
    normal = builder.fmul(builder.bitcast(shifted, of(_F32)), _all(of(_F32), 2.0**-112))
    masked = builder.or_(builder.lshr(twice, bits(17)), bits(126 << 23))
    subnormal = builder.fsub(builder.bitcast(masked, of(_F32)), _all(of(_F32), 0.5))
    small = builder.icmp_unsigned("<", twice, bits(1 << 27))
    magnitude = builder.bitcast(builder.select(small, subnormal, normal), of(_I32))
    return builder.bitcast(builder.or_(sign, magnitude), of(_F32))


def _all(typ: ir.Type, number: float) -> Any:
    """Return the constant of a scalar type, or of a vector type in all its lanes."""
    return typ([number] * typ.count) if isinstance(typ, ir.VectorType) else typ(number)


def _float_to_half(builder: Any, value: Any) -> Any:
    word = builder.bitcast(value, _I32)
    sign = builder.and_(word, _I32(0x8000_0000))
    magnitude = builder.bitcast(builder.and_(word, _I32(0x7FFF_FFFF)), _F32)
    twice = builder.add(word, word)
    # Adding a power of two that depends on the exponent rounds to nearest even in the adder.
    base = builder.fmul(builder.fmul(magnitude, _F32(2.0**112)), _F32(2.0**-110))
    exponent = builder.and_(twice, _I32(0xFF00_0000))
    low = builder.icmp_unsigned("<", exponent, _I32(0x7100_0000))
    bias = builder.lshr(builder.select(low, _I32(0x7100_0000), exponent), _I32(1))
    adder = builder.bitcast(builder.add(bias, _I32(0x0780_0000)), _F32)
    bits = builder.bitcast(builder.fadd(adder, base), _I32)
    exponent = builder.and_(builder.lshr(bits, _I32(13)), _I32(0x7C00))
    finite = builder.add(exponent, builder.and_(bits, _I32(0x0FFF)))
    nan = builder.icmp_unsigned(">", twice, _I32(0xFF00_0000))
    nonsign = builder.select(nan, _I32(0x7E00), finite)
    return builder.trunc(builder.or_(builder.lshr(sign, _I32(16)), nonsign), _I16)
