"""Equation: ellipses spelled out, sizes bound to labels, and what is said when they do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastein._parser import Subscripts, parse, parse_sublists
from fastein.equation import Equation, bind, check_out, expand
from fastein.errors import EinsumError

# subscripts, shapes, then the terms, the output and the names they expand to.
EXPANDED = [
    ("ij,jk->ik", [(2, 3), (3, 4)], ((0, 1), (1, 2)), (0, 2), "ijk"),
    ("ba", [(2, 3)], ((0, 1),), (1, 0), "ba"),
    ("ii", [(2, 2)], ((0, 0),), (), "i"),
    ("", [()], ((),), (), ""),
    ("i,,i", [(2,), (), (2,)], ((0,), (), (0,)), (), "i"),
    ("...", [()], ((),), (), ()),
    ("...", [(2, 3)], ((0, 1),), (0, 1), ("...0", "...1")),
    ("...ij->ij", [(2, 3)], ((0, 1),), (0, 1), "ij"),
    ("ij->...ij", [(2, 3)], ((0, 1),), (0, 1), "ij"),
    ("...i->i", [(5, 2)], ((0, 1),), (1,), ("...0", "i")),
    ("b...a", [(2, 3, 4, 5)], ((0, 1, 2, 3),), (1, 2, 3, 0), ("b", "...0", "...1", "a")),
    # Right-aligned: the second operand has the last batch axis only.
    ("...i,...j", [(7, 8, 2), (8, 3)], ((0, 1, 2), (1, 3)), (0, 1, 2, 3), ("...0", "...1", *"ij")),
    (
        "...i,...j",
        [(8, 2), (7, 8, 3)],
        ((0, 1), (2, 0, 3)),
        (2, 0, 1, 3),
        ("...1", "i", "...0", "j"),
    ),
    ("...,i", [(), (3,)], ((), (0,)), (0,), "i"),
    ("αi->iα", [(2, 3)], ((0, 1),), (1, 0), "αi"),
    ("中\ud800", [(2, 3)], ((0, 1),), (0, 1), ("\\u4e2d", "\\ud800")),
    (([7, ..., "row"], [0]), [(2, 3, 4), (5,)], ((0, 1, 2), (3,)), (), ("7", "...0", "row", "0")),
    # A label that looks like a batch axis is not one.
    (([(..., 0)], [...]), [(2,), (3,)], ((0,), (1,)), (), ("(Ellipsis, 0)", "...0")),
]

# subscripts, shapes, sizes of the labels in order of first appearance.
BOUND = [
    ("ij,jk->ik", [(2, 3), (3, 4)], (2, 3, 4)),
    ("ij,jk", [(2, 1), (3, 4)], (2, 3, 4)),
    ("ij,jk", [(2, 3), (1, 4)], (2, 3, 4)),
    ("i,i", [(0,), (1,)], (0,)),
    ("i,i", [(1,), (0,)], (0,)),
    ("i,i,i", [(1,), (3,), (1,)], (3,)),
    ("ii,i", [(1, 1), (3,)], (3,)),
    ("i,ii", [(3,), (1, 1)], (3,)),
    ("", [()], ()),
    ("...i,...i", [(4, 1, 2), (5, 2)], (4, 5, 2)),
    ("...i,...i", [(1, 2), (4, 5, 2)], (5, 2, 4)),
]

# What the subscripts and the shapes disagree about. The output, given for some, is an `out`.
MISFITS = [
    (
        ("ij,jk->ik", [(2, 3)]),
        """\
the subscripts have 2 terms, but 1 operand was given
    'ij,jk->ik'
        ^^
    operand 0: 'ij' has shape (2, 3)
    operand 1: 'jk' is missing""",
    ),
    (
        ("ij,jk->ik", [(2, 3), (3, 4), (4,)]),
        """\
the subscripts have 2 terms, but 3 operands were given
    'ij,jk->ik'
          ^
    operand 0: 'ij' has shape (2, 3)
    operand 1: 'jk' has shape (3, 4)
    operand 2: no term for shape (4,)""",
    ),
    (
        ("ij jk->ik", [(2, 3), (3, 4)]),
        """\
the subscripts have 1 term, but 2 operands were given
    'ij jk->ik'
          ^
    operand 0: 'ij jk' has shape (2, 3)
    operand 1: no term for shape (3, 4)
hint: spaces between labels are ignored; terms are separated by ','""",
    ),
    (
        ("", []),
        """\
