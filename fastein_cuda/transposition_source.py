"""Source of a kernel that turns tiles of its operands round in shared memory.

The staged operands are read along y, along which they lie, and the output is written along x. What
lies beyond an edge is clipped to it, read again and not stored.
"""

from __future__ import annotations

from .forms import THREADS, TranspositionForm
from .naming import Parameter, address, divided, operand_name, size_name, steps, unravelled

ROW = 32  # threads side by side


def parameters(form: TranspositionForm) -> list[Parameter]:
    """Return name and kind of each argument, as `codegen.parameters`."""
    names = ["X", "Y", *divided("x_tiles"), *divided("y_tiles")]
    for loop in range(1, form.rank - 2):
        names += divided(size_name(form, loop))
    return [
        *[(operand_name(form, op), "pointer") for op in range(form.nin + 1)],
        *[(name, "index") for name in names],
        *steps(form, range(form.nin + 1)),
    ]


def terms(form: TranspositionForm) -> range:
    """Return the summed loops: none."""
    return range(0)


def body(form: TranspositionForm) -> list[str]:
    """Return the lines of the kernel."""
    edge, pitch, rows = form.edge, form.pitch, THREADS // ROW
    outer = range(form.rank - 2)
    inner = range(form.rank - 2, form.rank)
    lines = [
        f"lane = thread(X) & {ROW - 1}",
        f"row = thread(X) >> {ROW.bit_length() - 1}",
        f"tile_y = quotient(block_x(X), {', '.join(divided('x_tiles'))})",
        f"x_from = (block_x(X) - tile_y * x_tiles) * {edge}",
        f"at = quotient(tile_y, {', '.join(divided('y_tiles'))})",
        f"y_from = (tile_y - at * y_tiles) * {edge}",
        *unravelled(form, "at", outer),
    ]
    bases = [operand_name(form, op) for op in range(form.nin + 1)]
    for op in range(form.nin + 1):
        moved = address(form, op, bases[op], outer)
        if moved != bases[op]:
            lines.append(f"{bases[op]}_at = {moved}")
            bases[op] += "_at"
    staged = [op for op in range(form.nin) if form.staged[op]]
    slots = {op: number * edge * pitch for number, op in enumerate(staged)}
    lines += [
        f"shared = shelf(zero({bases[staged[0]]}), 0)",
        f"for r in range(0, {edge}, {rows}):",
        f"    for s in range(0, {edge}, {ROW}):",
        "        x = clipped(x_from + row + r, X)",
        "        y = clipped(y_from + lane + s, Y)",
        *[
            f"        put(shared, (row + r) * {pitch} + lane + {_plus(slots[op])}s, "
            f"load({address(form, op, bases[op], inner)}))"
            for op in staged
        ],
        "barrier()",
    ]
    factors = [
        f"get(shared, (lane + s) * {pitch} + row + {_plus(slots[op])}r)"
        if form.staged[op]
        else f"load({address(form, op, bases[op], inner)})"
        for op in range(form.nin)
    ]
    return [
        *lines,
        f"for r in range(0, {edge}, {rows}):",
        f"    for s in range(0, {edge}, {ROW}):",
        "        live = (x_from + lane + s < X) & (y_from + row + r < Y)",
        "        x = clipped(x_from + lane + s, X)",
        "        y = clipped(y_from + row + r, Y)",
        f"        product = {' * '.join(factors)}",
        f"        store({address(form, form.nin, bases[form.nin], inner)}, product, live)",
    ]


def _plus(number: int) -> str:
    return f"{number} + " if number else ""
