"""Kernels for small matrices of narrow elements that lie one behind the other.

Nine elements of one byte do not fill a vector, and single ones are slow. So several matrices, or
one, are read as one vector, products are made of picked lanes, and results are written at once:
lanes run over the elements of the results in the order in which they lie. A sum is written out.

A product of a matrix and vectors that is summed has as many terms as the matrix has elements. Where
that is fewer instructions, all are made at once, lanes running over all loops, and neighbours are
added up.

That takes operands and results whose matrices are contiguous and follow each other, as arrays
have them whose batch comes first; an operand may also be the same for the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, product
from math import prod
from operator import mul
from typing import NamedTuple

from .._nest import LoopNest
from ..record import Record
from .isa import SMALL, host, power_of_two
from .rendering import ITEMSIZE, KernelForm, function, indent, joined, wrap
from .unrolled import LEAST_BATCH, MOST_INPUTS

NARROW = 2  # bytes of the largest elements: wider ones fill vectors by rows
PIECE = 32  # bytes that vectors are whole multiples of, if they are not shorter
MOST_TERMS = 64
MOST_BYTES = 128  # of a matrix
# Registers of a group, which more of it fill than of one. Products of 200,000 pairs of 3 x 3 int16,
# us: 33 in three fifths of one with AVX2, 17 in two; with AVX-512 21 and 13.
VECTORS = 2
# Terms of one sum along which integers lie; float16 is as fast by loops ('bij,bij->b' of 4 x 4,
# 112,500: 0.22 ms, and 0.30 in groups; int8 0.19 and 0.06, of 8 x 8 0.08 and 0.09).
MOST_SUMMED = 16


class Grouped(KernelForm, Record):
    """What the code of a kernel depends on that works on several small matrices at once.

    Attributes
    ----------
    dtype : str
        Of all operands.
    sizes : tuple of int
        Per loop: the batch (0: only the call knows it), output loops as the result lies, sums.
    summed : tuple of bool
        Per loop: is it summed?
    access : tuple of tuple of int
        Per operand and loop: elements that it moves by.
    group : int
        Matrices in a vector, at least one.
    """

    dtype: str
    sizes: tuple[int, ...]
    summed: tuple[bool, ...]
    access: tuple[tuple[int, ...], ...]
    group: int

    shared = 0

    @property
    def lanes(self) -> int:
        """Elements of a vector of results."""
        return self.group * self.results

    @property
    def filling(self) -> str:
        """Say how many matrices are worked on at once."""
        return f"vectors of {self.group} results" if self.group > 1 else "a vector a result"

    @property
    def multiplies_first(self) -> bool:
        """Whether all products are made in one go, and lanes added up then.

        There must be as many as an input has elements. It pays for bytes, whose products take
        several instructions, and where a result of the sum is one of few lanes.
        """
        matches = any(all(steps[1:]) for steps in self.access[: self.nin])
        return any(self.summed) and matches and (ITEMSIZE[self.dtype] == 1 or self.results == 1)

    @property
    def results(self) -> int:
        """Elements of a matrix of the result."""
        return self.access[-1][0]

    @property
    def reads_whole(self) -> bool:
        """Whether whole vectors are read.

        Integers are read one by one for two or three results that are sums of picked lanes.
        """
        return self.lanes > 3 or self.dtype == "float16" or self.multiplies_first

    def source(self) -> str:
        """Return the source of the kernel."""
        return render(self)

    def __str__(self) -> str:
        small = " x ".join(map(str, self.sizes[1:]))
        return f"unrolled {small}, {self.filling}"


class Several(NamedTuple):
    """A nest with its batch first, then output loops, then sums; and the form of its kernel."""

    nest: LoopNest
    form: Grouped


def grouped(nest: LoopNest) -> Several | None:
    """Return how a nest is run by vectors of several matrices, None if it is not."""
    large = [
        a
        for a, (n, summed) in enumerate(zip(nest.sizes, nest.summed, strict=True))
        if n > (MOST_SUMMED if summed and not nest.is_half else SMALL)
    ]
    if nest.itemsize > NARROW or nest.dtype.name not in ITEMSIZE or nest.nin > MOST_INPUTS:
        return None
    if (
        len(large) != 1
        or nest.rank < 2
        or nest.is_sum(large[0])
        or nest.sizes[large[0]] < LEAST_BATCH
    ):
        return None
    small = [a for a in range(nest.rank) if a != large[0]]
    outputs = sorted((a for a in small if not nest.is_sum(a)), key=lambda a: -nest.strides[-1][a])
    sums = [a for a in small if nest.is_sum(a)]
    nest = nest.ordered((*large, *outputs, *sums))
    extents = [_extent(nest, row) for row in nest.strides]
    if (
        0 in extents
        or nest.strides[-1][0] == 0
        or prod(nest.sizes[1 + len(outputs) :]) > MOST_TERMS
    ):
        return None
    matrix, vector = max(extents) * nest.itemsize, host().vector_bytes
    if matrix > min(4 * vector, MOST_BYTES):
        return None
    one = not sums and 2 * matrix > vector  # of two, one might as well be written after the other
    group = 1 if one else max(VECTORS * vector // matrix, 1)
    access = tuple(tuple([step // nest.itemsize for step in row]) for row in nest.strides)
    form = Grouped(nest.dtype.name, (0, *nest.sizes[1:]), nest.summed, access, group)
    return Several(nest, form)


def _extent(nest: LoopNest, row: tuple[int, ...]) -> int:
    """Return the elements of an operand's matrix; 0 unless matrices lie dense, or there is one."""
    step = nest.itemsize
    for stride, size in sorted(zip(row[1:], nest.sizes[1:], strict=True)):
        if stride not in (0, step):
            return 0
        step *= size if stride else 1
    return step // nest.itemsize if row[0] in (0, step) else 0


