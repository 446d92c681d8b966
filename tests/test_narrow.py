"""Integers whose values need fewer bits than their dtype has."""

import itertools

import numpy as np
import pytest

from fastein import config, einsum
from fastein._nest import build
from fastein.cpu import contraction as model
from fastein.cpu import engine, narrow
from fastein.cpu.engine import engines_of
from fastein.cpu.isa import AVX512, AVX512_VNNI, host
from fastein.cpu.narrow import Bound, bound, forms, operand_axes
from fastein.cpu.schedule import schedule

WIDE = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
VALUES = {
    "small": (0, 127),
    "unsigned bytes": (0, 255),
    "signed bytes": (-128, 127),
    "some": (-1000, 1000),
    "signed pairs": (-32768, 32767),
    "all": (-(1 << 63), (1 << 64) - 1),
}

with_dots = pytest.mark.skipif(not host().dots, reason="the processor has no dot products")


@pytest.fixture(autouse=True)
def compiled():
    with config(jit="always", num_threads=2):
        yield


def integers(dtype, shape, values, seed):
    info = np.iinfo(dtype)
    low, high = (min(max(x, info.min), info.max) for x in VALUES[values])
    return np.random.default_rng(seed).integers(low, high, shape, dtype, endpoint=True)


@pytest.mark.parametrize("values", list(itertools.product(VALUES, repeat=2)), ids=" and ".join)
@pytest.mark.parametrize("dtype", WIDE)
def test_every_bit_is_that_of_numpy(dtype, values):
    a = integers(dtype, (131, 203), values[0], 0)
    b = integers(dtype, (203, 150), values[1], 1)
    want = np.einsum("ij,jk->ik", a, b)
    np.testing.assert_array_equal(einsum("ij,jk->ik", a, b), want)
    np.testing.assert_array_equal(einsum("ij,jk->ki", a, np.asfortranarray(b)), want.T)
    np.testing.assert_array_equal(einsum("ij,jk->ik", a[:, ::-1], b[::-1]), want)


@pytest.mark.parametrize("dtype", WIDE)
def test_one_wide_value_anywhere_is_seen(dtype):
    widest = np.iinfo(dtype).max
    for place in (0, 1, 4095, 4096, 130 * 140 - 1):
        a, b = np.ones((130, 140), dtype), np.full((140, 129), 3, dtype)
        a.flat[place] = widest
        np.testing.assert_array_equal(einsum("ij,jk->ik", a, b), np.einsum("ij,jk->ik", a, b))
        np.testing.assert_array_equal(einsum("ij,kj->ik", b.T, a), np.einsum("ij,kj->ik", b.T, a))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_long_sums_of_the_widest_values_that_fit(dtype):
    for low, high in ((255, 127), (-1023, 1023), (1023, 1023), (-32768, -32768), (32767, 32767)):
        a, b = np.full((128, 5000), low, dtype), np.full((5000, 130), high, dtype)
        want = np.full((128, 130), 5000 * low * high, np.int64).astype(dtype)
        np.testing.assert_array_equal(einsum("ij,jk->ik", a, b), want)
        np.testing.assert_array_equal(einsum("ij,jk->ki", a, b), want.T)


@pytest.mark.parametrize("dtype", ["int16", "int64"])
def test_many_axes_and_strides(dtype):
    a = integers(dtype, (12, 13, 30, 3), "small", 0)[:, :, ::2]
    b = integers(dtype, (3, 15, 11, 12), "some", 1)[..., ::-1]
    for equation in ("abjk,kjcd->abcd", "abjk,kjcd->dcba"):
        np.testing.assert_array_equal(einsum(equation, a, b), np.einsum(equation, a, b))


@with_dots
def test_what_is_warmed_up():
    assert [engine.what for engine in engines_of("uint64")] == [
        "uint64",
        "int64 of 16 bits",
        "int64 of 8 bits",
    ]
    assert [engine.what for engine in engines_of("uint8")] == ["int8"]
    assert [engine.what for engine in engines_of("bool")] == ["bool"]


