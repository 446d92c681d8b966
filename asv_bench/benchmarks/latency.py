"""What sharing a call among threads costs where it cannot bring anything: calls between other work.

A thread that sleeps is slow to wake, and whoever has worked or slept since the last call finds the
others asleep. Here the caller does some NumPy, or sleeps, before each call. A call on all threads
is to take at most 10 us longer than on one, at the median and at the ninth tenth.

In the folder `asv_bench`, ``python -m benchmarks.latency`` prints the whole table::

    python -m benchmarks.latency --cases "ij,jk->ik f8 128" --between "work 0.2" "sleep 2"

How it measures: a round is a row of calls on one thread, one on all and one on one thread again;
which comes first changes from round to round. Of each row the median and the ninth tenth are noted.
A figure is the median over some rounds of the difference of two rows of one round: what slows the
machine for a while slows both, and a moment in which somebody else has it spoils a round and no
more, while what befalls one call of ten in most rows is seen. The first round, in which caches and
fastein find their way, does not count. What one thread differs from itself is how far a figure can
be trusted: it is shown beside it, and counted in the same way. Where either is more than 10 us
behind, twice as many rounds again are taken, and the median over all of them decides whether it is
a miss; the table shows what the first few said before it. Where Linux says that for more than a
tenth of the time somebody waited for a CPU (/proc/pressure), others were at work, or a thread of
ours was where it should not be: the rounds are taken again, up to four times, and the last column
shows that share of the last time.
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

ROW = 20  # calls on one number of threads, before it is the other's turn
ROUNDS = 6
SHARES = (0.5, 0.9)
PRESSURE = "/proc/pressure/cpu"
MOST_WAITING = 0.1
ATTEMPTS = 4


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


def times(case, between, threads, rounds=ROUNDS):
    """Seconds of calls on each of these numbers of threads, as an array of (which, round, call)."""
    positional, out = arguments(case)
    wait = worker(between)
    seconds = np.empty((len(threads), rounds + 1, ROW))
    for number in threads:
        with fastein.config(num_threads=number, jit="always"):
            fastein.einsum(*positional, out=out)
    for turn in range(rounds + 1):
        for which in np.roll(np.arange(len(threads)), turn):
            with fastein.config(num_threads=threads[which]):
                for call in range(ROW):
                    wait()
                    start = perf_counter()
                    fastein.einsum(*positional, out=out)
                    seconds[which, turn, call] = perf_counter() - start
    return seconds[:, 1:]


def waited():
    """Seconds for which, since the system began, some thread has waited for a CPU."""
    try:
        with open(PRESSURE) as pressure:
            return float(pressure.readline().rpartition("=")[2]) / 1e6
    except OSError:
        return 0.0


def quiet_times(case, between, threads, rounds):
    """Return `times` while nobody waits for a CPU, if that can be had; and how much did."""
    for _ in range(ATTEMPTS):
        begin, waiting = perf_counter(), waited()
        seconds = times(case, between, threads, rounds)
        share = (waited() - waiting) / (perf_counter() - begin)
        if share <= MOST_WAITING:
            break
    return seconds, share


def figure(seconds, share):
    """The median over rounds of what so large a share of a row's calls takes at most."""
    return float(np.median(np.quantile(seconds, share, axis=-1)))


def excess(seconds, share):
    """For every row but the first of a round how much longer it took, at the median of rounds."""
    taken = np.quantile(seconds, share, axis=-1)
    return np.median(taken[1:] - taken[0], axis=-1)


class Latency:
    """A call that others may help with, between other work."""

    params = (CASES[:10:2], ["work 0.2", "work 2", "sleep 2"], [1, 2])
    param_names = ("case", "between", "threads")
    unit = "s"

    def track_median(self, case, between, threads):
        return figure(times(case, between, [threads]), 0.5)

    def track_ninth_tenth(self, case, between, threads):
        return figure(times(case, between, [threads]), 0.9)


def report(cases, between, most):
    threads = [1, most, 1]
    missed = np.zeros(2, int)  # by all threads, and by one beside itself
    columns = "   ".join(f"{name}: 1, {most}, more, 1 more" for name in ("median", "ninth tenth"))
    print(f"{'case':>24} {'between':>10} {'first':>17}    {columns}   waiting")
    for case, kind in product(cases, between):
        seconds, waiting = quiet_times(case, kind, threads, ROUNDS)
        first = np.array([excess(seconds, share) for share in SHARES])
        repeated = (first > EXTRA).any()
        if repeated:
            again, waiting = quiet_times(case, kind, threads, 2 * ROUNDS)
            seconds = np.concatenate([seconds, again], axis=1)
        seen = " ".join(f"{more * 1e6:+.0f}/{own * 1e6:+.0f}" for more, own in first)
        line = f"{case:>24} {kind:>10} {seen if repeated else '':>17}"
        for share in SHARES:
            one, all_of_them, _ = [figure(taken, share) for taken in seconds]
            more = excess(seconds, share)
            missed += more > EXTRA
            line += f"  {one * 1e6:7.0f} {all_of_them * 1e6:7.0f}"
            line += "".join(f" {x * 1e6:+7.0f}{'*' if x > EXTRA else ' '}" for x in more)
        print(f"{line} {waiting:7.0%}", flush=True)
    print(
        f"{missed[0]} of {len(SHARES) * len(cases) * len(between)} more than {EXTRA * 1e6:.0f} us "
        f"behind; one thread is behind itself in {missed[1]}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--between", nargs="+", default=BETWEEN)
    parser.add_argument("--threads", type=int, default=fastein.get_num_threads())
    options = parser.parse_args()
    report(options.cases, options.between, options.threads)
