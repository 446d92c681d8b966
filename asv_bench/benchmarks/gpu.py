"""The GPU target, where there is a device: a case of each family, and what a small call costs.

`python -m fastein_cuda.benchmark` compares it with other libraries.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

import fastein
import fastein_cuda
from fastein_cuda import compiler
from fastein_cuda.elements import ELEMENTS
from fastein_cuda.loops import Loops
from fastein_cuda.machine import Machine
from fastein_cuda.schedule import schedule

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


class Compiling:
    """From the loops of a matrix product to machine code, for which no device is needed."""

    param_names = ("dtype",)
    params = (["float64", "float32", "float16", "complex64", "int32"],)
    repeat = 3
    number = 1

    def setup(self, dtype: str) -> None:
        if find_spec("numba_cuda") is None:
            raise NotImplementedError("there is no compiler here")
        element, n = ELEMENTS[dtype], 4096
        row, step = n * element.itemsize, element.itemsize
        loops = Loops(
            (n, n, n),
            ((row, 0, step), (0, step, row), (row, step, 0)),
            (False, False, True),
            (dtype,) * 3,
            element.arithmetic,
            (element.alignment,) * 3,
        )
        self.form = schedule(loops, Machine((9, 0), 132, 227 << 10)).form
        self.time_build(dtype)

    def time_build(self, dtype: str) -> None:
        compiler.build(self.form, (9, 0))
