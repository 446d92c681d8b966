"""What `fastein.einsum` keeps of `numpy.einsum`, trap by trap: subscripts, shapes and results.

The numbers are those of the parity page of the documentation. Values stated here were computed by
NumPy 2.4 with ``optimize=False``, and NumPy is asked again beside them.
"""

import string

import numpy as np
import pytest
from helpers import both_raise, raises, same

from fastein import einsum

pytestmark = pytest.mark.usefixtures("both_tiers")

A = np.arange(6.0).reshape(2, 3)
B = np.arange(12.0).reshape(3, 4)


# Subscripts


def test_01_implicit_output_is_sorted():
    assert same("aB", A).shape == (3, 2)
    assert same("ba", A).shape == (3, 2)


def test_01_implicit_output_starts_with_the_ellipsis():
    assert same("b...a", np.arange(24.0).reshape(2, 3, 4)).shape == (3, 4, 2)


def test_01_a_repeated_label_is_summed_in_implicit_output():
    same("ij,jk", A, B)
    same("ii", np.arange(9.0).reshape(3, 3))


def test_02_sublist_integers_sort_numerically():
    assert same(A, [26, 0]).shape == (3, 2)


@pytest.mark.parametrize("label", [52, 1000, 10**30])
def test_02_sublist_takes_any_large_integer(label):
    with pytest.raises((ValueError, TypeError)):
        np.einsum(A, [label, 0])
    assert einsum(A, [label, 0]).shape == (3, 2)
    np.testing.assert_array_equal(einsum(A, [label, 0], B, [0, 7], [label, 7]), A @ B)


def test_02_sublist_refuses_a_negative_integer():
    both_raise(ValueError, A, [-1, 0])


@pytest.mark.parametrize("label", [True, 0.0, 1.5, np.float64(1)])
def test_02_sublist_refuses_bools_and_floats(label):
    both_raise(TypeError, A, [label, 2])


@pytest.mark.parametrize(
    "labels", [[np.int64(3), 0], range(2), np.array([1, 0]), (1, 0), (np.uint8(4), 2)]
)
def test_02_sublist_takes_integers_of_every_kind(labels):
    same(A, labels)


def test_02_sublist_takes_ellipsis():
    same(A, [..., 0], [0, ...])
    same(A, [..., 0], B, [0, 1], [..., 1])


def test_02_explicit_none_output_is_a_type_error():
    both_raise(TypeError, A, [0, 1], None)


@pytest.mark.parametrize(
    ("i", "j", "k"), [("i", "j", "k"), ("row", "sum", "column"), ((0, 1), "x", 3)]
)
def test_02_sublist_takes_any_hashable_label(i, j, k):
    np.testing.assert_array_equal(einsum(A, [i, j], B, [j, k], [i, k]), A @ B)


def test_03_spaces_between_labels_are_fine():
    same(" i j , j k -> i k ", A, B)
    same("i j ->j i", A)


@pytest.mark.parametrize(
    "text", ["ij - > ji", ". . .", "i\tj", "i\nj", "ij->j\ti", ".. .", "ij-> j i."]
)
def test_03_other_white_space_is_not(text):
    both_raise(ValueError, text, A)


def test_03_bytes_are_accepted():
    assert same(b"ij->ji", A).shape == (3, 2)
    same(b"ij,jk", A, B)


def test_03_subscripts_keyword_raises():
    for function in (np.einsum, einsum):
        with pytest.raises((TypeError, ValueError)):
            function(subscripts="ij", operands=A)


def test_04_an_empty_ellipsis_may_be_left_out():
    same("...ij->ij", A)
    same("ij->...ij", A)


def test_04_scalars():
    assert same("", 1.0) == 1
    assert same("->", 1.0) == 1
    same("ij,", A, 2.0)
    same(",ij", 2.0, A)


def test_04_a_nonempty_ellipsis_missing_from_the_output_is_summed():
    x = np.arange(12.0).reshape(2, 2, 3)
    with pytest.raises(ValueError, match="ellipsis"):
        np.einsum("...ij->ij", x)
    np.testing.assert_array_equal(einsum("...ij->ij", x), x.sum(axis=0))
    np.testing.assert_array_equal(einsum("...->", x), x.sum())
    np.testing.assert_array_equal(
        einsum("...ij,...jk->ik", x, x.swapaxes(1, 2)), (x @ x.swapaxes(1, 2)).sum(axis=0)
    )


def test_05_digits_are_labels():
    x, y = np.arange(6.0).reshape(1, 2, 3), np.arange(24.0).reshape(4, 1, 3, 2)
    both = einsum("BSD,3KDH->3BSKH", x, y)
    np.testing.assert_array_equal(both, np.einsum("BSD,xKDH->xBSKH", x, y))
    # Digits sort before letters.
    assert einsum("i3", A).shape == (3, 2)


