"""In-register transposes: networks of two-operand shuffles that work in every instruction set.

Shuffles are cheap that stay within the 16-byte lanes of a vector, or that move whole lanes. A
block of rows is read in pieces of one or two lanes, a register taking pieces of several rows when
they are shorter than a vector. Unpacking pairs of registers then interleaves the rows of each
lane, and dealing out their lanes brings in the rows of the others.

A register is a value together with the (row, column) of each of its elements, so that the network
keeps its own books: the column that a register ends up with is read off, not derived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LANE = 16


@dataclass(frozen=True, slots=True)
class _Register:
    value: Any
    places: tuple[tuple[int, int], ...]


class Transposition:
    """Transposes blocks of `rows` by `columns` elements, powers of two.

    Parameters
    ----------
    emitter : Emitter
        Emits the loads and shuffles.
    rows, columns : int
        A row is at least 16 bytes, and not longer than a column if that is more than 16 bytes.
    """

    def __init__(self, emitter: Any, rows: int, columns: int) -> None:
        self._emit = emitter
        self._rows, self._columns = rows, columns
        self._lane = LANE // emitter.size
        # Rows that meet in one lane, and how many times as many one register is read from.
        self._low = min(rows, self._lane)
        self._joined = max(rows, self._lane) // columns

    def columns(self, rows: list[Any]) -> list[Any]:
        """Return the columns as vectors, from the addresses of the rows."""
        registers = self._read(rows)
        for distance in _powers(self._low):
            registers = self._stage(registers, distance, self._unpacked)
        for distance in _powers(len(registers) // self._low, self._low):
            registers = self._stage(registers, distance, self._dealt)
        return self._columns_of(registers)

    def _read(self, rows: list[Any]) -> list[_Register]:
        pieces = [
            _Register(
                self._emit.load(address, self._columns), tuple((r, k) for k in range(self._columns))
            )
            for r, address in enumerate(rows)
        ]
        low, span = self._low, self._low * self._joined
        return [
            self._join(pieces[first + i : first + span : low])
            for first in range(0, self._rows, span)
            for i in range(low)
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

    def _stage(
        self, registers: list[_Register], distance: int, chosen: Callable[..., list[int]]
    ) -> list[_Register]:
        """Replace each pair of registers `distance` apart by two shuffles of both."""
        size = len(registers[0].places)
        result = list(registers)
        for i, j in ((i, i + distance) for i in range(len(registers)) if not i & distance):
            for half, target in enumerate((i, j)):
                elements = chosen(size, distance, half)
                result[target] = self._shuffle(registers[i], registers[j], elements)
        return result

    def _unpacked(self, size: int, chunk: int, half: int) -> list[int]:
        """Interleave the low, or the high, halves of each lane, a chunk at a time."""
        first = half * (self._lane // 2)
        return [
            register * size + lane + first + piece + element
            for lane in range(0, size, self._lane)
            for piece in range(0, self._lane // 2, chunk)
            for register in (0, 1)
            for element in range(chunk)
        ]

    def _dealt(self, size: int, distance: int, half: int) -> list[int]:
        """Take the even, or the odd, lanes of both registers."""
        lanes = range(half * self._lane, 2 * size, 2 * self._lane)
        return [lane + element for lane in lanes for element in range(self._lane)]

    def _columns_of(self, registers: list[_Register]) -> list[Any]:
        """Sort the columns; a register holds several when they are shorter than a lane."""
        found = {}
        for register in registers:
            for start in range(0, len(register.places), self._rows):
                elements = list(range(start, start + self._rows))
                places = [register.places[element] for element in elements]
                column = places[0][1]
                assert places == [(r, column) for r in range(self._rows)], "not a transpose"
                part = self._shuffle(register, register, elements)
                found[column] = register.value if part.places == register.places else part.value
        return [found[column] for column in range(self._columns)]


def _powers(count: int, factor: int = 1) -> list[int]:
    """Return `factor` times 1, 2, 4 ... below `count`."""
    return [factor << bit for bit in range(count.bit_length() - 1)]
