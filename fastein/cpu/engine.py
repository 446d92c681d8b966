"""When the contraction engine's kernels of a dtype are there.

A few kernels serve every contraction of a dtype. They are built together, once the ways that
stand in for them have taken as long as compiling takes (see :mod:`fastein.cpu.tiers`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from . import packing
from ._contraction import Runner
from .isa import host
from .schedule import Schedule
from .tiers import Account
from .tile import ARITHMETIC, kernel, tile_for

# Less than compiling takes (0.4 s): the kernels serve all contractions of a dtype.
COMPILE_SECONDS = 0.25

_engines: dict[str, Engine] = {}


class Engine(Account):
    """The kernels of one dtype, and the time that was spent without them."""

    __slots__ = ("dtype", "packs")

    def __init__(self, dtype: str) -> None:
        super().__init__(COMPILE_SECONDS)
        self.dtype = dtype
        self.packs: dict[str, Any] = {}

    def kernels(self) -> tuple[Callable[[], object], ...]:
        return partial(kernel, tile_for(self.dtype, host())), *self._packing().values()

    def take(self) -> None:
        kernel(tile_for(self.dtype, host()))
        self.packs = {how: pack() for how, pack in self._packing().items()}

    def _packing(self) -> dict[str, Callable[[], Any]]:
        element = ARITHMETIC[self.dtype].packed
        return {how: partial(packing.kernel, how, element, host()) for how in packing.KINDS}

    def runner(self, schedule: Schedule) -> Runner:
        """Return what runs a schedule; the kernels must be ready."""
        plan = schedule.contraction
        assert plan is not None
        packs = tuple(self.packs.get(how) for how in plan.packing)
        return Runner(schedule.nest, plan, kernel(plan.tile), packs)


def engine_of(dtype: str) -> Engine:
    """Return the one engine of a dtype."""
    return _engines.setdefault(dtype, Engine(dtype))
