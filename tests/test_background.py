"""Kernels that are built while calls go on without them."""

from __future__ import annotations

import functools
import os
import threading

import pytest
from helpers import in_a_process

import fastein
from fastein.cpu import background, worker
from fastein.cpu.background import Order

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


class Account:
    """What an order tells."""

    def __init__(self):
        self.finished = []
        self.failures = []

    def order(self, *kernels, finish=None):
        def done():
            self.finished.append(threading.current_thread().name)
            if finish is not None:
                finish()

        return Order(kernels, done, self.failures.append, lambda: None)


def note(path):
    """Leave the number of this process in a file."""
    with open(path, "a") as file:
        print(os.getpid(), file=file)


def fail(reason):
    raise ArithmeticError(reason)


@pytest.fixture
def account():
    yield Account()
    assert background.wait(60)


@pytest.fixture
def without_files():
    with fastein.config(cache_dir=None):
        yield


def test_a_worker_builds_and_a_thread_finishes(account, tmp_path):
    note_here = functools.partial(note, str(tmp_path / "who"))
    background.submit(account.order(note_here, note_here))
    assert background.wait(60)
    assert account.finished == ["fastein builder"]
    assert account.failures == []
    who = (tmp_path / "who").read_text().split()
    assert len(who) == 2
    assert who[0] == who[1] != str(os.getpid())


def test_orders_are_served_in_turn(account, without_files):
    turns = []
    for k in range(20):
        background.submit(account.order(finish=functools.partial(turns.append, k)))
    assert background.wait(60)
    assert turns == list(range(20))


def test_the_thread_is_there_only_while_it_is_needed(account, without_files):
    for _ in range(3):
        background.submit(account.order())
        assert background.wait(60)
        for thread in threading.enumerate():
            if thread.name == "fastein builder":
                thread.join(10)
        assert background._thread is None


def test_what_goes_wrong_in_a_worker_is_told(account):
    background.submit(account.order(functools.partial(fail, "no such register")))
    assert background.wait(60)
    assert account.finished == []
    assert "ArithmeticError: no such register" in str(account.failures[0])


def test_what_goes_wrong_at_the_end_is_told(account, without_files):
    background.submit(account.order(finish=functools.partial(fail, "too late")))
    assert background.wait(60)
    assert [str(x) for x in account.failures] == ["too late"]


@pytest.mark.parametrize("executable", [None, "", "/usr/bin/true", "/nowhere/python3"])
def test_without_an_interpreter_the_thread_builds(account, executable, monkeypatch, tmp_path):
    monkeypatch.setattr(background.sys, "executable", executable)
    background.submit(account.order(functools.partial(note, str(tmp_path / "who"))))
    assert background.wait(60)
    assert account.finished == ["fastein builder"]
    assert not (tmp_path / "who").exists()


@pytest.mark.parametrize("command", ["import os; os._exit(3)", "raise SystemExit", "1 / 0"])
def test_a_worker_that_dies_leaves_the_work_to_the_thread(account, command, monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "COMMAND", command)
    background.submit(account.order(functools.partial(note, str(tmp_path / "who"))))
    assert background.wait(60)
    assert account.finished == ["fastein builder"]
    assert account.failures == []


def test_a_worker_that_hangs_is_given_up(account, monkeypatch):
    monkeypatch.setattr(worker, "COMMAND", "import time; time.sleep(600)")
    monkeypatch.setattr(background, "WORKER_SECONDS", 0.1)
    background.submit(account.order())
    assert background.wait(60)
    assert account.finished == ["fastein builder"]


def test_what_cannot_be_pickled_is_built_by_the_thread(account):
    background.submit(account.order(lambda: None))
    assert background.wait(60)
    assert account.finished == ["fastein builder"]


EARN = """
    import os, threading, fastein
    from fastein.cpu import background, tiers
    from fastein.cpu.engine import engine_of
    a = np.random.default_rng(0).random((90, 90))
    want = (a @ a).T
    def earn(seconds=9.0):
        assert np.allclose(einsum("ij,jk->ki", a, a), want)
        engine_of("float64").spend(seconds)
    def right():
        return np.allclose(einsum("ij,jk->ki", a, a), want)
"""


def test_the_interpreter_ends_while_something_is_built(tmp_path):
    """With a worker, and with a thread that compiles."""
    for folder in (str(tmp_path / "cache"), None):
        in_a_process(EARN + f"\n    fastein.config(cache_dir={folder!r}); earn()")


def test_the_interpreter_ends_in_the_midst_of_compiling():
    in_a_process(
        EARN
        + """
    import time
    fastein.config(cache_dir=None)
    earn()
    while "numba" not in sys.modules:
        time.sleep(0.01)
    time.sleep(0.3)
    """
    )


@needs_fork
@pytest.mark.parametrize("folder", ["cache", None])
def test_a_child_builds_for_itself(tmp_path, folder):
    folder = str(tmp_path / folder) if folder else None
    in_a_process(
        EARN
        + f"""
    fastein.config(cache_dir={folder!r})
    earn()
    children = []
    for turn in range(4):
        child = os.fork()
        if child == 0:
            earn()
            ok = right() and background.wait(100) and engine_of("float64").ready and right()
            os._exit(0 if ok else 1)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    assert background.wait(100) and engine_of("float64").ready and right()
    """
    )


def test_workers_do_not_hold_the_pipes_of_their_parents():
    """Whoever reads what this process says is not kept waiting by what it leaves behind."""
    out = in_a_process(
        """
    from fastein.cpu import background, worker
    worker.COMMAND = "import time; time.sleep(30)"
    background.submit(background.Order((), print, print, print))
    while background._thread.is_alive() and "subprocess" not in sys.modules:
        pass
    print("over")
    """,
        timeout=20,
    )
    assert "over" in out
