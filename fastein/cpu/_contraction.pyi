from typing import Any

from .._nest import LoopNest
from .compiler import Kernel
from .contraction import Contraction

class Runner:
    def __init__(
        self,
        nest: LoopNest,
        schedule: Contraction,
        tiles: Kernel,
        packs: tuple[Kernel | None, ...],
    ) -> None: ...
    def __call__(self, first: Any, second: Any, result: Any) -> None: ...
