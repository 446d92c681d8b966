"""Diagnose: every message about subscripts, and about operands that do not fit them.

The parser and `fastein.equation` find out *that* something is wrong, in loops made for the good
case; what to tell the user about it is worked out here. Each function returns the exception to
raise, or its text where the caller chooses between EinsumError and TypeError.
"""

from __future__ import annotations

from .errors import (
    EinsumError,
    compose,
    item_span,
    label_name,
    operand_lines,
    printable,
    quoted,
    shape_text,
)

TYPE_CHECKING = False  # as in fastein.errors
if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Sequence

    from fastein._parser import Subscripts
    from fastein.equation import Equation

    Shapes = Sequence[tuple[int, ...]]
    Span = tuple[int, int]

_LABELS = "a label is a letter, a digit or any character beyond ASCII"
_SUBLIST_LABELS = "a label is an integer >= 0, or anything hashable that is no number"
_SUBLIST_FORM = (
    "without a subscripts string in front, the arguments are read as "
    "operand, labels, operand, labels, ..., [output labels]"
)
_LONGEST_GUESS = 60  # characters of an equation that is repeated with its mistake corrected

# Characters that are pasted in from papers and web pages, and what was meant by them.
_LOOKALIKES = {
    "→": "->",
    "⟶": "->",
    "⇒": "->",
    "…": "...",
    "，": ",",
    "\N{NO-BREAK SPACE}": " ",
}


# Reading a string


def not_utf8(text: bytes, position: int) -> EinsumError:
    """Subscripts given as bytes that are no text."""
    return EinsumError(
        compose(
            "subscripts given as bytes must be UTF-8",
            text.decode("latin-1"),
            [(position, position + 1)],
        )
    )


def character(text: str, position: int, second_ellipsis: bool) -> EinsumError:
    """Explain why a character cannot stand where it does."""
    found, stop, hint = text[position], position + 1, None
    if found == ".":
        while text[stop : stop + 1] == ".":
            stop += 1
        if second_ellipsis and stop - position == 3:
            problem = "a term can have only one ellipsis"
        else:
            problem = "a '.' is not part of an ellipsis '...'"
            hint = "an ellipsis is exactly three dots, with nothing between them"
    elif found in "->" or text.startswith("=>", position):
        problem, hint = _broken_arrow(text, position)
    elif found == ",":
        problem = "the output is a single term: it cannot contain ','"
    elif found.isspace():
        problem, hint = f"{found!r} cannot stand between labels", "only spaces are ignored"
    else:
        problem = f"{quoted(found)} cannot be a label"
        hint = "terms are separated by ','" if found == ";" else _LABELS
    return EinsumError(compose(problem, text, [(position, stop)], hint=hint))


def _broken_arrow(text: str, position: int) -> tuple[str, str | None]:
    """Say what is wrong with a '-', '>' or '=>', and guess the equation that was meant."""
    before, after = text[:position], text[position:]
    if "->" in before:
        return "the output can be announced by '->' only once", None
    rest = after.lstrip("-=> ")
    if after[0] == "=":
        problem = "the output is announced by '->', not '=>'"
    elif after[0] == ">":
        problem = "'>' must stand directly behind '-'"
    elif after[1:].lstrip(" ").startswith(">"):
        problem = "'-' and '>' must stand together"
    else:
        problem = "'-' must be followed by '>'"
    if "-" in rest or ">" in rest or len(text) > _LONGEST_GUESS:
        return problem, "the output is announced by '->'"
    space = " " if before.endswith(" ") else ""
    return problem, f"did you mean {quoted(before + '->' + space + rest)}?"


# The output


def repeated_output(text: str, span: Span, output: Sequence[Hashable], axis: int) -> EinsumError:
    """Explain that the output has a label twice."""
    items = item_texts(output)
    first = output.index(output[axis])
    return EinsumError(
        compose(
            f"the output has label {_quoted_label(output[axis])} twice",
            text,
            [item_span(text, span, items, axis), item_span(text, span, items, first)],
            hint="each label of the output is one axis; a diagonal can be read, but not written",
        )
    )


def unknown_output(
    text: str, span: Span, output: Sequence[Hashable], axis: int, known: Collection[Hashable]
) -> EinsumError:
    """Explain that the output has a label that no operand has."""
    label = output[axis]
    other = label.swapcase() if isinstance(label, str) else label
    if not known:
        hint = "the operands have no labels"
    elif other != label and other in known:
        hint = f"labels are case-sensitive: the operands have {_quoted_label(other)}"
    else:
        hint = f"the operands have {_some(known)}"
    return EinsumError(
        compose(
            f"the output has label {_quoted_label(label)}, which no operand has",
            text,
            [item_span(text, span, item_texts(output), axis)],
            hint=hint,
        )
    )


def unordered_output(text: str, labels: Collection[Hashable]) -> EinsumError:
    """Explain that an implicit output needs labels that can be sorted."""
    return EinsumError(
        compose(
            f"an implicit output is sorted, but its labels cannot be: {_some(labels)}",
            text,
            hint="write the output's labels as the last argument",
        )
    )


def _some(labels: Collection[Hashable]) -> str:
    names = [_quoted_label(label) for label, _ in zip(labels, range(8), strict=False)]
    return ", ".join(names) + (", ..." if len(labels) > len(names) else "")


def _quoted_label(label: Hashable) -> str:
    name = label_name(label)
    return f"'{name}'" if isinstance(label, str) else name


# Reading sublists


def no_operands() -> EinsumError:
    """Explain that there is nothing to work on."""
    return EinsumError(
        "einsum needs subscripts and at least one operand, as in "
        "einsum('ij,jk->ik', a, b) or einsum(a, [0, 1], b, [1, 2], [0, 2])"
    )


def not_a_sublist(sublist: object, operand: int) -> str:
    """Explain that an object is no collection of labels; operand -1 is the output."""
    shape = getattr(sublist, "shape", None)
    kind = type(sublist).__name__
    if isinstance(shape, tuple):
        kind = f"{kind} of shape {shape_text(shape)} and dtype {getattr(sublist, 'dtype', None)}"
    hint = "leave an implicit output out" if sublist is None and operand < 0 else _SUBLIST_FORM
    return compose(f"the labels of {_owner(operand)} must be a list, not {kind}", hint=hint)


def sublist_label(problem: str, labels: tuple[object, ...], operand: int, axis: int) -> str:
    """Point at one label of a sublist."""
    # Its neighbours are enough to know it by, and spare rendering a very long list.
    start = max(axis - 40, 0)
    items = item_texts(labels[start : axis + 41])
    text = f"[{', '.join(items)}]"
    return compose(
        f"{problem} (label {axis} of {_owner(operand)})",
        text,
        [item_span(text, (0, len(text)), items, axis - start)],
        hint=None if labels[axis] is ... else _SUBLIST_LABELS,
    )


def item_texts(term: Sequence[object]) -> list[str]:
    """Write each item of a term, a label or the ellipsis, as rendered sublists show it."""
    return ["..." if item is ... else label_name(item) for item in term]


def _owner(operand: int) -> str:
    return "the output" if operand < 0 else f"operand {operand}"


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
    if last and not subscripts.explicit and len(text) <= _LONGEST_GUESS:
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
