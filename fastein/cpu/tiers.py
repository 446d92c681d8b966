"""When kernels have been earned.

The baseline nest and NumPy answer at once; compiling costs a fixed time. Kernels are compiled once
what stands in for them has cost as long as compiling takes: whatever the calls still to come, the
total is then at most twice the best possible (the ski-rental rule). They are looked for among the
stored ones much sooner, by the same rule. Calls are not kept waiting: compiling is done in the
background (:mod:`fastein.cpu.background`).

Where the background has a core of its own, the first kernels of a process are *advanced*: they are
compiled once a tenth of the price has been lost. Most programs need no more kernels than that, and
need them in the first second. What is advanced is bounded, and stored for all processes to come.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from ..config import available_cpus, settings
from ..forks import no_fork

COMPILE_SECONDS = 0.4
MOST_KERNELS = 1024  # of nests, in a process: machine code is never freed
LOOK_SECONDS = 5e-3  # what looking for stored kernels takes, the first time
READY = 0.5  # of what an order takes, from where on a worker is started that will compile
AT_ONCE = 2  # times the price that a single call must gain to wait for its kernels
ADVANCED = 64  # accounts of a process, at most, whose kernels are compiled
ADVANCE = 0.1  # of their price

_tiers: dict[Any, Tier] = {}
_advanced = 0


class Account:
    """The time spent for want of some kernels, which are built once it has been enough."""

    __slots__ = (
        "failure",
        "is_awaited",
        "is_expected",
        "is_ordered",
        "looked",
        "price",
        "ready",
        "seconds",
    )

    def __init__(self, price: float) -> None:
        self.price = price
        self.seconds = 0.0
        self.ready = False
        self.looked = False
        self.is_ordered = False  # being built, or failed
        self.is_awaited = False  # being built in the background
        self.is_expected = False  # a worker has been told to be ready
        self.failure: Exception | None = None

    def kernels(self) -> tuple[Callable[[], object], ...]:
        """Return what makes the kernels, in a form that can be pickled."""
        raise NotImplementedError

    def take(self) -> None:
        """Take the kernels into use, building what is missing."""
        raise NotImplementedError

    def build(self) -> None:
        """Have the kernels, at once."""
        if not self.ready:
            self.take()
            self.ready = True
            self.is_awaited = False

    def have(self) -> bool:
        """Have the kernels at once, if they can be compiled at all; whether they are there."""
        if not self.ready and not self.is_ordered:
            self._attempt(self.build)
        return self.ready

    def look(self) -> bool:
        """Take stored kernels into use; whether all are there by now."""
        with no_fork:
            from .compiler import stored
        if not self.looked:
            self.looked = True
            stored(self.build)
        return self.ready

    def spend(self, seconds: float) -> None:
        """Book time spent without the kernels.

        They are built when it has been enough.
        """
        self.seconds += seconds
        if self.failure is not None:
            self._warn()
        if self.ready or self.is_ordered:
            return
        enough = self.price * (ADVANCE if _may_advance() else 1)
        if self.seconds < min(LOOK_SECONDS, enough):
            return
        if self._attempt(self.look) or self.is_ordered:
            return
        if self.seconds >= enough:
            self._order(self.seconds < self.price)
        elif not self.is_expected and self.seconds >= READY * enough:
            self._expect()

    def spare(self, seconds: float) -> None:
        """Have the kernels before a call that would lose so much time without them, if it pays."""
        if self.ready or self.is_ordered or self.seconds + seconds < LOOK_SECONDS:
            return
        if self._attempt(self.look) or self.is_ordered:
            return
        if seconds >= AT_ONCE * self.price:
            self.have()

    def threads(self) -> int:
        """Return how many threads may stand in: a core is left to what compiles the kernels."""
        return max(1, settings.num_threads - self.is_awaited)

    def _attempt(self, build: Callable[[], object]) -> object:
        """Call what may fail: no failure of the compiler may cost an answer."""
        try:
            return build()
        except Exception as reason:
            self._fail(reason)
            self._warn()
            return None

    def _order(self, in_advance: bool) -> None:
        global _advanced
        with no_fork:
            from . import background
        _advanced += in_advance
        self.is_ordered = self.is_awaited = True
        background.submit(
            background.Order(self.kernels(), self.build, self._fail, self._forget, self._worth)
        )

    def _expect(self) -> None:
        with no_fork:
            from . import background
        self.is_expected = True
        background.prepare()

    def _worth(self) -> float:
        return self.seconds

    def _fail(self, reason: Exception) -> None:
        self.is_ordered = True
        self.is_awaited = False
        self.failure = reason

    def _forget(self) -> None:
        self.is_ordered = self.is_awaited = False

    def _warn(self) -> None:
        reason, self.failure = self.failure, None
        warnings.warn(
            f"fastein could not compile kernels and goes on without them: {reason!r}. Please "
            f"report this, with the versions of fastein, Numba and llvmlite.",
            RuntimeWarning,
            stacklevel=4,
        )


class Tier(Account):
    """The account of one form of nests (one kernel's worth), shared by all plans that have it."""

    __slots__ = ("form", "kernel")

    def __init__(self, form: Any) -> None:
        super().__init__(COMPILE_SECONDS)
        self.form = form
        self.kernel: Any = None

    def kernels(self) -> tuple[Callable[[], object], ...]:
        from .compiler import kernel_of_form

        return (functools.partial(kernel_of_form, self.form),)

    def take(self) -> None:
        from .compiler import kernel_of_form

        self.kernel = kernel_of_form(self.form)


def _may_advance() -> bool:
    """Whether kernels are compiled before calls have lost as much as that takes."""
    return _advanced < ADVANCED and _has_idle_core()


@functools.cache
def _has_idle_core() -> bool:
    """Whether what works in the background need not take the caller's core."""
    return available_cpus() > 1


def tier_of(form: Any) -> Tier | None:
    """The account of a form; None if there are so many kernels that it is to have none."""
    if form not in _tiers and len(_tiers) >= MOST_KERNELS:
        return None
    return _tiers.setdefault(form, Tier(form))


def compiled(form: Any) -> Any:
    """The kernel of a form, or None if it cannot be compiled."""
    tier = tier_of(form)
    return tier.kernel if tier is not None and tier.have() else None
