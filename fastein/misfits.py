"""Misfits: every message about operands that do not fit their subscripts.

`fastein.equation` finds out *that* something is wrong; what to tell the user about it is worked out
here, as in `fastein.diagnose`. Each function returns the exception to raise.
"""

from __future__ import annotations

from .diagnose import LONGEST_GUESS
from .errors import (
    EinsumError,
    compose,
    item_span,
    operand_lines,
    printable,
    quoted,
    shape_text,
)

TYPE_CHECKING = False  # as in fastein.errors
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastein._parser import Subscripts
    from fastein.equation import Equation

    Shapes = Sequence[tuple[int, ...]]
    Span = tuple[int, int]

# Characters that are pasted in from papers and web pages, and what was meant by them.
_LOOKALIKES = {
    "→": "->",
    "⟶": "->",
    "⇒": "->",
    "…": "...",
    "，": ",",
    "\N{NO-BREAK SPACE}": " ",
}


# Operands


def operand_count(subscripts: Subscripts, shapes: Shapes) -> EinsumError:
    """Explain that there are more or fewer operands than terms."""
    text, spans = subscripts.text, subscripts.spans
    terms, operands = len(subscripts.terms), len(shapes)

    def line(operand: int) -> str:
        if operand >= operands:
            return f"{_term(text, spans[operand])} is missing"
        if operand >= terms:
            return f"no term for shape {shape_text(shapes[operand])}"
        return f"{_term(text, spans[operand])} has shape {shape_text(shapes[operand])}"

    # Point at the first term left over, or at where another one would have to follow.
    place = spans[operands] if operands < terms else (spans[terms - 1][1],) * 2
    hint = _lookalike_hint(text)
    if hint is None and terms < operands and " " in _between(text, spans[terms - 1]):
        hint = "spaces between labels are ignored; terms are separated by ','"
    return EinsumError(
        compose(
            f"the subscripts have {_plural(terms, 'term')}, "
            f"but {_plural(operands, 'operand')} {'was' if operands == 1 else 'were'} given",
            text,
            [place],
            operand_lines(max(terms, operands), line, [min(terms, operands)]),
            hint,
        )
    )


def operand_rank(subscripts: Subscripts, shapes: Shapes, operand: int) -> EinsumError:
    """Explain that an operand has not as many axes as its term has labels."""
    text, span = subscripts.text, subscripts.spans[operand]
    ellipsis = subscripts.ellipses[operand] >= 0
    rank = len(shapes[operand])
    labels = len(subscripts.terms[operand]) - ellipsis
    if labels < rank:
        hint: str | None = (
            f"write {'...' if text[:1] == '[' else repr('...')} for axes without a label"
        )
    else:
        hint = _space_hint(subscripts, operand)
    return EinsumError(
        compose(
            f"operand {operand} has {_axes(rank)}, but its term {_term(text, span)} has "
            f"{_plural(labels, 'label')}",
            text,
            [span],
            _shape_lines(text, subscripts.spans, shapes, [operand]),
            _lookalike_hint(text) or hint,
        )
    )


def _space_hint(subscripts: Subscripts, operand: int) -> str | None:
    """Guess that a space inside a term was meant to be an arrow or a comma."""
    text, (start, stop) = subscripts.text, subscripts.spans[operand]
    head, space, tail = text[start:stop].rpartition(" ")
    if not space or text[:1] == "[":
        return None
    last = operand == len(subscripts.terms) - 1
    if last and not subscripts.explicit and len(text) <= LONGEST_GUESS:
        guess = quoted(text[:start] + head.rstrip() + "->" + tail)
        return f"spaces between labels are ignored; did you mean {guess}?"
    return "spaces between labels are ignored; terms are separated by ','"


def _lookalike_hint(text: str) -> str | None:
    if text.isascii() or text[:1] == "[":
        return None
    for lookalike, meant in _LOOKALIKES.items():
        if lookalike in text:
            return f"{quoted(lookalike)} is read as a label; did you mean '{meant}'?"
    return None


# Sizes


def diagonal(equation: Equation, shapes: Shapes, operand: int, axes: Sequence[int]) -> EinsumError:
    """Explain that axes of one operand share a label, but not their size."""
    shape, first = shapes[operand], axes[0]
    other = next(axis for axis in axes if shape[axis] != shape[first])
    name = equation.names[equation.terms[operand][first]]
    return EinsumError(
        compose(
            f"label '{name}' has size {shape[first]}, but also size {shape[other]}, "
            f"in operand {operand} (axes {first} and {other})",
            equation.text,
            [_axis_span(equation, operand, axis) for axis in (other, first)],
            _shape_lines(equation.text, equation.spans, shapes, [operand]),
            "a label repeated in one operand means its diagonal, which does not broadcast",
        )
    )


