"""Frozen data: what `dataclasses` would give, without its cost.

``@dataclass(frozen=True, slots=True)`` writes and compiles the source of each class's methods, half
a millisecond, and imports what takes five. The first call of a process would wait for that longer
than for anything else. A `Record` has the same meaning and general methods.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for its constant would cost more than this module
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_):
        """Tell type checkers what the metaclass does."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class RecordType(type):
    """Makes the annotated names of a `Record` its fields."""

    fields: tuple[str, ...]
    defaults: dict[str, Any]

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> RecordType:
        fields = tuple(body.get("__annotations__", ()))
        defaults = {field: body.pop(field) for field in fields if field in body}
        slots = {"__slots__": fields, "__match_args__": fields}
        made = super().__new__(cls, name, bases, {**body, **slots})
        made.fields, made.defaults = fields, defaults
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
        fields = type(self).fields
        if named or len(values) != len(fields):
            values = self._complete(values, named)
        put = object.__setattr__
        for field, value in zip(fields, values):  # noqa: B905  (of one length by now)
            put(self, field, value)

    def _complete(self, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Return the values of all fields, in their order."""
        name, fields = type(self).__name__, type(self).fields
        given = dict(zip(fields, values, strict=False))
        if len(values) > len(fields) or any(x in given or x not in fields for x in named):
            raise TypeError(f"{name} has the fields {', '.join(fields)}, each given once")
        given = {**type(self).defaults, **given, **named}
        missing = [field for field in fields if field not in given]
        if missing:
            raise TypeError(f"{name} lacks {', '.join(missing)}")
        return tuple([given[field] for field in fields])

    def replace(self, **changes: Any) -> Self:
        """Return a record with other values in some fields."""
        return type(self)(**{**dict(self._items()), **changes})

    def _items(self) -> list[tuple[str, Any]]:
        return [(field, getattr(self, field)) for field in type(self).fields]

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, field) for field in type(self).fields])

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
        return f"{type(self).__name__}({', '.join([f'{k}={v!r}' for k, v in self._items()])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()
