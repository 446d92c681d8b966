"""Running plans: threads, forks, tiers, scratch, any number of operands."""

import threading

import numpy as np
import pytest
from helpers import in_a_process

import fastein
from fastein import config, einsum
from fastein._dispatch import normalised_options, plan_for
from fastein.cpu import background, tiers
from fastein.cpu._runtime import PROMOTE_ITERATIONS
from fastein.cpu.target import CPU
from fastein.plan import Layout

RNG = np.random.default_rng(11)


def executable(equation, *arrays, **keywords):
    layouts = tuple(Layout(x.shape, x.strides, x.dtype) for x in arrays)
    plan = plan_for(equation, layouts, None, normalised_options(**keywords))
    return CPU.executable(plan)


# Threads: work above the threshold from which it is shared (5e5 iterations)

SHARED = [
    # equation, shapes
    ("ij->i", [(1000, 700)]),
    ("ij->i", [(3, 200000)]),
    ("ij->ji", [(900, 800)]),
    ("i,i->i", [(600001,), (600001,)]),
    ("i,j->ij", [(1001,), (701,)]),
    ("aij,aji->a", [(2, 600, 600), (2, 600, 600)]),
    ("aij,aji->a", [(5, 400, 400), (5, 400, 400)]),
    ("ijk,k->ji", [(70, 80, 110), (110,)]),
    ("abij,ij->ab", [(3, 3, 300, 300), (300, 300)]),
    ("ij,jk,k->i", [(90, 80), (80, 90), (90,)]),
]


@pytest.mark.parametrize("dtype", ["f8", "f4", "e", "g", "D", "i4"])
@pytest.mark.parametrize(("equation", "shapes"), SHARED)
def test_shares_give_the_bits_of_one_thread(equation, shapes, dtype):
    arrays = [(RNG.standard_normal(shape) * 9).astype(dtype) for shape in shapes]
    with config(jit="never", num_threads=1):
        want = einsum(equation, *arrays, optimize=False)
    for threads in (2, 3, 7):
        with config(jit="never", num_threads=threads):
            got = einsum(equation, *arrays, optimize=False)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("equation", "shapes"), SHARED[1:6])
def test_shares_of_a_compiled_kernel(equation, shapes):
    arrays = [RNG.standard_normal(shape) for shape in shapes]
    answers = []
    for threads in (1, 2, 3):
        with config(jit="always", num_threads=threads):
            answers.append(einsum(equation, *arrays, optimize=False))
    np.testing.assert_array_equal(answers[1], answers[0])
    np.testing.assert_array_equal(answers[2], answers[0])


def test_threads_are_started_once_and_only_as_asked():
    out = in_a_process("""
        import sys, threading, fastein
        fastein.config(jit="never", num_threads=3)
        x = np.ones((1000, 1000))
        while "fastein.planner" not in sys.modules:  # early calls are not planned: one thread
            einsum("ij->i", x[:100])
        print(threading.active_count())
        for _ in range(5):
            einsum("ij->i", x)
        print(threading.active_count())
        fastein.set_num_threads(2)
        einsum("ij->i", x)
        print(threading.active_count())
    """)
    assert out.split() == ["1", "3", "3"]


def test_the_first_parallel_calls_of_several_threads():
    """Pool threads that several callers start at once may outnumber the shares of the work."""
    in_a_process("""
        import os, threading, fastein
        fastein.config(jit="never", num_threads=2)
        a = np.random.default_rng(0).standard_normal((2, 600, 600))
        want = np.einsum("aij,aji->a", a, a)

        def calls():
            barrier, answers = threading.Barrier(8), []
            def call():
                barrier.wait()
                answers.append(einsum("aij,aji->a", a, a))
            callers = [threading.Thread(target=call) for _ in range(8)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            return all(np.allclose(answer, want) for answer in answers)

        for _ in range(8):
            child = os.fork()  # a child starts its pool anew
            if child == 0:
                os._exit(0 if calls() else 1)
            assert os.waitpid(child, 0)[1] == 0
    """)


def test_a_forked_child_has_threads_of_its_own():
    in_a_process("""
        import os, fastein
        fastein.config(jit="never", num_threads=4)
        x = np.arange(1e6).reshape(1000, 1000)
        want = einsum("ij->i", x)

        def family(generations):
            child = os.fork()
            if child == 0:
                good = all((einsum("ij->i", x) == want).all() for _ in range(3))
                if generations > 1:
                    family(generations - 1)
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0

        family(3)
        assert (einsum("ij->i", x) == want).all()
    """)


def test_a_child_of_a_busy_parent():
    in_a_process("""
        import os, threading, fastein
        fastein.config(jit="never", num_threads=3)
        x = np.arange(1e6).reshape(1000, 1000)
        want, stop = einsum("ij->i", x), threading.Event()

        def work():
            while not stop.is_set():
                einsum("ij->i", x)

        workers = [threading.Thread(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if (einsum("ij->i", x) == want).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for worker in workers:
            worker.join()
    """)


# Tiers


