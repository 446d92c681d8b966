"""Permutation kernels: blocks of an operand, transposed in registers into the result.

The rows of a block lie along the operand's unit stride; its columns are to lie along the
result's. A kernel, one for each size of elements, is driven by a table of offsets in bytes and
serves every permutation of such elements. In the ABI of all kernels ``data[0]`` is the operand,
``data[1]`` what is written, ``strides`` the table, and ``shape`` is ``columns, rows, targets,
results, stages, way, ahead``:

* ``table[r]`` says where row r begins, ``table[targets + c]`` where column c is written;
* ``way`` is `STORE`; or `STREAM`: columns are written past the caches, and must be aligned to
  vectors; or `SHIFT`, see below;
* ``scratch`` has room for a line of as many rows as a line has elements; if columns are shifted,
  behind 4 KB;
* unless ``ahead`` is 0, ``table[ahead + r]`` is where row r is some lines further on, to be
  prefetched; where rows end, it is row ``r + rows`` that is. There are entries for that many;
* ``data[3]``, unless it is null, are the windows of rows, see below.

A block has at least a line's worth of rows and columns. Tiles at its ends overlap the others.

To `SHIFT` is to stream columns that begin anywhere in a line. Each has a line in ``data[1]``, at
``table[targets + c]``, with the last elements before the block, of which a part has not been
written. The tiles of some columns are collected behind such lines, at ``table[stages + c]`` in
``scratch`` for column c of a tile; then whole lines of them go to ``data[2]``, where
``table[results + c]`` says where the column goes on, and the last line becomes the one that is
kept. The number of rows is a multiple of a line's.

A *window* holds the two lines of a row in which the elements of a tile lie. From tile to tile it
goes on by a line: each line of the operand is read once, as a whole. Before the windows are two
tables of `MOST_ROWS` offsets: where the first line that begins in a row lies in the operand, and
where the elements of a tile lie behind ``data[3]``. Tiles whose lines end behind a row are read
without. Where lines are *carried* (see `carries_lines`), a window is the first of the two lines,
and the elements are picked from it and the next line in registers.
"""

from __future__ import annotations

from typing import Any

from fastein.cpu import compiler
from fastein.cpu.elements import ELEMENTS
from fastein.cpu.isa import Isa

#: Goes into the key of every stored kernel: raise it when `source` or the moves change.
VERSION = 7

LINE = 64
STORE, STREAM, SHIFT = range(3)


def piece_bytes(size: int, isa: Isa) -> int:
    """Return the bytes of a row that are transposed at once, in half of the registers."""
    rows = isa.vector_bytes // size
    return max(16, min(isa.vector_bytes, isa.registers // 2 * isa.vector_bytes // rows))


def carries_lines(size: int, isa: Isa) -> bool:
    """Return whether the lines of a row meet in registers, one carried from each tile to the next.

    It is so where lines are copied next to each other before they are transposed.
    """
    return isa.picks_bytes and piece_bytes(size, isa) < LINE == isa.vector_bytes


def kernel(element: str, isa: Isa) -> compiler.Kernel:
    """Return the kernel for a kind of elements, a key of `ELEMENTS` that is not widened."""

    def names() -> dict[str, Any]:
        from numba import types

        from fastein.cpu import permutation_moves, primitives

        form = ELEMENTS[element]
        return {
            "byte": types.uint8,
            "operand": primitives.operand,
            "output": primitives.output,
            **permutation_moves.moves(
                form, isa, piece_bytes(form.source, isa), carries_lines(form.source, isa)
            ),
        }

    return compiler.assemble(source(element, isa), names, VERSION)


def source(element: str, isa: Isa) -> str:
    """Return the source of the kernel: one function in the ABI's parameters."""
    form = ELEMENTS[element]
    vectors = f"{isa.name}, {isa.vector_bytes}-byte vectors"
    if carries_lines(form.source, isa):
        vectors += ", lines carried"
    return f"""\
# permute: {form.source}-byte elements {form.note}   ({vectors})
def permute(data, shape, strides, scratch, begin, end):
    source, target, result = operand(data, 0, byte), output(data, 1, byte), output(data, 2, byte)
    windows = output(data, 3, byte)
    columns, rows, targets, results = shape[0], shape[1], shape[2], shape[3]
    stages, way, ahead = shape[4], shape[5], shape[6]
    transpose_block(
        source, target, result, strides, columns, rows, targets, results, stages, way, ahead,
        windows, scratch,
    )
"""
