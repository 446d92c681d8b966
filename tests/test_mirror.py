"""Products of an operand and itself: half is computed, the other half is its mirror image."""

import helpers
import numpy as np
import pytest
from test_contraction import DTYPES, plan_of, reference, run

from fastein import config, einsum, explain
from fastein.cpu.blocking import Blocks
from fastein.cpu.isa import host
from fastein.cpu.tile import tile_for


@pytest.fixture(autouse=True)
def compiled():
    with config(jit="always", num_threads=2):
        yield


def numbers(dtype, shape, seed=0):
    return helpers.numbers(dtype, shape, seed, true=0.1)


def halves(equation, *operands):
    return "half of it if both operands are the same memory" in explain(equation, *operands)


def check(equation, a, **keywords):
    """Contract with itself, and with a copy: the bits must be the same."""
    want = einsum(equation, a, a.copy(order="K"))
    got = einsum(equation, a, a, **keywords)
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(want).tobytes()
    return got


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("equation", ["ik,jk->ij", "ik,jk->ji", "ki,kj->ij"])
def test_squares(dtype, equation):
    for n, depth in ((129, 128), (150, 300), (257, 700), (320, 131)):
        a = numbers(dtype, (n, depth) if equation.startswith("i") else (depth, n))
        assert halves(equation, a, a)
        for threads in (1, 2, 3):
            with config(num_threads=threads):
                got = check(equation, a)
        assert np.array_equal(got, got.T)


@pytest.mark.parametrize(
    ("equation", "shape"),
    [
        ("bik,bjk->bij", (3, 140, 130)),
        ("bik,bjk->bij", (40, 140, 130)),
        ("bki,bkj->ijb", (3, 140, 130)),
        ("ki,kj->ij", (130, 1001)),
        ("abk,cdk->abcd", (11, 13, 140)),
        ("abk,cdk->cdab", (3, 67, 140)),
        ("kab,kcd->abcd", (140, 13, 11)),
        ("iKk,jKk->ij", (150, 3, 50)),
        ("ikK,jKk->ij", (150, 20, 20)),
    ],
)
def test_many_axes(equation, shape):
    a = numbers("float32", shape)
    for layout in (a, np.asfortranarray(a), a[::-1, :, ::-1][..., ::-1] if a.ndim > 2 else a[::-1]):
        for threads in (1, 2):
            with config(num_threads=threads):
                check(equation, layout)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float64", "complex128"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_blocks(dtype, threads):
    a = numbers(dtype, (2, 170, 130))
    tile = tile_for(dtype, host())
    for rows, columns, depth in ((1, 1, 130), (2, 3, 130), (1, 4, 130), (9, 9, 130), (1, 9, 50)):
        blocks = Blocks(depth, (rows * tile.vector_rows, columns * tile.columns))
        changes = {"blocks": blocks, "by_matrix": False, "symmetric": True}
        want, got = (run("bik,bjk->bij", a, b, threads, **changes) for b in (a.copy(), a))
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_it_is_one_half_that_is_computed(threads):
    """Where a schedule claims a symmetry that is none, the mirror image shows."""
    a = numbers("int64", (260, 260))
    full = reference("ij,jk->ik", a, a)
    assert not halves("ij,jk->ik", a, a)
    np.testing.assert_array_equal(einsum("ij,jk->ik", a, a), full)
    got = run("ij,jk->ik", a, a, threads, symmetric=True)
    np.testing.assert_array_equal(np.tril(got), np.tril(full))
    np.testing.assert_array_equal(got, got.T)


def test_operands_that_overlap_are_two():
    whole = numbers("float64", (201, 150))
    a, b = whole[:-1], whole[1:]
    assert halves("ik,jk->ij", a, b)
    got = einsum("ik,jk->ij", a, b)
    assert got.tobytes() == einsum("ik,jk->ij", a.copy(), b.copy()).tobytes()


def test_only_out_is_written():
    a = numbers("float64", (150, 140))
    for shape, part in (
        ((160, 190), np.s_[3:153, 7:157]),
        ((300, 150), np.s_[::2, :]),
        ((150, 450), np.s_[:, ::3]),
        ((150, 150), np.s_[::-1, ::-1]),
    ):
        room = np.full(shape, np.nan)
        check("ik,jk->ij", a, out=room[part])
        room[part] = 0
        assert np.isnan(room).sum() == room.size - 150 * 150


def test_a_result_that_is_an_operand_too():
    a = numbers("float64", (150, 150))
    want = einsum("ik,jk->ij", a, a)
    assert einsum("ik,jk->ij", a, a, out=a).tobytes() == want.tobytes()


def test_streaming_stores():
    a = numbers("float32", (2048, 130))
    assert "streaming stores; half" in explain("ik,jk->ij", a, a)
    check("ik,jk->ij", a)


def test_when_a_result_is_symmetric():
    sizes = {"i": 500, "j": 500, "k": 500, "b": 3}
    assert plan_of("ik,jk->ij", sizes).symmetric
    assert plan_of("bik,bjk->bij", sizes).symmetric
    assert not plan_of("ij,jk->ik", sizes).symmetric  # the strides differ
    assert not plan_of("ik,jk->ij", sizes | {"j": 400}).symmetric
    assert not plan_of("bik,jbk->bij", sizes).symmetric
    assert not plan_of("ik,jk->ij", sizes | {"k": 60}).symmetric  # copying would take as long
