"""Time fastein on a GPU beside other libraries, and write a dated table.

::

    python -m fastein_cuda.benchmark [--minutes 8] [--suites gemm,memory] [--output docs/benchmarks]
    python -m fastein_cuda.benchmark --simulate   # the same program on tiny operands, without a GPU

It prints versions, measures the bandwidth of a copy and the rates of the library's matrix products,
then times the suites, everybody in turn, until the minutes are over. Where the limit of an equation
is known, the share of it that was reached stands beside the time.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import fastein

from .arrays import asarray
from .device import Device
from .device_array import DeviceArray, dense_strides
from .devices import CudaUnavailableError, default_device
from .rivals import Call, EventClock, WallClock, calls, installed, operands_of
from .simulator import simulated
from .suites import SUITES, Timed, smaller

ROUNDS = 5
ROUND_SECONDS = 0.02  # of calls in a row
SMALL_CALLS = ("ij,jk->ik", "ij->", "bij,bjk->bik")
PACKAGES = ("fastein", "numpy", "numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink", "cuda-bindings",
            "torch", "cupy-cuda13x", "cupy-cuda12x", "jax", "opt_einsum")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured for one case.

    Attributes
    ----------
    case : Timed
    seconds : dict
        The median of each who takes part.
    error : str
        Why fastein has no time, or differs from the others.
    """

    case: Timed
    seconds: dict[str, float]
    error: str = ""

    @property
    def ratio(self) -> float | None:
        """The best rival's time by fastein's."""
        rivals = [t for name, t in self.seconds.items() if name != "fastein"]
        own = self.seconds.get("fastein")
        return min(rivals) / own if rivals and own else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine reaches: bytes and, for each dtype, operations in a second."""

    bandwidth: float
    rates: dict[str, float]

    def seconds(self, case: Timed) -> float | None:
        """The least time that a case can take, None where nobody knows."""
        if not case.flops or case.dtype not in self.rates:
            return None
        return max(case.nbytes / self.bandwidth, case.flops / self.rates[case.dtype])


def operands(shapes: tuple[tuple[int, ...], ...], dtype: str) -> list[Any]:
    """Return arrays on the device, with values that repeat where there are very many."""
    rng = np.random.default_rng(0)
    return [_filled(rng, shape, dtype) for shape in shapes]


def _filled(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    """Return an array whose repetition is written by the device."""
    count = int(np.prod(shape, dtype=np.int64))
    values = rng.standard_normal(min(count, 1 << 20) or 1)
    if dtype.startswith(("int", "uint")):
        values = np.floor(values)
    some = asarray(values.astype(dtype))
    copies = -(-count // some.size)
    all_of_it = some
    if copies > 1:
        ones = asarray(np.ones(copies, dtype))
        all_of_it = fastein.einsum("i,j->ij", ones, some)
    strides = dense_strides(shape, some.dtype.itemsize)
    return DeviceArray(all_of_it.address, shape, strides, some.dtype, some.device, all_of_it)


def measure(who: dict[str, Call], device: Device, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median time of each, taken in turns after a first call that does not count."""
    real = device.name != "simulator"
    rounds = rounds if real else 1
    events: Any = EventClock() if real else WallClock(device)
    wall = WallClock(device)
    repeats = {}
    for name, call in who.items():
        clock = wall if name == "jax" else events
        clock.seconds(call, 1)
        once = clock.seconds(call, 1)
        repeats[name] = max(1, min(1000, int(ROUND_SECONDS / max(once, 1e-7)))) if real else 1
    times: dict[str, list[float]] = {name: [] for name in who}
    for _ in range(rounds):
        for name, call in who.items():
            clock = wall if name == "jax" else events
            times[name].append(clock.seconds(call, repeats[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def line(case: Timed, device: Device) -> Line:
    """Time one case, and compare fastein's answer with another library's."""
    try:
        who = calls(case.equation, operands(case.shapes, case.dtype))
        who["fastein"]()
    except Exception as reason:
        return Line(case, {}, f"{type(reason).__name__}: {reason}"[:200])
    able = {}
    for name, call in who.items():
        try:
            call()
            able[name] = call
        except Exception as reason:  # a rival that cannot is left out
            print(f"    {name}: {type(reason).__name__}", file=sys.stderr)
    try:
        difference = _difference(able, case.dtype)
        return Line(case, measure(able, device), difference)
    except Exception as reason:
        return Line(case, {}, f"{type(reason).__name__}: {reason}"[:200])


def _difference(who: dict[str, Call], dtype: str) -> str:
    """Say how fastein's answer differs from torch's or CuPy's, empty where it does not."""
    other = next((name for name in ("torch", "cupy") if name in who), None)
    if other is None:
        return ""
    library = installed(other)
    mine, theirs = (library.asarray(who[name]()) for name in ("fastein", other))
    scale = float(abs(theirs).max()) or 1.0
    off = float(abs(mine - theirs).max()) / scale
    bound = {"float64": 1e-10, "complex128": 1e-10, "float16": 2e-2}.get(dtype, 2e-3)
    return "" if off <= bound else f"differs from {other} by {off:.1e} of the largest element"


def limits(device: Device, size: int) -> Limits:
    """Measure a copy, and the matrix products of a library."""
    home = next((name for name in ("torch", "cupy") if installed(name)), "fastein")
    (there, target) = operands_of(home, operands(((size * size,),) * 2, "float32"))
    copies: dict[str, Call] = {
        "torch": lambda: target.copy_(there),
        "cupy": lambda: target.__setitem__(..., there),
        "fastein": lambda: fastein.einsum("i->i", there, out=target),
    }
    bandwidth = 8 * size * size / measure({"copy": copies[home]}, device)["copy"]
    rates = {}
    for dtype in ("float64", "float32", "float16", "complex128", "complex64"):
        n = size // 2 if dtype == "complex128" else size
        a, b = operands_of(home, operands(((n, n), (n, n)), dtype))
        product = fastein.einsum if home == "fastein" else _matmul
        call = partial(product, "ij,jk->ik", a, b)
        work = 8 if dtype.startswith("complex") else 2
        rates[dtype] = work * n**3 / measure({"product": call}, device, 3)["product"]
    return Limits(bandwidth, rates)


def _matmul(equation: str, a: Any, b: Any) -> Any:
    return a @ b


def overheads(device: Device) -> dict[str, dict[str, float]]:
    """Return what a small call costs the host, in seconds, for each who takes part."""
    found: dict[str, dict[str, float]] = {}
    for equation in SMALL_CALLS:
        terms = equation.split("->")[0].split(",")
        who = calls(equation, operands(tuple([(2,) * len(t) for t in terms]), "float64"))
        clock = WallClock(device)
        repeats = 1000 if device.name != "simulator" else 2
        found[equation] = {}
        for name, call in who.items():
            call()
            found[equation][name] = clock.seconds(call, repeats)
    return found


# --- the report ---------------------------------------------------------------------------------


def versions(device: Device) -> list[str]:
    """Return lines about the machine and what is installed."""
    lines = [f"{device.name}, Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return lines


def report(
    device: Device,
    found: Limits,
    small: dict[str, dict[str, float]],
    lines: list[Line],
    left_out: int,
) -> str:
    """Return the dated page with all tables."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    title = f"{today}: {device.name}"
    parts = [
        title,
        "=" * len(title),
        "",
        "Written by `python -m fastein_cuda.benchmark`. Times are medians of interleaved rounds by "
        "the device's events (JAX: by the clock). Versions: " + "; ".join(versions(device)) + ".",
        "",
        f"Copy: {found.bandwidth / 1e12:.2f} TB/s. Matrix products of the library: "
        + ", ".join(f"{dtype} {rate / 1e12:.1f} TFLOP/s" for dtype, rate in found.rates.items())
        + ".",
        "",
        "What a small call costs, in microseconds:",
        "",
        *_table(
            ["equation", *next(iter(small.values()))],
            [[eq, *[f"{t * 1e6:.1f}" for t in row.values()]] for eq, row in small.items()],
        ),
    ]
    names = list(dict.fromkeys(name for x in lines for name in x.seconds))
    for suite in dict.fromkeys(x.case.suite for x in lines):
        members = [x for x in lines if x.case.suite == suite]
        ratios = [x.ratio for x in members if x.ratio]
        parts += ["", suite, "-" * len(suite), ""]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            behind = sum(r < 1 for r in ratios)
            parts += [f"Best rival / fastein: {mean:.2f} (geometric mean); behind in {behind}.", ""]
        parts += _table(
            ["equation", "result", "dtype", *[f"{n} (µs)" for n in names], "of limit", "remark"],
            [_row(x, names, found) for x in members],
        )
    if left_out:
        parts += ["", f"{left_out} cases were left out when the minutes were over."]
    return "\n".join(parts) + "\n"


def _row(found: Line, names: list[str], machine: Limits) -> list[str]:
    case = found.case
    least = machine.seconds(case)
    own = found.seconds.get("fastein")
    return [
        f"``{case.equation}``",
        "×".join(map(str, case.output)) or "scalar",
        case.dtype,
        *[f"{found.seconds[n] * 1e6:.1f}" if n in found.seconds else "" for n in names],
        f"{least / own:.2f}" if least and own else "",
        found.error,
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a reStructuredText list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
    return lines


def run(device: Device, names: list[str], minutes: float, tiny: bool, output: Path) -> Path:
    """Measure, print what comes out, and write the page; where it was written."""
    deadline = time.monotonic() + 60 * minutes
    print("\n".join(versions(device)))
    found = limits(device, 64 if tiny else 8192)
    print(f"copy {found.bandwidth / 1e12:.3f} TB/s", found.rates)
    small = overheads(device)
    print(small)
    cases = [case for name in names for case in SUITES[name]()]
    if tiny:
        cases = [smaller(case) for case in cases]
    lines: list[Line] = []
    for case in cases:
        if time.monotonic() > deadline:
            break
        lines.append(line(case, device))
        shown = {name: f"{t * 1e6:.1f}" for name, t in lines[-1].seconds.items()}
        print(
            case.suite, case.equation, case.output, case.dtype, shown, lines[-1].error, flush=True
        )
    page = report(device, found, small, lines, len(cases) - len(lines))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    words = "".join(c if c.isalnum() else "-" for c in device.name.split("(")[0].lower())
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{today}-gpu-{words.strip('-')}.rst"
    path.write_text(page)
    print(f"written: {path}")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastein_cuda.benchmark")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--suites", default=",".join(SUITES))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--simulate", action="store_true")
    given = parser.parse_args(arguments)
    names = given.suites.split(",")
    unknown = set(names) - set(SUITES)
    if unknown:
        parser.error(f"no suite is called {', '.join(sorted(unknown))}")
    if given.simulate:
        with simulated() as device:
            run(device, names, given.minutes, True, given.output)
        return 0
    try:
        run(default_device(), names, given.minutes, False, given.output)
    except CudaUnavailableError as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