the subscripts have 1 term, but 0 operands were given
    ''
     ^
    operand 0: '' is missing""",
    ),
    (
        ("i，i", [(2,), (2,)]),
        """\
the subscripts have 1 term, but 2 operands were given
    'i\\uff0ci'
             ^
    operand 0: 'i\\uff0ci' has shape (2,)
    operand 1: no term for shape (2,)
hint: '\\uff0c' is read as a label; did you mean ','?""",
    ),
    (
        ("ij,jkl->il", [(2, 3), (3, 4)]),
        """\
operand 1 has 2 axes, but its term 'jkl' has 3 labels
    'ij,jkl->il'
        ^^^
    operand 0: 'ij' has shape (2, 3)
    operand 1: 'jkl' has shape (3, 4)""",
    ),
    (
        ("i", [(2, 3)]),
        """\
operand 0 has 2 axes, but its term 'i' has 1 label
    'i'
     ^
    operand 0: 'i' has shape (2, 3)
hint: write '...' for axes without a label""",
    ),
    (
        ("i...j", [(2,)]),
        """\
operand 0 has 1 axis, but its term 'i...j' has 2 labels
    'i...j'
     ^^^^^
    operand 0: 'i...j' has shape (2,)""",
    ),
    (
        ("ij,jk ik", [(2, 3), (3, 4)]),
        """\
operand 1 has 2 axes, but its term 'jk ik' has 4 labels
    'ij,jk ik'
        ^^^^^
    operand 0: 'ij' has shape (2, 3)
    operand 1: 'jk ik' has shape (3, 4)
hint: spaces between labels are ignored; did you mean 'ij,jk->ik'?""",
    ),
    (
        ("ij jk,kl->il", [(2, 3), (3, 4)]),
        """\
operand 0 has 2 axes, but its term 'ij jk' has 4 labels
    'ij jk,kl->il'
     ^^^^^
    operand 0: 'ij jk' has shape (2, 3)
    operand 1: 'kl' has shape (3, 4)
hint: spaces between labels are ignored; terms are separated by ','""",
    ),
    (
        ("ij→ji", [(2, 3)]),
        """\
operand 0 has 2 axes, but its term 'ij→ji' has 5 labels
    'ij→ji'
     ^^^^^
    operand 0: 'ij→ji' has shape (2, 3)
hint: '→' is read as a label; did you mean '->'?""",
    ),
    (
        (([0, 1], [1, 2, "k"], [0]), [(2, 3), (3, 4)]),
        """\
operand 1 has 2 axes, but its term [1, 2, k] has 3 labels
    [0, 1], [1, 2, k] -> [0]
            ^^^^^^^^^
    operand 0: [0, 1] has shape (2, 3)
    operand 1: [1, 2, k] has shape (3, 4)""",
    ),
    (
        ("ij,jk->ik", [(2, 3), (4, 5)]),
        """\
label 'j' has size 3 in operand 0 (axis 1), but size 4 in operand 1 (axis 0)
    'ij,jk->ik'
      ^ ^
    operand 0: 'ij' has shape (2, 3)
    operand 1: 'jk' has shape (4, 5)""",
    ),
    (
        ("i j , ... k j", [(2, 3), (9, 5, 4)]),
        """\
label 'j' has size 3 in operand 0 (axis 1), but size 4 in operand 1 (axis 2)
    'i j , ... k j'
       ^         ^
    operand 0: 'i j' has shape (2, 3)
    operand 1: '... k j' has shape (9, 5, 4)""",
    ),
    (
        # The 1 of operand 0 is not to blame, and the ellipsis of operand 2 stands for no axis.
        ("i,i,j...i", [(1,), (3,), (2, 4)]),
        """\
label 'i' has size 3 in operand 1 (axis 0), but size 4 in operand 2 (axis 1)
    'i,i,j...i'
       ^     ^
    operand 0: 'i' has shape (1,)
    operand 1: 'i' has shape (3,)
    operand 2: 'j...i' has shape (2, 4)""",
    ),
    (
        (([0, "batch"], [..., "batch", 1], [0, 1]), [(2, 3), (7, 8, 4, 5)]),
        """\
label 'batch' has size 3 in operand 0 (axis 1), but size 4 in operand 1 (axis 2)
    [0, batch], [..., batch, 1] -> [0, 1]
        ^^^^^         ^^^^^
    operand 0: [0, batch] has shape (2, 3)
    operand 1: [..., batch, 1] has shape (7, 8, 4, 5)""",
    ),
    (
        ("...ij,...jk->...ik", [(2, 3, 4, 5, 6), (2, 3, 6, 7)]),
        """\
