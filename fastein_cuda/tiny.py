"""Scheduling many items of small loops: stacks of 3 x 3 matrices, long lists of short vectors.

The small loops are unrolled, their sizes being part of the kernel; all others count items. What a
block's items have of the operands goes through shared memory, so that global memory is read and
written in whole lines whichever axis lies innermost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod

from .elements import ELEMENTS
from .forms import Block, TinyForm
from .loops import Loops, OnePass, is_vast, is_wide
from .machine import Machine
from .unrolled import work

MOST_SIZE = 16  # of a small loop
MOST_WORK = 256  # products that a thread computes
MOST_SUMS = 64  # registers for its results
MOST_SHARE = 16  # threads of an item
MOST_SINGLE = 1024  # elements that all items have in common
MOST_SHARED = 100 << 10  # bytes of shared memory: two blocks on a multiprocessor
LEAST_ITEMS = 32  # for each multiprocessor
VECTOR = 16  # bytes that one instruction copies at the most


@dataclass(frozen=True, slots=True)
class TinySchedule(OnePass):
    """Items dealt to blocks.

    Attributes
    ----------
    loops : Loops
        The batch's, then the small ones, those of the output first.
    form : TinyForm
    """

    loops: Loops
    form: TinyForm

    @property
    def family(self) -> str:
        return "tiny"

    @property
    def items(self) -> int:
        """Number of items."""
        return prod(self.loops.sizes[: self.form.batch])

    @property
    def grid(self) -> tuple[int, int]:
        return -(-self.items // self.form.items), 1

    def __str__(self) -> str:
        form = self.form
        sizes = " by ".join(map(str, form.sizes))
        modes = ", ".join([block.mode for block in form.blocks])
        shares = f", {form.share} threads each" if form.share > 1 else ""
        return f"tiny: {self.items} times loops of {sizes}{shares}; {modes}"


def tiny(loops: Loops, machine: Machine, vectors: bool) -> TinySchedule | None:
    """Return a schedule by items if the loops are very many times the same small ones.

    The arguments are those of `fastein_cuda.contraction.contraction`.
    """
    small = _small(loops)
    if not loops.nin or not small or len(set(loops.stored[:-1])) > 1:
        return None
    batch = [a for a in range(len(loops.sizes)) if a not in small]
    if prod([loops.sizes[a] for a in batch]) < LEAST_ITEMS * machine.processors:
        return None
    heaviest = max(range(loops.nin + 1), key=loops.volume)
    batch.sort(key=lambda a: -abs(loops.strides[heaviest][a]))
    small.sort(key=lambda a: loops.summed[a])
    ordered = loops.reordered([*batch, *small])
    shared = _shared_form(ordered, len(batch), machine, vectors)
    if shared is None or not _is_worth_it(ordered, shared):
        return None
    return TinySchedule(ordered, shared)


def _small(loops: Loops) -> list[int]:
    """Return the summed loops, and those along which not every operand moves; none if too large."""
    found = []
    for axis, (size, summed) in enumerate(zip(loops.sizes, loops.summed, strict=True)):
        moving = [bool(row[axis]) for row in loops.strides]
        if summed and (size > MOST_SIZE or not any(moving)):
            return []
        if summed or (size <= MOST_SIZE and not all(moving)):
            found.append(axis)
        elif not moving[-1]:
            return []  # an output that stands still
    return found if any(loops.summed[axis] for axis in found) else []


def _is_worth_it(loops: Loops, form: TinyForm) -> bool:
    """Whether what an item copies is used: by its own products, more than once if others copy it.

    An operand that stands still along some of the batch's loops is copied again for each of their
    iterations, where threads of a nest would find it in a cache.
    """
    copied = sum([block.count for block in form.blocks[:-1] if block.mode != "single"])
    moving = [[bool(n) for n in row[: form.batch]] for row in loops.strides[:-1]]
    again = any(any(row) and not all(row) for row in moving)
    return prod(form.sizes) * (1 if again else loops.nin) >= copied


def _shared_form(loops: Loops, batch: int, machine: Machine, vectors: bool) -> TinyForm | None:
    """Return the form in which as few threads share an item as registers allow."""
    sizes = loops.sizes[batch:]
    outputs = loops.summed[batch:].count(False)
    largest = max(range(outputs), key=lambda n: sizes[n], default=-1)
    share = 1
    while share <= MOST_SHARE:
        form = _form(loops, batch, vectors, largest if share > 1 else -1, share)
        if _fits(form, min(MOST_SHARED, machine.shared)):
            return form
        if largest < 0 or share >= sizes[largest]:
            return None
        share *= 2
    return None


def _fits(form: TinyForm, room: int) -> bool:
    """Whether a thread's registers and products suffice, and a block's bytes of shared memory."""
    results = prod(form.sizes[: form.outputs])
    if form.split >= 0:
        results = results // form.sizes[form.split] * form.chunk
    words = -(-ELEMENTS[form.arithmetic].itemsize // 4)
    single = max([b.count for b in form.blocks if b.mode == "single"], default=0)
    return (
        results * words <= MOST_SUMS
        and work(form) <= MOST_WORK
        and single <= MOST_SINGLE
        and form.shared <= room
    )


def _form(loops: Loops, batch: int, vectors: bool, split: int, share: int) -> TinyForm:
    blocks = [_block(loops, batch, op, vectors, split, share) for op in range(loops.nin + 1)]
    alignment = []
    for op, (block, element) in enumerate(zip(blocks, loops.elements, strict=True)):
        whole = all(stride % element.itemsize == 0 for stride in loops.strides[op])
        lanes = block.lanes * element.itemsize
        alignment.append(lanes if vectors and whole else loops.alignment[op])
    return TinyForm(
        stored=loops.stored,
        arithmetic=loops.arithmetic,
        moves=loops.moves,
        alignment=tuple(alignment),
        wide=is_wide(loops),
        vast=is_vast(loops),
        sizes=loops.sizes[batch:],
        outputs=loops.summed[batch:].count(False),
        blocks=tuple(blocks),
        split=split,
        share=share,
    )


def _block(loops: Loops, batch: int, op: int, vectors: bool, split: int, share: int) -> Block:
    """Return how an operand's elements of an item lie in shared memory."""
    row, sizes, itemsize = loops.strides[op], loops.sizes, loops.elements[op].itemsize
    moving = [a for a in range(batch, len(sizes)) if row[a]]
    count = prod([sizes[a] for a in moving])
    output = op == loops.nin
    if not any(row[:batch]) and not output:
        mode = "single"
    else:
        mode = "run" if _is_run(loops, batch, op, count) else "spread"
    steps = [0] * (len(sizes) - batch)
    step = 1
    for a in reversed(moving):
        steps[a - batch] = row[a] // itemsize if mode == "run" else step
        step *= sizes[a]
    together = 1
    if not output:
        together = gcd(max(VECTOR // itemsize, 1), count)
        if split >= 0 and steps[split]:
            together = gcd(together, steps[split])
    pitch = 0 if mode == "single" else (count // together | 1) * together
    block = Block(mode, count, tuple(steps), pitch, 1, together)
    if mode != "run" or output or not vectors:
        return block
    lanes = gcd(max(VECTOR // itemsize, 1), count * prod(sizes[:batch]))
    return replace(block, lanes=gcd(lanes, count, pitch) if block.padded else lanes)


def _is_run(loops: Loops, batch: int, op: int, count: int) -> bool:
    """Whether an operand's items follow each other in memory, and have no gaps within."""
    row, sizes, itemsize = loops.strides[op], loops.sizes, loops.elements[op].itemsize
    inner = sorted([a for a in range(batch, len(sizes)) if row[a]], key=lambda a: row[a])
    step = itemsize
    for a in (*inner, *reversed(range(batch))):
        if row[a] != step:
            return False
        step *= sizes[a]
    return count > 1
