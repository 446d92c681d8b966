"""Ctrl-C in the midst of a long call."""

import os

import pytest
from helpers import in_a_process

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

PRESS = """
    import signal, time, threading, fastein
    fastein.config(jit={jit!r}, num_threads={threads})
    class Pressed(KeyboardInterrupt):
        pass  # what else comes while Python compiles a module's constants is lost: CPython drops it
    def handler(*_):
        raise Pressed
    signal.signal(signal.SIGALRM, handler)
    {prepare}
    {call}  # compiles
    for delay in (0.03, 0.2):
        {large}
        signal.setitimer(signal.ITIMER_REAL, delay)
        start = time.perf_counter()
        try:
            {call}
        except Pressed:
            late = time.perf_counter() - start - delay
            print(f"{{late:.3f}}")
        else:
            print("over", time.perf_counter() - start)
        {small}
        {check}
"""
CONTRACTION = {
    "prepare": "a = b = np.ones((64, 64))",
    "call": "c = einsum('ij,jk->ik', a, b)",
    "large": "a = b = np.ones((6000, 6000))",
    "small": "a = b = np.ones((64, 64))",
    "check": "assert (einsum('ij,jk->ik', a, b) == 64).all()",
}
STACK = {
    "prepare": "a = b = np.ones((2, 64, 64))",
    "call": "c = einsum('bij,bjk->bik', a, b)",
    "large": "a = b = np.ones((40, 2000, 2000))",
    "small": "a = b = np.ones((2, 64, 64))",
    "check": "assert (einsum('bij,bjk->bik', a, b) == 64).all()",
}
NEST = {
    "prepare": "a = np.ones((30, 20)); b = np.ones((30, 20))",
    "call": "c = einsum('ai,bi,ci->abc', a, a, b, optimize=False)",
    "large": "a = np.ones((900, 20)); b = np.ones((900, 20))",
    "small": "a = np.ones((30, 20)); b = np.ones((30, 20))",
    "check": "assert (einsum('ai,bi,ci->abc', a, a, b) == 20).all()",
}
# Without kernels: NumPy's matmul, and the baseline nest whose outermost loop is a sum.
MATMUL = {
    "jit": "never",
    "prepare": "a = b = np.ones((64, 64))",
    "call": "c = einsum('ij,jk->ik', a, b)",
    "large": "a = b = np.ones((6000, 6000))",
    "small": "a = b = np.ones((64, 64))",
    "check": "assert (einsum('ij,jk->ik', a, b) == 64).all()",
}
SUM = {
    "jit": "never",
    "prepare": "a = np.ones((50, 40, 40), 'i2')",
    "call": "c = einsum('kij,kji->ij', a, a)",
    "large": "a = np.broadcast_to(np.ones((1, 3000, 3000), 'i2'), (2999, 3000, 3000))",
    "small": "a = np.ones((50, 40, 40), 'i2')",
    "check": "assert (einsum('kij,kji->ij', a, a) == 50).all()",
}
CASES = {"contraction": CONTRACTION, "stack": STACK, "nest": NEST, "matmul": MATMUL, "sum": SUM}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_long_call_is_interrupted(case, threads):
    """The handler's exception is raised, not a second late; the next call is right."""
    out = in_a_process(PRESS.format(threads=threads, **{"jit": "always", **case})).split()
    assert len(out) == 2
    assert all(float(late) < 1.0 for late in out), out


def test_long_sums_in_turn():
    """The outermost loop is summed in several shares, one after the other."""
    in_a_process("""
        import fastein
        fastein.config(jit="never")
        a = np.random.default_rng(0).integers(-9, 9, (60, 2000, 2000), np.int8)
        want = (a.astype(np.int16) * a.transpose(0, 2, 1)).sum(0, dtype=np.int16)
        wide = a.astype(np.int16)
        assert np.array_equal(einsum("kij,kji->ij", wide, wide), want)
        half = np.broadcast_to(np.array([2.0**-16, 0], np.float16), (20_000, 10_000, 2))
        assert einsum("ki->", half[:, :, 0]) == 20_000 * 10_000 / 2**16
    """)


def test_a_handler_that_returns_interrupts_nothing():
    in_a_process("""
        import signal, fastein
        fastein.config(jit="always", num_threads=2)
        seen = []
        s = np.ones((50, 50))
        def handler(*_):
            seen.append((einsum("ij,jk->ik", s, s) == 50).all())
        signal.signal(signal.SIGALRM, handler)
        a = np.ones((1500, 1500))
        einsum("ij,jk->ik", s, s)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        assert all((einsum("ij,jk->ik", a, a) == 1500).all() for _ in range(4))
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert seen and all(seen)
    """)


def test_only_the_main_thread_is_interrupted():
    in_a_process("""
        import signal, threading, time, fastein
        fastein.config(jit="always", num_threads=2)
        class Pressed(Exception):
            pass
        def handler(*_):
            raise Pressed
        signal.signal(signal.SIGALRM, handler)
        a, answers, done = np.ones((2500, 2500)), [], threading.Event()
        def work():
            answers.append(einsum("ij,jk->ik", a, a))
            done.set()
        threading.Thread(target=work).start()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            signal.pause()
        except Pressed:
            pass
        assert done.wait(100)
        assert (answers[0] == 2500).all()
    """)


@pytest.mark.parametrize("delay", [0.001, 0.003, 0.005, 0.008, 0.012])
def test_a_first_call_that_is_interrupted_is_taken_up_again(delay):
    in_a_process(f"""
        import signal

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        signal.signal(signal.SIGALRM, stop)
        a, out = np.ones((3, 3)), np.empty((3, 3))
        signal.setitimer(signal.ITIMER_REAL, {delay})  # amid the imports of a first plan
        try:
            einsum("ij,jk,kl->il", a, a, a, out=out)
        except Stop:
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        einsum("ij,jk,kl->il", a, a, a, out=out)
        assert (out == 9).all()
    """)


def test_calls_that_are_known_to_be_short_are_not_looked_after():
    """That has its price where the caller has done something else: 25 us of a call of 0.2 ms."""
    in_a_process("""
        import threading, time, fastein

        fastein.config(jit="never", num_threads=2)
        main_thread, looks = threading.main_thread, []
        a, out = np.ones((800, 800)), np.empty(800)
        for call in range(100):
            if call % 20 == 0:
                asked = []
                looks.append(asked)
            threading.main_thread = lambda: asked.append(call) or main_thread()
            time.sleep(0.002)
            einsum("ij->i", a, out=out)
            threading.main_thread = main_thread
        assert [] in looks  # some calls take long, where others have the CPUs
    """)
