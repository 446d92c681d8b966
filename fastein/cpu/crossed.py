"""Kernels for operands that disagree about the unit stride: tiles, transposed in registers.

``'ij,ji->i'`` reads one operand along ``j`` and the other along ``i``: whichever loop is innermost
strides through one of them. Instead, the two loops go through square tiles. What is contiguous
along *x* is read by vectors as it lies; what is contiguous along *y* is read by the rows of a tile,
which a few shuffles turn into vectors along x. Each line of memory is then read once, and used
whole.

x is the loop along which the output is contiguous, where there is one; y may be summed or not. Sums
along both stay in a register (``strip``, ``part``, ``total``), other sums are added to the output,
of which a few vectors are at work at a time.

Each tile asks for the lines of one further on. Processors wait for few lines at a time: asked for
all the lines of a row of tiles at once, they stand still.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from .._nest import LoopNest
from ..record import Record
from .isa import host
from .rendering import ITEMSIZE, KernelForm, assign, function, indent, joined, listing

# Bytes of the output at work at a time, and of each row of the other operand that are read: in C,
# 'ij,ji->i' of 4000 float64 with 256, 512 and 1,024 of them: 19.9, 22.2 and 21.9 GB/s on one core.
WIDTH = 1024
MOST_ROWS = 256  # of the operand that is turned, at work at a time
AHEAD = 128  # bytes of a row from a tile that is read to one that is asked for
SHARED = 256  # bytes of the output that one thread has, at least
MOST_LANES = 16
LARGE = 256 << 10  # bytes of an operand that is not read by strides
MOST_INPUTS = 4


class Crossed(KernelForm, Record):
    """What the code of a kernel that goes through tiles depends on.

    Attributes
    ----------
    dtype : str
        Of the inputs.
    summed : tuple of bool
        Per loop: outer ones (sums last), then x, then y.
    access : tuple of str
        Per operand and loop: ``"0"`` where it stands still, ``"1"`` where it is contiguous (on x
        and y only), ``"s"`` where it strides.
    lanes : int
        Elements of a vector, rows of a tile.
    wide : bool
        Whether the output is float32, for inputs of float16.
    """

    dtype: str
    summed: tuple[bool, ...]
    access: tuple[str, ...]
    lanes: int
    wide: bool = False

    shared = 0

    @property
    def grain(self) -> int:
        """Iterations of the shared loop that a share is a multiple of."""
        return max(SHARED // ITEMSIZE[self.dtype], self.lanes) if self.rank == 2 else 1

    @property
    def width(self) -> int:
        """Elements of the output at work at a time."""
        return max(min(WIDTH // ITEMSIZE[self.dtype], MOST_ROWS), self.lanes)

    @property
    def ahead(self) -> int:
        """Rows of the other operand from one that is read to one that is asked for."""
        return max(AHEAD // ITEMSIZE[self.dtype], self.lanes)

    @property
    def written(self) -> str:
        """The dtype of the output."""
        return "float32" if self.wide else self.dtype

    @property
    def in_register(self) -> bool:
        """Whether the sum is over x and y, and stays in a register."""
        return self.summed[-2]

    @property
    def accumulates(self) -> bool:
        """Whether stores add to the output."""
        return any(self.summed) and not self.in_register

    def source(self) -> str:
        """Return the source of the kernel."""
        return render(self)

    def __str__(self) -> str:
        return f"tiles of {self.lanes} x {self.lanes}, transposed in registers"


class Tiled(NamedTuple):
    """A nest with its outer loops first, then x, then y; and the form of its kernel."""

    nest: LoopNest
    form: Crossed


def crossed(nest: LoopNest) -> Tiled | None:
    """Return how a nest is run by tiles, None if it is not."""
    if nest.dtype.name not in ITEMSIZE or not 1 < nest.nin <= MOST_INPUTS:
        return None
    if not _disagrees(nest):
        return None
    found = next(_orders(nest), None)
    if found is None:
        return None
    ordered = nest.ordered(found)
    access = tuple(
        "".join(
            "0" if stride == 0 else "1" if stride == nest.itemsize and a >= nest.rank - 2 else "s"
            for a, stride in enumerate(row)
        )
        for row in ordered.strides
    )
    lanes = min(MOST_LANES, host().vector_bytes // nest.itemsize)
    return Tiled(ordered, Crossed(nest.dtype.name, ordered.summed, access, lanes))


def _disagrees(nest: LoopNest) -> bool:
    """Whether each loop that is contiguous for one operand strides through another, large one."""

    def strides_through(axis: int) -> bool:
        return any(
            abs(row[axis]) > nest.itemsize and nest.itemsize in row and _bytes(nest, row) > LARGE
            for row in nest.strides
        )

    contiguous = {row.index(nest.itemsize) for row in nest.strides if nest.itemsize in row}
    return len(contiguous) > 1 and all(map(strides_through, contiguous))


def _bytes(nest: LoopNest, row: tuple[int, ...]) -> int:
    moved = [size for size, stride in zip(nest.sizes, row, strict=True) if stride]
    return prod(moved) * nest.itemsize


def _orders(nest: LoopNest) -> Iterator[tuple[int, ...]]:
    """Yield the orders of loops in which tiles can be gone through, the largest tiles first."""
    reach = [sum(abs(row[a]) for row in nest.strides) for a in range(nest.rank)]
    units = [a for a in range(nest.rank) if any(row[a] == nest.itemsize for row in nest.strides)]
    pairs = [(x, y) for x in units for y in units if x != y and _suits(nest, x, y)]
    for x, y in sorted(pairs, key=lambda pair: -nest.sizes[pair[0]] * nest.sizes[pair[1]]):
        rest = [a for a in range(nest.rank) if a not in (x, y)]
        outputs = sorted((a for a in rest if not nest.is_sum(a)), key=lambda a: -reach[a])
        sums = sorted((a for a in rest if nest.is_sum(a)), key=lambda a: -reach[a])
        yield (*outputs, *sums, x, y)


def _suits(nest: LoopNest, x: int, y: int) -> bool:
    """Whether vectors may lie along loop x and be transposed from loop y."""
    unit = nest.itemsize
    *inputs, output = nest.strides
    if min(nest.sizes[x], nest.sizes[y]) < MOST_LANES:
        return False
    if any(row[x] not in (0, unit) and row[y] != unit for row in inputs):
        return False
    if nest.is_sum(x):
        return nest.is_sum(y)
    outer_sums = any(nest.is_sum(a) for a in range(nest.rank) if a != y)
    return output[x] == unit and (nest.is_sum(y) or not outer_sums)


def render(form: Crossed) -> str:
    """Return the source of the kernel: one function, ``nest``, in the ABI's parameters."""
    turned = [form.operand(op) for op in range(form.nin) if _is_turned(form, op)]
    notes = [
        f"vectors along {_x(form)}",
        f"{listing(turned)}, contiguous along {_y(form)}, transposed",
    ]
    return function(form.heading(notes), [*_prologue(form), "", *_outer(form, 0)])


