"""Conversion of float16 in LLVM IR, for processors that do not have it.

LLVM would call libgcc, which a process need not have loaded. Branch-free, so that it vectorises;
after Maratyszcza's FP16 library.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()


def converts_half(context: Any) -> bool:
    """Whether the compiled-for processor converts float16: with F16C on x86, always on ARMv8."""
    triple, _, features = context.codegen().magic_tuple()
    return not triple.startswith(("x86_64", "i386", "i686")) or "+f16c" in features.split(",")


def half_to_float(builder: Any, half: Any) -> Any:
    """Return a 16-bit integer, or a vector of them, read as float16 and converted to float32."""
    word_type, float_type = _alike_type(half, _I32), _alike_type(half, _F32)

    def bits(n: int) -> Any:
        return _all(word_type, n)

    word = builder.shl(builder.zext(half, word_type), bits(16))
    sign = builder.and_(word, bits(0x8000_0000))
    twice = builder.add(word, word)
    shifted = builder.add(builder.lshr(twice, bits(4)), bits(0xE0 << 23))
    normal = builder.fmul(builder.bitcast(shifted, float_type), _all(float_type, 2.0**-112))
    masked = builder.or_(builder.lshr(twice, bits(17)), bits(126 << 23))
    subnormal = builder.fsub(builder.bitcast(masked, float_type), _all(float_type, 0.5))
    small = builder.icmp_unsigned("<", twice, bits(1 << 27))
    magnitude = builder.bitcast(builder.select(small, subnormal, normal), word_type)
    return builder.bitcast(builder.or_(sign, magnitude), float_type)


def _all(typ: ir.Type, number: float) -> Any:
    """Return the constant of a scalar type, or of a vector type in all its lanes."""
    return typ([number] * typ.count) if isinstance(typ, ir.VectorType) else typ(number)


def _alike_type(value: Any, scalar: ir.Type) -> ir.Type:
    """Return the type of as many scalars as the value has lanes."""
    kind = value.type
    return ir.VectorType(scalar, kind.count) if isinstance(kind, ir.VectorType) else scalar


def float_to_half(builder: Any, value: Any) -> Any:
    """Return a float32, or a vector of them, rounded to float16, as a 16-bit integer."""
    word_type, float_type = _alike_type(value, _I32), _alike_type(value, _F32)

    def bits(n: int) -> Any:
        return _all(word_type, n)

    word = builder.bitcast(value, word_type)
    sign = builder.and_(word, bits(0x8000_0000))
    magnitude = builder.bitcast(builder.and_(word, bits(0x7FFF_FFFF)), float_type)
    twice = builder.add(word, word)
    # Adding a power of two that depends on the exponent rounds to nearest even in the adder.
    scaled = builder.fmul(magnitude, _all(float_type, 2.0**112))
    base = builder.fmul(scaled, _all(float_type, 2.0**-110))
    exponent = builder.and_(twice, bits(0xFF00_0000))
    low = builder.icmp_unsigned("<", exponent, bits(0x7100_0000))
    bias = builder.lshr(builder.select(low, bits(0x7100_0000), exponent), bits(1))
    adder = builder.bitcast(builder.add(bias, bits(0x0780_0000)), float_type)
    rounded = builder.bitcast(builder.fadd(adder, base), word_type)
    exponent = builder.and_(builder.lshr(rounded, bits(13)), bits(0x7C00))
    finite = builder.add(exponent, builder.and_(rounded, bits(0x0FFF)))
    nan = builder.icmp_unsigned(">", twice, bits(0xFF00_0000))
    nonsign = builder.select(nan, bits(0x7E00), finite)
    half = builder.or_(builder.lshr(sign, bits(16)), nonsign)
    return builder.trunc(half, _alike_type(value, _I16))
