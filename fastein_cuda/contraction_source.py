"""Source of a contraction's kernel.

A block computes one tile of the result. Tables in shared memory say how far each row, column and
term is from the operands' first element. Each stage of the operands is copied asynchronously
while earlier ones are multiplied::

    wait for the oldest stage; barrier
    start copying a new one into the place of the one multiplied last
    multiply the oldest

Terms beyond the end are copied as zeros, lines beyond an edge as the first line, which is not
stored. The tables of the terms hold two times as many as the block has threads: the next ones
are written while the last ones are in use.
"""

from __future__ import annotations

from .elements import ELEMENTS
from .forms import THREADS, ContractionForm
from .naming import (
    Parameter,
    address,
    divided,
    indented,
    offset,
    size_name,
    steps,
    unravelled,
)
from .tile import COLUMNS, ROWS

GROUPS = ("batch", "rows", "columns", "terms")
OPERANDS = ("a", "b")
LINES = ("rows", "columns")


def groups(form: ContractionForm) -> dict[str, range]:
    """Return the loops of each group."""
    found = {}
    first = 0
    for name, count in zip(GROUPS, form.axes, strict=True):
        found[name] = range(first, first + count)
        first += count
    return found


def parameters(form: ContractionForm) -> list[Parameter]:
    """Return name and kind of each argument, as `codegen.parameters`."""
    names = ["batches", *GROUPS[1:], "chunk"]
    for divisor in ("group_size", "height", "row_tiles"):
        names += divided(divisor)
    for loops in groups(form).values():
        for loop in loops[1:]:
            names += divided(size_name(form, loop))
    return [
        *[(name, "pointer") for name in (*OPERANDS, "out")],
        *[(name, "index") for name in names],
        *steps(form, range(2 if form.partial else 3)),
        ("span", "count"),
    ]


def terms(form: ContractionForm) -> range:
    """Return the summed loops."""
    return groups(form)["terms"]


def body(form: ContractionForm) -> list[str]:
    """Return the lines of the kernel."""
    return [
        *_place(form),
        *_line_tables(form),
        *_term_tables(form),
        *_main_loop(form),
        "write(sums, out_at, rows_out, columns_out, rows - row_from, columns - column_from)",
    ]


def _place(form: ContractionForm) -> list[str]:
    """Return lines that tell which tile the block computes, and where its batch begins."""
    batch = groups(form)["batch"]
    lines = [
        "me = thread(rows)",
        f"group = quotient(block_x(rows), {', '.join(divided('group_size'))})",
        "within = block_x(rows) - group * group_size",
        f"across = quotient(within, {', '.join(divided('height'))})",
        "down = group * height + within - across * height",
        f"of = quotient(down, {', '.join(divided('row_tiles'))})",
        f"row_from = (down - of * row_tiles) * {form.tile.rows}",
        f"column_from = across * {form.tile.columns}",
        "first = block_y(rows) * chunk",
        "upto = smaller(terms - first, chunk)",
        *unravelled(form, "of", batch),
        *[f"{name}_at = {address(form, op, name, batch)}" for op, name in enumerate(OPERANDS)],
    ]
    if form.partial:
        itemsize = ELEMENTS[form.stored[2]].itemsize
        offset_of = f"((block_y(rows) * batches + of) * rows * columns) * {itemsize}"
        return [*lines, f"out_at = out + {offset_of}"]
    return [*lines, f"out_at = {address(form, 2, 'out', batch)}"]


def _line_tables(form: ContractionForm) -> list[str]:
    """Return lines that write how far the tile's rows and columns are apart."""
    lines = []
    for side, (name, operand) in enumerate(zip(LINES, OPERANDS, strict=True)):
        loops = groups(form)[name]
        itemsize = ELEMENTS[form.stored[2]].itemsize
        in_output = offset(form, 2, loops)
        if form.partial:
            in_output = f"line * columns * {itemsize}" if side == ROWS else f"line * {itemsize}"
        lines += [
            f"line = {('row_from', 'column_from')[side]} + me",
            *unravelled(form, "line", loops),
            f"{name}_{operand} = shelf(rows, {_table(form, side)})",
            f"put({name}_{operand}, me, kept({offset(form, side, loops)}, line < {name}))",
            f"{name}_out = shelf(rows, {_table(form, 2 + side)})",
            f"put({name}_out, me, kept({in_output}, line < {name}))",
        ]
    return lines


def _term_tables(form: ContractionForm) -> list[str]:
    return [
        f"terms_a = shelf(rows, {_table(form, 4)})",
        f"terms_b = shelf(rows, {_table(form, 6)})",
        *_terms(form, "0"),
    ]


def _terms(form: ContractionForm, first: str) -> list[str]:
    """Return lines that write the offsets of as many terms as the block has threads."""
    loops = groups(form)["terms"]
    return [
        f"near = me + {first}",
        "term = first + near",
        *unravelled(form, "term", loops),
        *[
            f"put(terms_{name}, near & {2 * THREADS - 1}, "
            f"kept({offset(form, op, loops)}, term < terms))"
            for op, name in enumerate(OPERANDS)
        ],
    ]


def _table(form: ContractionForm, number: int) -> int:
    """Return where a table begins in shared memory."""
    return number * THREADS * form.slot


def _main_loop(form: ContractionForm) -> list[str]:
    tile = form.tile
    ahead = tile.stages - 1
    fills = THREADS // tile.depth  # stages for which one filling of the tables is enough
    return [
        "sums = nothing()",
        "for t in range(span):",
        *indented(
            [
                f"wait({tile.stages - 2})",
                "barrier()",
                f"into = {form.tables} + (t % {tile.stages}) * {tile.stage}",
                f"begin = t * {tile.depth}",
                *_copies(form, ROWS),
                *_copies(form, COLUMNS),
                "commit()",
                f"if t % {fills} == 0:",
                *indented(_terms(form, f"(begin + {THREADS})")),
                f"if t >= {ahead}:",
                f"    done = {form.tables} + ((t - {ahead}) % {tile.stages}) * {tile.stage}",
                "    sums = multiply(sums, done)",
            ]
        ),
    ]


def _copies(form: ContractionForm, side: int) -> list[str]:
    """Return the loop in which all threads copy one side of a stage.

    What a thread copies next lies a fixed number of lines (or terms) further: the compiler then
    keeps one address for all of them.
    """
    tile = form.tile
    lanes, name, lines = tile.lanes[side], OPERANDS[side], LINES[side]
    if tile.along[side] == "terms":
        inner, outer, names = tile.depth // lanes, tile.extent[side], ("term", "line")
    else:
        inner, outer, names = tile.extent[side] // lanes, tile.depth, ("line", "term")
    line, term = tile.place(side, 1, 0), tile.place(side, 0, 1)
    part = tile.part(ROWS) if side == COLUMNS else 0
    source = f"get({lines}_{name}, line) + get(terms_{name}, (term + begin) & {2 * THREADS - 1})"
    return [
        f"for u in range(0, {outer}, {THREADS // inner}):",
        f"    {names[0]} = (me & {inner - 1}) * {lanes}",
        f"    {names[1]} = (me >> {inner.bit_length() - 1}) + u",
        f"    place = line * {line} + term * {term} + (into + {part})",
        f"    copy(place, {name}_at + ({source}), term + begin < upto)",
    ]
