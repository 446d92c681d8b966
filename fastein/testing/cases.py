"""The table behind `fastein.testing.corpus`: equations, their shapes and where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

__all__ = ["Case", "all_cases"]

Shape = tuple[int, ...]
Reference = Literal["numpy", "summed ellipsis", "error"]


@dataclass(frozen=True, slots=True)
class Case:
    """One equation with the shapes of its operands.

    Attributes
    ----------
    equation : str
        The subscripts as their source writes them.
    shapes : tuple of tuple of int
        The source's own sizes, one shape an operand.
    dtype : str
        Element type of every operand.
    group : str
        The part of the corpus: 'basics', 'models', 'attention' or 'science'.
    note : str
        What the equation is for.
    numpy_equation : str
        The same equation in the spelling that NumPy accepts, where it refuses the source's.
    small : tuple of tuple of int
        Shapes for tests, where `shapes` takes NumPy more than a few milliseconds; empty when
        `shapes` is small.
    reference : str
        How the answer is obtained: 'numpy' asks ``numpy.einsum``; 'summed ellipsis' keeps the
        ellipsis in the output of ``numpy.einsum`` and sums its axes afterwards; 'error' means
        that the shapes do not fit and the call raises.
    """

    equation: str
    shapes: tuple[Shape, ...]
    dtype: str = "float64"
    group: str = "basics"
    note: str = ""
    numpy_equation: str = ""
    small: tuple[Shape, ...] = ()
    reference: Reference = "numpy"

    def __str__(self) -> str:
        return " ".join((self.equation, "x".join(map(_shape_text, self.shapes)), self.dtype))


def _shape_text(shape: Shape) -> str:
    return "(" + ",".join(map(str, shape)) + ")"


def _basics() -> Iterator[Case]:
    def case(equation: str, *shapes: Shape, note: str = "", **more: Any) -> Case:
        return Case(equation, shapes, group="basics", note=note, **more)

    matrices = (4, 5), (5, 6)
    yield case("i,i->", (1000,), (1000,), note="dot product")
    yield case("ik,kj->ij", *matrices, note="matrix product")
    yield case("ik,kj", *matrices, note="matrix product, implicit output")
    yield case("ik,kj->ji", *matrices, note="transposed matrix product")
    yield case("ij,jk->ik", *matrices, note="matrix product")
    yield case("bik,bkj->bij", (2, 3, 4), (2, 4, 5), note="batched matrix product")
    yield case("bij,bjk->bik", (10, 3, 4), (10, 4, 5), note="batched matrix product")
    yield case("bhik,bhkj->bhij", (2, 3, 4, 5), (2, 3, 5, 6), note="matrix product, two batch axes")
    yield case("bmn,bnk->bmk", (3, 4, 5), (3, 5, 6), note="batched matrix product")
    yield case("i,j->ij", (4,), (5,), note="outer product")
    yield case("bi,bj->bij", (3, 4), (3, 5), note="batched outer product")
    yield case("m,d->md", (16,), (8,), note="positions times frequencies")
    yield case("bid,bjd->bij", (3, 4, 8), (3, 5, 8), note="pairwise similarities")
    for output in ("ij", "ik", "jk", ""):
        yield case(f"ijk->{output}", (3, 4, 5), note="sum of an array")
    for output in ("", "i", "j"):
        yield case(f"ij->{output}", (3, 4), note="sum of a matrix")
    yield case("ij->ji", (3, 4), note="transpose")
    yield case("ijk->ikj", (3, 4, 5), note="swap of the last axes")
    yield case("ii->", (5, 5), note="trace")
    yield case("ii->i", (5, 5), note="diagonal")
    yield case("kk->k", (5, 5), note="diagonal")
    yield case("bii->bi", (3, 4, 4), note="batched diagonal")
    yield case("ij,ij->ij", (3, 4), (3, 4), note="elementwise product")
    yield case("ij,ij->", (3, 4), (3, 4), note="Frobenius inner product")
    yield case("bij,bij->b", (10, 3, 3), (10, 3, 3), note="batched Frobenius inner product")
    yield case("ik,k->i", (4, 5), (5,), note="matrix times vector")
    yield case("ik,kj->j", *matrices, note="column sums of a matrix product")
    yield case("ik,kl->il", *matrices, note="matrix product")
    yield case("ijk,kl->ijl", (2, 3, 4), (4, 5), note="linear layer on the last axis")
    yield case("ijk,k->ij", (2, 3, 4), (4,), note="tensor times vector")
    yield case("ijk,ij->ik", (2, 3, 4), (2, 3), note="weighted sum over the middle axis")
    yield case("ijk,ikl->ijl", (3, 2, 5), (3, 5, 3), note="batched matrix product")
    yield case("pqrs,tuqvr->pstuv", (2, 3, 5, 7), (11, 13, 3, 17, 5), note="tensor contraction")
    yield case("ntk,kq->ntq", (3, 4, 5), (5, 6), note="mode product")
    yield case("ntkm,kq->mqn", (3, 4, 5, 2), (5, 6), note="contraction with sums and a permutation")
    yield case("ab,bc,cd->ad", (4, 5), (5, 6), (6, 7), note="chain of three matrices")
    yield case("ij,jk,kl->il", (4, 5), (5, 6), (6, 7), note="chain of three matrices")
    yield case("ik,jkl,il->ij", (2, 3), (5, 3, 7), (2, 7), note="bilinear map")
    yield case("ijk,il,jm,kn->lmn", (3, 4, 5), (3, 2), (4, 3), (5, 2), note="trilinear map")
    yield case(
        "...ij,...jk->...ik",
        (2, 3, 4, 5, 6),
        (2, 3, 6, 7),
        note="batch axes (2,3,4) and (2,3) do not broadcast, although a tutorial says so",
        reference="error",
    )
    yield case(
        "...ij,...jk->...ik",
        (2, 3, 4, 5),
        (3, 5, 2),
        note="broadcast batch axes",
    )
    yield case(
        "...ik,...kj->ji",
        (4, 2, 3),
        (4, 3, 5),
        note="the batch is summed, as in torch",
        numpy_equation="...ik,...kj->...ji",
        reference="summed ellipsis",
    )


def _integer_basics() -> Iterator[Case]:
    """Yield what tutorials show on ``arange`` arrays, which are integers."""
    for equation, *shapes in (
        ("ik,kj->ij", (2, 3), (3, 4)),
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij->ji", (2, 3)),
        ("ij->", (2, 3)),
        ("ij->j", (2, 3)),
        ("ii->", (3, 3)),
        ("ii->i", (3, 3)),
        ("i,i->", (3,), (3,)),
        ("i,j->ij", (3,), (4,)),
        ("ij,ij->ij", (2, 3), (2, 3)),
        ("ik,k->i", (2, 3), (3,)),
        ("bij,bjk->bik", (3, 2, 5), (3, 5, 3)),
    ):
        yield Case(
            equation,
            tuple(shapes),
            dtype="int64",
            group="basics",
            note="integers, as in tutorials",
        )


def _models() -> Iterator[Case]:
    def case(equation: str, *shapes: Shape, note: str, **more: Any) -> Case:
        return Case(equation, shapes, dtype="float32", group="models", note=note, **more)

    yield case(
        "BSD,3KDH->3BSKH",
        (2, 512, 2048),
        (3, 1, 2048, 256),
        note="pi0/Gemma: queries, keys and values in one projection; 3 is a label of size 3",
        numpy_equation="BSD,xKDH->xBSKH",
        small=((2, 8, 32), (3, 1, 32, 16)),
    )
    yield case(
        "BTKGH,BSKH->BKGTS",
        (2, 512, 1, 8, 256),
        (2, 512, 1, 256),
        note="pi0/Gemma: attention logits of grouped queries",
        small=((2, 8, 1, 4, 16), (2, 9, 1, 16)),
    )
    yield case(
        "BKGTS,BSKH->BTKGH",
        (2, 1, 8, 512, 512),
        (2, 512, 1, 256),
        note="pi0/Gemma: attention output",
        small=((2, 1, 4, 8, 9), (2, 9, 1, 16)),
    )
    yield case(
        "BTD,NDH->BTNH",
        (2, 512, 2048),
        (8, 2048, 256),
        note="pi0/Gemma: query projection",
        small=((2, 8, 32), (4, 32, 16)),
    )
    yield case(
        "BSD,3KDL->3BSKL",
        (2, 512, 2048),
        (3, 1, 2048, 16),
        note="LoRA: down-projection",
        numpy_equation="BSD,xKDL->xBSKL",
        small=((2, 8, 32), (3, 1, 32, 4)),
    )
    yield case(
        "3BSKL,3KLH->3BSKH",
        (3, 2, 512, 1, 16),
        (3, 1, 16, 256),
        note="LoRA: up-projection",
        numpy_equation="xBSKL,xKLH->xBSKH",
        small=((3, 2, 8, 1, 4), (3, 1, 4, 16)),
    )
    yield case("BSD,TKDL->TBSKL", (8, 64, 32), (3, 8, 32, 2), note="LoRA: rank 2")
    yield case("bk,aki->bai", (2, 3), (5, 3, 3), note="TreeQN: one transition an action")
    yield case("nc,nc->n", (256, 128), (256, 128), note="MoCo: positive logits")
    yield case(
        "nc,ck->nk",
        (256, 128),
        (128, 65536),
        note="MoCo: negative logits against the queue",
        small=((8, 16), (16, 64)),
    )


def _attention() -> Iterator[Case]:
    def case(equation: str, *shapes: Shape, note: str, **more: Any) -> Case:
        return Case(equation, shapes, dtype="float32", group="attention", note=note, **more)

    heads = (32, 8, 64, 64)
    few = ((2, 3, 16, 8), (2, 3, 16, 8))
    yield case("bhqd,bhkd->bhqk", heads, heads, note="attention: logits", small=few)
    yield case(
        "bhqk,bhkd->bhqd",
        heads,
        heads,
        note="attention: output",
        small=((2, 3, 16, 16), (2, 3, 16, 8)),
    )
    yield case("bijc,bikc->bijk", (8, 6, 65, 32), (8, 6, 65, 32), note="ViT: logits", small=few)
    yield case(
        "bijk,bikc->bijc",
        (8, 6, 65, 65),
        (8, 6, 65, 32),
        note="ViT: output",
        small=((2, 3, 16, 16), (2, 3, 16, 8)),
    )
    yield case("in,ijn->ij", (8, 10), (8, 6, 10), note="similarity of a query with its candidates")
    # g and v stand in one operand alone, so they are summed: that is what the source computes.
    yield case(
        "bqhd,bkgd->bhqk",
        (2, 16, 8, 32),
        (2, 16, 2, 32),
        note="grouped-query attention: logits, as its source writes them",
        small=((2, 4, 3, 8), (2, 5, 2, 8)),
    )
    yield case(
        "bhqk,bkvd->bqhd",
        (2, 8, 16, 16),
        (2, 16, 2, 32),
        note="grouped-query attention: output, as its source writes it",
        small=((2, 3, 4, 5), (2, 5, 2, 8)),
    )
    yield case("ik,kl->il", (3, 7), (7, 7), note="word-by-word attention: hidden state")
    yield case("ijk,kl->ijl", (3, 5, 7), (7, 7), note="word-by-word attention: premise")
    yield case("ijk,k->ij", (3, 5, 7), (7,), note="word-by-word attention: scores")
    yield case("ijk,ij->ik", (3, 5, 7), (3, 5), note="word-by-word attention: weighted sum")
    yield case("ij,jk->ik", (3, 7), (7, 7), note="word-by-word attention: recurrence")


def _science() -> Iterator[Case]:
    def case(equation: str, *shapes: Shape, note: str, **more: Any) -> Case:
        return Case(equation, shapes, group="science", note=note, **more)

    n = 10
    square = (n, n)
    yield case(
        "pqrs,pi,qj,rk,sl->ijkl",
        (n, n, n, n),
        *[square] * 4,
        note="quantum chemistry: four-index integral transformation",
        small=((4, 4, 4, 4), *[(4, 4)] * 4),
    )
    yield case(
        "ijab,abcd->ijcd",
        (8, 8, 20, 20),
        (20, 20, 20, 20),
        note="quantum chemistry: particle-particle ladder",
        small=((3, 3, 5, 5), (5, 5, 5, 5)),
    )
    yield case(
        "mbej,imae->ijab",
        (8, 20, 20, 8),
        (8, 8, 20, 20),
        note="quantum chemistry: ring term",
        small=((3, 5, 5, 3), (3, 3, 5, 5)),
    )
    yield case(
        "Lpq,Lrs->pqrs",
        (60, 16, 16),
        (60, 16, 16),
        note="quantum chemistry: density fitting",
        small=((9, 5, 5), (9, 5, 5)),
    )
    yield case("Lij,ij->L", (60, 16, 16), (16, 16), note="quantum chemistry: Coulomb matrix")
    yield case(
        "im,jm,km,ijk->m",
        (12, 4),
        (11, 4),
        (10, 4),
        (12, 11, 10),
        note="CP: inner product",
    )
    yield case("ijk,jm,km->im", (12, 11, 10), (11, 4), (10, 4), note="CP: MTTKRP")
    yield case(
        "eqi,eqj,eq->eij",
        (100, 4, 3),
        (100, 4, 3),
        (100, 4),
        note="finite elements: element matrices",
    )
    yield case(
        "abc,cde,efg,bdfh->agh",
        (12, 2, 12),
        (12, 2, 12),
        (12, 2, 12),
        (2, 2, 2, 4),
        note="matrix product state under an operator",
        small=((3, 2, 4), (4, 2, 3), (3, 2, 4), (2, 2, 2, 4)),
    )


def all_cases() -> Iterator[Case]:
    """Yield every case, group by group."""
    return chain(_basics(), _integer_basics(), _models(), _attention(), _science())
