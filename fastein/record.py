"""Frozen data: what `dataclasses` would give, without its cost.

``@dataclass(frozen=True, slots=True)`` writes and compiles the source of each class's methods, half
a millisecond, and imports what takes five. The first call of a process would wait for that longer
than for anything else. A `Record` has the same meaning and general methods.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for its constant would cost more than this module
if TYPE_CHECKING:
    from typing import Any, Self, TypeVar, dataclass_transform

    T = TypeVar("T", bound="Record")
else:

    def dataclass_transform(**_):
        """Tell type checkers what the metaclass does."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class RecordType(type):
    """Makes the annotated names of a `Record` its fields."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> RecordType:
        fields = tuple(body.get("__annotations__", ()))
        defaults = {field: body.pop(field) for field in fields if field in body}
        made = super().__new__(cls, name, bases, {**body, "__slots__": fields})
        made.__match_args__ = fields  # type: ignore[attr-defined]
        made._defaults = defaults  # type: ignore[attr-defined]
        return made


class Record(metaclass=RecordType):
    """A frozen object: fields that are given once, compared, hashed and printed together.

    Subclasses annotate their fields, and may give defaults; they have no subclasses of their own.

    Examples
    --------
    >>> class Point(Record):
    ...     x: int
    ...     y: int = 0
    >>> Point(1)
    Point(x=1, y=0)
    >>> Point(1, 2) == Point(y=2, x=1) != Point(1)
    True
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.__slots__
        if named or len(values) != len(fields):
            values = self._complete(values, named)
        put = object.__setattr__
        for field, value in zip(fields, values):  # noqa: B905  (of one length by now)
            put(self, field, value)

    def _complete(self, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        name, fields = type(self).__name__, self.__slots__
        given = dict(zip(fields, values, strict=False))
        unknown = [field for field in named if field in given or field not in fields]
        if len(values) > len(fields) or unknown:
            raise TypeError(f"{name} has the fields {', '.join(fields)}, each given once")
        given = {**self._defaults, **given, **named}
        missing = [field for field in fields if field not in given]
        if missing:
            raise TypeError(f"{name} lacks {', '.join(missing)}")
        return tuple([given[field] for field in fields])

    def replace(self, **changes: Any) -> Self:
        """Return a record with other values in some fields."""
        return type(self)(**{**dict(zip(self.__slots__, self._values(), strict=True)), **changes})

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, field) for field in self.__slots__])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        pairs = zip(self.__slots__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join([f'{k}={v!r}' for k, v in pairs])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()
