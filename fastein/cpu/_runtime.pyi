from collections.abc import Callable, Sequence
from typing import Any, Literal

from .._nest import LoopNest
from ..plan import Plan
from .compiler import Kernel
from .tiers import Tier
from .traversal import Traversal

PROMOTE_ITERATIONS: int

class Step: ...

class NestStep(Step):
    def __init__(
        self,
        nest: LoopNest,
        slots: tuple[int, ...] | None = None,
        parallel: bool = False,
        traversal: Traversal | None = None,
    ) -> None: ...
    @property
    def nest(self) -> LoopNest: ...
    @property
    def traversal(self) -> Traversal | None: ...
    @property
    def tier(self) -> Tier | None: ...
    @property
    def kernel(self) -> Kernel | None: ...
    def use(self, kernel: Kernel) -> None: ...

class Executable:
    def __init__(
        self,
        plan: Plan,
        kind: Literal["view", "loops", "python"],
        steps: Sequence[Step] | Callable[[tuple[Any, ...], Any], Any],
    ) -> None: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def steps(self) -> tuple[Any, ...]: ...
    def __call__(self, *operands: Any, out: Any = None) -> Any: ...
