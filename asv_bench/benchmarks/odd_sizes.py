"""What sizes and places that do not suit lines and vectors cost, and what shorter vectors do.

Each case has sizes that suit and sizes that do not; operands and results of the latter begin an
element behind where a line does. What is compared are bytes a second, in turns within one run.

In the folder `asv_bench`, ``python -m benchmarks.odd_sizes`` prints a table, with the rate of AVX2
in place of AVX-512 (a process of its own, in turns with this one), both for the sizes that suit and
for those that do not::

    python -m benchmarks.odd_sizes --families permutations --threads 2 --below 0.8
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from time import perf_counter

import numpy as np

import fastein

from .peak import numbers

SQUARES = {
    "f8": ("4096 4096", "4097 4095"),
    "f4": ("4096 4096", "4095 4097"),
    "i2": ("6400 6400", "6401 6399"),
    "i1": ("8192 8192", "8191 8193"),
    "c16": ("2560 2560", "2561 2559"),
}
MATRICES = {
    "f8": ("4000 4000", "4001 3999"),
    "f4": ("5600 5600", "5601 5599"),
    "f2": ("6400 6400", "6401 6399"),
    "i2": ("6400 6400", "6401 6399"),
    "i1": ("8000 8000", "8001 7999"),
    "c16": ("2560 2560", "2561 2559"),
}
DTYPES = ("f8", "f4", "f2", "i2", "i1", "c16")
BATCHES = dict.fromkeys(DTYPES, ("200000 3 3 3", "200001 3 3 3"))
FAMILIES = {
    "permutations": {
        "ij->ji": SQUARES,
        "ijk->kji": {"f8": ("300 300 300", "301 301 301")},
        "abcd->cadb": {"f4": ("64 48 56 60", "63 47 57 61")},
    },
    "sums": {
        "ij->i": MATRICES,
        "ij->j": MATRICES,
        "ij->": MATRICES,
        "i,i->": {"f8": ("16000000", "16000001"), "f4": ("16000000", "16000001")},
    },
    "vectors": {"ij,j->i": MATRICES, "ij,i->j": MATRICES},
    "maps": {
        "ij,ij->ij": MATRICES,
        "i,j->ij": MATRICES,
    },
    "diagonals": {
        "iij->j": {"f8": ("600 40", "601 39")},
        "ij,ji->i": {"f8": ("4000 4000", "4001 3999")},
        "ij,ji->ij": {"f8": ("3000 3000", "3001 3001")},
    },
    "batch": {
        "bij,bjk->bik": BATCHES,
        "ijb,jkb->ikb": {"f8": ("3 3 200000 3", "3 3 200001 3")},
        "bij,bj->bi": dict.fromkeys(
            ("f8", "f4", "f2", "i2", "i1", "c16"), ("500000 3 3", "500001 3 3")
        ),
        "bi,bij,bj->b": {
            "f8": ("300000 3 3", "300001 3 3"),
            "i1": ("300000 3 3", "300001 3 3"),
        },
    },
}
CASES = [
    (family, equation, dtype)
    for family, equations in FAMILIES.items()
    for equation, dtypes in equations.items()
    for dtype in dtypes
]
SECONDS = 0.05  # for each side of a case at a time
ROUNDS = 4


def _placed(values, shift):
    """Return the values where a line begins, or so many elements behind."""
    memory = np.empty(values.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + shift * values.itemsize
    array = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    array[...] = values
    return array


@dataclass(frozen=True, slots=True)
class Call:
    """A call with all its arrays."""

    equation: str
    operands: list
    out: np.ndarray
    nbytes: int

    def __call__(self):
        fastein.einsum(self.equation, *self.operands, out=self.out)

    def seconds(self, limit):
        """The best time of some calls."""
        best, end = np.inf, perf_counter() + limit
        while (start := perf_counter()) < end:
            self()
            best = min(best, perf_counter() - start)
        return best


def call(case, odd):
    """Return the call of a case: the sizes are those of the labels as they first appear."""
    family, equation, dtype = case
    sizes = map(int, FAMILIES[family][equation][dtype][odd].split())
    *terms, output = equation.replace("->", ",").split(",")
    labels = dict.fromkeys("".join(terms))
    size = dict(zip(labels, sizes, strict=True))
    shapes = [[size[label] for label in term] for term in (*terms, output)]
    arrays = [_placed(numbers(dtype, shape), int(odd)) for shape in shapes]
    used = sum(prod(size[label] for label in set(term)) for term in (*terms, output))
    made = Call(equation, arrays[:-1], arrays[-1], used * arrays[-1].itemsize)
    with fastein.config(jit="always"):
        made()
    return made


def rates(case, rounds=ROUNDS):
    """Bytes a second of the sizes that suit and of those that do not."""
    calls = call(case, False), call(case, True)
    best = [np.inf, np.inf]
    for _ in range(rounds):
        best = [
            min(seconds, made.seconds(SECONDS)) for seconds, made in zip(best, calls, strict=True)
        ]
    return [made.nbytes / seconds for seconds, made in zip(best, calls, strict=True)]


class OddSizes:
    params = (CASES,)
    param_names = ("case",)
    timeout = 120

    def track_share_of_the_sizes_that_suit(self, case):
        suiting, odd = rates(case)
        return odd / suiting


class Process:
    """Another process, which measures when it is asked to."""

    def __init__(self, isa, threads):
        environment = {**os.environ, "FASTEIN_NUM_THREADS": str(threads)}
        if isa:
            environment["FASTEIN_ISA"] = isa
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def rates(self, case):
        """What `rates` returns there, after one round."""
        print(CASES.index(case), file=self._process.stdin, flush=True)
        return [float(rate) for rate in self._process.stdout.readline().split()]

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def serve():
    """Measure what the numbers of cases on the standard input ask for."""
    for line in sys.stdin:
        print(*rates(CASES[int(line)], 1), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=tuple(FAMILIES))
    parser.add_argument("--dtypes", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--below", type=float, default=np.inf, help="only cases below this share")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve()
        return
    processes = Process("", chosen.threads), Process("avx2", chosen.threads)
    print(f"{'case':24}      GB/s   odd   AVX2  AVX2 odd   (of the column before; of AVX-512)")
    for case in CASES:
        family, equation, dtype = case
        if family not in chosen.families or (chosen.dtypes and dtype not in chosen.dtypes):
            continue
        seen = np.max(
            [[process.rates(case) for process in processes] for _ in range(ROUNDS)], axis=0
        )
        (suiting, odd), (narrow, narrow_odd) = seen
        shares = odd / suiting, narrow / suiting, narrow_odd / odd
        if min(shares) < chosen.below:
            row = "".join(f"{share:7.2f}" for share in shares)
            print(f"{equation:16} {dtype:4}{suiting / 1e9:13.1f}{row}", flush=True)
    for process in processes:
        process.close()


if __name__ == "__main__":
    main()
