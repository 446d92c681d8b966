"""What `fastein.einsum` keeps of `numpy.einsum`, trap by trap: layout, `out` and paths.

The numbers are those of the parity page of the documentation. Values stated here were computed by
NumPy 2.4 with ``optimize=False``, and NumPy is asked again beside them.
"""

import numpy as np
import opt_einsum
import pytest
from helpers import both_raise, raises, same

from fastein import EinsumError, einsum, einsum_path

pytestmark = pytest.mark.usefixtures("both_tiers")

A = np.arange(6.0).reshape(2, 3)
B = np.arange(12.0).reshape(3, 4)


# Layout and out


def test_22_layout_follows_the_inputs():
    f = A.copy("F")
    assert same("ij,ij->ij", f, f).strides == (8, 16)
    assert same("ij,ij->ji", A, A).strides == (8, 24)
    assert same("bij,bjk->ibk", np.ones((2, 3, 4)), np.ones((2, 4, 5))).strides == (40, 120, 8)
    assert same("ij,ij->ij", f, A).strides == (24, 8)
    assert same("ij,ij->ij", A, f).strides == (24, 8)


def test_22_order_a_is_f_only_for_all_f():
    f = A.copy("F")
    assert same("ij,ij->ij", f, A, order="A").strides == (24, 8)
    assert same("ij,ij->ij", f, f, order="A").strides == (8, 16)


@pytest.mark.parametrize("order", ["K", "C", "F", "A", "k", "c", "f", "a", None])
def test_22_every_order(order):
    x = np.arange(24.0).reshape(2, 3, 4)
    for variant in (x, x.T.copy().T, x.transpose(1, 0, 2), x[:, ::-1], x[:, :, :1]):
        same("ijk,ijk->ijk", variant, variant, order=order)
        same("ijk,ijk->kji", variant, variant, order=order)
        same("ijk->ki", variant, order=order)
        same("ijk,kl->ijl", variant, np.ones((variant.shape[2], 2)), order=order)


def test_22_order_is_ignored_with_out():
    out = np.zeros((2, 4))
    assert einsum("ij,jk->ik", A, B, out=out, order="F") is out
    np.testing.assert_array_equal(out, A @ B)


def test_23_out_may_be_an_operand():
    x = np.arange(16.0).reshape(4, 4)
    want = x @ x
    assert einsum("ij,jk->ik", x, x, out=x) is x
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize("text", ["ij->ji", "ij,jk->ik", "ij,ij->ij", "ij,ji->ji"])
def test_23_out_may_overlap_an_operand(text):
    for shift in range(4):
        got, want = np.arange(20.0), np.arange(20.0)
        for function, memory in ((einsum, got), (np.einsum, want)):
            x, out = memory[:16].reshape(4, 4), memory[shift : shift + 16].reshape(4, 4)
            function(text, *[x] * (1 + text.count(",")), out=out)
        np.testing.assert_array_equal(got, want)


def test_23_out_may_exceed_the_broadcast_of_the_inputs():
    np.testing.assert_array_equal(einsum("i->i", [5.0], out=np.zeros(3)), [5, 5, 5])
    same("ij,ij->ij", A[:1], A[:1], out=np.zeros((4, 3)))


@pytest.mark.parametrize("shape", [(2,), (3, 1), (), (1,), (4,)])
def test_23_out_of_another_shape_raises(shape):
    both_raise(ValueError, "i->i", np.ones(3), out=np.zeros(shape))


def test_23_out_must_be_a_writeable_array():
    out = np.zeros(3)
    out.flags.writeable = False
    both_raise(ValueError, "i->i", np.ones(3), out=out)
    both_raise(ValueError, "i,i->i", np.ones(3), np.ones(3), out=out)
    both_raise(TypeError, "i->i", np.ones(3), out=[1, 2, 3])


