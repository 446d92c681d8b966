"""The GPU target, where there is a device: a case of each family, and what a small call costs.

`python -m fastein_cuda.benchmark` compares it with other libraries.
"""

from __future__ import annotations

import numpy as np

import fastein
import fastein_cuda

CASES = {
    "small": ("ij,jk->ik", ((2, 2), (2, 2)), "float64"),
    "float64 product": ("ij,jk->ik", ((4096, 4096), (4096, 4096)), "float64"),
    "float16 product": ("ij,jk->ik", ((4096, 4096), (4096, 4096)), "float16"),
    "contraction": ("abcd,cdef->abef", ((48, 48, 48, 48), (48, 48, 48, 48)), "float32"),
    "stacks": ("bij,bjk->bik", ((1_000_000, 3, 3), (1_000_000, 3, 3)), "float32"),
    "sum": ("ij->", ((8192, 8192),), "float32"),
    "transposition": ("ij,ji->ij", ((8192, 8192), (8192, 8192)), "float32"),
}


class Families:
    """Calls of one family, with the wait for their end."""

    param_names = ("case",)
    params = (list(CASES),)
    repeat = 5

    def setup(self, case: str) -> None:
        if not fastein_cuda.is_available():
            raise NotImplementedError("there is no GPU here")
        equation, shapes, dtype = CASES[case]
        rng = np.random.default_rng(0)
        self.equation = equation
        self.operands = [fastein_cuda.asarray(rng.random(shape).astype(dtype)) for shape in shapes]
        self.device = self.operands[0].device
        self.time_call(case)

    def time_call(self, case: str) -> None:
        result = fastein.einsum(self.equation, *self.operands)
        self.device.wait(result.stream)
