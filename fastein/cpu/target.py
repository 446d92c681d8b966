"""The CPU target: from a plan to an executable one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._nest import LoopNest
from ..config import settings
from ..forks import no_fork
from ..plan import Clear, Contract, Convert, Layout, Plan, ThroughNumPy, View
from . import _numpy_steps, _placed, _runtime
from .gemm import Multiply, matrix_layouts
from .objects import object_run
from .permutation import Permutation
from .rates import rates
from .schedule import Schedule, kernel_seconds, schedule
from .tiers import compiled


class CpuTarget:
    """This machine's cores (see `fastein.target.Target`)."""

    def computes(self, dtype: np.dtype[Any]) -> bool:
        """Whether there are kernels for a dtype that C does not have."""
        return False

    def schedule(self, nest: LoopNest) -> Schedule:
        """Choose family, loop order and vector axis of a nest."""
        return schedule(
            nest,
            matmul=settings.jit != "always",
            engine=settings.jit != "never",
            threads=settings.num_threads,
            machine=rates(),
        )

    def mixes(self, stored: np.dtype[Any], arithmetic: np.dtype[Any]) -> bool:
        """Whether kernels that compute in one dtype read and write another."""
        return stored == arithmetic

    def schedule_mixed(
        self, nest: LoopNest, stored: tuple[np.dtype[Any], ...], of: np.dtype[Any]
    ) -> Schedule | None:
        """Choose as `schedule`, if all operands are of the nest's dtype."""
        return self.schedule(nest) if all(dtype == nest.dtype for dtype in stored) else None

    def seconds(self, nest: LoopNest) -> float:
        """Estimate the time of a nest once its kernels are there."""
        if settings.jit == "never":  # whose loops go through a product once for each operand
            return self.schedule(nest).seconds * max(1, nest.nin - 1)
        return kernel_seconds(nest, settings.num_threads, rates())

    def executable(self, plan: Plan) -> _runtime.Executable:
        """Make a plan callable."""
        if plan.steps and isinstance(plan.steps[0], View):
            return _runtime.Executable(plan, "view", ())
        if plan.dtype.char == "O":
            return _runtime.Executable(plan, "python", object_run(plan))
        layouts = [*plan.operands, *[x.layout for x in plan.buffers], plan.result]
        steps = [_runnable(step, layouts) for step in plan.steps]
        return _runtime.Executable(plan, "loops", _numpy_steps.quietly(steps))


def _runnable(
    step: View | Clear | Convert | Contract | ThroughNumPy, layouts: list[Layout]
) -> _runtime.Step:
    if isinstance(step, Contract):
        return _contraction(step)
    if isinstance(step, Convert):
        read = _placed.place(step.layout)
        return _numpy_steps.ConvertStep(
            step.source, step.target, read, _placed.place(layouts[step.target])
        )
    assert isinstance(step, Clear)
    return _numpy_steps.ClearStep(step.target, _placed.place(layouts[step.target]))


def _contraction(step: Contract) -> _runtime.Step:
    chosen = step.schedule
    assert isinstance(chosen, Schedule)
    slots = (*[slot.number for slot in step.inputs], step.output.number)
    if chosen.contraction is not None:
        return _contraction_step(chosen, slots)
    if chosen.permutation is not None:
        return _permutation(chosen, chosen.permutation, slots)
    return _substitute(chosen, slots)


def _contraction_step(chosen: Schedule, slots: tuple[int, ...]) -> _runtime.Step:
    """What multiplies panels; of integers, as narrow as the values of a call allow."""
    with no_fork:
        from . import narrow
        from ._contraction import ContractionStep
        from .engine import engine_for

    assert chosen.contraction is not None
    waits = settings.jit == "always"
    forms = narrow.forms(chosen, settings.num_threads, rates())
    engine = engine_for(chosen.contraction.tile)
    if waits and not forms:
        engine.have()
    whole = ContractionStep(slots, chosen, engine, _substitute(chosen, slots), waits)
    if not forms:
        return whole
    with no_fork:
        from ._narrow import NarrowStep
    # each has its kernels from the first call whose values it serves
    steps = []
    for narrower in forms:
        plan = narrower.contraction
        assert plan is not None
        step = ContractionStep(slots, narrower, engine_for(plan.tile), whole, waits)
        steps.append((narrow.bound(plan), step))
    axes = [narrow.operand_axes(chosen.nest, k) for k in range(2)]
    return NarrowStep(slots, chosen.nest, axes, steps, whole)


def _permutation(
    chosen: Schedule, permutation: Permutation, slots: tuple[int, ...]
) -> _runtime.Step:
    with no_fork:
        from ._permutation import PermutationStep
        from .engine import transposer_of

    if not permutation.is_transposed or settings.jit == "never":
        return PermutationStep(slots, chosen, None)
    transposer = transposer_of(permutation.element)
    if settings.jit == "always":
        transposer.have()
    return PermutationStep(slots, chosen, transposer)


def _substitute(chosen: Schedule, slots: tuple[int, ...]) -> _runtime.Step:
    """What runs a nest without the contraction engine."""
    nest = _runtime.NestStep(chosen.nest, slots, chosen.parallel, chosen.traversal)
    if chosen.matrix is not None:
        a, b, c = map(_placed.place, matrix_layouts(chosen))
        promotes = chosen.family == "nest"
        return _numpy_steps.MatmulStep(slots, a, b, c, Multiply(chosen, rates()), nest, promotes)
    if settings.jit == "always" and chosen.contraction is None and nest.traversal is not None:
        kernel = compiled(nest.traversal.form)
        if kernel is not None:
            nest.use(kernel)
    return nest


CPU = CpuTarget()
