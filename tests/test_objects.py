"""Arrays of Python objects: exact numbers, through numpy.einsum on the same plan."""

from fractions import Fraction
from math import prod

import numpy as np
import pytest

from fastein import config, einsum

RNG = np.random.default_rng(4)


def objects(shape, make=lambda n: Fraction(int(n), 3)):
    array = np.empty(shape, object)
    array.flat = [make(n) for n in RNG.integers(-9, 10, array.size)]
    return array


def same(equation, *operands, **keywords):
    want = np.einsum(equation, *operands, **keywords)
    got = einsum(equation, *operands, **keywords)
    assert type(got) is type(want)
    if isinstance(want, np.ndarray):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        assert got.strides == want.strides
        assert got.tolist() == want.tolist()
        assert [type(x) for x in got.flat] == [type(x) for x in want.flat]
    else:
        assert got == want
    return got


EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij->i", (2, 3)),
    ("ij->", (2, 3)),
    ("ii->", (3, 3)),
    ("ii->i", (3, 3)),
    ("ij->ji", (2, 3)),
    ("i,j->ji", (2,), (3,)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,ij->ij", (1, 3), (2, 1)),
    ("ij,ij->ij", (1, 5), (1, 5)),
    ("...ij,j...->...i", (1, 2, 3), (3, 4)),
    ("i...,...->i", (3,), ()),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("i,i,i->", (4,), (4,), (4,)),
    (",->", (), ()),
    ("i,->i", (3,), ()),
    ("ij->i", (2, 0)),
    ("ij->ij", (0, 2)),
    ("ij,jk->ik", (2, 0), (0, 3)),
    ("...i,i...->...", (2, 3), (3, 2)),
]


@pytest.mark.parametrize(("equation", "shapes"), [(e, s) for e, *s in EQUATIONS])
@pytest.mark.parametrize("order", ["K", "C", "F", "A"])
def test_answers_of_numpy(equation, shapes, order):
    operands = [objects(shape) for shape in shapes]
    same(equation, *operands, order=order)
    same(equation, *[x.T.copy().T for x in operands], order=order)


def test_numbers_beyond_any_dtype():
    big = objects((4, 4), lambda n: int(n) * 10**30)
    same("ij,jk->ik", big, big)
    assert einsum("ij,ij->", big, big) == sum(x * x for x in big.flat)


def test_an_empty_sum_is_the_int_0():
    got = einsum("ij->i", np.empty((2, 0), object))
    assert got.tolist() == [0, 0]
    assert all(type(x) is int for x in got)
    assert type(einsum("i->", np.empty(0, object))) is int


def test_objects_mix_with_numbers():
    x, y = objects((2, 3)), np.arange(12.0).reshape(3, 4)
    same("ij,jk->ik", x, y)
    same("ij,jk->ik", x, y.astype(int))
    same("ij,jk->ik", y[:2, :3], x.T, dtype=object)
    same("ij,jk->ik", y[:2, :3].astype("i2"), y[:3].astype("i2"), dtype=object)


@pytest.mark.parametrize("dtype", [object, "f8", "i8"])
def test_out(dtype):
    x = objects((3, 3), int)
    outs = [np.zeros((3, 3), dtype) for _ in range(2)]
    for function, out in zip((np.einsum, einsum), outs, strict=True):
        assert function("ij,jk->ki", x, x, out=out, casting="unsafe") is out
    assert outs[0].tolist() == outs[1].tolist()


def test_out_may_be_an_operand():
    x = objects((3, 3))
    want = np.einsum("ij,jk->ik", x, x)
    assert einsum("ij,jk->ik", x, x, out=x) is x
    assert x.tolist() == want.tolist()


def test_products_keep_their_order():
    """Python objects need not commute: strings of letters, say."""

    class Word:
        def __init__(self, text):
            self.text = text

        def __mul__(self, other):
            return Word(self.text + other.text)

        def __add__(self, other):
            return Word(f"({self.text}+{other.text})") if isinstance(other, Word) else self

        __radd__ = __add__

    words = [np.array([Word(f"{c}0"), Word(f"{c}1")], object) for c in "abc"]
    got = einsum("i,i,i->i", *words)
    assert [word.text for word in got] == ["a0b0c0", "a1b1c1"]
    assert einsum("i,i->", *words[:2]).text == np.einsum("i,i->", *words[:2]).text


@pytest.mark.parametrize("optimize", [True, "greedy", [(1, 2), (0, 1)], False])
def test_paths(optimize):
    operands = [objects(shape) for shape in ((2, 3), (3, 4), (4, 2))]
    want = np.einsum("ij,jk,kl->li", *operands)
    got = einsum("ij,jk,kl->li", *operands, optimize=optimize)
    assert got.tolist() == want.tolist()
    assert got.strides == want.strides


@pytest.mark.parametrize("count", [59, 60, 61, 70, 130])
def test_more_operands_than_numpy_takes(count):
    operands = [objects(2, int) for _ in range(count)]
    got = einsum(",".join("i" * count) + "->i", *operands)
    assert got.tolist() == [prod([x[k] for x in operands]) for k in range(2)]


def test_more_labels_than_numpy_has():
    labels = "".join(chr(0x4E00 + k) for k in range(60))
    x = np.full((1,) * 58 + (2, 3), Fraction(1, 2), object)
    got = einsum(f"{labels},{labels}->{labels[-1]}", x, x)
    assert got.tolist() == [Fraction(1, 2)] * 3


def test_sequences_are_no_numbers():
    holder = np.empty(2, object)
    holder[:] = [[1, 2], [3]]
    for function in (np.einsum, einsum):
        with pytest.raises(TypeError):
            function("i,i->", holder, holder)
        with pytest.raises(TypeError):
            function("i,i->i", np.array(["a", "b"], object), np.array(["c", "d"], object))


def test_an_element_that_is_an_array():
    holder = np.empty((1, 2), object)
    holder[0, 0], holder[0, 1] = np.arange(3), np.ones(3)
    got = einsum("ij,ij->i", holder, holder)
    np.testing.assert_array_equal(got[0], [1, 2, 5])


@pytest.mark.parametrize("jit", ["never", "tiered", "always"])
def test_every_mode(jit):
    x = objects((2, 3))
    with config(jit=jit):
        same("ij,kj->ik", x, x)


def test_an_empty_sum_into_objects_is_the_integer_0():
    out = np.ones(2, object)
    einsum("ij->i", np.ones((2, 0)), out=out, dtype=float, casting="unsafe")
    assert [(type(x), x) for x in out] == [(int, 0)] * 2
