"""A sample of the equation corpus, at its sources' own sizes."""

from functools import cache

import fastein
from fastein.testing import corpus

from .rivals import RIVALS

SAMPLE = (
    "i,i->",
    "ik,kj->ij",
    "bij,bjk->bik",
    "ij,ij->",
    "ijk->ik",
    "ij->ji",
    "bii->bi",
    "ab,bc,cd->ad",
    "ik,jkl,il->ij",
    "pqrs,tuqvr->pstuv",
    "BSD,3KDH->3BSKH",
    "BTKGH,BSKH->BKGTS",
    "bhqd,bhkd->bhqk",
    "bqhd,bkgd->bhqk",
    "nc,nc->n",
    "ijab,abcd->ijcd",
    "Lij,ij->L",
    "ijk,jm,km->im",
    "eqi,eqj,eq->eij",
)


@cache
def case(equation):
    return corpus.find(equation)


class Sample:
    params = (SAMPLE, list(RIVALS))
    param_names = ("equation", "einsum")
    timeout = 120

    def setup(self, equation, einsum):
        chosen = case(equation)
        self.operands = corpus.operands(chosen, small=False)
        # NumPy refuses some labels; fastein is given the equation as its source writes it.
        self.equation = chosen.equation
        if einsum != "fastein":
            self.equation = chosen.numpy_equation or chosen.equation
        self.einsum = RIVALS[einsum]
        self.einsum(self.equation, *self.operands)

    def time_call(self, equation, einsum):
        self.einsum(self.equation, *self.operands)

    def peakmem_call(self, equation, einsum):
        self.einsum(self.equation, *self.operands)


class Threads:
    """Large contractions, by the number of threads."""

    params = (["BTKGH,BSKH->BKGTS", "bhqd,bhkd->bhqk"], [1, 2, 4])
    param_names = ("equation", "threads")

    def setup(self, equation, threads):
        self.before = fastein.get_num_threads()
        if threads > self.before:
            raise NotImplementedError("more threads than this process may use")
        fastein.set_num_threads(threads)
        self.operands = corpus.operands(case(equation), small=False)
        fastein.einsum(equation, *self.operands)

    def teardown(self, equation, threads):
        fastein.set_num_threads(self.before)

    def time_call(self, equation, threads):
        fastein.einsum(equation, *self.operands)
