"""Plans: every decision about one call, as frozen data.

`fastein.planner` makes them; a target turns them into something that runs, deciding nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .equation import Equation
from .path import Term
from .record import Record
from .target import Schedule


class Layout(NamedTuple):
    """Where the elements of one operand lie: shape, strides in bytes, dtype, aligned or not."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    aligned: bool = True

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Options(NamedTuple):
    """The keywords of a call, normalised."""

    dtype: np.dtype[Any] | None = None
    order: str = "K"
    casting: str = "safe"
    optimize: Any = "auto"
    strict: bool = False
    memory_limit: int | None = None


class Slot(NamedTuple):
    """A slot's number, and the labels of its axes."""

    number: int
    term: Term


class View(Record):
    """The result is a view of the only operand: strides and nothing else."""

    strides: tuple[int, ...]


class Convert(Record):
    """Copy a slot into another dtype or into aligned memory."""

    source: int
    target: int
    layout: Layout
    """What is read: axes along which the source stands still are read once."""


class Clear(Record):
    """Set a slot to zero: the empty sum."""

    target: int


class Contract(Record):
    """One loop nest."""

    inputs: tuple[Slot, ...]
    output: Slot
    schedule: Schedule


class ThroughNumPy(Record):
    """A contraction of a dtype that C lacks, done by `numpy.einsum`."""

    inputs: tuple[Slot, ...]
    output: Slot


Step = View | Convert | Clear | Contract | ThroughNumPy


class Buffer(Record):
    """An intermediate: its layout and its place in the scratch arena."""

    layout: Layout
    offset: int


class Plan(Record):
    """Every decision about one call.

    Slots number what steps read and write: the operands first, then the buffers, then the
    result (the last one).
    """

    equation: Equation
    sizes: tuple[int, ...]
    operands: tuple[Layout, ...]
    dtype: np.dtype[Any]
    """The dtype of the arithmetic's operands (float16 still accumulates in float32)."""
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    result: Layout
    scratch: int
    """Bytes of the arena in which the buffers lie."""
    options: Options
