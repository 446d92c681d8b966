"""The register tile as LLVM IR.

Importing this module imports Numba; only :mod:`fastein.cpu.tile` does, when it compiles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .tile import LANE_BYTES, NARROW, Tile

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_LANES = {
    "float": ir.FloatType(),
    "double": ir.DoubleType(),
    **{f"i{bits}": ir.IntType(bits) for bits in (8, 16, 32, 64)},
}
ASSIGN, ADD, STREAM = range(3)
LONG_SUM = 64  # steps beside which asking for the tile of the result costs nothing


def tile(shape: Tile) -> Any:
    """Return the intrinsic that multiplies one tile.

    ``tile(vectors, a, b, depth, a_steps, b_steps, stride, turn, a_ahead, b_ahead, out, offsets,
    first, way)`` multiplies the rows at `a`, so many vectors (or `NARROW`), and the columns at
    `b` over `depth` >= 1 steps. Step ``k`` of the rows lies ``offsets[a_steps + k]`` bytes further,
    that of the columns ``offsets[b_steps + k]``, and columns are `stride` bytes apart. The same
    steps from `a_ahead` and `b_ahead` on are fetched into the second cache; of the columns,
    `turn` bytes apart, one in each step. The tile is written at `out`, its column ``c``
    ``offsets[first + c]`` bytes further; `way` is 0 to assign, 1 to add, 2 to assign past the
    caches (the tile must then be aligned to whole vectors).

    That steps and columns come from tables costs nothing: their loads hide behind the products.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        typingctx: Any,
        vectors: Any,
        a: Any,
        b: Any,
        depth: Any,
        a_steps: Any,
        b_steps: Any,
        stride: Any,
        turn: Any,
        a_ahead: Any,
        b_ahead: Any,
        out: Any,
        offsets: Any,
        first: Any,
        way: Any,
    ) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind, *rest = args
            done = builder.append_basic_block("tile.done")
            blocks = [builder.append_basic_block(f"tile.{vectors}") for vectors in shape.kinds]
            choice = builder.switch(kind, blocks[0])
            for vectors, block in zip(shape.kinds[1:], blocks[1:], strict=True):
                choice.add_case(kind.type(vectors), block)
            for vectors, block in zip(shape.kinds, blocks, strict=True):
                builder.position_at_end(block)
                _emitter(builder, shape, vectors).emit(*rest)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        index = types.intp
        steps = [index] * 5
        return types.void(index, a, b, *steps, a, b, out, offsets, index, index), lower

    return run


