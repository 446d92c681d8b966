"""Elements in registers, and vectors of them, as LLVM values: parts, lanes, and vectors of lanes.

A complex number is a structure of two parts, in one register each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir

_I32 = ir.IntType(32)


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """Return a vector with one element in all lanes."""
    if isinstance(value.type, ir.LiteralStructType):
        real, imag = (spread(builder, part, lanes) for part in parts_of(builder, value))
        return complex_of(builder, real, imag)
    vector = ir.VectorType(value.type, lanes)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    first = ir.Constant(ir.VectorType(_I32, lanes), None)
    return builder.shuffle_vector(single, single, first)


def parts_of(builder: Any, z: Any) -> tuple[Any, Any]:
    """Return the real and the imaginary part."""
    return builder.extract_value(z, 0), builder.extract_value(z, 1)


def complex_of(builder: Any, real: Any, imag: Any) -> Any:
    """Return the complex number of two parts."""
    z = builder.insert_value(ir.Constant(ir.LiteralStructType([real.type] * 2), None), real, 0)
    return builder.insert_value(z, imag, 1)


def parted(builder: Any, pairs: Any) -> Any:
    """Return complex numbers from their parts in turns."""
    return complex_of(
        builder, *(picked(builder, pairs, range(k, pairs.type.count, 2)) for k in (0, 1))
    )


def truth(builder: Any, value: Any) -> Any:
    """Return 1 for any byte but zero."""
    zero = ir.Constant(value.type, None)
    return builder.zext(builder.icmp_unsigned("!=", value, zero), value.type)


def lanes_of(builder: Any, value: Any, lanes: Iterable[int], count: int = 0) -> Any:
    """Return some lanes of a vector of elements, undefined ones behind them up to `count`."""
    if isinstance(value.type, ir.LiteralStructType):
        parts = [picked(builder, x, lanes, count=count) for x in parts_of(builder, value)]
        return complex_of(builder, *parts)
    return picked(builder, value, lanes, count=count)


def joined(builder: Any, first: Any, second: Any) -> Any:
    """Return two vectors of elements end to end; undefined lanes make up for a shorter second."""
    lanes, fewer = first.type.count, second.type.count
    if fewer < lanes:
        second = picked(builder, second, [min(lane, fewer - 1) for lane in range(lanes)])
    return picked(builder, first, range(lanes + fewer), second)


def lane_of(builder: Any, value: Any, lane: int = 0) -> Any:
    """Return one lane of a vector as a single element."""
    if isinstance(value.type, ir.LiteralStructType):
        return complex_of(builder, *(lane_of(builder, x, lane) for x in parts_of(builder, value)))
    return builder.extract_element(value, _I32(lane))


def picked(
    builder: Any, vector: Any, lanes: Iterable[int], other: Any = None, count: int = 0
) -> Any:
    """Return the chosen lanes of a vector, or of two laid end to end, and undefined ones behind."""
    chosen = list(lanes)
    if other is None:
        other = ir.Constant(vector.type, ir.Undefined)
    chosen += [vector.type.count] * (count - len(chosen))
    mask = ir.VectorType(_I32, len(chosen))(chosen)
    return builder.shuffle_vector(vector, other, mask)
