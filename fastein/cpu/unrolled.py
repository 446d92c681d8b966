"""Kernels with their small loops unrolled: millions of 3x3 matrices, and their like.

Loops of at most `SMALL` iterations, whose sizes are those of the actual shape, are written out;
around them run the large ones, all of them output loops. Vectors lie, in order of preference,

* along the innermost large loop, where all operands that it moves are contiguous there (the batch
  comes last): one lane for each matrix;
* along a small output loop where the output and all operands that it moves are contiguous (the
  last axis of a product of matrices): one vector is one row of a matrix, as long as it is;
* nowhere: the elements are scalars, and LLVM may find vectors among them.

Strides along small loops are constants where the small axes of an operand are contiguous, so that
all calls with such matrices have one kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import NamedTuple

from .._nest import LoopNest
from ..record import Record
from .isa import SMALL, host
from .rendering import ITEMSIZE, KernelForm, assign, function, indent, joined, wrap

MOST_TERMS = 640  # products of scalars or vectors in a body: compiling takes 1 ms for each
LEAST_BATCH = 16
MOST_INPUTS = 4

Index = tuple[int, ...]


class Unrolled(KernelForm, Record):
    """What the code of a kernel with unrolled loops depends on.

    Attributes
    ----------
    dtype : str
        Of all operands.
    sizes : tuple of int
        Per loop, outermost first: its iterations, 0 where only the call knows them.
    summed : tuple of bool
        Per loop: is it summed? Only unrolled ones are.
    access : tuple of tuple of int or None
        Per operand and loop: bytes, None where only the call knows them.
    along : int
        The loop that vectors lie along, -1 if there are none.
    lanes : int
        Elements of a vector.
    """

    dtype: str
    sizes: tuple[int, ...]
    summed: tuple[bool, ...]
    access: tuple[tuple[int | None, ...], ...]
    along: int
    lanes: int

    shared = 0

    @property
    def large(self) -> int:
        """Number of loops that are not unrolled; they come first."""
        return self.sizes.count(0)

    @property
    def by_batch(self) -> bool:
        """Whether vectors lie along the innermost large loop."""
        return self.along == self.large - 1

    def source(self) -> str:
        """Return the source of the kernel."""
        return render(self)

    def __str__(self) -> str:
        small = " x ".join(map(str, self.sizes[self.large :]))
        where = "the batch" if self.by_batch else "rows"
        vectors = f"vectors of {self.lanes} along {where}" if self.lanes > 1 else "scalars"
        return f"unrolled {small}, {vectors}"


class Small(NamedTuple):
    """A nest with its small loops last, and the form of its kernel."""

    nest: LoopNest
    form: Unrolled


def unrolled(nest: LoopNest) -> Small | None:
    """Return how a nest is run with its small loops unrolled, None if it is not."""
    sizes, summed = nest.sizes, nest.summed
    small = [a for a, n in enumerate(sizes) if n <= SMALL]
    large = [a for a, n in enumerate(sizes) if n > SMALL]
    if not small or not large or nest.dtype.name not in ITEMSIZE or nest.nin > MOST_INPUTS:
        return None
    if any(summed[a] for a in large) or prod(sizes[a] for a in large) < LEAST_BATCH:
        return None
    reach = [sum(abs(row[a]) for row in nest.strides) for a in range(nest.rank)]
    large.sort(key=lambda a: -reach[a])
    nest = nest.ordered((*large, *small))
    along, lanes = _vectors(nest, len(large))
    terms = prod(nest.sizes[len(large) :]) * nest.nin
    if terms // (1 if along < len(large) else lanes) > MOST_TERMS:
        return None
    form = Unrolled(
        nest.dtype.name,
        (0,) * len(large) + nest.sizes[len(large) :],
        nest.summed,
        tuple(_constants(nest, row, len(large)) for row in nest.strides),
        along,
        lanes,
    )
    return Small(nest, form)


def _vectors(nest: LoopNest, large: int) -> tuple[int, int]:
    """Return the loop that vectors lie along, and their lanes."""

    def contiguous(axis: int) -> bool:
        *inputs, output = [row[axis] for row in nest.strides]
        return output == nest.itemsize and {output} <= set(inputs) <= {0, output}

    if contiguous(large - 1):
        size = 4 if nest.is_half else nest.itemsize  # in a register
        batch = 1 << nest.sizes[large - 1].bit_length() - 1  # of which there is a vector at least
        return large - 1, max(1, min(host().vector_bytes // size, batch))
    rows = [a for a in range(large, nest.rank) if contiguous(a)]
    return (rows[0], nest.sizes[rows[0]]) if rows else (-1, 1)


def _constants(nest: LoopNest, row: tuple[int, ...], large: int) -> tuple[int | None, ...]:
    """Return an operand's strides, those of small loops as constants if they are contiguous."""
    small = sorted((stride, nest.sizes[a]) for a, stride in enumerate(row) if a >= large and stride)
    step = nest.itemsize
    for stride, size in small:
        if stride != step:
            return tuple(None if stride else 0 for stride in row)
        step *= size
    return tuple(None if stride and a < large else stride for a, stride in enumerate(row))


def render(form: Unrolled) -> str:
    """Return the source of the kernel: one function, ``nest``, in the ABI's parameters."""
    notes = [", ".join(f"{form.loop(a)} < {form.sizes[a]}" for a in _small(form))]
    if form.lanes > 1:
        notes.append(f"vectors of {form.lanes} along {form.loop(form.along)}")
    return function(form.heading(notes), [*_prologue(form), "", *_loops(form, 0)])


