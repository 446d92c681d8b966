"""Whether two answers of one call agree: exactly, or within what rounding may do to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .call import Call

__all__ = ["compute_type", "disagreement"]

_NUMPY_EINSUM = np.einsum

Answer = tuple[str | None, str | None]


def disagreement(call: Call, expected: Any, actual: Any) -> Answer:
    """Compare values.

    Parameters
    ----------
    call : Call
        The call that both answer; its operands are as they were before it.
    expected, actual : array_like
        NumPy's answer and the other one, of the same shape.

    Returns
    -------
    fault : str or None
        How they differ.
    difference : str or None
        The documented difference that accounts for what `fault` would have said.
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    if actual.shape != expected.shape:
        return f"shape {actual.shape} instead of {expected.shape}", None
    if expected.dtype.kind != "O" and expected.tobytes() == actual.tobytes():
        return None, None
    if expected.dtype.kind not in "biufcO":
        return "other values", None
    if expected.dtype.char in "gG" and np.array_equal(expected, actual, equal_nan=True):
        return None, None  # a long double has bytes that mean nothing
    operands = [np.asarray(operand) for operand in call.operands]
    compute = compute_type(call, operands)
    if "O" in (expected.dtype.kind, compute.kind):
        return _objects(call, operands, expected, actual), None
    fault, name = _numbers(call, operands, compute, expected, actual)
    if fault is not None and expected.dtype != compute:
        whole = np.asarray(_evaluate(call, tuple([x.astype(compute) for x in operands])))
        kept = np.broadcast_to(whole, actual.shape).astype(expected.dtype)
        if _numbers(call, operands, compute, kept, actual)[0] is None:
            return None, "converted sums"
    return fault, name


def _numbers(
    call: Call,
    operands: list[np.ndarray],
    compute: np.dtype[Any],
    expected: np.ndarray,
    actual: np.ndarray,
) -> Answer:
    if compute.kind not in "fc" and not _undefined_casts(operands, compute):
        wrong = expected != actual
        return (_describe(wrong, expected, actual) if wrong.any() else None), None
    return _rounded(call, operands, compute, expected, actual)


def compute_type(call: Call, operands: list[np.ndarray]) -> np.dtype[Any]:
    """Return the element type in which the products of a call are summed."""
    dtype = call.kwargs.get("dtype")
    if dtype is not None:
        given: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
        return given
    out = call.kwargs.get("out")
    types = [operand.dtype for operand in operands]
    common: np.dtype[Any] = np.result_type(
        *types, *([out.dtype] if isinstance(out, np.ndarray) else [])
    )
    return common


def _objects(
    call: Call, operands: list[np.ndarray], expected: np.ndarray, actual: np.ndarray
) -> str | None:
    """Compare sums of Python objects: exactly, but for objects with floats, which round."""
    pairs = list(zip(expected.ravel().tolist(), actual.ravel().tolist(), strict=True))
    for want, got in pairs:
        if type(want) is not type(got):
            return f"{got!r} of {type(got)} instead of {want!r} of {type(want)}"
    different = [pair for pair in pairs if not (pair[0] == pair[1] or _both_nan(*pair))]
    if not different:
        return None
    if not isinstance(different[0][0], float | complex | np.inexact):
        return f"{different[0][1]!r} instead of {different[0][0]!r}"
    compute = np.dtype(complex)
    stored = compute if expected.dtype.kind == "O" else expected.dtype
    operands = [operand.astype(compute) for operand in operands]
    return _rounded(call, operands, compute, expected.astype(stored), actual.astype(stored))[0]


def _both_nan(want: Any, got: Any) -> bool:
    return bool(want != want and got != got)


def _describe(wrong: np.ndarray, expected: np.ndarray, actual: np.ndarray) -> str:
    at = tuple(int(i) for i in np.argwhere(np.atleast_1d(wrong))[0]) if wrong.ndim else ()
    count = f"{np.count_nonzero(wrong)} of {wrong.size} values differ"
    return f"{count}, at {at}: {actual[at]!r} instead of {expected[at]!r}"


def _undefined_casts(operands: list[np.ndarray], compute: np.dtype[Any]) -> bool:
    """Tell whether a float that an integer cannot hold is cast to one, which C leaves undefined."""
    if compute.kind not in "iu":
        return False
    info = np.iinfo(compute)
    for operand in operands:
        if operand.dtype.kind in "fc":
            real = operand.real.astype(np.longdouble)
            if not np.all((real >= info.min) & (real <= info.max)):
                return True
    return False


def _rounded(
    call: Call,
    operands: list[np.ndarray],
    compute: np.dtype[Any],
    expected: np.ndarray,
    actual: np.ndarray,
) -> Answer:
    if compute.kind in "iub":
        return None, "undefined cast"
    half = compute.char == "e"
    if half:
        # The deliberate difference: products and sums of float16 are kept in float32, rounded once.
        compute = np.dtype("f")
        operands = [operand.astype("e").astype(compute) for operand in operands]
        expected = np.asarray(_evaluate(call, tuple(operands)))
        expected = np.broadcast_to(expected, actual.shape).astype("e").astype(actual.dtype)
    bound = _Bound(call, operands, compute, actual.dtype, np.dtype("e") if half else compute)
    empty = (bound.terms == 0) & (expected != 0)
    expected = np.where(empty, np.zeros((), expected.dtype), expected)
    wrong = bound.wrong(expected, actual)
    if wrong.any():
        return _describe(wrong, expected, actual), None
    if empty.any():
        return None, "empty sum"
    return None, "float16 sums" if half else None


