"""What generated kernels compute with, as numba.cuda types with Python's operators.

``Index``
    a signed integer of 32 bits, or of 64 where a nest is too large for that.
``Flag``
    the outcome of a comparison of these. Control flow never depends on it: stores and ``kept``
    take it, so that all threads run in step.
``Pointer``
    an address in bytes of elements of one dtype, in global memory. ``p + n`` lies n bytes on.
``Value``
    one element, or some (lanes) that lie next to each other, in the type that arithmetic wants.
``Shelf``
    a part of the block's shared memory, as values or indices.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.cudadecl import registry as _declarations
from numba.cuda.cudaimpl import registry as _implementations
from numba.cuda.extending import core_models, register_model
from numba.cuda.typing.templates import AbstractTemplate, signature

from .conversions import I1, I8, I64, complex_of, parts_of, register_type, spread
from .elements import ELEMENTS, Element

GLOBAL, SHARED = 1, 3  # address spaces of NVVM


# --- types --------------------------------------------------------------------------------------


class Index(types.Type):  # type: ignore[misc]
    """A signed integer of 32 or 64 bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(f"Index{bits}")


class Flag(types.Type):  # type: ignore[misc]
    """The outcome of a comparison."""

    def __init__(self) -> None:
        super().__init__("Flag")


class Pointer(types.Type):  # type: ignore[misc]
    """An address of `lanes` elements `stored` next to each other, aligned to `alignment` bytes."""

    def __init__(self, stored: str, arithmetic: str, lanes: int, alignment: int) -> None:
        self.stored = ELEMENTS[stored]
        self.arithmetic = ELEMENTS[arithmetic]
        self.lanes = lanes
        self.alignment = alignment
        super().__init__(f"Pointer({stored}, {arithmetic}, {lanes}, {alignment})")


class Value(types.Type):  # type: ignore[misc]
    """One element or several in registers."""

    def __init__(self, element: Element, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(f"Value({element.name}, {lanes})")


class Shelf(types.Type):  # type: ignore[misc]
    """Shared memory as an array of values or indices."""

    def __init__(self, slot: Value | Index) -> None:
        self.slot = slot
        super().__init__(f"Shelf({slot})")

    @property
    def representation(self) -> ir.Type:
        """The LLVM type of a slot."""
        if isinstance(self.slot, Index):
            return ir.IntType(self.slot.bits)
        return register_type(self.slot.element, self.slot.lanes)


FLAG = Flag()


def primitive_model(kind: type, representation: Callable[[Any], ir.Type]) -> None:
    """Say which LLVM type stands for a type."""

    class Model(core_models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, fe_type: Any) -> None:
            super().__init__(manager, fe_type, representation(fe_type))

    register_model(kind)(Model)


primitive_model(Index, lambda kind: ir.IntType(kind.bits))
primitive_model(Flag, lambda kind: I1)
primitive_model(Pointer, lambda kind: I8.as_pointer())
primitive_model(Value, lambda kind: register_type(kind.element, kind.lanes))
primitive_model(Shelf, lambda kind: I8.as_pointer(SHARED))


# --- operators ----------------------------------------------------------------------------------


def _operator(
    function: Callable[..., Any], *kinds: type, result: Callable[..., types.Type | None]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Define an operator on these types; `result` tells the outcome's type, or None."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        key = function

        def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
            if len(args) != len(kinds) or not all(map(isinstance, args, kinds)):
                return None
            outcome = result(*args)
            return None if outcome is None else signature(outcome, *args)

    _declarations.register_global(function)(Template)
    return _implementations.lower(function, *kinds)  # type: ignore[no-any-return]


def _longer(a: Index, b: Index) -> Index:
    return a if a.bits >= b.bits else b


def _left(a: Any, b: Any) -> Any:
    return a


def _integer_operator(function: Callable[..., Any], name: str) -> None:
    """Define an operator between indices, and between an index and an int."""

    @_operator(function, Index, Index, result=_longer)
    def of_two(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wanted = ir.IntType(sig.return_type.bits)
        return getattr(builder, name)(*[builder.sext(x, wanted) for x in args])

    @_operator(function, Index, types.Integer, result=_left)
    def with_int(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(args[0], _as_index(builder, sig, args))


def _as_index(builder: Any, sig: Any, args: Any) -> Any:
    """Return an int argument in the width of the index before it."""
    wanted = ir.IntType(sig.args[0].bits)
    if args[1].type.width > wanted.width:
        return builder.trunc(args[1], wanted)
    return builder.sext(args[1], wanted) if args[1].type.width < wanted.width else args[1]


for _function, _name in (
    (operator.add, "add"),
    (operator.sub, "sub"),
    (operator.mul, "mul"),
    (operator.and_, "and_"),
    (operator.rshift, "ashr"),
):
    _integer_operator(_function, _name)


@_operator(operator.lt, Index, Index, result=lambda a, b: FLAG if a == b else None)
def _less(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.icmp_signed("<", *args)


@_operator(operator.lt, Index, types.Integer, result=lambda a, b: FLAG)
def _less_int(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.icmp_signed("<", args[0], _as_index(builder, sig, args))


@_operator(operator.and_, Flag, Flag, result=_left)
def _both(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.and_(*args)


@_operator(operator.add, Pointer, Index, result=_left)
def _advance(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    offset = args[1] if sig.args[1].bits == 64 else builder.sext(args[1], I64)
    return builder.gep(args[0], [offset], inbounds=True, source_etype=I8)


def _wider(a: Value, b: Value) -> Any:
    fits = a.element == b.element and (a.lanes == b.lanes or 1 in (a.lanes, b.lanes))
    return Value(a.element, max(a.lanes, b.lanes)) if fits else None


@_operator(operator.add, Value, Value, result=_wider)
def add_values(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Lower the sum of two values; a sum over lanes uses it too."""
    a, b = _in_lanes(builder, sig, args)
    element = sig.return_type.element
    if element.kind == "c":
        parts = [builder.fadd(x, y) for x, y in zip(parts_of(builder, a), parts_of(builder, b))]  # noqa: B905
        return complex_of(builder, *parts)
    if element.kind == "f":
        return builder.fadd(a, b)
    return builder.or_(a, b) if element.kind == "b" else builder.add(a, b)


@_operator(operator.mul, Value, Value, result=_wider)
def _product(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a, b = _in_lanes(builder, sig, args)
    element = sig.return_type.element
    if element.kind == "c":
        (ar, ai), (br, bi) = parts_of(builder, a), parts_of(builder, b)
        real = builder.fsub(builder.fmul(ar, br), builder.fmul(ai, bi))
        return complex_of(builder, real, builder.fadd(builder.fmul(ar, bi), builder.fmul(ai, br)))
    if element.kind == "f":
        return builder.fmul(a, b)
    return builder.and_(a, b) if element.kind == "b" else builder.mul(a, b)


def _in_lanes(builder: Any, sig: Any, args: Any) -> list[Any]:
    """Return two values with as many lanes as their result has."""
    lanes = sig.return_type.lanes
    return [spread(builder, x, kind.lanes, lanes) for x, kind in zip(args, sig.args, strict=True)]
