"""The generated source behind a schedule, for people to read."""

from __future__ import annotations

from math import prod

from . import packing, permutation_kernel, tile, words
from .codegen import CannotCompile
from .contraction import Contraction
from .elements import WORDS
from .isa import host
from .permutation import Permutation
from .schedule import Schedule
from .traversal import traversal

SIDES = ("rows", "columns")


def sources(schedule: Schedule) -> list[tuple[str, str]]:
    """Return what runs a schedule: titles, and source below each."""
    if schedule.contraction is not None:
        return _contraction(schedule.contraction)
    if schedule.permutation is not None:
        return [("moving a block", _moves(schedule.permutation))]
    try:
        text = traversal(schedule.nest).form.source()
    except CannotCompile as reason:
        text = f"none: {reason}"
    return [("generated loop nest", text)]


def _moves(plan: Permutation) -> str:
    if plan.is_transposed:
        return permutation_kernel.source(plan.element, host())
    return "none: loops compiled ahead of time"


def _contraction(plan: Contraction) -> list[tuple[str, str]]:
    element = plan.tile.arithmetic.packed
    return [
        ("blocks", _blocks(plan)),
        *_packing(plan, element),
        ("tiles of a block of rows and one of columns", tile.source(plan.tile)),
    ]


def _packing(plan: Contraction, element: str) -> list[tuple[str, str]]:
    if element in WORDS:
        return [("packing a block of rows or of columns", words.source(element, host()))]
    packed = [how for how in dict.fromkeys(plan.packing) if how in packing.KINDS]
    return [(_title(plan, how), packing.source(how, element, host())) for how in packed]


def _title(plan: Contraction, how: str) -> str:
    sides = [side for side, given in zip(SIDES, plan.packing, strict=True) if given == how]
    return f"packing a block of {' or of '.join(sides)}"


def _blocks(plan: Contraction) -> str:
    """Return the loops over blocks in the form of source (they exist ahead of time)."""
    names = (*SIDES, "steps")
    totals = [prod([axis.size for axis in group]) for group in (*plan.free, plan.sums)]
    sizes = (*plan.blocks.free, plan.blocks.depth)

    def loop(k: int, body: list[str]) -> list[str]:
        return _loop(f"{names[k]} in blocks({totals[k]}, {min(sizes[k], totals[k])})", body)

    def pack(side: int) -> list[str]:
        return [] if plan.packing[side] == "direct" else [f"pack({SIDES[side]}, steps)"]

    rows, columns, steps = range(3)
    multiply = "tiles(rows, columns, steps)"
    if plan.lanes is not None:
        lane = _loop("lane in lanes", loop(steps, [*pack(rows), *pack(columns), multiply]))
        lines = loop(columns, loop(rows, [*lane, "interleave(rows, columns, lanes)"]))
        lines = _loop(f"lanes in blocks({plan.lanes.size}, {plan.staged})", lines)
    else:
        shared, own = plan.shared, 1 - plan.shared
        lines = loop(shared, loop(steps, [*pack(shared), *loop(own, [*pack(own), multiply])]))
    matrices = prod([axis.size for axis in plan.batch])
    if matrices > 1:
        lines = _loop(f"matrix in range({matrices})", lines)
    return "\n".join(lines)


def _loop(head: str, body: list[str]) -> list[str]:
    return [f"for {head}:", *[f"    {line}" for line in body]]
