"""Source of the general GPU kernels: readable Python over typed primitives.

A form holds all that a kernel's source depends on; sizes, strides and the numbers that divide by
them are its arguments, so that one kernel serves every shape of a form. `render` writes the
source, `parameters` says in which order it takes its arguments. Both are pure.

All threads run in step: no branch and no loop depends on a thread's number. What lies beyond an
edge is clipped to the last item, computed again and not stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Goes into the key of every stored cubin: raise it when `render` or the primitives change.
VERSION = 1

THREADS = 256  # of a block
ROW = 32  # threads side by side in a tile

#: Names that generated source uses; `primitives` and `primitives_sim` have them all.
PRIMITIVES = (
    "barrier", "block_x", "block_y", "clipped", "folded", "get", "kept", "load", "put", "quotient",
    "shelf", "smaller", "store", "thread", "zero",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NestForm:
    """The static key of a nest's kernel.

    Attributes
    ----------
    stored : tuple of str
        Dtypes of the operands in memory; the output comes last.
    arithmetic : str
        Dtype of products and sums.
    outputs : int
        Number of output loops; the others are summed.
    moves : tuple of str
        Per operand one character per loop: ``'1'`` where it moves, ``'0'`` where it stands still.
    alignment : tuple of int
        Bytes at whose multiples each operand is read or written.
    lanes : int
        Neighbours that one instruction reads or writes.
    vectors : tuple of bool
        Which operands are read and written so.
    along : str
        ``'items'``: neighbouring threads have neighbouring results; ``'terms'``: they have
        neighbouring terms of one sum.
    parts : int
        Threads that share a sum.
    partial : bool
        Whether the output is the partial sums of a block.
    wide : bool
        Whether indices need 64 bits.
    """

    stored: tuple[str, ...]
    arithmetic: str
    outputs: int
    moves: tuple[str, ...]
    alignment: tuple[int, ...]
    lanes: int
    vectors: tuple[bool, ...]
    along: str
    parts: int
    partial: bool
    wide: bool

    @property
    def nin(self) -> int:
        """Number of inputs."""
        return len(self.stored) - 1

    @property
    def rank(self) -> int:
        """Number of loops."""
        return len(self.moves[0])

    @property
    def columns(self) -> int:
        """Results of one block."""
        return THREADS // self.parts


@dataclass(frozen=True, slots=True)
class TileForm:
    """The static key of a kernel that turns tiles round; the attributes are as in `NestForm`.

    Attributes
    ----------
    staged : tuple of bool
        Which inputs go through shared memory.
    edge : int
        Rows and columns of a tile.
    """

    stored: tuple[str, ...]
    arithmetic: str
    moves: tuple[str, ...]
    alignment: tuple[int, ...]
    staged: tuple[bool, ...]
    edge: int
    wide: bool

    @property
    def nin(self) -> int:
        """Number of inputs."""
        return len(self.stored) - 1

    @property
    def rank(self) -> int:
        """Number of loops."""
        return len(self.moves[0])

    @property
    def lanes(self) -> int:
        """Neighbours that one instruction reads or writes."""
        return 1

    @property
    def vectors(self) -> tuple[bool, ...]:
        """Which operands are read and written so: none."""
        return (False,) * len(self.stored)

    @property
    def pitch(self) -> int:
        """Slots from row to row in shared memory: one more than needed, for its banks' sake."""
        return self.edge + 1


Form = NestForm | TileForm


def render(form: Form) -> str:
    """Return the source of a form's kernel: one function, ``kernel``."""
    body = _nest(form) if isinstance(form, NestForm) else _tile(form)
    lines = [
        f"# {_meaning(form)}",
        f"def kernel({', '.join(name for name, _ in parameters(form))}):",
        *_indent(body),
    ]
    return "\n".join(lines) + "\n"


