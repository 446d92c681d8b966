"""Subscripts: what is read, what is refused, and what the refusal says."""

import doctest
import pickle
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastein import _parser
from fastein._parser import Subscripts, parse, parse_key, parse_sublists, sublist_key
from fastein.errors import EinsumError, label_name, operand_lines, printable

# What a string means, spelled canonically.
VALID = {
    "ij,jk->ik": "ij,jk->ik",
    "ij,jk": "ij,jk->ik",
    "aB": "aB->Ba",  # code-point order: upper case first
    "b...a": "b...a->...ab",
    "ii": "ii->",
    "iijjk": "iijjk->k",
    " i j , j k -> i k ": "ij,jk->ik",
    "... ij": "...ij->...ij",
    "i ...j->...": "i...j->...",
    "ij->...ij": "ij->...ij",
    "...ij->ij": "...ij->ij",
    "...ij->": "...ij->",
    "": "->",
    " ": "->",
    "->": "->",
    "->...": "->...",
    "ij,": "ij,->ij",
    ",": ",->",
    ",,": ",,->",
    "BSD,3KDH->3BSKH": "BSD,3KDH->3BSKH",
    "1a0A": "1a0A->01Aa",
    "βα": "βα->αβ",
    "zé😀": "zé😀->zé😀",
    "\ud800a": "\ud800a->a\ud800",
    "ij,jk→ik": "ij,jk→ik->→",  # odd, but any character beyond ASCII is a label
}

INVALID = {
    "ij - > ji": """\
'-' and '>' must stand together
    'ij - > ji'
        ^
hint: did you mean 'ij -> ji'?""",
    "bijc,bikc -bijk": """\
'-' must be followed by '>'
    'bijc,bikc -bijk'
               ^
hint: did you mean 'bijc,bikc -> bijk'?""",
    "ij-ji": """\
'-' must be followed by '>'
    'ij-ji'
       ^
hint: did you mean 'ij->ji'?""",
    "ij-": """\
'-' must be followed by '>'
    'ij-'
       ^
hint: did you mean 'ij->'?""",
    "i-j-k": """\
'-' must be followed by '>'
    'i-j-k'
      ^
hint: the output is announced by '->'""",
    "ij>ji": """\
'>' must stand directly behind '-'
    'ij>ji'
       ^
hint: did you mean 'ij->ji'?""",
    "ij=>ji": """\
the output is announced by '->', not '=>'
    'ij=>ji'
       ^
hint: did you mean 'ij->ji'?""",
    "ij->ji->": """\
the output can be announced by '->' only once
    'ij->ji->'
           ^""",
    ". . .ij": """\
a '.' is not part of an ellipsis '...'
    '. . .ij'
     ^
hint: an ellipsis is exactly three dots, with nothing between them""",
    "i..": """\
a '.' is not part of an ellipsis '...'
    'i..'
      ^^
hint: an ellipsis is exactly three dots, with nothing between them""",
    "....ij": """\
a '.' is not part of an ellipsis '...'
    '....ij'
        ^
hint: an ellipsis is exactly three dots, with nothing between them""",
    "i,...j...": """\
a term can have only one ellipsis
    'i,...j...'
           ^^^""",
    "ij->...i...": """\
a term can have only one ellipsis
    'ij->...i...'
             ^^^""",
    "ij->iji": """\
the output has label 'i' twice
    'ij->iji'
         ^ ^
hint: each label of the output is one axis; a diagonal can be read, but not written""",
    "ij -> ...  k i": """\
the output has label 'k', which no operand has
    'ij -> ...  k i'
                ^
hint: the operands have 'i', 'j'""",
    "Ij->ij": """\
the output has label 'i', which no operand has
    'Ij->ij'
         ^
hint: labels are case-sensitive: the operands have 'I'""",
    "->i": """\
the output has label 'i', which no operand has
    '->i'
       ^
hint: the operands have no labels""",
    "abcdefghij->z": """\
the output has label 'z', which no operand has
    'abcdefghij->z'
                 ^
hint: the operands have 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ...""",
    "ij->i,j": """\
the output is a single term: it cannot contain ','
    'ij->i,j'
          ^""",
    "ij;jk": """\
';' cannot be a label
    'ij;jk'
       ^
hint: terms are separated by ','""",
    "i_": """\
'_' cannot be a label
    'i_'
      ^
hint: a label is a letter, a digit or any character beyond ASCII""",
    "i\tj": """\
'\\t' cannot stand between labels
    'i\\tj'
      ^^
hint: only spaces are ignored""",
    "i\x00": """\
'\\x00' cannot be a label
    'i\\x00'
      ^^^^
hint: a label is a letter, a digit or any character beyond ASCII""",
    # Wide, combining, right-to-left and lone surrogate characters would displace the caret.
    "α中\u0301\u05d0\ud800%": """\
'%' cannot be a label
    'α\\u4e2d\\u0301\\u05d0\\ud800%'
                              ^
hint: a label is a letter, a digit or any character beyond ASCII""",
    "a" * 500_000 + "%" + "b" * 500_000: f"""\
'%' cannot be a label
    …{"a" * 36}%{"b" * 35}…
     {" " * 36}^
hint: a label is a letter, a digit or any character beyond ASCII""",
}

