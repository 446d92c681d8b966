"""Whatever is passed, a call answers or raises, soon: sizes, options and `out`.

What might take the process down runs in a process of its own.
"""

import numpy as np
import pytest
from helpers import ORDINARY, in_a_process, survives

from fastein import EinsumError, einsum

pytestmark = pytest.mark.usefixtures("both_tiers")


# Sizes


def test_huge_ranks():
    a = np.ones((1,) * 64)
    labels = list(range(64))
    assert einsum(a, labels, labels[::-1]).ndim == 64
    assert einsum(a, labels, []) == 1
    assert einsum("...->", a) == 1
    assert einsum("...->...", a).ndim == 64
    assert einsum("...,...->...", a, a).ndim == 64
    wide = np.ones((2,) * 12 + (1,) * 52)
    assert einsum(wide, labels, []) == 2**12
    assert isinstance(survives(a, labels, a, list(range(64, 128))), EinsumError)
    assert einsum(a, labels, a, list(range(64, 128)), []) == 1


def test_ten_thousand_operands():
    in_a_process("""
        n = 10_000
        vectors = [np.ones(2)] * n
        assert np.array_equal(einsum(",".join("i" * n) + "->i", *vectors), [1, 1])
        assert np.array_equal(einsum(",".join("i" * n) + "->i", vectors), [1, 1])
        assert np.array_equal(attempt(",".join("i" * n) + "->i", *vectors, optimize=False), [1, 1])
        assert isinstance(attempt(",".join("i" * n), *vectors[1:]), EinsumError)
        assert isinstance(attempt(",".join("i" * n) + "->j", *vectors), EinsumError)
        matrices = [np.eye(2)] * 2000
        args = [part for k, m in enumerate(matrices) for part in (m, [k, k + 1])]
        assert np.array_equal(einsum(*args, [0, 2000]), np.eye(2))
        assert einsum("," * 1999, *[1.0] * 2000) == 1
    """)


def test_sizes_that_overflow():
    giant = np.broadcast_to(np.int8(1), (2**31, 2**31))
    for text in ("ij,kl->ijkl", "ij,jk->ik", "ij,ij->ij"):
        assert isinstance(survives(text, giant, giant), ValueError | MemoryError)
    for text in ("ij->ji", "ii->i"):
        assert einsum(text, giant).size == np.einsum(text, giant).size
    line = np.broadcast_to(np.int8(1), (2**62,))
    for text in ("i,j->ij", "i,j,k->ijk", "i->i"):
        assert survives(text, *[line] * (text.count(",") + 1)) is not None
    # Whatever else is empty, the other size is checked first.
    empty = np.ones((0,), "int8")
    assert isinstance(
        survives("i,j,k->ijk", line, line, empty), np.ndarray | ValueError | MemoryError
    )
    out = np.zeros((2, 2))
    assert isinstance(survives("ij,jk->ik", giant, giant, out=out), ValueError)


def test_an_output_too_large_for_memory():
    a = np.broadcast_to(np.float64(1), (2**20,))
    for text in ("i,j,k->ijk", "i,j,k,l->ijkl"):
        answer = survives(text, *[a] * (text.count(",") + 1))
        assert isinstance(answer, MemoryError | ValueError)


def test_empty_operands_with_giant_axes():
    giant = np.empty((0, 2**40))
    assert einsum("ij->", giant) == 0
    assert einsum("ij,ij->ij", giant, giant).shape == (0, 2**40)
    assert einsum("ij,kj->ik", giant, giant).shape == (0, 0)


def test_a_diagonal_beyond_an_empty_array_is_refused():
    for shape in ((0, 5), (5, 0), (0, 1)):
        for text in ("ii->i", "ii->", "ii,i->i"):
            assert isinstance(
                survives(text, np.ones(shape), *[np.ones(5)] * text.count(",")), EinsumError
            )


def test_a_path_of_many_large_labels():
    a = np.broadcast_to(np.int8(0), (2**30, 2**30))
    in_order = survives("ab,bc,cd,de->ae", a, a, a, a)
    assert isinstance(in_order, ValueError | MemoryError)


# Keyword arguments


@pytest.mark.parametrize("name", ["out", "dtype", "order", "casting", "optimize", "strict"])
def test_keyword_arguments_of_any_type(name):
    a = np.ones((3, 3))
    values = (
        None,
        0,
        1,
        -1,
        2.5,
        "",
        "x",
        "\0",
        b"C",
        [],
        [1],
        (),
        (1,),
        {},
        {1},
        object(),
        print,
        int,
        ...,
    )
    values += (
        np.nan,
        np.ones(2),
        "\ud800",
        "K" * 10**5,
        [[]],
        ("greedy",),
        ["einsum_path"],
    )
    for value in values:
        for text in ("ij->ji", "ij->j", "ij,jk->ik", "ij,jk,kl->il"):
            survives(text, *[a] * (text.count(",") + 1), **{name: value})


