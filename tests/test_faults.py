"""Faults: memory that runs out, operands that change, interpreters that do not fit."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from helpers import in_a_process

import fastein
from fastein import einsum

# CPython 3.11 itself crashes where it has no memory for the frame of a function, and NumPy's matmul
# fails without an exception, so that only what is fastein's and in C can be put to this test: calls
# that have a plan, and calls that need none.
NO_MEMORY = """
    import _testcapi, fastein
    from fastein.cpu.engine import engine_of
    fastein.config(num_threads=2)
    engine_of("float64").build()

    def answers(equation, arrays, options, want):
        failures = 0
        for allowed in range(60):
            _testcapi.set_nomemory(allowed, allowed + {width})
            try:
                got = einsum(equation, *arrays, **options)
            except MemoryError:
                got = None
            finally:
                _testcapi.remove_mem_hooks()
            failures += got is None
            assert got is None or np.allclose(got, want), (equation, allowed)
            assert np.allclose(einsum(equation, *arrays, **options), want), (equation, allowed)
        return failures

    cases = [
        ("ij,jk->ik", [np.arange(42.0).reshape(6, 7), np.arange(35.0).reshape(7, 5)], {{}}),
        ("ij,jk,kl->il", [np.ones((40, 50)), np.ones((50, 60)), np.ones((60, 30))], {{}}),
        ("...ij->...ji", [np.ones((2, 3, 4))], {{}}),
        ("ij,jk->ki", [np.ones((80, 80)), np.ones((80, 80))], {{"order": "F"}}),
        ("ij,jk->ki", [np.ones((300, 300)), np.ones((300, 300))], {{}}),
        ("ij->j", [np.ones((800, 900))], {{}}),
    ]
    for equation, arrays, options in cases:
        want = np.einsum(equation, *arrays)
        for _ in range(3):
            einsum(equation, *arrays, **options)
        print(answers(equation, arrays, options, want))

    x = np.arange(90.0).reshape(9, 10)
    einsum("ij,kj->ik", x, x)
    failures = 0
    for allowed in range(60):
        for k in range(1, 9):
            part = x[:k, allowed % 4:]
            _testcapi.set_nomemory(allowed, allowed + {width})
            try:
                got = einsum("ij,kj->ik", part, part)
            except MemoryError:
                got = None
            finally:
                _testcapi.remove_mem_hooks()
            failures += got is None
            assert got is None or np.allclose(got, part @ part.T)
    print(failures)
"""


@pytest.mark.parametrize("width", [1, 10_000], ids=["once", "for good"])
def test_every_allocation_may_fail(width):
    """A MemoryError or the right answer, and the right answer afterwards."""
    pytest.importorskip("_testcapi")
    out = in_a_process(NO_MEMORY.format(width=width))
    assert all(int(failures) > 0 for failures in out.split())


# Calls with all that is made for them: names, plans, executables, kernels from the store, rooms
# for panels and partial results, intermediates, results small and large.
C_MEMORY = """
    import ctypes, warnings, fastein
    from fastein._plan_cache import clear_plans
    from fastein.cpu import compiler, engine, tiers
    warnings.simplefilter("ignore")
    fastein.config(num_threads=2, jit="always")
    shim = ctypes.CDLL(None)
    allowed, refused = [ctypes.c_long.in_dll(shim, f"faults_{{x}}") for x in ("allowed", "refused")]
    ctypes.c_int.in_dll(shim, "faults_last").value = {last}
    rng = np.random.default_rng(0)

    def of(dtype, *shapes):
        return [rng.integers(-3, 4, shape).astype(dtype) for shape in shapes]

    deep = np.ones((1,) * 31)
    cases = [
        ("ij,jk->ki", of("f8", (150, 150), (150, 150)), {{}}),
        ("ik,jk->ij", of("f4", (90, 90)) * 2, {{}}),
        ("bij,bjk->bik", of("c16", (3, 40, 50), (3, 50, 30)), {{}}),
        ("bqhd,bkhd->bhqk", of("f4", (2, 40, 4, 32), (2, 40, 4, 32)), {{}}),
        ("ij,jk->ik", of("i8", (80, 80), (80, 80)), {{}}),
        ("ij,jk,kl->il", of("f8", (40, 50), (50, 60), (60, 30)), {{}}),
        ("ij,ij->j", of("f8", (3000, 20), (3000, 20)), {{}}),
        ("ij->j", of("f2", (3000, 20)), {{}}),
        ("ij->", of("f4", (700, 600)), {{}}),
        ("ijk->kji", of("c8", (50, 40, 60)), {{"out": np.empty((60, 40, 50), "c8")}}),
        ("ij,ij->ij", of("f8", (500, 500), (500, 500)), {{}}),
        ("ij,jk->ik", of("f8", (6, 7), (7, 5)), {{}}),
        ("ij,jk->ik", of("i4", (6, 7), (7, 5)), {{"dtype": "c16"}}),
        ("ij->ji", of("f8", (6, 7)), {{}}),
        ("i,ij,j->", of("f8", (6,), (6, 7), (7,)), {{"optimize": False}}),
        (",".join(["i"] * 14), of("i8", *[(5,)] * 14), {{"optimize": False}}),
        (",".join(["..."] * 5) + "->...", [deep] * 5, {{"optimize": False}}),
    ]
    for equation, arrays, options in cases:
        want = np.einsum(equation, *arrays, **{{k: v for k, v in options.items() if k != "out"}})

        def fresh():
            clear_plans()
            compiler._store._entries.clear()
            engine._engines.clear()
            engine._transposers.clear()
            tiers._tiers.clear()

        def right():
            return np.allclose(einsum(equation, *arrays, **options), want)

        assert right(), equation
        errors = 0
        for count in range(10_000):
            fresh()
            refused.value, allowed.value = 0, count
            try:
                good = right()
            except MemoryError:
                good = True
                errors += 1
            finally:
                allowed.value = -1
            assert good, (equation, count)
            assert right(), (equation, count)
            if refused.value == 0:
                break
        assert errors, equation
        print(equation[:20], count, errors)
    asked = ctypes.addressof(ctypes.c_char.in_dll(shim, "faults_modules"))
    print(ctypes.string_at(asked).decode().replace(chr(10), " "))
