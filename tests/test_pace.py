"""Whether calls wake threads, given what they take either way (`fastein.cpu._pace`)."""

import itertools
import random

import pytest

from fastein.cpu._pace import ways

US = 1e-6


def always(alone, woken, calls=5000):
    """The ways of so many calls that all take the same."""
    return ways(alone * US, [(alone * US, woken * US)] * calls)


def woken(taken):
    return sum(taken) / len(taken)


@pytest.mark.parametrize("alone", [60, 100, 300, 900])
def test_the_quicker_way_is_found(alone):
    assert woken(always(alone, 0.7 * alone)[200:]) > 0.98
    assert woken(always(alone, 1.1 * alone)[200:]) < 0.02


@pytest.mark.parametrize(("alone", "other"), [(100, 99), (100, 400), (100, 60), (600, 300)])
def test_trials_are_rare_and_become_rarer(alone, other):
    taken = always(alone, other, 10_000)
    [most] = {False, True} - {taken[-1]} or {True}
    trials = [k for k, way in enumerate(taken) if way == most and k > 8]
    gaps = [b - a for a, b in itertools.pairwise(trials)]
    assert 8 <= len(trials) <= 20
    assert min(gaps) >= 32
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 1000


def test_short_calls_never_wake_threads_and_long_ones_always_do():
    assert not any(always(40, 1))
    assert all(always(2000, 3000))


def test_a_small_gain_starts_nothing():
    assert woken(always(100, 90)) < 0.01


def test_a_thread_that_is_late_in_one_call_of_five_is_left_asleep():
    """It gains at the mean, but the ninth tenth is twice as late."""
    calls = [(100 * US, (400 if k % 5 == 0 else 50) * US) for k in range(5000)]
    taken = ways(100 * US, calls)
    late = [way for way, (_, seconds) in zip(taken, calls, strict=True) if seconds > 100 * US]
    assert woken(late) < 0.1


def test_one_that_is_late_in_one_call_of_fifty_is_woken():
    taken = ways(100 * US, [(100 * US, (400 if k % 50 == 7 else 50) * US) for k in range(5000)])
    assert woken(taken) > 0.8


def test_calls_that_vary_either_way_are_no_reason_to_leave_it():
    random.seed(1)
    times = [(random.uniform(90, 200) * US, random.uniform(60, 150) * US) for _ in range(5000)]
    assert woken(ways(150 * US, times)) > 0.5


def test_what_was_learnt_is_forgotten_when_the_machine_changes():
    quick, slow = [(100 * US, 60 * US)] * 3000, [(100 * US, 160 * US)] * 3000
    taken = ways(100 * US, quick + slow + quick)
    assert woken(taken[200:3000]) > 0.9
    assert woken(taken[3010:6000]) < 0.02
    assert woken(taken[-1500:]) > 0.9


def test_an_estimate_far_off_is_mended():
    assert not any(ways(500 * US, [(40 * US, 90 * US)] * 3000))
    assert not any(ways(3000 * US, [(200 * US, 210 * US)] * 3000)[1:8])
    assert woken(ways(70 * US, [(300 * US, 160 * US)] * 3000)[10:]) > 0.98