def parameters(form: Form) -> list[tuple[str, str]]:
    """Return name and kind of each argument: ``'pointer'``, ``'index'`` or ``'count'``.

    The pointers come first, one per operand. Counts bound loops, and are of 64 bits always.
    """
    pointers = [(_operand(form, op), "pointer") for op in range(form.nin + 1)]
    names = (
        ["items"] if isinstance(form, NestForm) else ["X", "Y", "x_tiles", *_division("x_tiles")]
    )
    if isinstance(form, TileForm):
        names += ["y_tiles", *_division("y_tiles")]
    groups = _groups(form)
    for group in groups:
        for loop in group[1:]:
            names += [size_name(form, loop), *_division(size_name(form, loop))]
    names += [
        step_name(form, op, loop)
        for op in range(form.nin + 1)
        for loop in range(form.rank)
        if _reads_step(form, op, loop)
    ]
    if isinstance(form, NestForm) and form.outputs < form.rank:
        return [*pointers, *_of_kind(["terms", "chunk", *names], "index"), ("span", "count")]
    return [*pointers, *_of_kind(names, "index")]


def _of_kind(names: list[str], kind: str) -> list[tuple[str, str]]:
    return [(name, kind) for name in names]


def _groups(form: Form) -> tuple[range, ...]:
    """Return the loops that one number counts through: the items', the terms'."""
    if isinstance(form, TileForm):
        return (range(form.rank - 2),)
    return range(form.outputs), range(form.outputs, form.rank)


def _reads_step(form: Form, op: int, loop: int) -> bool:
    if isinstance(form, NestForm) and form.partial and op == form.nin:
        return False
    return form.moves[op][loop] == "1"


# Names. They are generated, never the user's labels.


def _loop(form: Form, loop: int) -> str:
    if isinstance(form, TileForm) and loop >= form.rank - 2:
        return "yx"[loop - form.rank + 2]
    letters = "ijklmnopq"
    return letters[loop] if form.rank <= len(letters) else f"i{loop}"


def _operand(form: Form, op: int) -> str:
    if op == form.nin:
        return "out"
    return "abcdefgh"[op] if form.nin <= 8 else f"a{op}"


def size_name(form: Form, loop: int) -> str:
    """Return the name of the parameter that is a loop's size."""
    return _loop(form, loop).upper()


def _division(name: str) -> list[str]:
    return [f"{name}_magic", f"{name}_shift"]


def step_name(form: Form, op: int, loop: int) -> str:
    """Return the name of the parameter that is an operand's stride along a loop."""
    return f"step_{_operand(form, op)}{_loop(form, loop)}"


# Pieces of the source, as lines that their callers indent.


def _meaning(form: Form) -> str:
    def element(op: int) -> str:
        loops = [_loop(form, n) for n, moves in enumerate(form.moves[op]) if moves == "1"]
        return f"{_operand(form, op)}[{','.join(loops)}]" if loops else _operand(form, op)

    product = " * ".join(map(element, range(form.nin)))
    summed = []
    if isinstance(form, NestForm):
        summed = [_loop(form, n) for n in range(form.outputs, form.rank)]
    over = f"sum over {', '.join(summed)} of " if summed else ""
    kinds = " ".join(dict.fromkeys((*form.stored, form.arithmetic)))
    return f"{element(form.nin)} = {over}{product}   ({kinds})"


def _unravel(form: Form, number: str, loops: range) -> list[str]:
    """Return lines that tell the loops' indices from the number of an item or a term."""
    lines = []
    for loop in reversed(loops[1:]):
        size = size_name(form, loop)
        outer = f"{number}_{_loop(form, loop)}"
        lines.append(f"{outer} = quotient({number}, {', '.join([size, *_division(size)])})")
        lines.append(f"{_loop(form, loop)} = {number} - {outer} * {size}")
        number = outer
    if loops:
        lines.append(f"{_loop(form, loops[0])} = {number}")
    return lines


def _address(form: Form, op: int, start: str, loops: Iterable[int]) -> str:
    """Return the expression of an operand's address, moved from `start` along some loops."""
    moving = [loop for loop in loops if form.moves[op][loop] == "1"]
    offset = " + ".join([f"{_loop(form, n)} * {step_name(form, op, n)}" for n in moving])
    return f"{start} + ({offset})" if moving else start


def _product(factors: list[str]) -> str:
    if not factors:
        return "zero(out)"
    return " * ".join([f"load({factor})" for factor in factors])


