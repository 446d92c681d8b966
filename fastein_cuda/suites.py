"""The equations that the benchmark times, with their shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from fastein.testing.corpus import groups

TCCG = Path(__file__).parent.parent / "asv_bench" / "benchmarks" / "tccg.txt"
LETTERS_OF_ALL = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,->")


@dataclass(frozen=True, slots=True)
class Timed:
    """One line of the benchmark's table.

    Attributes
    ----------
    suite : str
    equation : str
        In labels that every library takes.
    shapes : tuple of tuple of int
    dtype : str
    tf32 : bool or '3x'
        What fastein alone may do with float32, see `fastein.config`.
    """

    suite: str
    equation: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    tf32: bool | str = False

    @property
    def precision(self) -> str:
        """The dtype, and what fastein may do with it."""
        return f"{self.dtype}, tf32={self.tf32}" if self.tf32 else self.dtype

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every label."""
        terms = self.equation.split("->")[0].split(",")
        return {
            label: size
            for term, shape in zip(terms, self.shapes, strict=True)
            for label, size in zip(term, shape, strict=True)
        }

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple([self.sizes[label] for label in self.equation.split("->")[1]])

    @property
    def is_view(self) -> bool:
        """Whether a library may answer with a view: such a result is written into an array."""
        first, *others = self.equation.split("->")[0].split(",")
        return not others and set(first) == set(self.equation.split("->")[1])

    @property
    def flops(self) -> int:
        """Operations of a single nest; of chains, which no nest computes well, 0."""
        if self.suite == "chain":
            return 0
        complexity = 4 if self.dtype.startswith("complex") else 1
        return 2 * complexity * math.prod(self.sizes.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the result and of what is read of the operands: of ``ii`` the diagonal."""
        itemsize = {"complex128": 16, "complex64": 8, "float64": 8, "float32": 4, "int32": 4}
        terms = self.equation.split("->")[0].split(",")
        read = [math.prod([self.sizes[label] for label in set(term)]) for term in terms]
        elements = sum(read) + math.prod(self.output)
        return elements * itemsize.get(self.dtype, 2)


def _case(suite: str, equation: str, dtype: str, **sizes: int) -> Timed:
    terms = equation.split("->")[0].split(",")
    return Timed(suite, equation, tuple([tuple([sizes[x] for x in t]) for t in terms]), dtype)


def gemm() -> list[Timed]:
    """Products of square matrices: the peak of each dtype."""
    large = [("float64", 8192), ("float32", 8192), ("float16", 8192), ("bfloat16", 8192),
             ("complex128", 4096)]  # fmt: skip
    small = [("float64", 1024), ("float32", 1024), ("float16", 1024), ("complex64", 4096)]
    found = [_case("gemm", "ij,jk->ik", dtype, i=n, j=n, k=n) for dtype, n in (*large, *small)]
    return [*found, *[replace(found[1], tf32=how) for how in ("3x", True)]]


def memory() -> list[Timed]:
    """Nests whose limit is the memory's bandwidth; permutations fill an array that is there."""
    n = 16384
    cases = [
        _case("memory", "ij->ji", dtype, i=n, j=n) for dtype in ("float64", "float32", "float16")
    ]
    cases += [
        _case("memory", equation, "float32", i=n, j=n)
        for equation in ("ij,ij->ij", "ij,ij->", "ij->", "ij->i", "ij->j", "ij,j->i", "ij,i->j")
    ]
    cases += [
        _case("memory", "ij,ji->ij", "float32", i=n, j=n),
        _case("memory", "i,j->ij", "float32", i=n, j=n),
        _case("memory", "ijk->kij", "float32", i=512, j=512, k=512),
        _case("memory", "abcdef->fbdaec", "float64", a=16, b=24, c=20, d=16, e=24, f=20),
        _case("memory", "ij,ij,ij->", "float64", i=8192, j=8192),
    ]
    return cases


def batch() -> list[Timed]:
    """Stacks of small products."""
    sizes = [(3, 4_000_000), (6, 1_000_000), (16, 200_000), (64, 8_000)]
    return [
        _case("batch", "bij,bjk->bik", dtype, b=count, i=n, j=n, k=n)
        for n, count in sizes
        for dtype in ("float64", "float32")
    ]


def chain() -> list[Timed]:
    """More than two operands, or labels of one operand alone: products step by step."""
    return [
        _case("chain", "ij,jk,kl->il", "float64", i=2048, j=2048, k=2048, l=2048),
        _case("chain", "ij,jk,kl,lm->im", "float32", i=1024, j=4096, k=512, l=2048, m=1024),
        _case("chain", "pqrs,pi,qj,rk,sl->ijkl", "float64", **dict.fromkeys("pqrsijkl", 48)),
        _case("chain", "ibm,kmn,bjn->ikj", "float64", i=64, b=64, m=64, k=64, n=64, j=64),
        *[
            _case("chain", "ij,jk,kl->il", dtype, i=4096, j=4096, k=4096, l=4096)
            for dtype in ("float16", "bfloat16")
        ],
        _case("chain", "ij,jk,kl,lm->im", "float16", i=4096, j=512, k=256, l=512, m=4096),
        *[
            _case("chain", "ijx,jk->ik", dtype, i=4096, j=4096, x=3, k=4096)
            for dtype in ("float16", "bfloat16")
        ],
    ]


def tccg() -> list[Timed]:
    """The contractions of TCCG v0.1; none where the repository is not at hand."""
    if not TCCG.exists():
        return []
    cases = []
    for line in TCCG.read_text().splitlines():
        if line and not line.startswith("#"):
            equation, *sizes = line.split()
            extents = {label: int(size) for label, size in (pair.split("=") for pair in sizes)}
            cases.append(_case("tccg", equation, "float64", **extents))
    return cases


def tutorial() -> list[Timed]:
    """The corpus in its sources' sizes, as far as all libraries take it."""
    cases = []
    for group, members in groups().items():
        for case in members:
            explicit = "->" in case.equation and set(case.equation) <= LETTERS_OF_ALL
            terms = case.equation.split("->")[0].split(",")
            plain = explicit and all(
                len(t) == len(s) for t, s in zip(terms, case.shapes, strict=False)
            )
            elements = sum(map(math.prod, case.shapes))
            if plain and case.reference == "numpy" and 1000 < elements < 2**27:
                cases.append(Timed(group, case.equation, case.shapes, case.dtype))
    return cases


SUITES = {
    "gemm": gemm,
    "memory": memory,
    "tccg": tccg,
    "batch": batch,
    "chain": chain,
    "tutorial": tutorial,
}


def smaller(case: Timed, iterations: int = 20_000) -> Timed:
    """Return a case with every size cut down: to try the benchmark itself."""
    most = max(2, int(iterations ** (1 / len(case.sizes))))
    shapes = tuple([tuple([min(n, most) for n in shape]) for shape in case.shapes])
    return replace(case, shapes=shapes)