# Names


def _x(form: Crossed) -> str:
    return form.loop(form.rank - 2)


def _y(form: Crossed) -> str:
    return form.loop(form.rank - 1)


def _is_turned(form: Crossed, op: int) -> bool:
    """Whether an input is contiguous along y and moves along x."""
    return form.access[op][-2:] == "s1"


def _at(form: Crossed, op: int, depth: int) -> str:
    """Name an operand's address within the first `depth` loops."""
    loops = "".join(form.loop(a) for a in form.moves(op) if a < depth)
    return f"{form.operand(op)}_{loops}" if loops else form.operand(op)


def _step(form: Crossed, op: int, axis: int) -> str:
    if form.access[op][axis] == "1":
        return str(ITEMSIZE[form.written if op == form.nin else form.dtype])
    return form.step(op, axis)


def _times(number: str, step: str) -> str:
    return number if step == "1" else f"{number} * {step}"


def _address(form: Crossed, op: int) -> str:
    """Return the address of an operand's element in a tile's corner."""
    inner = [a for a in form.moves(op) if a >= form.rank - 2]
    offsets = [_times(form.loop(a), _step(form, op, a)) for a in inner]
    return " + ".join([_at(form, op, form.rank - 2), *offsets])


# Pieces of the source, as lists of lines that their callers indent.