@with_dots
def test_each_form_has_its_kernels_from_the_first_call_that_needs_it(monkeypatch):
    monkeypatch.setattr(engine, "_engines", {})
    shape = (137, 139, 149)
    for values, ready in (
        ("small", [False, False, True]),
        ("some", [False, True, True]),
        ("all", [True, True, True]),
    ):
        a = integers("int64", shape[:2], values, 0)
        b = integers("int64", shape[1:], values, 1)
        np.testing.assert_array_equal(einsum("ij,jk->ik", a, b), a @ b)
        assert [one.ready for one in engines_of("int64")] == ready


# The model


def nest_of(rows, steps, columns, dtype):
    size = np.dtype(dtype).itemsize
    return build(
        np.dtype(dtype),
        (rows, steps, columns),
        (
            ((0, 1), (rows, steps), (steps * size, size)),
            ((1, 2), (steps, columns), (columns * size, size)),
        ),
        (0, 2),
        (columns * size, size),
    )


def chosen(monkeypatch, isa, dtype, rows=200, steps=300, columns=200):
    monkeypatch.setattr(model, "host", lambda: isa)
    monkeypatch.setattr(narrow, "host", lambda: isa)
    return forms(schedule(nest_of(rows, steps, columns, dtype), matmul=False), 2)


def form_of(plan):
    return plan.contraction.tile.form


def test_forms_of_integers(monkeypatch):
    names = [form_of(plan) for plan in chosen(monkeypatch, AVX512_VNNI, "int64")]
    assert names == ["bytes", "pairs"]
    assert [form_of(plan) for plan in chosen(monkeypatch, AVX512_VNNI, "uint32")] == names
    assert chosen(monkeypatch, AVX512, "int64") == []
    assert chosen(monkeypatch, AVX512_VNNI, "int8") == []
    assert chosen(monkeypatch, AVX512_VNNI, "float32") == []
    assert chosen(monkeypatch, AVX512_VNNI, "int64", rows=100) == []


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_pairs_serve_all_integers_of_16_bits(monkeypatch, dtype):
    monkeypatch.setattr(model, "host", lambda: AVX512_VNNI)
    large, small = (schedule(nest_of(n, 70, 200, dtype), matmul=False) for n in (200, 128))
    assert (form_of(large), form_of(small)) == ("pairs", "")
    assert [form_of(plan) for plan in chosen(monkeypatch, AVX512_VNNI, dtype)] == ["bytes"]
    monkeypatch.setattr(model, "host", lambda: AVX512)
    assert form_of(schedule(nest_of(200, 70, 200, dtype), matmul=False)) == ""


def test_bounds(monkeypatch):
    plans = {
        (dtype, form_of(plan)): plan.contraction
        for dtype in ("int32", "int64")
        for plan in chosen(monkeypatch, AVX512_VNNI, dtype)
    }
    rows = plans["int32", "bytes"].inputs[0]
    assert rows == 1
    assert bound(plans["int32", "bytes"]) == Bound((7, 8), 15, 1)
    assert bound(plans["int32", "pairs"]) == Bound((15, 15), 30, -1)
    assert bound(plans["int64", "bytes"]) == Bound((7, 8), 15, 1)
    assert bound(plans["int64", "pairs"]) == Bound((15, 15), 21, -1)  # sums of 300 products


def test_what_a_bound_holds():
    signed_by_unsigned = Bound((7, 8), 15, 1)
    assert signed_by_unsigned.holds((7, 8), (True, False))
    assert not signed_by_unsigned.holds((7, 8), (True, True))
    assert not signed_by_unsigned.holds((8, 8), (False, False))
    assert not Bound((15, 15), 21, -1).holds((11, 11), (False, False))
    assert Bound((15, 15), 21, -1).holds((11, 10), (True, True))


def test_an_operand_is_one_run_where_it_is_dense():
    nest = nest_of(20, 30, 40, "int64")
    assert operand_axes(nest, 0) == [(600, 8)]
    assert operand_axes(nest, 1) == [(1200, 8)]
