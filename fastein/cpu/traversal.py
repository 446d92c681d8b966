"""How a generated kernel goes through a nest: order, kind of code, and what threads share.

A nest that is read once runs at the speed of memory, if it is read as it lies. So the loops follow
the strides, the longest outermost, whichever of them are summed; what an inner part of the output
adds up meanwhile stays in the first caches.

Threads share one loop. Where it is an output loop each writes its own part of the result. Where
the outermost loop is summed, its iterations are cut into so many *parts* as suit the nest, however
many threads there are; each part has a partial result of its own, and these are added up in order.
Results are the same bits for any number of threads.
"""

from __future__ import annotations

from math import prod

from .._nest import LoopNest
from ..record import Record
from ._loop_order import loop_order
from .codegen import Form, form
from .crossed import Crossed, Tiled, crossed
from .grouped import Grouped, grouped
from .interleaved import Interleaved, interleaved
from .isa import host
from .machine import MACHINE
from .unrolled import Unrolled, unrolled

# Iterations below which loops stand as the baseline has them, and nothing is shared.
STREAM_WORK = 150_000
# What one that reads another page counts as: 'ii->' takes 5 ns for each.
PAGE = 4096
SCATTERED = 32
NEAR_OUTPUT = 256 << 10  # bytes of output that may be added to again and again
BLOCK = 4096  # elements of the innermost loop in a share, where sums are around it
STREAMED_BYTES = 16e6  # of an output from where on it is written past the caches,
STREAMED_ROW = 512  # and of its rows
MOST_PARTS = 64
PART_WORK = 8192  # iterations of a part, at least
PART_COST = 1 / 64  # bytes of partial results for each byte of the operands


class Traversal(Record):
    """How a generated kernel goes through a nest.

    Attributes
    ----------
    nest : LoopNest
        Its loops in the order in which they run. The strides of the output are those of what the
        kernel writes (see `result`).
    form : Form, Unrolled, Grouped, Interleaved or Crossed
        What the kernel's code depends on.
    parallel : bool
        Whether loop ``form.shared`` may be shared among threads.
    grain : int
        Iterations of this loop that a share is a multiple of.
    block : int
        Most iterations in a share; 0 if one share may have all.
    parts : int
        Number of partial results, 0 if the result is written at once.
    result : tuple of int
        The strides of the result where the kernel writes another one first: partial results, or
        sums of float16 in float32.
    """

    nest: LoopNest
    form: Form | Unrolled | Grouped | Interleaved | Crossed
    parallel: bool
    grain: int = 1
    block: int = 0
    parts: int = 0
    result: tuple[int, ...] = ()

    @property
    def worth(self) -> int:
        """Iterations, as many as the time of the nest is that of."""
        return _worth(self.nest)

    @property
    def is_loops(self) -> bool:
        """Whether the baseline nest could go the same way."""
        return isinstance(self.form, Form)

    def __str__(self) -> str:
        how = [str(self.form)]
        if self.parts:
            how.append(f"{self.parts} partial results")
        return ", ".join(how)


def traversal(nest: LoopNest) -> Traversal:
    """Return how a generated kernel goes through a nest.

    Raises
    ------
    CannotCompile
        If no kernel is generated for such a nest.
    """
    channels = interleaved(nest)
    if channels is not None:
        return Traversal(channels.nest, channels.form, parallel=True, grain=channels.form.grain)
    several = grouped(nest)
    if several is not None:
        return Traversal(several.nest, several.form, parallel=True, grain=several.form.group)
    small = unrolled(nest)
    if small is not None:
        return Traversal(small.nest, small.form, parallel=True, grain=small.form.lanes)
    if _worth(nest) < STREAM_WORK:
        return _as_it_stands(nest)
    tiled = crossed(nest)
    if tiled is not None:
        return _tiled(tiled)
    return _streamed(nest)


def _as_it_stands(nest: LoopNest) -> Traversal:
    order, _ = loop_order(nest, MACHINE)
    nest = nest.ordered(order)
    found = form(nest)
    return Traversal(nest, found, nest.rank > 0 and not nest.is_sum(0), found.rows)


