"""Kernels for small matrices of narrow elements that lie one behind the other.

Nine elements of one byte do not fill a vector, and single ones are slow. So several matrices are
read as one vector, products are made of picked lanes, and several results are written at once:
lanes run over the elements of the results in the order in which they lie. A sum is written out.

That takes operands and results whose matrices are contiguous and follow each other, as arrays
have them whose batch comes first; an operand may also be the same for the whole batch.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import NamedTuple

from .._nest import LoopNest
from ..record import Record
from .isa import SMALL, host
from .rendering import ITEMSIZE, KernelForm, function, indent, joined
from .unrolled import LEAST_BATCH, MOST_INPUTS

NARROW = 2  # bytes of the largest elements: wider ones fill vectors by rows
MOST_TERMS = 64

Digits = tuple[tuple[int, int], ...]


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
        Matrices in a vector.
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
        return self.group * self.access[-1][0]

    @property
    def reads_whole(self) -> bool:
        """Whether whole vectors are read; integers for two or three results are read one by one."""
        return self.lanes > 3 or self.dtype == "float16"

    def source(self) -> str:
        """Return the source of the kernel."""
        return render(self)

    def __str__(self) -> str:
        small = " x ".join(map(str, self.sizes[1:]))
        return f"unrolled {small}, vectors of {self.group} results"


class Several(NamedTuple):
    """A nest with its batch first, then output loops, then sums; and the form of its kernel."""

    nest: LoopNest
    form: Grouped


def grouped(nest: LoopNest) -> Several | None:
    """Return how a nest is run by vectors of several matrices, None if it is not."""
    large = [a for a, n in enumerate(nest.sizes) if n > SMALL]
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
    group = host().vector_bytes // (max(extents) * nest.itemsize)
    if group < 2:
        return None
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
    group = form.group
    return function(
        form.heading([", ".join(small), f"{group} results a vector"]),
        [
            *(
                f"{name} = {kind}(data, {op}, {form.dtype})"
                for op, (name, kind) in enumerate(zip(names, kinds, strict=True))
            ),
            *_last_group(form),
            f"for i in range(begin, whole, {group}):",
            *indent(_body(form, group)),
            "for i in range(whole, end):",
            *indent(_body(form, 1)),
        ],
    )


def _last_group(form: Grouped) -> list[str]:
    """Say where the last group ends whose vectors stay within the share."""
    group, behind = form.group, _behind(form)
    if not behind:
        return [f"whole = begin + (end - begin) // {group} * {group}"]
    return [
        f"stop = end - {behind}  # what is written behind a group is written again by the next",
        f"whole = begin + (stop - begin) // {group} * {group} if stop > begin else begin",
    ]


def _body(form: Grouped, group: int) -> list[str]:
    """Return the work on so many matrices."""
    lines = []
    for op in range(form.nin + 1):
        step = form.access[op][0] * ITEMSIZE[form.dtype]
        place = f"{form.operand(op)} + i * {step}" if step else form.operand(op)
        lines.append(f"{_at(form, op, group)} = wide({place}, {_width(form, op, group)})")
    spans = [
        range(size if summed else 1) for size, summed in zip(form.sizes, form.summed, strict=True)
    ]
    products = [
        " * ".join(_factor(form, op, group, index) for op in range(form.nin))
        for index in product(*spans)
    ]
    target = f"{_at(form, form.nin, group)}[0] = "
    width = _width(form, form.nin, group)
    if width == _count(form, form.nin, group):
        return [*lines, f"{target}(", *indent(joined(products, " + ")), ")"]
    return [
        *lines,
        "results = (",
        *indent(joined(products, " + ")),
        ")",
        f"{target}padded(results, {width})",
    ]


def _width(form: Grouped, op: int, group: int) -> int:
    """Return the elements that are read or written at once.

    What moves with the batch is met by whole vectors: others are put together from pieces.
    """
    count = _count(form, op, group)
    is_whole = group > 1 and form.reads_whole and form.access[op][0]
    return 1 << (count - 1).bit_length() if is_whole else count


def _behind(form: Grouped) -> int:
    """Return the matrices behind a group that its vectors touch, of the operand with the most."""
    extents = [row[0] for row in form.access]
    return max(
        -(-_width(form, op, form.group) // extent) - form.group
        for op, extent in enumerate(extents)
        if extent
    )


def _at(form: Grouped, op: int, group: int) -> str:
    """Name an operand's elements; there is another type for one matrix than for several."""
    return f"{form.operand(op)}_i{'s' if group > 1 else ''}"


def _count(form: Grouped, op: int, group: int) -> int:
    """Return the elements that an operand has in so many matrices."""
    loops = zip(form.sizes[1:], form.access[op][1:], strict=True)
    return prod([size for size, step in loops if step]) * (group if form.access[op][0] else 1)


def _factor(form: Grouped, op: int, group: int, index: tuple[int, ...]) -> str:
    """Return the lanes of an input that go into one term of all results."""
    steps = form.access[op]
    outputs = [(group, steps[0])] + [
        (size, step)
        for size, step, summed in zip(form.sizes[1:], steps[1:], form.summed[1:], strict=True)
        if not summed
    ]
    first = sum(number * step for number, step in zip(index, steps, strict=True))
    digits = " ".join(f"{size}x{step}" for size, step in outputs)
    return f'picked({_at(form, op, group)}, {first}, "{digits}")'
