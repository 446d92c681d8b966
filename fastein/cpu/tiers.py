"""When a loop nest has earned a generated kernel.

The baseline nest answers at once; compiling costs a fixed time. A kind of nest is compiled once
the baseline has spent on it as long as compiling takes: whatever the calls still to come, the
total is then at most twice the best possible (the ski-rental rule).
"""

from __future__ import annotations

import warnings
from typing import Any

from .._nest import LoopNest

COMPILE_SECONDS = 0.4

_tiers: dict[Any, Tier] = {}


class Tier:
    """The account of one kind of nest (one kernel's worth), shared by all plans that have it."""

    __slots__ = ("failed", "kernel", "nest", "seconds")

    def __init__(self, nest: LoopNest) -> None:
        self.nest = nest
        self.kernel: Any = None
        self.seconds = 0.0
        self.failed = False

    def spend(self, seconds: float) -> Any:
        """Book time spent in the baseline nest; the generated kernel if there is one by now."""
        self.seconds += seconds
        if self.kernel is None and not self.failed and self.seconds >= COMPILE_SECONDS:
            self.failed = True  # until it has succeeded; other threads go on with the baseline
            try:
                self.kernel = compiled(self.nest)
                self.failed = self.kernel is None
            except Exception as reason:
                # the answer is there already: no failure of the compiler may cost it
                warnings.warn(
                    f"fastein could not compile a kernel and goes on without it: {reason!r}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self.kernel


def tier_of(nest: LoopNest) -> Tier | None:
    """The account of a nest's kind; None if no kernel can be generated for it."""
    from .codegen import CannotCompile, form

    try:
        kind = form(nest)
    except CannotCompile:
        return None
    return _tiers.setdefault(kind, Tier(nest))


def compiled(nest: LoopNest) -> Any:
    """The generated kernel of a nest, or None if none can be generated for it."""
    from .codegen import CannotCompile
    from .compiler import kernel

    try:
        return kernel(nest)
    except CannotCompile:
        return None
