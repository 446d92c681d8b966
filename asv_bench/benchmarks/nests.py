"""Nests that run at the speed of memory, by family.

Bytes a second of all operands, each element counted once, and the same as a share of what NumPy's
``copyto`` moves in the same run on as many threads as it has, one. A share above 1 is faster than
that: reading is cheaper than writing, streaming stores do not read what they write, and there may
be several threads.

In the folder `asv_bench`, ``python -m benchmarks.nests`` prints a table.
"""

import argparse
from math import prod

import numpy as np

import fastein

from .peak import best_seconds, numbers

FAMILIES = {
    "sums": {
        "ij->j": "i=4000 j=4000",
        "ij->i": "i=4000 j=4000",
        "ij->": "i=4000 j=4000",
        "ijk->j": "i=300 j=300 k=300",
        "abcd,abcd->ad": "a=64 b=64 c=64 d=64",
        "i,i->": "i=20000000",
    },
    "vectors": {
        "ij,j->i": "i=6000 j=6000",
        "ij,i->j": "i=6000 j=6000",
        "bij,bj->bi": "b=500 i=200 j=200",
        "bij,bi->bj": "b=500 i=200 j=200",
    },
    "maps": {
        "ij,ij->ij": "i=4000 j=4000",
        "i,j->ij": "i=5000 j=5000",
        "i,j,k->ijk": "i=256 j=256 k=256",
    },
    "fused": {
        "ij,ij,j->i": "i=4000 j=4000",
        "ij,i,j->ij": "i=4000 j=4000",
        "xyz,xyz,z->xy": "x=200 y=200 z=200",
        "bi,bij,bj->b": "b=300000 i=3 j=3",
        "eij,ejk,ekl->eil": "e=50000 i=3 j=3 k=3 l=3",
    },
    "crossed": {
        "ij,ji->i": "i=4000 j=4000",
        "ijk,kji->": "i=250 j=250 k=250",
        "ij,ji->ij": "i=3000 j=3000",
    },
    "batch": {
        "bij,bjk->bik": "b=200000 i=3 j=3 k=3",
        "ijb,jkb->ikb": "b=200000 i=3 j=3 k=3",
        "bij,bj->bi": "b=500000 i=3 j=3",
        "bi,bj->bij": "b=200000 i=6 j=6",
    },
}
DTYPES = ("float64", "float32", "complex64", "int32", "float16", "int8", "bool")
COPIED = 24_000_000  # bytes


def copy_rate():
    """Bytes a second that a copy reads and writes."""
    source = np.ones(COPIED, np.uint8)
    target = np.empty_like(source)
    return 2 * COPIED / best_seconds(lambda: np.copyto(target, source))


def _sizes(text):
    return {label: int(size) for label, size in (part.split("=") for part in text.split())}


class Nest:
    """An equation at its sizes."""

    def __init__(self, equation, sizes, dtype):
        sizes = _sizes(sizes)
        *terms, output = equation.replace("->", ",").split(",")
        shapes = [[sizes[label] for label in term] for term in (*terms, output)]
        self.arguments = equation, *[numbers(dtype, shape) for shape in shapes[:-1]]
        self.nbytes = np.dtype(dtype).itemsize * sum(map(prod, shapes))

    def rate(self):
        with fastein.config(jit="always"):
            return self.nbytes / best_seconds(lambda: fastein.einsum(*self.arguments))


class Rates:
    params = ([f"{name} {eq}" for name, family in FAMILIES.items() for eq in family], list(DTYPES))
    param_names = ("nest", "dtype")
    timeout = 120

    def setup(self, nest, dtype):
        family, equation = nest.split()
        self.nest = Nest(equation, FAMILIES[family][equation], dtype)

    def track_rate(self, nest, dtype):
        return self.nest.rate() / 1e9

    track_rate.unit = "GB/s"

    def track_share_of_a_copy(self, nest, dtype):
        return self.nest.rate() / copy_rate()

    track_share_of_a_copy.unit = "of a copy's rate"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=tuple(FAMILIES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES[:1])
    chosen = parser.parse_args()
    copied = copy_rate()
    print(f"copy: {copied / 1e9:.1f} GB/s")
    for name in chosen.families:
        for equation, sizes in FAMILIES[name].items():
            rates = [Nest(equation, sizes, dtype).rate() for dtype in chosen.dtypes]
            row = "".join(f"{rate / 1e9:8.1f} {rate / copied:5.2f}" for rate in rates)
            print(f"{name:10}{equation:20}{row}")


if __name__ == "__main__":
    main()
