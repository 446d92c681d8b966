"""The register tile as LLVM IR.

Importing this module imports Numba; only :mod:`fastein.cpu.tile` does, when it compiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any, NamedTuple

from llvmlite import ir

from .tile import HALF, JOIN, LANE_BYTES, LINE, NARROW, Tile
from .tile_lines import GOES_BEFORE, GOES_ON, put_lines, store_past_caches
from .tile_scatter import LANES, add, intrinsic_of
from .vectors import I8, I32, I64, as_it_is, intrinsic, prefetch

ASSIGN, ADD, STREAM = WAYS = range(3)
DOT_PRODUCTS = {"pairs": "vpdpwssd", "bytes": "vpdpbusd"}


class Operands(NamedTuple):
    """What :func:`tile` is called with.

    That steps and columns come from tables costs nothing: their loads hide behind the products.

    Attributes
    ----------
    vectors
        The rows, as so many vectors, or `NARROW`, and more if it has
        half of the columns: `HALF`.
    a, b
        Where the tile's rows and columns begin.
    depth
        Steps of the sum, at least 1.
    a_steps, b_steps
        Step ``k`` of the rows lies ``offsets[a_steps + k]`` bytes further, that of the columns
        ``offsets[b_steps + k]``.
    stride
        Bytes between columns.
    turn
        Bytes between the columns that are fetched ahead, one in each step.
    a_ahead, b_ahead
        From where on the same steps of rows and columns are fetched into the second cache.
    out
        Where the tile is written.
    offsets
        The table of offsets, in bytes.
    first
        Column ``c`` is written ``offsets[first + c]`` bytes further.
    way
        `ASSIGN`, `ADD`, or `STREAM`: assign past the caches (the tile must then be aligned to
        whole vectors). From `JOIN` on: assign past the caches by whole lines, that is, and 1 if
        a tile before has left some of a line, and 2 if one behind will take what is left.
    row
        If tiles are abreast: row ``r`` is written ``offsets[row + r]`` bytes further than its
        column.
    width
        How many columns are written then.
    asks
        Whether the lines of the result are far, to be asked for before the sum begins.
    room, slot
        Where a line of each column is kept for the next tile: that of column ``c`` is line
        ``slot + c`` there.
    """

    vectors: Any
    a: Any
    b: Any
    depth: Any
    a_steps: Any
    b_steps: Any
    stride: Any
    turn: Any
    a_ahead: Any
    b_ahead: Any
    out: Any
    offsets: Any
    first: Any
    way: Any
    row: Any
    width: Any
    asks: Any
    room: Any
    slot: Any


def tile(shape: Tile) -> Any:
    """Return the intrinsic that multiplies one tile; its arguments are those of `Operands`."""

    def emit(builder: Any, what: Operands) -> None:
        kind = what.vectors
        done = builder.append_basic_block("tile.done")
        blocks = [builder.append_basic_block(f"tile.{vectors}") for vectors in shape.kinds]
        choice = builder.switch(kind, blocks[0])
        for vectors, block in zip(shape.kinds[1:], blocks[1:], strict=True):
            choice.add_case(kind.type(vectors), block)
        for vectors, block in zip(shape.kinds, blocks, strict=True):
            builder.position_at_end(block)
            _emitter(builder, shape, vectors).emit(what)
            builder.branch(done)
        builder.position_at_end(done)

    return intrinsic_of(Operands, emit)


def _emitter(builder: Any, shape: Tile, kind: int) -> _Emitter:
    part, ways = shape, WAYS
    if kind > HALF:  # it goes to the spare tile
        part, ways = part.replace(columns=shape.columns // 2), WAYS[:1]
    vectors = kind % HALF
    if vectors == NARROW:
        part, vectors = part.replace(vector_bytes=shape.vector_bytes // 2), 3
    return _Emitter(builder, part, vectors, shape, ways)


class _Emitter:
    """Emits one tile at the builder's place."""

    def __init__(
        self, builder: Any, shape: Tile, vectors: int, whole: Tile, ways: Sequence[int]
    ) -> None:
        arithmetic = shape.arithmetic
        self.builder = builder
        self.shape = shape
        self.vectors = vectors
        self.ways = ways
        self.pitch = whole.column_pitch
        self.lane = LANES[arithmetic.lane]
        self.lane_bytes = LANE_BYTES[arithmetic.lane]
        self.width = shape.vector_bytes // self.lane_bytes
        self.vector = ir.VectorType(self.lane, self.width)
        self.scalars = shape.columns * shape.parts
        self.complex = shape.parts == 2
        self.joins = whole.joins and shape is whole

    def emit(self, what: Operands) -> None:
        builder = self.builder
        self._prefetch_tile(what)
        totals = self._columns(self._sums(what))
        targets = self._targets(what)
        names = ("assign", "add", "stream")
        blocks = {way: builder.append_basic_block(f"tile.{names[way]}") for way in self.ways}
        done = builder.append_basic_block("tile.done")
        switch = builder.switch(what.way, blocks[ASSIGN])
        for case in self.ways[1:]:
            switch.add_case(what.way.type(case), blocks[case])
        for case, block in blocks.items():
            builder.position_at_end(block)
            for c, (places, column) in enumerate(zip(targets, totals, strict=True)):
                with self._if_within(what, c):
                    for place, total in zip(places, column, strict=True):
                        self._put(place, total, case)
            builder.branch(done)
        if self.joins:
            block = builder.append_basic_block("tile.join")
            for case in range(4):
                switch.add_case(what.way.type(JOIN + case), block)
            builder.position_at_end(block)
            results = [[self._result(total) for total in column] for column in totals]
            nbytes = self.shape.vector_rows * self.shape.result_bytes
            kept = self._at(what.room, builder.mul(what.slot, I64(LINE)))
            first = [places[0] for places in targets]
            put_lines(builder, first, results, nbytes, kept, builder.sub(what.way, I64(JOIN)))
            builder.branch(done)
        builder.position_at_end(done)

    # The sum

    def _sums(self, what: Operands) -> list[list[Any]]:
        """Return the accumulators, by scalar, then by vector, after the loop over the sum."""
        builder = self.builder
        steps = [self._cell(what.offsets, table) for table in (what.a_steps, what.b_steps)]
        before = builder.block
        loop, after = builder.append_basic_block("tile.sum"), builder.append_basic_block("tile.put")
        builder.branch(loop)
        builder.position_at_end(loop)
        depth = what.depth
        k = builder.phi(depth.type)
        accumulators = [
            [builder.phi(self.vector) for _ in range(self.vectors)] for _ in range(self.scalars)
        ]
        phis = [(k, depth.type(0), builder.add(k, depth.type(1)))]
        a_step, b_step = [builder.load(self._cell(table, k), typ=I64) for table in steps]
        a, b = self._at(what.a, a_step), self._at(what.b, b_step)
        prefetch(builder, self._at(what.a_ahead, a_step))
        # one column in each step: a line of summed elements is met by all columns in turn
        column = builder.and_(k, k.type(self.pitch - 1))
        prefetch(builder, self._at(self._at(what.b_ahead, b_step), builder.mul(column, what.turn)))
        rows = [self._load(a, v * self.shape.vector_bytes) for v in range(self.vectors)]
        sums = [
            [self._multiply_add(x, scalar, total) for x, total in zip(rows, column, strict=True)]
            for scalar, column in zip(self._broadcasts(b, what.stride), accumulators, strict=True)
        ]
        zero = ir.Constant(self.vector, None)
        for column, totals in zip(accumulators, sums, strict=True):
            phis += [(phi, zero, total) for phi, total in zip(column, totals, strict=True)]
        for phi, start, following in phis:
            phi.add_incoming(start, before)
            phi.add_incoming(following, loop)
        more = builder.icmp_signed("<", phis[0][2], depth)
        # unrolled twice, tiles of two vectors of complex or of bytes have too few registers
        as_it_is(builder, builder.cbranch(more, loop, after))
        builder.position_at_end(after)
        return sums

    def _broadcasts(self, place: Any, stride: Any) -> list[Any]:
        """Return every column's scalars, each in all lanes of a vector.

        Where tiles are abreast, a column has a number for each lane.
        """
        scalars = []
        for column in range(self.shape.columns):
            # four columns to an address, so that the multiples of the stride are few registers
            if column and column % 4 == 0:
                place = self._at(place, self.builder.mul(stride, stride.type(4)))
            offset = self.builder.mul(stride, stride.type(column % 4))
            here = self._at(place, offset)
            scalars += [self._factor(here, part) for part in range(self.shape.parts)]
        return scalars

    def _factor(self, place: Any, part: int) -> Any:
        """Return what a column's rows are multiplied by; part 1 of complex is the imaginary one."""
        if not self.shape.is_abreast:
            return self._broadcast(place, part * self.lane_bytes)
        factor = self._load(place, 0)
        if not self.complex:
            return factor
        lanes = [lane & ~1 | part for lane in range(self.width)]
        mask = ir.Constant(ir.VectorType(I32, self.width), lanes)
        return self.builder.shuffle_vector(factor, factor, mask)

    def _multiply_add(self, x: Any, y: Any, total: Any) -> Any:
        builder = self.builder
        if self.shape.dtype == "bool":
            return builder.or_(total, builder.and_(x, y))
        if self.shape.form in DOT_PRODUCTS:
            name = f"llvm.x86.avx512.{DOT_PRODUCTS[self.shape.form]}.{8 * self.shape.vector_bytes}"
            return builder.call(self._function(name, 3), [total, x, y])
        if isinstance(self.lane, ir.IntType):
            return builder.add(total, builder.mul(x, y))
        # fused where the processor can, a product and a sum where it cannot
        suffix = f"v{self.width}f{8 * self.lane_bytes}"
        return builder.call(self._function(f"llvm.fmuladd.{suffix}", 3), [x, y, total])

    def _function(self, name: str, arguments: int) -> Any:
        return intrinsic(self.builder, name, self.vector, [self.vector] * arguments)

    def _columns(self, sums: list[list[Any]]) -> list[list[Any]]:
        """Return the tile's columns: for complex, each from its two accumulators.

        The products of both lanes with the scalar's real part are in one, those with its imaginary
        part in the other: (xr yr, xi yr) and (xr yi, xi yi).
        """
        if not self.complex:
            return sums
        swapped = ir.Constant(
            ir.VectorType(I32, self.width), [lane ^ 1 for lane in range(self.width)]
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

    def _prefetch_tile(self, what: Operands) -> None:
        """Ask for the tile of the result, to be written when the sum is done."""
        builder, way = self.builder, what.way
        last = self.shape.vector_rows * self.shape.result_bytes - 1
        with builder.if_then(builder.icmp_signed("!=", what.asks, what.asks.type(0))):
            targets = self._targets(what)
            with builder.if_then(builder.icmp_signed("<", way, way.type(STREAM))):
                for address in chain.from_iterable(targets):
                    prefetch(builder, self._at(address, last), write=True)
            if self.joins:  # the lines at its ends that are not written as a whole
                with builder.if_then(builder.icmp_signed(">", way, way.type(STREAM))):
                    flags = builder.sub(way, way.type(JOIN))
                    self._prefetch_end(flags, GOES_BEFORE, [column[0] for column in targets])
                    behind = [self._at(column[-1], last + 1) for column in targets]
                    self._prefetch_end(flags, GOES_ON, behind)

    def _prefetch_end(self, flags: Any, flag: int, places: list[Any]) -> None:
        builder = self.builder
        shared = builder.and_(flags, flags.type(flag))
        with builder.if_then(builder.icmp_signed("==", shared, shared.type(0))):
            for place in places:
                prefetch(builder, place, write=True)

    def _at(self, address: Any, offset: Any) -> Any:
        if isinstance(offset, int):
            offset = I64(offset)
        return self.builder.gep(address, [offset], inbounds=True, source_etype=I8)

    def _load(self, address: Any, offset: int) -> Any:
        return self.builder.load(self._at(address, offset), align=self.lane_bytes, typ=self.vector)

    def _broadcast(self, address: Any, offset: int) -> Any:
        value = self.builder.load(self._at(address, offset), align=self.lane_bytes, typ=self.lane)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, I32(0))
        everywhere = ir.Constant(ir.VectorType(I32, self.width), None)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def _cell(self, table: Any, index: Any) -> Any:
        return self.builder.gep(table, [index], source_etype=I64)

    def _targets(self, what: Operands) -> list[list[Any]]:
        """Return where the tile is written, by column, then by vector."""
        vector = self.shape.vector_rows * self.shape.result_bytes
        rows: list[Any] = [v * vector for v in range(self.vectors)]
        if self.shape.is_abreast:
            entries = [self.builder.add(what.row, what.row.type(v)) for v in range(self.vectors)]
            rows = [self.builder.load(self._cell(what.offsets, x), typ=I64) for x in entries]
        cells = [
            self._cell(what.offsets, self.builder.add(what.first, what.first.type(column)))
            for column in range(self.shape.columns)
        ]
        columns = [self._at(what.out, self.builder.load(cell, typ=I64)) for cell in cells]
        return [[self._at(column, row) for row in rows] for column in columns]

    def _if_within(self, what: Operands, column: int) -> AbstractContextManager[object]:
        """Emit what follows for tiles that have such a column; unless abreast, all have."""
        if not self.shape.is_abreast or column == 0:
            return nullcontext()
        within = self.builder.icmp_signed(">", what.width, what.width.type(column))
        return self.builder.if_then(within)  # type: ignore[no-any-return]

    def _put(self, place: Any, total: Any, way: int) -> None:
        builder = self.builder
        total = self._result(total)
        if way == ADD:
            old = builder.load(place, align=1, typ=total.type)
            total = add(builder, self.shape, old, total)
        if way == STREAM:
            align = self.shape.vector_rows * self.shape.result_bytes
            store_past_caches(builder, total, place, align)
        else:
            builder.store(total, builder.bitcast(place, total.type.as_pointer()), align=1)

    def _result(self, total: Any) -> Any:
        """Return a vector of accumulators as elements of the result."""
        if self.shape.is_abreast:
            return total
        if self.shape.dtype == "float16":
            return self.builder.fptrunc(total, ir.VectorType(ir.HalfType(), self.width))
        if not isinstance(self.lane, ir.IntType):
            return total
        elements = ir.VectorType(ir.IntType(8 * self.shape.result_bytes), self.width)
        if self.shape.dtype == "bool":
            any_step = self.builder.icmp_unsigned("!=", total, ir.Constant(self.vector, None))
            return self.builder.zext(any_step, elements)
        if self.shape.result_bytes < self.lane_bytes:
            return self.builder.trunc(total, elements)
        if self.shape.result_bytes > self.lane_bytes:
            return self.builder.sext(total, elements)
        return total
