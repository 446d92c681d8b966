"""When the contraction engine's kernels of a dtype are there.

A few kernels serve every contraction of a dtype. They are compiled together, once the ways that
stand in for them have taken as long as compiling takes (see :mod:`fastein.cpu.tiers`).
"""

from __future__ import annotations

import warnings
from typing import Any

from ._contraction import Runner
from .isa import host
from .schedule import Schedule
from .tile import ARITHMETIC, kernel, tile_for

# Less than compiling takes (0.4 s): the kernels serve all contractions of a dtype.
COMPILE_SECONDS = 0.25

_engines: dict[str, Engine] = {}


class Engine:
    """The kernels of one dtype, and the time that was spent without them."""

    __slots__ = ("dtype", "failed", "packs", "ready", "seconds")

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.seconds = 0.0
        self.ready = False
        self.failed = False
        self.packs: dict[str, Any] = {}

    def build(self) -> None:
        """Compile the kernels if that has not been done."""
        from . import packing

        if self.ready:
            return
        element = ARITHMETIC[self.dtype].packed
        kernel(tile_for(self.dtype, host()))
        self.packs = {how: packing.kernel(how, element, host()) for how in packing.KINDS}
        self.ready = True

    def spend(self, seconds: float) -> None:
        """Book time spent, or about to be spent, without the kernels.

        They are compiled when it has been enough.
        """
        self.seconds += seconds
        if self.ready or self.failed or self.seconds < COMPILE_SECONDS:
            return
        self.failed = True  # until it has succeeded; other threads go on without
        try:
            self.build()
        except Exception as reason:
            # the answer is there already: no failure of the compiler may cost it
            _warn(reason)
            return
        except BaseException:  # the user's impatience says nothing about the compiler
            self.failed = False
            raise
        self.failed = False

    def runner(self, schedule: Schedule) -> Runner:
        """Return what runs a schedule; the kernels must be ready."""
        plan = schedule.contraction
        assert plan is not None
        packs = tuple(self.packs.get(how) for how in plan.packing)
        return Runner(schedule.nest, plan, kernel(plan.tile), packs)


def _warn(reason: Exception) -> None:
    warnings.warn(
        f"fastein could not compile contraction kernels and goes on without: {reason!r}",
        RuntimeWarning,
        stacklevel=3,
    )


def engine_of(dtype: str) -> Engine:
    """Return the one engine of a dtype."""
    return _engines.setdefault(dtype, Engine(dtype))
