"""Kernels for copies between elements in turns and elements apart: ``'hwc->chw'`` and back.

A short axis is innermost on one side, the few channels of a pixel say, and far out on the other.
Such runs are too short for tiles to be transposed. Instead, as many vectors as there are channels
are read in one piece and picked apart, or read apart and laced together. Sums there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .._nest import LoopNest
from ..record import Record
from .isa import host
from .rendering import KernelForm, assign, function, indent

MOST_CHANNELS = 8
LINE = 64
STREAMED_BYTES = 16e6  # of a result from where on it is written past the caches
_WORDS = {size: f"uint{8 * size}" for size in (1, 2, 4, 8)}


class Interleaved(KernelForm, Record):
    """What the code of a kernel depends on that picks channels apart or laces them together.

    Attributes
    ----------
    dtype : str
        Bool, or an integer of the elements' size.
    summed : tuple of bool
        Per loop, all False: outer ones, the channels, the long loop.
    access : tuple of str
        Of the operand and of the result, per loop: ``"s"``.
    channels : int
        Iterations of the second last loop, which is written out.
    laces : bool
        Whether the result has its channels in turns, not the operand.
    lanes : int
        Elements of a vector.
    shared : int
        The loop of which the kernel does a share.
    streams : bool
        Whether the result is written past the caches.
    """

    dtype: str
    summed: tuple[bool, ...]
    access: tuple[str, ...]
    channels: int
    laces: bool
    lanes: int
    shared: int
    streams: bool

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 1 if self.dtype == "bool" else int(self.dtype[4:]) // 8

    @property
    def grain(self) -> int:
        """Iterations of the shared loop that a share is a multiple of."""
        return self.lanes if self.shared == self.rank - 1 else 1

    def source(self) -> str:
        """Return the source of the kernel."""
        return render(self)

    def __str__(self) -> str:
        how = "laced together" if self.laces else "picked apart"
        past = ", streaming stores" if self.streams else ""
        return f"{self.channels} channels {how}, vectors of {self.lanes}{past}"


class Channels(NamedTuple):
    """A nest with its channels and its long loop last, and the form of its kernel."""

    nest: LoopNest
    form: Interleaved


def interleaved(nest: LoopNest) -> Channels | None:
    """Return how a copy is made by whole vectors of channels in turns, None if it is not one."""
    unit = nest.itemsize
    if nest.nin != 1 or unit not in _WORDS or any(nest.summed):
        return None
    found = next(_roles(nest), None)
    if found is None:
        return None
    channel, long, laces = found
    lanes = host().vector_bytes // unit
    if nest.sizes[long] < 4 * lanes:
        return None
    reach = [sum(abs(row[a]) for row in nest.strides) for a in range(nest.rank)]
    outer = sorted({*range(nest.rank)} - {channel, long}, key=lambda a: -reach[a])
    nest = nest.ordered((*outer, channel, long))
    rank, channels = nest.rank, nest.sizes[-2]
    shared = 0 if outer and nest.sizes[0] > nest.sizes[-1] else rank - 1
    form = Interleaved(
        "bool" if nest.dtype.char == "?" else _WORDS[unit],
        (False,) * rank,
        ("s" * rank,) * 2,
        channels,
        laces,
        lanes,
        shared,
        _streams(nest, laces, lanes),
    )
    return Channels(nest, form)


def _roles(nest: LoopNest) -> Iterator[tuple[int, int, bool]]:
    """Yield the channels' axis, the long one, and whether channels are laced together."""
    unit = nest.itemsize
    for channel in range(nest.rank):
        for long in range(nest.rank):
            for packed, laces in ((0, False), (1, True)):
                together, apart = nest.strides[packed], nest.strides[1 - packed]
                count = nest.sizes[channel]
                if (
                    1 < count <= MOST_CHANNELS
                    and together[channel] == unit
                    and together[long] == count * unit
                    and apart[long] == unit
                ):
                    yield channel, long, laces


def _streams(nest: LoopNest, laces: bool, lanes: int) -> bool:
    """Whether vectors of a large result can all be aligned at once."""
    *outer, channel, _ = nest.strides[-1]
    if nest.iterations * nest.itemsize < STREAMED_BYTES or nest.sizes[-1] < 64 * lanes:
        return False
    return nest.sizes[-2] % 2 == 1 if laces else all(s % LINE == 0 for s in (*outer, channel))


def render(form: Interleaved) -> str:
    """Return the source of the kernel: one function, ``nest``, in the ABI's parameters."""
    channel, long = (form.loop(form.rank - k) for k in (2, 1))
    notes = [f"{channel} < {form.channels}", f"vectors of {form.lanes} along {long}"]
    body = [*_prologue(form), "", *_loops(form, 0)]
    if form.streams:
        notes.append("out is written past the caches")
        body.append("fence()")
    return function(form.heading(notes), body)


