from typing import Any, Literal

from numpy.typing import DTypeLike

from .plan import Layout, Options, Plan

def einsum(
    *operands: Any,
    out: Any = None,
    dtype: DTypeLike | None = None,
    order: Literal["K", "C", "F", "A", "k", "c", "f", "a"] | None = "K",
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "safe",
    optimize: Any = "auto",
    strict: bool = False,
) -> Any: ...
def plan_for(
    subscripts: str | tuple[Any, ...],
    layouts: tuple[Layout, ...],
    out: Layout | None,
    options: Options,
) -> Plan: ...
def normalised_options(
    dtype: DTypeLike | None = None,
    order: str | None = "K",
    casting: str = "safe",
    optimize: Any = "auto",
    strict: bool = False,
) -> Options: ...
