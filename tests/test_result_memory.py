"""Memory of large results: when it is used again, and that it never is while anybody reads it."""

import ctypes
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import in_a_process

from fastein import config, einsum
from fastein.cpu._result_memory import LARGE_FROM, POOLED_FROM, handler, idle

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is recycled here")

BOUND = 16 * POOLED_FROM
ROW = 1024  # float64 elements: one row has 8 KiB
ROWS = POOLED_FROM // ROW // 8


@pytest.fixture(autouse=True)
def pool():
    """An empty pool, before and after."""
    with config(buffer_pool=0):
        pass
    with config(buffer_pool=BOUND):
        assert idle() == (0, 0)
        yield
        config(buffer_pool=0)


def result(value=1.0, rows=ROWS):
    return einsum("i,j->ij", np.full(rows, float(value)), np.ones(ROW))


def address(array):
    return array.ctypes.data


# What is recycled


def test_a_dead_result_leaves_its_memory_to_the_next_one():
    first = result(1)
    where = address(first)
    assert idle() == (0, 0)
    del first
    assert idle() == (1, POOLED_FROM)
    second = result(2)
    assert address(second) == where
    assert idle() == (0, 0)
    assert (second == 2).all()


def test_results_own_their_memory():
    array = result()
    assert array.base is None
    assert array.flags.owndata
    assert array.flags.writeable


