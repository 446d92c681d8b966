"""Loops of a step as the GPU runs them: operands may differ in dtype, unlike a `LoopNest`'s."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from fastein._nest import LoopNest

from .elements import ELEMENTS, Element, element_of

NARROW = 2**30  # items and terms that 32-bit arithmetic counts with room for a block more


@dataclass(frozen=True, slots=True)
class Loops:
    """``out[...] = sum over the summed axes of in0 * in1 * ...``.

    Attributes
    ----------
    sizes : tuple of int
        Iterations of each loop.
    strides : tuple of tuple of int
        Bytes between iterations, for each operand; the output comes last.
    summed : tuple of bool
        Which loops are summed over.
    stored : tuple of str
        Names of the operands' dtypes.
    arithmetic : str
        Name of the dtype of products and sums.
    alignment : tuple of int
        At which multiples of bytes each operand's elements lie.
    tf32 : bool or '3x'
        How float32 may be multiplied whatever the caller allows, see `Machine`: intermediates of
        a product of floats of two bytes.
    """

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    summed: tuple[bool, ...]
    stored: tuple[str, ...]
    arithmetic: str
    alignment: tuple[int, ...]
    tf32: bool | str = False

    @property
    def nin(self) -> int:
        """Number of inputs."""
        return len(self.stored) - 1

    @property
    def elements(self) -> tuple[Element, ...]:
        """What the operands' elements are."""
        return tuple([ELEMENTS[name] for name in self.stored])

    @property
    def items(self) -> int:
        """Number of output elements."""
        return prod([n for n, summed in zip(self.sizes, self.summed, strict=True) if not summed])

    @property
    def terms(self) -> int:
        """Number of products in each sum."""
        return prod([n for n, summed in zip(self.sizes, self.summed, strict=True) if summed])

    @property
    def moves(self) -> tuple[str, ...]:
        """For each operand, ``'1'`` for each loop along which it moves and ``'0'`` for others."""
        return tuple(["".join(["1" if n else "0" for n in row]) for row in self.strides])

    def volume(self, operand: int) -> int:
        """Number of elements of an operand that are touched."""
        moving = zip(self.sizes, self.strides[operand], strict=True)
        return prod([n for n, stride in moving if stride])

    def reordered(self, order: list[int]) -> Loops:
        """Return the same with the loops in another order."""
        return replace(
            self,
            sizes=tuple([self.sizes[a] for a in order]),
            strides=tuple([tuple([row[a] for a in order]) for row in self.strides]),
            summed=tuple([self.summed[a] for a in order]),
        )


class OnePass:
    """What schedules have in common that have no second pass."""

    __slots__ = ()

    loops: Loops
    splits = 1  # blocks that share a sum
    workspace = 0  # bytes of partial sums

    @property
    def given(self) -> Loops:
        """The loops as they were to be scheduled, up to their order."""
        return self.loops


def loops_of(
    nest: LoopNest, stored: tuple[np.dtype[Any], ...] = (), tf32: bool | str = False
) -> Loops:
    """Return a nest's loops.

    Parameters
    ----------
    nest : LoopNest
    stored : tuple of dtype, optional
        Dtypes of the operands, the output's last; by default the nest's.
    tf32 : bool or '3x'
        See `Loops`.
    """
    elements = [element_of(dtype) for dtype in stored or (nest.dtype,) * (nest.nin + 1)]
    return Loops(
        nest.sizes,
        nest.strides,
        nest.summed,
        tuple([element.name for element in elements]),
        element_of(nest.dtype).arithmetic,
        tuple([element.alignment for element in elements]),
        tf32,
    )


def fused(loops: Loops) -> Loops:
    """Return the same with neighbours fused that every operand walks as one loop would.

    Nests come fused; this is for copies, whose operands differ in dtype.
    """
    sizes: list[int] = []
    rows: list[tuple[int, ...]] = []
    summed: list[bool] = []
    columns = list(zip(*loops.strides, strict=True))
    for size, steps, is_sum in zip(loops.sizes, columns, loops.summed, strict=True):
        if (
            rows
            and is_sum == summed[-1]
            and all(o == i * size for o, i in zip(rows[-1], steps, strict=True))
        ):
            sizes[-1] *= size
            rows[-1] = steps
        else:
            sizes.append(size)
            rows.append(steps)
            summed.append(is_sum)
    strides = tuple(zip(*rows, strict=True)) if rows else ((),) * len(loops.stored)
    return replace(loops, sizes=tuple(sizes), strides=strides, summed=tuple(summed))


def partial_sums(loops: Loops, splits: int) -> int:
    """Return the bytes that the partial sums take where blocks share each sum, else 0."""
    return 0 if splits == 1 else splits * loops.items * ELEMENTS[loops.arithmetic].itemsize


def is_wide(loops: Loops) -> bool:
    """Whether reaching the elements takes more than 32 bits, or counting the items."""
    spans = [
        sum([(n - 1) * abs(stride) for n, stride in zip(loops.sizes, row, strict=True)])
        for row in loops.strides
    ]
    return is_vast(loops) or max(spans) >= NARROW


def is_vast(loops: Loops) -> bool:
    """Whether counting the items or the terms takes more than 32 bits."""
    return max(loops.items, loops.terms) >= NARROW


def magic(divisor: int) -> tuple[int, int]:
    """Return the multiplier and the shift that divide a number below 2**31 by `divisor`.

    ``n // divisor == ((n * multiplier >> 32) + n) >> shift``, of which the sum stays below 2**32.
    T. Granlund and P. L. Montgomery, "Division by Invariant Integers using Multiplication",
    PLDI 1994.

    Examples
    --------
    >>> multiplier, shift = magic(7)
    >>> ((10**9 * multiplier >> 32) + 10**9) >> shift == 10**9 // 7
    True
    """
    shift = (divisor - 1).bit_length()
    return ((1 << 32) * ((1 << shift) - divisor)) // divisor + 1, shift
