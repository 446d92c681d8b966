"""Schedules: which family runs a step's loops, and how they are dealt to blocks and threads.

Families of this module:

nest
    any number of operands, any strides. Threads stand side by side along the axis along which
    most of the data lies, so that a warp reads whole lines; where the nest sums, threads may also
    share a sum, and blocks too (``splits``), whose partial sums a second pass adds in order.
tiny
    many items of small loops, unrolled (:mod:`fastein_cuda.tiny`).
contraction
    products of (stacks of) large matrices, by tiles (:mod:`fastein_cuda.contraction`).
transposition
    products without sums whose operands lie along different axes: tiles of them turn round in
    shared memory.

All of it is plain data, made by pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from .contraction import ContractionSchedule, contraction
from .elements import ELEMENTS
from .forms import THREADS, NestForm, TranspositionForm
from .loops import Loops, OnePass, is_vast, is_wide, partial_sums
from .machine import Machine
from .nest_source import UNROLL
from .tiny import TinySchedule, tiny

VECTOR = 16  # bytes that one instruction reads at the most
MOST_SPLITS = 256
MOST_STAGED = 2  # operands that one tile turns round: its shared memory


@dataclass(frozen=True, slots=True)
class NestSchedule:
    """Loops dealt to blocks and threads.

    Attributes
    ----------
    loops : Loops
        The output axes, then the summed ones, each outermost first.
    form : NestForm
        What the kernel's source depends on.
    chunk : int
        Vectors of terms that one block sums.
    splits : int
        Blocks that share a sum.
    """

    loops: Loops
    form: NestForm
    chunk: int
    splits: int

    @property
    def given(self) -> Loops:
        """The loops as they were to be scheduled, up to their order."""
        return self.loops

    @property
    def family(self) -> str:
        return "nest"

    @property
    def items(self) -> int:
        """Results, counted in vectors where they are vectors."""
        return self.loops.items // (self.form.lanes if self.form.along == "items" else 1)

    @property
    def terms(self) -> int:
        """Terms of each sum, counted in vectors where they are vectors."""
        return self.loops.terms // (self.form.lanes if self.form.along == "terms" else 1)

    @property
    def grid(self) -> tuple[int, int]:
        return -(-self.items // self.form.columns), self.splits

    @property
    def workspace(self) -> int:
        """Bytes of the partial sums."""
        return partial_sums(self.loops, self.splits)

    def __str__(self) -> str:
        form = self.form
        shares = f", {form.parts} threads a sum" if form.parts > 1 else ""
        split = f", {self.splits} blocks a sum" if self.splits > 1 else ""
        vectors = f", vectors of {form.lanes}" if form.lanes > 1 else ""
        return f"nest: {self.loops.items} sums of {self.loops.terms}{shares}{split}{vectors}"


@dataclass(frozen=True, slots=True)
class TranspositionSchedule(OnePass):
    """A product whose operands turn round in shared memory.

    Attributes
    ----------
    loops : Loops
        Last stands the axis along which the output lies, before it that of the staged operands.
    form : TranspositionForm
    """

    loops: Loops
    form: TranspositionForm

    @property
    def family(self) -> str:
        return "transposition"

    @property
    def grid(self) -> tuple[int, int]:
        *outer, y, x = self.loops.sizes
        edge = self.form.edge
        tiles = -(-y // edge) * -(-x // edge)
        for n in outer:
            tiles *= n
        return tiles, 1

    def __str__(self) -> str:
        edge = self.form.edge
        return f"transposition: {self.loops.items} products, {edge} by {edge} through shared memory"


AnySchedule = NestSchedule | TranspositionSchedule | ContractionSchedule | TinySchedule


def schedule(loops: Loops, machine: Machine, vectors: bool = True) -> AnySchedule:
    """Return how loops run.

    Parameters
    ----------
    loops : Loops
        In any order.
    machine : Machine
    vectors : bool
        Whether the operands' addresses suit vectors, which is known only when they are there.
    """
    product = tiny(loops, machine, vectors) or contraction(loops, machine, vectors)
    if product is not None:
        return product
    turned = _transposition(loops)
    return _nest(loops, machine, vectors) if turned is None else turned


# --- transpositions ------------------------------------------------------------------------------


def _transposition(loops: Loops) -> TranspositionSchedule | None:
    """Return a schedule by tiles where operands lie along other axes than the output."""
    if any(loops.summed) or len(loops.sizes) < 2:
        return None
    x = _unit_axis(loops, loops.nin)
    if x is None:
        return None
    lying = [None if loops.strides[p][x] == 0 else _unit_axis(loops, p) for p in range(loops.nin)]
    across = [y for y in lying if y not in (None, x) and loops.sizes[y] > 1]
    if not across:
        return None
    y = across[0]
    assert y is not None
    staged = tuple([found == y for found in lying])
    if sum(staged) > MOST_STAGED or min(loops.sizes[x], loops.sizes[y]) < 8:
        return None
    outer = [a for a in _by_stride(loops, loops.nin) if a not in (x, y)]
    ordered = loops.reordered([*outer, y, x])
    edge = 64 if max(element.itemsize for element in loops.elements) <= 2 else 32
    form = TranspositionForm(
        loops.stored, loops.arithmetic, ordered.moves, loops.alignment, staged, edge,
        is_wide(loops), is_vast(loops),
    )  # fmt: skip
    return TranspositionSchedule(ordered, form)


def _unit_axis(loops: Loops, operand: int) -> int | None:
    """Return the axis along which an operand's elements lie next to each other."""
    itemsize = loops.elements[operand].itemsize
    for axis, stride in enumerate(loops.strides[operand]):
        if abs(stride) == itemsize and loops.sizes[axis] > 1:
            return axis
    return None


