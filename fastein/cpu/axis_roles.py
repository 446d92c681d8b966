"""The axes of a product of two operands by what they do: batch, rows, columns and sums."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

from .._nest import LoopNest
from ..record import Record


class Roles(Record):
    """The axes of a nest of two operands by role; ``free[k]`` are those of operand k alone."""

    batch: tuple[int, ...]
    free: tuple[tuple[int, ...], tuple[int, ...]]
    sums: tuple[int, ...]


class Axis(NamedTuple):
    """A loop: its size, and its strides in the rows' and the columns' operand and the result."""

    size: int
    strides: tuple[int, int, int]


def roles(nest: LoopNest) -> Roles | None:
    """Return the axes by role if the nest is a product of (stacks of) matrices, else None."""
    if nest.nin != 2:
        return None
    first, second, _ = nest.strides
    groups: dict[tuple[bool, bool, bool], list[int]] = {}
    for axis, summed in enumerate(nest.summed):
        groups.setdefault((summed, bool(first[axis]), bool(second[axis])), []).append(axis)
    batch, rows, columns, sums = (
        tuple(groups.pop(role, ()))
        for role in (
            (False, True, True),
            (False, True, False),
            (False, False, True),
            (True, True, True),
        )
    )
    if groups or not (rows and columns and sums):
        return None
    return Roles(batch, (rows, columns), sums)


def total_of(axes: Iterable[Axis]) -> int:
    """Return how many elements there are along some axes together."""
    return prod([axis.size for axis in axes])


def by_stride(
    axes: list[Axis], operand: int, last: tuple[int, int] | None = None
) -> tuple[Axis, ...]:
    """Return axes by falling stride in one operand; innermost is the one with the `last` stride.

    `last` names an operand and a stride in it.
    """

    def key(axis: Axis) -> tuple[bool, int]:
        return (last is not None and axis.strides[last[0]] == last[1], -abs(axis.strides[operand]))

    return tuple(sorted(axes, key=key))
