"""What an element is: in memory, in a register, and in a sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Element:
    """A dtype as kernels see it.

    Attributes
    ----------
    name : str
        The dtype's name, as NumPy has it; ``'bfloat16'`` too.
    kind : str
        ``'b'`` bool, ``'i'`` and ``'u'`` integers, ``'f'`` floats, ``'c'`` complex.
    itemsize : int
        Bytes in memory.
    arithmetic : str
        Name of the dtype that products and sums are computed in.
    """

    name: str
    kind: str
    itemsize: int
    arithmetic: str

    @property
    def alignment(self) -> int:
        """Bytes at whose multiples every array has its elements; for complex, the parts'."""
        return self.itemsize // 2 if self.kind == "c" else self.itemsize


def _table() -> dict[str, Element]:
    table = {"bool": Element("bool", "b", 1, "bool")}
    for bits in (8, 16, 32, 64):
        for kind, name in (("i", f"int{bits}"), ("u", f"uint{bits}")):
            table[name] = Element(name, kind, bits // 8, name)
    for name, itemsize in (("float32", 4), ("float64", 8)):
        table[name] = Element(name, "f", itemsize, name)
    for name, itemsize in (("complex64", 8), ("complex128", 16)):
        table[name] = Element(name, "c", itemsize, name)
    for name in ("float16", "bfloat16"):  # their sums would lose what a float32 keeps
        table[name] = Element(name, "f", 2, "float32")
    return table


ELEMENTS = _table()


def element_of(dtype: np.dtype[Any]) -> Element:
    """Return what a dtype is to kernels.

    Raises
    ------
    TypeError
        If no kernel computes with it.
    """
    element = ELEMENTS.get(dtype.name)
    if element is None or not dtype.isnative:
        known = ", ".join(ELEMENTS)
        raise TypeError(f"the GPU target has no kernels for {dtype!r}; it has them for {known}")
    return element
