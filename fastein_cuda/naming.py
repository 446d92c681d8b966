"""Names in generated source, and the pieces of it that all families have in common.

Names are generated, never the user's labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .forms import Form, TranspositionForm

Parameter = tuple[str, str]
"""Name and kind of an argument: ``'pointer'``, ``'index'``, ``'offset'`` or ``'count'``."""


def loop_name(form: Form, loop: int) -> str:
    """Return the name of a loop's index."""
    if isinstance(form, TranspositionForm) and loop >= form.rank - 2:
        return "yx"[loop - form.rank + 2]
    letters = "ijklmnopq"
    return letters[loop] if form.rank <= len(letters) else f"i{loop}"


def operand_name(form: Form, op: int) -> str:
    """Return the name of an operand's address; the output is operand `nin`."""
    if op == form.nin:
        return "out"
    return "abcdefgh"[op] if form.nin <= 8 else f"a{op}"


def size_name(form: Form, loop: int) -> str:
    """Return the name of the parameter that is a loop's size."""
    name = loop_name(form, loop)
    return name.upper()


def step_name(form: Form, op: int, loop: int) -> str:
    """Return the name of the parameter that is an operand's stride along a loop."""
    return f"step_{operand_name(form, op)}{loop_name(form, loop)}"


def divided(name: str) -> list[str]:
    """Return the names of a number and of what divides by it: arguments of ``quotient``."""
    return [name, f"{name}_magic", f"{name}_shift"]


def steps(form: Form, operands: Iterable[int]) -> list[Parameter]:
    """Return the strides of some operands along the loops that move them."""
    return [
        (step_name(form, op, loop), "offset")
        for op in operands
        for loop in range(form.rank)
        if form.moves[op][loop] == "1"
    ]


def meaning(form: Form, terms: Iterable[int]) -> str:
    """Return what a kernel computes, as a formula."""

    def element(op: int) -> str:
        loops = [loop_name(form, n) for n, moves in enumerate(form.moves[op]) if moves == "1"]
        name = operand_name(form, op)
        return f"{name}[{','.join(loops)}]" if loops else name

    product = " * ".join(map(element, range(form.nin))) or "0"
    summed = ", ".join([loop_name(form, n) for n in terms])
    over = f"sum over {summed} of " if summed else ""
    kinds = " ".join(dict.fromkeys((*form.stored, form.arithmetic)))
    return f"{element(form.nin)} = {over}{product}   ({kinds})"


def unravelled(form: Form, number: str, loops: Sequence[int]) -> list[str]:
    """Return lines that tell the loops' indices from the number of an item or a term."""
    lines = []
    for loop in reversed(loops[1:]):
        size = size_name(form, loop)
        outer = f"{number}_{loop_name(form, loop)}"
        lines.append(f"{outer} = quotient({number}, {', '.join(divided(size))})")
        lines.append(f"{loop_name(form, loop)} = {number} - {outer} * {size}")
        number = outer
    if loops:
        lines.append(f"{loop_name(form, loops[0])} = {number}")
    return lines


def offset(form: Form, op: int, loops: Iterable[int]) -> str:
    """Return the expression of how far some loops move an operand, empty if they do not."""
    moving = [loop for loop in loops if form.moves[op][loop] == "1"]
    return " + ".join([f"{loop_name(form, n)} * {step_name(form, op, n)}" for n in moving])


def address(form: Form, op: int, start: str, loops: Iterable[int]) -> str:
    """Return the expression of an operand's address, moved from `start` along some loops."""
    moved = offset(form, op, loops)
    return f"{start} + ({moved})" if moved else start


def indented(lines: Iterable[str]) -> list[str]:
    """Return lines one level further in."""
    return [f"    {line}" for line in lines]
