"""What the benchmark measures: times of a case, limits of the machine, the cost of small calls."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import fastein

from .arrays import asarray, to_host
from .device import Device
from .device_array import DeviceArray, dense_strides
from .rivals import Call, EventClock, WallClock, calls, home_library, operands_of
from .suites import Timed

ROUNDS = 5
ROUND_SECONDS = 0.02  # of calls in a row
SLOW_SECONDS = 0.5  # a call that takes longer is timed once
SMALL_REPEATS = 200  # fewer than the driver queues before it has callers wait
SMALL_CALLS = ("ij,jk->ik", "ij->", "bij,bjk->bik")
RATED = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64")
HALVES = ("float16", "bfloat16")
CHECKED_BYTES = 256 << 20  # operands that are compared on the host where no library can
CHECKED_FLOPS = 4e9
BOUNDS = {
    "float64": 1e-10,
    "complex128": 1e-10,
    "float16": 2e-2,
    "bfloat16": 2e-2,
}  # of the largest element


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
    seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def shown(self) -> dict[str, str]:
        """Microseconds, to be printed."""
        return {name: f"{t * 1e6:.1f}" for name, t in self.seconds.items()}

    @property
    def ratio(self) -> float | None:
        """The best rival's time by fastein's."""
        rivals = [t for name, t in self.seconds.items() if name != "fastein"]
        own = self.seconds.get("fastein")
        return min(rivals) / own if rivals and own else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine reaches: bytes and, for each dtype, operations in a second.

    Attributes
    ----------
    library : str
        Whose copy and products were timed.
    bandwidth : float
    rates : dict
    """

    library: str
    bandwidth: float
    rates: dict[str, float]

    def seconds(self, case: Timed) -> float | None:
        """The least time that a case can take, None where nobody knows."""
        if not case.flops or case.dtype not in self.rates:
            return None
        return max(case.nbytes / self.bandwidth, case.flops / self.rates[case.dtype])


def operands(shapes: tuple[tuple[int, ...], ...], dtype: str) -> list[Any]:
    """Return arrays on the device, with values that repeat where there are very many."""
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  (makes NumPy know it)
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


def _empty(case: Timed) -> Any:
    """Return an array for a case's result."""
    return operands((case.output,), case.dtype)[0]


def measure(who: dict[str, Call], device: Device, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median time of each, taken in turns after a first call that does not count."""
    real = device.name != "simulator"
    events: Any = EventClock() if real else WallClock(device)
    clocks = {name: WallClock(device) if name == "jax" else events for name in who}
    times: dict[str, list[float]] = {}
    repeats: dict[str, int] = {}
    for name, call in who.items():
        if real:
            clocks[name].seconds(call, 1)
        times[name] = [clocks[name].seconds(call, 1)]
        (once,) = times[name]
        repeats[name] = min(1000, int(ROUND_SECONDS / max(once, 1e-7))) or 1
        if not real or once > SLOW_SECONDS:
            repeats[name] = 0
    for number in range(rounds):
        for name in [name for name in who if repeats[name]]:
            if number == 0:
                times[name].clear()  # a call by itself takes longer than one of a row
            times[name].append(clocks[name].seconds(who[name], repeats[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def line(case: Timed, device: Device) -> Line:
    """Time one case, and compare fastein's answer with another's."""
    try:
        given = operands(case.shapes, case.dtype)
        fresh = partial(_empty, case) if case.is_view else None
        who = calls(case.equation, given, fresh)
        answer = who["fastein"]()
    except Exception as reason:
        return Line(case, {}, told(reason))
    able = {}
    for name, call in who.items():
        try:
            call()
            able[name] = call
        except Exception as reason:  # a rival that cannot is left out
            print(f"    {name}: {told(reason)}", file=sys.stderr)
    try:
        difference = _difference(able, case.dtype) or _host_difference(case, given, answer)
        return Line(case, measure(able, device), difference)
    except Exception as reason:
        return Line(case, {}, told(reason))


def told(reason: Exception) -> str:
    """Return what an exception says, for one cell of a table."""
    return " ".join(f"{type(reason).__name__}: {reason}".split())[:200]


def _difference(who: dict[str, Call], dtype: str) -> str:
    """Say how fastein's answer differs from torch's or CuPy's, empty where it does not."""
    other = next((name for name in ("torch", "cupy") if name in who), None)
    if other is None:
        return ""
    mine, theirs = operands_of(other, [who[name]() for name in ("fastein", other)])
    scale = float(abs(theirs).max()) or 1.0
    return _told_if_beyond(float(abs(mine - theirs).max()) / scale, other, dtype)


def _host_difference(case: Timed, given: list[Any], answer: Any) -> str:
    """Say how the answer differs from that of the CPU, where that one is soon there."""
    if home_library() != "fastein" or case.nbytes > CHECKED_BYTES or case.flops > CHECKED_FLOPS:
        return ""
    wide = "float32" if case.dtype in HALVES else case.dtype
    expected = fastein.einsum(case.equation, *[to_host(x).astype(wide) for x in given])
    off = np.abs(to_host(answer).astype(wide) - expected).max(initial=0.0)
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return _told_if_beyond(float(off) / scale, "the CPU", case.dtype)


def _told_if_beyond(off: float, other: str, dtype: str) -> str:
    within = off <= BOUNDS.get(dtype, 2e-3)  # false for NaN
    return "" if within else f"differs from {other} by {off:.1e} of the largest element"


def limits(device: Device, size: int) -> Limits:
    """Measure a copy, and the matrix products of a library, as far as they work."""
    home = home_library()
    there, target = operands_of(home, operands(((size * size,),) * 2, "float32"))
    copies: dict[str, Call] = {
        "torch": lambda: target.copy_(there),
        "cupy": lambda: target.__setitem__(..., there),
        "fastein": lambda: fastein.einsum("i->i", there, out=target),
    }
    bandwidth = 8 * size * size / measure({"copy": copies[home]}, device)["copy"]
    rates = {}
    for dtype in RATED:
        n = size // 2 if dtype == "complex128" else size
        product = fastein.einsum if home == "fastein" else _matmul
        work = 8 if dtype.startswith("complex") else 2
        try:
            a, b = operands_of(home, operands(((n, n), (n, n)), dtype))
            call = partial(product, "ij,jk->ik", a, b)
            rates[dtype] = work * n**3 / measure({"product": call}, device, 3)["product"]
        except Exception as reason:
            print(f"    product of {dtype}: {told(reason)}", file=sys.stderr)
    return Limits(home, bandwidth, rates)


def _matmul(equation: str, a: Any, b: Any) -> Any:
    return a @ b


def overheads(device: Device) -> dict[str, dict[str, tuple[float, float]]]:
    """Return for each who takes part the seconds of a small call: the host's, up to the result.

    The first are those of calls in a row, the second of one call and a wait for the device.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for equation in SMALL_CALLS:
        terms = equation.split("->")[0].split(",")
        who = calls(equation, operands(tuple([(2,) * len(t) for t in terms]), "float64"))
        clock = WallClock(device)
        repeats = SMALL_REPEATS if device.name != "simulator" else 2
        found[equation] = {}
        for name, call in who.items():
            try:
                call()
                rows = [clock.both(call, repeats)[0] for _ in range(ROUNDS)]
                single = [clock.seconds(call, 1) for _ in range(repeats)]
                found[equation][name] = statistics.median(rows), statistics.median(single)
            except Exception as reason:
                print(f"    {name}: {told(reason)}", file=sys.stderr)
    return found
