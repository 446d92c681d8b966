"""Canonical loop nests, and the memory layout of new results."""

import random
import string

import numpy as np
import pytest

from fastein._nest import LoopNest, build, output_strides
from fastein.cpu.codegen import form
from fastein.cpu.schedule import schedule

F8 = np.dtype("f8")


def nest_of(equation, *arrays, order="C"):
    """The canonical nest of an equation on arrays, with a new result."""
    left, right = equation.split("->")
    letters = "".join(dict.fromkeys(left.replace(",", "")))
    terms = [tuple(map(letters.index, term)) for term in left.split(",")]
    output = tuple(map(letters.index, right))
    sizes = [1] * len(letters)
    for term, array in zip(terms, arrays, strict=True):
        for label, size in zip(term, array.shape, strict=True):
            sizes[label] = max(sizes[label], size)
    inputs = tuple((t, x.shape, x.strides) for t, x in zip(terms, arrays, strict=True))
    dtype = arrays[0].dtype
    summed = tuple(sorted(set(range(len(letters))) - set(output), key=letters.__getitem__))
    strides = output_strides(order, tuple(sizes), inputs, output, summed, dtype.itemsize)
    return build(dtype, tuple(sizes), inputs, output, strides)


GIANT = np.broadcast_to(np.ones(1), 2**30)


def test_letters_are_gone():
    shapes = (2, 3, 4), (2, 4, 5)
    one = nest_of("bij,bjk->bik", *map(np.ones, shapes))
    two = nest_of("abc,acd->abd", *map(np.ones, shapes))
    assert one == two
    assert hash(one) == hash(two)
    assert repr(one) == repr(two)
    assert form(schedule(one).nest) == form(schedule(two).nest)


def test_nests_of_other_sizes_share_a_kernel_but_are_not_equal():
    one = nest_of("bij,bjk->bik", np.ones((2, 3, 4)), np.ones((2, 4, 5)))
    two = nest_of("xyz,xzw->xyw", np.ones((3, 5, 7)), np.ones((3, 7, 9)))
    assert one != two
    assert form(one) == form(two)
    assert one != "a nest"


