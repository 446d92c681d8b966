"""Plans of dtypes that C lacks (object), step by step through `numpy.einsum`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import numpy_einsum
from ..plan import Clear, Plan, ThroughNumPy

if TYPE_CHECKING:
    from ..plan import Slot

Array = np.ndarray[Any, Any]


class ObjectRun:
    """A callable that runs one plan on arrays: ``run(operands, out)``."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self, operands: tuple[Array, ...], out: Array | None) -> Any:
        plan = self.plan
        slots: dict[int, Array] = dict(enumerate(operands))
        last = len(operands) + len(plan.buffers)
        slots[last] = _allocated(plan) if out is None else out
        for step in plan.steps:
            if isinstance(step, Clear):
                slots[step.target][...] = 0
            elif isinstance(step, ThroughNumPy):
                answer = _contract(step, slots, plan)
                if step.output.number == last:
                    np.copyto(slots[last], answer, casting="unsafe")
                else:
                    slots[step.output.number] = answer
        result = slots[last]
        return result if out is not None or result.ndim else result[()]


def _allocated(plan: Plan) -> Array:
    """An object array of the plan's layout."""
    shape, strides = plan.result.shape, plan.result.strides
    order = sorted(range(len(shape)), key=lambda k: -strides[k])
    base = np.empty([shape[k] for k in order], plan.result.dtype)
    return base.transpose([order.index(k) for k in range(len(shape))])


def _contract(step: ThroughNumPy, slots: dict[int, Array], plan: Plan) -> Array:
    """One contraction; axes of size 1 are left out, so that the labels cannot run out."""
    names: dict[int, int] = {}
    arguments: list[Any] = []
    for slot in step.inputs:
        array, labels = _without_ones(slots[slot.number], slot)
        arguments += [array, [names.setdefault(x, len(names)) for x in labels]]
    kept = [x for x in step.output.term if x in names]
    answer = np.empty([plan.sizes[x] for x in kept], dtype=object)
    numpy_einsum(
        *arguments,
        [names[x] for x in kept],
        out=answer,  # without it, a single operand would be viewed rather than added to 0
        dtype=object,
        casting="unsafe",
        optimize=False,
    )
    return answer.reshape([plan.sizes[x] if x in names else 1 for x in step.output.term])


def _without_ones(array: Array, slot: Slot) -> tuple[Array, list[int]]:
    long = [k for k, size in enumerate(array.shape) if size != 1]
    index = tuple(slice(None) if size != 1 else 0 for size in array.shape)
    view = array[index] if array.ndim else array
    view = np.asarray(view)
    if view.dtype != array.dtype or view.ndim != len(long):  # an object scalar fell out
        view = np.empty((), array.dtype)
        view[()] = array[index]
    return view, [slot.term[k] for k in long]
