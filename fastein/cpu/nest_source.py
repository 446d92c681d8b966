"""Source of the general CPU kernel: a loop nest as readable Python over typed primitives.

An address moves outwards as far as it can: ``a_i`` is where ``a`` stands in iteration ``i``, and
an operand that the inner loops do not move is read before them. In the rendered source a pointer
counts in bytes: ``a_i[j * step_aj]`` is the element ``j * step_aj`` bytes behind ``a_i``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .rendering import ITEMSIZE, assign, function, indent, joined, listing, wrap

if TYPE_CHECKING:
    from .codegen import Form

#: Terms whose sum is rounded as it is added up; what the sum of such parts loses is kept.
PART = 512

#: Blocks of such a part, where there are blocks: reading from memory leaves time for more parts.
BLOCKS = 4

LINE = 64
#: Bytes from what is read to what is asked for, in a single stream from memory. Sums of float64 by
#: two threads: 35.6 GB/s without, 39 to 41 with 1 to 4 KB.
AHEAD = 2048

#: Dtypes that processors gather. A dot product over a strided operand of these is vectorised by
#: ``gathered`` (44 to 18 us for 'ij,ji->' of 200x200 float64); maps and the others lose by it.
GATHERED = frozenset({"int32", "uint32", "int64", "uint64", "float32", "float64"})


ALONG = {
    "1": "contiguous",
    "2": "every second element",
    "3": "every third element",
    "4": "every fourth element",
    "s": "strided",
}


def render(form: Form) -> str:
    """Return the source of the kernel: one function, ``nest``, in the ABI's parameters."""
    assert not (form.written == "float16" and form.accumulates), (
        "float16 rounds once: its summed loops must be innermost"
    )
    notes = _strides(form)
    body = [*_prologue(form), *([""] if form.rank else []), *_level(form, 0)]
    if form.streams:
        notes.append("out is written past the caches")
        body.append("fence()")
    return function(form.heading(notes), body)


# Names. They are generated, never the user's labels.


def _total(row: int) -> str:
    return f"total{row}" if row else "total"


def _at(form: Form, op: int, loops: list[int], row: int = 0) -> str:
    """Name operand `op` within `loops`: a pointer, or its element once all its loops are in."""
    subscripts = [form.loop(depth) for depth in loops]
    glue = "" if all(len(name) == 1 for name in subscripts) else "_"
    name = "_".join([form.operand(op), *([glue.join(subscripts)] if subscripts else [])])
    return f"{name}{row}" if row and form.jammed in loops else name


def _offset(form: Form, op: int, depth: int, row: int = 0) -> str:
    kind = form.access[op][depth]
    itemsize = ITEMSIZE[form.written if op == form.nin else form.dtype]
    step = form.step(op, depth) if kind == "s" else str(int(kind) * itemsize)
    index = form.loop(depth)
    if row and depth == form.jammed:
        index = f"({index} + {row})"
    return index if step == "1" else f"{index} * {step}"


def _cell(form: Form, op: int, row: int = 0) -> str:
    """Return the subscript expression of the element that all loops of operand `op` lead to."""
    *outer, last = form.moves(op) or [-1]
    offset = _offset(form, op, last, row) if last >= 0 else "0"
    return f"{_at(form, op, outer, row)}[{offset}]"


# Pieces of the source, as lists of lines that their callers indent.


def _strides(form: Form) -> list[str]:
    """Say which operands the innermost loop reads contiguously and which by strides."""
    if not form.rank:
        return []
    groups = [
        f"{listing(names)} {word}"
        for kind, word in ALONG.items()
        if (names := [form.operand(op) for op, way in enumerate(form.access) if way[-1] == kind])
    ]
    return [f"along {form.loop(form.rank - 1)}: {', '.join(groups)}"] if groups else []


def _prologue(form: Form) -> list[str]:
    """Name the arguments: operands, sizes, steps."""
    lines = []
    for op in range(form.nin):
        # An operand that no loop moves is one number.
        element = "" if form.moves(op) else "[0]"
        lines.append(f"{form.operand(op)} = operand(data, {op}, {form.dtype}){element}")
    lines.append(f"out = output(data, {form.nin}, {form.written})")
    inner = [depth for depth in range(form.rank) if depth != form.shared]
    lines += assign({form.loop(depth).upper(): f"shape[{depth}]" for depth in inner})
    for op, access in enumerate(form.access):
        steps = {
            form.step(op, depth): _stride(form, op, depth)
            for depth, kind in enumerate(access)
            if kind == "s"
        }
        lines += assign(steps)
    return lines


