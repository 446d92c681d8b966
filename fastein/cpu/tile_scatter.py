"""Writing a tile that is not all of one piece in the result, as LLVM IR.

Importing this module imports Numba; only :mod:`fastein.cpu.tile` does, when it compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .tile import LINE, Tile
from .vectors import I8, I64, prefetch

LANES = {
    "float": ir.FloatType(),
    "double": ir.DoubleType(),
    **{f"i{bits}": ir.IntType(bits) for bits in (8, 16, 32, 64)},
}


def intrinsic_of(arguments: Any, emit: Callable[[Any, Any], None]) -> Any:
    """Return an intrinsic for generated code to call.

    Parameters
    ----------
    arguments : class
        A named tuple, whose fields are what the intrinsic takes: pointers and numbers.
    emit : callable of (builder, arguments)
        Emits the code for such a tuple of values.
    """

    def run(typingctx: Any, *given: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit(builder, arguments(*args))
            return context.get_dummy_value()

        words = [types.intp if isinstance(x, types.Integer) else x for x in given]
        return types.void(*words), lower

    names = ("typingctx", *arguments._fields)
    run.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return intrinsic(run)


def add(builder: Any, shape: Tile, x: Any, y: Any) -> Any:
    """Add results, as einsum means it."""
    if shape.dtype == "bool":
        return builder.or_(x, y)
    integers = isinstance(getattr(x.type, "element", x.type), ir.IntType)
    return builder.add(x, y) if integers else builder.fadd(x, y)


class Scattered(NamedTuple):
    """What :func:`scatter` is called with: a tile, and where its elements belong.

    Attributes
    ----------
    out, spare
        The result, and the tile.
    offsets
        The table of offsets, in bytes. Indices into it follow.
    row, height
        Row ``r`` of `height` belongs ``offsets[row + r]`` bytes behind `out`.
    column, width
        Column ``c`` of `width` belongs ``offsets[column + c]`` bytes further.
    runs
        Row ``r`` is the first of ``offsets[runs + r]`` that lie one after the other there.
    adds
        Not 0 if what is there is added to.
    """

    out: Any
    spare: Any
    offsets: Any
    row: Any
    height: Any
    column: Any
    width: Any
    runs: Any
    adds: Any


def scatter(shape: Tile) -> Any:
    """Return the intrinsic that writes a tile which is not all of one piece in the result.

    Its arguments are those of `Scattered`.
    """

    def emit(builder: Any, what: Scattered) -> None:
        adding = builder.icmp_signed("!=", what.adds, what.adds.type(0))
        with builder.if_else(adding) as (added, put):
            with added:
                _scatter(builder, _Mover(builder, shape, adds=True), what)
            with put:
                _scatter(builder, _Mover(builder, shape, adds=False), what)

    return intrinsic_of(Scattered, emit)


class Places(NamedTuple):
    """What :func:`expect` is called with: some of `Scattered`."""

    out: Any
    offsets: Any
    row: Any
    height: Any
    column: Any
    width: Any


def expect(shape: Tile) -> Any:
    """Return the intrinsic that asks for where a tile will be scattered to.

    Its arguments are those of `Places`.
    """

    def emit(builder: Any, what: Places) -> None:
        def at(address: Any, index: Any) -> Any:
            cell = builder.gep(what.offsets, [index], source_etype=I64)
            return builder.gep(address, [builder.load(cell, typ=I64)], source_etype=I8)

        last = builder.sub(builder.add(what.row, what.height), I64(1))
        line = I64(max(LINE // shape.result_bytes, 1))
        with cgutils.for_range(builder, what.width) as columns:
            column = at(what.out, builder.add(what.column, columns.index))
            with cgutils.for_range_slice(builder, what.row, last, line, I64) as (row, _):
                prefetch(builder, at(column, row), write=True)
            prefetch(builder, at(column, last), write=True)

    return intrinsic_of(Places, emit)


def _scatter(builder: Any, mover: _Mover, what: Scattered) -> None:
    def at(address: Any, offset: Any) -> Any:
        return builder.gep(address, [offset], inbounds=True, source_etype=I8)

    def entry(table: Any, index: Any) -> Any:
        cell = builder.gep(what.offsets, [builder.add(table, index)], source_etype=I64)
        return builder.load(cell, typ=I64)

    shape, zero = mover.shape, what.height.type(0)
    done = cgutils.alloca_once(builder, zero.type)
    with cgutils.for_range(builder, what.width) as columns:
        out_j = at(what.out, entry(what.column, columns.index))
        pitch = zero.type(shape.rows * shape.result_bytes)
        spare_j = at(what.spare, builder.mul(columns.index, pitch))
        builder.store(zero, done)
        loop = builder.append_basic_block("scatter.run")
        after = builder.append_basic_block("scatter.column")
        builder.branch(loop)
        builder.position_at_end(loop)
        r = builder.load(done)
        left = builder.sub(what.height, r)
        run = entry(what.runs, r)
        run = builder.select(builder.icmp_signed("<", run, left), run, left)
        source = at(spare_j, builder.mul(r, zero.type(shape.result_bytes)))
        mover.emit(at(out_j, entry(what.row, r)), source, run)
        builder.store(builder.add(r, run), done)
        more = builder.icmp_signed("<", builder.load(done), what.height)
        builder.cbranch(more, loop, after)
        builder.position_at_end(after)


class _Mover:
    """Emits a loop over whole vectors, then one step for each smaller power of two.

    A scalar loop for the rest would be vectorised once more by LLVM, at some 50 ms a kernel.
    """

    def __init__(self, builder: Any, shape: Tile, adds: bool) -> None:
        self.builder = builder
        self.shape = shape
        self.adds = adds
        lane = LANES[shape.arithmetic.lane]
        if shape.dtype == "float16":
            lane = ir.HalfType()
        elif isinstance(lane, ir.IntType):
            lane = ir.IntType(8 * shape.result_bytes)
        self.lane = lane
        self.lanes = shape.arithmetic.lanes  # of one element

    def emit(self, out: Any, source: Any, count: Any) -> None:
        builder = self.builder
        most = self.shape.vector_rows
        before = builder.block
        loop = builder.append_basic_block("move.vectors")
        after = builder.append_basic_block("move.rest")
        builder.branch(loop)
        builder.position_at_end(loop)
        done = builder.phi(count.type)
        following = builder.add(done, count.type(most))
        whole = builder.append_basic_block("move.vector")
        builder.cbranch(builder.icmp_signed("<=", following, count), whole, after)
        builder.position_at_end(whole)
        self._step(out, source, done, most)
        done.add_incoming(count.type(0), before)
        done.add_incoming(following, builder.block)
        builder.branch(loop)
        builder.position_at_end(after)
        at: Any = done
        while most > 1:
            most //= 2
            at = self._if_left(out, source, count, at, most)

    def _if_left(self, out: Any, source: Any, count: Any, at: Any, elements: int) -> Any:
        builder = self.builder
        before = builder.block
        step = builder.append_basic_block(f"move.{elements}")
        after = builder.append_basic_block("move.next")
        left = builder.and_(count, count.type(elements))
        builder.cbranch(builder.icmp_signed("!=", left, count.type(0)), step, after)
        builder.position_at_end(step)
        self._step(out, source, at, elements)
        following = builder.add(at, count.type(elements))
        builder.branch(after)
        builder.position_at_end(after)
        joined = builder.phi(count.type)
        joined.add_incoming(at, before)
        joined.add_incoming(following, step)
        return joined

    def _step(self, out: Any, source: Any, at: Any, elements: int) -> None:
        builder = self.builder
        width = elements * self.lanes
        kind = self.lane if width == 1 else ir.VectorType(self.lane, width)
        offset = builder.mul(at, at.type(self.shape.result_bytes))
        target, origin = (
            builder.gep(pointer, [offset], inbounds=True, source_etype=I8)
            for pointer in (out, source)
        )
        value = builder.load(origin, align=1, typ=kind)
        if self.adds:
            value = add(builder, self.shape, builder.load(target, align=1, typ=kind), value)
        builder.store(value, builder.bitcast(target, kind.as_pointer()), align=1)