def _nest(form: NestForm) -> list[str]:
    items, terms = _groups(form)
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
        *_unravel(form, "at", items),
    ]
    bases = [_operand(form, op) for op in range(form.nin)]
    if terms:
        for op in range(form.nin):
            moved = _address(form, op, bases[op], items)
            if moved != bases[op]:
                lines.append(f"{bases[op]}_at = {moved}")
                bases[op] += "_at"
        lines += _sum(form, bases, terms)
    else:
        factors = [_address(form, op, bases[op], items) for op in range(form.nin)]
        lines.append(f"total = {_product(factors)}")
    return [*lines, *_result(form, items)]


def _sum(form: NestForm, bases: list[str], terms: range) -> list[str]:
    """Return the lines that leave in ``total`` what the thread sums, and the block after it."""
    part = " + part" if form.parts > 1 else ""
    widest = max(range(form.nin), key=lambda op: form.vectors[op])
    factors = [_address(form, op, bases[op], terms) for op in range(form.nin)]
    body = [
        "term = first + (s + u)",
        "of = clipped(term, terms)",
        *_unravel(form, "of", terms),
        f"total = total + kept({_product(factors)}, term < upto)",
    ]
    lines = [
        f"first = block_y(items) * chunk{part}",
        "upto = smaller(block_y(items) * chunk + chunk, terms)",
        f"total = zero({_operand(form, widest)})",
        f"for s in range(0, span, {4 * form.parts}):",
        f"    for u in range(0, {4 * form.parts}, {form.parts}):",
        *_indent(_indent(body)),
    ]
    if form.along == "terms" and form.lanes > 1:
        lines.append("total = folded(total)")
    return [*lines, *_block_sum(form)] if form.parts > 1 else lines


def _block_sum(form: NestForm) -> list[str]:
    """Return the lines that add what the threads of a block have of one sum, in a fixed order."""
    apart = form.columns if form.along == "items" else 1
    distance = "half" if apart == 1 else f"half * {apart}"
    return [
        "shared = shelf(total)",
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
        where = _address(form, form.nin, "out", items)
    flag = "live & (part < 1)" if form.parts > 1 else "live"
    return [f"store({where}, total, {flag})"]


def _tile(form: TileForm) -> list[str]:
    edge, pitch, rows = form.edge, form.pitch, THREADS // ROW
    outer = range(form.rank - 2)
    inner = range(form.rank - 2, form.rank)
    lines = [
        f"lane = thread(X) & {ROW - 1}",
        f"row = thread(X) >> {ROW.bit_length() - 1}",
        f"tile_y = quotient(block_x(X), x_tiles, {', '.join(_division('x_tiles'))})",
        f"x_from = (block_x(X) - tile_y * x_tiles) * {edge}",
        f"at = quotient(tile_y, y_tiles, {', '.join(_division('y_tiles'))})",
        f"y_from = (tile_y - at * y_tiles) * {edge}",
        *_unravel(form, "at", outer),
    ]
    bases = [_operand(form, op) for op in range(form.nin + 1)]
    for op in range(form.nin + 1):
        moved = _address(form, op, bases[op], outer)
        if moved != bases[op]:
            lines.append(f"{bases[op]}_at = {moved}")
            bases[op] += "_at"
    staged = [op for op in range(form.nin) if form.staged[op]]
    slots = {op: number * edge * pitch for number, op in enumerate(staged)}
    lines += [
        f"shared = shelf(zero({bases[staged[0]]}))",
        f"for r in range(0, {edge}, {rows}):",
        f"    for s in range(0, {edge}, {ROW}):",
        "        x = clipped(x_from + row + r, X)",
        "        y = clipped(y_from + lane + s, Y)",
        *[
            f"        put(shared, (row + r) * {pitch} + lane + {_plus(slots[op])}s, "
            f"load({_address(form, op, bases[op], inner)}))"
            for op in staged
        ],
        "barrier()",
    ]
    factors = [
        f"get(shared, (lane + s) * {pitch} + row + {_plus(slots[op])}r)"
        if form.staged[op]
        else f"load({_address(form, op, bases[op], inner)})"
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
        f"        store({_address(form, form.nin, bases[form.nin], inner)}, product, live)",
    ]


def _plus(number: int) -> str:
    return f"{number} + " if number else ""


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
