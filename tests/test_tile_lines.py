"""Large results that begin in the midst of lines: tiles fill whole lines together."""

import numpy as np
import pytest
from test_contraction import numbers, plan_of

from fastein import config, einsum, explain
from fastein.cpu import contraction
from fastein.cpu.isa import host
from fastein.cpu.tile import tile_for

pytestmark = pytest.mark.skipif(
    not tile_for("float32", host()).joins, reason="the processor has no vectors of a line"
)

DTYPES = ("float32", "float64", "complex64", "complex128", "int32", "uint64")
CASES = {
    # several columns' lines are kept, as rows are read where they lie
    "aebd,ce->dcba": {"a": 11, "e": 5, "b": 17, "d": 29, "c": 23},
    # tiles of the innermost axis overlap
    "ik,kj->ij": {"i": 13, "k": 5, "j": 601},
    # tiles that cross the ends of runs
    "cadg,bgfe->fedcba": {"c": 3, "a": 5, "d": 7, "g": 9, "b": 4, "f": 19, "e": 23},
    # several blocks of either side, and a last column tile that is not whole
    "ik,jk->ij": {"i": 515, "k": 33, "j": 1031},
    "bik,bkj->bij": {"b": 5, "i": 31, "k": 17, "j": 803},
    # less than a vector behind the last whole one
    "ki,kj->ij": {"i": 130, "k": 3, "j": 48 * 7 + 1},
}


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch):
    monkeypatch.setattr(contraction, "STREAM_BYTES", 1)
    monkeypatch.setattr(contraction, "JOINED_RUN", 64)


def placed(shape, dtype, begins):
    """Return an array that begins so many bytes behind a line, and the memory around it."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(nbytes + 256, 0xA5, np.uint8)
    start = -memory.ctypes.data % 64 + 64 + begins
    return memory[start : start + nbytes].view(dtype).reshape(shape), memory, start


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("equation", CASES)
def test_every_element_and_nothing_else_is_written(equation, dtype, threads):
    terms, result = equation.split("->")
    sizes = CASES[equation]
    a, b = (
        numbers(dtype, [sizes[x] for x in term], seed) for seed, term in enumerate(terms.split(","))
    )
    shape = [sizes[x] for x in result]
    with config(jit="always", num_threads=threads):
        assert "joined lines" in explain(equation, a, b)
        want = np.einsum(equation, a, b)
        for begins in {0, 4, a.itemsize, 60, 64 - a.itemsize}:
            out, memory, start = placed(shape, a.dtype, begins)
            einsum(equation, a, b, out=out)
            np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
            assert (memory[:start] == 0xA5).all()
            assert (memory[start + out.nbytes :] == 0xA5).all()


def test_bits_are_those_of_ordinary_stores(monkeypatch):
    a, b = numbers("float32", (517, 40)), numbers("float32", (40, 1033))
    with config(jit="always"):
        joined = einsum("ik,kj->ij", a, b)
        monkeypatch.setattr(contraction, "STREAM_BYTES", 1e12)
        plain = einsum("ik,kj->ij", a.copy(), np.asfortranarray(b))
    assert joined.tobytes() == plain.tobytes()


def test_which_results_are_joined():
    sizes = {"i": 515, "k": 33, "j": 1031}
    assert plan_of("ik,jk->ij", sizes).joins
    assert not plan_of("ik,jk->ij", sizes, dtype="f2").joins  # less than 4 bytes
    assert not plan_of("ik,jk->ij", {**sizes, "k": 2000}).joins  # a sum of several parts
    assert not plan_of("ijb,jkb->ikb", {"i": 30, "j": 31, "k": 32, "b": 33}).joins
    assert plan_of("ik,jk->ij", {"i": 512, "k": 32, "j": 1024}).streams
