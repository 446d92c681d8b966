"""From a plan to launches: which kernels run on which memory, with which arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastein.plan import Plan

from . import codegen
from .contraction import ContractionSchedule
from .device import Device, Launch
from .elements import ELEMENTS
from .forms import THREADS, NestForm, TranspositionForm
from .loops import magic
from .machine import Machine
from .naming import operand_name, size_name, step_name
from .schedule import AnySchedule, NestSchedule, TranspositionSchedule, adding_up, schedule
from .tiny import TinySchedule

SCRATCH_ALIGNMENT = 256  # bytes; what cudaMalloc gives


def launch_of(chosen: AnySchedule) -> Launch:
    """Return the launch of a schedule."""
    known = _numbers(chosen)
    scalars = tuple(
        [known[name] for name, kind in codegen.parameters(chosen.form) if kind != "pointer"]
    )
    return Launch(chosen.form, scalars, chosen.grid, _shared(chosen))


def _numbers(chosen: AnySchedule) -> dict[str, int]:
    """Return the kernel's arguments by name."""
    form = chosen.form
    sizes = list(chosen.loops.sizes)
    steps = [list(row) for row in chosen.loops.strides]
    if isinstance(chosen, NestSchedule):
        own, divisors = _numbers_of_nest(chosen, sizes, steps)
    elif isinstance(chosen, TranspositionSchedule):
        own, divisors = _numbers_of_transposition(chosen)
    elif isinstance(chosen, TinySchedule):
        own, divisors = _numbers_of_tiny(chosen)
    else:
        own, divisors = _numbers_of_contraction(chosen)
    divisors.update({size_name(form, loop): size for loop, size in enumerate(sizes)})
    for name, number in divisors.items():
        own.update(_divided(name, number, form.vast))
    for op, row in enumerate(steps):
        own.update({step_name(form, op, loop): step for loop, step in enumerate(row)})
    return own


Numbers = tuple[dict[str, int], dict[str, int]]
"""Arguments, and those that the kernel divides by."""


def _numbers_of_nest(chosen: NestSchedule, sizes: list[int], steps: list[list[int]]) -> Numbers:
    """Return a nest's own arguments; sizes and steps count in vectors afterwards."""
    form = chosen.form
    if form.lanes > 1:
        axis = form.outputs - 1 if form.along == "items" else form.rank - 1
        sizes[axis] //= form.lanes
        for row in steps:
            row[axis] *= form.lanes
    own = {
        "items": chosen.items,
        "terms": chosen.terms,
        "chunk": chosen.chunk,
        "span": chosen.chunk,
    }
    return own, {}


