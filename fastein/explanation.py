"""Reading a plan aloud: shapes by label, the path with its costs, schedules, generated source."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from typing import Any, TypeVar

import numpy as np

from ._dispatch import normalised_options, plan_for
from ._operands import as_array, is_list_of_operands, lies_on_device
from ._parser import parse, parse_key, sublist_key
from .config import settings
from .equation import Equation, bind, expand
from .errors import EinsumError, NoArrayError, quoted
from .path import Path, contraction_path, loop_cost, path_cost, walk
from .plan import Clear, Contract, Convert, Layout, Options, Plan, ThroughNumPy, View

T = TypeVar("T")


class Explanation(str):
    """Text that shows itself unquoted at the prompt."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def explanation(
    subscripts: Any, given: tuple[Any, ...], *, optimize: Any, dtype: Any, source: bool
) -> Explanation:
    """What `fastein.explain` returns; see there."""
    if isinstance(subscripts, bytes):
        subscripts = parse(subscripts).text
    if not isinstance(subscripts, str):
        raise TypeError(f"subscripts must be a str, not {type(subscripts).__name__}")
    subscripts = str.__str__(subscripts)
    options = normalised_options(dtype=dtype, optimize=optimize)

    def planned(given: tuple[Any, ...]) -> tuple[Plan, Any]:
        layouts = tuple([_layout(x, dtype, k, subscripts) for k, x in enumerate(given)])
        return _planned(subscripts, given, layouts, options)

    plan, sources = _of_one_or_a_list(planned, given, subscripts.count(",") + 1)
    lines = [f"einsum({quoted(subscripts)})", *_shapes(plan), "", *_steps(plan)]
    if source:
        lines += _sources(plan, sources)
    return Explanation("\n".join(lines))


def _planned(
    subscripts: str, given: tuple[Any, ...], layouts: tuple[Layout, ...], options: Options
) -> tuple[Plan, Any]:
    """The plan of a call, and what tells the sources of a step: on the operands' machine."""
    on_device = [x for x in given if lies_on_device(x)]
    if on_device:
        from fastein_cuda import explained

        return explained.plan_on(on_device[0], subscripts, layouts, options), explained.sources
    from .cpu.sources import sources

    return plan_for(subscripts, layouts, None, options), sources


def _of_one_or_a_list(
    answer: Callable[[tuple[Any, ...]], T], given: tuple[Any, ...], terms: int
) -> T:
    """What a function says of the operands; or of those in the list that was given as one."""
    try:
        return answer(given)
    except NoArrayError:  # a ragged list is no array, but may be a list of operands
        if not is_list_of_operands(given) or (len(given[0]) != terms and terms == 1):
            raise
    except EinsumError:
        if not is_list_of_operands(given) or _is_shape(given[0]):
            raise
    return answer(tuple(given[0]))


def path_report(arguments: tuple[Any, ...], optimize: Any) -> tuple[list[Any], str]:
    """What `fastein.einsum_path` returns; see there."""
    optimize = normalised_options(optimize=optimize).optimize
    if not arguments:
        raise EinsumError("einsum_path needs the subscripts and at least one operand")
    if any(_answers_itself(x) for x in arguments):
        return np.einsum_path(*arguments, **({} if optimize == "auto" else {"optimize": optimize}))
    if isinstance(arguments[0], (str, bytes)):
        subscripts, operands = parse(arguments[0]), arguments[1:]
    else:
        key, listed = sublist_key(arguments)
        subscripts, operands = parse_key(key), tuple(listed)

    def sized(operands: tuple[Any, ...]) -> tuple[Equation, tuple[int, ...]]:
        shapes = [
            tuple(x.shape) if lies_on_device(x) else as_array(x, k, subscripts.text).shape
            for k, x in enumerate(operands)
        ]
        equation = expand(subscripts, shapes)
        return equation, bind(equation, shapes)

    equation, sizes = _of_one_or_a_list(sized, operands, len(subscripts.terms))
    path = contraction_path(equation.terms, equation.output, sizes, optimize, settings.memory_limit)
    return ["einsum_path", *path], "\n".join(_path_lines(equation, sizes, path))


def _answers_itself(operand: Any) -> bool:
    """Whether an operand's library is to answer for NumPy's functions (NEP 18)."""
    own = getattr(type(operand), "__array_function__", np.ndarray.__array_function__)
    return own is not np.ndarray.__array_function__ and not lies_on_device(operand)


def _path_lines(equation: Equation, sizes: tuple[int, ...], path: Path) -> list[str]:
    terms, output = equation.terms, equation.output
    naive, cost = loop_cost(terms, output, sizes), path_cost(terms, output, sizes, path)
    steps = walk(terms, output, path)
    largest = max(prod(sizes[x] for x in kept) for _, _, kept in steps)
    rule = "-" * 74
    lines = [
        f"  Complete contraction:  {_spelled(terms, output, equation)}",
        f"         Naive scaling:  {len({x for term in terms for x in term})}",
        f"     Optimized scaling:  {max(len(_labels(inputs, kept)) for _, inputs, kept in steps)}",
        f"      Naive FLOP count:  {naive:.3e}",
        f"  Optimized FLOP count:  {cost:.3e}",
        f"   Theoretical speedup:  {naive / max(cost, 1):.3g}",
        f"  Largest intermediate:  {largest:.3e} elements",
        rule,
        f"{'scaling':>8}   {'current':<28} remaining",
        rule,
    ]
    left = list(terms)
    for positions, inputs, kept in steps:
        for p in sorted(positions, reverse=True):
            del left[p]
        left.append(kept)
        scaling = len(_labels(inputs, kept))
        current, remaining = _spelled(inputs, kept, equation), _spelled(left, output, equation)
        lines.append(f"{scaling:>8}   {current:<28} {remaining}")
    return lines


