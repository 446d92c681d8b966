"""Schedules: the order of the loops, and when NumPy's matmul is the better family."""

import random

import numpy as np
import pytest

from fastein._nest import build
from fastein.cpu._loop_order import loop_order
from fastein.cpu.axis_roles import roles
from fastein.cpu.machine import MACHINE
from fastein.cpu.schedule import MATMUL_DTYPES, as_matrices, matrix_axes, schedule


def nest_of(equation, sizes, dtype="f8", orders=None):
    """A nest on contiguous operands; `orders` gives the memory order of each operand's axes."""
    left, right = equation.split("->")
    letters = "".join(dict.fromkeys(left.replace(",", "") + right))
    terms = [*left.split(","), right]
    itemsize = np.dtype(dtype).itemsize
    operands = []
    for term, order in zip(terms, orders or terms, strict=True):
        strides = {
            x: itemsize * int(np.prod([sizes[y] for y in order[k + 1 :]]))
            for k, x in enumerate(order)
        }
        shape = tuple(sizes[x] for x in term)
        operands.append((tuple(map(letters.index, term)), shape, tuple(strides[x] for x in term)))
    *inputs, (output, _, strides) = operands
    every = tuple(sizes[x] for x in letters)
    return build(np.dtype(dtype), every, tuple(inputs), output, strides)