def _prologue(form: Interleaved) -> list[str]:
    lines = [f"a = operand(data, 0, {form.dtype})", f"out = output(data, 1, {form.dtype})"]
    sized = [a for a in range(form.rank) if a not in (form.shared, form.rank - 2)]
    lines += assign({form.loop(a).upper(): f"shape[{a}]" for a in sized})
    for op in range(2):
        strided = range(form.rank - 1 - (op == form.laces))
        lines += assign({form.step(op, a): f"strides[{op * form.rank + a}]" for a in strided})
    return lines


def _loops(form: Interleaved, depth: int) -> list[str]:
    """Return the outer loops from `depth` inwards."""
    if depth == form.rank - 2:
        return _long(form)
    loop = form.loop(depth)
    start, stop = ("begin", "end") if depth == form.shared else ("0", loop.upper())
    inward = [
        f"{_at(form, op, depth + 1)} = {_at(form, op, depth)} + {loop} * {form.step(op, depth)}"
        for op in range(2)
    ]
    return [f"for {loop} in range({start}, {stop}):", *indent([*inward, *_loops(form, depth + 1)])]


def _at(form: Interleaved, op: int, depth: int) -> str:
    loops = "".join(form.loop(a) for a in range(depth))
    return f"{form.operand(op)}_{loops}" if loops else form.operand(op)


def _long(form: Interleaved) -> list[str]:
    """Return the long loop: elements until vectors align, vectors, elements."""
    loop, lanes = form.loop(form.rank - 1), form.lanes
    begin, end = ("begin", "end") if form.shared == form.rank - 1 else ("0", loop.upper())
    singles = _singles(form)
    head: list[str] = []
    start = begin
    if form.streams:
        start = "head"
        head = [*_head(form, begin, end), f"for {loop} in range({begin}, head):", *indent(singles)]
    return [
        *head,
        f"whole = {start} + ({end} - {start}) // {lanes} * {lanes}",
        f"for {loop} in range({start}, whole, {lanes}):",
        *indent(_vectors(form)),
        f"for {loop} in range(whole, {end}):",
        *indent(singles),
    ]


def _head(form: Interleaved, begin: str, end: str) -> list[str]:
    """Return what finds the first iteration whose vectors align, if any does."""
    place, lanes = _at(form, 1, form.rank - 2), form.lanes
    if not form.laces:
        ahead = f"lead({place} + {begin} * {form.itemsize}, {end} - {begin}, {lanes})"
        return [f"head = {begin} + {ahead}"]
    step, count = form.channels * form.itemsize, f"({end} - {begin}) * {form.channels}"
    inverse = pow(form.channels, -1, lanes)  # so many iterations are one element more than lines
    first = f"{begin} + ahead * {inverse} % {lanes}"
    return [
        f"ahead = lead({place} + {begin} * {step}, {count}, {lanes})",
        f"head = {first} if ahead < {lanes} < {end} - {begin} else {end}",
    ]


def _places(form: Interleaved, op: int) -> list[str]:
    """Return where the channels of one iteration of the long loop are, as offsets."""
    loop, item = form.loop(form.rank - 1), form.itemsize
    numbers = range(form.channels)
    if op == form.laces:
        return [f"{loop} * {form.channels * item} + {number * item}" for number in numbers]
    step = form.step(op, form.rank - 2)
    further = ["", f" + {step}", *(f" + {number} * {step}" for number in numbers[2:])]
    return [f"{loop} * {item}{beyond}" for beyond in further]


def _singles(form: Interleaved) -> list[str]:
    source, to = (_at(form, op, form.rank - 2) for op in range(2))
    pairs = zip(_places(form, 1), _places(form, 0), strict=True)
    return [f"{to}[{written}] = {source}[{read}]" for written, read in pairs]


def _vectors(form: Interleaved) -> list[str]:
    source, to = (_at(form, op, form.rank - 2) for op in range(2))
    lanes, channels = form.lanes, form.channels
    loop, item = form.loop(form.rank - 1), form.itemsize
    if form.laces:
        lines = [
            f"{source}{number} = wide({source} + {place}, {lanes})[0]"
            for number, place in enumerate(_places(form, 0))
        ]
        names = ", ".join(f"{source}{number}" for number in range(channels))
        written = [(f"{loop} * {channels * item}", f"laced(({names}))")]
        count = lanes * channels
    else:
        lines = [f"turns = wide({source} + {loop} * {channels * item}, {lanes * channels})"]
        picks = [f'picked(turns, {number}, "{lanes}x{channels}")' for number in range(channels)]
        written = list(zip(_places(form, 1), picks, strict=True))
        count = lanes
    if form.streams:
        return [*lines, *(f"stream({to}, {place}, {value})" for place, value in written)]
    return [*lines, *(f"wide({to} + {place}, {count})[0] = {value}" for place, value in written)]
