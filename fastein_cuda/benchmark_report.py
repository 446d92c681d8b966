"""The benchmark's page: tables in reStructuredText, from whatever has been measured so far."""

from __future__ import annotations

import datetime
import platform
import statistics
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from .measurement import Limits, Line

PACKAGES = ("fastein", "numpy", "numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink", "cuda-bindings",
            "torch", "cupy-cuda13x", "cupy-cuda12x", "jax", "opt_einsum")  # fmt: skip


@dataclass(slots=True)
class Findings:
    """What has been measured so far.

    Attributes
    ----------
    device : str
        Name of the device, and what is known of it.
    rivals : list of str
        Who takes part beside fastein.
    limits : Limits or None
    small : dict
        For each equation, what a small call costs each who takes part: the host, and up to its
        result.
    lines : list of Line
    left_out : dict
        By suite, how many cases there was no time for.
    notes : list of str
        What went wrong beside single cases.
    """

    device: str = "unknown device"
    rivals: list[str] = field(default_factory=list)
    limits: Limits | None = None
    small: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def today() -> str:
    """Return the date, as the page and its name have it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def versions() -> list[str]:
    """Return what is installed of what matters."""
    lines = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return lines


def page(found: Findings) -> str:
    """Return the dated page with all tables."""
    title = f"{today()}: {found.device.split(';')[0]}"
    about = (
        "Written by `python -m fastein_cuda.benchmark`. Times are medians of interleaved rounds by "
        f"the device's events (JAX: by the clock). What could be a view, a permutation or a "
        f"diagonal, is written by all into an array that is there (*into out*; JAX's results are "
        f"new). Device: {found.device}. "
        f"Versions: {'; '.join(versions())}. "
        f"Beside fastein: {', '.join(found.rivals) or 'nobody, for want of other libraries'}."
    )
    parts = [
        title,
        "=" * len(title),
        "",
        about,
        "",
        *_notes(found),
        *_limits(found.limits),
        *_small(found.small),
    ]
    for suite in dict.fromkeys([*[x.case.suite for x in found.lines], *found.left_out]):
        parts += _suite(suite, found)
    return "\n".join(parts) + "\n"


def _notes(found: Findings) -> list[str]:
    return [*[f"- {note}" for note in found.notes], ""] if found.notes else []


def _limits(limits: Limits | None) -> list[str]:
    if limits is None:
        return ["The machine's limits could not be measured.", ""]
    rates = [f"{dtype} {rate / 1e12:.1f} TFLOP/s" for dtype, rate in limits.rates.items()]
    return [
        f"By {limits.library}: copy {limits.bandwidth / 1e12:.2f} TB/s; matrix products "
        + (", ".join(rates) or "none")
        + ".",
        "",
    ]


def _small(small: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    if not small:
        return []
    names = list(dict.fromkeys(name for row in small.values() for name in row))
    rows = []
    for equation, row in small.items():
        times = [time for name in names for time in row.get(name, (None, None))]
        rows.append([f"``{equation}``", *map(_microseconds, times)])
    head = (
        "A small call (2 along each axis, float64) in microseconds: what it takes the host, in a "
        "row of them, and from one call to its result on the device, the wait included."
    )
    columns = [f"{name}: {what}" for name in names for what in ("host", "result")]
    return [head, "", *_table(["equation", *columns], rows), ""]


def _suite(suite: str, found: Findings) -> list[str]:
    members = [x for x in found.lines if x.case.suite == suite]
    names = list(dict.fromkeys(name for x in members for name in x.seconds))
    parts = ["", suite, "-" * len(suite), ""]
    ratios = [x.ratio for x in members if x.ratio]
    if ratios:
        mean, behind = statistics.geometric_mean(ratios), sum(r < 1 for r in ratios)
        parts += [f"Best rival / fastein: {mean:.2f} (geometric mean); behind in {behind}.", ""]
    failed = sum(bool(x.error) for x in members)
    if failed:
        parts += [f"{failed} of {len(members)} failed or differ, see the remarks.", ""]
    if found.left_out.get(suite):
        parts += [f"{found.left_out[suite]} cases were left out when the time was over.", ""]
    if members:
        head = ["equation", "result", "dtype", *[f"{n} (µs)" for n in names], "of limit", "remark"]
        parts += _table(head, [_row(x, names, found.limits) for x in members])
    return parts


def _row(found: Line, names: list[str], machine: Limits | None) -> list[str]:
    case = found.case
    least = machine.seconds(case) if machine else None
    own = found.seconds.get("fastein")
    return [
        f"``{case.equation}``",
        ("×".join(map(str, case.output)) or "scalar") + (", into out" if case.is_view else ""),
        case.precision,
        *[_microseconds(found.seconds.get(name)) for name in names],
        f"{least / own:.2f}" if least and own else "",
        found.error.replace("*", "").replace("`", ""),
    ]


def _microseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:.1f}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a reStructuredText list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
    return lines
