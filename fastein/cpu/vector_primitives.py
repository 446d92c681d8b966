"""Primitives of generated code that work on whole vectors: transposed reads, sums across lanes.

They come beside those of :mod:`fastein.cpu.primitives` and make `Element` values of several lanes.

Importing this module imports Numba; only a compilation does.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastein.cpu import primitives
from fastein.cpu.elements import ELEMENTS
from fastein.cpu.isa import host, power_of_two
from fastein.cpu.lanes import joined, lane_of, lanes_of, spread
from fastein.cpu.primitives import elements_of
from fastein.cpu.transposition import LANE, Transposition
from fastein.cpu.vectors import Emitter
from fastein.cpu.vectors import prefetch as ask


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def tile(typingctx: Any, pointer: Any, step: Any, lanes: Any) -> Any:
    """Return the columns of a square tile whose rows lie `step` bytes apart, as vectors."""
    n = lanes.literal_value
    columns = types.UniTuple(elements_of(pointer.dtype, n), n)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _emitter(context, builder, pointer.dtype)
        rows = _rows(emit, args[0], args[1], n)
        lane = LANE // emit.size
        block = Transposition(emit, n)
        vectors = [
            _element(context, builder, pointer.dtype, vector)
            for start in range(0, n, lane)
            for vector in block.columns([emit.source(row, start) for row in rows])
        ]
        return context.make_tuple(builder, sig.return_type, vectors)

    return columns(pointer, types.intp, lanes), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def column(typingctx: Any, pointer: Any, step: Any, lanes: Any) -> Any:
    """Return a vector of elements that lie `step` bytes apart."""
    n = lanes.literal_value

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _emitter(context, builder, pointer.dtype)
        parts = [emit.load(row, 1) for row in _rows(emit, args[0], args[1], n)]
        count = 1
        while len(parts) > 1:
            both = range(2 * count)
            parts = [emit.shuffle(x, y, both) for x, y in zip(parts[::2], parts[1::2], strict=True)]
            count *= 2
        return _element(context, builder, pointer.dtype, parts[0])

    return elements_of(pointer.dtype, n)(pointer, types.intp, lanes), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def picked(typingctx: Any, pointer: Any, first: Any, digits: Any) -> Any:
    """Return a vector of elements that are picked from those at a `wide` pointer.

    `digits` says which, as ``"sizexstep ..."``, outermost first: ``"2x9 3x3 3x0"`` are the elements
    that loops of 2, 3 and 3 iterations meet at 9, 3 and 0 elements an iteration, from `first` on.
    Undefined lanes behind them make it a power of two.
    """
    places = [first.literal_value]
    for digit in digits.literal_value.split():
        size, step = map(int, digit.split("x"))
        places = [place + number * step for place in places for number in range(size)]
    lanes = power_of_two(len(places))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _emitter(context, builder, pointer.dtype)
        every = emit.load(args[0], pointer.lanes)
        # converted once, not for each pick
        vector = _element(context, builder, pointer.dtype, every)
        if pointer.lanes == 1 and not isinstance(vector.type, ir.VectorType):  # but an element
            return vector if lanes == 1 else spread(builder, vector, lanes)
        if lanes == 1:
            return lane_of(builder, vector, places[0])
        return lanes_of(builder, vector, places, lanes)

    return elements_of(pointer.dtype, lanes)(pointer, first, digits), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def every(typingctx: Any, vector: Any, first: Any, step: Any, count: Any) -> Any:
    """Return so many lanes of a vector that lie `step` apart, from `first` on.

    Undefined lanes behind them make it a power of two.
    """
    places = [first.literal_value + n * step.literal_value for n in range(count.literal_value)]
    lanes = power_of_two(len(places))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if lanes == 1:
            return lane_of(builder, args[0], places[0])
        return lanes_of(builder, args[0], places, lanes)

    return elements_of(vector.dtype, lanes)(vector, first, step, count), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def resized(typingctx: Any, vector: Any, lanes: Any) -> Any:
    """Return the first lanes of a vector, or all of them and undefined ones behind."""
    found = elements_of(vector.dtype, lanes.literal_value)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = args[0] if vector.lanes > 1 else spread(builder, args[0], 1)
        return lanes_of(builder, value, range(min(found.lanes, vector.lanes)), found.lanes)

    return found(vector, lanes), lower


@intrinsic  # type: ignore[untyped-decorator]
def laced(typingctx: Any, vectors: Any) -> Any:
    """Return the elements of some vectors in turns."""
    lanes, count = vectors.dtype.lanes, vectors.count

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = cgutils.unpack_tuple(builder, args[0], count)
        while len(parts) > 1:  # end to end, then in turns: LLVM makes of it what it needs
            pairs = zip(parts[::2], parts[1::2], strict=False)
            odd = parts[-1:] if len(parts) % 2 else []
            parts = [*(joined(builder, x, y) for x, y in pairs), *odd]
        turns = [part * lanes + lane for lane in range(lanes) for part in range(count)]
        return lanes_of(builder, parts[0], turns)

    return elements_of(vectors.dtype.dtype, lanes * count)(vectors), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def zeros(typingctx: Any, dtype: Any, lanes: Any) -> Any:
    """Return a vector of zeros."""
    element = elements_of(dtype.instance_type, lanes.literal_value)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(primitives.register_type(element.dtype, element.lanes), None)

    return element(dtype, lanes), lower


@intrinsic  # type: ignore[untyped-decorator]
def across(typingctx: Any, vector: Any) -> Any:
    """Return the sum of a vector's lanes: halves onto halves."""
    dtype = vector.dtype

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = args[0]
        for _ in range(vector.lanes.bit_length() - 1):
            value = primitives.sum_of(builder, dtype, *_halves(builder, value))
        return lane_of(builder, value)

    return elements_of(dtype)(vector), lower


