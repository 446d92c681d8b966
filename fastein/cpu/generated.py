"""Which generated kernel runs a nest, if one does, and what is to be known of it for a schedule.

Schedules ask here once they have to: products of large matrices need no such kernel, and a process
that has nothing else to compute does not load the modules which write them.
"""

from __future__ import annotations

from .._nest import LoopNest
from .codegen import CannotCompile
from .grouped import Grouped
from .interleaved import interleaved
from .machine import MACHINE, Machine
from .traversal import Traversal, traversal
from .unrolled import Unrolled


def traversal_of(nest: LoopNest) -> Traversal | None:
    """How a generated kernel goes through a nest; None if none does."""
    try:
        return traversal(nest)
    except CannotCompile:
        return None


def has_channels(nest: LoopNest) -> bool:
    """Whether a copy is one of channels, for which kernels are made as for nests."""
    return interleaved(nest) is not None


def is_unrolled(path: Traversal) -> bool:
    """Whether the small loops of a nest are written out."""
    return isinstance(path.form, Unrolled | Grouped)


def unrolled_seconds(path: Traversal, machine: Machine = MACHINE) -> float:
    """Estimated time of a kernel with unrolled loops."""
    nest, form = path.nest, path.form
    assert isinstance(form, Unrolled | Grouped)
    operations = nest.iterations * nest.nin / form.lanes
    return max(operations * machine.cycle / 2, nest.moved_bytes / machine.stream_bytes)
