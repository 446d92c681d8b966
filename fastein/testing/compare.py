"""Run one call with two einsums on the same memory, and say how the answers differ.

NumPy answers with ``optimize=False``: the rule is that `optimize` changes speed and rounding, never
meaning. Everything that a caller can see is compared: the class of an error, dtype, shape, strides,
scalar or array, view or copy, writeability, `out`, what happened to the operands, and the values:
exactly where arithmetic is exact, and within a bound on rounding where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .call import Call
from .differences import (
    DIFFERENCES,
    has_two_mistakes,
    regroups_objects,
    respellings,
    takes_empty_diagonal,
)
from .values import disagreement

__all__ = ["DIFFERENCES", "Verdict", "compare", "judge"]

# Kept from before anybody replaces np.einsum with the einsum under test.
_NUMPY_EINSUM = np.einsum


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found: a fault to mend, or a documented difference, or neither.

    Attributes
    ----------
    fault : str or None
        How the answer differs from NumPy's, in a sentence.
    difference : str or None
        The entry of `DIFFERENCES` under which the answer may differ.
    """

    fault: str | None = None
    difference: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call did: an error or a result, and the memory of `out` afterwards."""

    error: Exception | None = None
    result: Any = None
    out: np.ndarray | None = None
    buffer: np.ndarray | None = None


def compare(call: Call, einsum: Callable[..., Any] | None = None) -> str | None:
    """Compare an einsum with NumPy's on one call.

    Parameters
    ----------
    call : Call
        The call; the memory of its operands is the same afterwards as before.
    einsum : callable, optional
        The einsum under test; `fastein.einsum` if not given.

    Returns
    -------
    str or None
        How the two differ; None if they agree, or differ as documented in `DIFFERENCES`.
    """
    return judge(call, einsum).fault


def judge(call: Call, einsum: Callable[..., Any] | None = None) -> Verdict:
    """Compare as `compare` does, and name the documented difference where there is one."""
    if einsum is None:
        import fastein

        einsum = fastein.einsum
    before = [buffer.tobytes() for buffer in call.buffers]
    home = _home_of_out(call)
    saved = None if home is None else home.copy()
    expected = _ask_numpy(call, home)
    _restore(home, saved)
    actual = _attempt(einsum, call.arguments(), call.kwargs, home)
    _restore(home, saved)
    if any(b.tobytes() != old for b, old in zip(call.buffers, before, strict=True)):
        return Verdict("an operand was modified")
    if expected.error is None:
        name = _excuse(call, actual.error)
        return Verdict(None, name) if name else _judge_answer(call, expected, actual)
    if actual.error is not None and _category(actual.error) == _category(expected.error):
        return Verdict()
    for name, respelled in respellings(call):
        meant = _ask_numpy(respelled, home)
        _restore(home, saved)
        if meant.error is None:
            return Verdict(_judge_answer(respelled, meant, actual).fault, name)
        if actual.error is not None and _category(actual.error) == _category(meant.error):
            return Verdict(None, name)
    if isinstance(expected.error, TypeError) and regroups_objects(call):
        return Verdict(None, "regrouped objects")
    if actual.error is None:
        return Verdict(f"answered where NumPy raises {expected.error!r}")
    if has_two_mistakes(call):
        return Verdict(None, "two mistakes")
    return Verdict(f"raised {actual.error!r} instead of {expected.error!r}")


def _excuse(call: Call, error: Exception | None) -> str | None:
    """Name the difference under which a call that NumPy answers may raise."""
    if isinstance(error, ValueError) and takes_empty_diagonal(call):
        return "empty diagonal"
    if isinstance(error, TypeError) and regroups_objects(call):
        return "regrouped objects"
    return None


def _home_of_out(call: Call) -> np.ndarray | None:
    """Return the buffer in which `out` lies."""
    out = call.kwargs.get("out")
    if not isinstance(out, np.ndarray):
        return None
    for buffer in call.buffers:
        if np.may_share_memory(out, buffer):
            return buffer
    # An empty output shares memory with nothing.
    return None


def _ask_numpy(call: Call, home: np.ndarray | None) -> Outcome:
    kwargs = {name: value for name, value in call.kwargs.items() if name != "optimize"}
    return _attempt(_NUMPY_EINSUM, call.numpy_arguments(), kwargs, home)


def _restore(home: np.ndarray | None, saved: np.ndarray | None) -> None:
    if home is not None:
        home[...] = saved


def _attempt(
    einsum: Callable[..., Any],
    arguments: tuple[Any, ...],
    kwargs: dict[str, Any],
    home: np.ndarray | None,
) -> Outcome:
    try:
        result = einsum(*arguments, **kwargs)
    except Exception as error:
        return Outcome(error=error)
    out = kwargs.get("out")
    if not isinstance(out, np.ndarray):
        return Outcome(result=result)
    return Outcome(result=result, out=np.array(out), buffer=None if home is None else home.copy())


def _category(error: BaseException) -> str:
    if isinstance(error, SystemError) and error.__cause__ is not None:
        # NumPy returned a result beside the exception that it meant to raise.
        return _category(error.__cause__)
    for category in (TypeError, ValueError):
        if isinstance(error, category):
            return category.__name__
    return type(error).__name__


def _judge_answer(call: Call, expected: Outcome, actual: Outcome) -> Verdict:
    """Compare what a call that NumPy answers did."""
    if actual.error is not None:
        return Verdict(f"raised {actual.error!r}")
    out = call.kwargs.get("out")
    if isinstance(out, np.ndarray):
        if actual.result is not out:
            return Verdict("the result is not `out`")
        if _stray_writes(call, out, expected, actual):
            return Verdict("memory around `out` was modified")
        fault, name = disagreement(call, expected.out, actual.out)
        return Verdict(fault, name)
    fault = _difference_in_form(call, expected.result, actual.result)
    if fault:
        return Verdict(fault)
    fault, name = disagreement(call, expected.result, actual.result)
    return Verdict(fault, name)


def _stray_writes(call: Call, out: np.ndarray, expected: Outcome, actual: Outcome) -> bool:
    """Tell whether the two calls left different memory outside `out`."""
    home = _home_of_out(call)
    if home is None or expected.buffer is None or actual.buffer is None:
        return False
    saved = home.copy()
    images = []
    for outcome in (expected, actual):
        home[...] = outcome.buffer
        if out.flags.writeable:
            out[...] = np.zeros((), out.dtype)
        images.append(home.tobytes())
    home[...] = saved
    return images[0] != images[1]


def _difference_in_form(call: Call, expected: Any, actual: Any) -> str | None:
    """Compare everything but the values."""
    if type(actual) is not type(expected):
        return f"a {type(actual).__name__} instead of a {type(expected).__name__}"
    if not isinstance(expected, np.ndarray):
        return None
    for name in ("dtype", "shape"):
        if getattr(actual, name) != getattr(expected, name):
            return f"{name} {getattr(actual, name)} instead of {getattr(expected, name)}"
    if actual.flags.writeable != expected.flags.writeable:
        return f"writeable is {actual.flags.writeable}"
    for operand in call.operands:
        if isinstance(operand, np.ndarray) and np.may_share_memory(operand, expected):
            return _difference_of_views(operand, expected, actual)
    if any(isinstance(o, np.ndarray) and np.may_share_memory(o, actual) for o in call.operands):
        return "a view of an operand instead of a new array"
    if call.ordered and expected.size and _strides(actual) != _strides(expected):
        return f"strides {actual.strides} instead of {expected.strides}"
    return None


def _difference_of_views(
    operand: np.ndarray, expected: np.ndarray, actual: np.ndarray
) -> str | None:
    if actual is operand:
        return "the operand itself instead of a view"
    if actual.ctypes.data != expected.ctypes.data:
        return "a copy, or another place, instead of a view"
    if _strides(actual) != _strides(expected):
        return f"a view with strides {actual.strides} instead of {expected.strides}"
    return None


def _strides(array: np.ndarray) -> list[int]:
    """Return the strides that matter."""
    return [s for s, n in zip(array.strides, array.shape, strict=True) if n > 1]