def _prologue(form: Crossed) -> list[str]:
    lines = []
    for op in range(form.nin + 1):
        kind, dtype = ("operand", form.dtype) if op < form.nin else ("output", form.written)
        lines.append(f"{form.operand(op)} = {kind}(data, {op}, {dtype})")
    lines += assign({form.loop(a).upper(): f"shape[{a}]" for a in range(1, form.rank)})
    for op in range(form.nin + 1):
        strided = [a for a, kind in enumerate(form.access[op]) if kind == "s"]
        lines += assign({_step(form, op, a): f"strides[{op * form.rank + a}]" for a in strided})
    return lines


def _bounds(form: Crossed, depth: int) -> tuple[str, str]:
    return ("begin", "end") if depth == form.shared else ("0", form.loop(depth).upper())


def _span(form: Crossed, depth: int) -> str:
    start, stop = _bounds(form, depth)
    return f"range({stop})" if start == "0" else f"range({start}, {stop})"


def _outer(form: Crossed, depth: int) -> list[str]:
    """Return the loops from `depth` inwards; the sum begins where none but sums are further in."""
    first = form.summed.index(True) if any(form.summed) else form.rank
    begins = depth == min(first, form.rank - 2)
    if depth == form.rank - 2:
        loops = _tiles(form)
    else:
        steps = [
            f"{_at(form, op, depth + 1)} = {_at(form, op, depth)} + "
            f"{_times(form.loop(depth), _step(form, op, depth))}"
            for op in range(form.nin + 1)
            if form.access[op][depth] != "0"
        ]
        body = [*steps, *_outer(form, depth + 1)]
        loops = [f"for {form.loop(depth)} in {_span(form, depth)}:", *indent(body)]
    if not begins or not any(form.summed):
        return loops
    out = _at(form, form.nin, depth)
    if form.in_register:
        total = f"total = zero({form.dtype})"
        return [total, *loops, f"{out}[0] = total"]
    zero = f"{out}[{_times(_x(form), _step(form, form.nin, form.rank - 2))}] = zero({form.dtype})"
    return [f"for {_x(form)} in {_span(form, form.rank - 2)}:", *indent([zero]), *loops]


def _tiles(form: Crossed) -> list[str]:
    """Return the loops over tiles, over the columns that are left, and over the rows."""
    x, y, lanes = _x(form), _y(form), form.lanes
    start, stop = _bounds(form, form.rank - 2)
    length = stop if start == "0" else f"({stop} - {start})"
    whole = f"{length} // {lanes} * {lanes}"
    block = f"for {x} in range({x}0, {x}1, {lanes}):"
    strip = [f"strip = zeros({form.dtype}, {lanes})", "part += strip"] if form.in_register else []
    inside = [
        f"{x}1 = {x}0 + {form.width} if {x}0 + {form.width} < whole else whole",
        *([f"part = zeros({form.dtype}, {lanes})"] if form.in_register else []),
        f"for {y} in range(0, whole_{y}, {lanes}):",
        *indent([*strip[:1], block, *indent([*_ahead(form), *_tile(form)]), *strip[1:]]),
        f"for {y} in range(whole_{y}, {y.upper()}):",
        *indent([block, *indent(_column(form))]),
        *(["total += across(part)"] if form.in_register else []),
    ]
    return [
        f"whole = {whole if start == '0' else f'{start} + {whole}'}",
        f"whole_{y} = {y.upper()} // {lanes} * {lanes}",
        f"for {x}0 in range({start}, whole, {form.width}):",
        *indent(inside),
        f"for {x} in range(whole, {stop}):",
        *indent([f"for {y} in range({y.upper()}):", *indent(_single(form))]),
    ]


