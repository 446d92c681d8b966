"""The GPU target: from a plan to launches on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastein._nest import LoopNest
from fastein.config import settings
from fastein.plan import Clear, Contract, Convert, Layout, Plan, View

from .contraction import multiplies_matrices
from .device import Device
from .elements import ELEMENTS, element_of
from .launch import Executable, Step, step_of, workspace_of
from .loops import Loops, fused, loops_of
from .machine import FLOPS, LAUNCH_SECONDS, STREAM_BYTES
from .schedule import AnySchedule, schedule


class CudaTarget:
    """One device (see `fastein.target.Target`)."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.machine = replace(device.machine, tf32=settings.tf32)

    def computes(self, dtype: np.dtype[Any]) -> bool:
        """Whether there are kernels for a dtype that C does not have: bfloat16."""
        return dtype.name in ELEMENTS

    def schedule(self, nest: LoopNest) -> AnySchedule:
        """Choose a nest's family and how it is dealt to blocks and threads."""
        return schedule(loops_of(nest), self.machine)

    def mixes(self, stored: np.dtype[Any], arithmetic: np.dtype[Any]) -> bool:
        """Whether kernels that compute in one dtype read and write another: one summed so."""
        if stored == arithmetic:
            return True
        element = ELEMENTS.get(stored.name)
        return element is not None and stored.isnative and element.arithmetic == arithmetic.name

    def schedule_mixed(
        self, nest: LoopNest, stored: tuple[np.dtype[Any], ...], of: np.dtype[Any]
    ) -> AnySchedule | None:
        """Choose as `schedule`, for a step of a product of floats of two bytes.

        Its unrounded intermediates are multiplied by the tensor cores too. They round float32 to
        11 bits, 3 more than bfloat16 has; for float16, which has 11 itself, they do so in two
        parts. Only nests read operands that differ.
        """
        loops = loops_of(nest, stored, True if of.name == "bfloat16" else "3x")
        if len(set(loops.stored[:-1])) > 1 and multiplies_matrices(loops):
            return None
        return schedule(loops, self.machine)

    def seconds(self, nest: LoopNest) -> float:
        """Estimate the time of a nest: a launch, then its arithmetic or its bytes."""
        work = max(nest.moved_bytes / STREAM_BYTES, 2 * nest.iterations / FLOPS)
        return LAUNCH_SECONDS + work

    def executable(self, plan: Plan) -> Executable:
        """Make a plan callable: its kernels are compiled here.

        Raises
        ------
        TypeError
            If there are no kernels for a dtype.
        """
        if not all(isinstance(step, View) for step in plan.steps):
            element_of(plan.dtype)
        layouts = [*plan.operands, *[buffer.layout for buffer in plan.buffers], plan.result]
        steps: list[Step] = []
        workspace = 0
        for step in plan.steps:
            if isinstance(step, View) or 0 in plan.result.shape:
                continue  # a view is the caller's to make; of nothing, there is nothing to do
            slots, chosen = self._scheduled(step, layouts)
            steps.append(step_of(slots, chosen, self.device, self.machine))
            workspace = max(workspace, workspace_of(chosen, self.machine))
        return Executable(plan, steps, workspace, self.device)

    def _scheduled(
        self, step: object, layouts: list[Layout]
    ) -> tuple[tuple[int, ...], AnySchedule]:
        """Return the slots of a step's operands, and how it runs."""
        if isinstance(step, Contract):
            slots = (*[slot.number for slot in step.inputs], step.output.number)
            return slots, step.schedule  # type: ignore[return-value]
        if isinstance(step, Convert):
            loops = _conversion(step.layout, layouts[step.target])
            return (step.source, step.target), schedule(loops, self.machine)
        assert isinstance(step, Clear)
        return (step.target,), schedule(_clearing(layouts[step.target]), self.machine)


def _conversion(source: Layout, target: Layout) -> Loops:
    """Return the loops that copy elements into another dtype or into aligned memory."""
    strides = tuple(
        [
            0 if size == 1 else stride
            for size, stride in zip(source.shape, source.strides, strict=True)
        ]
    )
    return _copying((source._replace(strides=strides), target), target)


def _clearing(target: Layout) -> Loops:
    """Return the loops that fill an array with the sum of nothing."""
    return _copying((target,), target)


def _copying(operands: tuple[Layout, ...], target: Layout) -> Loops:
    """Return loops over the target's axes, those of size 1 left out, outermost first."""
    axes = [a for a, size in enumerate(target.shape) if size != 1]
    axes.sort(key=lambda a: -abs(target.strides[a]))
    elements = [element_of(layout.dtype) for layout in operands]
    copying = Loops(
        tuple([target.shape[a] for a in axes]),
        tuple([tuple([layout.strides[a] for a in axes]) for layout in operands]),
        (False,) * len(axes),
        tuple([element.name for element in elements]),
        elements[0].arithmetic,  # in which the source loses nothing
        tuple(
            [
                element.alignment if layout.aligned else 1
                for element, layout in zip(elements, operands, strict=True)
            ]
        ),
    )
    return fused(copying)
