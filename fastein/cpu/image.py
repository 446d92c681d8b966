"""Kernels as images: machine code that runs wherever it is put.

An image has no structure but an entry point, and the places that want the address of a routine of
the C library. Any process on the same processor can run it without a compiler or a linker:
:mod:`fastein.cpu.linking` makes it, :mod:`fastein.cpu._machine_code` runs it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

#: What LLVM may call where the source has a loop; in the order of `_machine_code.pyx`.
ROUTINES = ("memcpy", "memmove", "memset")

_HEADER = struct.Struct("<2I")
_IMPORT = struct.Struct("<2I")


class Image(NamedTuple):
    """Machine code of one kernel.

    Attributes
    ----------
    code : bytes
        Position-independent code and its constants.
    entry : int
        Offset of the kernel.
    imports : tuple of (int, int)
        Offsets of 8-byte cells, and which of `ROUTINES` each is to hold the address of.
    """

    code: bytes
    entry: int
    imports: tuple[tuple[int, int], ...] = ()

    def packed(self) -> bytes:
        """Return the image as bytes, for a file."""
        imports = [_IMPORT.pack(*pair) for pair in self.imports]
        return b"".join([_HEADER.pack(self.entry, len(imports)), *imports, self.code])


def unpacked(data: bytes) -> Image:
    """Return the image that `Image.packed` made bytes of.

    Raises
    ------
    ValueError
        If `data` cannot be that.
    """
    try:
        entry, count = _HEADER.unpack_from(data)
        start = _HEADER.size + count * _IMPORT.size
        imports = tuple(_IMPORT.iter_unpack(data[_HEADER.size : start]))
    except struct.error:
        raise ValueError("too short for an image") from None
    code = data[start:]
    if entry >= len(code) or any(
        offset + 8 > len(code) or routine >= len(ROUTINES) for offset, routine in imports
    ):
        raise ValueError("an image that points outside itself")
    return Image(code, entry, imports)