def render(form: Grouped) -> str:
    """Return the source of the kernel: one function, ``nest``, in the ABI's parameters."""
    names = [form.operand(op) for op in range(form.nin + 1)]
    kinds = ["operand"] * form.nin + ["output"]
    small = [f"{form.loop(a)} < {form.sizes[a]}" for a in range(1, form.rank)]
    return function(
        form.heading([", ".join(small), form.filling]),
        [
            *(
                f"{name} = {kind}(data, {op}, {form.dtype})"
                for op, (name, kind) in enumerate(zip(names, kinds, strict=True))
            ),
            *_groups(form),
        ],
    )


def _groups(form: Grouped) -> list[str]:
    """Return the loop over whole groups whose vectors stay within the share, and the one after."""
    group, behind = form.group, _behind(form)
    body, single = indent(_lines(Body(form, group, "s"))), indent(_lines(Body(form, 1, "")))
    if group == 1 and not behind:
        return ["for i in range(begin, end):", *body]
    stop, lines = "end", []
    if behind:
        stop, note = "stop", "what is written behind a group is written again by the next"
        lines.append(f"stop = end - {behind}  # {note}")
    whole = f"begin + ({stop} - begin) // {group} * {group}" if group > 1 else stop
    return [
        *lines,
        f"whole = {whole} if stop > begin else begin" if behind else f"whole = {whole}",
        f"for i in range(begin, whole, {group}):" if group > 1 else "for i in range(begin, whole):",
        *body,
        "for i in range(whole, end):",
        *single,
    ]


