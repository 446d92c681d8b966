from typing import Any

from .._nest import LoopNest
from ._runtime import Step
from .compiler import Kernel
from .engine import Transposer
from .isa import Isa
from .permutation import Permutation
from .schedule import Schedule
from .tiers import Account

class Runner:
    def __init__(
        self,
        nest: LoopNest,
        schedule: Permutation,
        kernel: Kernel | None = None,
        isa: Isa | None = None,
        account: Account | None = None,
    ) -> None: ...
    @property
    def has_windows(self) -> bool: ...
    def __call__(self, operand: Any, result: Any) -> None: ...

class PermutationStep(Step):
    def __init__(
        self, slots: tuple[int, ...], schedule: Schedule, engine: Transposer | None
    ) -> None: ...
