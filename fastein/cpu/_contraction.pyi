from typing import Any

from .._nest import LoopNest
from ._runtime import Step
from .compiler import Kernel
from .contraction import Contraction
from .engine import Engine
from .schedule import Schedule

class Runner:
    def __init__(
        self,
        nest: LoopNest,
        schedule: Contraction,
        tiles: Kernel,
        packs: tuple[Kernel | None, ...],
    ) -> None: ...
    def __call__(self, first: Any, second: Any, result: Any) -> None: ...

class ContractionStep(Step):
    def __init__(
        self,
        slots: tuple[int, ...],
        schedule: Schedule,
        engine: Engine,
        substitute: Step,
        waits: bool,
    ) -> None: ...
