"""Packing kernels: panels for the register tile, straight from an operand's own layout.

A *panel* holds, for each step ``k`` of a contraction, the elements of ``pitch`` rows next to each
other: ``panel[k * pitch + r]``. Packing it is where an operand is transposed. There are three
ways to read it, each one kernel in the ABI of all kernels, with ``data[0]`` the operand,
``data[1]`` the panel, and the argument ``strides`` a table of offsets in bytes:

``rows``
    The rows lie in runs of contiguous elements, *segments*. ``shape`` is ``nk, pitch, segments``;
    the table holds the offset of each k, then the offset and the length, in elements, of each
    segment.
``transposed``
    The steps k are contiguous. ``shape`` is ``nk, pitch, rows, k_step``; the table holds the offset
    of each row, up to the pitch. Step k goes to ``panel[k * k_step * pitch]``, so that several
    runs of k can be interleaved. The pitch is a multiple of half a vector.
``gathered``
    Anything else. ``shape`` is ``nk, pitch, rows``; the table holds the offset of each k, then that
    of each row.

Where there are fewer rows than the pitch, what follows them in the panel is arbitrary. Nothing is
read outside the operand. A kernel writes in ascending order and may spill over the end of the
panel by less than a vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastein.cpu.elements import ELEMENTS, Element
from fastein.cpu.isa import Isa

if TYPE_CHECKING:
    from fastein.cpu.compiler import Kernel

#: Goes into the key of every stored kernel: raise it when `source` or the moves change.
VERSION = 2

KINDS = ("rows", "transposed", "gathered")

# Pitches, in half vectors, that are copied by unrolled code: those of register tiles.
_UNROLLED = (1, 2, 3, 4, 6)

# Rows that are transposed together, in bytes. Strips of 64 bytes take as many cycles on Zen 4,
# where shuffles of 64 bytes take two. Of 4-byte elements they are 16 rows, and where these lie a
# power of two apart they evict each other from a first cache of 8 ways (15 cycles per 64 bytes).
_STRIP = 32


def kernel(kind: str, element: str, isa: Isa) -> Kernel:
    """Return the kernel that packs panels of `element` in the way `kind`.

    Parameters
    ----------
    kind : {'rows', 'transposed', 'gathered'}
        How the operand is read.
    element : str
        A key of `ELEMENTS`.
    isa : Isa
        The instruction set whose vectors are used.
    """
    from fastein.cpu.compiler import assemble

    def names() -> dict[str, Any]:
        from numba import types

        from fastein.cpu import moves, primitives

        return {
            "byte": types.uint8,
            "operand": primitives.operand,
            "output": primitives.output,
            **moves.moves(ELEMENTS[element], isa),
        }

    return assemble(source(kind, element, isa), names, VERSION, explicit=True)


def source(kind: str, element: str, isa: Isa) -> str:
    """Return the source of the kernel: one function in the ABI's parameters."""
    body = {"rows": _rows, "transposed": _transposed, "gathered": _gathered}[kind]
    form = ELEMENTS[element]
    vectors = f"{isa.name}, {isa.vector_bytes}-byte vectors"
    lines = [
        f"# pack {kind}: {element}, {form.source}-byte elements {form.note}   ({vectors})",
        "def pack(data, shape, strides, scratch, begin, end):",
        "    source, panel = operand(data, 0, byte), output(data, 1, byte)",
        *[f"    {line}" if line else "" for line in body(form, isa)],
    ]
    return "\n".join(lines) + "\n"


def _rows(form: Element, isa: Isa) -> list[str]:
    half = max(1, isa.vector_bytes // form.packed // 2)
    lines = [
        "nk, pitch, segments = shape[0], shape[1], shape[2]",
        "whole = pitch if segments == 1 and strides[nk + 1] == pitch else 0",
        "first = source + strides[nk]",
        "",
    ]
    word = "if"
    for pitch in sorted({halves * half for halves in _UNROLLED}):
        lines += [
            f"{word} whole == {pitch}:",
            f"    copy_rows(panel, first, strides, nk, {pitch})",
        ]
        word = "elif"
    return [
        *lines,
        "else:",
        f"    step, end_of_table = pitch * {form.packed}, nk + 2 * segments",
        "    for k in range(nk):",
        "        row = source + strides[k]",
        "        copy_segments(panel + k * step, row, strides, nk, end_of_table)",
    ]


def _transposed(form: Element, isa: Isa) -> list[str]:
    full = isa.vector_bytes // form.packed
    strip = max(1, min(full, _STRIP // form.packed))
    lines = [
        "nk, pitch = shape[0], shape[1]",
        f"step = pitch * shape[3] * {form.packed}",
        f"for r in range(0, pitch - {strip - 1}, {strip}):"
        if strip > 1
        else "for r in range(pitch):",
        f"    transpose(panel + r * {form.packed}, step, source, strides, r, nk, {strip})",
    ]
    half = full // 2
    if half and half < strip:
        lines += [
            f"if pitch & {half}:",
            f"    r = pitch - {half}",
            f"    transpose(panel + r * {form.packed}, step, source, strides, r, nk, {half})",
        ]
    return lines


def _gathered(form: Element, isa: Isa) -> list[str]:
    full = isa.vector_bytes // form.packed
    return [
        "nk, rows = shape[0], shape[2]",
        f"step = shape[1] * {form.packed}",
        f"if rows >= {full} and every_second(strides, nk, rows):",
        "    first = source + strides[nk]",
        "    for k in range(nk):",
        "        copy_every_second(panel + k * step, first + strides[k], rows)",
        "else:",
        "    for k in range(nk):",
        "        gather(panel + k * step, source + strides[k], strides, nk, rows)",
    ]