A = object()  # stands for an operand, at which the parser never looks

# What sublists mean: terms, output.
SUBLISTS = [
    ((A, [0, 1], A, [1, 2]), ((0, 1), (1, 2)), (0, 2)),
    ((A, (0, 1), A, range(1, 3), [2, 0]), ((0, 1), (1, 2)), (2, 0)),
    ((A, [26, 0]), ((26, 0),), (0, 26)),
    ((A, [10, 9]), ((10, 9),), (9, 10)),
    ((A, [52, 10**30]), ((52, 10**30),), (52, 10**30)),
    ((A, np.array([1, 0])), ((1, 0),), (0, 1)),
    ((A, [np.int64(1), np.uint8(0)]), ((1, 0),), (0, 1)),
    ((A, [np.array(3)]), ((3,),), (3,)),
    ((A, np.array([])), ((),), ()),
    ((A, iter([3, 2])), ((3, 2),), (2, 3)),
    ((A, []), ((),), ()),
    ((A, [], []), ((),), ()),
    ((A, [1, ..., 0]), ((1, ..., 0),), (..., 0, 1)),
    ((A, [1, ...], [...]), ((1, ...),), (...,)),
    ((A, [0], [..., 0]), ((0,),), (..., 0)),
    ((A, ["row", "col"]), (("row", "col"),), ("col", "row")),
    ((A, np.array(["j", "i"])), (("j", "i"),), ("i", "j")),
    ((A, [(1, "x"), None, 0], [None, 0]), (((1, "x"), None, 0),), (None, 0)),
]

