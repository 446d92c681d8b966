"""What a fuzzer that coverage guides runs: calls made of bytes.

Where `fastein.testing.fuzz` draws from a seed, here the bytes make every decision of a draw, and
the text of subscripts. ``tests/fuzz/run.py`` has atheris change them towards code not yet run; the
inputs that reach the most are kept beside it, and the suite runs them again.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from typing import Any

import numpy as np

import fastein
from fastein._parser import parse

from .compare import compare
from .draw import draw

__all__ = ["TARGETS", "Fault", "parser", "planner"]

_MOST_AXES = 14  # of all operands together, each of size 2


class Fault(AssertionError):  # noqa: N818 (the fault is in what was tested)
    """What an input has shown to be wrong."""


class Decisions(random.Random):
    """A generator whose decisions are the bytes of the input, none of them made by a seed.

    When they are used up every byte comes in turn: a sample of 4 things is looked for until 4 have
    been found.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.data = chain(data, (157 * k % 256 for k in count()))

    def random(self) -> float:
        return next(self.data) / 256

    def getrandbits(self, k: int) -> int:
        size = -(-k // 8)
        return int.from_bytes(islice(self.data, size)) >> (8 * size - k)


def parser(data: bytes) -> None:
    """Read any text as subscripts; what NumPy answers is answered alike, the rest with an error."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parsed = parse(text)
    except fastein.EinsumError as error:
        str(error).encode("utf-8", "backslashreplace")
        terms: tuple[tuple[Any, ...], ...] = tuple(map(tuple, text.partition("->")[0].split(",")))
    else:
        terms = parsed.terms
        if parse(_spelled(parsed.terms, parsed.output)) != parsed:
            raise Fault(f"{text!r} is not what its terms spell")
    if "\0" in text:  # where NumPy stops reading
        return
    if sum(map(len, terms)) <= _MOST_AXES and len(terms) <= _MOST_AXES:
        _answer(text, [np.full((2,) * len(term), 1 + k) for k, term in enumerate(terms)])


def planner(data: bytes) -> None:
    """Compare a call with NumPy's: dtypes, layouts, options, paths, errors."""
    call = draw(Decisions(data))
    with _quiet():
        fault = compare(call)
    if fault is not None:
        raise Fault(f"{fault}\n    {call}")


def _spelled(terms: tuple[tuple[Any, ...], ...], output: tuple[Any, ...]) -> str:
    named = ["".join(["..." if x is ... else x for x in term]) for term in (*terms, output)]
    return f"{','.join(named[:-1])}->{named[-1]}"


def _answer(text: str, arrays: list[Any]) -> None:
    """Compare on arrays that may fit; an einsum of NumPy's may refuse what this one answers."""
    answers = []
    for einsum in (np.einsum, fastein.einsum):
        try:
            answers.append(einsum(text, *arrays))
        except (ValueError, TypeError) as error:
            answers.append(error)
    want, got = answers
    if isinstance(want, Exception):
        if isinstance(got, TypeError):
            raise Fault(f"{text!r} raises {got!r}")
    elif isinstance(got, Exception) or not np.array_equal(want, got):
        raise Fault(f"{text!r} gives {got!r}, not {want!r}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        yield


TARGETS: dict[str, Callable[[bytes], None]] = {"parser": parser, "planner": planner}
