"""The one move of a permutation kernel: a block of the operand, transposed into the result.

Importing this module imports Numba; only a compilation does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastein.cpu.elements import Element
from fastein.cpu.isa import Isa
from fastein.cpu.transposition import LANE, Transposition
from fastein.cpu.vectors import I64, Emitter

LINE = 64
WORD = 8
MOST_ROWS = 512  # of a block
AHEAD = 512  # bytes of a row between what is read and what is asked for
STORE, STREAM, SHIFT = range(3)


class Block(NamedTuple):
    """What ``transpose_block`` is called with.

    Attributes
    ----------
    source, target, result
        Where rows are read and columns written; where their lines go if they are shifted.
    table
        Of offsets in bytes: row ``r`` is read at ``table[r]``.
    columns, rows
        How many there are, a line of elements at least.
    targets, results
        Column ``c`` is written at ``table[targets + c]``, and goes on at ``table[results + c]``.
    stages
        Where columns of a tile are collected, in lines behind `lines`, if they are shifted.
    way
        How (see `fastein.cpu.permutation_kernel`).
    ahead
        Unless this is 0, ``table[ahead + r]`` is where row ``r`` is `AHEAD` bytes further. There
        are entries for twice as many rows.
    windows
        Unless this is null, windows of rows (see `fastein.cpu.permutation_kernel`).
    lines
        Room for a line of as many rows as a line has elements.
    """

    source: Any
    target: Any
    result: Any
    table: Any
    columns: Any
    rows: Any
    targets: Any
    results: Any
    stages: Any
    way: Any
    ahead: Any
    windows: Any
    lines: Any


class _Rows(NamedTuple):
    """Where the rows of a tile are read: row ``r`` at ``table[r]`` behind `base`.

    If they are `carried`, unless this is None, their first lines are those of the tile before.
    """

    base: Any
    table: Any
    carried: Any = None


def moves(element: Element, isa: Isa, piece: int, carries: bool) -> dict[str, Any]:
    """Return the functions of a permutation kernel, by name.

    Parameters
    ----------
    element : Element
    isa : Isa
    piece : int
        Bytes of a row that are transposed at once.
    carries : bool
        Whether windows are lines that are carried from tile to tile.
    """
    word = types.intp

    @intrinsic  # type: ignore[untyped-decorator]
    def transpose_block(
        typingctx: Any,
        source: Any,
        target: Any,
        result: Any,
        table: Any,
        columns: Any,
        rows: Any,
        targets: Any,
        results: Any,
        stages: Any,
        way: Any,
        ahead: Any,
        windows: Any,
        lines: Any,
    ) -> Any:
        """Transpose a block (see `Block`)."""
        signature = types.none(source, target, result, table, *[word] * 7, windows, lines)

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(element, isa, context, builder)
            _Block(emit, isa.vector_bytes, piece, carries, Block(*args)).emit()
            return context.get_dummy_value()

        return signature, lower

    return {"transpose_block": transpose_block}


class _Block:
    """Emits the transposition of a block."""

    def __init__(self, emit: Emitter, vector: int, piece: int, carries: bool, what: Block) -> None:
        self._emit = emit
        self._builder = emit.builder
        self._vector = vector
        self._piece = piece
        self._carries = carries
        self._side = LINE // emit.size  # rows and columns of a tile
        self._what = what

    def emit(self) -> None:
        """Emit loops over tiles, those at the ends moved back so that they end with the block.

        Tiles begin where lines of the first row do: unaligned pieces would meet lines twice. Where
        rows have windows, these go on by a line from tile to tile.
        """
        emit, builder, side, what = self._emit, self._builder, self._side, self._what
        self._shifts = shifts = builder.icmp_signed("==", what.way, I64(SHIFT))
        self._stage = emit.move(what.lines, I64(LINE * LINE))
        staged = emit.move(self._stage, I64(LINE))
        self._to = builder.select(shifts, staged, what.target)
        slides = builder.icmp_signed("!=", builder.ptrtoint(what.windows, I64), I64(0))
        first = emit.move(what.source, emit.entry(what.table, I64(0)))
        before = builder.neg(emit.misalignment(first, side))
        begin = builder.select(slides, I64(0), before)
        last_column = builder.sub(what.columns, I64(side))
        last_whole = builder.sub(last_column, I64(side))  # with the line that it ends in
        last_row = builder.sub(what.rows, I64(side))
        done = emit.variable()
        with emit.loop(what.columns, side, begin) as place:
            column = emit.least(emit.most(place, I64(0)), last_column)
            first = builder.sub(builder.load(done, typ=I64), column)
            with builder.if_then(shifts):
                self._take_up(column, first)
            whole = builder.icmp_signed("<=", place, last_whole)
            rows = self._rows(column, builder.and_(slides, whole))
            with emit.loop(what.rows, side) as start:
                self._tile(emit.least(start, last_row), column, rows)
            with builder.if_then(shifts):
                self._shift(column, first)
            builder.store(builder.add(column, I64(side)), done)

    def _rows(self, column: Any, slides: Any) -> _Rows:
        """Return where the rows of tiles are read, in windows if these are to slide there."""
        emit, builder, what = self._emit, self._builder, self._what
        at = emit.source(what.source, column)
        if self._carries:
            return _Rows(at, what.table, slides)
        lines = builder.bitcast(what.windows, what.table.type)
        places = builder.gep(lines, [I64(MOST_ROWS)], source_etype=I64)
        with builder.if_then(slides):
            self._slide(_Rows(at, lines))
        return _Rows(
            builder.select(slides, what.windows, at), builder.select(slides, places, what.table)
        )

    def _slide(self, lines: _Rows) -> None:
        """Have the window of each row go on by a line."""
        emit, what = self._emit, self._what
        first = emit.move(what.windows, I64(2 * WORD * MOST_ROWS))
        with emit.loop(what.rows) as r:
            window = emit.move(first, emit.times(r, 2 * LINE))
            second = emit.move(window, I64(LINE))
            self._copy_line(window, second, streams=False)
            self._copy_line(second, self._row(lines, r), streams=False)

    def _tile(self, row: Any, column: Any, rows: _Rows) -> None:
        emit = self._emit
        if self._piece == self._vector == LINE:
            with emit.where(self._what.ahead, ">", 0):
                ahead = self._ahead(row, column)
                with emit.loop(I64(self._side)) as r:
                    emit.prefetch(self._row(ahead, r))
            numbers = [self._builder.add(row, I64(r)) for r in range(self._side)]
            addresses = [self._row(rows, number) for number in numbers]
            self._piece_of_tile(addresses, row, I64(0), column, I64(0))
            return
        self._collect(rows, row, self._ahead(row, column))
        wide, high = self._piece // emit.size, self._vector // emit.size
        with emit.loop(I64(self._side), wide) as c, emit.loop(I64(self._side), high) as r:
            corner = emit.source(emit.move(self._what.lines, emit.times(r, LINE)), c)
            addresses = [emit.move(corner, I64(k * LINE)) for k in range(high)]
            self._piece_of_tile(addresses, row, r, column, c)

    def _ahead(self, row: Any, column: Any) -> _Rows:
        """Return where the lines are that are read later in the place of a tile's.

        Where rows end these are the first ones of as many rows further on: the next block's.
        """
        emit, builder, what = self._emit, self._builder, self._what
        further = builder.add(column, I64(AHEAD // emit.size))
        ends = builder.and_(
            builder.icmp_signed(">=", further, what.columns),
            builder.icmp_signed("!=", what.way, I64(STORE)),  # in parts of rows
        )
        back = builder.select(ends, builder.neg(emit.times(what.columns, emit.size)), I64(0))
        at = emit.move(emit.source(what.source, column), back)
        first = builder.add(row, builder.select(ends, what.rows, I64(0)))
        first = emit.times(builder.add(what.ahead, first), WORD)
        return _Rows(at, builder.bitcast(emit.move(what.table, first), what.table.type))

    def _row(self, rows: _Rows, number: Any) -> Any:
        """Return the address of the row with a number in the table."""
        return self._emit.move(rows.base, self._emit.entry(rows.table, number))

    def _collect(self, rows: _Rows, row: Any, ahead: _Rows) -> None:
        """Copy a line of each row next to each other, and ask for those that are read later.

        Pieces smaller than a line come from there: rows may evict each other from the cache.
        Asking for a line with each that is read lets the processor wait for few at a time.
        """
        emit, builder = self._emit, self._builder

        def copy(carried: bool) -> None:
            with emit.loop(I64(self._side)) as r:
                with emit.where(self._what.ahead, ">", 0):
                    emit.prefetch(self._row(ahead, r))
                number = builder.add(row, r)
                to = emit.move(self._what.lines, emit.times(r, LINE))
                if carried:
                    self._write(to, self._carry(rows, number), LINE)
                    return
                address = self._row(rows, number)
                for start in range(0, LINE, self._vector):
                    value = emit.load(emit.move(address, I64(start)), self._vector // emit.size)
                    self._write(emit.move(to, I64(start)), value, self._vector)

        if rows.carried is None:
            copy(False)
            return
        with builder.if_else(rows.carried) as (then, otherwise):
            with then:
                copy(True)
            with otherwise:
                copy(False)

    def _carry(self, rows: _Rows, number: Any) -> Any:
        """Return a row of a tile, from the line that is kept of it and the next, to be kept then.

        What is read begins where the first line does that begins in the row.
        """
        emit, builder, what = self._emit, self._builder, self._what
        lines = builder.bitcast(what.windows, what.table.type)
        line = emit.entry(lines, number)
        before = builder.sub(line, emit.entry(what.table, number))  # bytes from the line kept
        kept = emit.move(what.windows, I64(2 * WORD * MOST_ROWS))
        kept = emit.move(kept, emit.times(number, LINE))
        old, new = emit.load_line(kept), emit.load_line(emit.move(rows.base, line))
        self._write(kept, new, LINE)
        return emit.pick_line(old, new, builder.sub(I64(LINE), before))

    def _piece_of_tile(
        self, addresses: list[Any], row: Any, within: Any, column: Any, beyond: Any
    ) -> None:
        """Transpose a piece of each of some rows, from one within a tile on; write the columns.

        They are those from `beyond` on behind `column`, the first one of the tile.
        """
        emit, builder = self._emit, self._builder
        block, lanes = Transposition(emit, len(addresses)), self._piece // LANE
        values = block.columns(addresses) if lanes == 1 else block.wide_columns(addresses, lanes)
        to = emit.packed(emit.packed(self._to, within), row)
        targets = builder.add(self._what.targets, column)
        entries = builder.add(builder.select(self._shifts, self._what.stages, targets), beyond)
        places = [self._place(to, entries, I64(c)) for c in range(len(values))]

        def write(store: Callable[[Any, Any], None]) -> None:
            for place, value in zip(places, values, strict=True):
                store(place, value)

        emit.either(
            self._what.way, "==", STREAM, lambda: write(emit.stream), lambda: write(emit.store)
        )

    def _take_up(self, column: Any, first: Any) -> None:
        """Have the columns of a tile, from number `first` on, begin with what is left of them."""
        with self._emit.loop(I64(self._side), start=first) as c:
            stage = self._place(self._stage, self._what.stages, c)
            self._copy_line(stage, self._rest(column, c), streams=False)

    def _shift(self, column: Any, first: Any) -> None:
        """Write lines of the result from the columns of tiles; keep what is left of each column.

        The columns before number `first` have been written. Lines begin anywhere in what was
        collected: read at once after tiles were written, they would wait for these.
        """
        emit, builder, what = self._emit, self._builder, self._what
        length = emit.times(what.rows, emit.size)
        with emit.loop(I64(self._side), start=first) as c:
            stage = self._place(self._stage, what.stages, c)
            result = self._place(what.result, builder.add(what.results, column), c)
            beyond = builder.and_(builder.ptrtoint(result, I64), I64(LINE - 1))
            to = emit.move(result, builder.neg(beyond))
            begin = emit.move(stage, builder.sub(I64(LINE), beyond))
            with emit.loop(length, LINE) as done:
                self._copy_line(emit.move(to, done), emit.move(begin, done), streams=True)
            self._copy_line(self._rest(column, c), emit.move(stage, length), streams=False)

    def _rest(self, column: Any, c: Any) -> Any:
        """Return where a line is kept of which a column has written a part."""
        what = self._what
        return self._place(what.target, self._builder.add(what.targets, column), c)

    def _place(self, base: Any, entries: Any, number: Any) -> Any:
        return self._emit.move(
            base, self._emit.entry(self._what.table, self._builder.add(entries, number))
        )

    def _copy_line(self, to: Any, source: Any, streams: bool) -> None:
        builder, vector = self._builder, ir.VectorType(I64, self._vector // 8)
        for start in range(0, LINE, self._vector):
            value = builder.load(self._emit.move(source, I64(start)), align=1, typ=vector)
            address = self._emit.move(to, I64(start))
            store = self._write(address, value, self._vector if streams else 1)
            if streams:
                self._emit.bypass(store)

    def _write(self, address: Any, value: Any, alignment: int) -> Any:
        """Store a vector as it is, where it may be read again."""
        place = self._builder.bitcast(address, value.type.as_pointer())
        return self._builder.store(value, place, align=alignment)
