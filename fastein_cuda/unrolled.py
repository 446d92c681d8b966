"""What a thread computes of one item of small loops, all of them unrolled.

More than two operands are multiplied two at a time, in the order that takes the fewest products;
what lies between stays in registers. Written once, like `tile`, over operations that
`tiny_primitives` turns into instructions and `tiny_primitives_sim` carries out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import combinations, product
from math import prod
from typing import Any, NamedTuple, Protocol

from .forms import TinyForm

MOST_ORDERED = 5  # operands whose orders are all tried

Coordinates = dict[int, int]
"""The iteration of each small loop."""


class Operations(Protocol):
    """What `evaluate` is made of, for the threads of a block."""

    def load(self, address: Any, lanes: int) -> list[Any]:
        """Read neighbours from shared memory, converted for the arithmetic."""

    def zero(self) -> Any:
        """Return the empty sum."""

    def add(self, total: Any, value: Any) -> Any:
        """Return ``total + value``."""

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        """Return ``total + a * b``."""

    def smaller(self, number: Any, most: int) -> Any:
        """Return the smaller of an integer and a constant."""


class Factor(NamedTuple):
    """An operand, or a product of some: the small loops it depends on, and its elements."""

    loops: frozenset[int]
    element: Callable[[Coordinates], Any]


def evaluate(ops: Operations, form: TinyForm, item: Any, part: Any) -> Iterator[tuple[Any, ...]]:
    """Yield slot, value and row of each of a thread's results.

    Parameters
    ----------
    ops : Operations
    form : TinyForm
    item, part : integer
        The item within the block, and which of its threads this is.

    Yields
    ------
    slot : integer
        Where the result belongs in the output's part of shared memory.
    value : element
    row : integer or None
        Its iteration of the shared loop, which may be beyond the end; None if none can be.
    """
    rows = _rows(form, part)
    factors = [_operand(ops, form, op, item, rows) for op in range(form.nin)]
    outputs = frozenset(range(form.outputs))
    for left, right in order(tuple([factor.loops for factor in factors]), outputs, _sizes(form)):
        a, b = factors[left], factors[right]
        rest = [factor for n, factor in enumerate(factors) if n not in (left, right)]
        factors = [*rest, _multiplied(ops, form, a, b, rest)]
    if form.nin == 1:
        factors = [_summed(ops, form, factors[0])]
    block = form.blocks[-1]
    for coordinates in _iterations(form, outputs):
        slot = item * block.pitch
        for loop in form.small(form.nin):
            which = rows[coordinates[loop]] if loop == form.split else coordinates[loop]
            slot = slot + which * block.steps[loop]
        beyond = form.split >= 0 and form.chunk * form.share > form.sizes[form.split]
        row = rows[coordinates[form.split]] if beyond else None
        yield slot, factors[0].element(coordinates), row


def work(form: TinyForm) -> int:
    """Return the products that a thread computes."""
    loops = tuple([frozenset(form.small(op)) for op in range(form.nin)])
    sizes, outputs = _sizes(form), frozenset(range(form.outputs))
    total = 0
    remaining = list(loops)
    for left, right in order(loops, outputs, sizes):
        union = remaining[left] | remaining[right]
        rest = [x for n, x in enumerate(remaining) if n not in (left, right)]
        total += prod([sizes[loop] for loop in union])
        remaining = [*rest, union & outputs.union(*rest)]
    return total or prod(sizes)


@functools.cache
def order(
    loops: tuple[frozenset[int], ...], outputs: frozenset[int], sizes: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Return which two factors to multiply, again and again; the product is appended.

    Examples
    --------
    >>> chain = frozenset({0, 1}), frozenset({1, 2}), frozenset({2, 3})
    >>> order(chain, frozenset({0, 3}), (2, 3, 3, 3))
    ((0, 1), (0, 1))
    """
    return _cheapest(loops, outputs, sizes)[1]


