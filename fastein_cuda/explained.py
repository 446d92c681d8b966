"""A plan for a device, for `fastein.explain` to read aloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastein.plan import Layout, Options, Plan

from .arrays import operand_of
from .codegen import render
from .dispatch import plan_for
from .schedule import AnySchedule
from .target import CudaTarget


def plan_on(array: Any, subscripts: Any, layouts: tuple[Layout, ...], options: Options) -> Plan:
    """Return the plan of a call on the device of one of its operands."""
    return plan_for(subscripts, layouts, None, options, CudaTarget(operand_of(array).device))


def sources(chosen: AnySchedule) -> Iterator[tuple[str, str]]:
    """Yield title and text of each kernel that a step runs."""
    yield f"generated {chosen.family}", render(chosen.form)
