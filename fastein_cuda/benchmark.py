"""Time fastein on a GPU beside other libraries, and write a dated table.

::

    python -m fastein_cuda.benchmark [--minutes 8] [--suites gemm,memory] [--output docs/benchmarks]
    python -m fastein_cuda.benchmark --tiny       # the same on tiny operands: whether it runs
    python -m fastein_cuda.benchmark --simulate   # the same again, without a GPU

It measures the bandwidth of a copy and the rates of a library's matrix products, then times the
suites, everybody in turn, each suite within its share of the minutes. Where the limit of an
equation is known, the share of it that was reached stands beside the time.

A process of its own does the work. When it dies, hangs, or its device answers no more, the case is
said to have failed and another process goes on with the next. The page is written after each case.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .benchmark_report import Findings, page, today, versions
from .benchmark_worker import STUCK, cases_of, speaker, work
from .devices import CudaUnavailableError, default_device
from .measurement import Limits, Line
from .simulator import simulated
from .suites import SUITES, Timed

PATIENCE = 75.0  # seconds without a word from the worker, after which it is ended
MOST_WORKERS = 12
POLL = 0.2
FIRST_CASE = 2  # pieces of work before the cases: limits, small calls


class Reader:
    """What the workers have said, turned into findings.

    Attributes
    ----------
    found : Findings
    done : int
        Pieces of work that are over, one way or another.
    ended : bool
        Whether all is done.
    """

    def __init__(self, cases: list[tuple[str, Timed]]) -> None:
        self.found = Findings()
        self.cases = cases
        self.done = 0
        self.ended = False
        self._begun = -1

    def take(self, record: dict[str, Any]) -> None:
        """Take in one record."""
        about, number = record["about"], record.get("number", -1)
        if about == "device":
            self.found.device = record["name"]
        elif about == "rivals":
            self.found.rivals = record["names"]
        elif about == "end":
            self.ended = True
        elif about == "begin":
            self._begun = number
        elif about == "stuck":
            self.fail(number, f"{record['reason']} (after it the device answered no more)")
        elif about == "failure":
            self.fail(number, record["reason"])
        else:
            self._finish(about, number, record)

    def _finish(self, about: str, number: int, record: dict[str, Any]) -> None:
        if about == "limits":
            kept = ("library", "bandwidth", "rates")
            self.found.limits = Limits(**{name: record[name] for name in kept})
        elif about == "small":
            self.found.small = record["calls"]
        elif about == "left out":
            suite = record["suite"]
            self.found.left_out[suite] = self.found.left_out.get(suite, 0) + 1
        elif about == "line":
            _, case = self.cases[number - FIRST_CASE]
            self.found.lines.append(Line(case, record["seconds"], record["error"]))
        self.done = number + 1

    def fail(self, number: int, reason: str) -> None:
        """Say why a piece of work has no result, or what is to be said of the one it has."""
        if number < FIRST_CASE:
            piece = ("the limits", "the small calls")[number] if number >= 0 else "the start"
            self.found.notes.append(f"{piece}: {reason}")
        elif number >= self.done:
            self.found.lines.append(Line(self.cases[number - FIRST_CASE][1], {}, reason))
        else:
            last = self.found.lines[-1]
            self.found.lines[-1] = Line(last.case, last.seconds, f"{last.error} {reason}".strip())
        self.done = max(self.done, number + 1)

    def fail_begun(self, reason: str) -> None:
        """Say why the piece of work that was going on when the worker ended has no result."""
        if self._begun >= self.done or self._begun < 0:
            self.fail(self._begun, reason)


def run(
    names: list[str], minutes: float, how: list[str], output: Path, patience: float = PATIENCE
) -> Path | None:
    """Have workers measure, and write the page as it grows; where it is, None without a device."""
    deadline = time.monotonic() + 60 * minutes
    print("; ".join(versions()), flush=True)
    reader = Reader(cases_of(names, bool(how)))
    path: Path | None = None
    for _ in range(MOST_WORKERS):
        with tempfile.TemporaryDirectory() as folder:
            records = Path(folder, "records")
            records.touch()
            worker = _start(names, reader.done, deadline - time.monotonic(), how, records)
            path = _listen(worker, records, reader, output, deadline, patience) or path
        if reader.ended or worker.returncode == 1 or time.monotonic() > deadline:
            break
    if path is not None:
        _write(path, reader.found)
        print(f"written: {path}")
    return path


def _start(
    names: list[str], skip: int, seconds: float, how: list[str], records: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fastein_cuda.benchmark", "--suites", ",".join(names)]
    command += ["--worker", str(records), "--skip", str(skip), "--seconds", str(seconds)]
    command += [f"--{name}" for name in how]
    # JAX would take most of the memory for itself, round float32 to 11 bits and float64 to float32
    jax = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "JAX_ENABLE_X64": "true",
    }
    return subprocess.Popen(command, env={**os.environ, **jax})


def _listen(
    worker: subprocess.Popen[bytes],
    records: Path,
    reader: Reader,
    output: Path,
    deadline: float,
    patience: float,
) -> Path | None:
    """Take in what a worker says until it ends, or is ended for its silence or for lack of time."""
    path: Path | None = None
    heard = time.monotonic()
    with records.open() as file:
        while True:
            running = worker.poll() is None
            news = [line for line in iter(file.readline, "") if line.endswith("\n")]
            for text in news:
                reader.take(json.loads(text))
            if news and reader.found.device:
                heard = time.monotonic()
                path = _page_path(reader.found, output)
                _write(path, reader.found)
            if not running and not news:
                break
            late = time.monotonic() > deadline + patience / 2
            if running and (late or time.monotonic() - heard > patience):
                worker.kill()
                worker.wait()
                reader.fail_begun("ended: " + ("no time left" if late else "it took too long"))
            time.sleep(0 if news else POLL)
    if worker.returncode not in (0, 1, STUCK, -9):
        reader.fail_begun(f"the process ended with status {worker.returncode}")
    return path


def _page_path(found: Findings, output: Path) -> Path:
    name = found.device.split(";")[0].split("(")[0].lower()
    words = "".join(c if c.isalnum() else "-" for c in name).strip("-")
    return output / f"{today()}-gpu-{words}.rst"


def _write(path: Path, found: Findings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(found))


def _worker(given: argparse.Namespace, names: list[str]) -> int:
    """Be the worker; the exit status, 1 where there is no device."""
    say = speaker(given.worker)
    if given.simulate:
        with simulated() as device:
            say({"about": "device", "name": device.name})
            return work(device, names, given.skip, given.seconds, True, say)
    try:
        chosen = default_device()
    except CudaUnavailableError as reason:
        print(reason, file=sys.stderr)
        return 1
    with chosen.active():
        say({"about": "device", "name": f"{chosen.name}; {chosen.machine}"})
        return work(chosen, names, given.skip, given.seconds, given.tiny, say)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastein_cuda.benchmark")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--suites", default=",".join(SUITES))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    names = given.suites.split(",")
    unknown = set(names) - set(SUITES)
    if unknown:
        parser.error(f"no suite is called {', '.join(sorted(unknown))}")
    if given.worker is not None:
        return _worker(given, names)
    how = [name for name in ("tiny", "simulate") if getattr(given, name)]
    return 0 if run(names, given.minutes, how, given.output) else 1


if __name__ == "__main__":
    sys.exit(main())
