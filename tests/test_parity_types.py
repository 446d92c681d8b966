"""What `fastein.einsum` keeps of `numpy.einsum`, trap by trap: element types and casting.

The numbers are those of the parity page of the documentation. Values stated here were computed by
NumPy 2.4 with ``optimize=False``, and NumPy is asked again beside them.
"""

from fractions import Fraction

import numpy as np
import pytest
from helpers import both_raise, raises, same

from fastein import einsum

pytestmark = pytest.mark.usefixtures("both_tiers")

A = np.arange(6.0).reshape(2, 3)
B = np.arange(12.0).reshape(3, 4)
HALF_ONES = np.ones((4096, 2), "float16")


# Element types and casting


def test_14_python_scalars_are_strong():
    x = np.ones(3, "f4")
    assert same("i,", x, 3.0).dtype == "f8"
    assert same(",i", 3.0, x).dtype == "f8"
    assert same("i,", np.ones(3, "i1"), 3).dtype == "i8"
    assert same("i,", x, np.float32(3)).dtype == "f4"


def test_15_out_takes_part_in_promotion():
    x = np.array([100] * 3, "i1")
    assert same("i,i->", x, x) == 48
    out = np.zeros((), "i8")
    assert einsum("i,i->", x, x, out=out) == np.einsum("i,i->", x, x, out=out.copy()) == 30000


def test_16_casting_is_safe_by_default():
    x = np.ones(3)
    both_raise(TypeError, "i->i", x, out=np.zeros(3, "f4"))
    both_raise(TypeError, "i,i->i", x, x, dtype="f4")
    out = np.zeros(3, "f4")
    assert einsum("i->i", x, out=out, casting="same_kind") is out
    np.testing.assert_array_equal(out, x)


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize("casting", ["no", "equiv", "safe", "same_kind", "unsafe"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "c16", "?"])
def test_16_every_rule_as_numpy_has_it(casting, dtype):
    x = np.ones(3)
    for kwargs in ({"dtype": dtype}, {"dtype": dtype, "out": np.zeros(3, "f8")}):
        try:
            np.einsum("i,i->i", x, x, casting=casting, **kwargs)
        except TypeError:
            raises(TypeError, "i,i->i", x, x, casting=casting, **kwargs)
        else:
            same("i,i->i", x, x, casting=casting, **kwargs)


def test_17_no_integer_is_widened():
    assert same("i->", np.array([200, 100], "u1")) == 44
    assert same("i->", np.array([100, 100], "i1")) == -56
    assert same("i,i->i", np.ones(2, "u8"), np.ones(2, "i8")).dtype == "f8"
    assert same("i,i->i", np.ones(2, "i4"), np.ones(2, "f4")).dtype == "f8"
    assert same("i,i->i", np.ones(2, "i2"), np.ones(2, "f4")).dtype == "f4"


def test_17_bool_is_or_of_and():
    yes = np.array([True, True])
    assert same("i,i->", yes, yes).dtype == bool
    assert same("i->", yes)
    assert not same("i,i->", yes, ~yes)
    assert same("i->", yes, dtype=int) == 2


def test_18_object_arrays():
    x = np.array([1, Fraction(1, 3), 10**30], object)
    assert same("i,i->", x, x) == 1 + Fraction(1, 9) + 10**60
    same("i,j->ij", x, x)
    assert type(einsum("i->", np.array([True, True], object))) is int
    with pytest.raises(TypeError):
        np.einsum("i->", np.array(["a", "b"], object))
    raises(TypeError, "i->", np.array(["a", "b"], object))


@pytest.mark.parametrize("dtype", ["m8[s]", "U3", "M8[s]", "i4,f8"])
def test_18_types_without_sums(dtype):
    both_raise(TypeError, "i->", np.zeros(2, dtype))
    both_raise(TypeError, "i,i->i", np.zeros(2, dtype), np.zeros(2, dtype))


def test_18_timedelta_is_told_so():
    assert "invalid data type for einsum" in str(raises(TypeError, "i->", np.zeros(2, "m8[s]")))