BAD_SUBLISTS = [
    ((), EinsumError, "einsum needs subscripts and at least one operand"),
    ((A,), EinsumError, "einsum needs subscripts and at least one operand"),
    ((A, None), TypeError, "the labels of operand 0 must be a list, not NoneType\nhint: without"),
    ((0, 0), TypeError, "the labels of operand 0 must be a list, not int"),
    ((A, [0], A, 5), TypeError, "the labels of operand 1 must be a list, not int"),
    (
        (A, [0, 1], None),
        TypeError,
        "the labels of the output must be a list, not NoneType\nhint: l",
    ),
    ((A, "ij"), TypeError, "the labels of operand 0 must be a list, not str"),
    ((A, b"ij"), EinsumError, "the labels of operand 0 must be a list, not bytes"),
    (
        (A, np.ones((2, 3))),
        TypeError,
        "the labels of operand 0 must be a list, not ndarray of shape (2, 3) and dtype float64",
    ),
    ((A, np.ones(3)), TypeError, "not ndarray of shape (3,) and dtype float64"),
    ((A, [0], np.ones(3, bool)), TypeError, "the labels of the output must be a list, not ndarray"),
    (
        (A, [0], A, [7, -1, 8]),
        EinsumError,
        "label -1 is negative (label 1 of operand 1)\n    [7, -1, 8]\n        ^^\nhint: a label is",
    ),
    ((A, [np.int64(-3)]), EinsumError, "label -3 is negative (label 0 of operand 0)"),
    (
        (A, [0, True]),
        TypeError,
        "a label cannot be of type bool (label 1 of operand 0)\n    [0, True]\n        ^^^^\n",
    ),
    ((A, [np.True_]), TypeError, "a label cannot be of type bool"),
    ((A, [1.0, 0]), TypeError, "a label cannot be of type float"),
    ((A, [np.float64(1), 0]), TypeError, "a label cannot be of type float64"),
    ((A, [1j]), TypeError, "a label cannot be of type complex"),
    ((A, [Fraction(1)]), TypeError, "a label cannot be of type Fraction"),
    ((A, [np.timedelta64(1, "s")]), TypeError, "a label cannot be of type timedelta64"),
    ((A, [[0], 1]), TypeError, "a label must be hashable, unlike list (label 0 of operand 0)"),
    ((A, [np.array(0.5)]), TypeError, "a label must be hashable, unlike ndarray"),
    (
        (A, [..., 0, ...]),
        EinsumError,
        (
            "a sublist can have only one ellipsis (label 2 of operand 0)\n"
            "    [..., 0, ...]\n"
            "             ^^^"
        ),
    ),
    (
        (A, [0, 1], [1, 2]),
        EinsumError,
        (
            "the output has label 2, which no operand has\n"
            "    [0, 1] -> [1, 2]\n"
            "                  ^\n"
            "hint: the operands have 0, 1"
        ),
    ),
    (
        (A, ["row", 1], ["row", 1, "row"]),
        EinsumError,
        (
            "the output has label 'row' twice\n"
            "    [row, 1] -> [row, 1, row]\n"
            "                 ^^^     ^^^\n"
        ),
    ),
    (
        (A, [0, "a"]),
        EinsumError,
        (
            "an implicit output is sorted, but its labels cannot be: 0, 'a'\n"
            "    [0, a]\n"
            "hint: write the output's labels as the last argument"
        ),
    ),
    (
        (A, [*range(100_000), -1]),
        EinsumError,
        "label -1 is negative (label 100000 of operand 0)\n    …",
    ),
]


def spell(subscripts: Subscripts) -> str:
    """Spell string-form subscripts canonically, output included."""
    terms = [
        "".join("..." if label is ... else label for label in term)
        for term in (*subscripts.terms, subscripts.output)
    ]
    return ",".join(terms[:-1]) + "->" + terms[-1]


@pytest.mark.parametrize("text", VALID)
def test_string_is_read(text: str) -> None:
    subscripts = parse(text)
    assert spell(subscripts) == VALID[text]
    assert subscripts.text == text
    assert subscripts.explicit == ("->" in text)
    assert subscripts == parse(VALID[text])
    assert hash(subscripts) == hash(parse(VALID[text]))


@pytest.mark.parametrize("text", INVALID, ids=lambda text: printable(text, 20))
def test_string_is_refused(text: str) -> None:
    with pytest.raises(EinsumError) as caught:
        parse(text)
    assert str(caught.value) == INVALID[text]


@pytest.mark.parametrize(("args", "terms", "output"), SUBLISTS)
def test_sublists_are_read(args: tuple, terms: tuple, output: tuple) -> None:
    subscripts, operands = parse_sublists(args)
    assert subscripts.terms == terms
    assert subscripts.output == output
    assert subscripts.explicit == (len(args) % 2 == 1)
    assert operands == [A] * len(terms)
    for label in [label for term in terms for label in term if isinstance(label, int)]:
        assert type(label) is int


