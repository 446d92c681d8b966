"""The equations that people use einsum for, with the shapes that they use.

Tutorials, language models, attention layers, quantum chemistry and finite elements: one table feeds
the tests, the benchmarks and the documentation; an equation added to it is tested, timed and shown.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any, Literal

import numpy as np

from .cases import Case, all_cases

__all__ = [
    "CORPUS",
    "LAYOUTS",
    "Case",
    "Layout",
    "arrange",
    "find",
    "groups",
    "operands",
    "reference",
]

Layout = Literal["C", "F", "transposed", "sliced", "reversed", "broadcast"]

LAYOUTS: tuple[Layout, ...] = ("C", "F", "transposed", "sliced", "reversed", "broadcast")

# Small enough that int8 and float16 sums stay exact in most cases.
_VALUE_RANGE = {"b": (0, 2), "u": (0, 4), "i": (-3, 4)}

CORPUS: tuple[Case, ...] = tuple(all_cases())


def groups() -> dict[str, tuple[Case, ...]]:
    """Return the corpus by group, in the order of `CORPUS`."""
    return {name: tuple(cases) for name, cases in groupby(CORPUS, key=lambda case: case.group)}


def find(equation: str, dtype: str | None = None) -> Case:
    """Return the first case of the corpus with this equation (and this dtype, if one is given)."""
    for case in CORPUS:
        if case.equation == equation and dtype in (None, case.dtype):
            return case
    raise KeyError(f"no case {equation!r} in the corpus")


def operands(
    case: Case,
    seed: int = 0,
    small: bool = True,
    dtype: Any = None,
    layout: Layout = "C",
) -> list[np.ndarray]:
    """Build the operands of a case, the same ones for the same arguments.

    Parameters
    ----------
    case : Case
        The equation and its shapes.
    seed : int
        Chooses the values.
    small : bool
        Take the sizes for tests rather than the source's own.
    dtype : dtype-like, optional
        Element type in place of the case's own.
    layout : str
        'C' and 'F' are contiguous; 'transposed' makes every second operand F-contiguous; 'sliced'
        takes every second element of a larger array; 'reversed' has negative strides;
        'broadcast' has a zero stride along the first axis.

    Returns
    -------
    list of ndarray
        Small integers where `dtype` is one of the integers, and standard normal values otherwise.

    Examples
    --------
    >>> [a.shape for a in operands(find("bij,bjk->bik"))]
    [(10, 3, 4), (10, 4, 5)]
    """
    rng = np.random.default_rng(seed)
    shapes = case.small if small and case.small else case.shapes
    wanted = np.dtype(case.dtype if dtype is None else dtype)
    arrays = (_values(rng, math.prod(shape), wanted).reshape(shape) for shape in shapes)
    return [arrange(array, layout, position) for position, array in enumerate(arrays)]


def _values(rng: np.random.Generator, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind in _VALUE_RANGE:
        return rng.integers(*_VALUE_RANGE[dtype.kind], count).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(count) + 1j * rng.standard_normal(count)).astype(dtype)
    return rng.standard_normal(count).astype(dtype)


def arrange(array: np.ndarray, layout: Layout, position: int = 0) -> np.ndarray:
    """Copy the values (under 'broadcast' the first of them) into another memory layout."""
    if layout == "C" or array.ndim == 0:
        return array
    if layout == "F" or (layout == "transposed" and position % 2 == 0):
        return array.copy("F")
    if layout == "sliced":
        larger = np.zeros([2 * size + 1 for size in array.shape], array.dtype)
        view = larger[(slice(1, None, 2),) * array.ndim]
        view[...] = array
        return view
    if layout == "reversed":
        backwards = (slice(None, None, -1),) * array.ndim
        return array[backwards].copy()[backwards]
    if layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape)
    return array


def reference(case: Case, arrays: list[np.ndarray]) -> np.ndarray:
    """Answer a case by ``numpy.einsum``, in the precision of the operands.

    Raises
    ------
    ValueError
        If `case.reference` is 'error'.
    """
    answer: np.ndarray = np.einsum(case.numpy_equation or case.equation, *arrays)
    if case.reference == "summed ellipsis":
        named = len(case.equation.split("->")[1])
        batch = tuple(range(answer.ndim - named))
        answer = answer.sum(axis=batch, dtype=answer.dtype)
    return answer