@pytest.mark.parametrize("nbytes", [LARGE_FROM, LARGE_FROM + 8, POOLED_FROM - 8, POOLED_FROM + 8])
def test_large_results_are_aligned(nbytes):
    for _ in range(3):
        array = einsum("i,j->ji", np.ones(1), np.arange(nbytes / 8))
        assert address(array) % 64 == 0
        np.testing.assert_array_equal(array[:, 0], np.arange(nbytes // 8))


@pytest.mark.parametrize("dtype", ["?", "i2", "f4", "D", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_dtype_and_layout(dtype, order):
    rows = 1 + POOLED_FROM // ROW // np.dtype(dtype).itemsize
    x, y = np.arange(rows).astype(dtype), np.arange(ROW).astype(dtype)
    for _ in range(2):
        got = einsum("i,j->ij", x, y, order=order)
        assert got.flags[f"{order}_CONTIGUOUS"]
        np.testing.assert_array_equal(got[-3:], np.multiply.outer(x[-3:], y))


def test_intermediates_are_recycled_too():
    a = np.ones((ROWS, 2))
    b = np.ones((2, ROW))
    einsum("ik,kj,jl->il", a, b, np.ones((ROW, 1)), optimize=[(0, 1), (0, 1)])
    assert idle()[0] == 1


def test_small_results_stay_with_numpy():
    arrays = [np.ones((4, 4)) for _ in range(3)] + [result(rows=ROWS // 2)]
    del arrays
    assert idle() == (0, 0)


@pytest.mark.parametrize(
    ("rows", "is_reused"), [(8, True), (7, True), (6, True), (5, False), (9, False)]
)
def test_a_block_is_reused_when_little_of_it_is_wasted(rows, is_reused):
    first = result(rows=8 * ROWS)
    where = address(first)
    del first
    second = result(rows=rows * ROWS)
    assert (address(second) == where) == is_reused
    assert idle()[0] == (0 if is_reused else 1)


def test_the_tightest_block_is_taken():
    kept = [result(rows=rows * ROWS) for rows in (4, 3, 4)]
    tightest = address(kept[1])
    kept.clear()
    assert address(result(rows=3 * ROWS)) == tightest


# The bound


def test_the_oldest_blocks_go_first():
    kept = [result(rows=rows * ROWS) for rows in (2, 3, 4)]
    config(buffer_pool=7 * POOLED_FROM)
    while kept:
        del kept[0]
    assert idle() == (2, 7 * POOLED_FROM)
    kept = result(rows=5 * ROWS)
    del kept
    assert idle() == (1, 5 * POOLED_FROM)


def test_lowering_the_bound_gives_memory_back():
    kept = [result() for _ in range(3)]
    kept.clear()
    assert idle()[0] == 3
    with config(buffer_pool=2 * POOLED_FROM):
        assert idle()[0] == 2
    with config(buffer_pool=2 * POOLED_FROM - 1):
        assert idle()[0] == 1
    with config(buffer_pool=0):
        assert idle() == (0, 0)


def test_a_result_beyond_the_bound_is_not_kept():
    config(buffer_pool=2 * POOLED_FROM)
    small = result()
    del small
    large = result(rows=3 * ROWS)
    del large
    assert idle() == (1, POOLED_FROM)


def test_switched_off():
    before = result(3)
    config(buffer_pool=0)
    after = result(4)
    assert after.flags.owndata
    assert (before == 3).all()
    del before, after
    assert idle() == (0, 0)
    einsum("ik,kj,jl->il", *map(np.ones, [(ROWS, 2), (2, ROW), (ROW, 1)]), optimize="greedy")
    assert idle() == (0, 0)


# Nothing is handed out while it is in use


VIEWS = {
    "slice": lambda x: x[3:7, ::2],
    "transpose": lambda x: x.T,
    "flat view": lambda x: x.reshape(-1),
    "other dtype": lambda x: x.view("i8"),
    "row of a row": lambda x: x[1][5:],
    "memoryview": memoryview,
    "of a memoryview": lambda x: np.asarray(memoryview(x)[2:]),
    "frombuffer": lambda x: np.frombuffer(x),
    "flat iterator": lambda x: x.flat,
    "einsum's": lambda x: einsum("ij->ji", x),
    "subclass": lambda x: x.view(np.matrix),
    "out of band": lambda x: pickle.PickleBuffer(x),
}


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_keeps_the_memory(name):
    array = result(7)
    view = VIEWS[name](array)
    want = bytes(np.asarray(view)) if name != "flat iterator" else None
    del array
    assert idle() == (0, 0)
    others = [result(8) for _ in range(3)]
    if want is None:
        assert view[5] == 7
    else:
        assert not any(np.shares_memory(np.asarray(view), other) for other in others)
        assert bytes(np.asarray(view)) == want
    del view
    assert idle()[0] == 1


def test_results_alive_together_share_nothing():
    kept = [result(k) for k in range(6)]
    kept[2:4] = []
    kept += [result(k) for k in range(6, 10)]
    for k, first in enumerate(kept):
        assert not any(np.shares_memory(first, second) for second in kept[k + 1 :])
    assert [array[0, 0] for array in kept] == [0, 1, 4, 5, 6, 7, 8, 9]


def test_a_result_that_is_an_operand_of_the_next_call():
    array = result(2)
    for _ in range(4):
        array = einsum("ij,j->ij", array, np.full(ROW, 3.0))
    assert (array == 2 * 3**4).all()


def test_pickles():
    array = result(5)
    buffers = []
    plain = pickle.dumps(array, protocol=5)
    apart = pickle.dumps(array, protocol=5, buffer_callback=buffers.append)
    again = pickle.loads(apart, buffers=buffers)
    del array
    assert idle() == (0, 0)
    assert (again == 5).all()
    again = buffers = None
    assert idle()[0] == 1
    assert (pickle.loads(plain) == 5).all()


def test_a_result_that_takes_another_state():
    array = result(5)
    array.__setstate__(np.arange(3.0).__reduce__()[2])
    assert idle()[0] == 1
    np.testing.assert_array_equal(array, np.arange(3.0))


# resize


@pytest.mark.parametrize("rows", [0, 1, ROWS // 2, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS])
def test_resize(rows):
    array = result(6)
    array.resize((rows, ROW), refcheck=False)
    assert (array[:ROWS] == 6).all()
    assert (array[ROWS:] == 0).all()
    assert array.flags.owndata
    array.resize((2 * ROWS, ROW), refcheck=False)
    assert (array[: min(rows, ROWS)] == 6).all()
    assert (array[rows:] == 0).all()


def test_resize_of_what_is_looked_at_is_refused():
    array = result(6)
    view = array[1:]
    with pytest.raises(ValueError, match="resize"):
        array.resize(3)
    assert (view == 6).all()


# NumPy's handler


@pytest.fixture
def everywhere():
    """Have all of NumPy's arrays made by the handler that otherwise makes large results alone."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    functions = pointer(np._core.multiarray._ARRAY_API, None)
    entry = ctypes.cast(functions, ctypes.POINTER(ctypes.c_void_p))[304]
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(entry)
    before = set_handler(handler)
    yield
    set_handler(before)


def test_zeros_are_zero(everywhere):
    dirty = np.full(POOLED_FROM, 255, "u1")
    where = address(dirty)
    del dirty
    clean = np.zeros(POOLED_FROM, "u1")
    assert address(clean) == where
    assert not clean.any()
    for size in (0, 1, 100, LARGE_FROM, 2 * POOLED_FROM):
        assert not np.zeros(size, "u1").any()
    assert np.zeros((), "O")[()] == 0


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1000, LARGE_FROM, POOLED_FROM, 3 * POOLED_FROM])
def test_any_size_through_the_handler(everywhere, size):
    array = np.resize(np.arange(251, dtype="u1"), size)
    assert address(array) % 64 == 0
    for other in (0, 1, 40, size // 2, size + 1, 2 * size + 70):
        again = array.copy()
        again.resize(other, refcheck=False)
        np.testing.assert_array_equal(again[:size], array[:other])
        assert not again[size:].any()


def test_a_handler_that_is_set_stays_in_force(everywhere):
    name = np._core.multiarray.get_handler_name
    assert name(result()) == name(np.empty(3)) == "fastein"
    assert name(einsum("i,i->i", np.ones(3), np.ones(3))) == "fastein"


def test_only_large_results_have_the_handler():
    name = np._core.multiarray.get_handler_name
    assert name(result()) == "fastein"
    assert name(np.empty(POOLED_FROM)) == name(result(rows=1)) == "default_allocator"


# No memory


def test_a_result_that_no_memory_holds():
    kept = [result() for _ in range(2)]
    kept.clear()
    far = np.broadcast_to(np.ones(1), 2**28)
    with pytest.raises(MemoryError):
        einsum("i,j->ij", far, far)
    assert idle() == (0, 0)  # given up in the hope that it helps
    assert (result(4) == 4).all()


def test_idle_blocks_give_way_to_a_result():
    in_a_process("""
        import fastein
        from fastein.cpu._result_memory import idle

        def address_space():
            return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

        fastein.config(buffer_pool=1 << 30, jit="never", num_threads=1)
        one = np.ones(1024)
        kept = [einsum("i,j->ij", np.ones(8192), one) for _ in range(6)]
        kept.clear()
        assert idle() == (6, 6 * 2**26)
        limit = address_space() + 2**26
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        large = einsum("i,j->ij", np.full(4 * 8192, 3.0), one)
        assert idle() == (0, 0) and (large[::1000] == 3).all()
        failed = attempt("i,j->ij", np.ones(16 * 8192), one)
        assert type(failed).__mro__[1] is MemoryError, failed
        del large
        assert idle() == (1, 2**28)
        assert (einsum("i,j->ij", np.full(4 * 8192, 5.0), one) == 5).all()
    """)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux alone shows it")
def test_the_kernel_may_take_idle_pages():
    def lazily_freed():
        with open("/proc/self/smaps_rollup") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith("LazyFree"))

    before = lazily_freed()
    kept = [result(k) for k in range(4)]
    kept.clear()
    # all but the newest one's; less what the kernel has taken already
    assert before <= lazily_freed() <= before + 3 * POOLED_FROM // 1024
    again = [result(k) for k in range(4)]
    assert [(array == k).all() for k, array in enumerate(again)] == [True] * 4


# Threads, forks, ends


def test_many_threads_allocate_and_free():
    threads, together = 8, threading.Barrier(8)

    def work(number):
        together.wait()
        kept = []
        for turn in range(25):
            value = 100 * number + turn
            kept.append((value, result(value, ROWS + ROWS * (turn % 3))))
            if turn % 4 == number % 4:
                kept = kept[1::2]
            assert all((array[::50] == value).all() for value, array in kept)
        return True

    with config(buffer_pool=5 * POOLED_FROM), ThreadPoolExecutor(threads) as workers:
        assert all(workers.map(work, range(threads)))
        count, size = idle()
        assert size <= 5 * POOLED_FROM
        assert count <= 5


def test_a_result_may_die_in_another_thread():
    kept = [result()]
    where = address(kept[0])
    killer = threading.Thread(target=kept.clear)
    killer.start()
    killer.join()
    assert address(result()) == where


def test_the_bound_changes_while_others_allocate():
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for blocks in (0, 1, 8):
                config(buffer_pool=blocks * POOLED_FROM)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for turn in range(60):
            first, second = result(turn), result(turn + 1)
            assert first[-1, -1] == turn
            assert second[0, 0] == turn + 1
    finally:
        stop.set()
        changer.join()


def test_a_child_frees_and_allocates():
    in_a_process("""
        import os, fastein
        from fastein.cpu._result_memory import POOLED_FROM as SIZE, idle
        fastein.config(buffer_pool=1 << 30, jit="never", num_threads=1)
        x, row = np.ones(SIZE // 8192), np.ones(1024)

        def result(value):
            return einsum("i,j->ij", value * x, row)

        kept = [result(k) for k in range(4)]
        del kept[2:]
        assert idle()[0] == 2
        for generation in range(3):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert idle()[0] == 2 and kept[0][0, 0] == 0 and (kept[1] == 1).all()
                sys.exit(0) if generation == 0 else os._exit(0)
            assert idle() == (0, 0) and (kept[1] == 1).all()
            kept = kept[:2] + [result(9), result(8)]
            assert (kept[2] == 9).all() and (kept[3] == 8).all()
            del kept[2:]
            assert idle()[0] == 2
        os._exit(0)
    """)


def test_children_of_a_busy_parent():
    in_a_process("""
        import os, threading, fastein
        from fastein.cpu._result_memory import POOLED_FROM as SIZE
        fastein.config(buffer_pool=1 << 30, jit="never", num_threads=1)
        x, row = np.ones(SIZE // 8192), np.ones(1024)
        want = einsum("i,j->ij", x, row)  # a child of an import in another thread waits for ever
        stop = threading.Event()

        def work():
            while not stop.is_set():
                einsum("i,j->ij", x, row)

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                good = all((einsum("i,j->ij", k * x, row) == k * want).all() for k in range(3))
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for worker in workers:
            worker.join()
    """)


def test_results_that_live_to_the_end():
    in_a_process("""
        import atexit, builtins, threading, fastein
        from fastein.cpu._result_memory import POOLED_FROM as SIZE
        x, row = np.ones(SIZE // 8192), np.ones(1024)

        class Last:
            def __init__(self):
                self.array = einsum("i,j->ij", x, row)
                self.itself = self

            def __del__(self):
                del self.array

        builtins.kept = [Last(), einsum("i,j->ij", x, row)]
        module_level = Last()
        sys.modules["somewhere"] = einsum("i,j->ij", x, row)
        atexit.register(lambda: einsum("i,j->ij", x, row))
        local = threading.local()
        local.array = einsum("i,j->ij", x, row)
    """)


def test_tracemalloc_sees_what_is_alive():
    in_a_process("""
        import tracemalloc, fastein
        from fastein.cpu._result_memory import POOLED_FROM as SIZE, idle
        fastein.config(buffer_pool=1 << 30, num_threads=1)
        x, row = np.ones(SIZE // 8192), np.ones(1024)
        untraced = einsum("i,j->ij", x, row)
        tracemalloc.start()
        del untraced
        for _ in range(3):
            array = einsum("i,j->ij", x, row)
            assert SIZE <= tracemalloc.get_traced_memory()[0] < SIZE + 2**20
            del array
            assert tracemalloc.get_traced_memory()[0] < 2**20
        array = einsum("i,j->ij", x, row)
        array.resize(2 * SIZE // 8, refcheck=False)
        assert 2 * SIZE <= tracemalloc.get_traced_memory()[0] < 2 * SIZE + 2**20
        tracemalloc.stop()
        del array
        assert idle()[0] == 2
    """)
