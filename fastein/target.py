"""What a plan needs of a machine: how to run a nest, and how to make a plan callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ._nest import LoopNest
    from .plan import Plan


class Schedule(Protocol):
    """How one nest runs: its family, its loops in order, its estimated time. Plain data."""

    @property
    def family(self) -> str: ...

    @property
    def nest(self) -> LoopNest: ...


class Target(Protocol):
    """A machine that runs loop nests. `fastein.cpu` is one, `fastein_cuda` will be another."""

    def schedule(self, nest: LoopNest) -> Schedule:
        """Choose family, loop order and vector axis. Pure."""
        ...

    def seconds(self, nest: LoopNest) -> float:
        """Estimate the time of a nest, by its arithmetic and the bytes it moves. Pure."""
        ...

    def executable(self, plan: Plan) -> Any:
        """Make a plan callable: kernels looked up or built, layouts turned into C arrays."""
        ...
