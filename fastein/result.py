"""What NumPy would return: the dtype of the arithmetic, and the layout of a new result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _nest
from .arena import INTP_MAX
from .equation import Equation
from .errors import EinsumError, quoted
from .path import Term
from .plan import Layout, Options


def common_dtype(
    equation: Equation, operands: tuple[Layout, ...], out: Layout | None, options: Options
) -> np.dtype[Any]:
    """The dtype of the arithmetic, as NumPy's iterator finds it: `out` takes part."""
    everyone = operands if out is None else (*operands, out)
    first = operands[0].dtype
    if options.dtype is not None:
        dtype = options.dtype.newbyteorder("=")
    elif first.isnative and all(x.dtype is first for x in everyone):
        dtype = first
    else:
        dtype = np.result_type(*[x.dtype for x in everyone]).newbyteorder("=")
    for number, operand in enumerate(operands):
        if operand.dtype is not dtype and not np.can_cast(operand.dtype, dtype, options.casting):  # type: ignore[arg-type]
            raise TypeError(
                f"operand {number} of einsum({quoted(equation.text)}) cannot be cast from "
                f"{operand.dtype} to {dtype} under casting={options.casting!r}"
            )
    if out is not None and not _can_hold(equation, out, dtype, options):
        raise TypeError(
            f"the result of einsum({quoted(equation.text)}) cannot be cast between {dtype} and "
            f"the {out.dtype} of out under casting={options.casting!r}"
        )
    return dtype


def _can_hold(equation: Equation, out: Layout, dtype: np.dtype[Any], options: Options) -> bool:
    if options.optimize not in ("auto", False) and _is_inner_product(equation):
        return True  # to which NumPy's `optimize` assigns the result of a dot product unchecked
    # NumPy's iterator both reads and writes `out`, so it must convert both ways
    return np.can_cast(dtype, out.dtype, options.casting) and np.can_cast(  # type: ignore[arg-type]
        out.dtype,
        dtype,
        options.casting,  # type: ignore[arg-type]
    )


def _is_inner_product(equation: Equation) -> bool:
    """Whether two operands with the same labels, each once, are summed over all of them."""
    if equation.output or len(equation.terms) != 2:
        return False
    first, second = equation.terms
    return 0 < len(first) == len(set(first)) == len(second) and set(first) == set(second)


def new_result(
    equation: Equation,
    sizes: tuple[int, ...],
    operands: tuple[Layout, ...],
    dtype: np.dtype[Any],
    options: Options,
) -> Layout:
    """The layout of a new result: under 'K' it follows the operands."""
    order = options.order
    shape = tuple([sizes[x] for x in equation.output])
    if len(shape) > 64:
        raise EinsumError(
            f"the result of einsum({quoted(equation.text)}) would have {len(shape)} axes; "
            "arrays have at most 64"
        )
    if math.prod([max(n, 1) for n in shape]) * dtype.itemsize > INTP_MAX:
        raise EinsumError(
            f"array is too big: the result of einsum({quoted(equation.text)}) would have the "
            f"shape {shape}"
        )
    if order == "A":
        order = "F" if all(map(_is_fortran, equation.terms, operands)) else "C"
    inputs = tuple(
        [(term, x.shape, x.strides) for term, x in zip(equation.terms, operands, strict=True)]
    )
    strides = _nest.output_strides(
        order, sizes, inputs, equation.output, equation.summed, dtype.itemsize
    )
    return Layout(shape, strides, options.dtype or dtype)


def _is_fortran(term: Term, layout: Layout) -> bool:
    """Whether an operand (its diagonal, where labels repeat) is column-major."""
    sizes: dict[int, int] = {}
    strides: dict[int, int] = {}
    for label, size, stride in zip(term, layout.shape, layout.strides, strict=True):
        sizes[label] = size
        strides[label] = strides.get(label, 0) + stride
    return _is_contiguous(tuple(sizes.values()), tuple(strides.values()), layout.dtype.itemsize)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Whether elements follow each other with the first axis fastest."""
    if 0 in shape:
        return True
    for size, stride in zip(shape, strides, strict=True):
        if size != 1 and stride != itemsize:
            return False
        itemsize *= size
    return True
