"""In-register transposes: networks of two-operand shuffles that work in every instruction set.

The cheap shuffles stay within the 16-byte lanes of a vector. Rows are therefore read in pieces of
one lane, a register taking those of several rows, and unpacking pairs of registers interleaves the
rows of each lane. (Reading whole vectors and shuffling their lanes as well is no faster from the
second cache, 4.8 cycles per 64 bytes on Zen 4, 10 % faster from the first, and twice the code.)

Where rows come from memory, and may lie so that they evict each other from the first cache, wider
pieces meet each of their lines once. Lanes then change registers after the rows have met in them.

A register is a value together with the (row, column) of each of its elements, so that the network
keeps its own books: the column that a register ends up with is read off, not derived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LANE = 16


@dataclass(frozen=True, slots=True)
class _Register:
    value: Any
    places: tuple[tuple[int, int], ...]


class Transposition:
    """Transposes blocks of 16 bytes from each of some rows, as many as a power of two.

    Parameters
    ----------
    emitter : Emitter
        Emits the loads and shuffles.
    rows : int
        Number of rows; a register holds an element of each, or is one lane if that is more.
    """

    def __init__(self, emitter: Any, rows: int) -> None:
        self._emit = emitter
        self._rows = rows
        self._lane = LANE // emitter.size
        self._meeting = min(rows, self._lane)  # rows that meet in one lane

    def columns(self, rows: list[Any]) -> list[Any]:
        """Return the columns as vectors, from the addresses of the rows."""
        pieces = [self._read(r, address, 1) for r, address in enumerate(rows)]
        registers = [self._join(pieces[i :: self._meeting]) for i in range(self._meeting)]
        return self._sorted(self._met(registers))

    def wide_columns(self, rows: list[Any], lanes: int) -> list[Any]:
        """Return the columns of pieces of `lanes` lanes; columns are vectors as wide or wider."""
        pieces = [self._read(r, address, lanes) for r, address in enumerate(rows)]
        groups = [
            self._met(pieces[start : start + self._meeting])
            for start in range(0, self._rows, self._meeting)
        ]
        return self._sorted(
            [
                register
                for same_columns in zip(*groups, strict=True)
                for register in self._collected(list(same_columns), self._rows * self._emit.size)
            ]
        )

    def _read(self, row: int, address: Any, lanes: int) -> _Register:
        count = lanes * self._lane
        return _Register(self._emit.load(address, count), tuple((row, k) for k in range(count)))

    def _met(self, registers: list[_Register]) -> list[_Register]:
        """Let the rows of some registers meet in each lane."""
        for bit in range(self._meeting.bit_length() - 1):
            registers = self._stage(registers, 1 << bit)
        return registers

    def _collected(self, registers: list[_Register], width: int) -> list[_Register]:
        """Collect the lanes of each column from registers of different rows, into `width` bytes."""
        if len(registers) == 1:
            return registers
        size = len(registers[0].places)
        pairs = list(zip(registers[::2], registers[1::2], strict=True))
        if size * self._emit.size < width:
            everything = list(range(2 * size))
            return self._collected([self._shuffle(a, b, everything) for a, b in pairs], width)
        chosen = [
            [element for element in range(2 * size) if element // self._lane % 2 == parity]
            for parity in (0, 1)
        ]
        return [
            register
            for elements in chosen
            for register in self._collected(
                [self._shuffle(a, b, elements) for a, b in pairs], width
            )
        ]

    def _join(self, pieces: list[_Register]) -> _Register:
        """Lay registers end to end."""
        while len(pieces) > 1:
            everything = list(range(2 * len(pieces[0].places)))
            pairs = zip(pieces[::2], pieces[1::2], strict=True)
            pieces = [self._shuffle(a, b, everything) for a, b in pairs]
        return pieces[0]

    def _shuffle(self, a: _Register, b: _Register, elements: list[int]) -> _Register:
        both = a.places + b.places
        value = self._emit.shuffle(a.value, b.value, elements)
        return _Register(value, tuple(both[element] for element in elements))

    def _stage(self, registers: list[_Register], distance: int) -> list[_Register]:
        """Interleave the lanes of each pair of registers `distance` apart, in chunks as long."""
        result = list(registers)
        size = len(registers[0].places)
        for i, j in ((i, i + distance) for i in range(len(registers)) if not i & distance):
            for half, target in enumerate((i, j)):
                elements = self._unpacked(size, distance, half * (self._lane // 2))
                result[target] = self._shuffle(registers[i], registers[j], elements)
        return result

    def _unpacked(self, size: int, chunk: int, first: int) -> list[int]:
        """Number what one half of each lane of two registers, from `first`, interleaves to."""
        return [
            register * size + lane + first + piece + element
            for lane in range(0, size, self._lane)
            for piece in range(0, self._lane // 2, chunk)
            for register in (0, 1)
            for element in range(chunk)
        ]

    def _sorted(self, registers: list[_Register]) -> list[Any]:
        """Return the columns in order; a register holds several when they are short."""
        found = {}
        for register in registers:
            for start in range(0, len(register.places), self._rows):
                elements = list(range(start, start + self._rows))
                places = [register.places[element] for element in elements]
                column = places[0][1]
                assert places == [(r, column) for r in range(self._rows)], "not a transpose"
                whole = len(elements) == len(register.places)
                part = register if whole else self._shuffle(register, register, elements)
                found[column] = part.value
        return [found[column] for column in sorted(found)]
