"""Products of float16 and bfloat16 step by step: intermediates are rounded by nobody."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import HALVES, einsum

import fastein
from fastein_cuda.forms import ContractionForm, NestForm
from fastein_cuda.simulator import SMALL, simulated

EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}

CHAINS = [
    ("ij,jk,kl->il", [(40, 50), (50, 60), (60, 33)]),
    ("ij,jk,kl,lm->im", [(20, 50), (50, 60), (60, 33), (33, 70)]),
    ("ijx,jk->ik", [(40, 50, 5), (50, 60)]),
    ("ij,jky->ik", [(40, 50), (50, 60, 7)]),
    ("ijx,jky->ki", [(40, 50, 3), (50, 60, 7)]),
    ("ij,jk,kl->l", [(40, 50), (50, 60), (60, 33)]),
    ("bij,bjk,bkl->bil", [(300, 3, 3)] * 3),
    ("i,i,i->", [(3000,)] * 3),
]


def operands(shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def exact(equation, given):
    return np.einsum(equation, *[x.astype("float64") for x in given], optimize=True)


def error(found, expected):
    """The root mean square error, in units of the mean square of what is expected."""
    return np.sqrt(((found.astype("float64") - expected) ** 2).mean() / (expected**2).mean())


def launched(equation, given, **how):
    """The result on the simulated device, and the forms of its kernels."""
    with simulated(replace(SMALL, processors=4)) as device:
        return einsum(equation, *given, **how), list(device.launched)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("equation", "shapes"), CHAINS)
def test_nothing_is_lost_but_by_the_last_rounding(equation, shapes, dtype):
    given = operands(shapes, dtype)
    found, _ = launched(equation, given)
    assert found.dtype == dtype
    expected = exact(equation, given)
    rounded_once = error(expected.astype(dtype), expected)
    assert error(found, expected) <= 1.02 * rounded_once + 2e-7


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_that_cancel(dtype):
    """What is left of large terms is as precise as on the CPU; bfloat16 keeps 3 bits more."""
    a, b, c = operands([(32, 64), (64, 96), (96, 32)], dtype)
    c[48:] = c[:48]
    b[:, 48:] = -b[:, :48] * (1 + 2 * EPS[dtype])
    expected = exact("ij,jk,kl->il", (a, b, c))
    found, _ = launched("ij,jk,kl->il", (a, b, c))
    unrounded = np.einsum("ij,jk,kl->il", *[x.astype("float32") for x in (a, b, c)], optimize=True)
    least = error(unrounded.astype(dtype), expected)
    stepwise = (a.astype("float32") @ b.astype("float32")).astype(dtype).astype("float32")
    rounded = error((stepwise @ c.astype("float32")).astype(dtype), expected)
    assert error(found, expected) <= (1.02 * least if dtype == "float16" else rounded / 4)


@pytest.mark.parametrize("dtype", HALVES)
def test_every_product_of_matrices_is_the_tensor_cores(dtype):
    last = "tf32" if dtype == "bfloat16" else "tf32x3"
    for equation, shapes in CHAINS[:5]:
        _, forms = launched(equation, operands(shapes, dtype))
        products = [form for form in forms if isinstance(form, ContractionForm)]
        units = [form.tile.unit for form in products]
        assert units == (["hmma", last, last][: len(shapes) - 1] if len(shapes) > 2 else [last])
        assert products[-1].stored[2] == dtype  # no kernel beside it rounds the result
        assert not any(form.stored[:1] == ("float32",) for form in forms if type(form) is NestForm)


@pytest.mark.parametrize("dtype", HALVES)
def test_products_with_vectors_read_both_as_they_are(dtype):
    _, forms = launched("ij,jk,kl->l", operands([(40, 50), (50, 60), (60, 33)], dtype))
    assert [form.nin for form in forms] == [1, 2, 2]  # the sum over i, and no conversion
    assert all(dtype in form.stored[:-1] for form in forms)


def test_intermediates_may_be_larger_than_float16():
    a, b = (np.full((32, 64), 200, "float16") for _ in range(2))
    c = np.full((32, 32), 2.0**-14, "float16")
    found, _ = launched("ij,kj,kl->il", (a, b, c))
    np.testing.assert_array_equal(found, np.full((32, 32), 64 * 40000 * 32 * 2.0**-14, "float16"))


@pytest.mark.parametrize("dtype", HALVES)
def test_infinities(dtype):
    a, b, c = (abs(x) for x in operands([(32, 40), (40, 48), (48, 56)], dtype))
    a[3, 4], a[5, 6], c[7, 8], c[9, 10] = np.inf, np.nan, -np.inf, np.inf
    with np.errstate(invalid="ignore"):
        found, _ = launched("ij,jk,kl->il", (a, b, c))
        wide = [x.astype("float32") for x in (a, b, c)]
        expected = fastein.einsum("ij,jk,kl->il", *wide)
    assert np.isposinf(expected).any()
    assert np.isneginf(expected).any()
    for kind in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(kind(found.astype("float32")), kind(expected))


@pytest.mark.parametrize("dtype", HALVES)
def test_operands_and_results_of_other_dtypes(dtype):
    """They are rounded first, as NumPy does; out of another dtype takes part."""
    a, b, c = operands([(32, 40), (40, 48), (48, 56)], dtype)
    small = (c * 9).astype("int8")
    found, _ = launched("ij,jk,kl->il", (a, b, small))
    assert found.dtype == dtype
    expected = exact("ij,jk,kl->il", (a, b, small))
    assert error(found, expected) <= 1.02 * error(expected.astype(dtype), expected)
    out = np.zeros((32, 56), dtype)
    found, _ = launched("ij,jk,kl->il", (a, b, c), out=out)
    assert found is out
    wide = operands([(32, 40), (40, 48), (48, 56)], "float32")
    narrow, _ = launched("ij,jk,kl->il", wide, dtype=dtype, casting="unsafe")
    np.testing.assert_array_equal(narrow, found)


@pytest.mark.parametrize("dtype", HALVES)
def test_misaligned_operands(dtype):
    given = []
    for x in operands([(32, 40), (40, 48), (48, 56)], dtype):
        raw = np.zeros(x.nbytes + 1, np.uint8)
        given.append(raw[1:].view(dtype).reshape(x.shape))
        given[-1][...] = x
    assert not given[0].flags.aligned
    found, _ = launched("ij,jk,kl->il", given)
    expected = exact("ij,jk,kl->il", given)
    assert error(found, expected) <= 1.02 * error(expected.astype(dtype), expected)
