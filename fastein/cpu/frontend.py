"""Numba's contexts, with as much of Python in them as generated kernels use.

Numba's own know arrays, lists, strings, random numbers and whatever a program has registered, and
bring a run-time library into each kernel. Without these the first kernel of a process takes 0.2 s
less, the others a fifth to a half. Of the library nothing is ever called: kernels neither allocate
nor touch an object.

Numba has one pair of contexts in a process. So these are for a process that compiles nothing else.
"""

from __future__ import annotations

from typing import Any

from numba.core import cpu, typing
from numba.core.registry import cpu_target


class Typing(typing.Context):  # type: ignore[misc]
    """What types there are: numbers and their operators, pointers, ranges, our primitives."""

    def load_additional_registries(self) -> None:
        """Load no more than what every context has."""


class Target(cpu.CPUContext):  # type: ignore[misc]
    """How they become LLVM IR."""

    def load_additional_registries(self) -> None:
        """Load how numbers, pointers, ranges and tuples are lowered."""
        from numba.cpython import builtins, numbers, rangeobj, tupleobj  # noqa: F401

    def post_lowering(self, mod: Any, library: Any) -> None:
        """Leave out Numba's run-time library."""


def compile_kernels_only() -> None:
    """Have Numba use these contexts from now on, and make them ready.

    A version of Numba that keeps its contexts elsewhere goes on with its own.
    """
    types = Typing()
    own = {"_toplevel_typing_context": types, "_toplevel_target_context": Target(types, "cpu")}
    if all(hasattr(type(cpu_target), name) for name in own):
        vars(cpu_target).update(own)
    cpu_target.target_context.refresh()
