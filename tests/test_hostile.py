"""Whatever is passed, a call answers or raises, soon: subscripts and operands.

What might take the process down runs in a process of its own.
"""

import array
import datetime
import gc
import sys
import weakref

import numpy as np
import pytest
from helpers import in_a_process, survives

from fastein import EinsumError, einsum

pytestmark = pytest.mark.usefixtures("both_tiers")


# Text


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "i\0j->ji",
        "ij\0",
        "ij->ji\0",
        "\ud800",
        "ij->\udfff",
        "...." * 10,
        "." * 1001,
        "->" * 1000,
        "," * 1000,
        "-" * 1000,
        "i" * 5000,
        " " * 100_000,
        "ij" + " " * 100_000 + "->ji",
        "\u202eij->ji",
        "i\u0301j->ji\u0301",
        "\ufeffij",
        "%s%n%x{0}{i}",
        "__import__('os')",
        "ij->ji\n\n\n",
        "i'j\"->ji",
        "i;j->ji",
        "i#j",
    ],
)
def test_strange_text(text):
    a = np.ones((2, 2))
    answer = survives(text, a)
    assert isinstance(answer, np.ndarray | np.generic | EinsumError)
    if isinstance(answer, EinsumError):
        str(answer).encode("utf-8", "backslashreplace")
        repr(answer)


@pytest.mark.parametrize("text", [b"\0", b"\xff\xfe", b"ij->\x80", b"ij,jk->ik" * 1000, b""])
def test_strange_bytes(text):
    assert isinstance(survives(text, np.ones((2, 2))), EinsumError)


@pytest.mark.parametrize("text", ["\0", "\0ij", "i\0->i", ",A\0->"])
def test_text_does_not_end_at_a_null_character(text):
    with pytest.raises(EinsumError):
        einsum(text, *[np.ones(3)] * (text.count(",") + 1))


def test_a_million_characters():
    a = np.ones((2, 2))
    for text in (
        "i" * 10**6,
        "," * 10**6,
        "." * 10**6,
        "ij->" + "j" * 10**6,
        "".join(map(chr, range(0x4E00, 0x9000))) * 50,
        "ij" + " " * 10**6 + "->ji",
    ):
        answer = survives(text, a)
        assert isinstance(answer, np.ndarray | EinsumError)
        if isinstance(answer, EinsumError):
            # A message is for reading.
            assert len(str(answer)) < 10_000


class Text(str):
    """A str whose methods lie."""

    __slots__ = ()

    def __len__(self):
        return 10**9

    def __iter__(self):
        return iter("ab")

    def partition(self, separator):
        return None

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return True


def test_a_str_with_methods_of_its_own():
    a = np.arange(6.0).reshape(2, 3)
    einsum("ij->j", a)
    assert np.shape(einsum(Text("ij->ji"), a)) == (3, 2)
    assert np.shape(einsum("ij->j", a)) == (3,)


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, object(), [], (), {}, set(), ..., b"", print, int, NotImplemented]
)
def test_subscripts_of_any_type(value):
    a = np.ones((2, 2))
    for args in (
        (value,),
        (value, a),
        (a, value),
        (a, value, value),
        (a, [value]),
        (a, [0, 1], value),
    ):
        survives(*args)


# Operands


class Refuses:
    """An operand whose conversion raises."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array here")


class Lies:
    """An operand whose conversion returns something else."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return self.value


class Interface:
    """An operand with a broken array interface."""

    def __init__(self, interface):
        self.__array_interface__ = interface


def test_an_error_of_a_conversion_reaches_the_caller():
    with pytest.raises(RuntimeError, match="no array here"):
        einsum("i->i", Refuses())
    with pytest.raises(RuntimeError, match="no array here"):
        einsum("i,i", np.ones(3), Refuses())


@pytest.mark.parametrize("value", [None, 3, "text", [1, 2], object(), np.float64(3)])
def test_a_conversion_that_lies(value):
    for args in (("i->i", Lies(value)), ("i,i", np.ones(2), Lies(value)), (Lies(value), [0])):
        survives(*args)


@pytest.mark.parametrize(
    "interface",
    [
        None,
        {},
        {"shape": (2,), "typestr": "<f8"},
        {"shape": (-1,), "typestr": "<f8", "data": (0, False), "version": 3},
        {"shape": (2,), "typestr": "nonsense", "data": (0, False), "version": 3},
    ],
)
def test_a_broken_array_interface(interface):
    survives("i->i", Interface(interface))
    survives("i,i->i", np.ones(2), Interface(interface))


class Resizes:
    """An operand whose conversion changes another operand."""

    def __init__(self, victim):
        self.victim = victim

    def __array__(self, dtype=None, copy=None):
        if isinstance(self.victim, list):
            self.victim.clear()
        else:
            self.victim.resize((1,), refcheck=False)
        return np.ones(3)


def test_operands_that_change_while_others_are_converted():
    in_a_process("""
        class Resizes:
            def __init__(self, victim):
                self.victim = victim
            def __array__(self, dtype=None, copy=None):
                self.victim.resize((1,), refcheck=False)
                return np.ones(1000)
        for turn in range(50):
            first = np.ones(1000)
            attempt("i,i->i", first, Resizes(first))
            last = np.ones(1000)
            attempt("i,i->i", Resizes(last), last)
            out = np.ones(1000)
            attempt("i,i->i", Resizes(out), np.ones(1000), out=out)
    """)