def test_05_any_character_beyond_ascii_is_a_label():
    for i, j, k in ("αβγ", "éüñ", "中文字", "\U0001d538\U0001d539\U0001d53b"):
        np.testing.assert_array_equal(einsum(f"{i}{j},{j}{k}->{i}{k}", A, B), A @ B)
    assert einsum("éa", A).shape == (3, 2)


@pytest.mark.parametrize("char", sorted(set(string.punctuation) - set(".,->")))
def test_05_ascii_punctuation_still_raises(char):
    both_raise(ValueError, f"i{char}->i", A)
    both_raise(ValueError, f"i{char}", A)


def test_06_no_limit_on_operands():
    vectors = [np.array([1.0, 2.0])] * 100
    with pytest.raises(ValueError, match="too many operands"):
        np.einsum(",".join("i" * 100) + "->i", *vectors)
    answer = einsum(",".join("i" * 100) + "->i", *vectors)
    np.testing.assert_array_equal(answer, [1.0, 2.0**100])


def test_06_no_limit_on_labels():
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal((2, 2)) for _ in range(80)]
    args = [part for n, m in enumerate(matrices) for part in (m, [n, n + 1])]
    with pytest.raises(ValueError, match=r"operands|subscript"):
        np.einsum(*args, [0, 80])
    np.testing.assert_allclose(einsum(*args, [0, 80]), np.linalg.multi_dot(matrices), rtol=1e-12)


def test_07_a_list_of_operands_is_unpacked():
    for make in (list, tuple):
        np.testing.assert_array_equal(einsum("ij,jk->ik", make([A, B])), A @ B)
        np.testing.assert_array_equal(einsum("ik,k->i", make([A, B[:, 0]])), A @ B[:, 0])


def test_07_not_where_numpy_reads_the_list_as_an_array():
    same("ij", [[1, 2], [3, 4]])
    same("ij->j", [np.ones(3), np.ones(3)])
    same("ij,j", [[1, 2], [3, 4]], [5, 6])


def test_07_a_list_of_too_few_operands_raises():
    both_raise(ValueError, "i,i,i", [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("",),
        ("i", 0),
        ("ij", A, A),
        ("ij,jk", A),
        ("ijk", A),
        ("i", A),
        ("i->ij", [0, 0]),
        ("ij->jij", A),
        ("ij->iij", A),
        ("i..", [0, 0]),
        (".i...", [0, 0]),
        ("j->..j", [0, 0]),
        ("j->.j...", [0, 0]),
        ("i......", [0, 0]),
        ("ij->i->j", A),
        ("ij->i,j", A),
        ("ij->i-j", A),
        ("i>j", A),
        ("ij-", A),
        ("ij-i", A),
        ("ij,jk->ik", A, A),
        ("ii", A),
    ],
)
def test_08_value_errors(args):
    both_raise(ValueError, *args)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("ij", A), {"foo": 1}),
        ((0, 0), {}),
        ((None,) * 63, {}),
        (("ij->ij", A), {"dtype": "bogus"}),
        (("ij,ij->ij", A, A), {"dtype": "f4"}),
        (("ij->ij", A), {"out": [[0.0] * 3] * 2}),
    ],
)
def test_08_type_errors(args, kwargs):
    both_raise(TypeError, *args, **kwargs)


@pytest.mark.parametrize("kwargs", [{"order": "X"}, {"casting": "bogus"}])
def test_08_bad_options(kwargs):
    both_raise(ValueError, "ij->j", A, **kwargs)


@pytest.mark.parametrize("text", ["bijc,bikc -bijk", "bijc,bikc >bijk", "bijc,bikc-bijk"])
def test_08_half_an_arrow_is_named(text):
    x = np.ones((1, 2, 3, 4))
    error = both_raise(ValueError, text, x, np.ones((1, 2, 5, 4)))
    assert "->" in str(error)


def test_08_errors_name_the_equation_the_operand_and_the_sizes():
    message = str(raises(ValueError, "ij,jk->ik", np.ones((2, 3)), np.ones((4, 5))))
    for part in ("ij,jk->ik", "j", "(2, 3)", "(4, 5)", "3", "4"):
        assert part in message
    assert "z" in str(raises(ValueError, "ij->iz", A))


# Shapes