batch axes (2, 3, 4) and (2, 3) do not broadcast: size 3 in operand 0 (axis 1), \
but size 2 in operand 1 (axis 0)
    '...ij,...jk->...ik'
     ^^^   ^^^
    operand 0: '...ij' has shape (2, 3, 4, 5, 6)
    operand 1: '...jk' has shape (2, 3, 6, 7)
hint: batch axes are aligned on the right; their sizes must be equal or 1""",
    ),
    (
        ("ii", [(1, 3)]),
        """\
label 'i' has size 1, but also size 3, in operand 0 (axes 0 and 1)
    'ii'
     ^^
    operand 0: 'ii' has shape (1, 3)
hint: a label repeated in one operand means its diagonal, which does not broadcast""",
    ),
    (
        # Each of the sizes of operand 1 would broadcast to 3.
        ("i,kik", [(3,), (2, 3, 1)]),
        """\
label 'k' has size 2, but also size 1, in operand 1 (axes 0 and 2)
    'i,kik'
       ^ ^
    operand 0: 'i' has shape (3,)
    operand 1: 'kik' has shape (2, 3, 1)
hint: a label repeated in one operand means its diagonal, which does not broadcast""",
    ),
]

# subscripts, shapes, shape of out, sizes of the result with it; None where it does not fit.
OUTS = [
    ("ij->ji", [(2, 3)], (3, 2), (3, 2)),
    ("i", [(1,)], (3,), (3,)),
    ("i", [(1,)], (0,), (0,)),
    ("i", [(3,)], (1,), None),
    ("i", [(3,)], (4,), None),
    ("i", [(0,)], (1,), None),
    ("i", [(3,)], (3, 1), None),
    ("i->", [(3,)], (3,), None),
    ("i->", [(3,)], (), ()),
    ("ij->i", [(3, 1)], (3,), (3,)),
    ("i,j->ij", [(1,), (1,)], (3, 4), (3, 4)),
    ("ii->i", [(1, 1)], (3,), (3,)),
    ("...->...", [(1, 3)], (2, 3), (2, 3)),
    ("...ij->...", [(5, 1, 2, 3)], (5, 4), (5, 4)),
]


def read(subscripts: str | tuple) -> Subscripts:
    """Read a string, or sublists given without operands."""
    if isinstance(subscripts, str):
        return parse(subscripts)
    *terms, output = subscripts if len(subscripts) > 2 else (*subscripts, [])
    pairs = [part for term in terms for part in (None, term)]
    return parse_sublists((*pairs, output))[0]


@pytest.mark.parametrize(("subscripts", "shapes", "terms", "output", "names"), EXPANDED)
def test_expand(subscripts: str, shapes: list, terms: tuple, output: tuple, names: str) -> None:
    equation = expand(read(subscripts), shapes)
    assert equation.terms == terms
    assert equation.output == output
    assert equation.names == tuple(names)


@pytest.mark.parametrize(("subscripts", "shapes", "sizes"), BOUND)
def test_bind(subscripts: str, shapes: list, sizes: tuple) -> None:
    assert bind(expand(parse(subscripts), shapes), shapes) == sizes


@pytest.mark.parametrize(("call", "message"), MISFITS)
def test_misfits(call: tuple, message: str) -> None:
    subscripts, shapes = call
    with pytest.raises(EinsumError) as caught:
        bind(expand(read(subscripts), shapes), shapes)
    assert str(caught.value) == message


@pytest.mark.parametrize(("subscripts", "shapes", "out", "shape"), OUTS)
def test_check_out(subscripts: str, shapes: list, out: tuple, shape: tuple | None) -> None:
    equation = expand(parse(subscripts), shapes)
    sizes = bind(equation, shapes)
    if shape is None:
        with pytest.raises(EinsumError, match="out has"):
            check_out(equation, sizes, out)
    else:
        grown = check_out(equation, sizes, out)
        assert tuple(grown[label] for label in equation.output) == shape


@pytest.mark.parametrize(
    ("subscripts", "out", "message"),
    [
        (
            "...ij -> j ...",
            (3, 5),
            """\
