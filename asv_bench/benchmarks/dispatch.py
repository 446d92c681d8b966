"""What a small call costs: everything but the arithmetic."""

from itertools import cycle

import numpy as np

from .rivals import RIVALS

MATRIX = np.arange(4.0).reshape(2, 2)
VECTOR = np.arange(2.0)

CALLS = {
    "matmul": ("ij,jk->ik", MATRIX, MATRIX),
    "matmul, implicit": ("ij,jk", MATRIX, MATRIX),
    "dot": ("i,i->", VECTOR, VECTOR),
    "trace": ("ii->", MATRIX),
    "diagonal view": ("ii->i", MATRIX),
    "three operands": ("ij,jk,kl->il", MATRIX, MATRIX, MATRIX),
    "sublists": (MATRIX, [0, 1], MATRIX, [1, 2], [0, 2]),
    "mixed dtypes": ("ij,jk->ik", MATRIX, MATRIX.astype(np.int64)),
    "Fortran order": ("ij,jk->ik", MATRIX.T, MATRIX),
}

KEYWORDS = {
    "optimize": {"optimize": True},
    "order": {"order": "C"},
    "dtype": {"dtype": np.complex128},
    "casting": {"dtype": np.float32, "casting": "same_kind"},
    "out": {"out": np.empty((2, 2))},
}


class Warm:
    """The same call again and again: a hit in the plan cache."""

    params = (list(CALLS), list(RIVALS))
    param_names = ("call", "einsum")

    def setup(self, call, einsum):
        self.arguments = CALLS[call]
        self.einsum = RIVALS[einsum]
        self.einsum(*self.arguments)

    def time_call(self, call, einsum):
        self.einsum(*self.arguments)


class Keywords:
    """The 2x2 product with one keyword argument."""

    params = (list(KEYWORDS), ["fastein", "numpy"])
    param_names = ("keyword", "einsum")

    def setup(self, keyword, einsum):
        self.keywords = KEYWORDS[keyword]
        self.einsum = RIVALS[einsum]
        self.time_call(keyword, einsum)

    def time_call(self, keyword, einsum):
        self.einsum("ij,jk->ik", MATRIX, MATRIX, **self.keywords)


class NewShapes:
    """A known equation with another shape at every call.

    There are more shapes than a plan cache may reasonably hold, so every call is a miss.
    """

    params = (["fastein", "numpy"],)
    param_names = ("einsum",)
    number = 1000
    warmup_time = 0

    def setup(self, einsum):
        self.einsum = RIVALS[einsum]
        sides = [(rows, columns) for rows in range(1, 129) for columns in range(1, 129)]
        np.random.default_rng(0).shuffle(sides)
        whole = np.ones((128, 128))
        self.operands = cycle([whole[:rows, :columns] for rows, columns in sides])

    def time_call(self, einsum):
        operand = next(self.operands)
        self.einsum("ij,ij->i", operand, operand)


class Floor:
    """The cheapest thing that NumPy does with two 2x2 arrays, for scale."""

    def time_np_add(self):
        np.add(MATRIX, MATRIX)
