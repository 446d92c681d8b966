"""Source of a kernel for many items of small loops.

A block copies what its items have of each operand into shared memory, in whichever order lets
neighbouring threads read neighbouring memory; `compute` multiplies, one thread or some for each
item; the results go back the same way::

    copy the operands; wait; barrier
    compute; barrier
    store the results

Items beyond the last are copied as zeros and not stored.
"""

from __future__ import annotations

from .forms import THREADS, TinyForm
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


def _loops(form: TinyForm, op: int) -> list[int]:
    """Return the small loops along which an operand moves, counted among all."""
    return [form.batch + loop for loop in form.small(op)]


def _spread(form: TinyForm) -> list[int]:
    """Return the operands that are not copied as they lie."""
    return [op for op in range(form.nin + 1) if form.blocks[op].mode != "run"]


def parameters(form: TinyForm) -> list[Parameter]:
    """Return name and kind of each argument, as `codegen.parameters`."""
    spread = _spread(form)
    names = ["items"]
    moved: list[Parameter] = []
    for op in range(form.nin + 1):
        name = operand_name(form, op)
        if op in spread:
            names += [f"{name}_block"]
            continue
        moved.append((f"{name}_step", "offset"))
        names += [f"{name}_all", *(["out_slots"] if op == form.nin else [])]
        if form.blocks[op].padded:
            names += divided(f"{name}_block")
    needed = {loop for op in spread for loop in _loops(form, op)[1:]}
    if any(form.blocks[op].mode == "spread" for op in spread):
        needed |= set(range(1, form.batch))
    for loop in sorted(needed):
        names += divided(size_name(form, loop))
    return [
        *[(operand_name(form, op), "pointer") for op in range(form.nin + 1)],
        *[(name, "index") for name in names],
        *moved,
        *steps(form, spread),
    ]


def terms(form: TinyForm) -> range:
    """Return the summed loops."""
    return range(form.batch + form.outputs, form.rank)


def body(form: TinyForm) -> list[str]:
    """Return the lines of the kernel."""
    return [
        *_place(form),
        *[line for op in range(form.nin) for line in _copied(form, op)],
        "commit()",
        "wait(0)",
        "barrier()",
        f"slots = shelf(zero(out), {form.begin(form.nin)})",
        "compute(slots, item, part)",
        "barrier()",
        *_stored(form),
    ]


def _place(form: TinyForm) -> list[str]:
    """Return lines that tell which items the block has, and which one the thread."""
    lines = [
        "me = thread(items)",
        f"item = me & {form.items - 1}",
        f"part = me >> {form.items.bit_length() - 1}",
    ]
    if _spread(form):
        lines.append(f"first = block_x(items) * {form.items}")
    if any(form.blocks[op].mode == "spread" for op in _spread(form)):
        lines.append("at = clipped(first + item, items)")
        lines += unravelled(form, "at", range(form.batch))
    return lines


def _copied(form: TinyForm, op: int) -> list[str]:
    """Return lines that copy an operand's part into shared memory."""
    return (_copied_run if form.blocks[op].mode == "run" else _copied_apart)(form, op)


def _copied_run(form: TinyForm, op: int) -> list[str]:
    """Return lines that copy vectors as they lie."""
    block, name, itemsize = form.blocks[op], operand_name(form, op), form.itemsize(op)
    vectors, nbytes = form.items * block.count // block.lanes, block.lanes * itemsize
    place = [f"place = (me + u) * {nbytes} + {form.begin(op)}"]
    if block.padded:
        place = [
            f"of = quotient(me + u, {', '.join(divided(f'{name}_block'))})",
            f"vector = me + u - of * {name}_block",
            f"place = of * {block.pitch * itemsize} + vector * {nbytes} + {form.begin(op)}",
        ]
    return [
        f"{name}_from = block_x(items) * {vectors} + me",
        f"for u in range(0, {vectors}, {THREADS}):",
        *indented(place),
        f"    there = {name} + clipped({name}_from + u, {name}_all) * {name}_step",
        f"    copy(place, there, {name}_from + u < {name}_all)",
    ]


def _copied_apart(form: TinyForm, op: int) -> list[str]:
    """Return lines that copy elements one by one: of the thread's item, or those of all items."""
    block, name, itemsize = form.blocks[op], operand_name(form, op), form.itemsize(op)
    single = block.mode == "single"
    start = name if single else f"{name}_at"
    place = f"element * {itemsize} + {form.begin(op)}"
    if not single:
        place = f"item * {block.pitch * itemsize} + {place}"
    lines = [
        f"for u in range(0, {block.count}, {THREADS if single else form.share}):",
        *indented(_element(form, op, "me + u" if single else "part + u")),
        f"    there = {address(form, op, start, _loops(form, op))}",
        f"    copy({place}, there, first{'' if single else ' + item'} < items)",
    ]
    return lines if single else [f"{start} = {address(form, op, name, range(form.batch))}", *lines]


def _element(form: TinyForm, op: int, number: str) -> list[str]:
    """Return lines that tell which element of an item a thread moves."""
    return [
        f"element = clipped({number}, {operand_name(form, op)}_block)",
        *unravelled(form, "element", _loops(form, op)),
    ]


def _stored(form: TinyForm) -> list[str]:
    """Return lines that store the results."""
    op, block = form.nin, form.blocks[-1]
    if block.mode == "run":
        slots = form.items * block.count
        slot = ["slot = clipped(me + u, out_slots)"]
        if block.padded:
            slot += [
                f"of = quotient(slot, {', '.join(divided('out_block'))})",
                f"slot = of * {block.pitch} + (slot - of * out_block)",
            ]
        return [
            f"out_from = block_x(items) * {slots} + me",
            f"for u in range(0, {slots}, {THREADS}):",
            *indented(slot),
            "    live = (me + u < out_slots) & (out_from + u < out_all)",
            "    store(out + (out_from + u) * out_step, get(slots, slot), live)",
        ]
    return [
        f"out_at = {address(form, op, 'out', range(form.batch))}",
        f"for u in range(0, {block.count}, {form.share}):",
        *indented(_element(form, op, "part + u")),
        "    live = (part + u < out_block) & (first + item < items)",
        f"    there = {address(form, op, 'out_at', _loops(form, op))}",
        f"    store(there, get(slots, item * {block.pitch} + element), live)",
    ]