@pytest.mark.parametrize("dtype", ["g", "G"])
def test_18_long_doubles_keep_their_digits(dtype):
    tiny = np.finfo(dtype).eps
    x = np.array([1, tiny], dtype)
    assert same("i->", x) == 1 + tiny
    assert einsum("i->", x) != 1
    same("i,i->i", x, x)


@pytest.mark.parametrize("dtype", [">f8", ">i4", ">c16", ">f2", ">u2"])
def test_18_big_endian_operands_give_native_results(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    assert same("ij->j", x).dtype.isnative
    assert same("ij,kj->ik", x, x).dtype.isnative


def test_18_a_big_endian_dtype_means_the_native_one():
    x = np.arange(3.0)
    # NumPy reads the swapped bytes as if they were native.
    assert np.einsum("i,i->", x, x, dtype=">f8") != 5
    answer = einsum("i,i->", x, x, dtype=">f8")
    assert answer == 5
    assert answer.dtype.isnative


def test_19_float16_sums_are_kept_in_float32():
    np.testing.assert_array_equal(np.einsum("ij->j", HALF_ONES), [2048, 2048])
    answer = einsum("ij->j", HALF_ONES)
    assert answer.dtype == "f2"
    np.testing.assert_array_equal(answer, [4096, 4096])
    np.testing.assert_array_equal(einsum("ij,ij->j", HALF_ONES, HALF_ONES), [4096, 4096])


def test_19_operands_are_rounded_to_float16_before_they_are_multiplied():
    x = np.full((2, 1), 1 + 2.0**-11, "float32")  # in float16 it is 1
    how = {"dtype": "float16", "casting": "unsafe", "optimize": [(0, 1), (0, 1)]}
    big = np.full((2, 1), 2.0**11, "float32")
    assert einsum("ij,ij,ij->", x, x, big, **how) == 2**12


def test_19_float16_is_rounded_once():
    x = np.full(3, 0.1, "f2")
    exact = 3 * np.float64(x[0]) ** 3
    assert einsum("i,i,i->", x, x, x) == np.float16(exact)
    # Through an intermediate of float16 this would overflow.
    big, small = np.full((2, 2), 300, "f2"), np.full((2, 2), 0.001, "f2")
    for optimize in (False, True, "auto"):
        answer = einsum("ij,jk,kl->il", big, big, small, optimize=optimize)
        np.testing.assert_allclose(answer, 4 * 300 * 300 * np.float64(small), rtol=1e-3)


def test_20_no_conjugation():
    z = np.array([1 + 2j, 3 - 1j])
    assert same("i,i->", z, z) == (1 + 2j) ** 2 + (3 - 1j) ** 2


def test_20_the_complex_product_is_the_naive_one():
    answer = same("i,i->i", np.array([np.inf + 0j]), np.array([1 + 0j]))
    assert answer[0].real == np.inf
    assert np.isnan(answer[0].imag)
    total = einsum("i,i->", np.array([np.inf + 0j]), np.array([1 + 0j]))
    assert total.real == np.inf
    assert np.isnan(total.imag)


def test_20_zeros_are_not_skipped():
    assert np.isnan(same("i,i->", [np.nan, 1.0], [0.0, 1.0]))
    assert np.isnan(same("i,i->", [np.inf, 1.0], [0.0, 1.0]))
    x = np.array([[np.nan, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(einsum("ij,jk->ik", x, np.zeros((2, 2))), [[np.nan] * 2, [0, 0]])


@pytest.mark.filterwarnings("error")
def test_20_no_floating_point_warnings():
    with np.errstate(all="raise"):
        x = np.array([[1e300, np.inf], [np.nan, 1e-300]])
        einsum("ij,jk->ik", x, x)
        einsum("ij,ij->", x, -x)
        einsum("ij,ij->ij", x, x)
        with np.errstate(over="ignore"):
            half = np.full((4, 4), 60000, "f2")
        einsum("ij,jk->ik", half, half)


def test_21_products_go_left_to_right_without_a_path():
    values = [1e200], [1e200], [1e-300]
    assert same("i,i,i->i", *values, optimize=False) == np.inf
    assert einsum("i,i,i->i", *reversed(values), optimize=False) == pytest.approx(1e100)
