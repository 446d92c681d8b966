"""Products of matrices through NumPy's matmul, for nests that have that shape."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..plan import Layout
from .machine import MACHINE, Machine
from .schedule import MatrixAxes, Schedule, as_matrices, product_seconds

PATIENCE = 0.25  # seconds of one product, which no signal interrupts

Array = np.ndarray[Any, Any]


def matrix_layouts(schedule: Schedule) -> tuple[Layout, Layout, Layout]:
    """Both operands and the result, their axes grouped: batch, rows | sums, sums | columns."""
    nest, m = schedule.nest, _axes(schedule)
    groups = (m.batch + m.rows + m.sums, m.batch + m.sums + m.columns, m.batch + m.rows + m.columns)
    a, b, c = (
        Layout(
            tuple([nest.sizes[axis] for axis in axes]),
            tuple([row[axis] for axis in axes]),
            nest.dtype,
        )
        for axes, row in zip(groups, nest.strides, strict=True)
    )
    return a, b, c


class Multiply:
    """``c[...] = a @ b`` on operands laid out as `matrix_layouts` says; whether the answer stands.

    Long products are cut, so that Python looks for signals in between.

    It does not where a complex product has NaN in it: the products of BLAS with infinite factors
    are not those of the naive formula, which einsum promises.
    """

    __slots__ = ("a_shape", "b_shape", "c_shape", "direct", "is_complex", "seconds")

    def __init__(self, schedule: Schedule, machine: Machine = MACHINE) -> None:
        nest, m = schedule.nest, _axes(schedule)
        sizes = nest.sizes
        batch = tuple(sizes[axis] for axis in m.batch)
        rows, columns, sums = (prod(sizes[x] for x in axes) for axes in (m.rows, m.columns, m.sums))
        self.a_shape = (*batch, rows, sums)
        self.b_shape = (*batch, sums, columns)
        self.c_shape = (*batch, rows, columns)
        # whether the result's memory is (a stack of) matrices that BLAS can write
        self.is_complex = nest.dtype.kind == "c"
        self.seconds = product_seconds(nest, machine)
        self.direct = as_matrices(nest.strides[2], sizes, (m.rows, m.columns), nest.itemsize)

    def __call__(self, a: Array, b: Array, c: Array) -> bool:
        a = _for_blas(a.reshape(self.a_shape))
        b = _for_blas(b.reshape(self.b_shape))
        product = c.reshape(self.c_shape) if self.direct else np.empty(self.c_shape, c.dtype)
        _multiply(a, b, product, self.seconds)
        if not self.direct:
            c[...] = product.reshape(c.shape)
        return not (self.is_complex and np.isnan(c).any())


def _multiply(a: Array, b: Array, c: Array, seconds: float) -> None:
    """Multiply stacks of matrices; in halves, if it takes long."""
    axis = max(range(c.ndim), key=c.shape.__getitem__) - c.ndim
    if seconds < PATIENCE or c.shape[axis] < 2:
        np.matmul(a, b, out=c)
        return
    middle = c.shape[axis] // 2
    for part in (slice(None, middle), slice(middle, None)):
        own: Any = (..., part, *[slice(None)] * (-1 - axis))
        _multiply(a if axis == -1 else a[own], b if axis == -2 else b[own], c[own], seconds / 2)


def _axes(schedule: Schedule) -> MatrixAxes:
    assert schedule.matrix is not None
    return schedule.matrix


def _for_blas(x: Array) -> Array:
    """The array itself if BLAS can read its matrices (one unit stride), else a copy."""
    rows, columns = x.strides[-2:]
    return x if x.itemsize in (rows, columns) and rows > 0 and columns > 0 else x.copy()
