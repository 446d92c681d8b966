"""Narrow integers in wide dtypes: which contractions may gain from their values.

Most integers are small: counts, labels, the entries of adjacency matrices. NumPy keeps them in 64
bits, of which a processor multiplies eight pairs in one instruction. It multiplies 32 pairs of 16
bits, or 64 of 8 bits, and sums neighbouring products in 32 bits, by one instruction as well. The
result is the same to the last bit where the values fit (and, in dtypes of up to 32 bits, however
large the sums: they wrap around alike).

Values are looked at in each call (`fastein.cpu._narrow`), once for all their products; so only
where each meets many others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._nest import LoopNest
from ..record import Record
from .axis_roles import roles
from .contraction import Contraction, contraction, contraction_seconds
from .isa import host
from .machine import MACHINE, Machine
from .tile import DOTS

if TYPE_CHECKING:
    from .schedule import Schedule

LEAST_MEETINGS = 128  # products of each value from which looking at it pays
SUM_BITS = 30  # of an exact sum in an accumulator of 32 bits

# The bits of values that a form takes, their sign apart, in the rows and the columns.
FORM_BITS = {"bytes": (8, 7), "pairs": (15, 15)}
UNSIGNED_ROWS = {"bytes"}


class Bound(Record):
    """Which values a form is exact for.

    Attributes
    ----------
    bits : (int, int)
        Most bits of the operands' values, their signs apart.
    together : int
        Most bits of two values, one of each operand.
    unsigned : int
        The operand that must have no negative value, -1 if either may.
    """

    bits: tuple[int, int]
    together: int
    unsigned: int

    def holds(self, bits: tuple[int, int], negative: tuple[bool, bool]) -> bool:
        """Whether operands are within the bound whose values have so many bits, and signs."""
        return (
            bits[0] <= self.bits[0]
            and bits[1] <= self.bits[1]
            and bits[0] + bits[1] <= self.together
            and not (self.unsigned >= 0 and negative[self.unsigned])
        )


def forms(chosen: Schedule, threads: int, machine: Machine = MACHINE) -> list[Schedule]:
    """Return what may multiply a schedule's integers faster, the narrowest form first."""
    nest, plan = chosen.nest, chosen.contraction
    if not host().dots or nest.dtype.kind not in "iu" or nest.itemsize == 1:
        return []
    axes = roles(nest)
    if plan is None or axes is None or min(extents(plan)) < LEAST_MEETINGS:
        return []
    found = []
    for form in sorted(DOTS, key=lambda name: -DOTS[name]):
        narrow = contraction(nest, axes, threads, form)
        seconds = contraction_seconds(nest, narrow, machine)
        gain = chosen.seconds - seconds
        if gain > 0:
            found.append(chosen.replace(contraction=narrow, seconds=seconds, gain=gain))
    return found


def extents(plan: Contraction) -> tuple[int, int]:
    """Return how many rows and columns there are."""
    totals = [1, 1]
    for side in range(2):
        for axis in plan.free[side]:
            totals[side] *= axis.size
    return totals[0], totals[1]


def bound(plan: Contraction) -> Bound:
    """Return which values a plan with dot products is exact for."""
    form, rows = plan.tile.form, plan.inputs[0]
    bits = FORM_BITS[form]
    together = sum(bits)
    if plan.tile.result_bytes > 4:  # sums of a block must not wrap around
        together = min(together, SUM_BITS - (plan.blocks.depth - 1).bit_length())
    ordered = bits if rows == 0 else (bits[1], bits[0])
    return Bound(ordered, together, rows if form in UNSIGNED_ROWS else -1)


def operand_axes(nest: LoopNest, operand: int) -> list[tuple[int, int]]:
    """Return sizes and strides of an operand's own axes, by falling stride, fused where dense."""
    axes = zip(nest.sizes, nest.strides[operand], strict=True)
    own = sorted([axis for axis in axes if axis[1]], key=lambda axis: -abs(axis[1]))
    fused = own[-1:]
    for size, step in reversed(own[:-1]):
        inner_size, inner_step = fused[0]
        if step == inner_step * inner_size:
            fused[0] = (size * inner_size, inner_step)
        else:
            fused.insert(0, (size, step))
    return fused