def _streamed(nest: LoopNest) -> Traversal:
    order, _ = loop_order(nest, MACHINE, True)
    stream = nest.ordered(order)
    if True not in stream.summed or not stream.is_sum(0):
        return _checked(stream, nest)
    last = stream.rank - 1
    parts = _number_of_parts(stream)
    if parts > 1:
        return _by_way(stream, parts)
    if stream.is_sum(last):
        return _as_it_stands(nest)
    if stream.is_half:
        return _by_way(stream, shared=last, grain=64, block=BLOCK)
    found = form(stream, shared=last)
    return Traversal(stream, found, parallel=True, grain=64, block=BLOCK)


def _checked(stream: LoopNest, nest: LoopNest) -> Traversal:
    """Return the traversal of a nest whose outermost loop is not summed."""
    if True not in stream.summed:
        return _map(stream)
    inside = range(stream.summed.index(True), stream.rank)
    reached = [stream.sizes[a] for a in inside if not stream.is_sum(a)]
    if prod(reached) * stream.itemsize > NEAR_OUTPUT:
        return _as_it_stands(nest)
    if stream.is_half and reached:
        return _by_way(stream)
    found = form(stream, block_bytes=_block_bytes())
    return Traversal(stream, found, True, found.rows)


def _map(stream: LoopNest) -> Traversal:
    written = prod(stream.sizes) * stream.itemsize
    long = stream.sizes[-1] * stream.itemsize >= STREAMED_ROW
    past = host().vector_bytes if long and written >= STREAMED_BYTES else 0
    return Traversal(stream, form(stream, vector_bytes=past), True)


def _by_way(
    stream: LoopNest, parts: int = 0, shared: int = 0, grain: int = 0, block: int = 0
) -> Traversal:
    """Return the traversal of a kernel that writes partial results, or wide ones."""
    partial = _partial(stream)
    found = form(partial, shared, wide=stream.is_half, block_bytes=_block_bytes())
    grain = 1 if parts else grain or found.rows
    return Traversal(partial, found, True, grain, block, parts, stream.strides[-1])


def _block_bytes() -> int:
    """Return the bytes of a sum that are read at once: as many vectors as add up independently."""
    return 4 * host().vector_bytes


def _tiled(tiled: Tiled) -> Traversal:
    nest, found = tiled
    by_parts = nest.is_sum(0)
    parts = min(_number_of_parts(nest), nest.sizes[0] // found.grain) if by_parts else 0
    parallel = parts > 1 or not by_parts
    is_wide = nest.is_half and (found.accumulates or parts > 1)
    if parts < 2 and not is_wide:
        return Traversal(nest, found, parallel, found.grain)
    return Traversal(
        _partial(nest),
        found.replace(wide=is_wide),
        parallel,
        found.grain,
        parts=parts if parts > 1 else 0,
        result=nest.strides[-1],
    )


def _number_of_parts(stream: LoopNest) -> int:
    output = [n for n, summed in zip(stream.sizes, stream.summed, strict=True) if not summed]
    result = prod(output) * _accumulator_size(stream)
    cheap = int(_bytes_read(stream) * PART_COST / result)
    return min(MOST_PARTS, stream.sizes[0], cheap, _worth(stream) // PART_WORK)


def _worth(nest: LoopNest) -> int:
    steps = [min([abs(s) for s in row if s], default=0) for row in nest.strides[: nest.nin]]
    return nest.iterations * (SCATTERED if steps and min(steps) >= PAGE else 1)


def _partial(stream: LoopNest) -> LoopNest:
    """Return the nest that computes a partial result, which is contiguous."""
    step = _accumulator_size(stream)
    strides = [0] * stream.rank
    for axis in reversed(range(stream.rank)):
        if not stream.is_sum(axis):
            strides[axis] = step
            step *= stream.sizes[axis]
    return stream.with_output(tuple(strides))


def _accumulator_size(nest: LoopNest) -> int:
    return 4 if nest.is_half else nest.itemsize


def _bytes_read(nest: LoopNest) -> int:
    """Return the bytes of all inputs, each element counted once."""
    return nest.itemsize * sum(
        prod([n for n, stride in zip(nest.sizes, strides, strict=True) if stride])
        for strides in nest.strides[:-1]
    )