def _ahead(form: Crossed) -> list[str]:
    """Return what asks for the lines of a tile to come, which no processor foresees."""
    lines = []
    for op in range(form.nin):
        if _is_turned(form, op):
            across, along = form.rank - 2, form.rank - 1
        elif form.access[op][-2:] == "1s":
            across = along = form.rank - 1
        else:
            continue
        step = _step(form, op, across)
        ahead = _times(str(form.ahead), _step(form, op, along))
        lines.append(f"prefetch_rows({_address(form, op)} + {ahead}, {step}, {form.lanes})")
    return lines


def _pointers(form: Crossed, output: bool) -> list[str]:
    """Return the pointers to a tile's corner, of vectors where they lie along x."""
    lines = []
    for op in range(form.nin + output):
        if _is_turned(form, op) or not set(form.moves(op)) & {form.rank - 2, form.rank - 1}:
            continue
        address = _address(form, op)
        if form.access[op][-2] == "1":
            address = f"wide({address}, {form.lanes})"
        lines.append(f"{form.operand(op)}_{_x(form)}{_y(form)} = {address}")
    return lines


def _factor(form: Crossed, op: int, row: int) -> str:
    """Return an input's vector, or element, for one row of a tile."""
    if _is_turned(form, op):
        return f"{form.operand(op)}{row}"
    if not set(form.moves(op)) & {form.rank - 2, form.rank - 1}:
        return f"{_at(form, op, form.rank - 2)}[0]"
    offset = _offset(form, op, row)
    return f"{form.operand(op)}_{_x(form)}{_y(form)}[{offset}]"


def _offset(form: Crossed, op: int, row: int) -> str:
    """Return how far an operand moves to one row of a tile."""
    if form.access[op][-1] == "0" or not row:
        return "0"
    step = _step(form, op, form.rank - 1)
    if step.isdecimal():
        return str(row * int(step))
    return step if row == 1 else f"{row} * {step}"


def _tile(form: Crossed) -> list[str]:
    rows = range(form.lanes)
    lines = []
    for op in range(form.nin):
        if _is_turned(form, op):
            names = ", ".join(f"{form.operand(op)}{row}" for row in rows)
            step = _step(form, op, form.rank - 2)
            lines.append(f"{names} = tile({_address(form, op)}, {step}, {form.lanes})")
    lines += _pointers(form, output=not form.in_register)
    products = [" * ".join(_factor(form, op, row) for op in range(form.nin)) for row in rows]
    if form.summed[-1]:
        target = "strip" if form.in_register else _target(form, 0)
        return [*lines, f"{target} += (", *indent(joined(products, " + ")), ")"]
    return [*lines, *(f"{_target(form, row)} = {products[row]}" for row in rows)]


def _target(form: Crossed, row: int) -> str:
    if form.in_register:
        return "part"
    name = f"{form.operand(form.nin)}_{_x(form)}{_y(form)}"
    return f"{name}[{_offset(form, form.nin, row)}]"


def _column(form: Crossed) -> list[str]:
    """Return the work on one column that does not fill a tile."""
    lines = []
    for op in range(form.nin):
        if _is_turned(form, op):
            step = _step(form, op, form.rank - 2)
            read = f"column({_address(form, op)}, {step}, {form.lanes})"
            lines.append(f"{form.operand(op)}0 = {read}")
    lines += _pointers(form, output=not form.in_register)
    product = " * ".join(_factor(form, op, 0) for op in range(form.nin))
    return [*lines, f"{_target(form, 0)} {'+=' if form.summed[-1] else '='} {product}"]


def _single(form: Crossed) -> list[str]:
    """Return the work on one element."""

    def cell(op: int) -> str:
        inner = [a for a in form.moves(op) if a >= form.rank - 2]
        offsets = [_times(form.loop(a), _step(form, op, a)) for a in inner]
        return f"{_at(form, op, form.rank - 2)}[{' + '.join(offsets) or '0'}]"

    product = " * ".join(map(cell, range(form.nin)))
    if form.in_register:
        return [f"total += {product}"]
    return [f"{cell(form.nin)} {'+=' if form.accumulates else '='} {product}"]
