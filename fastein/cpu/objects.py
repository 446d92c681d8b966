"""Plans of dtypes that C lacks (object), step by step through `numpy.einsum`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import numpy_einsum
from ..plan import Clear, Plan, ThroughNumPy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..plan import Slot

Array = np.ndarray[Any, Any]

MOST_AXES = 60  # of NumPy's loop nest, with some to spare

# What numpy.einsum calls without a path, in about half its time for a small call.
_multiarray = getattr(getattr(np, "_core", None), "multiarray", None)
_c_einsum: Callable[..., Any] = getattr(_multiarray, "c_einsum", numpy_einsum)


def object_run(plan: Plan) -> Callable[[tuple[Array, ...], Array | None], Any]:
    """What runs a plan on arrays, called as ``run(operands, out)``."""
    subscripts = _as_numpy_writes(plan)
    return ObjectRun(plan) if subscripts is None else DirectRun(plan, subscripts)


def _as_numpy_writes(plan: Plan) -> str | None:
    """The subscripts of a plan that NumPy carries out as it stands."""
    equation, steps = plan.equation, plan.steps
    if len(steps) != 1 or not isinstance(steps[0], ThroughNumPy):
        return None
    if len(equation.names) > MOST_AXES:
        return None
    if not set(equation.batch) <= set(equation.output):
        return None  # NumPy does not sum over an ellipsis
    names = ["..." if x in equation.batch else name for x, name in enumerate(equation.names)]
    if not all(
        name == "..." or (len(name) == 1 and name.isascii() and name.isalpha()) for name in names
    ):
        return None
    terms = [_spelled(term, names) for term in equation.terms]
    return ",".join(terms) + "->" + _spelled(equation.output, names)


def _spelled(term: tuple[int, ...], names: list[str]) -> str:
    """A term; the axes behind an ellipsis, which stand side by side, are one name."""
    spelled = [names[x] for x in term]
    return "".join(
        [
            name
            for name, last in zip(spelled, ["", *spelled], strict=False)
            if name != "..." or last != "..."
        ]
    )


class DirectRun:
    """A callable that leaves one whole call to NumPy: ``run(operands, out)``."""

    __slots__ = ("keywords", "subscripts")

    def __init__(self, plan: Plan, subscripts: str) -> None:
        options = plan.options
        given = {"dtype": options.dtype, "order": options.order, "casting": options.casting}
        usual = {"dtype": None, "order": "K", "casting": "safe"}
        self.subscripts = subscripts
        self.keywords = {name: x for name, x in given.items() if x != usual[name]}

    def __call__(self, operands: tuple[Array, ...], out: Array | None) -> Any:
        if out is not None:
            return _c_einsum(self.subscripts, *operands, out=out, **self.keywords)
        return _c_einsum(self.subscripts, *operands, **self.keywords)


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