def label_sizes(
    equation: Equation, shapes: Shapes, clash: tuple[int, int, int, int]
) -> EinsumError:
    """Explain that a label has sizes in two operands that do not broadcast."""
    operand, label, size, known = clash
    axis = equation.terms[operand].index(label)
    before, before_axis = next(
        (number, term.index(label))
        for number, term in enumerate(equation.terms)
        if label in term and shapes[number][term.index(label)] == known
    )
    name, hint = equation.names[label], None
    if label in equation.batch:
        batches = [
            shape_text(shapes[number][slice(*_batch_axes(equation, number))])
            for number in (before, operand)
        ]
        problem = (
            f"batch axes {batches[0]} and {batches[1]} do not broadcast: "
            f"size {known} in operand {before} (axis {before_axis}), "
            f"but size {size} in operand {operand} (axis {axis})"
        )
        hint = "batch axes are aligned on the right; their sizes must be equal or 1"
    else:
        problem = (
            f"label '{name}' has size {known} in operand {before} (axis {before_axis}), "
            f"but size {size} in operand {operand} (axis {axis})"
        )
        if known == 1 or size == 1:
            hint = "with strict=True a size of 1 does not broadcast"
    return EinsumError(
        compose(
            problem,
            equation.text,
            [_axis_span(equation, operand, axis), _axis_span(equation, before, before_axis)],
            _shape_lines(equation.text, equation.spans, shapes, [before, operand]),
            hint,
        )
    )


def out_rank(equation: Equation, sizes: tuple[int, ...], out_shape: tuple[int, ...]) -> EinsumError:
    """Explain that ``out`` has not as many axes as the result."""
    ranks = f"out has {_axes(len(out_shape))}, but the result has {_axes(len(equation.output))}"
    written = len(equation.spans) > len(equation.terms)
    return _out_error(ranks, equation, sizes, out_shape, [equation.spans[-1]] if written else [])


def out_size(
    equation: Equation, sizes: tuple[int, ...], out_shape: tuple[int, ...], axis: int
) -> EinsumError:
    """Explain that the result does not broadcast to ``out``."""
    label = equation.output[axis]
    problem = (
        f"label '{equation.names[label]}' has size {sizes[label]}, "
        f"but size {out_shape[axis]} in out (axis {axis})"
    )
    written = len(equation.spans) > len(equation.terms)
    spans = [_axis_span(equation, -1, axis)] if written else []
    return _out_error(problem, equation, sizes, out_shape, spans)


def _out_error(
    problem: str,
    equation: Equation,
    sizes: tuple[int, ...],
    out_shape: tuple[int, ...],
    spans: list[Span],
) -> EinsumError:
    names = ", ".join([equation.names[label] for label in equation.output])
    result = shape_text([sizes[label] for label in equation.output])
    lines = [
        f"out has shape {shape_text(out_shape)}",
        f"the result ({printable(names)}) has shape {result}",
    ]
    return EinsumError(compose(problem, equation.text, spans, lines))


def _shape_lines(
    text: str, spans: Sequence[Span], shapes: Shapes, focus: Sequence[int]
) -> list[str]:
    """Give every operand's term and shape: the best picture of what does not fit."""

    def line(operand: int) -> str:
        return f"{_term(text, spans[operand])} has shape {shape_text(shapes[operand])}"

    return operand_lines(len(shapes), line, focus)


def _axis_span(equation: Equation, operand: int, axis: int) -> Span:
    """Find where the label of one axis of an operand (-1: the output) stands in the text."""
    term = equation.output if operand < 0 else equation.terms[operand]
    items = [equation.names[label] for label in term]
    start, stop = _batch_axes(equation, operand)
    if start >= 0:  # the axes behind an ellipsis are one item of the text
        items[start:stop] = ["..."]
        if axis >= start:
            axis = start if axis < stop else axis - (stop - start) + 1
    return item_span(equation.text, equation.spans[operand], items, axis)


def _batch_axes(equation: Equation, operand: int) -> Span:
    """Find which axes of an operand (-1: the output) stand behind the ellipsis."""
    term = equation.output if operand < 0 else equation.terms[operand]
    start = stop = equation.ellipses[operand] if equation.ellipses else -1
    while 0 <= stop < len(term) and term[stop] in equation.batch:
        stop += 1
    return start, stop


def _term(text: str, span: Span) -> str:
    return quoted(_between(text, span))


def _between(text: str, span: Span) -> str:
    return text[span[0] : span[1]]


def _axes(count: int) -> str:
    return f"{count} {'axis' if count == 1 else 'axes'}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else noun + 's'}"
