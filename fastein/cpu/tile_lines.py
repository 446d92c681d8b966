"""Writing tiles past the caches as whole lines, wherever the result begins, as LLVM IR.

Only whole lines can be written past the caches without a loss. Where the columns of a result begin
in the midst of lines, no vector of a tile is one. But tiles that follow each other in a column fill
the lines between them: the last vector of each is kept until the next one comes, and every line is
put together from two neighbouring vectors, by one instruction of AVX-512. What shares a line with
others is written by itself, through the caches: the beginning and the end of a run of tiles.

Importing this module imports Numba; only :mod:`fastein.cpu.tile_intrinsics` does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from llvmlite import ir

from .tile import LINE
from .vectors import I8, I32, I64, intrinsic, repeated

GOES_BEFORE, GOES_ON = 1, 2  # a tile that lines are shared with
_WORDS = LINE // 4
_LINE = ir.VectorType(I32, _WORDS)
_BITS = ir.IntType(_WORDS)
_MASK = ir.VectorType(ir.IntType(1), _WORDS)


def store_past_caches(builder: Any, value: Any, address: Any, align: int) -> None:
    """Store a vector that is aligned to `align` bytes, past the caches."""
    store = builder.store(value, builder.bitcast(address, value.type.as_pointer()), align=align)
    store.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))


def put_lines(
    builder: Any, places: list[Any], tile: list[list[Any]], nbytes: int, kept: Any, flags: Any
) -> None:
    """Write a tile by whole lines.

    Parameters
    ----------
    builder : IRBuilder
    places : list
        Where its columns begin, at multiples of 4 bytes.
    tile : list of list
        Its elements, by column, then by vector.
    nbytes : int
        Bytes of a vector: one line or several.
    kept
        Room for a line of each column: the last of the tile before, then of this one.
    flags
        `GOES_BEFORE` if there is a tile before, and `GOES_ON` if there is one behind, with which
        lines are shared.
    """
    goes_before, goes_on = (
        builder.icmp_signed("!=", builder.and_(flags, flags.type(flag)), flags.type(0))
        for flag in (GOES_BEFORE, GOES_ON)
    )
    for c, (place, vectors) in enumerate(zip(places, tile, strict=True)):
        room = builder.bitcast(_at(builder, kept, LINE * c), _LINE.as_pointer())
        before = builder.load(room, align=LINE, typ=_LINE)
        lines = [before, *(line for vector in vectors for line in _lines(builder, vector, nbytes))]
        into = builder.and_(builder.ptrtoint(place, I64), I64(LINE - 1))
        words = builder.trunc(builder.lshr(into, I64(2)), I32)
        first = _at(builder, place, builder.neg(into))
        picked = _picked(builder, words)
        whole = [_joined(builder, pair, picked) for pair in pairwise([*lines, lines[-1]])]
        with builder.if_else(goes_before) as (shared, begun):
            with shared:
                store_past_caches(builder, whole[0], first, LINE)
            with begun:
                _store_words(builder, whole[0], first, _above(builder, words))
        for n, line in enumerate(whole[1:-1], 1):
            store_past_caches(builder, line, _at(builder, first, LINE * n), LINE)
        with builder.if_else(goes_on) as (kept_for_next, ended):
            with kept_for_next:
                builder.store(lines[-1], room, align=LINE)
            with ended, builder.if_then(builder.icmp_signed("!=", into, I64(0))):
                behind = _at(builder, first, LINE * (len(whole) - 1))
                below = builder.not_(_above(builder, words))
                _store_words(builder, whole[-1], behind, below)


def _lines(builder: Any, vector: Any, nbytes: int) -> list[Any]:
    """Return a vector of so many bytes as lines of words."""
    words = nbytes // 4
    whole = builder.bitcast(vector, ir.VectorType(I32, words))
    return [
        builder.shuffle_vector(whole, whole, ir.Constant(_LINE, [*range(start, start + _WORDS)]))
        for start in range(0, words, _WORDS)
    ]


def _picked(builder: Any, words: Any) -> Any:
    """Return which words of two lines make one that begins so many words before the second."""
    indices = ir.Constant(_LINE, [*range(_WORDS, 2 * _WORDS)])
    return builder.sub(indices, repeated(builder, words, _WORDS))


def _joined(builder: Any, pair: tuple[Any, Any], picked: Any) -> Any:
    name = f"llvm.x86.avx512.vpermi2var.d.{8 * LINE}"
    function = intrinsic(builder, name, _LINE, [_LINE] * 3)
    return builder.call(function, [pair[0], picked, pair[1]])


def _above(builder: Any, words: Any) -> Any:
    """Return a mask of all words of a line but the first ones."""
    return builder.shl(_BITS(-1), builder.trunc(words, _BITS))


def _store_words(builder: Any, line: Any, address: Any, mask: Any) -> None:
    """Store those words of a line whose bits are set."""
    name, arguments = f"llvm.masked.store.v{_WORDS}i32.p0", [_LINE, I8.as_pointer(), I32, _MASK]
    function = intrinsic(builder, name, ir.VoidType(), arguments)
    builder.call(function, [line, address, I32(4), builder.bitcast(mask, _MASK)])


def _at(builder: Any, address: Any, offset: Any) -> Any:
    offset = I64(offset) if isinstance(offset, int) else offset
    return builder.gep(address, [offset], inbounds=True, source_etype=I8)
