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

import textwrap
from dataclasses import dataclass
from typing import Any

from fastein.cpu import compiler
from fastein.cpu.isa import Isa

#: Goes into the key of every stored kernel: raise it when `source` or the moves change.
VERSION = 1

KINDS = ("rows", "transposed", "gathered")


@dataclass(frozen=True, slots=True)
class Element:
    """A kind of element: bytes in the operand and in the panel, and how it is widened, if it is."""

    source: int
    packed: int
    widen: str | None = None
    note: str = "copied as they are"


ELEMENTS = {
    **{f"raw{size}": Element(size, size) for size in (1, 2, 4, 8, 16)},
    "int8": Element(1, 2, "signed", "widened to int16"),
    "uint8": Element(1, 2, "unsigned", "widened to int16"),
    "float16": Element(2, 4, "float", "widened to float32"),
}

# Pitches, in half vectors, whose rows are copied by unrolled code: those of register tiles.
_UNROLLED = (1, 2, 3, 4, 6)


def kernel(kind: str, element: str, isa: Isa) -> compiler.Kernel:
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

    def names() -> dict[str, Any]:
        from numba import types

        from fastein.cpu import primitives, vectors

        kind = ELEMENTS[element]
        move = vectors.Move(
            kind.source, kind.packed, kind.widen, isa.vector_bytes, isa.half_conversion
        )
        return {
            "byte": types.uint8,
            "operand": primitives.operand,
            "output": primitives.output,
            **vectors.moves(move),
        }

    return compiler.assemble(source(kind, element, isa), names, VERSION)


def source(kind: str, element: str, isa: Isa) -> str:
    """Return the source of the kernel: one function in the ABI's parameters."""
    body = {"rows": _rows, "transposed": _transposed, "gathered": _gathered}[kind]
    form = ELEMENTS[element]
    vectors = f"{isa.vector_bytes}-byte vectors ({isa.name})"
    notes = f"{form.source}-byte elements {form.note}; {vectors}"
    return "\n".join(
        [
            f"# pack {kind} of {element}: {notes}",
            "def pack(data, shape, strides, scratch, begin, end):",
            "    source, panel = operand(data, 0, byte), output(data, 1, byte)",
            textwrap.indent(body(form, isa).strip("\n"), "    "),
            "",
        ]
    )


def _rows(form: Element, isa: Isa) -> str:
    full = isa.vector_bytes // form.packed
    half = max(1, full // 2)
    unrolled = "\nelif ".join(
        f"""alone == {pitch}:
    for k in range(nk):
        copy(panel + k * step, first + strides[k], {pitch})"""
        for pitch in sorted({count * half for count in _UNROLLED})
    )
    return f"""
nk, pitch, segments = shape[0], shape[1], shape[2]
step = pitch * {form.packed}
first, length = source + strides[nk], strides[nk + 1]
alone = pitch if segments == 1 and length == pitch else 0
if {unrolled}
else:
    for k in range(nk):
        row = source + strides[k]
        place = panel + k * step
        for segment in range(nk, nk + 2 * segments, 2):
            at, left = row + strides[segment], strides[segment + 1]
{textwrap.indent(_run(form, isa, full), " " * 12)}
"""


def _run(form: Element, isa: Isa, full: int) -> str:
    """Return the code that copies `left` elements from ``at`` to ``place`` and moves ``place``."""
    whole = f"""
while left >= {full}:
    copy(place, at, {full})
    place, at, left = place + {full * form.packed}, at + {full * form.source}, left - {full}
"""
    if _masks(form, isa):
        rest = f"""
if left:
    copy_first(place, at, left, {full})
    place = place + left * {form.packed}
"""
    else:
        pieces = [1 << bit for bit in reversed(range(full.bit_length() - 1))]
        rest = "".join(
            f"""
if left & {piece}:
    copy(place, at, {piece})
    place, at = place + {piece * form.packed}, at + {piece * form.source}
"""
            for piece in pieces
        )
    return (whole + rest).replace("\n\n", "\n").strip("\n")


def _masks(form: Element, isa: Isa) -> bool:
    """Whether the processor reads a part of a vector of source elements by a mask."""
    return isa.name == "avx512" or (isa.name == "avx2" and form.source >= 4)


def _transposed(form: Element, isa: Isa) -> str:
    full = isa.vector_bytes // form.packed
    half = full // 2
    narrow = f"""
if pitch & {half}:
{textwrap.indent(_strip(form, half, f"pitch - {half}"), "    ")}"""
    return f"""
nk, pitch = shape[0], shape[1]
step = pitch * shape[3] * {form.packed}
for r in range(0, pitch - {full - 1}, {full}):
    place = panel + r * {form.packed}
{textwrap.indent(_strip(form, full), "    ")}{narrow if half else ""}
"""


def _strip(form: Element, rows: int, first: str = "") -> str:
    size, packed = form.source, form.packed
    wide = max(16, min(32, rows * size)) // size
    narrow = 16 // size
    at = f"source + k * {size}, strides, r"
    head = (
        f"""
r = {first}
place = panel + r * {packed}
""".lstrip()
        if first
        else ""
    )
    block = f"""
for k in range(0, nk - {wide - 1}, {wide}):
    transpose(place + k * step, step, {at}, {rows}, {wide})
"""
    rest = (
        ""
        if wide == narrow == 1
        else f"""
if nk >= {narrow}:
    for start in range(nk // {wide} * {wide}, nk, {narrow}):
        k = min(start, nk - {narrow})
        transpose(place + k * step, step, {at}, {rows}, {narrow})
else:
    for k in range(nk):
        for i in range({rows}):
            copy(place + k * step + i * {packed}, source + (strides[r + i] + k * {size}), 1)
"""
    )
    return head + (block + rest).replace("\n\n", "\n").strip("\n")


def _gathered(form: Element, isa: Isa) -> str:
    packed = form.packed
    return f"""
nk, pitch, rows = shape[0], shape[1], shape[2]
step = pitch * {packed}
for k in range(nk):
    at = source + strides[k]
    place = panel + k * step
    for r in range(rows):
        copy(place + r * {packed}, at + strides[nk + r], 1)
"""
