"""When kernels that serve many equations are there.

A few kernels serve every contraction of a dtype, one every permutation of elements of one size.
Those of an engine are built together, once the ways that stand in for them have taken as long as
compiling takes (see :mod:`fastein.cpu.tiers`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from . import packing, permutation_kernel, words
from ._contraction import Runner
from .compiler import Kernel
from .elements import WORDS
from .isa import host
from .schedule import Schedule
from .tiers import Account
from .tile import DOTS, RESULT_BYTES, Tile, kernel, tile_for

# Less than compiling takes (0.4 s): the kernels serve all contractions of a dtype.
COMPILE_SECONDS = 0.25


class Engine(Account):
    """The kernels of one tile, for the contractions of a dtype."""

    __slots__ = ("packs", "tile")

    def __init__(self, tile: Tile) -> None:
        super().__init__(COMPILE_SECONDS)
        self.tile = tile
        self.packs: dict[str, Any] = {}

    @property
    def what(self) -> str:
        """The dtype, and how narrow its values are to be."""
        bits = 32 // self.tile.arithmetic.steps
        narrow = f" of {bits} bits" if self.tile.form in DOTS and self.tile.result_bytes > 1 else ""
        if self.tile.is_abreast:
            narrow = " for matrices abreast"
        return f"{self.tile.dtype}{narrow}"

    def kernels(self) -> tuple[Callable[[], object], ...]:
        return partial(kernel, self.tile), *dict.fromkeys(self._packing().values())

    def take(self) -> None:
        kernel(self.tile)
        self.packs = {how: pack() for how, pack in self._packing().items()}

    def _packing(self) -> dict[str, Callable[[], Any]]:
        element = self.tile.arithmetic.packed
        if self.tile.is_abreast:  # packed as they are
            return {}
        if element in WORDS:  # one kernel packs in all ways
            return dict.fromkeys(packing.KINDS, partial(words.kernel, element, host()))
        return {how: partial(packing.kernel, how, element, host()) for how in packing.KINDS}

    def runner(self, schedule: Schedule) -> Runner:
        """Return what runs a schedule; the kernels must be ready."""
        plan = schedule.contraction
        assert plan is not None
        packs = tuple(self.packs.get(how) for how in plan.packing)
        return Runner(schedule.nest, plan, kernel(plan.tile), packs)


class Transposer(Account):
    """The kernel for permutations of one kind of elements."""

    __slots__ = ("element", "kernel")

    def __init__(self, element: str) -> None:
        super().__init__(COMPILE_SECONDS)
        self.element = element
        self.kernel: Kernel | None = None

    def kernels(self) -> tuple[Callable[[], object], ...]:
        return (partial(permutation_kernel.kernel, self.element, host()),)

    def take(self) -> None:
        self.kernel = permutation_kernel.kernel(self.element, host())


_engines: dict[Tile, Engine] = {}
_transposers: dict[str, Transposer] = {}


def engine_of(dtype: str, form: str | None = None) -> Engine:
    """Return the one engine of a dtype, with tiles of the form that suits all values or another."""
    return engine_for(tile_for(dtype, host(), form))


def engine_for(tile: Tile) -> Engine:
    """Return the one engine of a tile."""
    return _engines.setdefault(tile, Engine(tile))


def engines_of(dtype: str) -> list[Engine]:
    """Return all engines of a dtype: the one that suits all values, then those of narrow ones."""
    wide = dtype.startswith(("int", "uint")) and RESULT_BYTES[dtype] > 1
    forms = DOTS if wide and host().dots else ()
    return [engine_of(dtype), *[engine_of(dtype, form) for form in forms]]


def transposer_of(element: str) -> Transposer:
    """Return the one transposer of a kind of elements."""
    return _transposers.setdefault(element, Transposer(element))