@pytest.mark.parametrize(("args", "error", "message"), BAD_SUBLISTS)
def test_sublists_are_refused(args: tuple, error: type, message: str) -> None:
    with pytest.raises(error) as caught:
        parse_sublists(args)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_bytes_are_utf8() -> None:
    assert parse(b"ij,jk->ik") == parse("ij,jk->ik")
    assert parse("αβ".encode()) == parse("αβ")
    with pytest.raises(EinsumError, match=r"must be UTF-8\n    'iÿj'\n      \^$"):
        parse(b"i\xffj")


@pytest.mark.parametrize("text", [None, 5, bytearray(b"ij"), ["ij"]])
def test_other_types_of_subscripts_are_type_errors(text: object) -> None:
    with pytest.raises(TypeError, match="subscripts must be a string, not"):
        parse(text)


def test_string_subclasses_become_plain_strings() -> None:
    subscripts = parse(np.str_("ij->ji"))
    assert type(subscripts.text) is str
    assert subscripts == parse("ij->ji")


def test_spans_say_where_the_terms_stand() -> None:
    text = " i j,, ...k -> k"
    assert [text[slice(*span)] for span in parse(text).spans] == ["i j", "", "...k", "k"]
    subscripts, _ = parse_sublists((A, [0, ...], A, [], ["row", 0][1:]))
    pieces = [subscripts.text[slice(*span)] for span in subscripts.spans]
    assert pieces == ["[0, ...]", "[]", "[0]"]


def test_ellipses_say_where_the_ellipsis_stands() -> None:
    assert parse("ij...,k,...->i...").ellipses == (2, -1, 0, 1)
    assert parse("ij...,k").ellipses == (2, -1, 0)
    assert parse("ij,k").ellipses == (-1, -1, -1)


def test_subscripts_are_values() -> None:
    subscripts = parse("ij,jk")
    assert subscripts == parse("ij,jk->ik") != parse("ij,jk->ki")
    assert subscripts != "ij,jk"
    assert subscripts == parse_sublists((A, ["i", "j"], A, ["j", "k"]))[0]
    assert pickle.loads(pickle.dumps(subscripts)).spans == subscripts.spans
    assert repr(subscripts) == "Subscripts('ij,jk->ik')"
    assert len(repr(parse("ij," * 100_000))) < 120
    with pytest.raises(AttributeError):
        subscripts.text = "ij"
    with pytest.raises(TypeError):
        Subscripts()


def test_sublist_key_tells_labels_apart_that_python_calls_equal() -> None:
    key, operands = sublist_key((A, [np.int64(1), 0], A, iter([0]), [1]))
    assert key == (((1, 0), (0,)), (1,))
    assert [type(label) for label in key[0][0]] == [int, int]
    assert operands == [A, A]
    assert parse_key(key).output == (1,)  # though the iterator is used up
    assert sublist_key((A, ["1"]))[0] != sublist_key((A, [1]))[0]
    assert sublist_key((A, [1]))[0] != sublist_key((A, [1], [1]))[0]


def test_labels_that_cannot_be_printed() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    class Loud:
        def __repr__(self) -> str:
            return "\n" * 10**6

    huge = 10 ** (sys.get_int_max_str_digits() + 1)
    subscripts, _ = parse_sublists((A, [Mute(), Loud(), huge], []))
    assert subscripts.text.startswith("[<Mute>, \\n\\n")
    assert subscripts.text.endswith("\\n\\n, <int>] -> []")


def test_many_operands_are_counted_not_listed() -> None:
    lines = operand_lines(1000, str, focus=[7, 900])
    assert lines == [*[f"operand {n}: {n}" for n in (0, 1, 2, 3, 7, 900)], "and 994 more operands"]
    assert len(operand_lines(6, str)) == 6


