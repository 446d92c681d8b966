"""Records: frozen data."""

from __future__ import annotations

import copy
import pickle

import pytest

from fastein.record import Record


class Point(Record):
    x: int
    y: int = 0

    @property
    def norm(self) -> int:
        return abs(self.x) + abs(self.y)


class Other(Record):
    x: int
    y: int = 0


def test_fields_are_given_by_position_or_name():
    assert Point(1, 2) == Point(x=1, y=2) == Point(1, y=2)
    assert Point(1) == Point(1, 0)
    assert Point(3, -4).norm == 7


@pytest.mark.parametrize(
    ("values", "named", "says"),
    [
        ((), {}, "lacks x"),
        ((1, 2, 3), {}, "fields x, y"),
        ((1,), {"x": 1}, "once"),
        ((1,), {"z": 1}, "fields x, y"),
    ],
)
def test_other_fields_are_refused(values, named, says):
    with pytest.raises(TypeError, match=says):
        Point(*values, **named)


def test_records_are_compared_by_kind_and_values():
    assert Point(1, 2) != Point(2, 1)
    assert Point(1, 2) != Other(1, 2)
    assert Point(1, 2) != (1, 2)
    assert len({Point(1), Point(1, 0), Point(2)}) == 2


def test_records_are_frozen():
    point = Point(1)
    for change in (lambda: setattr(point, "x", 2), lambda: delattr(point, "x")):
        with pytest.raises(AttributeError, match="frozen"):
            change()
    with pytest.raises(AttributeError):
        point.z = 1
    assert point.replace(y=5) == Point(1, 5)
    assert point == Point(1)


def test_records_are_printed_matched_copied_and_pickled():
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert pickle.loads(pickle.dumps(Point(1, 2))) == copy.deepcopy(Point(1, 2)) == Point(1, 2)