"""


@pytest.fixture
def shim(tmp_path, monkeypatch):
    """Have processes that are started preload `faults.c`."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux" or "LD_PRELOAD" in os.environ:
        pytest.skip("needs a C compiler and glibc, and malloc not yet replaced")
    library = tmp_path / "faults.so"
    source = Path(__file__).parent / "faults.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))


@pytest.mark.parametrize("last", [0, 1], ids=["once", "for good"])
def test_every_allocation_in_c_may_fail(shim, last):
    """Each call of malloc and mmap by an extension module is refused in turn."""
    out = in_a_process(C_MEMORY.format(last=last), timeout=600)
    asked = set(out.splitlines()[-1].split())
    package = Path(fastein.__file__).parent
    asks = re.compile(r"\b(malloc|mmap)\(")
    assert {path.stem for path in package.rglob("*.pyx") if asks.search(path.read_text())} <= asked


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,ij->ij", "ij,kj->ik", "ji,jk->ki"])
def test_out_may_overlap_the_operands_in_every_way(equation):
    """Any offset, any strides: the answer is that of separate memory."""
    n = 5
    for offset, flip, transposed in itertools.product(range(0, 30, 3), (1, -1), (False, True)):
        memory = np.arange(200.0)
        a, b = memory[10:35].reshape(n, n), memory[30:55].reshape(n, n)
        out = memory[offset : offset + 25][::flip].reshape(n, n)
        out = out.T if transposed else out
        want = np.einsum(equation, a.copy(), b.copy())
        assert einsum(equation, a, b, out=out) is out
        np.testing.assert_array_equal(out, want)


def test_operands_that_another_thread_changes():
    """No crash; values, shapes and even the memory of an array may change meanwhile."""
    in_a_process("""
        import threading, fastein
        fastein.config(num_threads=2)
        a, b = np.ones((300, 300)), np.ones((300, 300))
        lists = [[1.0, 2.0, 3.0]] * 3
        stop = threading.Event()
        def change():
            while not stop.is_set():
                a[...] = np.random.random()
                b.shape = (90_000,)
                b.shape = (300, 300)
                lists.append([1.0, 2.0, 3.0])
                lists.pop()
        thread = threading.Thread(target=change)
        thread.start()
        sys.setswitchinterval(1e-6)
        for _ in range(1500):
            attempt("ij,jk->ki", a, b)
            attempt("ij,ij->j", a, b)
            attempt("ij,jk->ik", lists, lists)
        stop.set()
        thread.join()
    """)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("i,j,k->ijk", [(2**21,)] * 3),
        ("i,j,k,l->ijkl", [(2**16,)] * 4),
        ("ij,kl->ijkl", [(2**31, 1), (2**31, 2)]),
    ],
)
def test_results_that_no_memory_could_hold(equation, shapes):
    arrays = [np.broadcast_to(np.ones(1), shape) for shape in shapes]
    with pytest.raises((ValueError, MemoryError)):
        einsum(equation, *arrays)


def test_a_subinterpreter_refuses_or_works():
    code = textwrap.dedent("""
        import sys
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            sys.exit(0)
        import numpy, fastein
        inside = '''
        try:
            import numpy, fastein
            assert fastein.einsum("i,i->", numpy.ones(3), numpy.ones(3)) == 3
        except ImportError:
            pass
        '''
        import textwrap
        own = interpreters.create()
        try:
            interpreters.run_string(own, textwrap.dedent(inside))
        finally:
            interpreters.destroy(own)
        assert fastein.einsum("i,i->", numpy.ones(3), numpy.ones(3)) == 3
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
