"""Source of the GPU kernels: readable Python over typed primitives, a module for each family.

A form holds all that a kernel's source depends on. `render` writes the source, `parameters` says in
which order it takes its arguments. Both are pure.

All threads run in step: no branch and no loop depends on a thread's number.
"""

from __future__ import annotations

from types import ModuleType

from . import contraction_source, nest_source, tiny_source, transposition_source
from .forms import ContractionForm, Form, NestForm, TinyForm, TranspositionForm
from .naming import Parameter, indented, meaning

#: Goes into the key of every stored cubin: raise it when `render` or the primitives change.
VERSION = 2

#: Names that generated source uses; `primitives` and `primitives_sim` have them all.
PRIMITIVES = (
    "barrier", "block_x", "block_y", "clipped", "commit", "copy", "folded", "get", "kept", "load",
    "put", "quotient", "shelf", "smaller", "store", "thread", "wait", "zero",
)  # fmt: skip

#: Names that only contractions use, and that depend on their tile.
TILE_PRIMITIVES = ("multiply", "nothing", "write")

#: Names that only kernels of small loops use, and that depend on their form.
TINY_PRIMITIVES = ("compute",)

_FAMILIES: dict[type, ModuleType] = {
    NestForm: nest_source,
    TranspositionForm: transposition_source,
    ContractionForm: contraction_source,
    TinyForm: tiny_source,
}


def render(form: Form) -> str:
    """Return the source of a form's kernel: one function, ``kernel``."""
    family = _FAMILIES[type(form)]
    lines = [
        f"# {meaning(form, family.terms(form))}",
        f"def kernel({', '.join(name for name, _ in parameters(form))}):",
        *indented(family.body(form)),
    ]
    return "\n".join(lines) + "\n"


def parameters(form: Form) -> list[Parameter]:
    """Return name and kind of each argument: ``'pointer'``, ``'index'``, ``'offset'``, ``'count'``.

    The pointers come first, one per operand. Offsets have 64 bits where the form is wide, indices
    where it is vast; counts bound loops, and have 64 bits always.
    """
    found: list[Parameter] = _FAMILIES[type(form)].parameters(form)
    return found