def test_23_out_is_overwritten():
    for fill in (7.0, np.nan, np.inf):
        out = np.full((2, 4), fill)
        einsum("ij,jk->ik", A, B, out=out)
        np.testing.assert_array_equal(out, A @ B)
        out = np.full(2, fill)
        einsum("ij->i", np.ones((2, 0)), out=out)
        np.testing.assert_array_equal(out, [0, 0])


# optimize and einsum_path

PATH = ["einsum_path", (0, 1), (0, 1)]


@pytest.mark.parametrize(
    "optimize",
    [False, True, None, "greedy", "optimal", ("greedy", 100), ("optimal", 100), PATH, "auto"],
)
def test_24_every_form_of_optimize(optimize):
    answer = einsum("ij,jk,kl->il", A, B, B.T, optimize=optimize)
    np.testing.assert_array_equal(answer, A @ B @ B.T)
    if optimize is not PATH:
        np.testing.assert_array_equal(einsum("ij,jk", A, B, optimize=optimize), A @ B)


def test_24_an_unknown_name_raises():
    for function in (np.einsum, einsum):
        with pytest.raises((KeyError, ValueError, TypeError)):
            function("ij,jk,kl->il", A, B, B.T, optimize="no-such-path")


@pytest.mark.parametrize("name", ["auto", "auto-hq", "dp", "branch-2", "branch-all", "eager"])
def test_24_every_strategy_of_opt_einsum(name):
    np.testing.assert_array_equal(einsum("ij,jk,kl->il", A, B, B.T, optimize=name), A @ B @ B.T)


def test_24_a_path_optimizer_object():
    for optimizer in (opt_einsum.DynamicProgramming(), opt_einsum.BranchBound()):
        answer = einsum("ij,jk,kl->il", A, B, B.T, optimize=optimizer)
        np.testing.assert_array_equal(answer, A @ B @ B.T)


@pytest.mark.parametrize("optimize", [True, "auto", "greedy", "optimal"])
def test_24_optimize_keeps_scalars_layouts_and_types(optimize):
    f = A.copy("F")
    assert type(einsum("ij,ij->", A, A, optimize=optimize)) is np.float64
    assert einsum("ij,ij,ij->ij", f, f, f, optimize=optimize).strides == (8, 16)
    x = np.array([100] * 3, "i1")
    assert einsum("i,i,->", x, x, np.int8(1), optimize=optimize).dtype == "i1"
    view = einsum("ij->ji", A, optimize=optimize)
    assert np.shares_memory(view, A)
    assert isinstance(raises(ValueError, "ij,ij", A, B, optimize=optimize), EinsumError)
    raises(TypeError, "ij,jk,kl->il", A, B, B.T, optimize=optimize, dtype="f4")


def test_24_no_hidden_memory_cap():
    x, y, z = np.ones((12, 2, 12)), np.ones((12, 2, 12)), np.ones((12, 2, 12))
    w = np.ones((2, 2, 2, 4))
    path, _ = einsum_path("abc,cde,efg,bdfh->agh", x, y, z, w)
    assert len(path) == 4
    assert max(map(len, path[1:])) == 2


def test_25_einsum_path_returns_a_list_and_a_text():
    for args in (("ij,jk,kl->il", A, B, B.T), ("ij,jk", A, B), ("ij->j", A)):
        want, _ = np.einsum_path(*args)
        got, text = einsum_path(*args)
        assert isinstance(text, str)
        assert isinstance(got, list)
        assert got[0] == "einsum_path"
        assert len(got) == len(want)
        np.testing.assert_allclose(einsum(*args, optimize=got), np.einsum(*args, optimize=want))


@pytest.mark.parametrize("optimize", [False, True, "greedy", "optimal"])
def test_25_a_path_fits_numpy(optimize):
    path, _ = einsum_path("ij,jk,kl->il", A, B, B.T, optimize=optimize)
    np.testing.assert_array_equal(np.einsum("ij,jk,kl->il", A, B, B.T, optimize=path), A @ B @ B.T)
