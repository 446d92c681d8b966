"""When a loop nest has earned a generated kernel.

The baseline nest answers at once; compiling costs a fixed time. A kind of nest is compiled once
the baseline has spent on it as long as compiling takes: whatever the calls still to come, the
total is then at most twice the best possible (the ski-rental rule).
"""

from __future__ import annotations

import warnings
from typing import Any

COMPILE_SECONDS = 0.4
MOST_KERNELS = 1024  # of nests, in a process: machine code is never freed

_tiers: dict[Any, Tier] = {}


class Tier:
    """The account of one form of nests (one kernel's worth), shared by all plans that have it."""

    __slots__ = ("failed", "form", "kernel", "seconds")

    def __init__(self, form: Any) -> None:
        self.form = form
        self.kernel: Any = None
        self.seconds = 0.0
        self.failed = False

    def spend(self, seconds: float) -> Any:
        """Book time spent in the baseline nest; the generated kernel if there is one by now."""
        self.seconds += seconds
        if self.kernel is None and not self.failed and self.seconds >= COMPILE_SECONDS:
            self.failed = True  # until it has succeeded; other threads go on with the baseline
            try:
                self.kernel = compiled(self.form)
                self.failed = self.kernel is None
            except Exception as reason:
                # the answer is there already: no failure of the compiler may cost it
                warnings.warn(
                    f"fastein could not compile a kernel and goes on without it: {reason!r}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self.kernel


def tier_of(form: Any) -> Tier | None:
    """The account of a form; None if there are so many kernels that it is to have none."""
    if form not in _tiers and len(_tiers) >= MOST_KERNELS:
        return None
    return _tiers.setdefault(form, Tier(form))


def compiled(form: Any) -> Any:
    """The kernel of a form."""
    from .compiler import kernel_of_form

    return kernel_of_form(form)