def random_nest(rng, dtype):
    letters = "abcdef"
    sizes = {x: rng.randint(2, 9) for x in letters}
    terms = ["".join(rng.sample(letters, rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
    used = sorted(set("".join(terms)))
    right = "".join(rng.sample(used, rng.randint(0, len(used))))
    orders = ["".join(rng.sample(t, len(t))) for t in (*terms, right)]
    return nest_of(",".join(terms) + "->" + right, sizes, dtype, orders)


@pytest.mark.parametrize("dtype", ["f8", "e", "i2", "g", "?"])
@pytest.mark.parametrize("seed", range(4))
def test_invariants_of_the_loop_order(dtype, seed):
    rng = random.Random(seed)
    for _ in range(100):
        nest = random_nest(rng, dtype)
        order, seconds = loop_order(nest, MACHINE)
        assert sorted(order) == list(range(nest.rank))
        assert seconds > 0
        summed = nest.ordered(order).summed
        small = nest.iterations < 1_000_000
        sums_inside = bool(summed) and (summed[-1] or small)
        if sums_inside:  # one register per element of the output, or one visit for several rows
            assert list(summed[:-1]) == sorted(summed[:-1])
        if dtype == "e" and any(summed):
            assert summed[-1]  # float16 rounds once
        strides = nest.ordered(order).strides
        reach = [sum(abs(row[a]) for row in strides) for a in range(nest.rank - 1)]
        for a in range(len(reach) - 1):
            assert reach[a] >= reach[a + 1] or (sums_inside and summed[a] != summed[a + 1])


def test_a_large_batch_of_tiny_matrices_is_innermost():
    sizes = {"b": 1000, "i": 3, "j": 4, "k": 3}
    nest = nest_of("bij,bjk->bik", sizes, "f8")
    assert nest.ordered(loop_order(nest, MACHINE)[0]).sizes[-1] == 1000
    sizes |= {"b": 3, "j": 40, "k": 30}
    nest = nest_of("bij,bjk->bik", sizes, "f8")
    assert nest.ordered(loop_order(nest, MACHINE)[0]).sizes[-1] == 30


def test_sums_of_three_strided_operands_are_inside():
    matrix, vector = ((0, 1), (8, 900), (1800, 2)), ((1,), (900,), (2,))
    nest = build(np.dtype("i1"), (8, 900), (matrix, matrix, vector), (0,), (1,))
    assert nest.ordered(loop_order(nest, MACHINE)[0]).summed == (False, True)


def test_no_far_strides_where_the_first_cache_is_too_small():
    small, large = every_other_column(20), every_other_column(89)
    assert small.ordered(loop_order(small, MACHINE)[0]).summed == (True, False)
    assert large.ordered(loop_order(large, MACHINE)[0]).summed == (False, True)


def every_other_column(n):
    """``ij,ij->i`` on complex matrices whose elements are 32 bytes apart."""
    matrix = (0, 1), (n, n), (32 * n, 32)
    return build(np.dtype("c16"), (n, n), (matrix, matrix), (0,), (16,))


@pytest.mark.parametrize(
    ("equation", "sizes", "orders", "want"),
    [
        ("i->i", {"i": 9}, None, "map"),
        ("i,i->", {"i": 9}, None, "dot"),
        ("ij->i", {"i": 99, "j": 99}, None, "dot"),
        ("ij->j", {"i": 99, "j": 99}, None, "map"),
        ("ij->i", {"i": 99, "j": 99}, ["ji", "i"], "map"),
        ("ij,jk->ik", {"i": 9, "j": 9, "k": 9}, None, "map"),
        ("ij,kj->ik", {"i": 9, "j": 99, "k": 9}, None, "dot"),
        ("i,j->ij", {"i": 9, "j": 9}, None, "map"),
        (",->", {}, None, "scalar"),
    ],
)
def test_the_innermost_loop(equation, sizes, orders, want):
    chosen = schedule(nest_of(equation, sizes, orders=orders), engine=False)
    assert (chosen.family, chosen.inner) == ("nest", want)
    assert str(chosen).startswith(f"nest: {want} over loops [")


def test_only_an_output_loop_is_shared_among_threads():
    sizes = {"i": 50, "j": 60}
    assert schedule(nest_of("ij->i", sizes)).parallel
    assert not schedule(nest_of("ij->", sizes)).parallel
    assert not schedule(nest_of("ij->j", sizes)).parallel
    assert not schedule(nest_of("->", {})).parallel


BIG = {"b": 3, "i": 100, "j": 101, "k": 102, "l": 5}


@pytest.mark.parametrize("equation", ["ij,jk->ik", "bij,bjk->bik", "ji,kj->ki", "ijl,jlk->ik"])
@pytest.mark.parametrize("dtype", sorted(MATMUL_DTYPES))
def test_large_products_of_matrices_are_contractions(equation, dtype):
    chosen = schedule(nest_of(equation, BIG, dtype))
    assert chosen.family == "contraction"
    assert str(chosen).startswith("contraction: ")
    assert chosen.matrix is not None  # matmul stands in
    without = schedule(nest_of(equation, BIG, dtype), engine=False)
    assert without.family == "matmul"
    assert not without.parallel
    assert str(without).startswith("matmul: ")
    assert schedule(nest_of(equation, BIG, dtype), matmul=False, engine=False).family == "nest"


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2"])
def test_matmul_stands_in_for_no_other_dtype(dtype):
    chosen = schedule(nest_of("ij,jk->ik", BIG, dtype))
    assert chosen.family == "contraction"
    assert chosen.matrix is None


@pytest.mark.parametrize(
    ("equation", "sizes", "dtype"),
    [
        ("ij,jk->ik", {"i": 2, "j": 2, "k": 2}, "f8"),  # a call costs more
        ("ij,jk->ik", BIG, "g"),
        ("ij,j->i", BIG, "f8"),
        ("ij,ij->ij", BIG, "f8"),
        ("ij,ij->", BIG, "f8"),
        ("i,k->ik", BIG, "f8"),
        ("ij,jk,kl->il", BIG, "f8"),
        ("ijb,jk->ik", BIG, "f8"),  # b is private to one operand
    ],
)
def test_what_stays_a_nest(equation, sizes, dtype):
    assert schedule(nest_of(equation, sizes, dtype)).family == "nest"


def test_the_cheaper_family_wins():
    nest = nest_of("ij,jk->ik", BIG)
    slow = MACHINE.replace(matmul_flops=1e6)
    assert schedule(nest, engine=False, machine=slow).family == "nest"
    matmul = schedule(nest, engine=False)
    assert matmul.seconds < schedule(nest, matmul=False, engine=False).seconds
    assert schedule(nest).seconds < matmul.seconds


def test_axes_by_role():
    nest = nest_of("bij,bjk->bik", BIG)
    matrix = matrix_axes(nest, roles(nest))
    role = {name: [nest.sizes[a] for a in getattr(matrix, name)] for name in matrix.__slots__}
    assert role == {"batch": [3], "rows": [100], "columns": [102], "sums": [101]}
    for equation in ("ij,ij->ij", "ij,jk->i", "ij,ik->jk"):
        found = roles(nest_of(equation, BIG))
        assert (found is None) == (equation != "ij,ik->jk")


def test_sums_stand_as_the_larger_operand_has_them():
    sizes = {"i": 100, "j": 4, "l": 5, "k": 3}
    nest = nest_of("ijl,ljk->ik", sizes)
    assert [nest.sizes[a] for a in matrix_axes(nest, roles(nest)).sums] == [4, 5]
    nest = nest_of("ijl,ljk->ik", {**sizes, "i": 3, "k": 100})
    assert [nest.sizes[a] for a in matrix_axes(nest, roles(nest)).sums] == [5, 4]


@pytest.mark.parametrize(
    ("row", "sizes", "want"),
    [
        ((40, 8), (3, 5), True),
        ((8, 24), (3, 5), True),
        ((80, 8), (3, 5), True),  # gaps between the rows are fine
        ((80, 16), (3, 5), False),
        ((-40, 8), (3, 5), True),
        ((40, -8), (3, 5), False),
    ],
)
def test_matrices_in_place(row, sizes, want):
    assert as_matrices(row, sizes, ((0,), (1,)), 8) is want


def test_grouped_axes_must_be_one_walk():
    assert as_matrices((120, 40, 8), (2, 3, 5), ((0, 1), (2,)), 8)
    assert not as_matrices((160, 40, 8), (2, 3, 5), ((0, 1), (2,)), 8)
    assert not as_matrices((40, 80, 8), (2, 3, 5), ((0, 1), (2,)), 8)


def test_schedules_are_frozen_data():
    one, two = (schedule(nest_of("ij,jk->ik", BIG)) for _ in range(2))
    assert one == two
    with pytest.raises(AttributeError, match="frozen"):
        one.family = "other"