def test_label_names_are_short_and_printable() -> None:
    assert [label_name(label) for label in ("i", 3, "\n", "中", (1, 2))] == [
        "i",
        "3",
        "\\n",
        "\\u4e2d",
        "(1, 2)",
    ]
    assert len(label_name("x" * 10**6)) == 41


def test_large_inputs() -> None:
    assert len(parse("a" * 10**6).terms[0]) == 10**6
    assert len(parse(",".join(["ab"] * 10_000)).terms) == 10_000
    assert parse(" " * 10**6).terms == ((),)
    text = "".join(map(chr, range(200, 50_000)))
    assert parse(text).output == tuple(text)
    assert len(parse_sublists((A, range(10**5)))[0].output) == 10**5


@pytest.mark.parametrize("character", [".", "-", ">", "%", "\0", "->", "中%"])
def test_large_mistakes_have_short_messages(character: str) -> None:
    for text in (character * 10**5, "a" * 10**5 + character * 10**5):
        with pytest.raises(EinsumError) as caught:
            parse(text)
        assert len(str(caught.value)) < 500


@given(st.text() | st.text(alphabet="ij.,-> \0中"))
def test_any_text_is_read_or_refused(text: str) -> None:
    message = None
    try:
        subscripts = parse(text)
    except EinsumError as error:
        message = str(error)
    if message is None:
        assert parse(spell(subscripts)) == subscripts
    else:
        assert all(line.isprintable() for line in message.split("\n"))


# NumPy as the judge: its own parser, through operands that fit whatever it reads.

SIZES = {"i": 2, "j": 3, "A": 4, "B": 5}
PIECES = [*SIZES, "...", ",", "->", " ", ".", "-", ">"]


def numpy_reading(text: str, batch: tuple[int, ...] = ()) -> tuple[int, ...] | None:
    """Give the output's shape as NumPy infers it, None when NumPy refuses the subscripts."""
    operands = []
    for term in text.split("->")[0].split(","):
        head, _, tail = term.partition("...")
        shape = [SIZES[letter] for letter in head if letter in SIZES]
        shape += batch if "..." in term else ()
        shape += [SIZES[letter] for letter in tail if letter in SIZES]
        operands.append(np.broadcast_to(0.0, shape))
    try:
        return np.shape(np.einsum(text, *operands))
    except ValueError:
        return None


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("ij->...ij")
@example("...ij->ij")
@example("i.. .")
def test_numpy_reads_the_same_strings(text: str) -> None:
    expected = numpy_reading(text)
    try:
        output = parse(text).output
    except EinsumError:
        assert expected is None
    else:
        assert expected == tuple(SIZES[label] for label in output if label is not ...)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*SIZES, "...", ","]), max_size=10).map("".join))
def test_numpy_puts_batch_axes_in_the_same_place(text: str) -> None:
    expected = numpy_reading(text, batch=(7,))
    try:
        output = parse(text).output
    except EinsumError:
        assert expected is None
    else:
        assert expected == tuple(7 if label is ... else SIZES[label] for label in output)


LABELS = st.sampled_from([0, 1, 2, 30, 51, ..., -1, True, 1.0, np.int32(2)])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(LABELS, max_size=4), min_size=1, max_size=3), st.booleans())
def test_numpy_reads_the_same_sublists(sublists: list[list], explicit: bool) -> None:
    *terms, output = sublists if explicit and len(sublists) > 1 else [*sublists, None]
    args: list = []
    for term in terms:
        args += [np.zeros([1] * sum(label is not ... for label in term)), term]
    args += [] if output is None else [output]
    try:
        expected = np.ndim(np.einsum(*args))
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error)):
            parse_sublists(tuple(args))
    else:
        subscripts, _ = parse_sublists(tuple(args))
        assert expected == len([label for label in subscripts.output if label is not ...])


def test_docstrings() -> None:
    assert doctest.testmod(_parser).failed == 0
    assert doctest.testmod(_parser).attempted > 0
