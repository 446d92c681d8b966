"""What the cost model knows of this machine."""

from __future__ import annotations

import functools
import os

from ..record import Record


class Machine(Record):
    """Rates from which schedules estimate times, in seconds.

    The defaults are those of a 2023 server core (3.5 GHz, 256-bit vectors). They only need to be
    right within a factor of two: families differ by more than that where the choice matters. Those
    by which one family is compared with another are measured on each machine once
    (`fastein.cpu.calibration`); those of the loop order are not, so that one order, and the same
    kernels, serve everywhere.
    """

    vector_bytes: float = 32.0
    """Bytes of an operand that one iteration of a vectorised loop advances."""
    cycle: float = 0.3e-9
    run_overhead: float = 4e-9
    """Starting one innermost loop of the baseline nest."""
    strided_access: float = 0.7e-9
    """One element of a walk that does not use whole cache lines."""
    paired: float = 8.0
    """How much faster pairs of loops multiply real matrices than their inner loop alone would, by
    which the order of the loops is chosen (at 16 to 48 rows, where NumPy's matmul catches up)."""
    matmul_call: float = 4e-6
    """One call of NumPy's matmul, the views around it included."""
    matmul_each: float = 0.15e-6
    """One matrix of a stack of matrices."""
    matmul_flops: float = 5e10
    """Floating-point operations a second on float64."""
    copy_bytes: float = 2.5e9
    """Bytes a second of a transposing copy."""
    stream_bytes: float = 2.5e10
    """Bytes a second of what one core reads and writes in long runs."""


MACHINE = Machine()


class Caches(Record):
    """Bytes of the data caches that one core sees."""

    first: int = 32 << 10
    second: int = 512 << 10
    third: int = 8 << 20


@functools.cache
def caches() -> Caches:
    """Return the sizes of this machine's caches; usual ones where the system does not tell."""
    usual = Caches()
    found = _from_sysfs() or _from_sysconf()
    second = found.get(2) or usual.second
    # without a third cache the second is the last: it is then large, and shared
    return Caches(found.get(1) or usual.first, second, found.get(3) or 4 * second)


def _from_sysfs() -> dict[int, int]:
    sizes = {}
    for index in range(8):
        try:
            kind, level, size = [_told(index, what) for what in ("type", "level", "size")]
            if kind in ("Data", "Unified"):
                sizes[int(level)] = int(size.rstrip("KM")) << (20 if size.endswith("M") else 10)
        except (OSError, ValueError):
            continue
    return sizes


def _told(index: int, what: str) -> str:
    with open(f"/sys/devices/system/cpu/cpu0/cache/index{index}/{what}") as file:
        return file.read().strip()


def _from_sysconf() -> dict[int, int]:
    names = {1: "SC_LEVEL1_DCACHE_SIZE", 2: "SC_LEVEL2_CACHE_SIZE", 3: "SC_LEVEL3_CACHE_SIZE"}
    known = getattr(os, "sysconf_names", {})
    return {level: os.sysconf(name) for level, name in names.items() if name in known}


@functools.cache
def processor() -> str:
    """Return what tells this processor from those that may not run the same machine code."""
    from . import _cpuid

    return _cpuid.identity() or _from_cpuinfo() or _from_llvm()


_TELLING = ("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part")


def _from_cpuinfo() -> str:
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as info:
            lines = info.read(4096).decode(errors="replace").splitlines()  # of the first core
    except OSError:
        return ""
    found = dict(line.split(":", 1) for line in reversed(lines) if line.startswith(_TELLING))
    return " ".join(f"{name.strip()}:{value}" for name, value in sorted(found.items()))


def _from_llvm() -> str:
    from llvmlite import binding

    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"
