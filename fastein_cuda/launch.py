"""From a plan to launches: which kernels run on which memory, with which arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastein.plan import Plan

from . import codegen
from .codegen import THREADS, NestForm
from .device import Device, Launch
from .elements import ELEMENTS
from .loops import magic
from .schedule import NestSchedule, TileSchedule, schedule

SCRATCH_ALIGNMENT = 256  # bytes; what cudaMalloc gives

AnySchedule = NestSchedule | TileSchedule


def launch_of(chosen: AnySchedule) -> Launch:
    """Return the launch of a schedule."""
    known = _numbers(chosen)
    scalars = tuple(
        [known[name] for name, kind in codegen.parameters(chosen.form) if kind != "pointer"]
    )
    return Launch(chosen.form, scalars, chosen.grid, _shared(chosen))


def _numbers(chosen: AnySchedule) -> dict[str, int]:
    """Return the kernel's arguments by name."""
    form, loops = chosen.form, chosen.loops
    sizes = list(loops.sizes)
    steps = [list(row) for row in loops.strides]
    known = {}
    if isinstance(chosen, NestSchedule):
        nest = chosen.form
        axis = nest.outputs - 1 if nest.along == "items" else nest.rank - 1
        if nest.lanes > 1:
            sizes[axis] //= nest.lanes
            for row in steps:
                row[axis] *= nest.lanes
        known = {
            "items": chosen.items,
            "terms": chosen.terms,
            "chunk": chosen.chunk,
            "span": chosen.chunk,
        }
    else:
        *_, y, x = sizes
        edge = chosen.form.edge
        known = {"X": x, "Y": y}
        for name, tiles in (("x_tiles", -(-x // edge)), ("y_tiles", -(-y // edge))):
            known.update(_divided(name, tiles, form.wide))
    for loop, size in enumerate(sizes):
        known.update(_divided(codegen.size_name(form, loop), size, form.wide))
    for op, row in enumerate(steps):
        known.update({codegen.step_name(form, op, loop): step for loop, step in enumerate(row)})
    return known


def _divided(name: str, number: int, wide: bool) -> dict[str, int]:
    """Return a number with what divides by it; the wide kernels divide as it is."""
    multiplier, shift = (0, 0) if wide else magic(number)
    return {name: number, f"{name}_magic": multiplier, f"{name}_shift": shift}


def _shared(chosen: AnySchedule) -> int:
    """Return the bytes of shared memory of a block."""
    form = chosen.form
    itemsize = ELEMENTS[form.arithmetic].itemsize
    if isinstance(form, NestForm):
        lanes = form.lanes if form.along == "items" and any(form.vectors[:-1]) else 1
        return THREADS * itemsize * lanes if form.parts > 1 else 0
    return sum(form.staged) * form.edge * form.pitch * itemsize


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan on the device.

    Attributes
    ----------
    slots : tuple of int
        Which memory the operands are; the output comes last.
    alignment : tuple of int
        What the addresses must be multiples of for `run`.
    run : callable
    otherwise : callable
        Makes what runs the step wherever its operands lie.
    """

    slots: tuple[int, ...]
    alignment: tuple[int, ...]
    run: Runner
    otherwise: Callable[[], Runner]


Runner = Callable[[list[int], int, int], None]
"""Runs a step: addresses of the operands, of the workspace, and the stream."""


def step_of(slots: tuple[int, ...], chosen: AnySchedule, device: Device) -> Step:
    """Return a step that runs a schedule."""
    alternative: list[Runner] = []

    def otherwise() -> Runner:
        if not alternative:
            alternative.append(
                _runner(schedule(chosen.loops, device.machine, vectors=False), device)
            )
        return alternative[0]

    return Step(slots, _needed(chosen), _runner(chosen, device), otherwise)


def _needed(chosen: AnySchedule) -> tuple[int, ...]:
    """Return the alignment that each operand's address must have."""
    needed = list(chosen.form.alignment)
    if isinstance(chosen, NestSchedule) and chosen.second is not None:
        needed[-1] = chosen.second.form.alignment[-1]
    return tuple(needed)


def _runner(chosen: AnySchedule, device: Device) -> Runner:
    first = device.prepare(launch_of(chosen))
    second = chosen.second if isinstance(chosen, NestSchedule) else None
    if second is None:
        return lambda addresses, workspace, stream: first(addresses, stream)
    last = device.prepare(launch_of(second))

    def run(addresses: list[int], workspace: int, stream: int) -> None:
        first([*addresses[:-1], workspace], stream)
        last([workspace, addresses[-1]], stream)

    return run


def workspace_of(chosen: AnySchedule, device: Device) -> int:
    """Return the bytes that a schedule's partial sums take, wherever its operands lie."""
    if isinstance(chosen, TileSchedule):
        return 0
    other = schedule(chosen.loops, device.machine, vectors=False)
    assert isinstance(other, NestSchedule)
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
                fits = not any(
                    address % n for address, n in zip(addresses, step.alignment, strict=True)
                )
                (step.run if fits else step.otherwise())(addresses, workspace, stream)
        finally:
            if arena:
                self.device.release(arena, stream)
