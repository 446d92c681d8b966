"""Contraction paths: what may be asked for, and what each step takes and leaves."""

import itertools

import opt_einsum
import pytest

from fastein import EinsumError
from fastein.path import (
    SMALL_WORK,
    IncompletePathError,
    UnknownOptimizeError,
    contraction_path,
    loop_cost,
    path_cost,
    walk,
)

CHAIN = ((0, 1), (1, 2), (2, 3), (3, 4))  # 'ij,jk,kl,lm->im'
ENDS = (0, 4)
SIZES = (100, 2, 100, 3, 100)
ONE_STEP = ((0, 1, 2, 3),)


def is_complete(path, count):
    left = count
    for step in path:
        assert len(set(step)) == len(step)
        assert all(0 <= p < left for p in step)
        left -= len(step) - 1
    return left == 1


@pytest.mark.parametrize("optimize", [False, None])
def test_no_order_asked_for(optimize):
    assert contraction_path(CHAIN, ENDS, SIZES, optimize) == ONE_STEP


STRATEGIES = ["auto", True, "greedy", "optimal", "dp", "eager", "branch-2", "auto-hq"]


@pytest.mark.parametrize("optimize", [*STRATEGIES, ("greedy", 1e30), ("optimal", 10**6)])
def test_every_strategy_gives_a_cheaper_complete_path(optimize):
    path = contraction_path(CHAIN, ENDS, SIZES, optimize)
    assert is_complete(path, 4)
    assert path_cost(CHAIN, ENDS, SIZES, path) < loop_cost(CHAIN, ENDS, SIZES)


def test_any_path_function_of_opt_einsum():
    for finder in (opt_einsum.paths.greedy, opt_einsum.DynamicProgramming()):
        assert is_complete(contraction_path(CHAIN, ENDS, SIZES, finder), 4)
    assert contraction_path(CHAIN, ENDS, SIZES, lambda *_: [(2, 0, 3, 1)]) == ONE_STEP


def test_auto_never_costs_more_than_one_nest():
    hadamard = ((0, 1), (0, 1), (0, 1))
    assert contraction_path(hadamard, (0, 1), (500, 500)) == ((0, 1, 2),)


def test_auto_leaves_small_work_in_one_nest():
    small = (8, 8, 8, 4, 2)
    assert loop_cost(CHAIN, ENDS, small) <= SMALL_WORK * 4
    assert contraction_path(CHAIN, ENDS, small, "auto") == ONE_STEP
    assert len(contraction_path(CHAIN, ENDS, small, "optimal")) == 3


@pytest.mark.parametrize("optimize", ["auto", "greedy", "optimal", "dp", True])
def test_one_or_two_operands_need_no_search(optimize):
    assert contraction_path(((0,),), (), (3,), optimize) == ((0,),)
    assert contraction_path(CHAIN[:2], (0, 2), SIZES, optimize) == ((0, 1),)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_unknown_name_lists_the_known_ones(count):
    with pytest.raises(UnknownOptimizeError, match=r"'best'.*auto.*optimal") as caught:
        contraction_path(CHAIN[:count], (), SIZES, "best")
    assert isinstance(caught.value, EinsumError | KeyError)
    assert not str(caught.value).startswith('"')  # KeyError would quote it


@pytest.mark.parametrize("optimize", ["greedy", "optimal", "branch-all"])
def test_the_memory_limit_bounds_intermediates(optimize):
    ring, sizes = ((0, 1), (1, 2), (2, 3), (3, 0)), (10,) * 4
    assert len(contraction_path(ring, (), sizes, optimize, 100)) == 3
    assert contraction_path(ring, (), sizes, optimize, 99) == ONE_STEP
    assert contraction_path(ring, (), sizes, (optimize, 99)) == ONE_STEP


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ([(0, 1), (0, 1), (0, 1)], ((0, 1), (0, 1), (0, 1))),
        (["einsum_path", (3, 0), (0, 1, 2)], ((3, 0), (0, 1, 2))),
        (((0, 1, 2, 3),), ONE_STEP),
        ([[1, 2], [0, 1], [0, 1]], ((1, 2), (0, 1), (0, 1))),
        ([(2,), (0, 1, 2, 3)], ((2,), (0, 1, 2, 3))),
    ],
)
def test_an_explicit_path_is_taken_as_it_is(path, want):
    assert contraction_path(CHAIN, ENDS, SIZES, path) == want


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ([(0, 1)], IncompletePathError, "leaves 3 operands"),
        ([], IncompletePathError, "leaves 4"),
        ([(0, 4)], EinsumError, "4 operands are left"),
        ([(0, 1), (0, 3)], EinsumError, "step 1 .* 3 operands are left"),
        ([(0, 0)], EinsumError, "step 0"),
        ([(-9, 0)], EinsumError, "step 0"),
        ([(0, 1.0)], EinsumError, "step 0"),
        ([0, 1], TypeError, "list of tuples"),
        ([()], TypeError, "list of tuples"),
        (["greedy", (0, 1)], TypeError, "memory limit"),
        (3, TypeError, "optimize must be"),
        ({}, TypeError, "optimize must be"),
        (("greedy", "big"), TypeError, "memory limit"),
        (("greedy", float("nan")), EinsumError, "memory limit"),
        (("greedy", float("-inf")), EinsumError, "memory limit"),
    ],
)
def test_what_is_no_path_is_refused(path, error, says):
    with pytest.raises(error, match=says):
        contraction_path(CHAIN, ENDS, SIZES, path)


def test_an_incomplete_path_is_a_runtime_error_as_in_numpy():
    assert issubclass(IncompletePathError, RuntimeError)


def test_costs_count_every_operation():
    assert loop_cost(((0, 1), (1, 2)), (0, 2), (2, 3, 5)) == 2 * 30
    assert loop_cost(((), ()), (), ()) == 2
    assert loop_cost(((0, 0),), (0,), (7,)) == 7
    pairs = ((0, 1), (0, 1), (0, 1))
    assert path_cost(CHAIN, ENDS, (2, 3, 4, 5, 6), pairs) == sum(
        loop_cost(inputs, kept, (2, 3, 4, 5, 6)) for _, inputs, kept in walk(CHAIN, ENDS, pairs)
    )


def test_walk_keeps_what_is_still_needed_in_the_operands_order():
    steps = walk(CHAIN, ENDS, ((1, 2), (0, 2), (0, 1)))
    assert steps == [
        ((1, 2), ((1, 2), (2, 3)), (1, 3)),
        ((0, 2), ((0, 1), (1, 3)), (0, 3)),
        ((0, 1), ((3, 4), (0, 3)), ENDS),
    ]


def test_walk_keeps_labels_of_the_output_and_drops_repeats():
    assert walk(((0, 0), (0, 1), (1,)), (0,), ((0, 1), (0, 1))) == [
        ((0, 1), ((0, 0), (0, 1)), (0, 1)),
        ((0, 1), ((1,), (0, 1)), (0,)),
    ]


def test_walk_is_right_for_every_path_of_three():
    terms, output = ((0, 1), (1, 2, 3), (3, 3)), (2, 0)
    for first in itertools.permutations(range(3), 2):
        (_, taken, kept), (_, last, final) = walk(terms, output, (first, (0, 1)))
        other = terms[3 - sum(first)]
        assert last == (other, kept)
        assert set(kept) == {x for t in taken for x in t} & {*other, *output}
        assert final == output
