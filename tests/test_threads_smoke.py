"""Many Python threads calling at once get the answers that one thread gets."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastein
from fastein.testing.corpus import CORPUS, operands
from fastein.testing.fuzz import run

THREADS = 8
CASES = [case for case in CORPUS if case.reference != "error"]


@pytest.fixture(params=["never", "tiered"], autouse=True)
def jit(request):
    with fastein.config(jit=request.param):
        yield request.param


def together(work):
    """Run ``work(n)`` in every thread, all started at once; raise what any of them raises."""
    barrier = threading.Barrier(THREADS)

    def start(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


def test_mixed_calls():
    calls = [(case.equation, operands(case)) for case in CASES]
    wanted = [fastein.einsum(equation, *arrays) for equation, arrays in calls]

    def work(number):
        for turn in range(3):
            for position in range(len(calls)):
                at = (position * (number + 1) + turn) % len(calls)
                equation, arrays = calls[at]
                answer = fastein.einsum(equation, *arrays)
                np.testing.assert_allclose(
                    answer, wanted[at], rtol=1e-4, atol=1e-5, err_msg=equation
                )
        return True

    assert all(together(work))


def test_one_equation_new_to_all():
    rng = np.random.default_rng(0)
    for size in range(2, 40):
        a, b = rng.standard_normal((2, size, size))
        for answer in together(lambda _, a=a, b=b: fastein.einsum("xy,yz->zx", a, b)):
            np.testing.assert_allclose(answer, (a @ b).T, rtol=1e-12, atol=1e-12)


def test_large_calls_in_every_thread():
    a = np.random.default_rng(1).standard_normal((256, 256))
    want = a @ a
    for answer in together(lambda _: fastein.einsum("ij,jk->ik", a, a)):
        np.testing.assert_allclose(answer, want, rtol=1e-10, atol=1e-10)


def test_out_of_each_thread_is_its_own():
    a = np.arange(12.0).reshape(3, 4)

    def work(number):
        out = np.empty((4, 4))
        for _ in range(200):
            out.fill(np.nan)
            fastein.einsum("ij,ik->jk", a * number, a, out=out)
            np.testing.assert_array_equal(out, number * (a.T @ a))
        return True

    assert all(together(work))


def test_errors_in_every_thread():
    def work(number):
        for _ in range(200):
            with pytest.raises(fastein.EinsumError):
                fastein.einsum("ij,jk->ik", np.ones((2, number + 3)), np.ones((2, 2)))
        return True

    assert all(together(work))


@pytest.mark.filterwarnings("ignore")
def test_settings_change_while_others_call():
    a = np.arange(16.0).reshape(4, 4)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for jit in ("never", "tiered"):
                with fastein.config(jit=jit):
                    pass

    changer = threading.Thread(target=change)
    changer.start()
    try:
        together(lambda _: [fastein.einsum("ij,jk->ik", a, a) for _ in range(500)])
    finally:
        stop.set()
        changer.join()


@pytest.mark.filterwarnings("ignore")
def test_random_calls():
    # The fuzzer silences warnings and errors per process, so it compares before the threads start.
    assert not run(200, seed=9).failures

    def work(number):
        with np.errstate(all="ignore"):
            return run(100, seed=9 + number).failures

    assert [failure for failures in together(work) for failure in failures] == []


REENTRANT = """
import threading
import numpy as np
import fastein

a = np.ones((400, 400))
calls = []

class Thread(threading.Thread):
    def start(self):
        if len(calls) < 3:  # as a signal handler or a finaliser might that runs now
            calls.append(self)
            assert (fastein.einsum("ij,jk->ik", a, a) == 400).all()
        super().start()

threading.Thread = Thread
with fastein.config(jit="always", num_threads=3):
    assert (fastein.einsum("ij,jk->ik", a, a) == 400).all()
    assert (fastein.einsum("ij,jk->ik", a, a) == 400).all()
print(len(calls))
"""


def test_a_call_while_threads_are_started():
    command = [sys.executable, "-c", REENTRANT]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0
