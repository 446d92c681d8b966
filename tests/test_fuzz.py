"""Random calls, answered as NumPy answers them; and the fuzzer itself, which must see a fault."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastein
from fastein.cpu import tiers
from fastein.testing.call import Call
from fastein.testing.compare import Verdict
from fastein.testing.fuzz import (
    DIFFERENCES,
    EVERYTHING,
    LONGER,
    REPEATING,
    case,
    compare,
    draw,
    judge,
    run,
)
from fastein.testing.passage import earned_at_once, judge_passage, kernels_in_use
from fastein.testing.values import disagreement

CHUNK = 1000


def check(report):
    assert not report.failures, "\n".join(map(str, report.failures[:20]))
    assert set(report.differences) <= set(DIFFERENCES)


def test_bytes_of_long_doubles_that_mean_nothing():
    """A view has the operand's dtype, whatever `dtype` says."""
    call = Call(([],), (np.array(2 - 3j, "G"),), {"dtype": "e"})
    other = np.array(2 - 3j, "G")
    size = np.dtype("g").itemsize
    if size == 16 and np.finfo("g").nmant == 63:  # of which 80 bits are in use
        np.atleast_1d(other).view("u1")[10:16] = 7
    assert disagreement(call, call.operands[0], other) == (None, None)
    plain = Call(([],), call.operands)
    assert disagreement(plain, plain.operands[0], np.array(2 - 2j, "G"))[0] is not None


@pytest.mark.parametrize("first", range(0, 6000, CHUNK))
@pytest.mark.parametrize("jit", ["tiered", "never"])
def test_random_calls(jit, first):
    with fastein.config(jit=jit):
        check(run(CHUNK, seed=1, first=first))


@pytest.mark.parametrize("first", range(0, 150, 50))
def test_random_calls_compiled_at_once(first):
    with fastein.config(jit="always"):
        check(run(50, seed=2, first=first, profile=REPEATING))


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_any_random_call_compiled_at_once(first):
    with fastein.config(jit="always"):
        check(run(30, seed=3, first=first, profile=EVERYTHING))


def test_random_calls_while_kernels_are_built_for_them():
    with earned_at_once():
        check(run(30, seed=4, profile=LONGER, background=True))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_any_seed(seed):
    report = run(1, seed=seed)
    assert not report.failures, str(report.failures[0])


# The fuzzer itself


@pytest.fixture
def passing(monkeypatch):
    """A call that earns kernels, and an einsum that notes how many are in use."""
    array = np.random.default_rng(0).standard_normal((70, 71))
    call = Call("ij,ij->j", (array, array), {}, (array,))
    seen = []

    def einsum(*args, **kwargs):
        result = fastein.einsum(*args, **kwargs)
        seen.append(kernels_in_use())
        return result

    with earned_at_once():
        yield call, einsum, seen


def test_a_call_passes_from_the_baseline_to_a_kernel(passing):
    call, einsum, seen = passing
    assert judge_passage(call, einsum) == Verdict()
    assert (seen[0], seen[-1]) == (0, 1)
    assert judge_passage(call, einsum) == Verdict()  # from the beginning again
    assert sorted(seen)[0] == 0


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_fault_on_the_way_is_seen(passing, wrong):
    call, einsum, seen = passing

    def spoiled(*args, **kwargs):
        return einsum(*args, **kwargs) + (seen[-1] == wrong)

    assert f" {wrong} kernels in use" in judge_passage(call, spoiled).fault


def test_kernels_that_cannot_be_built_are_a_fault(passing, monkeypatch):
    def fail(self):
        raise ArithmeticError("no such register")

    monkeypatch.setattr(tiers.Tier, "build", fail)
    with pytest.warns(RuntimeWarning, match="no such register"):
        assert judge_passage(passing[0]).fault == "kernels cannot be built"


def test_the_same_number_gives_the_same_call():
    for index in range(200):
        assert str(case(7, index)) == str(case(7, index))


