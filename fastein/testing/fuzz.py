"""A differential fuzzer: random einsum calls, answered by fastein and by NumPy, compared.

Run it from the command line::

    python -m fastein.testing.fuzz --cases 50000 --seed 0 --jit tiered
    python -m fastein.testing.fuzz --cases 2000 --seed 0 --jit background
    python -m fastein.testing.fuzz --seed 0 --index 1234      # show one case

Every case has a number; the same seed and number give the same call on every machine. With
``--jit always`` every new kernel is compiled, so the calls repeat a few equations and types. With
``--jit background`` each call is longer, and made again while kernels are compiled for it in the
background and once they are there (`fastein.testing.passage`).
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastein
from fastein.config import JIT_MODES

from .call import Call
from .compare import DIFFERENCES, Verdict, compare, judge
from .draw import EVERYTHING, LONGER, REPEATING, Profile, draw
from .passage import earned_at_once, judge_passage

__all__ = [
    "DIFFERENCES",
    "EVERYTHING",
    "LONGER",
    "REPEATING",
    "Call",
    "Failure",
    "Profile",
    "Report",
    "Verdict",
    "case",
    "compare",
    "draw",
    "judge",
    "run",
]

MODES = (*JIT_MODES, "background")


@dataclass(frozen=True, slots=True)
class Failure:
    """A case whose answer differs from NumPy's."""

    seed: int
    index: int
    fault: str
    call: Call

    def __str__(self) -> str:
        return f"seed {self.seed} case {self.index}: {self.fault}\n    {self.call}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found."""

    cases: int
    seconds: float
    failures: tuple[Failure, ...] = ()
    differences: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = self.cases / max(self.seconds, 1e-9)
        lines = [f"{self.cases} cases, {len(self.failures)} failures, {rate:.0f} cases a second"]
        lines += [f"  documented: {n} x {name}" for name, n in sorted(self.differences.items())]
        return "\n".join(lines)


def case(seed: int, index: int, profile: Profile = EVERYTHING) -> Call:
    """Draw the call of this number."""
    return draw(random.Random((seed << 40) + index), profile)


def run(
    cases: int,
    seed: int = 0,
    first: int = 0,
    profile: Profile = EVERYTHING,
    einsum: Callable[..., Any] | None = None,
    background: bool = False,
) -> Report:
    """Compare an einsum with NumPy's on many calls.

    Parameters
    ----------
    cases : int
        How many.
    seed : int
        Which ones.
    first : int
        The number of the first.
    profile : Profile
        What to draw from.
    einsum : callable, optional
        The einsum under test; `fastein.einsum` if not given.
    background : bool
        Whether each call is made until kernels have been built for it in the background.

    Returns
    -------
    Report
    """
    failures: list[Failure] = []
    differences: Counter[str] = Counter()
    start = time.perf_counter()
    judged = judge_passage if background else judge
    with _quiet():
        for index in range(first, first + cases):
            call = case(seed, index, profile)
            verdict = judged(call, einsum)
            if verdict.fault is not None:
                failures.append(Failure(seed, index, verdict.fault, call))
            if verdict.difference is not None:
                differences[verdict.difference] += 1
    return Report(cases, time.perf_counter() - start, tuple(failures), dict(differences))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep casts of NaN and of complex numbers, which some calls ask for, from warning.

    That a kernel cannot be compiled is a fault.
    """
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        warnings.filterwarnings("error", message="fastein could not compile")
        yield


def _chunks(cases: int, size: int = 1000) -> Iterator[tuple[int, int]]:
    for first in range(0, cases, size):
        yield first, min(size, cases - first)


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzzer from the command line; the exit status is 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m fastein.testing.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cases", type=int, default=10_000, help="how many calls")
    parser.add_argument("--seed", type=int, default=0, help="which calls")
    parser.add_argument("--jit", choices=MODES, default="tiered")
    parser.add_argument("--index", type=int, help="only the call of this number, in full")
    options = parser.parse_args(arguments)
    background = options.jit == "background"
    profile = {"always": REPEATING, "background": LONGER}.get(options.jit, EVERYTHING)
    with earned_at_once() if background else fastein.config(jit=options.jit):
        if options.index is not None:
            return _show(case(options.seed, options.index, profile), background)
        report = Report(0, 0.0)
        for first, count in _chunks(options.cases):
            part = run(count, options.seed, first, profile, background=background)
            for failure in part.failures:
                print(failure, flush=True)
            report = _joined(report, part)
    print(report)
    return 1 if report.failures else 0


def _joined(a: Report, b: Report) -> Report:
    differences = dict(Counter(a.differences) + Counter(b.differences))
    return Report(a.cases + b.cases, a.seconds + b.seconds, a.failures + b.failures, differences)


def _show(call: Call, background: bool) -> int:
    """Print a call, its operands, what NumPy and fastein do, and the verdict."""
    print(call)
    for position, operand in enumerate(call.operands):
        print(f"operand {position}:", repr(operand))
    kwargs = {name: value for name, value in call.kwargs.items() if name != "optimize"}
    saved = [buffer.copy() for buffer in call.buffers]
    with _quiet():
        for name, einsum, args, options in (
            ("NumPy", np.einsum, call.numpy_arguments(), kwargs),
            ("fastein", fastein.einsum, call.arguments(), call.kwargs),
        ):
            try:
                print(f"{name}:", repr(einsum(*args, **options)))
            except Exception as error:
                print(f"{name} raises", repr(error))
            for buffer, old in zip(call.buffers, saved, strict=True):
                buffer[...] = old
        verdict = judge_passage(call) if background else judge(call)
    print("verdict:", verdict)
    return 1 if verdict.fault else 0


if __name__ == "__main__":
    raise SystemExit(main())
