"""Storms: much at a time, for long, in the worst order.

They run with ``pytest -m slow tests/test_storms.py`` and print what they have counted with ``-s``.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers import in_a_process

pytestmark = pytest.mark.slow
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

CASES = """
    import os, random, sys, threading, time, fastein
    from fastein.testing.corpus import CORPUS, operands
    cases = []
    for case in CORPUS:
        if case.reference != "numpy":
            continue
        arrays = operands(case, dtype="int64" if case.dtype[0] == "f" else None)
        want = np.einsum(case.numpy_equation or case.equation, *arrays)
        cases.append((case.equation, arrays, want))
    rng = np.random.default_rng(0)
    for n, dtype in ((130, "f4"), (260, "f8"), (200, "c16"), (150, "i4")):
        a, b = [rng.integers(-4, 5, (n, n)).astype(dtype) for _ in range(2)]
        cases.append(("ij,jk->ki", [a, b], (a @ b).T))
        cases.append(("ij,ij->j", [a, b], (a * b).sum(0)))

    def right(case):
        equation, arrays, want = case
        return np.array_equal(einsum(equation, *arrays), want)
"""


@pytest.mark.parametrize("jit", ["tiered", "always"])
def test_threads(jit):
    """8 threads, 10,000 mixed calls each, while plans are forgotten and settings change."""
    out = in_a_process(
        CASES
        + f"""
    fastein.config(jit={jit!r}, num_threads=3)
    from fastein.cpu import engine, tiers
    engine.COMPILE_SECONDS = tiers.COMPILE_SECONDS = 1e-3
    sys.setswitchinterval(1e-5)
    wrong, calls = [], []
    def work(seed):
        own = random.Random(seed)
        for turn in range(10_000):
            case = own.choice(cases)
            if not right(case):
                wrong.append(case[0])
            if turn % 1000 == 999:
                fastein.set_num_threads(own.randint(1, 4))
        calls.append(turn + 1)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:9]
    print(sum(calls))
    """,
        timeout=900,
    )
    assert out.split() == ["80000"]


@posix
def test_forks(monkeypatch):
    """100 children, each with a child of its own, of a parent whose threads compute and compile.

    OpenBLAS, with threads of its own, does not survive a fork while another thread is in NumPy's
    matmul: this program hangs with NumPy alone.
    """
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    out = in_a_process(
        CASES
        + """
    fastein.config(num_threads=3)
    from fastein.cpu import engine, tiers
    engine.COMPILE_SECONDS = tiers.COMPILE_SECONDS = 1e-3
    stop = threading.Event()
    def work(seed):
        own = random.Random(seed)
        while not stop.is_set():
            assert right(own.choice(cases))
    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    good = 0
    for turn in range(100):
        child = os.fork()
        if child == 0:
            own = random.Random(turn)
            ok = all(right(own.choice(cases)) for _ in range(5))
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if right(own.choice(cases)) else 1)
            os._exit(0 if ok and os.waitpid(grandchild, 0)[1] == 0 else 1)
        good += os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    print(good)
    """,
        timeout=600,
    )
    assert out.split() == ["100"]


STORE = """
import sys, numpy as np, fastein
fastein.config(jit="always", num_threads=1)
rng = np.random.default_rng(0)
for dtype in sys.argv[1:]:
    a, b = [rng.integers(-4, 5, (70, 70)).astype(dtype) for _ in range(2)]
    assert np.array_equal(fastein.einsum("ij,jk->ki", a, b), (a @ b).T)
    assert np.array_equal(fastein.einsum("ij,ij->j", a, b), (a * b).sum(0).astype(dtype))
"""


@posix
def test_one_cold_store(tmp_path):
    """8 processes at a time fill one store, killed at random, files damaged meanwhile."""
    own, folder = random.Random(0), tmp_path / "cache"
    environment = {**os.environ, "FASTEIN_CACHE_DIR": str(folder)}
    killed = finished = damaged = 0

    def start():
        dtypes = own.sample(["f4", "f8", "c8", "i2", "i8", "u1"], 2)
        return subprocess.Popen([sys.executable, "-c", STORE, *dtypes], env=environment)

    def damage():
        files = list(folder.glob("kernels/*.kernel"))
        if not files:
            return 0
        victim = own.choice(files)
        data = bytearray(victim.read_bytes())
        if not data:
            return 0
        data[own.randrange(len(data))] ^= 1 << own.randrange(8)
        victim.write_bytes(data[: own.choice([len(data), len(data) // 2])])
        return 1

    for _ in range(6):
        processes = [start() for _ in range(8)]
        for process in own.sample(processes, 4):
            time.sleep(own.random())
            process.send_signal(signal.SIGKILL)
            damaged += damage()
        codes = [process.wait(300) for process in processes]
        assert set(codes) <= {0, -signal.SIGKILL}
        finished += codes.count(0)
        killed += codes.count(-signal.SIGKILL)
    last = [start() for _ in range(3)]
    assert [process.wait(300) for process in last] == [0] * 3
    print(f"\n{finished} finished, {killed} killed, {damaged} files damaged")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_of_many_equations():
    """100,000 distinct equations and shapes cost a bounded amount of memory."""
    out = in_a_process(
        """
    import itertools, fastein
    fastein.config(jit="never")
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = itertools.permutations(letters, 4)
    sizes = []
    for turn in range(100_000):
        i, j, k, l = next(names)
        a = np.ones((1 + turn % 7, 2, 1 + turn % 11))
        b = np.ones((2, 1 + turn % 5))
        einsum(f"{i}{j}{k},{j}{l}->{l}{k}{i}", a, b)
        if turn % 20_000 == 19_999:
            sizes.append(resident())
    print(*sizes)
    """,
        timeout=600,
    )
    sizes = [int(size) for size in out.split()]
    print(f"\nresident after each 20,000: {[f'{size / 1e6:.0f} MB' for size in sizes]}")
    assert max(sizes[1:]) - sizes[0] < 20e6


def test_the_suite_with_a_debugging_allocator():
    """Part of the suite with every block of memory surrounded by guards."""
    names = ("runtime", "dispatch", "parser", "hostile_calls")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
        + [os.path.join(os.path.dirname(__file__), f"test_{name}.py") for name in names],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
