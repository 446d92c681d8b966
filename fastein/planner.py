"""Making plans: from an equation, the operands' layouts and the options to a `Plan`.

What is decided here: the result's layout, which operands are converted first, what is summed
before any product, the contraction path, the loop nest of every step and (by the target) its
schedule, and where intermediates lie in one scratch arena.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _nest
from .arena import INTP_MAX, RESULT, lay_out
from .equation import Equation, bind, check_out
from .errors import EinsumError, compose, quoted
from .path import SMALL_WORK, Path, Term, contraction_path, loop_cost, path_cost, walk
from .plan import (
    Clear,
    Contract,
    Convert,
    Layout,
    Options,
    Plan,
    Slot,
    Step,
    ThroughNumPy,
    View,
)
from .result import common_dtype, new_result
from .target import Schedule, Target

MOST_FUSED = 4  # operands of a nest that may take the place of a path
MOST_EXTRA = 8  # times the arithmetic of the path that it may do
CONVERSION = 1e-9  # seconds that a float of two bytes takes to become one of four
MOST_OBJECTS = 60  # operands that one call of numpy.einsum takes
# dtypes that C has: everything but object, strings, dates and structures
C_KINDS = frozenset("?bBhHiIlLqQefdgFDG")


def make_plan(
    equation: Equation,
    operands: tuple[Layout, ...],
    out: Layout | None,
    options: Options,
    target: Target,
) -> Plan:
    """Decide how a call runs.

    Parameters
    ----------
    equation : Equation
    operands : tuple of Layout
        One for each term.
    out : Layout or None
        The array that is to hold the result, if there is one.
    options : Options
    target : Target
        The machine.

    Raises
    ------
    EinsumError
        If shapes do not fit, or a result would be larger than memory can be.
    TypeError
        If the dtypes cannot be cast as asked.
    """
    sizes = bind(equation, tuple([x.shape for x in operands]), options.strict)
    if out is not None:
        sizes = check_out(equation, sizes, out.shape, options.strict)
    elif len(operands) == 1 and _is_view(equation):
        return _view_plan(equation, sizes, operands[0], options)
    dtype = common_dtype(equation, operands, out, options)
    if dtype.char not in C_KINDS and dtype.char != "O" and not target.computes(dtype):
        raise TypeError(f"invalid data type for einsum: {dtype}")
    return _Planner(equation, sizes, operands, out, dtype, options, target).plan()


def _is_view(equation: Equation) -> bool:
    return set(equation.terms[0]) == set(equation.output)


def _view_plan(
    equation: Equation, sizes: tuple[int, ...], operand: Layout, options: Options
) -> Plan:
    steps_of = dict.fromkeys(equation.output, 0)
    for label, stride in zip(equation.terms[0], operand.strides, strict=True):
        steps_of[label] += stride
    strides = tuple(steps_of.values())
    result = Layout(
        tuple(sizes[x] for x in equation.output), strides, operand.dtype, operand.aligned
    )
    return Plan(
        equation, sizes, (operand,), operand.dtype, (View(strides),), (), result, 0, options
    )


class _Planner:
    """The slots, buffers and steps of one plan while it is being made."""

    def __init__(
        self,
        equation: Equation,
        sizes: tuple[int, ...],
        operands: tuple[Layout, ...],
        out: Layout | None,
        dtype: np.dtype[Any],
        options: Options,
        target: Target,
    ) -> None:
        self.equation = equation
        self.sizes = sizes
        self.operands = operands
        self.dtype = dtype
        self.options = options
        self.target = target
        self.result = out or new_result(equation, sizes, operands, dtype, options)
        self.layouts: list[Layout] = list(operands)
        self.steps: list[Step] = []

    def plan(self) -> Plan:
        steps = self._decide()
        result_slot = len(self.layouts)
        buffers, scratch = lay_out(self.layouts[len(self.operands) :], len(self.operands), steps)
        return Plan(
            self.equation,
            self.sizes,
            self.operands,
            self.dtype,
            tuple([_with_result(step, result_slot) for step in steps]),
            buffers,
            self.result,
            scratch,
            self.options,
        )

    def _decide(self) -> list[Step]:
        output = self.equation.output
        if 0 in self.sizes:
            return [Clear(RESULT)]
        slots = [Slot(k, term) for k, term in enumerate(self.equation.terms)]
        path = self._path(slots)
        if self._fuses(slots, path):
            path = (tuple(range(len(slots))),)
        if self.dtype.char == "O":
            self._contract_along(slots, path, Slot(RESULT, output), self.dtype)
            return self.steps
        compute = self.dtype
        private = self._private_labels(slots)
        if _is_short(compute) and (len(path) > 1 or private):
            compute = np.dtype(np.float32)  # intermediates stay unrounded, but no operand does
            slots = [slot if self._is_of_plan(slot) else self._converted(slot) for slot in slots]
        if compute == self.dtype or not self.target.mixes(self.dtype, compute):
            slots = [self._converted(slot, compute) for slot in slots]
        if private:
            slots = [self._presummed(slot, private, compute) for slot in slots]
        direct = self.result.aligned and self.target.mixes(self.result.dtype, compute)
        into = Slot(RESULT, output) if direct else self._buffer(output, compute)
        self._contract_along(slots, path, into, compute)
        if not direct:
            self.steps.append(Convert(into.number, RESULT, self.layouts[into.number]))
        return self.steps

    @staticmethod
    def _inputs_of(numbers: Any, terms: Any, layouts: Any) -> tuple[Any, ...]:
        return tuple([(terms[k], layouts[k].shape, layouts[k].strides) for k in numbers])

    def _path(self, slots: list[Slot]) -> Path:
        options = self.options
        optimize = options.optimize
        if self.dtype.char == "O" and (optimize == "auto" or optimize is False):
            return _in_order(len(slots), MOST_OBJECTS)  # objects need neither commute nor associate
        if len(slots) <= 2 and (optimize == "auto" or optimize is False):
            return (tuple(range(len(slots))),)
        return contraction_path(
            [slot.term for slot in slots],
            self.equation.output,
            self.sizes,
            optimize,
            options.memory_limit,
        )

    def _fuses(self, slots: list[Slot], path: Path) -> bool:
        """Whether one nest over all operands takes less time than a path of several steps.

        It does more arithmetic, but writes no intermediates.
        """
        if len(path) < 2 or self.options.optimize != "auto" or len(slots) > MOST_FUSED:
            return False
        if any(self.layouts[slot.number].dtype != self.dtype for slot in slots):
            return False
        if self.dtype.char not in C_KINDS and not self.target.computes(self.dtype):
            return False
        everything = (tuple(range(len(slots))),)
        alone = loop_cost([slot.term for slot in slots], self.equation.output, self.sizes)
        terms = [slot.term for slot in slots]
        if alone > MOST_EXTRA * path_cost(terms, self.equation.output, self.sizes, path):
            return False
        return self._seconds(slots, everything) <= self._seconds(slots, path)

    def _seconds(self, slots: list[Slot], path: Path) -> float:
        """Estimate the time of a path, the intermediates stored row by row."""
        itemsize = self.dtype.itemsize
        operands = [
            (slot.term, layout.shape, layout.strides)
            for slot in slots
            for layout in (self.layouts[slot.number],)
        ]
        seconds = 0.0
        if len(path) > 1 and _is_short(self.dtype):  # see `_decide`
            seconds = CONVERSION * sum(math.prod(shape) for _, shape, _ in operands)
        steps = walk([slot.term for slot in slots], self.equation.output, path)
        for number, (positions, _, kept) in enumerate(steps):
            taken = tuple([operands[p] for p in positions])
            for p in sorted(positions, reverse=True):
                del operands[p]
            shape = tuple([self.sizes[x] for x in kept])
            strides = tuple([itemsize * math.prod(shape[k + 1 :]) for k in range(len(shape))])
            if number == len(steps) - 1:
                strides = self.result.strides
            nest = _nest.build(self.dtype, self.sizes, taken, kept, strides)
            seconds += self.target.seconds(nest)
            operands.append((kept, shape, strides))
        return seconds

    def _is_of_plan(self, slot: Slot) -> bool:
        return self.layouts[slot.number].dtype == self.dtype

    def _converted(self, slot: Slot, to: np.dtype[Any] | None = None) -> Slot:
        """The slot itself if kernels can read it as it is, else a copy that they can.

        By default the copy is of the plan's dtype.
        """
        layout = self.layouts[slot.number]
        dtype = to or self.dtype
        if layout.dtype == dtype and layout.dtype.isnative and layout.aligned:
            return slot
        shape = tuple(
            [
                1 if stride == 0 else size
                for size, stride in zip(layout.shape, layout.strides, strict=True)
            ]
        )
        order = sorted(range(len(shape)), key=lambda k: -abs(layout.strides[k]))
        copy = self._buffer(slot.term, dtype, shape, order)
        self.steps.append(Convert(slot.number, copy.number, layout._replace(shape=shape)))
        return copy

    def _buffer(
        self,
        term: Term,
        dtype: np.dtype[Any],
        shape: tuple[int, ...] | None = None,
        order: list[int] | None = None,
    ) -> Slot:
        """A new intermediate; axes lie in memory as `order` says, outermost first."""
        if shape is None:
            shape = tuple([self.sizes[x] for x in term])
        strides = [0] * len(shape)
        step = dtype.itemsize
        for k in reversed(order if order is not None else range(len(shape))):
            strides[k] = step
            step *= shape[k]
        if step > INTP_MAX:
            raise EinsumError(
                f"einsum({quoted(self.equation.text)}) needs an intermediate of shape {shape}, "
                "which is too big for memory; another contraction path may need less"
            )
        self.layouts.append(Layout(shape, tuple(strides), dtype))
        return Slot(len(self.layouts) - 1, term)

    def _private_labels(self, slots: list[Slot]) -> set[int]:
        """Labels of one operand alone that are worth summing before any product."""
        if len(slots) == 1 or self.options.optimize is False or math.prod(self.sizes) <= SMALL_WORK:
            return set()
        private = set(range(len(self.sizes))).difference(self.equation.output)
        seen: set[int] = set()
        for slot in slots:
            private -= seen.intersection(slot.term)
            seen.update(slot.term)
        return {label for label in private if self.sizes[label] > 1}

    def _presummed(self, slot: Slot, private: set[int], dtype: np.dtype[Any]) -> Slot:
        """The operand without its private labels."""
        if private.isdisjoint(slot.term):
            return slot
        shared = tuple(dict.fromkeys([x for x in slot.term if x not in private]))
        partial = self._buffer(shared, dtype, self._extents(shared, [slot]))
        self._contract([slot], partial, dtype)
        return partial

    def _sizes_within(self, term: Term, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes of the labels in a step whose result keeps some at 1 for a later broadcast."""
        if all(self.sizes[x] == n for x, n in zip(term, shape, strict=True)):
            return self.sizes
        sizes = list(self.sizes)
        for label, size in zip(term, shape, strict=True):
            sizes[label] = size
        return tuple(sizes)

    def _extents(self, term: Term, taken: list[Slot]) -> tuple[int, ...]:
        """Sizes of the labels as the operands of one step have them, broadcast to each other."""
        sizes: dict[int, int] = {}
        for slot in taken:
            for label, size in zip(slot.term, self.layouts[slot.number].shape, strict=True):
                sizes[label] = max(sizes.get(label, 1), size)
        return tuple([sizes[label] for label in term])

    def _contract_along(
        self, slots: list[Slot], path: Any, into: Slot, dtype: np.dtype[Any]
    ) -> None:
        if len(path) == 1:
            self._contract([slots[p] for p in path[0]], into, dtype)
            return
        left = list(slots)
        walked = walk([slot.term for slot in slots], into.term, path)
        for number, (positions, _, kept) in enumerate(walked):
            taken = [left[p] for p in positions]
            for p in sorted(positions, reverse=True):
                del left[p]
            last = number == len(walked) - 1
            result = into if last else self._buffer(kept, dtype, self._extents(kept, taken))
            self._contract(taken, result, dtype)
            left.append(result)

    def _contract(self, taken: list[Slot], result: Slot, dtype: np.dtype[Any]) -> None:
        if dtype.char == "O":
            self.steps.append(ThroughNumPy(tuple(taken), result))
            return
        if dtype == self.dtype:
            schedule = self.target.schedule(self._nest(taken, result, dtype))
        else:
            taken, schedule = self._mixed(taken, result, dtype)
        self.steps.append(Contract(tuple(taken), result, schedule))

    def _mixed(
        self, taken: list[Slot], result: Slot, dtype: np.dtype[Any]
    ) -> tuple[list[Slot], Schedule]:
        """The operands of a step that computes in a wider dtype, and its schedule.

        They are converted where the target does not read them as they are.
        """

        def schedule() -> Schedule | None:
            slots = (*taken, result)
            layouts = [self.result if s.number == RESULT else self.layouts[s.number] for s in slots]
            stored = tuple([layout.dtype for layout in layouts])
            nest = self._nest(taken, result, dtype)
            return self.target.schedule_mixed(nest, stored, self.dtype)

        aligned = all(self.layouts[slot.number].aligned for slot in taken)
        found = schedule() if aligned else None
        if found is None:
            taken = [self._converted(slot, dtype) for slot in taken]
            found = schedule()
        assert found is not None
        return taken, found

    def _nest(self, taken: list[Slot], result: Slot, dtype: np.dtype[Any]) -> _nest.LoopNest:
        """The loops of one step."""
        if result.number == RESULT:
            layout, sizes = self.result, self.sizes
        else:
            layout = self.layouts[result.number]
            sizes = self._sizes_within(result.term, layout.shape)
        nest = _nest.build(
            dtype,
            sizes,
            self._inputs_of(
                range(len(taken)),
                [slot.term for slot in taken],
                [self.layouts[slot.number] for slot in taken],
            ),
            result.term,
            layout.strides,
        )
        if nest.iterations > INTP_MAX:
            raise EinsumError(
                compose(
                    "the sum has more terms than can ever be added up (2**63)", self.equation.text
                )
            )
        return nest


def _is_short(dtype: np.dtype[Any]) -> bool:
    """Whether this is a float of two bytes: float16, or the bfloat16 of ml_dtypes."""
    return dtype.char == "e" or dtype.name == "bfloat16"


def _in_order(count: int, most: int) -> Path:
    """The path that multiplies from left to right, `most` operands at a time."""
    path = [tuple(range(min(count, most)))]
    left = count - len(path[0]) + 1
    while left > 1:  # the product so far is the last of those left, and comes first
        taken = min(left, most)
        path.append((left - 1, *range(taken - 1)))
        left -= taken - 1
    return tuple(path)


def _with_result(step: Step, number: int) -> Step:
    """The step with the result's final slot number in it."""
    if isinstance(step, Contract) and step.output.number == RESULT:
        return Contract(step.inputs, Slot(number, step.output.term), step.schedule)
    if isinstance(step, Convert) and step.target == RESULT:
        return Convert(step.source, number, step.layout)
    if isinstance(step, Clear):
        return Clear(number)
    if isinstance(step, ThroughNumPy) and step.output.number == RESULT:
        return ThroughNumPy(step.inputs, Slot(number, step.output.term))
    return step