def _emitter(builder: Any, shape: Tile, vectors: int) -> _Emitter:
    if vectors == NARROW:
        half = replace(shape, vector_bytes=shape.vector_bytes // 2)
        return _Emitter(builder, half, 3, shape)
    return _Emitter(builder, shape, vectors, shape)


def scatter(shape: Tile) -> Any:
    """Return the intrinsic that writes a tile which is not all of one piece in the result.

    ``scatter(out, spare, offsets, row, height, column, width, runs, adds)`` takes `width` columns
    of `height` rows from `spare`. Row ``r`` belongs ``offsets[row + r]`` bytes behind `out` and
    is the first of ``offsets[runs + r]`` that lie one after the other there; column ``c`` belongs
    ``offsets[column + c]`` bytes further. What is there is added to if `adds` is not 0.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        typingctx: Any,
        out: Any,
        spare: Any,
        offsets: Any,
        row: Any,
        height: Any,
        column: Any,
        width: Any,
        runs: Any,
        adds: Any,
    ) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            *rest, adds = args
            with builder.if_else(builder.icmp_signed("!=", adds, adds.type(0))) as (added, put):
                with added:
                    _scatter(builder, _Mover(builder, shape, adds=True), *rest)
                with put:
                    _scatter(builder, _Mover(builder, shape, adds=False), *rest)
            return context.get_dummy_value()

        index = types.intp
        return types.void(out, spare, offsets, index, index, index, index, index, index), lower

    return run


def _scatter(
    builder: Any,
    mover: _Mover,
    out: Any,
    spare: Any,
    offsets: Any,
    row: Any,
    height: Any,
    column: Any,
    width: Any,
    runs: Any,
) -> None:
    def at(address: Any, offset: Any) -> Any:
        return builder.gep(address, [offset], inbounds=True, source_etype=_I8)

    def entry(table: Any, index: Any) -> Any:
        cell = builder.gep(offsets, [builder.add(table, index)], source_etype=_I64)
        return builder.load(cell, typ=_I64)

    shape, zero = mover.shape, height.type(0)
    done = cgutils.alloca_once(builder, height.type)
    with cgutils.for_range(builder, width) as columns:
        out_j = at(out, entry(column, columns.index))
        spare_j = at(spare, builder.mul(columns.index, zero.type(shape.rows * shape.result_bytes)))
        builder.store(zero, done)
        loop = builder.append_basic_block("scatter.run")
        after = builder.append_basic_block("scatter.column")
        builder.branch(loop)
        builder.position_at_end(loop)
        r = builder.load(done)
        left = builder.sub(height, r)
        run = entry(runs, r)
        run = builder.select(builder.icmp_signed("<", run, left), run, left)
        source = at(spare_j, builder.mul(r, zero.type(shape.result_bytes)))
        mover.emit(at(out_j, entry(row, r)), source, run)
        builder.store(builder.add(r, run), done)
        more = builder.icmp_signed("<", builder.load(done), height)
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
        lane = _LANES[shape.arithmetic.lane]
        if shape.dtype == "float16":
            lane = ir.HalfType()
        elif shape.result_bytes < shape.arithmetic.itemsize:
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
            builder.gep(pointer, [offset], inbounds=True, source_etype=_I8)
            for pointer in (out, source)
        )
        value = builder.load(origin, align=1, typ=kind)
        if self.adds:
            value = _add(builder, self.shape, builder.load(target, align=1, typ=kind), value)
        builder.store(value, builder.bitcast(target, kind.as_pointer()), align=1)


def _add(builder: Any, shape: Tile, x: Any, y: Any) -> Any:
    """Add results, as einsum means it."""
    if shape.dtype == "bool":
        return builder.or_(x, y)
    integers = isinstance(getattr(x.type, "element", x.type), ir.IntType)
    return builder.add(x, y) if integers else builder.fadd(x, y)


class _Emitter:
    """Emits one tile at the builder's place."""

    def __init__(self, builder: Any, shape: Tile, vectors: int, whole: Tile) -> None:
        arithmetic = shape.arithmetic
        self.builder = builder
        self.shape = shape
        self.vectors = vectors
        self.pitch = whole.column_pitch
        self.lane = _LANES[arithmetic.lane]
        self.lane_bytes = LANE_BYTES[arithmetic.lane]
        self.width = shape.vector_bytes // self.lane_bytes
        self.vector = ir.VectorType(self.lane, self.width)
        self.scalars = shape.columns * arithmetic.lanes
        self.complex = arithmetic.lanes == 2

    def emit(
        self,
        a: Any,
        b: Any,
        depth: Any,
        a_steps: Any,
        b_steps: Any,
        stride: Any,
        turn: Any,
        a_ahead: Any,
        b_ahead: Any,
        out: Any,
        offsets: Any,
        first: Any,
        way: Any,
    ) -> None:
        builder = self.builder
        steps = [self._cell(offsets, table) for table in (a_steps, b_steps)]
        targets = [self._target(out, offsets, first, c) for c in range(self.shape.columns)]
        self._prefetch_tile(targets, depth, way)
        totals = self._columns(self._sums((a, b), (a_ahead, b_ahead), depth, steps, stride, turn))
        targets = [self._target(out, offsets, first, c) for c in range(self.shape.columns)]
        blocks = [
            builder.append_basic_block(f"tile.{name}") for name in ("assign", "add", "stream")
        ]
        done = builder.append_basic_block("tile.done")
        switch = builder.switch(way, blocks[ASSIGN])
        for case in (ADD, STREAM):
            switch.add_case(way.type(case), blocks[case])
        for case, block in enumerate(blocks):
            builder.position_at_end(block)
            for target, column in zip(targets, totals, strict=True):
                for v, total in enumerate(column):
                    self._put(target, v, total, case)
            builder.branch(done)
        builder.position_at_end(done)

    # The sum

    def _sums(
        self, bases: Any, ahead: Any, depth: Any, steps: list[Any], stride: Any, turn: Any
    ) -> list[list[Any]]:
        """Return the accumulators, by scalar, then by vector, after the loop over the sum."""
        builder = self.builder
        before = builder.block
        loop, after = builder.append_basic_block("tile.sum"), builder.append_basic_block("tile.put")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(depth.type)
        accumulators = [
            [builder.phi(self.vector) for _ in range(self.vectors)] for _ in range(self.scalars)
        ]
        phis = [(k, depth.type(0), builder.add(k, depth.type(1)))]
        offsets = [builder.load(self._cell(table, k), typ=_I64) for table in steps]
        places = [self._at(base, offset) for base, offset in zip(bases, offsets, strict=True)]
        self._prefetch(self._at(ahead[0], offsets[0]))
        # one column in each step: a line of summed elements is met by all columns in turn
        column = builder.and_(k, k.type(self.pitch - 1))
        self._prefetch(self._at(self._at(ahead[1], offsets[1]), builder.mul(column, turn)))
        rows = [self._load(places[0], v * self.shape.vector_bytes) for v in range(self.vectors)]
        sums = [
            [self._multiply_add(x, scalar, total) for x, total in zip(rows, column, strict=True)]
            for scalar, column in zip(
                self._broadcasts(places[1], stride), accumulators, strict=True
            )
        ]
        zero = ir.Constant(self.vector, None)
        for column, totals in zip(accumulators, sums, strict=True):
            phis += [(phi, zero, total) for phi, total in zip(column, totals, strict=True)]
        for phi, start, following in phis:
            phi.add_incoming(start, before)
            phi.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", phis[0][2], depth), loop, after)
        builder.position_at_end(after)
        return sums

    def _broadcasts(self, place: Any, stride: Any) -> list[Any]:
        """Return every column's scalars, each in all lanes of a vector."""
        lanes = self.shape.arithmetic.lanes
        scalars = []
        for column in range(self.shape.columns):
            # four columns to an address, so that the multiples of the stride are few registers
            if column and column % 4 == 0:
                place = self._at(place, self.builder.mul(stride, stride.type(4)))
            offset = self.builder.mul(stride, stride.type(column % 4))
            here = self._at(place, offset)
            scalars += [self._broadcast(here, part * self.lane_bytes) for part in range(lanes)]
        return scalars

    def _multiply_add(self, x: Any, y: Any, total: Any) -> Any:
        builder = self.builder
        if self.shape.dtype == "bool":
            return builder.or_(total, builder.and_(x, y))
        if isinstance(self.lane, ir.IntType):
            return builder.add(total, builder.mul(x, y))
        # fused where the processor can, a product and a sum where it cannot
        suffix = f"v{self.width}f{8 * self.lane_bytes}"
        return builder.call(self._function(f"llvm.fmuladd.{suffix}", 3), [x, y, total])

    def _function(self, name: str, arguments: int) -> Any:
        module = self.builder.module
        found = module.globals.get(name)
        kind = ir.FunctionType(self.vector, [self.vector] * arguments)
        return found or ir.Function(module, kind, name)

    def _columns(self, sums: list[list[Any]]) -> list[list[Any]]:
        """Return the tile's columns: for complex, each from its two accumulators.

        The products of both lanes with the scalar's real part are in one, those with its imaginary
        part in the other: (xr yr, xi yr) and (xr yi, xi yi).
        """
        if not self.complex:
            return sums
        swapped = ir.Constant(
            ir.VectorType(_I32, self.width), [lane ^ 1 for lane in range(self.width)]
        )
        signs = ir.Constant(self.vector, [(-1.0, 1.0)[lane % 2] for lane in range(self.width)])
        suffix = f"v{self.width}f{8 * self.lane_bytes}"
        fused = self._function(f"llvm.fmuladd.{suffix}", 3)
        return [
            [
                self.builder.call(
                    fused, [self.builder.shuffle_vector(imag, imag, swapped), signs, real]
                )
                for real, imag in zip(*pair, strict=True)
            ]
            for pair in zip(sums[::2], sums[1::2], strict=True)
        ]

    # Memory

    def _prefetch_tile(self, targets: list[Any], depth: Any, way: Any) -> None:
        """Ask for the tile of the result, to be written when the sum is done."""
        builder = self.builder
        long = builder.icmp_signed(">=", depth, depth.type(LONG_SUM))
        cached = builder.icmp_signed("!=", way, way.type(STREAM))
        with builder.if_then(builder.and_(long, cached)):
            for target in targets:
                for v in range(self.vectors):
                    last = (v + 1) * self.shape.vector_rows * self.shape.result_bytes - 1
                    self._prefetch(self._at(target, last), write=True)

    def _prefetch(self, address: Any, write: bool = False) -> None:
        """Ask for a line: to write in the first cache, to read in the second.

        Into the first, what is read later would push out what is in use.
        """
        module, name = self.builder.module, "llvm.prefetch.p0"
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = module.globals.get(name) or ir.Function(module, kind, name)
        hints = (1, 3) if write else (0, 2)
        self.builder.call(function, [address, *map(_I32, hints), _I32(1)])

    def _at(self, address: Any, offset: Any) -> Any:
        if isinstance(offset, int):
            offset = _I64(offset)
        return self.builder.gep(address, [offset], inbounds=True, source_etype=_I8)

    def _load(self, address: Any, offset: int) -> Any:
        return self.builder.load(self._at(address, offset), align=self.lane_bytes, typ=self.vector)

    def _broadcast(self, address: Any, offset: int) -> Any:
        value = self.builder.load(self._at(address, offset), align=self.lane_bytes, typ=self.lane)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, _I32(0))
        everywhere = ir.Constant(ir.VectorType(_I32, self.width), None)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def _cell(self, table: Any, index: Any) -> Any:
        return self.builder.gep(table, [index], source_etype=_I64)

    def _target(self, out: Any, offsets: Any, first: Any, column: int) -> Any:
        cell = self._cell(offsets, self.builder.add(first, first.type(column)))
        return self._at(out, self.builder.load(cell, typ=_I64))

    def _put(self, target: Any, vector: int, total: Any, way: int) -> None:
        builder = self.builder
        place = self._at(target, vector * self.shape.vector_rows * self.shape.result_bytes)
        total = self._result(total)
        if way == ADD:
            old = builder.load(place, align=1, typ=total.type)
            total = _add(builder, self.shape, old, total)
        address = builder.bitcast(place, total.type.as_pointer())
        store = builder.store(total, address, align=1)
        if way == STREAM:
            store.align = self.shape.vector_rows * self.shape.result_bytes
            store.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))

    def _result(self, total: Any) -> Any:
        """Return a vector of accumulators as elements of the result."""
        if self.shape.dtype == "float16":
            return self.builder.fptrunc(total, ir.VectorType(ir.HalfType(), self.width))
        if self.shape.result_bytes < self.lane_bytes:
            return self.builder.trunc(total, ir.VectorType(ir.IntType(8), self.width))
        return total