@pytest.mark.parametrize(
    "path",
    [
        ["einsum_path"],
        ["einsum_path", (0,)],
        ["einsum_path", (0, 1)],
        ["einsum_path", (0, 5), (0, 1)],
        ["einsum_path", (-1, 0), (0, 1)],
        ["einsum_path", (0, 0), (0, 1)],
        ["einsum_path", (0, 1), (0, 1), (0, 1)],
        ["einsum_path", 3],
        ["einsum_path", "ab"],
        ["einsum_path", ()],
        ["einsum_path", (0, 1, 2), ()],
        ["einsum_path", (2**70, 0)],
        ["einsum_path", (0.5, 1)],
        [(0, 1), (0, 1)],
        [(0, 1)],
        [(5, 6)],
        ["greedy", -1],
        ("greedy", -1),
        ("greedy", "x"),
        ("greedy", 10**40),
        ("optimal", None),
        ("none", 3),
    ],
    ids=str,
)
def test_strange_paths(path):
    a = np.ones((2, 2))
    try:
        answer = einsum("ij,jk,kl->il", a, a, a, optimize=path)
    except (*ORDINARY, RuntimeError, IndexError, KeyError):
        return
    np.testing.assert_array_equal(answer, np.full((2, 2), 4.0))


def test_an_optimizer_that_raises_or_returns_nonsense():
    def fail(*_, **__):
        raise RuntimeError("on purpose")

    a = np.ones((2, 2))
    with pytest.raises(RuntimeError, match="on purpose"):
        einsum("ij,jk,kl->il", a, a, a, optimize=fail)
    for path in (None, [], [(0, 9)], [(0, 1)] * 9, 3, "x", [("a", "b")], [(0, 0), (0, 0)]):
        try:
            answer = einsum("ij,jk,kl->il", a, a, a, optimize=lambda *_, path=path, **__: path)
        except (*ORDINARY, RuntimeError, IndexError, KeyError):
            continue
        np.testing.assert_array_equal(answer, np.full((2, 2), 4.0))


def test_unknown_keywords():
    for name in ("foo", "", "\0", "\ud800", "subscripts", "operands", "Out"):
        with pytest.raises((TypeError, ValueError)):
            einsum("ij->j", np.ones((2, 2)), **{name: 1})


# out


def test_out_of_every_shape():
    a = np.ones((3, 3))
    for out in (a, a.T, a[::-1], a[:, :1], a[:0], np.broadcast_to(np.float64(1), (3, 3))):
        survives("ij,jk->ik", a, a, out=out)
        survives("ij->ji", a, out=out)
        survives("ij->", a, out=out)


def test_out_whose_elements_overlap():
    memory = np.zeros(8)
    out = np.lib.stride_tricks.as_strided(memory, (3, 3), (8, 8))
    survives("ij,jk->ik", np.ones((3, 3)), np.ones((3, 3)), out=out)
    assert np.all(memory[5:] == 0)


def test_out_that_is_freed():
    for _ in range(100):
        answer = einsum("i,i->i", np.ones(1000), np.ones(1000), out=np.empty(1000))
        assert answer.sum() == 1000


@pytest.mark.parametrize("dtype", ["U5", "M8[s]", "i4,f8", "V8", "O"])
def test_out_of_a_strange_type(dtype):
    out = np.zeros(3, dtype)
    for casting in ("safe", "unsafe"):
        survives("i,i->i", np.ones(3), np.ones(3), out=out, casting=casting)
        survives("i->i", np.ones(3), out=out, casting=casting)


def test_interrupted_calls_leave_no_trace():
    # Errors in between must not poison what is remembered of an equation.
    a, b = np.arange(4.0).reshape(2, 2), np.ones((3, 3))
    for _ in range(50):
        survives("ij,jk->ik", a, b)
        np.testing.assert_array_equal(einsum("ij,jk->ik", a, a), a @ a)
        np.testing.assert_array_equal(einsum("ij,jk->ik", b, b), b @ b)


def test_many_equations_do_not_fill_memory():
    a = np.ones((1, 1))
    for number in range(3000):
        i, j = chr(0x4E00 + number), chr(0x4E01 + number)
        assert einsum(f"{i}{j}->{j}{i}", a).shape == (1, 1)
        assert einsum(f"{i}{j},{j}{i}->", a, a) == 1