def _cheapest(
    loops: tuple[frozenset[int], ...], outputs: frozenset[int], sizes: tuple[int, ...]
) -> tuple[int, tuple[tuple[int, int], ...]]:
    if len(loops) < 2:
        return 0, ()
    pairs = combinations(range(len(loops)), 2) if len(loops) <= MOST_ORDERED else [(0, 1)]
    found = []
    for left, right in pairs:
        union = loops[left] | loops[right]
        rest = [x for n, x in enumerate(loops) if n not in (left, right)]
        kept = union & outputs.union(*rest)
        cost, later = _cheapest((*rest, kept), outputs, sizes)
        found.append((cost + prod([sizes[k] for k in union]), ((left, right), *later)))
    return min(found)


def _sizes(form: TinyForm) -> tuple[int, ...]:
    """Return the iterations that a thread has of each small loop."""
    return tuple([form.chunk if n == form.split else size for n, size in enumerate(form.sizes)])


def _iterations(form: TinyForm, loops: frozenset[int]) -> Iterator[Coordinates]:
    chosen = sorted(loops)
    sizes = _sizes(form)
    for numbers in product(*[range(sizes[loop]) for loop in chosen]):
        yield dict(zip(chosen, numbers, strict=True))


def _rows(form: TinyForm, part: Any) -> list[Any]:
    """Return the iterations that a thread has of the loop that is shared."""
    if form.split < 0:
        return []
    return [part * form.chunk + n for n in range(form.chunk)]


def _operand(ops: Operations, form: TinyForm, op: int, item: Any, rows: list[Any]) -> Factor:
    """Return an operand, whose elements are read when they are first asked for."""
    block, itemsize, loops = form.blocks[op], form.itemsize(op), form.small(op)
    corner = form.begin(op) if block.mode == "single" else item * (block.pitch * itemsize)
    corner = corner if block.mode == "single" else corner + form.begin(op)
    read: dict[Any, list[Any]] = {}

    def element(coordinates: Coordinates) -> Any:
        row = coordinates[form.split] if form.split in loops else None
        place = sum([coordinates[n] * block.steps[n] for n in loops if n != form.split])
        first = place - place % block.together
        if (row, first) not in read:
            start = corner + first * itemsize
            if row is not None:
                start = (
                    ops.smaller(rows[row], form.sizes[form.split] - 1)
                    * (block.steps[form.split] * itemsize)
                    + start
                )
            read[row, first] = ops.load(start, block.together)
        return read[row, first][place - first]

    return Factor(frozenset(loops), element)


def _multiplied(
    ops: Operations, form: TinyForm, a: Factor, b: Factor, rest: list[Factor]
) -> Factor:
    """Return the product of two factors, summed over the loops that nothing else needs."""
    union = a.loops | b.loops
    kept = union & frozenset(range(form.outputs)).union(*[factor.loops for factor in rest])
    totals: dict[Any, Any] = {}
    for term in _iterations(form, union - kept):
        for result in _iterations(form, kept):
            at = result | term
            key = tuple(result.values())
            total = totals[key] if key in totals else ops.zero()
            totals[key] = ops.add_product(total, a.element(at), b.element(at))
    return _known(kept, totals)


def _summed(ops: Operations, form: TinyForm, a: Factor) -> Factor:
    """Return a factor summed over all loops but the output's."""
    kept = a.loops & frozenset(range(form.outputs))
    totals: dict[Any, Any] = {}
    for result in _iterations(form, kept):
        total = ops.zero()
        for term in _iterations(form, a.loops - kept):
            total = ops.add(total, a.element(result | term))
        totals[tuple(result.values())] = total
    return _known(kept, totals)


def _known(loops: frozenset[int], values: dict[Any, Any]) -> Factor:
    chosen = sorted(loops)
    return Factor(loops, lambda at: values[tuple([at[loop] for loop in chosen])])
