from typing import Any

import numpy as np

Term = tuple[int, ...]
Strides = tuple[int, ...]
Input = tuple[Term, tuple[int, ...], Strides]  # labels, shape, strides

class LoopNest:
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nin(self) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def itemsize(self) -> int: ...
    @property
    def is_half(self) -> bool: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[Strides, ...]: ...
    @property
    def summed(self) -> tuple[bool, ...]: ...
    @property
    def iterations(self) -> int: ...
    def is_sum(self, axis: int) -> bool: ...
    def ordered(self, order: tuple[int, ...]) -> LoopNest: ...

def build(
    dtype: np.dtype[Any],
    sizes: tuple[int, ...],
    inputs: tuple[Input, ...],
    output: Term,
    output_strides: Strides,
) -> LoopNest: ...
def output_strides(
    order: str,
    sizes: tuple[int, ...],
    inputs: tuple[Input, ...],
    output: Term,
    summed: Term,
    itemsize: int,
) -> Strides: ...
