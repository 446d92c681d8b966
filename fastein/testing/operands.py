"""Random operands and outputs for `fastein.testing.draw`: every dtype, layout and object."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

__all__ = ["OperandMaker"]

_POOL = 4096
_MARGIN = 8
_VALUES = ("small", "small", "normal", "normal", "wide", "special")
_LAYOUTS = ("F", "permuted", "permuted", "sliced", "reversed", "broadcast", "unaligned", "swapped")
_WRAPPERS = ("readonly", "matrix", "masked", "list", "subclass")
_OUTS = ("plain",) * 6 + (
    "dtype",
    "dtype",
    "F",
    "strided",
    "reversed",
    "operand",
    "operand",
    "overlap",
    "overlap",
    "grown",
    "shape",
    "ndim",
    "readonly",
    "list",
    "unaligned",
    "swapped",
)


class Subclass(np.ndarray):
    """A subclass with nothing of its own."""


@cache
def _pool(dtype: str, values: str) -> np.ndarray:
    """Return values to cut operands from: drawing them anew would take most of a case."""
    rng = np.random.default_rng(len(values))
    kind = np.dtype(dtype).kind
    if kind == "O":
        choices = (0, 1, 2, -3, 10**30, Fraction(1, 3), True)
        pool = np.empty(_POOL, object)
        pool[:] = [choices[i] for i in rng.integers(len(choices), size=_POOL)]
        return pool
    if kind == "V":
        pool = np.zeros(_POOL, dtype)
        pool["f0"] = rng.integers(100, size=_POOL)
        return pool
    if kind in "US":
        return rng.integers(100, size=_POOL).astype(dtype)
    if kind in "mM":
        return rng.integers(10**9, size=_POOL).astype(dtype)
    if kind == "b":
        return rng.integers(2, size=_POOL).astype(bool)
    if kind in "iu":
        return _integers(rng, np.dtype(dtype), values)
    if kind == "c":
        parts = [_reals(np.random.default_rng(s), dtype.lower(), values) for s in (1, 2)]
        pool = np.empty(_POOL, dtype)
        pool.real, pool.imag = parts
        return pool
    return _reals(rng, dtype, values)


def _integers(rng: np.random.Generator, dtype: np.dtype[Any], values: str) -> np.ndarray:
    if values == "small":
        return rng.integers(0 if dtype.kind == "u" else -3, 4, _POOL).astype(dtype)
    return rng.integers(0, 256, _POOL * dtype.itemsize, np.uint8).view(dtype)


def _reals(rng: np.random.Generator, dtype: str, values: str) -> np.ndarray:
    if values == "small":
        return rng.integers(-3, 4, _POOL).astype(dtype)
    pool = rng.standard_normal(_POOL)
    if values == "wide":
        pool *= 10.0 ** rng.uniform(-4, 4, _POOL)
    if dtype == "g":
        # More digits than a float64 holds, so that a detour through one shows.
        return pool.astype(dtype) * (1 + np.longdouble(2) ** -60)
    if values == "special":
        odd = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, np.finfo(dtype).max, 1e-300])
        where = rng.random(_POOL) < 0.06
        pool[where] = rng.choice(odd, where.sum())
    with np.errstate(all="ignore"):
        return pool.astype(dtype)


class OperandMaker:
    """Makes the operands of one call, and remembers the buffers that own their memory."""

    def __init__(self, rng: random.Random, odd: float) -> None:
        self.rng = rng
        self.oddity = odd
        self.buffers: list[np.ndarray] = []
        self.values = "small"

    def choose_values(self) -> None:
        """Choose the kind of values that all operands of the call get."""
        self.values = self.rng.choice(_VALUES)

    def odd(self, p: float) -> bool:
        """Tell whether to do something unusual whose full chance is p."""
        return self.rng.random() < p * self.oddity

    def fill(self, count: int, dtype: str) -> np.ndarray:
        """Return a new buffer of random elements."""
        pool = _pool(dtype, self.values)
        if count > _POOL // 2:
            buffer = np.resize(pool, count)
        else:
            start = self.rng.randrange(_POOL // 2)
            buffer = pool[start : start + count].copy()
        self.buffers.append(buffer)
        return buffer

    def operand(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Return an array, a list or a scalar of this shape."""
        if not shape and self.odd(0.4):
            value = _pool(dtype, self.values)[self.rng.randrange(_POOL)]
            return value.item() if isinstance(value, np.generic) and dtype not in "gG" else value
        layout = self.rng.choice(_LAYOUTS) if self.odd(0.4) else "C"
        array = self.arranged(shape, dtype, layout)
        return self.wrapped(array) if self.odd(0.1) else array

    def arranged(self, shape: tuple[int, ...], dtype: str, layout: str) -> np.ndarray:
        """Return a new array in a memory layout."""
        count = math.prod(shape)
        if layout == "F":
            return self.fill(count, dtype).reshape(shape[::-1]).T
        if layout == "permuted":
            axes = self.rng.sample(range(len(shape)), len(shape))
            packed = self.fill(count, dtype).reshape([shape[axis] for axis in axes])
            return packed.transpose(np.argsort(axes)) if axes else packed
        if layout == "sliced":
            steps = [self.rng.choice((1, 2, 3)) for _ in shape]
            larger = tuple(n * s for n, s in zip(shape, steps, strict=True))
            whole = self.fill(math.prod(larger), dtype).reshape(larger)
            return _stepped(whole, steps)
        if layout == "reversed":
            whole = self.fill(count, dtype).reshape(shape)
            steps = [self.rng.choice((1, -1)) for _ in shape]
            return _stepped(whole, steps)
        if layout == "broadcast":
            kept = tuple(1 if size and self.rng.random() < 0.5 else size for size in shape)
            return np.broadcast_to(self.fill(math.prod(kept), dtype).reshape(kept), shape)
        if layout == "unaligned" and dtype != "O":
            return _unaligned(self.fill(count, dtype), self.buffers).reshape(shape)
        if layout == "swapped" and dtype != "O":
            values = self.fill(count, dtype)
            swapped = values.astype(values.dtype.newbyteorder("S"))
            self.buffers[-1] = swapped
            return swapped.reshape(shape)
        return self.fill(count, dtype).reshape(shape)

    def wrapped(self, array: np.ndarray) -> Any:
        """Return the array as some other kind of object."""
        wrapper = self.rng.choice(_WRAPPERS)
        if wrapper == "list" and array.dtype.char not in "gGV":
            return array.tolist()
        if wrapper == "matrix" and array.ndim == 2:
            return array.view(np.matrix)
        if wrapper == "masked" and array.dtype.kind in "fi":
            return np.ma.array(array, mask=False, copy=False)
        if wrapper == "subclass":
            return array.view(Subclass)
        array.flags.writeable = False
        return array

    def out(self, shape: tuple[int, ...], operands: list[Any]) -> Any:
        """Return something to pass as `out`: mostly right, sometimes not."""
        arrays = [operand for operand in operands if isinstance(operand, np.ndarray)]
        dtype = _common_type(operands)
        kind = self.rng.choice(_OUTS) if self.odd(1) else "plain"
        if kind == "list":
            return np.zeros(shape).tolist()
        if kind == "dtype":
            dtype = self.rng.choice("fdDqebgO?i")
        elif kind == "grown":
            shape = tuple(3 if size == 1 else size for size in shape)
        elif kind == "shape" and shape:
            at = self.rng.randrange(len(shape))
            shape = (*shape[:at], shape[at] + self.rng.choice((1, -1)), *shape[at + 1 :])
            shape = tuple(max(size, 0) for size in shape)
        elif kind == "ndim":
            shape = shape[1:] if shape and self.rng.random() < 0.5 else (*shape, 1)
        elif kind == "operand":
            same = [array for array in arrays if array.shape == shape]
            if same:
                return self.rng.choice(same)
        elif kind == "overlap":
            found = self.overlapping(shape, arrays)
            if found is not None:
                return found
        return self.new_out(shape, dtype, kind)

    def overlapping(self, shape: tuple[int, ...], arrays: list[np.ndarray]) -> np.ndarray | None:
        """Return a window of this shape into the memory of an operand that is large enough."""
        count = math.prod(shape)
        wide = [b for b in self.buffers if b.ndim == 1 and b.size >= count and b.dtype.char != "V"]
        if not wide or not arrays:
            return None
        buffer = self.rng.choice(wide)
        start = self.rng.randrange(buffer.size - count + 1)
        return buffer[start : start + count].reshape(shape)

    def new_out(self, shape: tuple[int, ...], dtype: str, kind: str) -> np.ndarray:
        """Return a new output with margins on both sides, where a stray write shows."""
        count = math.prod(shape)
        step = 2 if kind == "strided" else 1
        buffer = self.fill(count * step + 2 * _MARGIN, dtype)
        if kind in ("unaligned", "swapped") and dtype != "O":
            if kind == "unaligned":
                return _unaligned(buffer, self.buffers)[_MARGIN : _MARGIN + count].reshape(shape)
            buffer = self.buffers[-1] = buffer.astype(buffer.dtype.newbyteorder("S"))
        inner = buffer[_MARGIN : _MARGIN + count * step]
        if kind == "reversed":
            inner = inner[::-1]
        # Reshaping one evenly strided axis never copies.
        out = inner.reshape(shape[::-1]).T if kind == "F" else inner[::step].reshape(shape)
        if kind == "readonly":
            out.flags.writeable = False
        return out


def _stepped(array: np.ndarray, steps: list[int]) -> np.ndarray:
    """Take every so many elements along each axis; a view even where there is no axis."""
    index: Any = (..., *(slice(None, None, step) for step in steps))
    view: np.ndarray = array[index]
    return view


def _unaligned(values: np.ndarray, buffers: list[np.ndarray]) -> np.ndarray:
    """Copy values to an odd address; their buffer, the last one, is replaced."""
    raw = np.zeros(values.nbytes + 1, np.uint8)
    buffers[-1] = raw
    array = raw[1:].view(values.dtype)
    array[...] = values
    return array


def _common_type(operands: list[Any]) -> str:
    try:
        char = np.result_type(*(np.asarray(operand).dtype for operand in operands)).char
    except (TypeError, ValueError):
        return "d"
    return char if char in np.typecodes["All"] and char not in "USVMm" else "d"