@pytest.fixture
def accounts(monkeypatch):
    """No kernel has earned anything yet, none is advanced, and compiling is counted."""
    compiled = []
    monkeypatch.setattr(tiers, "ADVANCED", 0)
    monkeypatch.setattr(tiers, "_tiers", {})
    monkeypatch.setattr(tiers.Tier, "look", lambda tier: False)
    monkeypatch.setattr(tiers.Tier, "take", lambda tier: compiled.append(tier))
    monkeypatch.setattr(tiers.Tier, "kernels", lambda tier: ())
    return compiled


def only_step(equation, *arrays):
    with config(jit="tiered"):
        (step,) = executable(equation, *arrays).steps
    return step


LARGE = np.ones((PROMOTE_ITERATIONS // 100 + 1, 100))


def test_a_tier_promotes_once_its_seconds_are_spent(accounts):
    tier = only_step("ij->i", LARGE).tier
    for seconds in (0.0, 0.9 * tiers.COMPILE_SECONDS):
        tier.spend(seconds)
        assert background.wait(60)
        assert not tier.ready
    assert accounts == []
    for seconds in (0.2 * tiers.COMPILE_SECONDS, 9.0):
        tier.spend(seconds)
        assert background.wait(60)
        assert tier.ready
    assert accounts == [tier]


@pytest.mark.parametrize("cores", [1, 2])
def test_the_first_kernels_are_advanced_where_there_is_a_core_for_that(
    accounts, monkeypatch, cores
):
    monkeypatch.setattr(tiers, "ADVANCED", tiers._advanced + 1)
    monkeypatch.setattr(tiers, "_advanced", tiers._advanced)
    monkeypatch.setattr(tiers, "_has_idle_core", lambda: cores > 1)
    ordered = [only_step(equation, LARGE).tier for equation in ("ij->i", "ij->j")]
    for tier in ordered:
        for share in (0.9, 0.2):
            assert not tier.ready
            tier.spend(share * tiers.ADVANCE * tiers.COMPILE_SECONDS)
            assert background.wait(60)
    assert [tier.ready for tier in ordered] == [cores > 1, False]


def test_what_stands_in_leaves_a_core_to_the_compiler(accounts, monkeypatch):
    orders = []
    monkeypatch.setattr(background, "submit", orders.append)
    tier = only_step("ij->i", LARGE).tier
    with config(num_threads=3):
        assert tier.threads() == 3
        tier.spend(tiers.COMPILE_SECONDS)
        assert tier.threads() == 2
        for settle in (orders[0].forget, orders[0].finish):
            settle()
            assert tier.threads() == 3
    with config(num_threads=1):
        other = only_step("ij->j", LARGE).tier
        other.spend(tiers.COMPILE_SECONDS)
        assert other.threads() == 1
        orders[1].fail(OSError("no more"))
        with pytest.warns(RuntimeWarning, match="no more"):
            other.spend(0.0)
        assert not other.is_awaited


def test_a_call_that_is_long_enough_waits_for_its_kernel(accounts):
    tier = only_step("ij->i", LARGE).tier
    tier.spare(tiers.COMPILE_SECONDS)
    assert not tier.ready
    tier.spare(2 * tiers.COMPILE_SECONDS)
    assert tier.ready
    assert accounts == [tier]


def test_a_stored_kernel_is_found_long_before_one_is_compiled(monkeypatch):
    monkeypatch.setattr(tiers, "_tiers", {})
    with config(jit="always"):
        executable("ij->j", LARGE)  # compiles it
    tiers._tiers.clear()
    tier = only_step("ij->j", LARGE).tier
    for seconds in (0.0, 0.5 * tiers.LOOK_SECONDS):
        tier.spare(seconds)
        assert not tier.ready
    tier.spend(tiers.LOOK_SECONDS)
    tier.spare(0.0)
    assert tier.ready


def test_plans_of_one_kind_share_an_account(accounts):
    tier = only_step("ij->i", LARGE).tier
    assert only_step("xy->x", np.ones((300, 200))).tier is tier
    assert only_step("xy->y", LARGE).tier is not tier
    assert only_step("ij->i", LARGE.astype("f4")).tier is not tier


def test_small_work_and_other_modes_have_no_account(accounts):
    assert only_step("ij->i", LARGE[:3]).tier is None
    assert only_step("ij->i", LARGE.astype("g")).tier is None
    with config(jit="never"):
        (step,) = executable("ij->i", LARGE).steps
    assert step.tier is None
    assert step.kernel is None


def test_a_promoted_step_runs_its_kernel(monkeypatch):
    monkeypatch.setattr(tiers, "_tiers", {})
    x = RNG.integers(0, 99, (300, 200))
    with config(jit="tiered"):
        run = executable("ij->j", x)
        (step,) = run.steps
        want = run(x)
        assert step.kernel is None
        step.tier.spend(2 * tiers.COMPILE_SECONDS)
        assert background.wait(60)
        assert step.kernel is None
        np.testing.assert_array_equal(run(x), want)  # this call is promoted
        assert step.kernel is step.tier.kernel is not None
        np.testing.assert_array_equal(run(x), want)
    np.testing.assert_array_equal(want, x.sum(0))


# Operands and memory


@pytest.mark.parametrize("jit", ["never", "tiered", "always"])
@pytest.mark.parametrize("count", [11, 12, 13, 31, 33, 70])
def test_many_operands(count, jit):
    operands = list(RNG.integers(-2, 3, (count, 4)))
    term = ",".join("i" * count)
    want = np.prod(operands, axis=0)
    with config(jit=jit):
        for optimize in (False, "auto"):
            np.testing.assert_array_equal(einsum(f"{term}->i", *operands, optimize=optimize), want)
            assert einsum(f"{term}->", *operands, optimize=optimize) == want.sum()
        wide = [np.broadcast_to(x, (300, 4)) for x in operands]
        got = einsum(",".join(["ji"] * count) + "->ji", *wide, optimize=False)
        np.testing.assert_array_equal(got, np.broadcast_to(want, (300, 4)))


def test_scratch_too_big_for_memory_is_a_memory_error():
    far = np.broadcast_to(np.ones(1), 2**29)
    with pytest.raises(MemoryError, match="intermediates"):
        einsum("i,j,ij->", far, far, np.ones((1, 1)), optimize=[(0, 1), (0, 1)])


def test_an_executable_is_called_without_checks():
    x, y = RNG.standard_normal((2, 5, 5))
    run = executable("ij,jk->ik", x, y)
    np.testing.assert_allclose(run(x, y), x @ y)
    out = np.empty((5, 5))
    assert run(x, y, out=out) is out
    assert np.shares_memory(executable("ij->ji", x)(x), x)
    assert type(executable("ij,ij->", x, y)(x, y)) is np.float64


def test_results_of_steps_through_numpy_have_no_warnings():
    x = np.full((3, 3), 1e308)
    with np.errstate(all="raise"):
        assert np.isinf(einsum("ij,jk->ik", x, x)).all()
        assert np.isinf(einsum("ij->i", x, dtype="f4", casting="same_kind")).all()


def test_threads_limit_is_read_at_every_call():
    before = fastein.get_num_threads()
    x = np.ones((1000, 1000))
    for threads in (1, 2, 5):
        with config(num_threads=threads, jit="never"):
            np.testing.assert_array_equal(einsum("ij->i", x), [1000] * 1000)
    assert fastein.get_num_threads() == before
    assert sum(t.name == "fastein" for t in threading.enumerate()) < 20


def test_a_signal_does_not_leave_threads_behind():
    """A handler may raise anything; nobody writes to the result once the call is over."""
    in_a_process("""
        import signal, fastein
        fastein.config(num_threads=2, jit="never")

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        signal.signal(signal.SIGALRM, stop)
        a = np.ones((3000, 3000))
        einsum("ij,ij,ij->ji", a, a, a, out=a.copy())  # for what a first call imports
        for turn in range(12):
            out = np.zeros((3000, 3000))
            signal.setitimer(signal.ITIMER_REAL, 0.004 * (turn + 1), 0.002)
            try:
                einsum("ij,ij,ij->ji", a, a, a, out=out)
            except Stop:
                pass
            finally:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Stop:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            seen = np.count_nonzero(out)
            assert all(np.count_nonzero(out) == seen for _ in range(20))
    """)


def test_a_compiler_that_fails_costs_a_warning(accounts, monkeypatch):
    def fail(tier):
        raise ImportError("no compiler here")

    monkeypatch.setattr(tiers.Tier, "take", fail)
    tier = only_step("ij->i", LARGE).tier
    tier.spend(9.0)
    assert background.wait(60)
    with pytest.warns(RuntimeWarning, match=r"no compiler here.*report"):
        tier.spend(9.0)
    tier.spend(9.0)  # and no second one
    assert not tier.ready


def test_the_number_of_kernels_is_bounded(accounts, monkeypatch):
    monkeypatch.setattr(tiers, "MOST_KERNELS", 2)
    steps = [only_step(equation, LARGE) for equation in ("ij->i", "ij->j", "ij->", "ij->i")]
    assert [step.tier is None for step in steps] == [False, False, True, False]
    assert steps[0].tier is steps[3].tier


def test_a_new_shape_runs_the_kernel_of_its_kind(monkeypatch):
    monkeypatch.setattr(tiers, "_tiers", {})
    with config(jit="tiered"):
        tier = only_step("ij->j", LARGE).tier
        tier.spend(2 * tiers.COMPILE_SECONDS)
        assert background.wait(60)
        other = np.ones((300, 100))
        run = executable("ij->j", other)
        for _ in range(2):
            run(other)
        assert run.steps[0].kernel is tier.kernel is not None


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,ij->j"])
def test_without_a_compiler_everything_is_answered_with_one_warning(equation):
    in_a_process(f"""
        import warnings, fastein
        sys.modules["numba"] = None
        fastein.config(jit="always", cache_dir=None)
        a = np.arange(90 * 90.0).reshape(90, 90)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                assert np.allclose(einsum({equation!r}, a, a), np.einsum({equation!r}, a, a))
        assert [str(x.message).count("report") for x in caught] == [1], caught
        fastein.config(jit="tiered")
        for _ in range(3):
            assert np.allclose(einsum({equation!r}, a, a), np.einsum({equation!r}, a, a))
    """)