label '...0' has size 2, but size 5 in out (axis 1)
    '...ij -> j ...'
                ^^^
    out has shape (3, 5)
    the result (j, ...0) has shape (3, 2)""",
        ),
        (
            "...ij",
            (2, 1, 1),
            """\
label 'j' has size 3, but size 1 in out (axis 2)
    '...ij'
    out has shape (2, 1, 1)
    the result (...0, i, j) has shape (2, 1, 3)""",
        ),
        (
            "aij->ij",
            (3,),
            """\
out has 1 axis, but the result has 2 axes
    'aij->ij'
          ^^
    out has shape (3,)
    the result (i, j) has shape (1, 3)""",
        ),
    ],
)
def test_out_that_does_not_fit(subscripts: str, out: tuple, message: str) -> None:
    shapes = [(2, 1, 3)]
    equation = expand(parse(subscripts), shapes)
    with pytest.raises(EinsumError) as caught:
        check_out(equation, bind(equation, shapes), out)
    assert str(caught.value) == message


def test_strict_keeps_labels_from_broadcasting() -> None:
    shapes = [(2, 1), (3, 4)]
    equation = expand(parse("ij,jk"), shapes)
    assert bind(equation, shapes) == (2, 3, 4)
    with pytest.raises(EinsumError) as caught:
        bind(equation, shapes, strict=True)
    assert (
        str(caught.value)
        == """\
label 'j' has size 1 in operand 0 (axis 1), but size 3 in operand 1 (axis 0)
    'ij,jk'
      ^ ^
    operand 0: 'ij' has shape (2, 1)
    operand 1: 'jk' has shape (3, 4)
hint: with strict=True a size of 1 does not broadcast"""
    )


def test_strict_leaves_batch_axes_alone() -> None:
    shapes = [(1, 3, 2), (4, 1, 2)]
    equation = expand(parse("...i,...i->..."), shapes)
    assert bind(equation, shapes, strict=True) == (4, 3, 2)


def test_many_operands_make_a_short_message() -> None:
    shapes = [(2, 3)] * 5000 + [(2, 4)] + [(2, 3)] * 4999
    with pytest.raises(EinsumError) as caught:
        bind(expand(parse(",".join(["ij"] * 10_000)), shapes), shapes)
    lines = str(caught.value).split("\n")
    assert lines[0].startswith(
        "label 'j' has size 3 in operand 0 (axis 1), but size 4 in operand 5000"
    )
    assert lines[1][lines[2].index("^")] == "j"
    assert "    operand 5000: 'ij' has shape (2, 4)" in lines
    assert lines[-1] == "    and 9995 more operands"


def test_equation_is_frozen_and_comparable() -> None:
    equation = expand(parse("ij->ji"), [(2, 3)])
    assert equation == expand(parse("ij->ji"), [(7, 8)])
    assert hash(equation) == hash(expand(parse("ij->ji"), [(7, 8)]))
    assert equation == Equation(
        "ij->ji", ((0, 1),), (1, 0), ("i", "j"), ((0, 2), (4, 6)), ellipses=(-1, -1)
    )
    with pytest.raises(AttributeError, match="frozen"):
        equation.output = ()


# NumPy as the judge of which shapes fit, and of the result's shape.

TERM = st.lists(st.sampled_from(["i", "j", "k", "..."]), max_size=4).filter(
    lambda term: term.count("...") <= 1
)
SIZE = st.sampled_from([0, 1, 1, 2, 3])


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_numpy_finds_the_same_shape(data: st.DataObject) -> None:
    terms = data.draw(st.lists(TERM, min_size=1, max_size=3))
    text = ",".join("".join(term) for term in terms)
    # Half of the sizes follow a plan, or next to nothing would ever fit.
    plan = {label: data.draw(SIZE) for label in "ijk"}
    batch = data.draw(st.lists(SIZE, max_size=2))
    operands = []
    for term in terms:
        shape: list[int] = []
        for label in term:
            sizes = batch[data.draw(st.integers(0, 2)) :] if label == "..." else [plan[label]]
            shape += [data.draw(SIZE) if data.draw(st.booleans()) else size for size in sizes]
        operands.append(np.zeros(shape))
    shapes = [operand.shape for operand in operands]
    try:
        expected = np.einsum(text, *operands).shape
    except ValueError:
        with pytest.raises(EinsumError):
            bind(expand(parse(text), shapes), shapes)
    else:
        equation = expand(parse(text), shapes)
        sizes = bind(equation, shapes)
        assert tuple(sizes[label] for label in equation.output) == expected
