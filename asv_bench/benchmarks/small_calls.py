"""Calls below 10,000 elements: fastein's time over NumPy's, on the tier that is there at once.

`fastein.config(jit='never')` keeps to the loops that were compiled ahead of time. Whoever calls
often enough gets a generated kernel, which is faster; what is measured here is the time before.
``--jit always`` measures generated kernels, once a first call has brought each of them.

In the folder `asv_bench`, ``python -m benchmarks.small_calls`` prints the whole table::

    python -m benchmarks.small_calls --dtypes i4 i8 --groups products stacks --behind 20

and with ``--random 2000`` calls that nobody has listed: equations of the corpus as well, every
dtype, every axis of a size of its own.
"""

import argparse
from dataclasses import dataclass
from itertools import product
from math import exp, log, prod
from random import Random
from time import perf_counter

import numpy as np

import fastein
from fastein.testing.corpus import CORPUS

from .rivals import RIVALS

GROUPS = {
    "sums": "i-> ij-> ij->i ij->j ijk-> ijk->ij ijk->ik ijk->jk ii-> iij->j",
    "dots": "i,i-> ij,ij-> ij,ji-> ij,ij->i ij,ij->j ij,ji->i bij,bij->b",
    "vectors": "ij,j->i ij,i->j bij,bj->bi bij,bi->bj",
    "products": "ij,jk->ik ij,kj->ik ji,jk->ik",
    "stacks": "bij,bjk->bik abc,acd->abd ...ij,...jk->...ik ijb,jkb->ikb bi,bj->bij",
    "elementwise": "ij,ij->ij ij,j->ij i,j->ij i,j,k->ijk ij,i,j->ij",
    "copies": "ij->ji ijk->kji",
    "many": "i,i,i-> ij,ij,ij-> ij,i,j-> ij,ij,j->i bi,bij,bj->b ij,jk,kl->il ijk,jm,km->im"
    " eij,ejk,ekl->eil",
}
VIEWS = GROUPS["copies"].split()  # einsum returns a view, unless it is given an array to fill
DTYPES = ("f4", "f8", "c16", "i8", "i4", "i1", "?", "f2")
ANY_DTYPE = "?bhilBHILefdgFDG"
LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
}
ELEMENTS = (100, 1000, 8000)

SECONDS = 0.012  # for each einsum of a case
BATCH_SECONDS = 0.0003  # calls between two looks at the clock


