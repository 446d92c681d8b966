"""The simulator's twin of :mod:`fastein_cuda.emitter`: fragments gathered from the lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .elements import ELEMENTS, Element
from .primitives_sim import Lockstep, SimulatedFault, converted, numpy_type
from .tile import WARP

Sums = list[np.ndarray]


class Lanes:
    """The operations of `tile` and of `unrolled`, on arrays with an entry for each thread."""

    def __init__(self, lockstep: Lockstep, element: Element, arithmetic: str) -> None:
        self.lockstep = lockstep
        self.element = element
        self.arithmetic = ELEMENTS[arithmetic]
        self.kind = numpy_type(self.arithmetic)

    def thread(self) -> np.ndarray:
        return self.lockstep.number

    def load(self, address: Any, lanes: int) -> list[np.ndarray]:
        element = self.element
        raw = self.lockstep.read_raw(address, lanes * element.itemsize)
        values = converted(raw.view(numpy_type(element)), element, self.arithmetic)
        return [values[:, lane] for lane in range(lanes)]

    def matrices(self, address: Any, transposed: bool) -> list[np.ndarray]:
        """Return pairs of neighbours: lane 4 r + c of matrix m has its elements 2 c of row r."""
        raw = self.lockstep.read_raw(address, 16)
        # warp, matrix, row, element
        rows = raw.view(numpy_type(self.element)).reshape(-1, 4, 8, 8)
        if transposed:
            rows = rows.swapaxes(2, 3)
        found = rows.reshape(-1, 4, WARP, 2)
        return [found[:, matrix].reshape(-1, 2) for matrix in range(4)]

    def parts(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return value.real, value.imag

    def complex(self, real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
        return real + 1j * imaginary

    def negative(self, value: np.ndarray) -> np.ndarray:
        opposite: np.ndarray = -value
        return opposite

    def zero(self) -> np.ndarray:
        return np.zeros(self.lockstep.number.size, self.kind)

    def add(self, total: np.ndarray, value: np.ndarray) -> np.ndarray:
        result: np.ndarray = total + value
        return result

    def smaller(self, number: Any, most: int) -> Any:
        return np.minimum(number, most)

    def add_product(self, total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        result: np.ndarray = total + a * b
        return result

    def dmma(self, totals: Sums, a: Sums, b: Sums) -> Sums:
        rows = _fragment([[a[0], a[2]], [a[1], a[3]]])
        columns = _fragment([[b[0], b[1]]])
        return _added(totals, rows @ columns.swapaxes(1, 2))

    def rounded(self, value: np.ndarray) -> np.ndarray:
        """Round float32 to 11 bits, to the nearest and halves away from zero."""
        bits = value.astype(np.float32).view(np.uint32)
        nearest = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
        return np.where(np.isfinite(value), nearest, value)

    def rest(self, value: np.ndarray) -> np.ndarray:
        return self.rounded(value - self.rounded(value))

    def joined(self, total: np.ndarray, rest: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(rest), total + rest, total)

    def tf32(self, totals: Sums, a: Sums, b: Sums) -> Sums:
        if any((x.view(np.uint32) & 0x1FFF)[np.isfinite(x)].any() for x in (*a, *b)):
            raise SimulatedFault("tensor cores read 11 bits of float32, but there are more")
        return self.dmma(totals, a, b)

    def hmma(self, totals: Sums, a: Sums, b: Sums) -> Sums:
        wide = [self._widened(x) for x in (*a, *b)]
        rows = _fragment([[wide[0], wide[2]], [wide[1], wide[3]]])
        columns = _fragment([[wide[4], wide[5]]])
        return _added(totals, rows @ columns.swapaxes(1, 2))

    def _widened(self, pair: np.ndarray) -> np.ndarray:
        return converted(pair, self.element, self.arithmetic)


def _fragment(blocks: list[list[np.ndarray]]) -> np.ndarray:
    """Return each warp's matrix, of which lane 4 r + c has column c (or columns 2 c) of row r.

    `blocks` has the threads' elements of the matrix's blocks of 8 rows by 4 or 8 columns.
    """
    return np.block([[x.reshape(-1, 8, x[0].size * 4) for x in row] for row in blocks])


def _added(totals: Sums, product: np.ndarray) -> Sums:
    """Add a warp's 16 x 8 products: lane 4 r + c has columns 2 c of rows r and r + 8."""
    halves = product.reshape(-1, 2, WARP, 2)  # warp, half of the rows, lane, element
    return [
        total + halves[:, number >> 1, :, number & 1].reshape(-1)
        for number, total in enumerate(totals)
    ]
