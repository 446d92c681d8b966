"""Which calls wake fastein's threads, and on which CPUs these are."""

import os
import sys

import pytest
from helpers import in_a_process

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2,
    reason="/proc, and a CPU for each of two threads",
)

SETUP = """
    import os, time, threading, fastein
    fastein.config(jit="never", num_threads=2)

    def helper():
        [thread] = [t for t in threading.enumerate() if t.name == "fastein"]
        return thread.native_id

    def sleeps(number):
        with open(f"/proc/self/task/{number}/status") as status:
            [line] = [x for x in status if x.startswith("voluntary_ctxt_switches")]
        return int(line.split()[1])

    def woken(x, out, calls=60):
        einsum("ij->i", x, out=out)
        time.sleep(0.05)
        before = sleeps(helper())
        for _ in range(calls):
            time.sleep(0.002)
            einsum("ij->i", x, out=out)
        time.sleep(0.05)
        return sleeps(helper()) - before

    long, out = np.ones((2000, 2000)), np.empty(2000)
    for _ in range(20):  # early calls are not planned, and have one thread
        einsum("ij->i", long, out=out)
"""


def run(code):
    return in_a_process(SETUP + code)


def test_long_calls_wake_a_thread_that_sleeps():
    run("""
    assert woken(long, out) >= 30
    """)


def test_short_calls_leave_it_asleep():
    run("""
    short = np.ones((800, 800), "i1")  # shared, but over in less time than a thread takes to wake
    # unless others have the CPUs just then
    assert min(woken(short, np.empty(800, "i1"), 300) for _ in range(3)) <= 30
    """)


def test_calls_in_a_row_wake_it():
    run("""
    short, sums = np.ones((800, 800), "i1"), np.empty(800, "i1")
    threads = helper()
    time.sleep(0.05)
    before = sleeps(threads)
    for _ in range(300):
        einsum("ij->i", short, out=sums)
    time.sleep(0.05)
    assert sleeps(threads) > before
    """)


def test_it_sleeps_where_its_caller_is_not():
    run("""
    own = os.sched_getaffinity(0)
    for cpu in sorted(own)[:2]:
        os.sched_setaffinity(0, {cpu})
        for _ in range(100):  # a thread that comes too late has not seen where its caller is
            einsum("ij->i", long, out=out)
            time.sleep(0.02)
            if os.sched_getaffinity(helper()) == own - {cpu}:
                break
        else:
            raise AssertionError(os.sched_getaffinity(helper()))
    assert (out == 2000).all()
    """)


def test_whoever_sets_its_cpus_is_heard():
    run("""
    own = os.sched_getaffinity(0)
    for _ in range(100):
        einsum("ij->i", long, out=out)
        time.sleep(0.05)
        left_out = own - os.sched_getaffinity(helper())
        if left_out or len(own) == 1:
            break
    else:
        raise AssertionError("the thread sleeps wherever it likes")
    chosen = left_out or own  # what it would not choose itself
    os.sched_setaffinity(helper(), chosen)
    for _ in range(3):
        einsum("ij->i", long, out=out)
        time.sleep(0.05)
        assert os.sched_getaffinity(helper()) == chosen
    """)
