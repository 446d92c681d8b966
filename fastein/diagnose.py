"""Diagnose: every message about subscripts (for operands that do not fit them, see `misfits`).

The parser finds out *that* something is wrong, in loops made for the good case; what to tell the
user about it is worked out here. Each function returns the exception to raise, or its text where
the caller chooses between EinsumError and TypeError.
"""

from __future__ import annotations

from .errors import (
    EinsumError,
    compose,
    item_span,
    label_name,
    quoted,
    shape_text,
)

TYPE_CHECKING = False  # as in fastein.errors
if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Sequence

    Shapes = Sequence[tuple[int, ...]]
    Span = tuple[int, int]

_LABELS = "a label is a letter, a digit or any character beyond ASCII"
_SUBLIST_LABELS = "a label is an integer >= 0, or anything hashable that is no number"
_SUBLIST_FORM = (
    "without a subscripts string in front, the arguments are read as "
    "operand, labels, operand, labels, ..., [output labels]"
)
LONGEST_GUESS = 60  # characters of an equation that is repeated with its mistake corrected


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
    if "-" in rest or ">" in rest or len(text) > LONGEST_GUESS:
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