def test_a_list_that_shrinks_while_it_is_read():
    operands = [np.ones(3), np.ones(3)]
    operands.insert(0, Resizes(operands))
    survives("i,i,i->i", operands)
    labels = [0]
    survives(Resizes(labels), labels, np.ones(3), [0])


def test_operands_that_are_not_numbers():
    for operand in (
        "text",
        b"bytes",
        None,
        ...,
        print,
        object(),
        {1: 2},
        {1, 2},
        slice(3),
        NotImplemented,
    ):
        for text in ("->", "i->", "i->i", ",->", "i,i->i"):
            survives(text, *[operand] * (text.count(",") + 1))


def test_generators_are_not_sequences():
    for text in ("i->i", "i,i->i", "->"):
        survives(text, (x for x in (1, 2, 3)))
        survives(text, iter([1, 2]), iter([1, 2]))
    survives(np.ones(2), (i for i in [0]))
    survives(np.ones(2), iter([0]), iter([0]))


def test_buffers_of_other_libraries():
    numbers = array.array("d", [1, 2, 3])
    assert einsum("i,i->", numbers, memoryview(numbers)) == 14
    assert einsum("i->", bytearray(b"abc")) == np.einsum("i->", bytearray(b"abc"))
    # A view keeps its memory alive.
    view = einsum("i->i", memoryview(numbers))
    del numbers
    gc.collect()
    np.testing.assert_array_equal(view, [1, 2, 3])


@pytest.mark.parametrize("dtype", ["U5", "S3", "M8[s]", "m8[ns]", "i4,f8", "V7", "(2,)i4,O"])
def test_types_without_arithmetic(dtype):
    a = np.zeros((3, 3), dtype)
    assert einsum("ij->ji", a).dtype == a.dtype
    for text in ("ij->", "ij,jk->ik", "ij,ij->ij", "ii->"):
        operands = [a] * (text.count(",") + 1)
        assert isinstance(survives(text, *operands), TypeError)
        assert isinstance(survives(text, *operands, out=np.zeros((3, 3))), TypeError | ValueError)


def test_dates_and_other_objects():
    for value in (datetime.date(2020, 1, 1), object(), "text", None, {}, [1]):
        a = np.array([None, None], object)
        a[:] = [value, value]
        np.testing.assert_array_equal(einsum("i->i", a), a)
        survives("i->", a)
        survives("i,i->", a, a)


class Number:
    """An object whose arithmetic does something else."""

    def __init__(self, action):
        self.action = action

    def __mul__(self, other):
        return self.action()

    __rmul__ = __add__ = __radd__ = __mul__


def test_arithmetic_that_raises():
    def fail():
        raise ZeroDivisionError("on purpose")

    a = np.array([Number(fail)] * 3, object)
    for text in ("i,i->", "i,i->i", "i->", "i,j->ij", "i,i,i->"):
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            einsum(text, *[a] * (text.count(",") + 1))


def test_arithmetic_that_changes_the_arrays():
    def change():
        a[:] = 1
        return 2

    a = np.array([Number(change)] * 5, object)
    survives("i,i->", a, a)
    a[:] = [Number(change)] * 5
    survives("i,i->i", a, a, out=a)
    a[:] = [Number(lambda: einsum("i->", np.ones(3)))] * 5
    assert survives("i,i->", a, a) is not None


def test_object_references_are_kept():
    marker = object()
    before = sys.getrefcount(marker)
    a = np.array([marker] * 10, object)
    for _ in range(20):
        einsum("i->i", a)
        survives("i->", a)
        out = np.array([1] * 10, object)
        survives("i->i", a, out=out, casting="unsafe")
        del out
    del a
    gc.collect()
    assert sys.getrefcount(marker) == before


def test_errors_keep_no_operand_alive():
    class Tracked(np.ndarray):
        pass

    a = np.ones((2, 3)).view(Tracked)
    alive = weakref.ref(a)
    for _ in range(3):
        survives("ij,jk->ik", a, np.ones((4, 5)))
        einsum("ij->j", a)
    del a
    gc.collect()
    assert alive() is None


def test_a_deep_list():
    in_a_process("""
        deep = 1.0
        for _ in range(2000):
            deep = [deep]
        attempt("...->", deep)
        attempt("i,i", deep)
        attempt("i,i", [deep, deep])
        attempt(deep, [0])
        attempt(np.ones(2), deep)
        itself = []
        itself.append(itself)
        attempt("i", itself)
        attempt("i,j", itself)
        attempt(np.ones(2), itself)
    """)


def test_operands_that_call_einsum():
    class Calls:
        def __array__(self, dtype=None, copy=None):
            return einsum("ij,jk->ik", np.ones((3, 3)), np.ones((3, 3)))

    np.testing.assert_array_equal(einsum("ij,jk->ik", Calls(), Calls()), np.full((3, 3), 27.0))


class Overrides:
    """An array of another library whose override misbehaves."""

    def __init__(self, action):
        self.action = action

    def __array_function__(self, function, types, args, kwargs):
        return self.action(function, args, kwargs)


def test_array_function_that_raises_or_refuses():
    def fail(*_):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        einsum("i,i", np.ones(2), Overrides(fail))
    with pytest.raises(TypeError):
        einsum("i,i", np.ones(2), Overrides(lambda *_: NotImplemented))