def test_calls_are_varied():
    calls = [draw(random.Random(seed)) for seed in range(2000)]
    assert {len(call.operands) for call in calls} >= {0, 1, 2, 3, 4, 5, 6}
    assert {type(call.subscripts) for call in calls} == {str, bytes, tuple}
    names = {name for call in calls for name in call.kwargs}
    assert names == {"out", "order", "dtype", "casting", "optimize"}
    arrays = [op for call in calls for op in call.operands if isinstance(op, np.ndarray)]
    assert {a.dtype.char for a in arrays} >= set("?bBhHiIqQefdgFDGO")
    assert any(not a.flags.aligned for a in arrays)
    assert any(not a.dtype.isnative for a in arrays)
    assert any(0 in a.shape for a in arrays)
    assert any(min(a.strides, default=0) < 0 for a in arrays)
    assert any(0 in a.strides and a.size > 1 for a in arrays)
    assert any(type(a) is not np.ndarray for a in arrays)


def test_numpy_agrees_with_itself():
    def einsum(*args, optimize=None, **kwargs):
        return np.einsum(*args, **kwargs)

    faults = {failure.fault for failure in run(1000, seed=4, einsum=einsum).failures}
    # What is left is what only fastein accepts: other labels, operands in a list.
    assert all(fault.startswith("raised") for fault in faults)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("seed", "index"), [(5, 2051), (102, 15239)])
def test_where_numpy_sums_one_operand_first(seed, index):
    """An infinity makes NaN or not, with a summed axis that is empty or that one operand lacks."""
    assert compare(case(seed, index)) is None


@pytest.mark.filterwarnings("ignore")
def test_a_sum_is_converted_once():
    call = case(812, 47317)
    assert judge(call).difference == "converted sums"
    assert judge(
        call,
        lambda *args, **kwargs: np.logical_not(fastein.einsum(*args, **kwargs), out=kwargs["out"]),
    ).fault


@pytest.mark.filterwarnings("ignore")
def test_an_empty_sum_must_be_zero():
    call = case(5, 2051)
    assert judge(call).difference == "empty sum"
    assert judge(call, lambda *args: fastein.einsum(*args) + 1).fault


def _copied(result):
    return result.copy("K") if isinstance(result, np.ndarray) else result


def _imprecise(result):
    """Lose the last four bits of what was computed."""
    if isinstance(result, np.ndarray) and result.base is None and result.dtype.kind == "f":
        result *= 1 + 16 * np.finfo(result.dtype).eps
    return result


def _other_layout(result):
    return np.asfortranarray(result) if isinstance(result, np.ndarray) else result


def _not_a_scalar(result):
    return np.asarray(result)


def _finite(result):
    if isinstance(result, np.ndarray) and result.base is None and result.dtype.kind in "fc":
        np.nan_to_num(result, copy=False)
    return result


@pytest.mark.parametrize("spoil", [_copied, _imprecise, _other_layout, _not_a_scalar, _finite])
def test_a_fault_is_seen(spoil):
    def einsum(*args, optimize=None, **kwargs):
        return spoil(np.einsum(*args, **kwargs))

    sound = run(1500, seed=5, einsum=lambda *a, optimize=None, **k: np.einsum(*a, **k))
    spoiled = run(1500, seed=5, einsum=einsum)
    assert len(spoiled.failures) > len(sound.failures) + 3


def test_a_write_beside_out_is_seen():
    def einsum(*args, out=None, optimize=None, **kwargs):
        if out is None:
            return np.einsum(*args, **kwargs)
        result = np.einsum(*args, out=out, **kwargs)
        if out.base is not None and out.base.dtype == out.dtype:
            out.base.flat[0] += 1
        return result

    faults = {failure.fault for failure in run(1000, seed=6, einsum=einsum).failures}
    assert "memory around `out` was modified" in faults


def test_a_modified_operand_is_seen():
    def einsum(*args, optimize=None, **kwargs):
        result = np.einsum(*args, **kwargs)
        last = args[-1]
        if isinstance(last, np.ndarray) and last.flags.writeable and last.dtype.kind == "f":
            last += 1
        return result

    faults = {failure.fault for failure in run(1000, seed=6, einsum=einsum).failures}
    assert "an operand was modified" in faults


@pytest.mark.filterwarnings("ignore")
def test_compare_leaves_memory_as_it_was():
    for index in range(300):
        call = case(8, index)
        before = [buffer.tobytes() for buffer in call.buffers]
        with np.errstate(all="ignore"):
            compare(call)
        assert [buffer.tobytes() for buffer in call.buffers] == before