@dataclass(frozen=True, slots=True)
class Case:
    """A call: the sizes are those of the labels, in the order of the alphabet."""

    equation: str
    dtype: str
    layout: str
    sizes: tuple

    def arguments(self):
        """Operands, and the keywords of the call."""
        rng = np.random.default_rng(0)
        size = dict(zip(_labels(self.equation), self.sizes, strict=True))
        shapes = [tuple(size[label] for label in term) for term in _terms(self.equation)]
        arrays = [rng.integers(0, 3, shape).astype(self.dtype) for shape in shapes]
        operands = [LAYOUTS[self.layout](array) for array in arrays]
        if self.equation not in VIEWS:
            return operands, {}
        shape = [size[label] for label in self.equation.split("->")[1]]
        return operands, {"out": np.empty(shape, self.dtype)}


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one call, the best that was seen."""

    fastein: float
    numpy: float

    @property
    def ratio(self):
        return self.fastein / self.numpy


def _terms(equation):
    return equation.split("->")[0].replace("...", "z").split(",")


def _labels(equation):
    return sorted(set("".join(_terms(equation))))


def cases(groups=tuple(GROUPS), dtypes=DTYPES, layouts=tuple(LAYOUTS)):
    """All calls of the sweep, by group."""
    for group, layout, dtype in product(groups, layouts, dtypes):
        for equation, elements in product(GROUPS[group].split(), ELEMENTS):
            rank = max(map(len, [*_terms(equation), equation.split("->")[1]]))
            if rank > 1 or layout != "F":  # a vector has one order
                size = max(2, round(elements ** (1 / rank)))
                yield group, Case(equation, dtype, layout, (size,) * len(_labels(equation)))


def random_cases(count, seed=0):
    """Calls nobody has listed: operands below 10,000 elements, at most a million steps."""
    rng = Random(seed)
    known = [(group, equation) for group in GROUPS for equation in GROUPS[group].split()]
    known += [("corpus", case.equation) for case in CORPUS if _is_plain(case.equation)]
    while count:
        group, equation = rng.choice(known)
        size = {label: int(2 ** rng.uniform(0, 9)) for label in _labels(equation)}
        largest = max(prod(size[label] for label in term) for term in _terms(equation))
        if largest < 10_000 and prod(size.values()) < 1_000_000:
            dtype, layout = rng.choice(ANY_DTYPE), rng.choice(tuple(LAYOUTS))
            yield group, Case(equation, dtype, layout, tuple(size.values()))
            count -= 1


def _is_plain(equation):
    terms, arrow, output = equation.partition("->")
    return arrow and (terms.replace(",", "") + output).isalpha() and len(output) == len(set(output))


def measure(case):
    """Time both in turns, in batches: each meets the same moments of the machine."""
    operands, keywords = case.arguments()
    names = ("fastein", "numpy")
    calls = {name: _batch(RIVALS[name], case.equation, operands, keywords) for name in names}
    best = dict.fromkeys(names, float("inf"))
    end = perf_counter() + SECONDS * len(names)
    while perf_counter() < end:
        for name, (call, count) in calls.items():
            best[name] = min(best[name], call(count) / count)
    return Times(**best)


def _batch(einsum, equation, operands, keywords):
    """A function that times a number of calls, and the number for a batch."""

    def seconds(count):
        start = perf_counter()
        for _ in range(count):
            einsum(equation, *operands, **keywords)
        return perf_counter() - start

    seconds(2)
    return seconds, max(1, int(BATCH_SECONDS / seconds(1)))


def sweep(chosen, jit="never"):
    """Measure cases (those of `cases`), by default on the tier that is there at once."""
    with fastein.config(jit=jit, num_threads=1):
        return [(group, case, measure(case)) for group, case in chosen]


def geometric_mean(ratios):
    return exp(sum(map(log, ratios)) / len(ratios))


class Ratios:
    """fastein's time over NumPy's; below 1 fastein is ahead."""

    params = (list(GROUPS), list(DTYPES), list(LAYOUTS))
    param_names = ("group", "dtype", "layout")
    unit = "of NumPy's time"

    def setup_cache(self):
        ratios = {}
        for group, case, times in sweep(cases()):
            ratios.setdefault((group, case.dtype, case.layout), []).append(times.ratio)
        return ratios

    setup_cache.timeout = 900

    def track_worst(self, ratios, group, dtype, layout):
        return max(ratios[group, dtype, layout])

    def track_mean(self, ratios, group, dtype, layout):
        return geometric_mean(ratios[group, dtype, layout])


def _line(label, rows):
    ratios = [times.ratio for _, _, times in rows]
    behind = sum(ratio > 1 for ratio in ratios)
    return f"{label:12} {len(rows):5} {behind:7} {geometric_mean(ratios):6.2f} {max(ratios):6.2f}"


def report(rows, most):
    """Print a line per group and per dtype, then the cases that are furthest behind."""
    print(f"{'':12} {'cases':>5} {'behind':>7} {'mean':>6} {'worst':>6}")
    for group in dict.fromkeys(row[0] for row in rows):
        print(_line(group, [row for row in rows if row[0] == group]))
    for dtype in dict.fromkeys(row[1].dtype for row in rows):
        print(_line(dtype, [row for row in rows if row[1].dtype == dtype]))
    print(_line("all", rows))
    names = ("ratio", "equation", "dtype", "layout", "us", "NumPy", "sizes")
    print("\n{:>5}  {:18} {:5} {:7} {:>8} {:>8}  {}".format(*names))
    for _, case, times in sorted(rows, key=lambda row: -row[2].ratio)[:most]:
        print(
            f"{times.ratio:5.2f}  {case.equation:18} {case.dtype:5} {case.layout:7} "
            f"{times.fastein * 1e6:8.2f} {times.numpy * 1e6:8.2f}  {','.join(map(str, case.sizes))}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=tuple(GROUPS))
    parser.add_argument("--dtypes", nargs="+", default=DTYPES)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=tuple(LAYOUTS))
    parser.add_argument("--random", type=int, metavar="COUNT", help="so many random calls instead")
    parser.add_argument("--seed", type=int, default=0, help="of the random calls")
    parser.add_argument("--jit", choices=("never", "tiered", "always"), default="never")
    parser.add_argument("--behind", type=int, help="rows to print; default: all that are behind")
    chosen = parser.parse_args()
    if chosen.random:
        calls = random_cases(chosen.random, chosen.seed)
    else:
        calls = cases(chosen.groups, chosen.dtypes, chosen.layouts)
    rows = sweep(calls, chosen.jit)
    behind = sum(times.ratio > 1 for _, _, times in rows)
    report(rows, behind if chosen.behind is None else chosen.behind)


if __name__ == "__main__":
    main()
