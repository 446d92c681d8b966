"""Products of matrices and tensors, large enough for the contraction engine.

Times, and shares of the arithmetic peak: the best rate of NumPy's matmul on 1024 x 1024 matrices of
the same dtype, measured in the same run (of float32 for float16, which NumPy multiplies in a loop).
A share above 1 is faster than that. For integers, which BLAS does not know, a share would say
nothing; they are compared with NumPy's matmul on the same operands.

In the folder `asv_bench`, ``python -m benchmarks.contraction`` prints a table of squares.
"""

import argparse
from math import prod
from pathlib import Path

import numpy as np

import fastein

from .peak import best_seconds, flops, numbers, peak
from .rivals import RIVALS

SQUARE = "ij,jk->ik"
SIZES = (16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048)
FLOATS = ("float32", "float64", "complex64", "complex128", "float16")
INTEGERS = ("int8", "int16", "int32", "int64", "bool")
EINSUMS = ["fastein", "numpy optimize=True"]
HALF_EMPTY = (68, 76, 84, 92, 100)  # the last columns fill half a tile
# With prime extents: no line of the result belongs to one tile alone.
ODD = {
    "aebd,ce->dcba": "a=97 b=83 c=23 d=97 e=97",
    "afbce,df->edcba": "a=47 b=37 c=37 d=23 e=47 f=47",
    "cadg,bgfe->fedcba": "a=23 b=19 c=19 d=19 e=23 f=19 g=23",
}

ATTENTION = {
    "bhqd,bhkd->bhqk": "b=32 h=8 q=64 k=64 d=64",
    "bhqk,bhkd->bhqd": "b=32 h=8 q=64 k=64 d=64",
    "BTKGH,BSKH->BKGTS": "B=2 T=512 K=1 G=8 H=256 S=512",
    "BKGTS,BSKH->BTKGH": "B=2 T=512 K=1 G=8 H=256 S=512",
    "bqhd,bkhd->bhqk": "b=4 q=128 k=128 h=16 d=64",
    "bijc,bikc->bijk": "b=8 i=8 j=197 k=197 c=64",
    "BSD,NKDH->NBSKH": "B=2 S=512 D=2048 N=3 K=1 H=256",
}


# rows, columns and steps, and how many matrices
BATCHES = ("16 x 4000", "64 x 200", "256 x 8", "200 x 3")


def _tccg():
    """Equations and their sizes, as in ATTENTION."""
    lines = Path(__file__).with_name("tccg.txt").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))


TCCG = _tccg()


def _sizes(text):
    return {label: int(size) for label, size in (part.split("=") for part in text.split())}


class _Contraction:
    """A product of two operands by one of the rivals; subclasses say which."""

    timeout = 120

    def prepare(self, equation, sizes, dtype, einsum):
        shapes = [[sizes[label] for label in term] for term in equation.split("->")[0].split(",")]
        self.arguments = equation, *[numbers(dtype, shape) for shape in shapes]
        self.flops = flops(dtype, prod(sizes.values()))
        self.dtype, self.einsum = dtype, RIVALS[einsum]
        if einsum == "fastein":
            with fastein.config(jit="always"):  # the kernels, which calls would earn in time
                fastein.einsum(*self.arguments)
        self.call()

    def call(self):
        self.einsum(*self.arguments)

    def time_call(self, *parameters):
        self.call()


class _Share(_Contraction):
    """One whose dtype has an arithmetic peak."""

    unit = "of the peak"

    def setup_cache(self):
        return {dtype: peak(dtype) for dtype in FLOATS}

    setup_cache.timeout = 300

    def track_share(self, peaks, *parameters):
        return self.flops / best_seconds(self.call) / peaks[self.dtype]


class Squares(_Share):
    """Square matrices."""

    params = (list(SIZES), ["float32", "float64"], EINSUMS)
    param_names = ("size", "dtype", "einsum")

    def setup(self, peaks, size, dtype, einsum):
        self.prepare(SQUARE, dict.fromkeys("ijk", size), dtype, einsum)


class Gram:
    """An operand and itself, of which half need be computed; above 1 fastein is ahead of NumPy."""

    params = ([256, 512, 1024, 2048], ["float32", "float64"])
    param_names = ("size", "dtype")
    unit = "of NumPy's rate"
    timeout = 120

    def setup(self, size, dtype):
        self.operand = numbers(dtype, (size, size))
        with fastein.config(jit="always"):
            self.call()

    def call(self):
        fastein.einsum("ik,jk->ij", self.operand, self.operand)

    def track_rate(self, size, dtype):
        a = self.operand
        return best_seconds(lambda: np.matmul(a, a.T)) / best_seconds(self.call)


