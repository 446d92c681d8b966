from collections.abc import Sequence

from .._nest import LoopNest
from ._runtime import Step
from .narrow import Bound

class NarrowStep(Step):
    forms: tuple[tuple[Bound, Step], ...]
    whole: Step
    def __init__(
        self,
        slots: tuple[int, ...],
        nest: LoopNest,
        axes: Sequence[list[tuple[int, int]]],
        forms: Sequence[tuple[Bound, Step]],
        whole: Step,
    ) -> None: ...
