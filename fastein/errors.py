"""The one exception that fastein raises, and how its messages are composed.

A message is written for the person who made the mistake: what is wrong, the subscripts as they
wrote them with carets under the place, every operand with its term and shape, and a hint. The
input may be anything at all, so whatever is quoted is cut to a line and made printable first.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for its constant would cost more than this module
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

__all__ = [
    "EinsumError",
    "NoArrayError",
    "compose",
    "item_span",
    "label_name",
    "operand_lines",
    "printable",
    "quoted",
    "shape_text",
]

_INDENT = "    "
_LINE = 72  # columns of an equation that are shown at once
_NAME = 40  # characters of a label or a term that are shown in running text
_OPERANDS = 6  # operands that are listed before the rest is only counted


class EinsumError(ValueError):
    """The subscripts, the operands' shapes or an option do not make a valid einsum.

    Every ``ValueError`` that fastein raises is an ``EinsumError``. The message names the
    operands, labels and sizes at fault and points at the place in the subscripts.
    """


class NoArrayError(EinsumError):
    """An operand of which NumPy can make no array."""


def compose(
    problem: str,
    text: str | None = None,
    spans: Sequence[tuple[int, int]] = (),
    lines: Iterable[str] = (),
    hint: str | None = None,
) -> str:
    """Compose the message of an error.

    Parameters
    ----------
    problem : str
        What is wrong, in one line.
    text : str, optional
        The subscripts, quoted on a line of their own.
    spans : sequence of (start, stop)
        Places in `text` that get carets. A long text is cut to what surrounds the first.
    lines : iterable of str
        Further lines, such as those of `operand_lines`.
    hint : str, optional
        What to try instead.

    Returns
    -------
    str

    Examples
    --------
    >>> print(compose("'ij' has two labels", "ij,jk->ik", [(0, 2)], hint="use one"))
    'ij' has two labels
        'ij,jk->ik'
         ^^
    hint: use one
    """
    parts = [problem]
    if text is not None:
        parts += [_INDENT + line for line in _pointed(text, spans)]
    parts += [_INDENT + line for line in lines]
    if hint is not None:
        parts.append("hint: " + hint)
    return "\n".join(parts)


def operand_lines(count: int, line: Callable[[int], str], focus: Sequence[int] = ()) -> list[str]:
    """List operands one a line; of a long list only the first few and those in `focus`.

    Parameters
    ----------
    count : int
        How many operands there are.
    line : callable
        Gives what to say about the operand of a number.
    focus : sequence of int
        Operands that must be shown: those the error is about.

    Returns
    -------
    list of str
    """
    if count <= _OPERANDS:
        shown = list(range(count))
    else:
        room = max(_OPERANDS - len(focus), 1)
        shown = sorted({*range(room), *focus})
    lines = [f"operand {operand}: {line(operand)}" for operand in shown]
    if len(shown) < count:
        lines.append(f"and {count - len(shown)} more operands")
    return lines


def item_span(
    text: str, span: tuple[int, int], items: Sequence[str], number: int
) -> tuple[int, int]:
    """Find where one item of a term, a label or the ellipsis, stands in the subscripts.

    Parameters
    ----------
    text : str
        The subscripts: a string as the user wrote it, or rendered sublists.
    span : (start, stop)
        Where the term stands in `text`.
    items : sequence of str
        How each item of the term is written.
    number : int
        Which of the items to find.

    Returns
    -------
    start, stop : int
    """
    position = span[0]
    if text[:1] == "[":
        position += 1 + sum(len(item) + len(", ") for item in items[:number])
        return position, position + len(items[number])
    for item in items[: number + 1]:
        while text[position] == " ":
            position += 1
        width = len("...") if item == "..." else 1  # an escaped label is one character in `text`
        position += width
    return position - width, position


def label_name(label: Hashable) -> str:
    """Name a label in one short printable line.

    A string is its own name, so that ``'i'`` and a sublist's ``'batch'`` read as written.
    """
    if isinstance(label, str):
        return printable(label)
    try:
        return printable(repr(label))
    except Exception:  # a label's own __repr__, or an integer of more digits than Python prints
        return f"<{type(label).__name__}>"


def printable(text: str, limit: int = _NAME) -> str:
    """Escape what a terminal would not show one column wide; cut the middle past `limit`."""
    if text.isascii() and text.isprintable() and len(text) <= limit:
        return text
    if len(text) > limit:
        half = limit // 2
        return printable(text[:half]) + "…" + printable(text[-half:])
    return "".join([_visible(character) for character in text])


def quoted(text: str) -> str:
    """Put printable text between quotes; sublists, which print their own brackets, stay bare."""
    shown = printable(text)
    return shown if text[:1] == "[" else f"'{shown}'"


def shape_text(shape: Iterable[int]) -> str:
    """Write a shape as Python writes a tuple of ints, whatever integer type the sizes have."""
    sizes = [str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def _pointed(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Quote `text` on a line, cut to the surroundings of the first span, carets below it."""
    start, stop = _window(text, spans[0] if spans else (0, 0))
    cells = [_visible(character) for character in text[start:stop]]
    quote = "" if text[:1] == "[" else "'"
    left = quote if start == 0 else "…"
    right = quote if stop == len(text) else "…"
    marks = [" "] * len(left)
    for position, cell in enumerate(cells, start):
        marked = any(first <= position < last for first, last in spans)
        marks += ("^" if marked else " ") * len(cell)
    marks.append(" ")
    for first, last in spans:
        if first == last and start <= first <= stop:  # an empty term: the place where it stands
            marks[len(left) + sum(map(len, cells[: first - start]))] = "^"
    carets = "".join(marks).rstrip()
    line = left + "".join(cells) + right
    return [line, carets] if carets else [line]


def _window(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Choose the part of `text` to show: a line's worth, as much before the span as after it."""
    start = stop = min(span[0], len(text))
    room = _LINE
    while room > 0 and (start > 0 or stop < len(text)):
        if stop < len(text):
            room -= len(_visible(text[stop]))
            stop += 1
        if start > 0:
            start -= 1
            room -= len(_visible(text[start]))
    return start, stop


def _visible(character: str) -> str:
    """Show one character in a known number of columns: itself, or its escape sequence."""
    if " " <= character < "\x7f" or (character.isprintable() and _is_one_column(character)):
        return character
    return character.encode("unicode_escape").decode("ascii")


def _is_one_column(character: str) -> bool:
    """Tell whether a printable character takes one column and leaves its neighbours in place."""
    import unicodedata  # only for the message of an error

    return (
        unicodedata.east_asian_width(character) not in "WF"
        and not unicodedata.category(character).startswith("M")
        and unicodedata.bidirectional(character) not in ("R", "AL", "AN")
    )
