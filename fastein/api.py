"""The public functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._dispatch import einsum
from .config import config, settings
from .errors import EinsumError

if TYPE_CHECKING:
    from .explanation import Explanation

__all__ = [
    "EinsumError",
    "config",
    "einsum",
    "einsum_path",
    "explain",
    "get_num_threads",
    "set_num_threads",
]


def einsum_path(*operands: Any, optimize: Any = "greedy") -> tuple[list[Any], str]:
    """Find the order in which `einsum` would contract the operands.

    Parameters
    ----------
    *operands
        Subscripts and operands, as for `einsum`. Only the operands' shapes matter.
    optimize : optional
        As for `einsum`; by default ``'greedy'``.

    Returns
    -------
    path : list
        ``'einsum_path'`` followed by one tuple of positions per step: these operands are
        contracted, the result is appended. `einsum` takes it as `optimize`.
    description : str
        The path with the cost of every step, to be printed.

    Raises
    ------
    EinsumError
        If the subscripts are malformed or do not fit the operands.

    Examples
    --------
    >>> import numpy as np, fastein
    >>> a, b, c = np.ones((2, 10)), np.ones((10, 20)), np.ones((20, 2))
    >>> path, description = fastein.einsum_path('ij,jk,kl->il', a, b, c)
    >>> path
    ['einsum_path', (1, 2), (0, 1)]
    """
    from .explanation import path_report

    return path_report(operands, optimize)


def explain(
    subscripts: Any,
    *operands: Any,
    optimize: Any = "auto",
    dtype: Any = None,
    source: bool = False,
) -> Explanation:
    """Tell what `einsum` would do: labelled shapes, path, costs, schedules.

    Parameters
    ----------
    subscripts : str
        As for `einsum`.
    *operands : array_like or tuple of int
        The operands, or only their shapes (then float64 in C order, or of `dtype`).
    optimize, dtype : optional
        As for `einsum`.
    source : bool, optional
        Also show the generated source of every step: a loop nest, or the kernels of a contraction
        with the loops over blocks around them.

    Returns
    -------
    Explanation
        A string that shows itself unquoted at the prompt.

    Raises
    ------
    EinsumError
        As `einsum`.

    Examples
    --------
    >>> import fastein
    >>> print(fastein.explain('ij,jk->ik', (2, 3), (3, 4)))  # doctest: +ELLIPSIS
    einsum('ij,jk->ik')
      operand 0   (i=2, j=3)   float64
      operand 1   (j=3, k=4)   float64
      result      (i=2, k=4)   float64
    ...
    """
    from .explanation import explanation

    return explanation(subscripts, operands, optimize=optimize, dtype=dtype, source=source)


def set_num_threads(n: int) -> None:
    """Use at most `n` threads in one call (process-wide).

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    EinsumError, TypeError
        If `n` is not a positive integer.

    Examples
    --------
    >>> import fastein
    >>> before = fastein.get_num_threads()
    >>> fastein.set_num_threads(1)
    >>> fastein.get_num_threads()
    1
    >>> fastein.set_num_threads(before)
    """
    config(num_threads=n)


def get_num_threads() -> int:
    """The most threads that one call uses.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastein
    >>> fastein.get_num_threads() >= 1
    True
    """
    return settings.num_threads
