"""The benchmark's worker: a process that measures case by case, and says what it has after each.

What it says are lines of JSON, ``{"about": ..., ...}``, in a file that `benchmark` reads: whatever
happens to this process or to its device, what was measured before is there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import fastein

from .device import Device
from .measurement import Line, limits, line, overheads, told
from .rivals import let_go, rivals
from .suites import SUITES, Timed, smaller

#: Shares of the time, which what comes before may leave to what comes after.
SHARES = {"gemm": 12, "memory": 20, "tccg": 28, "batch": 12, "chain": 8, "tutorial": 20}
STUCK = 3  # exit status of a worker whose device answers no more

Say = Callable[[dict[str, Any]], None]


def cases_of(names: list[str], tiny: bool) -> list[tuple[str, Timed]]:
    """Return suites and cases, cut down on request: the same for worker and parent."""
    cases = [(name, case) for name in names for case in SUITES[name]()]
    return [(name, smaller(case)) for name, case in cases] if tiny else cases


def speaker(path: Path) -> Say:
    """Return what writes a record where the parent reads it."""

    def say(record: dict[str, Any]) -> None:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    return say


def work(device: Device, names: list[str], skip: int, seconds: float, tiny: bool, say: Say) -> int:
    """Measure all that follows the first `skip` pieces of work; the exit status."""
    deadline = time.monotonic() + seconds
    say({"about": "rivals", "names": rivals()})  # whose import takes seconds
    pieces: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("limits", lambda: asdict(limits(device, 64 if tiny else 8192))),
        ("small", lambda: {"calls": overheads(device)}),
    ]
    for number, (about, run) in enumerate(pieces):
        if number >= skip and not _measured(device, number, about, run, say):
            return STUCK
    numbered = list(enumerate(cases_of(names, tiny), len(pieces)))
    for suite, members in groupby(numbered, key=lambda pair: pair[1][0]):
        shares = [SHARES[name] for name in names[names.index(suite) :]]
        left = deadline - time.monotonic()
        until = time.monotonic() + left * shares[0] / sum(shares)
        for number, (_, case) in members:
            if number < skip:
                continue
            if time.monotonic() > until:
                say({"about": "left out", "number": number, "suite": suite})
            elif not _measured(device, number, "line", partial(_line, case, device), say):
                return STUCK
    say({"about": "end"})
    return 0


def _line(case: Timed, device: Device) -> dict[str, Any]:
    with fastein.config(tf32=case.tf32):
        found: Line = line(case, device)
    print(
        case.suite, case.equation, case.output, case.precision, found.shown, found.error, flush=True
    )
    return {"seconds": found.seconds, "error": found.error}


def _measured(
    device: Device, number: int, about: str, run: Callable[[], dict[str, Any]], say: Say
) -> bool:
    """Do a piece of work and say what came out; whether the device still answers."""
    say({"about": "begin", "number": number})
    try:
        say({"about": about, "number": number, **run()})
    except Exception as reason:
        say({"about": "failure", "number": number, "reason": told(reason)})
    try:
        let_go(device)
        device.wait(0)
    except Exception as reason:  # an error that stays until the process ends
        say({"about": "stuck", "number": number, "reason": told(reason)})
        print(f"the device does not answer any more: {reason}", file=sys.stderr)
        return False
    return True
