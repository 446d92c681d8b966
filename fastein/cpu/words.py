"""Packing words: several steps of a sum in one element of a panel.

Where the processor multiplies narrow integers and sums neighbouring products, and where 32 truth
values meet in one AND, a panel's elements are *words* of 32 bits that hold neighbouring steps of
the sum: ``panel[w * pitch + r]`` is word ``w`` of row ``r``. What the last word has no steps for is
0, which adds nothing.

One kernel, in the ABI of all kernels, packs them in three ways. ``data[0]`` is the operand,
``data[1]`` the panel; ``shape`` is ``steps, pitch, rows, way``; the argument ``strides`` is a table
of offsets in bytes, of each step, then of each row. The ways:

``0``
    Element by element.
``1``
    The rows are contiguous, and at least as many as `together` says.
``2``
    The steps of each word are contiguous.

Rows behind the last one are not written. Nothing is read outside the operand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .elements import WORDS
from .isa import Isa

if TYPE_CHECKING:
    from .compiler import Kernel

#: Goes into the key of every stored kernel: raise it when `source` or the moves change.
VERSION = 2

WORD_BYTES = 4


def together(isa: Isa) -> int:
    """Return how many contiguous rows are packed at a time: the columns of a register tile."""
    return 8 if isa.vector_bytes == 64 else 4


def kernel(element: str, isa: Isa) -> Kernel:
    """Return the kernel that packs words of an `element`, a key of `WORDS`."""
    from .compiler import assemble

    def names() -> dict[str, Any]:
        from numba import types

        from . import primitives, word_moves

        return {
            "byte": types.uint8,
            "operand": primitives.operand,
            "output": primitives.output,
            **word_moves.moves(WORDS[element], isa),
        }

    return assemble(source(element, isa), names, VERSION, explicit=True)


def source(element: str, isa: Isa) -> str:
    """Return the source of that kernel."""
    words = WORDS[element]
    kept = "whether they are true" if words.bits == 1 else f"their lowest {words.bits} bits"
    return f"""\
# pack words of {words.steps} steps: {words.source}-byte elements, {kept}   ({isa.name})
def pack(data, shape, strides, scratch, begin, end):
    source, panel = operand(data, 0, byte), output(data, 1, byte)
    steps, pitch, rows, way = shape[0], shape[1], shape[2], shape[3]
    step = pitch * {WORD_BYTES}
    done = 0
    if way == 1:
        words_of_runs(panel, step, source, strides, steps, rows, {together(isa)})
        done = steps
    if way == 2:
        done = steps & -{words.steps}
        words_along(panel, step, source, strides, steps, rows)
    if done < steps:
        words_of_singles(panel, step, source, strides, done, steps, rows)
"""
