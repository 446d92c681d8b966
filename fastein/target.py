"""What a plan needs of a machine: how to run a nest, and how to make a plan callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from ._nest import LoopNest
    from .plan import Plan


class Schedule(Protocol):
    """How one nest runs: its family and what else its target decided. Plain data."""

    @property
    def family(self) -> str: ...


class Target(Protocol):
    """A machine that runs loop nests: `fastein.cpu` is one, `fastein_cuda` another."""

    def computes(self, dtype: np.dtype[Any]) -> bool:
        """Whether there are kernels for a dtype that C does not have."""
        ...

    def schedule(self, nest: LoopNest) -> Schedule:
        """Choose family, loop order and vector axis. Pure."""
        ...

    def mixes(self, stored: np.dtype[Any], arithmetic: np.dtype[Any]) -> bool:
        """Whether kernels that compute in one dtype read and write another. Pure."""
        ...

    def schedule_mixed(
        self, nest: LoopNest, stored: tuple[np.dtype[Any], ...], of: np.dtype[Any]
    ) -> Schedule | None:
        """Choose as `schedule`, for a step with unrounded intermediates of a product in `of`.

        `stored` are the dtypes of its operands, the output's last; None asks for operands that are
        all of the nest's. Pure.
        """
        ...

    def seconds(self, nest: LoopNest) -> float:
        """Estimate the time of a nest, by its arithmetic and the bytes it moves. Pure."""
        ...

    def executable(self, plan: Plan) -> Any:
        """Make a plan callable: kernels looked up or built, layouts turned into C arrays."""
        ...
