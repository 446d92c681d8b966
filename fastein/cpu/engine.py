"""When kernels that serve many equations are there.

A few kernels serve every contraction of a dtype, one every permutation of elements of one size.
Those of an engine are compiled together, once the ways that stand in for them have taken as long as
compiling takes (see :mod:`fastein.cpu.tiers`).
"""

from __future__ import annotations

import warnings
from typing import Any

from . import permutation_kernel
from ._contraction import Runner
from .compiler import Kernel
from .isa import host
from .schedule import Schedule
from .tile import ARITHMETIC, kernel, tile_for

# Less than compiling takes (0.4 s): the kernels serve all contractions of a dtype.
COMPILE_SECONDS = 0.25


class Kernels:
    """Some kernels, and the time that was spent without them."""

    __slots__ = ("failed", "ready", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ready = False
        self.failed = False

    def build(self) -> None:
        """Compile the kernels if that has not been done."""
        raise NotImplementedError

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


def _warn(reason: Exception) -> None:
    warnings.warn(
        f"fastein could not compile kernels and goes on without: {reason!r}",
        RuntimeWarning,
        stacklevel=3,
    )


class Engine(Kernels):
    """The kernels for contractions of one dtype."""

    __slots__ = ("dtype", "packs")

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype
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

    def runner(self, schedule: Schedule) -> Runner:
        """Return what runs a schedule; the kernels must be ready."""
        plan = schedule.contraction
        assert plan is not None
        packs = tuple(self.packs.get(how) for how in plan.packing)
        return Runner(schedule.nest, plan, kernel(plan.tile), packs)


class Transposer(Kernels):
    """The kernel for permutations of one kind of elements."""

    __slots__ = ("element", "kernel")

    def __init__(self, element: str) -> None:
        super().__init__()
        self.element = element
        self.kernel: Kernel | None = None

    def build(self) -> None:
        """Compile the kernel if that has not been done."""
        if not self.ready:
            self.kernel = permutation_kernel.kernel(self.element, host())
            self.ready = True


_engines: dict[str, Engine] = {}
_transposers: dict[str, Transposer] = {}


def engine_of(dtype: str) -> Engine:
    """Return the one engine of a dtype."""
    return _engines.setdefault(dtype, Engine(dtype))


def transposer_of(element: str) -> Transposer:
    """Return the one transposer of a kind of elements, a key of `fastein.cpu.elements.ELEMENTS`."""
    return _transposers.setdefault(element, Transposer(element))