def _evaluate(call: Call, operands: tuple[np.ndarray, ...]) -> Any:
    return _NUMPY_EINSUM(*call.numpy_arguments(operands))


class _Bound:
    """A bound on the rounding error of every element of an answer, from the sizes of its terms."""

    def __init__(
        self,
        call: Call,
        operands: list[np.ndarray],
        compute: np.dtype[Any],
        stored: np.dtype[Any],
        rounded: np.dtype[Any],
    ) -> None:
        self.call = call
        self.compute = compute
        self.stored = stored
        self.kept = [np.finfo(dtype) for dtype in (stored, rounded) if dtype.kind in "fc"]
        cast = [operand.astype(compute) for operand in operands]
        self.magnitudes = [_magnitude(operand) for operand in cast]
        self.terms = self.einsum([np.ones_like(a) for a in self.magnitudes])
        self.size = self.einsum(self.magnitudes)
        # What an intermediate may reach, or lose to underflow and have multiplied afterwards.
        self.reach = self.einsum([np.maximum(a, 1) for a in self.magnitudes])
        finite = [np.isfinite(operand).astype(np.longdouble) for operand in cast]
        self.touched = self.einsum(finite) != self.terms
        self.value = self.einsum([_known(a.real) for a in cast])

    def einsum(self, arrays: list[np.ndarray]) -> np.ndarray:
        return np.asarray(_evaluate(self.call, tuple(arrays)))

    def tolerance(self) -> np.ndarray:
        """Return how far two answers may be apart."""
        info = np.finfo(self.compute)
        steps = self.terms + len(self.call.operands) + 2
        steps = steps * (4 if self.compute.kind == "c" else 1)
        bound = 2 * steps * (info.eps * self.size + info.smallest_subnormal * self.reach)
        for kept in self.kept:
            bound = bound + 2 * kept.eps * self.size + 2 * kept.smallest_subnormal
        return np.asarray(bound + (1 if self.stored.kind in "iu" else 0))

    def beyond(self) -> np.ndarray:
        """Tell which elements are too large for the element types to say anything."""
        most = np.longdouble(np.finfo(self.compute).max) / 4
        beyond: np.ndarray = self.reach >= most
        for kept in self.kept:
            beyond = beyond | (self.size >= np.longdouble(kept.max) / 4)
        if self.stored.kind in "iu":
            info = np.iinfo(self.stored)
            beyond = beyond | ~((self.value >= info.min) & (self.value <= info.max))
        return np.asarray(beyond)

    def wrong(self, expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
        """Tell which elements differ by more than rounding."""
        if self.stored.kind == "b":
            far = (expected != actual) & (np.abs(self.value) > self.tolerance())
        else:
            wide = np.clongdouble if self.stored.kind == "c" else np.longdouble
            far = np.abs(actual.astype(wide) - expected.astype(wide)) > self.tolerance()
        far = np.where(np.isfinite(expected) & np.isfinite(actual), far, expected != actual)
        # Beside an infinity of the operands, one that overflowed on the way would make a NaN.
        wrong = np.where(self.touched, self._wrong_class(expected, actual), far)
        return np.asarray(wrong & ~self.beyond())

    def _wrong_class(self, expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
        """Compare NaN with NaN and infinity with infinity, where terms are not finite."""
        if self.stored.kind not in "fc" or (self.stored.kind, self.compute.kind) == ("f", "c"):
            return np.zeros(expected.shape, bool)
        if _may_regroup(self.call):
            return np.asarray(np.isfinite(actual))
        if self.stored.kind == "c":
            parts = [(expected.real, actual.real), (expected.imag, actual.imag)]
        else:
            parts = [(expected, actual)]
        return np.asarray(np.any([_class(want) != _class(got) for want, got in parts], axis=0))


def _known(array: np.ndarray) -> np.ndarray:
    """Widen, with zeros for what is not finite."""
    known: np.ndarray = np.where(np.isfinite(array), array, 0).astype(np.longdouble)
    return known


def _magnitude(array: np.ndarray) -> Any:
    if array.dtype.kind == "c":
        return np.abs(_known(array.real)) + np.abs(_known(array.imag))
    return np.abs(_known(array))


def _class(array: np.ndarray) -> Any:
    """Return 0 for finite, 2 for NaN, and the sign of an infinity."""
    return np.where(np.isnan(array), 2, np.where(np.isinf(array), np.sign(array), 0))


def _steps(operand: Any) -> list[int]:
    """Return the strides of an operand, 0 for axes of size 1."""
    array = np.asarray(operand)
    return [s if n != 1 else 0 for s, n in zip(array.strides, array.shape, strict=True)]


def _may_regroup(call: Call) -> bool:
    """Tell whether a path, or summing one operand first, may regroup the terms."""
    if len(call.terms) != 2:
        return len(call.terms) > 2
    if any(... in term for term in call.terms):
        return True
    # What stands still in one operand is summed over the other one alone.
    first, second = (
        {label for label, step in zip(term, _steps(operand), strict=False) if step}
        for term, operand in zip(call.terms, call.operands, strict=False)
    )
    if call.output is not None:
        output = set(call.output)
    else:
        labels = [label for term in call.terms for label in term]
        output = {label for label in labels if labels.count(label) == 1}
    return bool((first ^ second) - output)
