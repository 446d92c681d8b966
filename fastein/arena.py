"""Places for a plan's intermediates in one arena, their lifetimes overlapped."""

from __future__ import annotations

import numpy as np

from .errors import EinsumError
from .plan import Buffer, Clear, Contract, Convert, Layout, Step, ThroughNumPy

INTP_MAX = np.iinfo(np.intp).max
ARENA_ALIGNMENT = 64  # a cache line; targets align the arena itself so
RESULT = -1  # the result's slot while the number of buffers is not known yet


def _reads(step: Step) -> tuple[int, ...]:
    if isinstance(step, (Contract, ThroughNumPy)):
        return tuple(slot.number for slot in step.inputs)
    return (step.source,) if isinstance(step, Convert) else ()


def _writes(step: Step) -> int:
    if isinstance(step, (Contract, ThroughNumPy)):
        return step.output.number
    return step.target if isinstance(step, (Convert, Clear)) else RESULT


def lay_out(layouts: list[Layout], first: int, steps: list[Step]) -> tuple[tuple[Buffer, ...], int]:
    """Find places for the buffers: first fit among those alive at the same time.

    Parameters
    ----------
    layouts : list of Layout
        The buffers'.
    first : int
        Slot of the first one; the others follow.
    steps : list of Step
        In the order in which they run; the result's slot is `RESULT`.

    Returns
    -------
    buffers : tuple of Buffer
    scratch : int
        Bytes of the arena.

    Raises
    ------
    EinsumError
        If they are more than memory can be.
    """
    if not layouts:
        return (), 0
    last_read = {slot: when for when, step in enumerate(steps) for slot in _reads(step)}
    places: dict[int, tuple[int, int]] = {}  # buffer -> (begin, end) while it is alive
    offsets = [0] * len(layouts)
    top = 0
    for when, step in enumerate(steps):
        slot = _writes(step)
        if slot != RESULT:
            size = -(-layouts[slot - first].nbytes // ARENA_ALIGNMENT) * ARENA_ALIGNMENT
            begin = 0
            for taken_begin, taken_end in sorted(places.values()):
                if begin + size <= taken_begin:
                    break
                begin = max(begin, taken_end)
            places[slot] = (begin, begin + size)
            offsets[slot - first] = begin
            top = max(top, begin + size)
        for dead in [s for s in places if last_read.get(s, -1) <= when]:
            del places[dead]
    if top > INTP_MAX:
        raise EinsumError("the intermediates are too big for memory")
    return tuple(
        Buffer(layout, offset) for layout, offset in zip(layouts, offsets, strict=True)
    ), top