def _by_stride(loops: Loops, operand: int) -> list[int]:
    """Return the axes by falling stride in one operand."""
    return sorted(range(len(loops.sizes)), key=lambda a: -abs(loops.strides[operand][a]))


# --- nests --------------------------------------------------------------------------------------


def _nest(loops: Loops, machine: Machine, vectors: bool = True, split: bool = True) -> NestSchedule:
    lane_axis = _lane_axis(loops)
    ordered = loops.reordered(_loop_order(loops, lane_axis))
    along = "terms" if lane_axis is not None and loops.summed[lane_axis] else "items"
    outputs = loops.summed.count(False)
    lanes = _lanes(ordered, along, outputs) if vectors else 1
    items = loops.items // (lanes if along == "items" else 1)
    terms = loops.terms // (lanes if along == "terms" else 1)
    parts = _parts(items, terms, along, machine)
    columns = THREADS // parts
    splits = _splits(items, terms, columns, parts, machine) if split else 1
    chunk = -(-terms // splits)
    splits = -(-terms // chunk)
    form = NestForm(
        stored=(*loops.stored[:-1], loops.arithmetic if splits > 1 else loops.stored[-1]),
        arithmetic=loops.arithmetic,
        outputs=outputs,
        moves=ordered.moves,
        alignment=_alignment(ordered, along, outputs, lanes, vectors, splits > 1),
        lanes=lanes,
        vectors=_vector_operands(ordered, along, outputs, lanes),
        along=along,
        parts=parts,
        partial=splits > 1,
        wide=is_wide(loops),
        vast=is_vast(loops),
    )
    return NestSchedule(ordered, form, chunk, splits)


def _lane_axis(loops: Loops) -> int | None:
    """Return the axis along which most of the data lies."""
    score: dict[int, int] = {}
    for operand in range(loops.nin + 1):
        axis = _unit_axis(loops, operand)
        if axis is not None:
            score[axis] = score.get(axis, 0) + loops.volume(operand)
    return max(score, key=lambda axis: score[axis]) if score else None


def _loop_order(loops: Loops, lane_axis: int | None) -> list[int]:
    """Return output axes, then summed ones; each by stride, the lanes' axis last in its group."""
    heaviest = max(range(loops.nin), key=loops.volume, default=0)
    outputs = [a for a in _by_stride(loops, loops.nin) if not loops.summed[a]]
    sums = [a for a in _by_stride(loops, heaviest) if loops.summed[a]]
    for group in (outputs, sums):
        if lane_axis in group:
            group.remove(lane_axis)
            group.append(lane_axis)
    return outputs + sums


def _inner(loops: Loops, along: str, outputs: int) -> int | None:
    """Return the position of the axis along which threads stand, None if there is none."""
    position = outputs - 1 if along == "items" else len(loops.sizes) - 1
    return (
        position if position >= 0 and (along == "items") == (not loops.summed[position]) else None
    )


def _lanes(loops: Loops, along: str, outputs: int) -> int:
    """Return how many neighbours one instruction may read and write, 1 if only one."""
    axis = _inner(loops, along, outputs)
    elements = loops.elements
    if axis is None or any(x.kind == "c" for x in elements):
        return 1
    moving = [p for p in range(loops.nin + 1) if loops.strides[p][axis]]
    if any(loops.strides[p][axis] != elements[p].itemsize for p in moving):
        return 1
    if any(loops.alignment[p] < elements[p].itemsize for p in moving):
        return 1
    lanes = VECTOR // max(elements[p].itemsize for p in moving)
    if loops.arithmetic == "float32":
        lanes = min(lanes, 8)
    for p in moving:
        step = elements[p].itemsize
        for a, stride in enumerate(loops.strides[p]):
            lanes = gcd(lanes, loops.sizes[a] if a == axis else stride // step)
            if stride % step:
                return 1
    return lanes


def _vector_operands(loops: Loops, along: str, outputs: int, lanes: int) -> tuple[bool, ...]:
    """Tell which operands are read and written in vectors."""
    axis = _inner(loops, along, outputs)
    if lanes == 1 or axis is None:
        return (False,) * (loops.nin + 1)
    found = [bool(row[axis]) for row in loops.strides]
    found[-1] = along == "items"
    return tuple(found)


def _alignment(
    loops: Loops, along: str, outputs: int, lanes: int, vectors: bool, partial: bool
) -> tuple[int, ...]:
    """Return the alignment in bytes that the kernel relies on, for each operand."""
    chosen = list(loops.alignment)
    in_vectors = _vector_operands(loops, along, outputs, lanes)
    for p, element in enumerate(loops.elements):
        whole = all(stride % element.itemsize == 0 for stride in loops.strides[p])
        if chosen[p] < element.alignment:
            continue
        if in_vectors[p]:
            chosen[p] = lanes * element.itemsize
        elif vectors and element.kind == "c" and whole:
            chosen[p] = element.itemsize
    if partial:
        accumulated = ELEMENTS[loops.arithmetic]
        chosen[-1] = accumulated.itemsize * (lanes if in_vectors[-1] else 1)
    return tuple(chosen)


def _parts(items: int, terms: int, along: str, machine: Machine) -> int:
    """Return how many threads of a block share a sum, a power of two."""
    if terms < 2:
        return 1
    if along == "terms":
        most = THREADS if items < machine.threads // 32 else 32
        return min(most, _power_of_two(-(-terms // UNROLL)))
    idle = machine.threads // items
    return max(1, min(8, _power_of_two(idle), _power_of_two(terms // UNROLL)))


def _splits(items: int, terms: int, columns: int, parts: int, machine: Machine) -> int:
    """Return how many blocks share a sum."""
    blocks = -(-items // columns)
    wanted = 4 * machine.processors // blocks
    return max(1, min(wanted, terms // (parts * UNROLL * 4), MOST_SPLITS))


def _power_of_two(n: int) -> int:
    """Return the largest power of two up to n (1 for 0)."""
    return 1 << max(n.bit_length() - 1, 0)


def adding_up(
    chosen: NestSchedule | ContractionSchedule, machine: Machine, vectors: bool
) -> NestSchedule:
    """Return the schedule that adds the partial sums of one whose sums are split."""
    return _nest(_partial_sums(chosen.loops, chosen.splits), machine, vectors, split=False)


def _partial_sums(loops: Loops, splits: int) -> Loops:
    outputs = [a for a, summed in enumerate(loops.summed) if not summed]
    element = ELEMENTS[loops.arithmetic]
    strides: list[int] = []
    step = element.itemsize
    for a in reversed(outputs):
        strides.insert(0, step)
        step *= loops.sizes[a]
    return Loops(
        (*[loops.sizes[a] for a in outputs], splits),
        ((*strides, step), (*[loops.strides[-1][a] for a in outputs], 0)),
        (*[False] * len(outputs), True),
        (element.name, loops.stored[-1]),
        loops.arithmetic,
        (element.alignment, loops.alignment[-1]),
    )
