"""Where fastein deliberately answers otherwise than NumPy, by name; nothing else may differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .call import LETTERS, Call

__all__ = [
    "DIFFERENCES",
    "has_two_mistakes",
    "regroups_objects",
    "respellings",
    "takes_empty_diagonal",
]

# Kept from before anybody replaces np.einsum with the einsum under test.
_NUMPY_EINSUM = np.einsum

_CASTINGS = ("no", "equiv", "safe", "same_kind", "unsafe")

DIFFERENCES: dict[str, str] = {
    "summed ellipsis": "An ellipsis that the output lacks is summed; NumPy raises.",
    "operands in a list": "A lone list or tuple is unpacked into operands where NumPy's "
    "reading of it is invalid.",
    "float16 sums": "Products and sums of float16 are kept in float32 and rounded once.",
    "converted sums": "A sum is converted to the dtype of `out` once, at the end; NumPy converts "
    "the sum so far whenever its buffers are full.",
    "unchecked assignment": "With a path asked for, an inner product is assigned to a "
    "0-dimensional `out` of any type, as NumPy does with a path.",
    "two mistakes": "Of a mistake in the subscripts or shapes and one in the types, either may be "
    "the one reported.",
    "empty sum": "A sum over an axis of size 0 is 0. NumPy may multiply that 0 by what the other "
    "operands hold, which makes NaN of an infinity.",
    "empty diagonal": "A diagonal of an axis of size 0 and another of size 1 or more raises; NumPy "
    "reads beyond the array.",
    "regrouped objects": "A path multiplies Python objects in another order, which their types may "
    "refuse or allow.",
    "undefined cast": "A float that an integer cannot hold becomes any integer, as in C.",
}


def respellings(call: Call) -> Iterator[tuple[str, Call]]:
    """Yield what a call that NumPy refuses means to fastein, spelled so that NumPy accepts it.

    Yields
    ------
    name : str
        The entry of `DIFFERENCES` that gives the call its meaning.
    call : Call
        The same call, with `numpy_subscripts` or operands that say so.
    """
    expanded = _without_ellipsis(call)
    if expanded is not None:
        yield "summed ellipsis", replace(call, numpy_subscripts=expanded, ordered=False)
    if len(call.operands) == 1 and isinstance(call.operands[0], list | tuple):
        yield "operands in a list", replace(call, operands=tuple(call.operands[0]), listed=True)
    if _assigns_unchecked(call):
        yield "unchecked assignment", replace(call, kwargs={**call.kwargs, "casting": "unsafe"})


def regroups_objects(call: Call) -> bool:
    """Tell whether a path may decide which Python objects meet in a product."""
    objects = any(np.asarray(operand).dtype.kind == "O" for operand in call.operands)
    return objects and len(call.operands) > 2 and call.kwargs.get("optimize") is not False


def _assigns_unchecked(call: Call) -> bool:
    out = call.kwargs.get("out")
    path = call.kwargs.get("optimize", "auto")
    return isinstance(out, np.ndarray) and out.ndim == 0 and path not in (None, False, "auto")


def _without_ellipsis(call: Call) -> tuple[list[int], ...] | None:
    """Write the ellipses of the operands as labels, where an explicit output has none."""
    spelling = call.subscripts if call.numpy_subscripts is None else call.numpy_subscripts
    sublists = _sublists_of(spelling)
    if sublists is None or len(sublists) != len(call.operands) + 1 or ... in sublists[-1]:
        return None
    taken = {label for term in sublists for label in term if label is not ...}
    free = [label for label in range(52) if label not in taken]
    expanded = []
    for term, operand in zip(sublists, call.operands, strict=False):
        hidden = np.ndim(operand) - len(term) + 1
        if ... in term and 0 <= hidden <= len(free):
            at = term.index(...)
            # Ellipses are aligned at their last axes, so the free labels are handed out from there.
            term = [*term[:at], *free[:hidden][::-1], *term[at + 1 :]]
        expanded.append(term)
    return (*expanded, sublists[-1])


def _sublists_of(spelling: Any) -> list[list[Any]] | None:
    """Return well-formed subscripts with an explicit output as sublists."""
    if isinstance(spelling, tuple):
        return [list(term) for term in spelling]
    text = spelling.decode("latin-1") if isinstance(spelling, bytes) else spelling
    terms, arrow, output = text.partition("->")
    pieces = [
        [labels.replace(" ", "") for labels in part.split("...")]
        for part in (*terms.split(","), output)
    ]
    if not arrow or any(len(part) > 2 or set("".join(part)) - set(LETTERS) for part in pieces):
        return None
    sublists: list[list[Any]] = []
    for part in pieces:
        numbers = [[LETTERS.index(letter) for letter in labels] for labels in part]
        sublists.append([*numbers[0], ..., *numbers[1]] if len(numbers) == 2 else numbers[0])
    return sublists


def takes_empty_diagonal(call: Call) -> bool:
    """Tell whether a label stands for an empty axis and another one of the same operand."""
    for term, operand in zip(call.terms, call.operands, strict=False):
        shape = np.shape(operand)
        at = term.index(...) if ... in term else len(term)
        after = len(term) - at - 1
        named = [*shape[:at], *shape[len(shape) - after :]] if after > 0 else shape[:at]
        sizes: dict[Any, set[int]] = {}
        for label, size in zip([label for label in term if label is not ...], named, strict=False):
            sizes.setdefault(label, set()).add(size)
        if any(0 in found and len(found) > 1 for found in sizes.values()):
            return True
    return False


def has_two_mistakes(call: Call) -> bool:
    """Tell whether a call is wrong both in its types and in its subscripts, shapes or options."""
    return _has_wrong_types(call) and _has_wrong_values(call)


def _has_wrong_types(call: Call) -> bool:
    """Tell whether the types alone, on scalars, are refused."""
    if isinstance(call.subscripts, tuple) and not _are_labels(call.subscripts):
        return True
    scalars = [np.zeros((), np.asarray(operand).dtype) for operand in call.operands]
    if len(scalars) == 1:
        # A lone operand is answered by a view, which needs no cast; with a sum it is not.
        scalars.append(np.ones((), scalars[0].dtype))
    kwargs = _some(call.kwargs, "dtype", "casting")
    if kwargs.get("casting") not in _CASTINGS:
        kwargs.pop("casting", None)
    out = call.kwargs.get("out")
    if out is not None:
        kwargs["out"] = np.zeros((), out.dtype) if isinstance(out, np.ndarray) else out
    return _raises(TypeError, "," * (len(scalars) - 1), *scalars, **kwargs)


def _are_labels(sublists: tuple[Any, ...]) -> bool:
    return all(
        label is ... or (isinstance(label, int | np.integer) and not isinstance(label, bool))
        for term in sublists
        for label in term
    )


def _has_wrong_values(call: Call) -> bool:
    """Tell whether anything but the types is refused: the same call on float64 is."""
    operands = tuple(np.zeros(np.shape(operand)) for operand in call.operands)
    kwargs = _some(call.kwargs, "order", "casting")
    out = call.kwargs.get("out")
    if isinstance(out, np.ndarray):
        kwargs["out"] = np.zeros(out.shape)
        kwargs["out"].flags.writeable = out.flags.writeable
    return _raises(ValueError, *call.numpy_arguments(operands), **kwargs)


def _some(kwargs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: kwargs[name] for name in names if name in kwargs}


def _raises(category: type[Exception], *args: Any, **kwargs: Any) -> bool:
    try:
        _NUMPY_EINSUM(*args, **kwargs)
    except category:
        return True
    except Exception:
        return False
    return False