@intrinsic  # type: ignore[untyped-decorator]
def exact_across(typingctx: Any, totals: Any, losses: Any, total: Any, lost: Any) -> Any:
    """Return `total` with the sum of vectors' lanes, and `lost` with what that has lost."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        totals, losses, total, lost = args
        for _ in range(sig.args[0].lanes.bit_length() - 1):
            low, high = _halves(builder, totals)
            both = builder.fadd(*_halves(builder, losses))
            totals, losses = primitives.two_sum(builder, low, both, high)
        lost = builder.fadd(lost, lane_of(builder, losses))
        found = primitives.two_sum(builder, total, lost, lane_of(builder, totals))
        return context.make_tuple(builder, sig.return_type, found)

    return types.UniTuple(total, 2)(totals, losses, total, lost), lower


def _halves(builder: Any, vector: Any) -> tuple[Any, Any]:
    """Return the two halves of a vector, one lane as a vector of one."""
    lanes = _lanes(vector) // 2
    low, high = (lanes_of(builder, vector, range(start, start + lanes)) for start in (0, lanes))
    return low, high


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """Ask for the line `offset` bytes further to be brought to the second cache."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ask(builder, builder.gep(args[0], [args[1]], source_etype=ir.IntType(8)))
        return context.get_dummy_value()

    return types.none(pointer, types.intp), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def prefetch_rows(typingctx: Any, pointer: Any, step: Any, rows: Any) -> Any:
    """Ask for lines to be brought to the second cache, as many as `rows`, `step` bytes apart."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _emitter(context, builder, sig.args[0].dtype)
        for place in _rows(emit, args[0], args[1], rows.literal_value):
            ask(builder, place)
        return context.get_dummy_value()

    return types.none(pointer, types.intp, rows), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def lead(typingctx: Any, pointer: Any, count: Any, lanes: Any) -> Any:
    """Return how many of `count` elements come before the first aligned vector; all if none is."""
    size = _itemsize(pointer.dtype)
    line = size * lanes.literal_value

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = args[1].type
        back = builder.neg(builder.ptrtoint(args[0], word))
        distance = builder.and_(back, word(line - 1))
        fits = builder.icmp_unsigned("==", builder.and_(back, word(size - 1)), word(0))
        elements = builder.select(fits, builder.udiv(distance, word(size)), args[1])
        fewer = builder.icmp_signed("<", elements, args[1])
        return builder.select(fewer, elements, args[1])

    return types.intp(pointer, types.intp, lanes), lower


@intrinsic  # type: ignore[untyped-decorator]
def stream(typingctx: Any, pointer: Any, offset: Any, vector: Any) -> Any:
    """Write an aligned vector past the caches, `offset` bytes further."""
    wide = primitives.Pointer(pointer.dtype, pointer.writes, vector.lanes)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]], inbounds=True, source_etype=ir.IntType(8))
        primitives.store(context, builder, wide, place, args[2], past_caches=True)
        return context.get_dummy_value()

    return types.none(pointer, types.intp, vector), lower


@intrinsic  # type: ignore[untyped-decorator]
def fence(typingctx: Any) -> Any:
    """Wait for what was written past the caches: other threads must see it."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), lower


def _lanes(vector: Any) -> int:
    kind = vector.type
    return int((kind.elements[0] if isinstance(kind, ir.LiteralStructType) else kind).count)


def _itemsize(dtype: Any) -> int:
    return 1 if isinstance(dtype, types.Boolean) else int(dtype.bitwidth) // 8


def _emitter(context: Any, builder: Any, dtype: Any) -> Emitter:
    return Emitter(ELEMENTS[f"raw{_itemsize(dtype)}"], host(), context, builder)


def _rows(emit: Emitter, address: Any, step: Any, count: int) -> list[Any]:
    rows = [address]
    while len(rows) < count:
        rows.append(emit.move(rows[-1], step))
    return rows


def _element(context: Any, builder: Any, dtype: Any, raw: Any) -> Any:
    """Return a vector of the bits of elements in the form that arithmetic wants."""
    return primitives.from_bits(context, builder, dtype, raw)