def test_09_size_one_broadcasts_between_operands():
    answer = same("ij,jk", np.arange(2.0).reshape(2, 1), B)
    assert answer.shape == (2, 4)
    x = np.array([[0.0], [3.0]])
    np.testing.assert_array_equal(einsum("ij,jk", np.ones((2, 1)), B)[1], B.sum(axis=0))
    same("ij,jk->ik", x, B)
    same("ij,ij->ij", np.ones((2, 1)), np.ones((1, 3)))
    same("i,i->", np.ones(1), np.arange(4.0))


def test_09_zero_against_one_is_zero():
    assert same("i,i->i", np.ones(0), np.ones(1)).shape == (0,)
    assert same("i,i->", np.ones(0), np.ones(1)) == 0


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_09_a_label_repeated_in_one_operand_does_not_broadcast(shape):
    both_raise(ValueError, "ii", np.ones(shape))
    both_raise(ValueError, "ii->i", np.ones(shape))


def test_09_strict_forbids_size_one():
    raises(ValueError, "ij,jk", np.ones((2, 1)), B, strict=True)
    raises(ValueError, "ij,ij->ij", np.ones((1, 3)), np.ones((2, 3)), strict=True)
    np.testing.assert_array_equal(einsum("ij,jk", A, B, strict=True), A @ B)
    np.testing.assert_array_equal(einsum("ij,jk", A[:, :1], B[:1], strict=True), A[:, :1] @ B[:1])


@pytest.mark.parametrize("dtype", ["f8", "i4", "?", "c8", "f2", "g"])
def test_10_empty_sums_are_zero(dtype):
    assert same("i->", np.ones(0, dtype)) == 0
    same("ij->j", np.ones((0, 3), dtype))
    same("ij,jk->ik", np.ones((2, 0), dtype), np.ones((0, 3), dtype))


def test_10_empty_object_sum_is_the_integer_zero():
    answer = same("i->", np.ones(0, object))
    assert type(answer) is int
    assert answer == 0


# Results


def test_11_a_zero_dimensional_result_is_a_scalar():
    assert type(same("ij->", A)) is np.float64
    assert type(same("i,i", [1, 2], [3, 4])) is np.int64
    assert type(same("", A.sum())) is np.float64


def test_11_with_out_it_is_out():
    out = np.zeros(())
    assert einsum("ij->", A, out=out) is out
    assert out == 15


def test_12_one_operand_and_no_sum_is_a_view():
    z = np.zeros((3, 3))
    einsum("ii->i", z)[...] = 1
    np.testing.assert_array_equal(z, np.eye(3))
    for text in ("ij", "ij->ji", "ii->i", "...j->j...", "..."):
        view = same(text, z)
        assert np.shares_memory(view, z)
        assert view is not z


def test_12_a_view_is_writeable_iff_its_operand_is():
    z = np.zeros((3, 3))
    assert einsum("ij->ji", z).flags.writeable
    z.flags.writeable = False
    assert not einsum("ij->ji", z).flags.writeable


@pytest.mark.parametrize(
    "kwargs", [{"dtype": "c16"}, {"dtype": "f4"}, {"order": "F"}, {"order": "C"}]
)
def test_12_a_view_ignores_dtype_and_order(kwargs):
    z = np.zeros((2, 3))
    view = same("ij->ji", z, **kwargs)
    assert np.shares_memory(view, z)


@pytest.mark.parametrize("dtype", ["U3", "S2", "M8[s]", "m8[D]", "i4,f8", ">f8", ">i2", "O", "g"])
def test_12_a_view_of_any_dtype(dtype):
    z = np.zeros((3, 3), dtype)
    for text in ("ij->ji", "ii->i", "ij"):
        view = einsum(text, z)
        assert view.dtype == np.einsum(text, z).dtype == z.dtype
        assert np.shares_memory(view, z)


def test_13_always_an_array_of_the_base_class():
    matrix = A.view(np.matrix)
    assert type(einsum("ij,ij->ij", matrix, matrix)) is np.ndarray
    assert type(einsum("ij", matrix)) is np.ndarray
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    assert type(einsum("i", masked)) is np.ndarray
    assert einsum("i->", masked) == np.einsum("i->", masked) == 3


class Foreign:
    """An array of another library."""

    def __init__(self):
        self.calls = []

    def __array_function__(self, function, types, args, kwargs):
        self.calls.append((function, args, kwargs))
        return "foreign"


def test_13_array_function_of_an_operand_is_honoured():
    foreign = Foreign()
    assert einsum("i,i", foreign, [1, 2]) == "foreign"
    assert einsum("i,i", [1, 2], foreign) == "foreign"
    assert einsum(foreign, [0]) == "foreign"
    assert len(foreign.calls) == 3


def test_13_array_function_of_out_is_honoured():
    foreign = Foreign()
    assert einsum("i->i", [1, 2], out=foreign) == "foreign"