def _stride(form: Form, op: int, depth: int) -> str:
    stride = f"strides[{op * form.rank + depth}]"
    along = form.dtype in GATHERED and depth == form.rank - 1 and form.summed[depth]
    return f"gathered({stride})" if along else stride


def _level(form: Form, depth: int) -> list[str]:
    """Return the loops from `depth` inwards, with what goes before and after them."""
    if depth == form.trailing < form.rank:
        return _sum(form)
    if depth == form.rank:
        return wrap(f"{_cell(form, form.nin)} {_store(form)}", _product(form))
    if form.streams and depth == form.rank - 1:
        return _streamed(form, depth)
    loops = _jam(form, depth) if depth == form.jammed else _around(form, depth)
    if form.accumulates and depth == form.summed.index(True):
        return [*_fill(form, depth + 1), *loops]
    return loops


def _store(form: Form) -> str:
    return "+=" if form.accumulates else "="


def _around(form: Form, depth: int, span: str = "") -> list[str]:
    """Return loop `depth` around everything inside it."""
    body = [*_enter(form, depth, range(form.nin + 1)), *_level(form, depth + 1)]
    return _for(form, depth, body, span)


def _streamed(form: Form, depth: int) -> list[str]:
    """Return the innermost loop of a map by whole vectors, and by elements before and after them.

    Only a vector that fills its place in memory, aligned, can be written past the caches.
    """
    loop, (start, stop), lanes = form.loop(depth), _bounds(form, depth), form.streams
    moving = [op for op in range(form.nin) if form.access[op][depth] == "1"]
    where = {op: _at(form, op, form.moves(op)[:-1]) for op in (*moving, form.nin)}
    item, out = ITEMSIZE[form.dtype], where[form.nin]
    first = out if start == "0" else f"{out} + {start} * {item}"
    length = stop if start == "0" else f"{stop} - {start}"
    factors = _product(form)
    vectors = [
        f"{where[op]}_s[{loop} * {item}]" if op in moving else factor
        for op, factor in enumerate(factors)
    ]
    single = wrap(f"{_cell(form, form.nin)} =", factors)
    lead = f"lead({first}, {length}, {lanes})"
    return [
        *(f"{where[op]}_s = wide({where[op]}, {lanes})" for op in moving),
        f"head = {lead if start == '0' else f'{start} + {lead}'}",
        f"whole = head + ({stop} - head) // {lanes} * {lanes}",
        *_for(form, depth, single, f"range({start}, head)"),
        f"for {loop} in range(head, whole, {lanes}):",
        *indent([f"stream({out}, {loop} * {item}, {' * '.join(vectors)})"]),
        *_for(form, depth, single, f"range(whole, {stop})"),
    ]


def _sum(form: Form, rows: Iterable[int] = (0,)) -> list[str]:
    """Return the trailing run of summed loops, several rows at a time, and the stores after it."""
    totals = [_total(row) for row in rows]
    zeros = [f"{total} = zero({form.dtype})" for total in totals]
    values, after = totals, []
    *outer, last = range(form.trailing, form.rank)
    if form.long:
        zeros += [f"{_lost(total)} = zero({form.dtype})" for total in totals]
        values = [f"whole_sum({total}, {_lost(total)})" for total in totals]
        loops = _in_parts(form, last, rows)
    else:
        loops = _terms(form, last, rows, totals, *_bounds(form, last))
    if form.long and form.block:
        zeros += [f"{name} = zeros({form.dtype}, {form.block})" for name in ("totals", "losses")]
        loops = _in_vectors(form, last)
        after = ["total, lost = exact_across(totals, losses, total, lost)"]
    for depth in reversed(outer):
        enter = [x for row in rows for x in _enter(form, depth, range(form.nin), row)]
        loops = _for(form, depth, [*enter, *loops])
    stores = [
        f"{_cell(form, form.nin, row)} {_store(form)} {value}"
        for row, value in zip(rows, values, strict=True)
    ]
    return [*zeros, *loops, *after, *stores]


