"""A call of einsum as data, which a comparison can make twice on the same memory."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["LETTERS", "Call"]

# Label number n of the tables is the n-th letter that NumPy knows, in the order in which it sorts.
LETTERS = string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Call:
    """One call of einsum, and what a comparison needs to know of it.

    Attributes
    ----------
    subscripts : str, bytes or tuple of sublists
        Sublists hold one entry an operand, and one more for an explicit output.
    operands : tuple
        Arrays, lists or scalars.
    kwargs : dict
        Keyword arguments.
    buffers : tuple of ndarray
        The owners of all memory behind the operands and `out`, in no order.
    terms, output : lists of labels
        What the subscripts mean, where they are well formed; `output` is None when implicit.
    numpy_subscripts : str, bytes, tuple of sublists or None
        The same call in a spelling that NumPy accepts, where it lacks this one.
    listed : bool
        Pass the operands as one list.
    ordered : bool
        The labels have NumPy's order, which decides between layouts that suit the operands alike.
    """

    subscripts: Any
    operands: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[np.ndarray, ...] = ()
    terms: tuple[tuple[Any, ...], ...] = ()
    output: tuple[Any, ...] | None = None
    numpy_subscripts: Any = None
    listed: bool = False
    ordered: bool = True

    def arguments(self, operands: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """Return the positional arguments, with other operands if some are given."""
        values = self.operands if operands is None else operands
        return _arguments(self.subscripts, values, self.listed)

    def numpy_arguments(self, operands: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """Return the positional arguments in NumPy's spelling."""
        values = self.operands if operands is None else operands
        spelling = self.subscripts if self.numpy_subscripts is None else self.numpy_subscripts
        return _arguments(spelling, values, False)

    def __str__(self) -> str:
        parts = [repr(self.subscripts), *map(_describe, self.operands)]
        parts += [f"{name}={_describe(value)}" for name, value in self.kwargs.items()]
        return f"einsum({', '.join(parts)})" + (" with operands in a list" if self.listed else "")


def _arguments(subscripts: Any, operands: tuple[Any, ...], listed: bool) -> tuple[Any, ...]:
    if isinstance(subscripts, tuple):
        pairs = [item for pair in zip(operands, subscripts, strict=False) for item in pair]
        return (*pairs, *subscripts[len(operands) :])
    return (subscripts, list(operands)) if listed else (subscripts, *operands)


def _describe(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    traits = "" if value.flags.aligned else " unaligned"
    traits += "" if value.flags.writeable else " readonly"
    kind = "" if type(value) is np.ndarray else f" {type(value).__name__}"
    return f"<{value.dtype.str} {value.shape} strides={value.strides}{traits}{kind}>"
