"""Source of a nest's kernel: a thread, or some that share a sum, for each result or vector of them.

What lies beyond the last item is clipped to it, computed again and not stored.
"""

from __future__ import annotations

from .forms import THREADS, NestForm
from .naming import (
    Parameter,
    address,
    divided,
    indented,
    operand_name,
    size_name,
    steps,
    unravelled,
)

UNROLL = 4  # terms that a thread asks for at once


def groups(form: NestForm) -> tuple[range, range]:
    """Return the loops of the items and those of the terms."""
    return range(form.outputs), range(form.outputs, form.rank)


def parameters(form: NestForm) -> list[Parameter]:
    """Return name and kind of each argument, as `codegen.parameters`."""
    items, terms = groups(form)
    names = ["items", *(["terms", "chunk"] if terms else [])]
    for loops in (items, terms):
        for loop in loops[1:]:
            names += divided(size_name(form, loop))
    return [
        *[(operand_name(form, op), "pointer") for op in range(form.nin + 1)],
        *[(name, "index") for name in names],
        *steps(form, range(form.nin + (not form.partial))),
        *([("span", "count")] if terms else []),
    ]


def terms(form: NestForm) -> range:
    """Return the summed loops."""
    return groups(form)[1]


def _product(factors: list[str]) -> str:
    if not factors:
        return "zero(out)"
    return " * ".join([f"load({factor})" for factor in factors])


def body(form: NestForm) -> list[str]:
    """Return the lines of the kernel."""
    items, terms = groups(form)
    bits = form.parts.bit_length() - 1
    if form.along == "items":
        place = [f"column = thread(items) & {form.columns - 1}"]
        place += [f"part = thread(items) >> {form.columns.bit_length() - 1}"]
    else:
        place = [f"column = thread(items) >> {bits}", f"part = thread(items) & {form.parts - 1}"]
    if form.parts == 1:
        place = ["column = thread(items)"]
    lines = [
        *place,
        f"item = block_x(items) * {form.columns} + column",
        "live = item < items",
        "at = clipped(item, items)",
        *unravelled(form, "at", items),
    ]
    bases = [operand_name(form, op) for op in range(form.nin)]
    if terms:
        for op in range(form.nin):
            moved = address(form, op, bases[op], items)
            if moved != bases[op]:
                lines.append(f"{bases[op]}_at = {moved}")
                bases[op] += "_at"
        lines += _sum(form, bases, terms)
    else:
        factors = [address(form, op, bases[op], items) for op in range(form.nin)]
        lines.append(f"total = {_product(factors)}")
    return [*lines, *_result(form, items)]


def _sum(form: NestForm, bases: list[str], terms: range) -> list[str]:
    """Return the lines that leave in ``total`` what the thread sums, and the block after it."""
    part = " + part" if form.parts > 1 else ""
    widest = max(range(form.nin), key=lambda op: form.vectors[op])
    factors = [address(form, op, bases[op], terms) for op in range(form.nin)]
    body = [
        "term = first + (s + u)",
        "of = clipped(term, terms)",
        *unravelled(form, "of", terms),
        f"total = total + kept({_product(factors)}, term < upto)",
    ]
    lines = [
        f"first = block_y(items) * chunk{part}",
        "upto = smaller(block_y(items) * chunk + chunk, terms)",
        f"total = zero({operand_name(form, widest)})",
        f"for s in range(0, span, {UNROLL * form.parts}):",
        f"    for u in range(0, {UNROLL * form.parts}, {form.parts}):",
        *indented(indented(body)),
    ]
    if form.along == "terms" and form.lanes > 1:
        lines.append("total = folded(total)")
    return [*lines, *_block_sum(form)] if form.parts > 1 else lines


def _block_sum(form: NestForm) -> list[str]:
    """Return the lines that add what the threads of a block have of one sum, in a fixed order."""
    apart = form.columns if form.along == "items" else 1
    distance = "half" if apart == 1 else f"half * {apart}"
    return [
        "shared = shelf(total, 0)",
        f"half = {form.parts // 2}",
        "while half:",
        "    put(shared, thread(items), total)",
        "    barrier()",
        f"    other = get(shared, (thread(items) + {distance}) & {THREADS - 1})",
        "    total = total + kept(other, part < half)",
        "    barrier()",
        "    half = half >> 1",
    ]


def _result(form: NestForm, items: range) -> list[str]:
    if form.partial:
        where = f"out + (block_y(items) * items + at) * {form.alignment[-1]}"
    else:
        where = address(form, form.nin, "out", items)
    flag = "live & (part < 1)" if form.parts > 1 else "live"
    return [f"store({where}, total, {flag})"]
