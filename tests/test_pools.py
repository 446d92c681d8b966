"""Pools of processes and threads, nested calls, and threads and interpreters that end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import in_a_process

needs_tasks = pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")

# A program in a file, as spawning wants it; the parent has used all of fastein before.
PROGRAM = """
import sys
import numpy as np
import fastein
from fastein import einsum

rng = np.random.default_rng(0)
A, B = rng.integers(-4, 5, (2, 150, 150)).astype("f8")
CALLS = [("ij,jk->ki", A, B), ("ij,ij->j", A, B), ("ij->ji", A), ("ij,jk,kl->il", A, B, A)] * 6
WANT = [np.einsum(*call, optimize=True) for call in CALLS]


def called():
    return [einsum(*call) for call in CALLS]


def right(answers):
    answers = list(answers)
    assert len(answers) == len(WANT)
    return all(map(np.array_equal, answers, WANT))


if __name__ == "__main__":
    fastein.config(num_threads=2)
    from fastein.cpu.engine import engine_of

    engine_of("float64").build()
    assert right(called())
"""


@pytest.fixture
def program(tmp_path):
    """Run a program that goes on as told, and return what it prints."""

    def run(code):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM + "\n".join("    " + line for line in code.splitlines()) + "\n")
        done = subprocess.run(
            [sys.executable, path], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run


METHODS = ["fork", "spawn", "forkserver"] if os.name == "posix" else ["spawn"]


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_processes(program, method):
    program(f"""
import multiprocessing
with multiprocessing.get_context({method!r}).Pool(3) as pool:
    assert right(pool.starmap(einsum, CALLS, chunksize=2))
    assert right(called())
    assert right(pool.starmap(einsum, CALLS, chunksize=2))
""")


@pytest.mark.parametrize("method", METHODS)
def test_an_executor_of_processes(program, method):
    program(f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, multiprocessing.get_context({method!r})) as pool:
    assert right(future.result() for future in [pool.submit(einsum, *call) for call in CALLS])
""")


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(program, backend):
    pytest.importorskip("joblib")
    program(f"""
from joblib import Parallel, delayed
for _ in range(2):
    assert right(Parallel(n_jobs=3, backend={backend!r})(delayed(einsum)(*x) for x in CALLS))
    assert right(called())
""")


def test_loky_bounds_the_threads_of_its_processes(program):
    pytest.importorskip("joblib")
    out = program("""
from joblib import Parallel, delayed, parallel_config
with parallel_config(backend="loky", inner_max_num_threads=1):
    print(*Parallel(n_jobs=2)(delayed(fastein.get_num_threads)() for _ in range(4)))
""")
    assert out.split() == ["1"] * 4


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_dask(program, scheduler):
    pytest.importorskip("dask")
    program(f"""
import dask
answers = dask.compute(*[dask.delayed(einsum)(*x) for x in CALLS], scheduler={scheduler!r})
assert right(answers)
""")


def test_threads_of_pools_that_call_pools(program):
    """A call inside a worker's thread, inside another one's, and pools that come and go."""
    program("""
from concurrent.futures import ThreadPoolExecutor
def nested(depth):
    if depth == 0:
        return right(called())
    with ThreadPoolExecutor(2) as pool:
        return all(pool.map(nested, [depth - 1] * 2))
for _ in range(3):
    assert nested(3)
""")


@needs_tasks
def test_threads_that_call_leave_nothing_behind(program):
    program("""
import os, threading, time
fastein.config(jit="never")  # the thread that has kernels built waits for further orders
def tasks():
    return len(os.listdir("/proc/self/task"))
def work():
    assert right(called())
before = tasks()
for _ in range(100):
    threads = [threading.Thread(target=work) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
end = time.monotonic() + 10  # a thread that was joined may still be on its way out of the system
while tasks() > before and time.monotonic() < end:
    time.sleep(0.01)
assert tasks() <= before, (before, tasks())
""")


@needs_tasks
def test_as_many_callers_as_threads_keep_no_others_busy(program):
    """Four threads that call, each of which may use four, do nearly all of the work themselves."""
    out = program("""
import os, threading, time
fastein.config(num_threads=4)
def seconds(task):
    with open(f"/proc/self/task/{task}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
x = np.ones((700, 700))
callers, end = [], time.monotonic() + 3
def work():
    callers.append(str(threading.get_native_id()))
    while time.monotonic() < end:
        einsum("ij,jk->ki", x, x)
    spent.append(seconds(callers[0]))
einsum("ij,jk->ki", x, x)
spent = []
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
time.sleep(2.5)
tasks = {task: seconds(task) for task in os.listdir("/proc/self/task")}
[thread.join() for thread in threads]
own = sum(tasks[task] for task in callers)
helpers = [t.native_id for t in threading.enumerate() if t.name == "fastein"]
print(sum(tasks[str(task)] for task in helpers) / own, len(helpers))
""")
    share, helpers = out.split()
    assert int(helpers) == 3
    assert float(share) < 0.3


# The end


ENDS = {
    "threads that call": """
for _ in range(4):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.3)
""",
    "a long call of another thread": """
x = np.ones((3000, 3000))
threading.Thread(target=einsum, args=("ij,jk->ki", x, x), daemon=True).start()
time.sleep(0.2)
""",
    "a call at the end": """
import atexit
atexit.register(lambda: print("right" if right(called()) else "wrong"))
""",
    "a call of a finaliser": """
class Last:
    einsum, x = staticmethod(einsum), np.ones((300, 300))
    def __del__(self):
        assert self.einsum("ij,jk->ki", self.x, self.x)[0, 0] == 300
sys.last = Last()
loop = [Last()]
loop.append(loop)
""",
    "an exit in a thread": """
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.1)
threading.Thread(target=sys.exit).start()
""",
    "a sudden exit": """
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.1)
os._exit(0)
""",
}


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_ends_with_work_in_flight(program, how):
    program(f"""
import os, threading, time
def forever():
    while True:
        called()
{ENDS[how]}
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_thread_that_calls(program):
    program("""
import os, threading
codes = []
def work():
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0 if right(called()) else 1)
        codes.append(os.waitpid(child, 0)[1])
        assert right(called())
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert codes == [0] * 15
""")


def test_results_do_not_depend_on_who_calls():
    """The same bits from a pool's threads, however many of them call at a time."""
    in_a_process("""
        from concurrent.futures import ThreadPoolExecutor
        import fastein
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((2, 400, 400))
        calls = [("ij,jk->ki", a, b), ("ij,ij->", a, b), ("ij->j", a)] * 8
        fastein.config(num_threads=3, jit="always")
        want = [einsum(*call) for call in calls]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                got = pool.map(lambda call: einsum(*call), calls)
                assert all(map(np.array_equal, got, want))
    """)