class LongSums:
    """Products of a few long vectors with each other; above 1 fastein is ahead of NumPy."""

    params = ([8, 16, 32, 64, 128], ["float32", "float64"], ["ki,kj->ij", "ik,jk->ij"])
    param_names = ("vectors", "dtype", "equation")
    unit = "of NumPy's rate"
    timeout = 120

    def setup(self, vectors, dtype, equation):
        steps = (1 << 22) // vectors
        shape = (steps, vectors) if equation.startswith("k") else (vectors, steps)
        self.arguments = equation, numbers(dtype, shape), numbers(dtype, shape)
        with fastein.config(jit="always"):
            self.call()

    def call(self):
        fastein.einsum(*self.arguments)

    def track_rate(self, vectors, dtype, equation):
        _, a, b = self.arguments
        left, right = (a.T, b) if equation.startswith("k") else (a, b.T)
        return best_seconds(lambda: np.matmul(left, right)) / best_seconds(self.call)


class Tccg(_Share):
    """Tensors of quantum chemistry, with up to six axes in any order, in float32."""

    params = (list(TCCG), EINSUMS)
    param_names = ("equation", "einsum")

    def setup(self, peaks, equation, einsum):
        self.prepare(equation, _sizes(TCCG[equation]), "float32", einsum)


class HalfEmpty(Squares):
    """Squares whose last columns fill half a register tile."""

    params = (list(HALF_EMPTY), ["float32", "float64"], EINSUMS)


class Odd(_Share):
    """Short sums of prime extents, whose results are written by lines that tiles fill together."""

    params = (list(ODD), EINSUMS)
    param_names = ("equation", "einsum")

    def setup(self, peaks, equation, einsum):
        self.prepare(equation, _sizes(ODD[equation]), "float32", einsum)


class Attention(_Share):
    """Logits, weighted sums and projections, in float32."""

    params = (list(ATTENTION), EINSUMS)
    param_names = ("equation", "einsum")

    def setup(self, peaks, equation, einsum):
        self.prepare(equation, _sizes(ATTENTION[equation]), "float32", einsum)


class InnermostBatch(_Share):
    """Stacks of matrices whose elements interleave."""

    params = (BATCHES, ["float32", "float64"], EINSUMS)
    param_names = ("matrices", "dtype", "einsum")

    def setup(self, peaks, matrices, dtype, einsum):
        size, count = map(int, matrices.split(" x "))
        sizes = {"b": count, **dict.fromkeys("ijk", size)}
        self.prepare("ijb,jkb->ikb", sizes, dtype, einsum)


class Dtypes(_Share):
    """The other floats that have an arithmetic peak."""

    params = (["float16", "complex64", "complex128"],)
    param_names = ("dtype",)

    def setup(self, peaks, dtype):
        self.prepare(SQUARE, dict.fromkeys("ijk", 512), dtype, "fastein")


class Integers(_Contraction):
    """What BLAS does not multiply: fastein's time over NumPy's; below 1 fastein is ahead."""

    params = (list(INTEGERS),)
    param_names = ("dtype",)
    unit = "of NumPy's time"

    def setup(self, dtype):
        self.prepare(SQUARE, dict.fromkeys("ijk", 512), dtype, "fastein")

    def track_ratio(self, dtype):
        _, a, b = self.arguments
        return best_seconds(self.call) / best_seconds(lambda: np.matmul(a, b))


def _rate(dtype, size):
    """Operations a second of fastein on squares."""
    case = _Contraction()
    case.prepare(SQUARE, dict.fromkeys("ijk", size), dtype, "fastein")
    return case.flops / best_seconds(case.call)


def table(sizes, dtypes):
    """Shares of the peak, as a table in reStructuredText.

    The peak is the best of the whole run, measured anew beside every size.
    """
    rates, peaks = {}, dict.fromkeys(dtypes, 0.0)
    for size in sizes:
        for dtype in dtypes:
            rates[size, dtype] = _rate(dtype, size)
            peaks[dtype] = max(peaks[dtype], peak(dtype))
    rows = [
        ("n", *dtypes),
        *[(str(n), *[f"{rates[n, dtype] / peaks[dtype]:.2f}" for dtype in dtypes]) for n in sizes],
        ("GFLOP/s", *[f"{peaks[dtype] / 1e9:.0f}" for dtype in dtypes]),
    ]
    rule = "  ".join(["=" * 10] * (1 + len(dtypes)))
    head, *lines = ["  ".join(f"{cell:<10}" for cell in row).rstrip() for row in rows]
    return "\n".join([rule, head, rule, *lines, rule])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--dtypes", nargs="+", choices=FLOATS, default=FLOATS)
    chosen = parser.parse_args()
    print(table(chosen.sizes, chosen.dtypes))


if __name__ == "__main__":
    main()