def part_terms(form: Form) -> int:
    """Return the terms of a part of a long sum."""
    return BLOCKS * form.block or PART


def _lost(total: str) -> str:
    return total.replace("total", "lost")


def _in_parts(form: Form, depth: int, rows: Iterable[int]) -> list[str]:
    """Return the innermost, long sum as one of parts, which keeps what each addition loses."""
    loop = form.loop(depth)
    start, stop = _bounds(form, depth)
    totals = [_total(row) for row in rows]
    parts = [total.replace("total", "part") for total in totals]
    zeros = [f"{part} = zero({form.dtype})" for part in parts]
    kept = [
        f"{total}, {_lost(total)} = exact_sum({total}, {_lost(total)}, {part})"
        for total, part in zip(totals, parts, strict=True)
    ]
    inner = _terms(form, depth, rows, parts, f"{loop}0", f"{loop}1")
    return _each_part(form, depth, start, stop, [*zeros, *inner, *kept])


def _each_part(form: Form, depth: int, start: str, stop: str, body: list[str]) -> list[str]:
    """Return a loop over the parts of a long sum, each from ``i0`` to ``i1``."""
    loop, terms = form.loop(depth), part_terms(form)
    # Numba's min would be a function of another module, and the kernel not one for the store
    end = f"{loop}1 = {loop}0 + {terms} if {loop}0 + {terms} < {stop} else {stop}"
    return [f"for {loop}0 in range({start}, {stop}, {terms}):", *indent([end, *body])]


def _in_vectors(form: Form, depth: int) -> list[str]:
    """Return the innermost, long sum by blocks: parts are vectors, which are added up as such."""
    loop = form.loop(depth)
    start, stop = _bounds(form, depth)
    body = [
        f"lanes = zeros({form.dtype}, {form.block})",
        *_block_loop(form, depth, f"{loop}0", f"{loop}1"),
        "totals, losses = exact_sum(totals, losses, lanes)",
    ]
    return [
        *_wide(form, depth),
        _whole(form, start, stop),
        *_each_part(form, depth, start, "whole", body),
        f"part = zero({form.dtype})",
        *_for(form, depth, wrap("part +=", _product(form)), f"range(whole, {stop})"),
        "total, lost = exact_sum(total, lost, part)",
    ]


def _terms(
    form: Form, depth: int, rows: Iterable[int], sums: list[str], start: str, stop: str
) -> list[str]:
    """Return the innermost loop from `start` to `stop`, which adds to the sums of some rows."""
    if form.block:
        (total,) = sums
        return _blocks(form, depth, total, start, stop)
    body = [
        line
        for row, total in zip(rows, sums, strict=True)
        for line in wrap(f"{total} +=", _product(form, row))
    ]
    return _for(form, depth, body, _range(start, stop))


def _blocks(form: Form, depth: int, total: str, start: str, stop: str) -> list[str]:
    """Return an innermost sum by blocks of some vectors, and by elements after them."""
    return [
        *_wide(form, depth),
        f"lanes = zeros({form.dtype}, {form.block})",
        _whole(form, start, stop),
        *_block_loop(form, depth, start, "whole"),
        f"{total} += across(lanes)",
        *_for(form, depth, wrap(f"{total} +=", _product(form)), f"range(whole, {stop})"),
    ]


def _whole(form: Form, start: str, stop: str) -> str:
    """Say where the last whole block ends."""
    if start == "0":
        return f"whole = {stop} // {form.block} * {form.block}"
    return f"whole = {start} + ({stop} - {start}) // {form.block} * {form.block}"


def _along(form: Form, depth: int) -> dict[int, str]:
    """Return where the operands stand that loop `depth`, the innermost, moves."""
    moving = [op for op in range(form.nin) if form.access[op][depth] == "1"]
    return {op: _at(form, op, form.moves(op)[:-1]) for op in moving}


def _wide(form: Form, depth: int) -> list[str]:
    return [f"{name}_s = wide({name}, {form.block})" for name in _along(form, depth).values()]