A = np.arange(720.0).reshape(2, 3, 4, 5, 6)
CASES = {
    # name: equation, operands, sizes, strides of the inputs, summed
    "copy": ("abcde->abcde", (A,), (720,), ((8,),), (False,)),
    "total": ("abcde->", (A,), (720,), ((8,),), (True,)),
    "outer sums": ("abcde->cd", (A,), (20, 6, 6), ((48, 960, 8),), (False, True, True)),
    "sums never fuse with outputs": ("abcde->ab", (A,), (6, 120), ((960, 8),), (False, True)),
    "reversed together": ("ab->ab", (A[0, 0, 0, ::-1, ::-1],), (30,), ((-8,),), (False,)),
    "reversed, one axis": ("ab->", (A[0, 0, 0, ::-1],), (5, 6), ((-48, 8),), (True, True)),
    "diagonal": ("ii->i", (np.ones((4, 4)),), (4,), ((40,),), (False,)),
    "trace": ("ii->", (np.ones((4, 4)),), (4,), ((40,),), (True,)),
    "triple diagonal": ("iii->i", (np.ones((3, 3, 3)),), (3,), ((104,),), (False,)),
    "size 1 dropped": ("abc->abc", (np.ones((1, 4, 1)),), (4,), ((8,),), (False,)),
    "all of size 1": ("ab,b->a", (np.ones((1, 1)), np.ones(1)), (), ((), ()), ()),
    "scalars": (",->", (np.ones(()), np.ones(())), (), ((), ()), ()),
    "broadcast operand stands still": (
        "ab,b->ab",
        (np.ones((3, 1)), np.ones(5)),
        (3, 5),
        ((8, 0), (0, 8)),
        (False, False),
    ),
    "giant broadcast": ("a,b->", (GIANT, GIANT), (2**60,), ((0,), (0,)), (True,)),
    "too giant to fuse": (
        "a,b,c->",
        (GIANT, GIANT, GIANT),
        (2**60, 2**30),
        ((0, 0), (0, 0), (0, 0)),
        (True, True),
    ),
    "hadamard": ("ab,ab->ab", (A[0, 0, 0], A[1, 1, 1]), (30,), ((8,), (8,)), (False,)),
    "operands disagree": (
        "ab,ab->ab",
        (np.ones((3, 5)), np.ones((5, 3)).T),
        (3, 5),
        ((40, 8), (8, 24)),
        (False, False),
    ),
    "fused only where it lacks a gap": (
        "abc->abc",
        (np.ones((2, 3, 9))[:, :, :4],),
        (6, 4),
        ((72, 8),),
        (False, False),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_canonical_form(name):
    equation, operands, sizes, strides, summed = CASES[name]
    nest = nest_of(equation, *operands)
    # fusing keeps the inner of two axes where it was: compare loops as a set
    loops = sorted(zip(nest.sizes, nest.summed, *nest.strides[:-1], strict=True))
    assert loops == sorted(zip(sizes, summed, *strides, strict=True))
    assert (nest.nin, nest.rank, nest.itemsize) == (len(operands), len(sizes), 8)


def test_outputs_come_first_and_stand_still_under_sums():
    nest = nest_of("kj,ik->ij", np.ones((4, 5)), np.ones((3, 4)))
    assert nest.sizes == (3, 5, 4)
    assert nest.summed == (False, False, True)
    assert nest.strides[-1] == (40, 8, 0)
    assert [nest.is_sum(a) for a in range(3)] == list(nest.summed)


def test_iterations_are_exact():
    assert nest_of("a,b,c->", GIANT, GIANT, GIANT).iterations == 2**90
    assert nest_of("->", np.ones(())).iterations == 1


def test_ordered_permutes_everything():
    nest = nest_of("ij,jk->ik", np.ones((3, 4)), np.ones((4, 5)))
    turned = nest.ordered((2, 0, 1))
    assert turned.sizes == (4, 3, 5)
    assert turned.summed == (True, False, False)
    assert turned.strides == ((8, 32, 0), (40, 0, 8), (0, 40, 8))
    assert turned.ordered((1, 2, 0)) == nest
    assert turned != nest


@pytest.mark.parametrize("order", [(0, 0, 1), (0, 1, 3), (-1, 0, 1)])
def test_ordered_wants_a_permutation(order):
    nest = nest_of("ij,jk->ik", np.ones((3, 4)), np.ones((4, 5)))
    with pytest.raises(ValueError, match="permutation"):
        nest.ordered(order)
    for axis in (-1, 3):
        with pytest.raises(IndexError):
            nest.is_sum(axis)


def test_rank_is_bounded():
    with pytest.raises(ValueError, match="63"):
        LoopNest(F8, 1, 64)
    wide = tuple(range(64))
    with pytest.raises(ValueError, match="64 labels"):
        build(F8, (2,) * 64, ((wide, (2,) * 64, (0,) * 64),), (), ())
    ones = build(F8, (1,) * 200, ((tuple(range(200)), (1,) * 200, (8,) * 200),), (), ())
    assert ones.rank == 0


# Strides of new results: NumPy's own answer is the specification.


def random_array(rng, shape):
    """An array of zeros in any memory layout."""
    axes = rng.sample(range(len(shape)), len(shape))
    steps = [rng.choice((1, 1, 1, 2, -1)) for _ in shape]
    whole = np.zeros([shape[a] * abs(steps[a]) for a in axes])
    array = whole.transpose([axes.index(a) for a in range(len(shape))])
    array = array[tuple(slice(None, None, s) for s in steps)]
    if rng.random() < 0.2 and shape:
        k = rng.randrange(len(shape))
        array = np.broadcast_to(array.take([0], axis=k), shape)
    return array


def random_call(rng):
    letters = rng.sample(string.ascii_letters, rng.randint(1, 6))
    sizes = {x: rng.choice((1, 2, 2, 3, 4)) for x in letters}
    terms = []
    for _ in range(rng.randint(1, 4)):
        term = rng.sample(letters, rng.randint(0, len(letters)))
        if term and rng.random() < 0.15:
            term.append(rng.choice(term))
        terms.append(term)
    used = list(dict.fromkeys(x for term in terms for x in term))
    output = rng.sample(used, rng.randint(0, len(used)))
    arrays = []
    for term in terms:
        thin = {x for x in term if rng.random() < 0.1 and term.count(x) == 1}
        arrays.append(random_array(rng, [1 if x in thin else sizes[x] for x in term]))
    return ",".join(map("".join, terms)) + "->" + "".join(output), arrays


@pytest.mark.parametrize("order", ["K", "C", "F"])
@pytest.mark.parametrize("seed", range(8))
def test_output_strides_are_numpys(order, seed):
    rng = random.Random(seed)
    for _ in range(300):
        equation, arrays = random_call(rng)
        left, right = equation.split("->")
        labels = sorted(set(left) - {","})
        terms = [tuple(map(labels.index, term)) for term in left.split(",")]
        output = tuple(map(labels.index, right))
        sizes = [1] * len(labels)
        for term, array in zip(terms, arrays, strict=True):
            for label, size in zip(term, array.shape, strict=True):
                sizes[label] = max(sizes[label], size)
        # a second operand keeps NumPy from answering with a view
        want = np.einsum(f"{left},->{right}", *arrays, 1.0, order=order)
        got = output_strides(
            order,
            tuple(sizes),
            tuple((t, x.shape, x.strides) for t, x in zip(terms, arrays, strict=True)),
            output,
            tuple(x for x in range(len(labels)) if x not in output),
            8,
        )
        matter = [k for k, label in enumerate(output) if sizes[label] > 1]
        assert [got[k] for k in matter] == [want.strides[k] for k in matter], (
            equation,
            [(x.shape, x.strides) for x in arrays],
        )


def test_bytes_that_are_moved():
    assert nest_of("ij,j->i", np.ones((3, 5)), np.ones(5)).moved_bytes == 8 * (15 + 5 + 3)
