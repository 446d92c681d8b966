"""What sharing a call among threads costs where it cannot bring anything: calls between other work.

A thread that sleeps is slow to wake, and whoever has worked or slept since the last call finds the
others asleep. Here the caller does some NumPy, or sleeps, before each call; calls come in rows, by
turns on one thread and on all. A call on all of them is to take at most 10 us longer than on one,
at the median and at the ninth tenth.

In the folder `asv_bench`, ``python -m benchmarks.latency`` prints the whole table::

    python -m benchmarks.latency --cases "ij,jk->ik f8 128" --between "work 0.2" "sleep 2"
"""

import argparse
from itertools import product
from time import perf_counter, sleep

import numpy as np

import fastein

from .peak import numbers

PRODUCTS = [f"ij,jk->ik {dtype} {n}" for dtype in ("f4", "f8") for n in (64, 96, 128, 192, 256)]
# The number is of elements of the first operand.
BOUND_BY_MEMORY = [
    f"{equation} f8 {elements}"
    for equation in ("ij,ij->ij", "ij,ij->i", "ij->ji")
    for elements in (10_000, 100_000, 300_000, 1_000_000)
]
CASES = PRODUCTS + BOUND_BY_MEMORY
BETWEEN = [f"work {ms}" for ms in (0.05, 0.2, 1, 2, 10)] + [f"sleep {ms}" for ms in (0.2, 2, 10)]
EXTRA = 10e-6

ROW = 12  # calls on one number of threads, before it is the other's turn


def arguments(case):
    """Positional arguments and `out` of a case."""
    equation, dtype, number = case.split()
    side = int(number) if equation == "ij,jk->ik" else round(int(number) ** 0.5)
    terms, result = equation.split("->")
    operands = [numbers(np.dtype(dtype).name, (side, side)) for _ in terms.split(",")]
    return (equation, *operands), np.empty((side,) * len(result), dtype)


def worker(between):
    """What the caller does between two calls."""
    kind, ms = between.split()
    seconds = float(ms) / 1e3
    if kind == "sleep":
        return lambda: sleep(seconds)
    array = np.ones(8192)

    def work():
        end = perf_counter() + seconds
        while perf_counter() < end:
            np.add(array, 1.0, out=array)

    return work


def times(case, between, threads, calls):
    """Seconds of so many calls, for each number of threads, taken by turns."""
    positional, out = arguments(case)
    wait = worker(between)
    seconds = {number: [] for number in threads}
    for number in threads:
        with fastein.config(num_threads=number, jit="always"):
            fastein.einsum(*positional, out=out)
    while len(seconds[threads[-1]]) < calls:
        for number in threads:
            with fastein.config(num_threads=number):
                for _ in range(ROW):
                    wait()
                    start = perf_counter()
                    fastein.einsum(*positional, out=out)
                    seconds[number].append(perf_counter() - start)
    return seconds


class Latency:
    """The median of a call that others may help with, between other work."""

    params = (CASES[:10:2], ["work 0.2", "work 2", "sleep 2"], [1, 2])
    param_names = ("case", "between", "threads")
    unit = "s"

    def track_median(self, case, between, threads):
        return float(np.median(times(case, between, [threads], 120)[threads]))

    def track_ninth_tenth(self, case, between, threads):
        return float(np.quantile(times(case, between, [threads], 120)[threads], 0.9))


def report(cases, between, most, seconds):
    behind = 0
    print(f"{'case':>24} {'between':>10}   median: 1, {most}, more   ninth tenth: 1, {most}, more")
    for case, kind in product(cases, between):
        calls = int(seconds / (2 * float(kind.split()[1]) / 1e3 + 1e-3)) // ROW * ROW + 2 * ROW
        taken = times(case, kind, [1, most], min(calls, 600))
        line = f"{case:>24} {kind:>10}"
        for share in (0.5, 0.9):
            one, all_of_them = (float(np.quantile(taken[n], share)) for n in (1, most))
            behind += all_of_them > one + EXTRA
            line += f"  {one * 1e6:7.0f} {all_of_them * 1e6:7.0f} {(all_of_them - one) * 1e6:+7.0f}"
            line += " *" if all_of_them > one + EXTRA else "  "
        print(line, flush=True)
    print(f"{behind} of {2 * len(cases) * len(between)} more than {EXTRA * 1e6:.0f} us behind")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--between", nargs="+", default=BETWEEN)
    parser.add_argument("--threads", type=int, default=fastein.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.5, help="for each case")
    options = parser.parse_args()
    report(options.cases, options.between, options.threads, options.seconds)