def _behind(form: Grouped) -> int:
    """Return the matrices behind a group that its vectors touch, of the operand with the most."""
    body, extents = Body(form, form.group, "s"), [row[0] for row in form.access]
    return max(
        -(-body.width(op) // extent) - form.group for op, extent in enumerate(extents) if extent
    )


class Body(NamedTuple):
    """The work on so many matrices.

    Names end in `mark`, as each number of lanes is a type of its own. There is one for whole
    groups and none for single matrices.
    """

    form: Grouped
    group: int
    mark: str

    def at(self, op: int) -> str:
        """Name an operand's elements."""
        return f"{self.form.operand(op)}_i{self.mark}"

    def count(self, op: int) -> int:
        """Return the elements that an operand has in these matrices."""
        moves, *steps = self.form.access[op]
        loops = zip(self.form.sizes[1:], steps, strict=True)
        return prod([size for size, step in loops if step]) * (self.group if moves else 1)

    def width(self, op: int) -> int:
        """Return the elements that are read or written at once.

        What moves with the batch is met by whole pieces: others are put together from smaller ones.
        """
        form, count = self.form, self.count(op)
        if not (self.mark and form.reads_whole and form.access[op][0]):
            return count
        piece = PIECE // ITEMSIZE[form.dtype]
        return -(-count // piece) * piece if count > piece else power_of_two(count)

    def product(self, index: tuple[int, ...], loops: Iterable[int]) -> str:
        """Return the product of an index of the sums; lanes run over matrices and some loops."""
        return " * ".join(self.factor(op, index, loops) for op in range(self.form.nin))

    def factor(self, op: int, index: tuple[int, ...], loops: Iterable[int]) -> str:
        """Return the lanes of an input that go into one term."""
        steps, sizes = self.form.access[op], self.form.sizes
        first = sum(number * step for number, step in zip(index, steps, strict=True))
        digits = [(self.group, steps[0]), *((sizes[a], steps[a]) for a in loops)]
        places = " ".join(f"{size}x{step}" for size, step in digits)
        return f'picked({self.at(op)}, {first}, "{places}")'


def _lines(body: Body) -> list[str]:
    """Return the lines that read some matrices, sum products and write the results."""
    form, result = body.form, body.form.nin
    lines = []
    for op in range(form.nin + 1):
        step = form.access[op][0] * ITEMSIZE[form.dtype]
        place = f"{form.operand(op)} + i * {step}" if step else form.operand(op)
        lines.append(f"{body.at(op)} = wide({place}, {body.width(op)})")
    before, terms = (_reduced if form.multiplies_first else _written_out)(body)
    target, width = f"{body.at(result)}[0] =", body.width(result)
    if width == power_of_two(body.count(result)):
        return [*lines, *before, *_sum(target, terms)]
    name = f"result{body.mark}"
    return [*lines, *before, *_sum(f"{name} =", terms), f"{target} resized({name}, {width})"]


def _sum(target: str, terms: list[str]) -> list[str]:
    if len(terms) == 1:
        return wrap(target, terms[0].split(" * "))
    return [f"{target} (", *indent(joined(terms, " + ")), ")"]


def _written_out(body: Body) -> tuple[list[str], list[str]]:
    """Return the terms of the results, products of picked lanes; nothing comes before them."""
    form = body.form
    spans = [
        range(size if summed else 1) for size, summed in zip(form.sizes, form.summed, strict=True)
    ]
    outputs = [a for a in range(1, form.rank) if not form.summed[a]]
    return [], [body.product(index, outputs) for index in product(*spans)]


def _reduced(body: Body) -> tuple[list[str], list[str]]:
    """Return what makes all products in one go, and the terms of the last sum of their lanes.

    Sums stand innermost. Neighbours are added up, by twos where their number allows it.
    """
    form, loops = body.form, range(1, body.form.rank)
    counts = [
        factor
        for axis in reversed(loops)
        if form.summed[axis]
        for factor in _twos(form.sizes[axis])
    ]
    names = [
        f"{name}{body.mark}" for name in ("product", *(f"part{k}" for k in range(1, len(counts))))
    ]
    left = list(accumulate(reversed(counts), mul, initial=body.count(form.nin)))[-2::-1]
    steps = [
        [f"every({name}, {first}, {count}, {lanes})" for first in range(count)]
        for name, count, lanes in zip(names, counts, left, strict=True)
    ]
    lines = _sum(f"{names[0]} =", [body.product((0,) * form.rank, loops)])
    for name, terms in zip(names[1:], steps, strict=False):
        lines += _sum(f"{name} =", terms)
    return lines, steps[-1]


def _twos(size: int) -> list[int]:
    """Return the twos that divide a size, and what is left of it."""
    power = size & -size
    return [2] * (power.bit_length() - 1) + [size // power] * (size > power)