def _small(form: Unrolled) -> range:
    return range(form.large, form.rank)


def _is_wide(form: Unrolled, op: int) -> bool:
    """Whether an operand is read or written by vectors."""
    return form.lanes > 1 and form.access[op][form.along] != 0


def _prologue(form: Unrolled) -> list[str]:
    """Name the arguments: operands, sizes, steps."""
    lines = []
    for op in range(form.nin + 1):
        kind = "operand" if op < form.nin else "output"
        pointer = f"{kind}(data, {op}, {form.dtype})"
        if _is_wide(form, op) and not form.by_batch:
            pointer = f"wide({pointer}, {form.lanes})"
        lines.append(f"{form.operand(op)} = {pointer}")
    lines += assign({form.loop(a).upper(): f"shape[{a}]" for a in range(1, form.large)})
    for op in range(form.nin + 1):
        unknown = [a for a, stride in enumerate(form.access[op]) if stride is None]
        lines += assign({form.step(op, a): f"strides[{op * form.rank + a}]" for a in unknown})
    return lines


def _loops(form: Unrolled, depth: int) -> list[str]:
    """Return the large loops from `depth` inwards."""
    loop = form.loop(depth)
    start, stop = ("0", loop.upper()) if depth else ("begin", "end")
    if depth < form.large - 1:
        body = [*_enter(form, depth), *_loops(form, depth + 1)]
        return [f"for {loop} in range({start}, {stop}):", *indent(body)]
    if form.lanes == 1 or not form.by_batch:
        body = [*_enter(form, depth), *_body(form)]
        return [f"for {loop} in range({start}, {stop}):", *indent(body)]
    lanes = form.lanes
    return [
        f"whole = {start} + ({stop} - {start}) // {lanes} * {lanes}",
        f"for {loop} in range({start}, whole, {lanes}):",
        *indent([*_enter(form, depth, wide=True), *_body(form, wide=True)]),
        f"for {loop} in range(whole, {stop}):",
        *indent([*_enter(form, depth), *_body(form)]),
    ]


def _enter(form: Unrolled, depth: int, wide: bool = False) -> list[str]:
    """Return the addresses that a large loop fixes, from its outermost operand names inwards."""
    lines = []
    for op in range(form.nin + 1):
        if form.access[op][depth] == 0:
            continue
        address = f"{_at(form, op, depth)} + {form.loop(depth)} * {form.step(op, depth)}"
        if wide:
            address = f"wide({address}, {form.lanes})"
        lines.append(f"{_at(form, op, depth + 1, wide)} = {address}")
    return lines


def _at(form: Unrolled, op: int, depth: int, wide: bool = False) -> str:
    """Name an operand's address within the first `depth` loops; by vectors it has another type."""
    loops = "".join(form.loop(a) for a in range(depth) if form.access[op][a] != 0)
    name = f"{form.operand(op)}_{loops}" if loops else form.operand(op)
    return f"{name}s" if wide and _is_wide(form, op) else name


def _indices(form: Unrolled, summed: bool) -> list[Index]:
    """Return the iterations of the small loops that are summed, or of the others."""
    spans = [
        range(form.sizes[a]) if form.summed[a] == summed and a != form.along else range(1)
        for a in _small(form)
    ]
    return list(product(*spans))


def _element(form: Unrolled, op: int, index: Index, wide: bool) -> str:
    """Return the subscript expression of an operand's element, or vector of elements."""
    known, unknown = 0, []
    for axis, number in zip(_small(form), index, strict=True):
        stride = form.access[op][axis]
        if stride is None and number:
            step = form.step(op, axis)
            unknown.append(step if number == 1 else f"{number} * {step}")
        elif stride:
            known += number * stride
    offset = " + ".join([*unknown, *([str(known)] if known or not unknown else [])])
    return f"{_at(form, op, form.large, wide)}[{offset}]"


def _terms(form: Unrolled, place: Index) -> Iterator[Index]:
    """Return the indices of the products that are summed into one place of the output."""
    for index in _indices(form, summed=True):
        yield tuple(map(sum, zip(place, index, strict=True)))


def _body(form: Unrolled, wide: bool = False) -> list[str]:
    """Return the elements that are used more than once, by name, then the sums."""
    places = _indices(form, summed=False)
    used = Counter(
        _element(form, op, index, wide)
        for place in places
        for index in _terms(form, place)
        for op in range(form.nin)
    )
    names: dict[str, str] = {}
    lines = []

    def factor(op: int, index: Index) -> str:
        element = _element(form, op, index, wide)
        if used[element] == 1:
            return element
        if element not in names:
            mark = "s" if wide and _is_wide(form, op) else ""
            number = sum(name.startswith(form.operand(op)) for name in names.values())
            names[element] = f"{form.operand(op)}{number}{mark}"
            lines.append(f"{names[element]} = {element}")
        return names[element]

    for place in places:
        products = [
            " * ".join(factor(op, index) for op in range(form.nin)) for index in _terms(form, place)
        ]
        lines += _sum(f"{_element(form, form.nin, place, wide)} =", products)
    return lines


def _sum(target: str, products: list[str]) -> list[str]:
    if len(products) == 1:
        return wrap(target, products)
    return [f"{target} (", *indent(joined(products, " + ")), ")"]
