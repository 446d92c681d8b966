"""The simulator's twin of :mod:`fastein_cuda.primitives`: all threads of some blocks, in step.

A kernel's control flow never depends on a thread's number, so that one run of its source serves
all threads: every index, flag and value is a NumPy array with a row per thread. What would be
undefined on a GPU is an error here: an access outside an allocation or off its alignment, an
index beyond its width, two threads that write one element, shared memory that is read without a
barrier after the write, or before any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .elements import ELEMENTS, Element

ADDRESS_BITS = 40  # of an allocation; what is above numbers it


class SimulatedFault(Exception):  # noqa: N818 (a fault of the kernel, which the simulator reports)
    """A kernel did what has no defined outcome on a GPU."""


def numpy_type(element: Element) -> np.dtype[Any]:
    """Return the dtype in which NumPy holds an element; bfloat16 as its bits."""
    return np.dtype("uint16" if element.name == "bfloat16" else element.name)


class Memory:
    """The simulated device's memory: allocations apart from each other, poisoned when new."""

    def __init__(self) -> None:
        self.allocations: dict[int, np.ndarray] = {}
        self._next = 1

    def allocate(self, nbytes: int) -> int:
        """Return the address of new memory, all of whose floats are NaN."""
        number = self._next
        self._next += 1
        self.allocations[number] = np.full(nbytes, 0xFF, np.uint8)
        return number << ADDRESS_BITS

    def release(self, address: int) -> None:
        """Give an allocation back."""
        del self.allocations[address >> ADDRESS_BITS]

    def bytes_at(self, address: int) -> tuple[np.ndarray, int]:
        """Return the allocation that an address lies in, and where."""
        return self.allocations[address >> ADDRESS_BITS], address & ((1 << ADDRESS_BITS) - 1)

    def cells(self, addresses: np.ndarray, itemsize: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the one allocation that some addresses lie in, and where; all must be inside."""
        numbers = addresses >> ADDRESS_BITS
        offsets = addresses & ((1 << ADDRESS_BITS) - 1)
        buffer = self.allocations.get(int(numbers.flat[0]))
        if buffer is None or (numbers != numbers.flat[0]).any():
            raise SimulatedFault("an access lies outside every allocation")
        if (offsets + itemsize > buffer.size).any():
            raise SimulatedFault("an access lies beyond the end of its allocation")
        return buffer, offsets

    def read(self, addresses: np.ndarray, element: Element) -> np.ndarray:
        """Return the elements at some addresses."""
        kind = numpy_type(element)
        buffer, offsets = self.cells(addresses, kind.itemsize)
        found: np.ndarray
        if buffer.size % kind.itemsize == 0 and not (offsets % kind.itemsize).any():
            found = buffer.view(kind)[offsets // kind.itemsize]
        else:
            found = buffer[offsets[..., None] + np.arange(kind.itemsize)].view(kind)[..., 0]
        return found

    def write(self, addresses: np.ndarray, values: np.ndarray, element: Element) -> None:
        """Put elements at some addresses, no two at one."""
        kind = numpy_type(element)
        if np.unique(addresses).size < addresses.size:
            raise SimulatedFault("two threads write one element")
        buffer, offsets = self.cells(addresses, kind.itemsize)
        raw = np.ascontiguousarray(values.astype(kind)).view(np.uint8)
        places = offsets[..., None] + np.arange(kind.itemsize)
        buffer[places] = raw.reshape(places.shape)


@dataclass(frozen=True, slots=True)
class Pointer:
    """An address for each thread, and what is there (see `primitives.Pointer`)."""

    address: Any
    stored: Element
    arithmetic: Element
    lanes: int
    alignment: int
    reach: int
    """Bytes that an offset may have."""

    def __add__(self, offset: Any) -> Pointer:
        if np.abs(offset).max(initial=0) >= self.reach:
            raise SimulatedFault("an offset is beyond the width of its index")
        return replace(self, address=self.address + offset)


class Shelf:
    """Shared memory of some blocks, with who wrote and who read each slot since the barrier."""

    def __init__(
        self, blocks: int, slots: int, kind: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        self.values = np.zeros((blocks, slots, *shape), kind)
        self.written = np.full((blocks, slots), -1)  # in which epoch
        self.writer = np.full((blocks, slots), -1)
        self.read = np.full((blocks, slots), -1)
        self.reader = np.full((blocks, slots), -1)


SEVERAL = -2  # readers
ON_ITS_WAY = -2  # bytes that a copy will write


class Lockstep:
    """The primitives for the threads of some blocks of one launch.

    Parameters
    ----------
    memory : Memory
    blocks : ndarray
        Numbers of the blocks, as rows of (x, y).
    threads : int
        Threads of a block.
    shared : int
        Bytes of shared memory of a block.
    """

    def __init__(self, memory: Memory, blocks: np.ndarray, threads: int, shared: int) -> None:
        self.memory = memory
        self.threads = threads
        self.shared = shared
        self.count = len(blocks)
        self.place = np.repeat(np.arange(self.count), threads)
        self.number = np.tile(np.arange(threads, dtype=np.int64), self.count)
        self.x, self.y = (np.repeat(blocks[:, axis].astype(np.int64), threads) for axis in (0, 1))
        self.epoch = 0
        self.shelves: dict[Any, Shelf] = {}
        self.raw = np.full((self.count, shared), 0xFF, np.uint8)
        self.raw_written = np.full((self.count, shared), -1, np.int32)
        self.raw_read = np.full((self.count, shared), -1, np.int32)
        self.groups: list[list[Any]] = [[]]  # copies on their way, the youngest group last

    def names(self, wanted: tuple[str, ...]) -> dict[str, Callable[..., Any]]:
        """Return the primitives by their names."""
        return {name: getattr(self, name) for name in wanted}

    # where a thread is

    def thread(self, like: Any) -> np.ndarray:
        return self.number

    def block_x(self, like: Any) -> np.ndarray:
        return self.x

    def block_y(self, like: Any) -> np.ndarray:
        return self.y

    def quotient(self, n: Any, divisor: int, magic: int, shift: int) -> Any:
        if not magic:  # the index has 64 bits
            return n // divisor
        wide = n.astype(np.uint64)
        if (wide >= 2**31).any():
            raise SimulatedFault("a dividend is beyond the width of its index")
        return ((((wide * np.uint64(magic)) >> np.uint64(32)) + wide) >> np.uint64(shift)).astype(
            np.int64
        )

    def clipped(self, n: Any, count: int) -> Any:
        return np.minimum(n, count - 1)

    def smaller(self, a: Any, b: Any) -> Any:
        return np.minimum(a, b)

    def barrier(self) -> None:
        self.epoch += 1

    # values

    def zero(self, like: Pointer) -> np.ndarray:
        return np.zeros((self.number.size, like.lanes), numpy_type(like.arithmetic))

    def kept(self, value: np.ndarray, flag: np.ndarray) -> np.ndarray:
        by_lane = flag[:, None] if np.ndim(value) > 1 else flag
        return np.where(by_lane, value, value.dtype.type(0))

    def folded(self, value: np.ndarray) -> np.ndarray:
        while value.shape[1] > 1:
            half = value.shape[1] // 2
            value = value[:, :half] + value[:, half:]
        return value

    def load(self, pointer: Pointer) -> np.ndarray:
        found = self.memory.read(self._cells(pointer), pointer.stored)
        return converted(found, pointer.stored, pointer.arithmetic)

    def store(self, pointer: Pointer, value: np.ndarray, flag: np.ndarray) -> None:
        live = np.broadcast_to(flag, self.number.shape)
        if not live.any():
            return
        element = next(e for e in ELEMENTS.values() if e.arithmetic == e.name == value.dtype.name)
        spread = np.broadcast_to(value, (self.number.size, pointer.lanes))[live]
        cells = self._cells(pointer)[live]
        self.memory.write(cells, converted(spread, element, pointer.stored), pointer.stored)

    def _cells(self, pointer: Pointer) -> np.ndarray:
        """Return the address of each thread's lanes."""
        address = np.broadcast_to(pointer.address, self.number.shape)
        if (address % pointer.alignment).any():
            raise SimulatedFault(f"an access is not aligned to {pointer.alignment} bytes")
        cells: np.ndarray = address[:, None] + np.arange(pointer.lanes) * pointer.stored.itemsize
        return cells

    # shared memory

    def shelf(self, like: Any, begin: int) -> Shelf:
        shape = np.shape(like)[1:]  # of a slot; an index has none
        kind = np.asarray(like).dtype
        key = (begin, kind, shape)
        if key not in self.shelves:
            slots = (self.shared - begin) // (4 if not shape else kind.itemsize * shape[0])
            self.shelves[key] = Shelf(self.count, slots, kind, shape)
        return self.shelves[key]

    def put(self, shelf: Shelf, slot: Any, value: np.ndarray, exists: Any = True) -> None:
        chosen = np.broadcast_to(exists, self.number.shape)
        at, number = self._slots(shelf, slot, chosen), self.number[chosen]
        foreign = (shelf.read[at] == self.epoch) & (shelf.reader[at] != number)
        if foreign.any():
            raise SimulatedFault("shared memory is overwritten without a barrier after the read")
        flat = at[0] * shelf.values.shape[1] + at[1]
        if np.unique(flat).size < flat.size:
            raise SimulatedFault("two threads write one slot of shared memory")
        shelf.values[at] = value[chosen]
        shelf.written[at] = self.epoch
        shelf.writer[at] = number

    def get(self, shelf: Shelf, slot: Any) -> np.ndarray:
        at = self._slots(shelf, slot)
        written = shelf.written[at]
        if (written < 0).any():
            raise SimulatedFault("shared memory is read before it is written")
        if ((written == self.epoch) & (shelf.writer[at] != self.number)).any():
            raise SimulatedFault("shared memory is read without a barrier after the write")
        fresh = shelf.read[at] != self.epoch
        shelf.reader[at] = np.where(fresh | (shelf.reader[at] == self.number), self.number, SEVERAL)
        shelf.read[at] = self.epoch
        found: np.ndarray = shelf.values[at]
        return found

    def _slots(
        self, shelf: Shelf, slot: Any, chosen: Any = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        slots = np.broadcast_to(slot, self.number.shape)[chosen]
        if (slots < 0).any() or (slots >= shelf.values.shape[1]).any():
            raise SimulatedFault("a slot lies outside the shared memory")
        return self.place[chosen], slots

    # copies that nobody waits for

    def copy(self, place: Any, pointer: Pointer, flag: Any) -> None:
        """Read now what arrives in shared memory once `wait` says so."""
        itemsize = pointer.stored.itemsize
        cells = self._cells(pointer)
        live = np.broadcast_to(flag, self.number.shape)
        found = np.zeros(cells.shape, numpy_type(pointer.stored))
        if live.any():
            found[live] = self.memory.read(cells[live], pointer.stored)
        nbytes = pointer.lanes * itemsize
        piece = min(nbytes, pointer.alignment)
        at = self._raw_bytes(place, nbytes, piece)
        if (self.raw_read[at] == self.epoch).any():
            raise SimulatedFault("a copy overwrites shared memory that may still be read")
        raw = found.view(np.uint8).reshape(len(found), nbytes)
        if piece in (4, 8, 16):
            self.groups[-1].append((at, raw))
            self.raw_written[at] = ON_ITS_WAY
        else:
            self._arrive(at, raw)

    def commit(self) -> None:
        self.groups.append([])

    def wait(self, youngest: int) -> None:
        """Have all but the youngest groups of copies arrive."""
        while len(self.groups) - 1 > youngest:
            for at, raw in self.groups.pop(0):
                self._arrive(at, raw)

    def _arrive(self, at: Any, raw: np.ndarray) -> None:
        self.raw[at] = raw
        self.raw_written[at] = self.epoch

    def read_raw(self, place: Any, nbytes: int) -> np.ndarray:
        """Return bytes of shared memory, of which all must have arrived before a barrier."""
        at = self._raw_bytes(place, nbytes, nbytes)
        written = self.raw_written[at]
        if (written < 0).any():
            raise SimulatedFault("shared memory is read before its copy has arrived")
        if (written == self.epoch).any():
            raise SimulatedFault("shared memory is read without a barrier after its copy")
        self.raw_read[at] = self.epoch
        found: np.ndarray = self.raw[at]
        return found

    def _raw_bytes(self, place: Any, nbytes: int, alignment: int) -> tuple[np.ndarray, np.ndarray]:
        places = np.broadcast_to(place, self.number.shape)
        if (places % alignment).any():
            raise SimulatedFault(f"shared memory is not aligned to {alignment} bytes")
        if (places < 0).any() or (places + nbytes > self.shared).any():
            raise SimulatedFault("an access lies outside the shared memory")
        return self.place[:, None], places[:, None] + np.arange(nbytes)


def converted(values: np.ndarray, source: Element, target: Element) -> np.ndarray:
    """Convert elements as `primitives` does."""
    if source == target:
        return values
    if source.name == "bfloat16":
        return converted(
            (values.astype(np.uint32) << 16).view(np.float32), ELEMENTS["float32"], target
        )
    if target.name == "bfloat16":
        return _rounded(converted(values, source, ELEMENTS["float32"]))
    if source.kind == "c" and target.kind not in "cb":
        values = values.real
    return values.astype(numpy_type(target))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round float32 to the bits of bfloat16, to the nearest and to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    up = bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))
    chosen = np.where(np.isnan(values), bits | np.uint32(0x400000), up)
    return (chosen >> np.uint32(16)).astype(np.uint16)
