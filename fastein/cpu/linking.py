"""From an object file to an image: a linker for what kernels consist of.

LLVM emits an object file: sections, and a list of places in them that depend on where everything
ends up (*relocations*). In position-independent code these are distances between sections, or
to a routine of the C library. `link` puts the sections one behind the other, writes the distances
and adds, for each routine, a jump to an address that is filled in by whoever runs the image.

It reads ELF objects for x86-64 [1]_ and AArch64 [2]_, and refuses whatever it does not know.

References
----------
.. [1] H. J. Lu and others, "System V Application Binary Interface, AMD64 Architecture Processor
   Supplement", section 4.4.
.. [2] Arm Limited, "ELF for the Arm 64-bit Architecture (AArch64)", section 5.7.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .image import ROUTINES, Image

_FILE = struct.Struct("<16s2HI3QI6H")
_SECTION = struct.Struct("<2I4Q2I2Q")
_SYMBOL = struct.Struct("<I2BH2Q")
_RELOCATION = struct.Struct("<QIIq")

_ALLOCATED = 2  # a section's flag: it is part of the program
_SYMBOLS, _RELOCATIONS, _NO_BITS = 2, 4, 8  # kinds of section
_UNDEFINED, _SPECIAL = 0, 0xFF00  # numbers of sections that are none

_JUMPS = {
    62: bytes.fromhex("ff2502000000cccc"),  # jmp *[rip + 2]
    183: bytes.fromhex("5000005800021fd6"),  # ldr x16, . + 8; br x16
}
"""By machine: a jump to the address that follows it."""


class CannotLink(Exception):  # noqa: N818 (a fact about the object, not a fault)
    """The object has something that no image can have."""


class Section(NamedTuple):
    """A section, as its header describes it."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Symbol(NamedTuple):
    """A name, and the place in a section that it stands for."""

    name: str
    section: int
    value: int


def link(data: bytes, entry: str) -> Image:
    """Return the image of an object file.

    Parameters
    ----------
    data : bytes
        A relocatable ELF object, position-independent.
    entry : str
        Name of the function that is called.

    Raises
    ------
    CannotLink
        If it is another kind of object, or needs what an image cannot have.
    """
    machine, sections = _read_headers(data)
    code, places = _laid_out(data, sections)
    symbols: list[Symbol] = []
    for section in sections:
        if section.kind == _SYMBOLS:
            symbols = list(_symbols(data, sections, section))
    jumps: dict[str, int] = {}

    def address(symbol: Symbol) -> int:
        if symbol.section in places:
            return places[symbol.section] + symbol.value
        if symbol.section != _UNDEFINED or symbol.name not in ROUTINES:
            raise CannotLink(f"a kernel needs {symbol.name or 'an address'} from elsewhere")
        if symbol.name not in jumps:
            code.extend(bytes(-len(code) % 16))
            jumps[symbol.name] = len(code)
            code.extend(_JUMPS[machine] + bytes(8))
        return jumps[symbol.name]

    for section in sections:
        if section.kind != _RELOCATIONS or section.info not in places:
            continue
        for offset, kind, symbol, addend in _RELOCATION.iter_unpack(_content(data, section)):
            place = places[section.info] + offset
            apply = _KINDS.get((machine, kind))
            if apply is None or symbol >= len(symbols):
                raise CannotLink(f"a relocation of kind {kind} of machine {machine}")
            apply(code, place, address(symbols[symbol]) + addend)

    entries = [address(s) for s in symbols if s.name == entry and s.section in places]
    if len(entries) != 1:
        raise CannotLink(f"{entry} is not defined")
    imports = tuple((at + len(_JUMPS[machine]), ROUTINES.index(name)) for name, at in jumps.items())
    return Image(bytes(code), entries[0], imports)


# Reading


def _read_headers(data: bytes) -> tuple[int, list[Section]]:
    try:
        ident, kind, machine, _, _, _, start, *_, size, count, _ = _FILE.unpack_from(data)
        if ident[:6] != b"\x7fELF\x02\x01" or kind != 1 or machine not in _JUMPS:
            raise CannotLink("not a relocatable ELF object of a known machine")
        if size != _SECTION.size:
            raise CannotLink("section headers of an unknown size")
        return machine, [
            Section(*_SECTION.unpack_from(data, start + k * size)) for k in range(count)
        ]
    except struct.error:
        raise CannotLink("not an object file") from None


def _content(data: bytes, section: Section) -> bytes:
    return data[section.offset : section.offset + section.size]


def _symbols(data: bytes, sections: list[Section], table: Section) -> Iterator[Symbol]:
    names = _content(data, sections[table.link])
    for name, _, _, section, value, _ in _SYMBOL.iter_unpack(_content(data, table)):
        yield Symbol(names[name : names.index(b"\0", name)].decode(), section, value)


def _laid_out(data: bytes, sections: list[Section]) -> tuple[bytearray, dict[int, int]]:
    """Return the sections of the program one behind the other, and where each begins.

    What unwinding a stack needs is left out: nothing is thrown through a kernel.
    """
    code, places = bytearray(), {}
    names = [s for s in sections if s.kind == 3]
    titles = _content(data, names[-1]) if names else b""
    for number, section in enumerate(sections):
        title = titles[section.name : titles.find(b"\0", section.name)]
        if not section.flags & _ALLOCATED or not section.size or title == b".eh_frame":
            continue
        if section.flags & 1 or section.kind == _NO_BITS:
            raise CannotLink("a kernel has variables")
        code.extend(bytes(-len(code) % max(section.alignment, 1)))
        places[number] = len(code)
        code.extend(_content(data, section))
    return code, places


# Relocations: (code, the place in it, where it is to lead)


def _distance(code: bytearray, place: int, target: int) -> None:
    struct.pack_into("<i", code, place, target - place)


def _bits(code: bytearray, place: int, value: int, width: int, shift: int) -> None:
    """Set a field of an instruction."""
    (word,) = struct.unpack_from("<I", code, place)
    mask = (1 << width) - 1
    struct.pack_into("<I", code, place, word & ~(mask << shift) | (value & mask) << shift)


def _branch(code: bytearray, place: int, target: int) -> None:
    _bits(code, place, (target - place) >> 2, 26, 0)


def _high(shift: int) -> Callable[[bytearray, int, int], None]:
    """The distance, in bytes or pages, that ADR and ADRP take."""

    def apply(code: bytearray, place: int, target: int) -> None:
        value = (target >> shift) - (place >> shift)
        _bits(code, place, value, 2, 29)
        _bits(code, place, value >> 2, 19, 5)

    return apply


def _low(scale: int) -> Callable[[bytearray, int, int], None]:
    """The offset within a page that a load, a store or an addition takes."""

    def apply(code: bytearray, place: int, target: int) -> None:
        _bits(code, place, (target & 0xFFF) >> scale, 12, 10)

    return apply


_KINDS = {
    (62, 2): _distance,  # PC32
    (62, 4): _distance,  # PLT32
    (183, 261): _distance,  # PREL32
    (183, 274): _high(0),  # ADR_PREL_LO21
    (183, 275): _high(12),  # ADR_PREL_PG_HI21
    (183, 277): _low(0),  # ADD_ABS_LO12_NC
    (183, 278): _low(0),  # LDST8_ABS_LO12_NC
    (183, 284): _low(1),  # LDST16
    (183, 285): _low(2),  # LDST32
    (183, 286): _low(3),  # LDST64
    (183, 299): _low(4),  # LDST128
    (183, 282): _branch,  # JUMP26
    (183, 283): _branch,  # CALL26
}
"""What is written for a kind of relocation of a machine."""