def _block_loop(form: Form, depth: int, start: str, stop: str) -> list[str]:
    """Return the loop over whole blocks, which are added to ``lanes``.

    Lines are asked for ahead: a processor foresees a stream only to where its page ends.
    """
    loop, block, item = form.loop(depth), form.block, ITEMSIZE[form.dtype]
    where = _along(form, depth)
    factors = [
        f"{where[op]}_s[{loop} * {item}]" if op in where else factor
        for op, factor in enumerate(_product(form))
    ]
    asked = [f"prefetch({name}, {loop} * {item} + line)" for name in where.values()]
    return [
        f"for {loop} in {_range(start, stop, block)}:",
        *indent(
            [
                f"for line in range({AHEAD}, {AHEAD + block * item}, {LINE}):",
                *indent(asked),
                *wrap("lanes +=", factors),
            ]
        ),
    ]


def _jam(form: Form, depth: int) -> list[str]:
    """Return loop `depth`, several of whose rows go into one pass, then its rows that are left."""
    start, stop = _bounds(form, depth)
    count = form.rows
    whole = f"{stop} // {count} * {count}"
    if start != "0":
        whole = f"{start} + ({stop} - {start}) // {count} * {count}"
    rows = range(count)
    operands = range(form.nin if form.summed[depth] else form.nin + 1)
    body = [line for row in rows for line in _enter(form, depth, operands, row)]
    if form.summed[depth]:
        products = [" * ".join(_product(form, row)) for row in rows]
        sums = [f"{_cell(form, form.nin)} += (", *indent(joined(products, " + ")), ")"]
        body += _for(form, depth + 1, sums)
    else:
        body += _sum(form, rows)
    return [
        f"whole = {whole}",
        *_for(form, depth, body, f"range({start}, whole, {count})"),
        *_around(form, depth, f"range(whole, {stop})"),
    ]


def _fill(form: Form, depth: int) -> list[str]:
    """Return the loops that zero the part of the output under loop `depth`."""
    if depth >= form.trailing:
        return [f"{_cell(form, form.nin)} = zero({form.dtype})"]
    if form.summed[depth]:
        return _fill(form, depth + 1)
    body = [*_enter(form, depth, [form.nin]), *_fill(form, depth + 1)]
    return _for(form, depth, body)


def _bounds(form: Form, depth: int) -> tuple[str, str]:
    return ("begin", "end") if depth == form.shared else ("0", form.loop(depth).upper())


def _for(form: Form, depth: int, body: list[str], span: str = "") -> list[str]:
    return [f"for {form.loop(depth)} in {span or _range(*_bounds(form, depth))}:", *indent(body)]


def _range(start: str, stop: str, step: int = 1) -> str:
    if step != 1:
        return f"range({start}, {stop}, {step})"
    return f"range({stop})" if start == "0" else f"range({start}, {stop})"


def _enter(form: Form, depth: int, operands: Iterable[int], row: int = 0) -> list[str]:
    """Return what loop `depth` fixes for the loops inside it: addresses and finished elements."""
    lines = []
    for op in operands:
        loops = form.moves(op)
        if depth not in loops:
            continue
        inner, here = loops[: loops.index(depth)], loops[: loops.index(depth) + 1]
        name, before = _at(form, op, here, row), _at(form, op, inner, row)
        if row and name == _at(form, op, here):
            continue  # the rows have it in common
        offset = _offset(form, op, depth, row)
        if here == loops:
            if op < form.nin and depth < form.rank - 1:
                lines.append(f"{name} = {before}[{offset}]")
        elif row and depth == form.jammed:
            lines.append(f"{name} = {_at(form, op, here, row - 1)} + {form.step(op, depth)}")
        else:
            lines.append(f"{name} = {before} + {offset}")
    return lines


def _product(form: Form, row: int = 0) -> list[str]:
    """Return the factors in order: an element read already, or the subscript that reads it."""

    def factor(op: int) -> str:
        loops = form.moves(op)
        inner = bool(loops) and loops[-1] == form.rank - 1
        return _cell(form, op, row) if inner else _at(form, op, loops, row)

    return [factor(op) for op in range(form.nin)]