def _numbers_of_transposition(chosen: TranspositionSchedule) -> Numbers:
    *_, y, x = chosen.loops.sizes
    edge = chosen.form.edge
    return {}, {"x_tiles": -(-x // edge), "y_tiles": -(-y // edge)}


def _numbers_of_tiny(chosen: TinySchedule) -> Numbers:
    form = chosen.form
    own = {"items": chosen.items, "out_slots": form.items * form.blocks[-1].count}
    divisors = {}
    for op, block in enumerate(form.blocks):
        name = operand_name(form, op)
        own[f"{name}_step"] = block.lanes * ELEMENTS[form.stored[op]].itemsize
        own[f"{name}_all"] = chosen.items * block.count // block.lanes
        divisors[f"{name}_block"] = max(block.count // block.lanes, 1)
    return own, divisors


def _numbers_of_contraction(chosen: ContractionSchedule) -> Numbers:
    batches, rows, columns, terms = chosen.extents
    down, across = chosen.tiles
    tile = chosen.form.tile
    own = {
        "batches": batches,
        "rows": rows,
        "columns": columns,
        "terms": terms,
        "chunk": chosen.chunk,
        "span": -(-chosen.chunk // tile.depth) + tile.stages - 1,
    }
    return own, {
        "group_size": chosen.height * across,
        "height": chosen.height,
        "row_tiles": down,
    }


def _divided(name: str, number: int, vast: bool) -> dict[str, int]:
    """Return a number with what divides by it; the vast kernels divide as it is."""
    multiplier, shift = (0, 0) if vast else magic(number)
    return {name: number, f"{name}_magic": multiplier, f"{name}_shift": shift}


def _shared(chosen: AnySchedule) -> int:
    """Return the bytes of shared memory of a block."""
    form = chosen.form
    itemsize = ELEMENTS[form.arithmetic].itemsize
    if isinstance(form, NestForm):
        lanes = form.lanes if form.along == "items" and any(form.vectors[:-1]) else 1
        return THREADS * itemsize * lanes if form.parts > 1 else 0
    if isinstance(form, TranspositionForm):
        return sum(form.staged) * form.edge * form.pitch * itemsize
    return form.shared


Runner = Callable[[list[int], int, int], None]
"""Runs a step: addresses of the operands, of the workspace, and the stream."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan on the device.

    Attributes
    ----------
    slots : tuple of int
        Which memory the operands are; the output comes last.
    masks : tuple of int
        The bits that must be clear in the addresses for `run`: alignments less one.
    run : callable
    otherwise : callable
        Makes what runs the step wherever its operands lie.
    """

    slots: tuple[int, ...]
    masks: tuple[int, ...]
    run: Runner
    otherwise: Callable[[], Runner]


def step_of(slots: tuple[int, ...], chosen: AnySchedule, device: Device, machine: Machine) -> Step:
    """Return a step that runs a schedule."""
    passes = _passes(chosen, machine, vectors=True)
    alternative: list[Runner] = []

    def otherwise() -> Runner:
        if not alternative:
            plain = schedule(chosen.given, machine, vectors=False)
            alternative.append(_runner(_passes(plain, machine, vectors=False), device))
        return alternative[0]

    masks = tuple([n - 1 for n in _needed(passes)])
    return Step(slots, masks, _runner(passes, device), otherwise)


def _passes(chosen: AnySchedule, machine: Machine, vectors: bool) -> list[AnySchedule]:
    """Return a schedule, and what adds its partial sums if it has any."""
    if not isinstance(chosen, NestSchedule | ContractionSchedule) or chosen.splits == 1:
        return [chosen]
    return [chosen, adding_up(chosen, machine, vectors)]


def _needed(passes: list[AnySchedule]) -> tuple[int, ...]:
    """Return the alignment that each operand's address must have."""
    first = passes[0]
    *inputs, output = first.form.alignment
    if isinstance(first, ContractionSchedule):
        inputs = [inputs[first.order.index(k)] for k in range(2)]
    if len(passes) > 1:
        output = passes[1].form.alignment[-1]
    return (*inputs, output)


def _runner(passes: list[AnySchedule], device: Device) -> Runner:
    first = device.prepare(launch_of(passes[0]))
    if isinstance(passes[0], ContractionSchedule):
        first = _swapped(first, passes[0].order)
    if len(passes) == 1:
        return lambda addresses, workspace, stream: first(addresses, stream)
    last = device.prepare(launch_of(passes[1]))

    def run(addresses: list[int], workspace: int, stream: int) -> None:
        first([*addresses[:-1], workspace], stream)
        last([workspace, addresses[-1]], stream)

    return run


def _swapped(
    run: Callable[[list[int], int], None], order: tuple[int, int]
) -> Callable[[list[int], int], None]:
    """Return a launch that takes the inputs in the nest's order."""
    if order == (0, 1):
        return run
    return lambda addresses, stream: run([addresses[1], addresses[0], addresses[2]], stream)


def workspace_of(chosen: AnySchedule, machine: Machine) -> int:
    """Return the bytes that a schedule's partial sums take, wherever its operands lie."""
    other = schedule(chosen.given, machine, vectors=False)
    return max(chosen.workspace, other.workspace)


class Executable:
    """A plan that can be called.

    Attributes
    ----------
    plan : Plan
    steps : list of Step
    scratch : int
        Bytes of device memory for intermediates and partial sums.
    """

    def __init__(self, plan: Plan, steps: list[Step], workspace: int, device: Device) -> None:
        self.plan = plan
        self.steps = steps
        self.device = device
        self._buffers = [buffer.offset for buffer in plan.buffers]
        self._workspace = -(-plan.scratch // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
        self.scratch = self._workspace + workspace

    def run(self, operands: list[int], result: int, stream: int) -> None:
        """Run all steps on one stream, given the addresses of the operands and of the result."""
        arena = self.device.allocate(self.scratch, stream) if self.scratch else 0
        try:
            slots = [*operands, *[arena + offset for offset in self._buffers], result]
            workspace = arena + self._workspace
            for step in self.steps:
                addresses = [slots[number] for number in step.slots]
                fits = True
                for address, mask in zip(addresses, step.masks, strict=True):
                    fits = fits and not address & mask
                (step.run if fits else step.otherwise())(addresses, workspace, stream)
        finally:
            if arena:
                self.device.release(arena, stream)
