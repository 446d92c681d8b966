from collections.abc import Callable, Sequence
from typing import Any

from ._placed import Placed
from ._runtime import NestStep, Step

def quietly(steps: Sequence[Step]) -> tuple[Step, ...]: ...
def may_warn(step: Step) -> bool: ...

class QuietSteps(Step):
    def __init__(self, steps: tuple[Step, ...]) -> None: ...

class ClearStep(Step):
    def __init__(self, target: int, layout: Placed) -> None: ...

class ConvertStep(Step):
    def __init__(self, source: int, target: int, read: Placed, written: Placed) -> None: ...

class MatmulStep(Step):
    def __init__(
        self,
        slots: tuple[int, ...],
        a: Placed,
        b: Placed,
        c: Placed,
        multiply: Callable[[Any, Any, Any], bool],
        nest: NestStep,
        promotes: bool = False,
    ) -> None: ...
