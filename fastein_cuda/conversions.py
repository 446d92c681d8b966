"""LLVM values of elements: their types, and how one converts into another. No numba in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .elements import ELEMENTS, Element

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()


def scalar_type(element: Element) -> ir.Type:
    """Return the LLVM type of a number in a register: of a part, where it is complex.

    Floats of two bytes are bits, which are floats once they have been converted.
    """
    if element.kind in "fc" and element.itemsize > 2:
        return F64 if element.itemsize * (1 if element.kind == "c" else 2) == 16 else F32
    return ir.IntType(8 * element.itemsize)


def register_type(element: Element, lanes: int) -> ir.Type:
    """Return the LLVM type of a `Value`."""
    scalar = scalar_type(element)
    if element.kind == "c":
        return ir.LiteralStructType([scalar, scalar])
    return ir.VectorType(scalar, lanes) if lanes > 1 else scalar


def memory_type(element: Element, lanes: int) -> ir.Type:
    """Return the LLVM type of one access; words, where NVVM would take bytes one by one."""
    words, rest = divmod(lanes * element.itemsize, 4)
    if element.itemsize >= 4:
        return register_type(element, lanes)
    if rest:
        return ir.IntType(8 * rest)
    return ir.VectorType(I32, words) if words > 1 else I32


def parts_of(builder: Any, value: Any) -> tuple[Any, Any]:
    """Return the real and the imaginary part."""
    return builder.extract_value(value, 0), builder.extract_value(value, 1)


def complex_of(builder: Any, real: Any, imaginary: Any) -> Any:
    """Return a complex number of two parts."""
    pair = ir.Constant(ir.LiteralStructType([real.type, real.type]), ir.Undefined)
    return builder.insert_value(builder.insert_value(pair, real, 0), imaginary, 1)


def spread(builder: Any, value: Any, lanes: int, wanted: int) -> Any:
    """Return a value with as many lanes as wanted."""
    if lanes == wanted:
        return value
    vector = ir.Constant(ir.VectorType(value.type, wanted), ir.Undefined)
    for lane in range(wanted):
        vector = builder.insert_element(vector, value, I32(lane))
    return vector


def _like(value: Any, scalar: ir.Type) -> ir.Type:
    """Return the type with these numbers and as many lanes as `value` has."""
    if isinstance(value.type, ir.VectorType):
        return ir.VectorType(scalar, value.type.count)
    return scalar


def cast(builder: Any, value: Any, source: Element, target: Element) -> Any:
    """Convert as NumPy's astype does."""
    if source == target:
        return value
    if source.kind == "f" and source.itemsize == 2:
        widen = _widened_half if source.name == "float16" else _widened_bfloat
        return cast(builder, widen(builder, value), _FLOAT32, target)
    if target.kind == "f" and target.itemsize == 2:
        if source.name == "float64" and target.name == "float16":
            return _by_lane(builder, value, _half_of)
        narrow = _half_of if target.name == "float16" else _bfloat_of
        return _by_lane(builder, cast(builder, value, source, _FLOAT32), narrow)
    if source.kind == "c":
        parts = parts_of(builder, value)
        part = _PART[source.name]
        if target.kind == "c":
            return complex_of(builder, *[cast(builder, x, part, _PART[target.name]) for x in parts])
        if target.kind == "b":
            return builder.or_(*[cast(builder, x, part, target) for x in parts])
        return cast(builder, parts[0], part, target)
    if target.kind == "c":
        real = cast(builder, value, source, _PART[target.name])
        return complex_of(builder, real, ir.Constant(real.type, 0.0))
    wanted = _like(value, scalar_type(target))
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
    lanes = [builder.extract_element(value, I32(k)) for k in range(value.type.count)]
    converted = [convert(builder, lane) for lane in lanes]
    vector = ir.Constant(ir.VectorType(converted[0].type, len(converted)), ir.Undefined)
    for number, lane in enumerate(converted):
        vector = builder.insert_element(vector, lane, I32(number))
    return vector


def _widened_half(builder: Any, value: Any) -> Any:
    return _by_lane(builder, value, lambda b, x: b.fpext(b.bitcast(x, HALF), F32))


def _half_of(builder: Any, value: Any) -> Any:
    return builder.bitcast(builder.fptrunc(value, HALF), I16)


def _widened_bfloat(builder: Any, value: Any) -> Any:
    wide = _like(value, I32)
    shifted = builder.shl(builder.zext(value, wide), _filled(wide, 16))
    return builder.bitcast(shifted, _like(value, F32))


def _filled(kind: ir.Type, number: int) -> ir.Constant:
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [number] * kind.count)
    return ir.Constant(kind, number)


def _bfloat_of(builder: Any, value: Any) -> Any:
    """Round float32 to bfloat16, to the nearest and to even, which NVVM has no instruction for."""
    kind = ir.FunctionType(I16, [F32])
    return builder.call(ir.InlineAsm(kind, "cvt.rn.bf16.f32 $0, $1;", "=h,f"), [value])
