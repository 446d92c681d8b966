"""The twin of :mod:`fastein_cuda.tile_primitives`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .lanes_sim import Lanes, Sums
from .primitives_sim import Lockstep, Pointer, Shelf
from .tile import Tile, entries, multiply, total


def tile_primitives(lockstep: Lockstep, tile: Tile) -> dict[str, Any]:
    """Return the primitives of a tile by their names."""
    ops = Lanes(lockstep, tile.element, tile.arithmetic)
    count = lockstep.number.size

    def nothing() -> Sums:
        return [np.zeros(count, ops.kind) for _ in range(tile.sums * tile.parts)]

    def multiplied(sums: Sums, stage: int) -> Sums:
        return multiply(ops, tile, sums, np.full(count, stage))

    def write(
        sums: Sums, out: Pointer, row_table: Shelf, column_table: Shelf, rows: Any, columns: Any
    ) -> None:
        for number, (row, column) in enumerate(entries(tile, lockstep.number)):
            offset = lockstep.get(row_table, row) + lockstep.get(column_table, column)
            exact = total(ops, tile, sums, number)[:, None]
            lockstep.store(out + offset, exact, (row < rows) & (column < columns))

    return {"nothing": nothing, "multiply": multiplied, "write": write}