def _labels(inputs: Any, kept: tuple[int, ...]) -> set[int]:
    return {x for term in inputs for x in term}.union(kept)


def _spelled(inputs: Any, output: tuple[int, ...], equation: Equation) -> str:
    return ",".join([_term(x, equation) for x in inputs]) + "->" + _term(output, equation)


def _term(term: tuple[int, ...], equation: Equation) -> str:
    names = [equation.names[x] for x in term]
    return ("" if all(len(name) == 1 for name in names) else " ").join(names)


def _is_shape(given: Any) -> bool:
    return isinstance(given, tuple) and all(isinstance(n, (int, np.integer)) for n in given)


def _layout(given: Any, dtype: Any, number: int, text: str) -> Layout:
    """The layout of an operand, or of a C-ordered array of the given shape."""
    if _is_shape(given):
        kind = np.dtype(np.float64 if dtype is None else dtype)
        return c_ordered(tuple([int(n) for n in given]), kind)
    if lies_on_device(given):
        from fastein_cuda.arrays import operand_of

        return operand_of(given).layout
    array = as_array(given, number, text)
    return Layout(array.shape, array.strides, array.dtype, array.flags.aligned)


def c_ordered(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Layout:
    """The layout of an array of this shape that lies in C order.

    Raises
    ------
    EinsumError
        If there can be no such array.
    """
    if any(n < 0 for n in shape):
        raise EinsumError(f"a shape has no negative sizes: {shape}")
    if dtype.itemsize * prod([max(n, 1) for n in shape]) > sys.maxsize:
        raise EinsumError(f"an operand of shape {shape} is too big for memory")
    strides = [dtype.itemsize * prod(shape[k + 1 :]) for k in range(len(shape))]
    return Layout(shape, tuple(strides), dtype)


def _shapes(plan: Plan) -> list[str]:
    names = plan.equation.names
    rows = [
        (f"operand {k}", term, layout)
        for k, (term, layout) in enumerate(zip(plan.equation.terms, plan.operands, strict=True))
    ]
    rows.append(("result", plan.equation.output, plan.result))
    texts = [
        (
            who,
            ", ".join(f"{names[x]}={n}" for x, n in zip(term, layout.shape, strict=True)),
            f"{layout.dtype}{_order(layout)}",
        )
        for who, term, layout in rows
    ]
    width = max(len(shape) for _, shape, _ in texts) + 2
    return [f"  {who:<11} {f'({shape})':<{width}}   {kind}" for who, shape, kind in texts]


def _order(layout: Layout) -> str:
    """Say how the elements lie where it is not the usual row by row."""
    expected = layout.dtype.itemsize
    for size, stride in zip(reversed(layout.shape), reversed(layout.strides), strict=True):
        if size > 1 and stride != expected:
            return f", strides {layout.strides}"
        expected *= size
    return "" if layout.aligned else ", unaligned"


def _steps(plan: Plan) -> list[str]:
    lines = []
    for number, step in enumerate(plan.steps):
        title, cost, how = _step(step, plan)
        lines.append(f"  step {number}: {title}{cost}")
        if how:
            lines.append(f"    {how}")
    if plan.scratch:
        lines.append(f"  scratch: {plan.scratch:,} bytes for intermediates")
    return lines


def _step(step: Any, plan: Plan) -> tuple[str, str, str]:
    if isinstance(step, View):
        return "view", "   no arithmetic, no memory", f"strides {step.strides}"
    if isinstance(step, Clear):
        return "clear", "", "the empty sum is 0"
    if isinstance(step, Convert):
        name, layout = _slot_name(step.source, plan), _slot_layout(step.target, plan)
        return f"convert {name}", f"   {_bytes(2 * layout.nbytes)}", f"to {layout.dtype}, aligned"
    assert isinstance(step, (Contract, ThroughNumPy))
    terms = [slot.term for slot in step.inputs]
    equation = _spelled(terms, step.output.term, plan.equation)
    flops = loop_cost(terms, step.output.term, plan.sizes)
    moved = sum(_slot_layout(slot.number, plan).nbytes for slot in (*step.inputs, step.output))
    cost = f"   {flops:,} flops, {_bytes(moved)}"
    if isinstance(step, ThroughNumPy):
        return equation, cost, "through numpy.einsum"
    return equation, cost, str(step.schedule)


def _slot_layout(number: int, plan: Plan) -> Layout:
    return [*plan.operands, *[x.layout for x in plan.buffers], plan.result][number]


def _slot_name(number: int, plan: Plan) -> str:
    count = len(plan.operands)
    return f"operand {number}" if number < count else f"intermediate {number - count}"


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def _sources(plan: Plan, sources: Any) -> list[str]:
    """The source of each step, as a target's `sources` tells it."""
    lines = []
    for number, step in enumerate(plan.steps):
        if isinstance(step, Contract):
            for title, source in sources(step.schedule):
                lines += ["", f"step {number}, {title}:", "", *source.rstrip().split("\n")]
    return lines
