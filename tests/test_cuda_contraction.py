"""Contractions by tiles: every tile in every layout, on the simulated device."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import HALVES, einsum
from test_cuda_schedule import H100, loops
from test_cuda_simulator import replaced

import fastein
from fastein_cuda.contraction import TILES, contraction
from fastein_cuda.forms import ContractionForm
from fastein_cuda.primitives_sim import SimulatedFault
from fastein_cuda.schedule import schedule
from fastein_cuda.simulator import SMALL, simulated
from fastein_cuda.tile import Tile, entries

DTYPES = (
    "float64", "complex128", "float32", "complex64", *HALVES, "int32", "int8", "uint16", "int64",
    "bool",
)  # fmt: skip
ACCURACY = {"float64": 1e-13, "complex128": 1e-13, "float16": 2e-3, "bfloat16": 8e-3}

SHAPES = [
    ("ij,jk->ik", [(70, 50), (50, 90)]),
    ("ij,kj->ik", [(70, 50), (90, 50)]),
    ("ji,jk->ik", [(64, 64), (64, 64)]),
    ("ji,kj->ik", [(33, 17), (65, 33)]),
    ("ij,jk->ki", [(70, 600), (600, 90)]),
    ("bij,bjk->bik", [(3, 70, 50), (3, 50, 90)]),
    ("abcd,cdef->abef", [(5, 6, 7, 8), (7, 8, 4, 9)]),
    ("abcd,ecfd->eabf", [(5, 6, 7, 8), (4, 7, 9, 8)]),
    ("aibj,ckj->bicka", [(3, 16, 3, 24), (2, 20, 24)]),
    ("ij,jk->ik", [(300, 40), (40, 300)]),
]


def operands(shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iub":
        return [rng.integers(0, 2 if dtype == "bool" else 7, s).astype(dtype) for s in shapes]
    parts = [rng.standard_normal((2, *s)) for s in shapes]
    return [(x[0] + 1j * x[1] if "c" in dtype else x[0]).astype(dtype) for x in parts]


def assert_close(found, expected, dtype):
    accuracy = 0 if expected.dtype.kind in "iub" else ACCURACY.get(str(dtype), 3e-6)
    assert found.shape == expected.shape
    scale = np.abs(expected.astype(complex)).max(initial=0.0)
    difference = np.abs(found.astype(complex) - expected.astype(complex)).max(initial=0.0)
    assert difference <= accuracy * scale


def expected_of(equation, given, dtype):
    exact = "float32" if dtype in HALVES else dtype
    return np.einsum(equation, *[x.astype(exact) for x in given])


@pytest.mark.parametrize("processors", [1, 132])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tile(dtype, processors):
    """With few processors the large tiles are taken, with many the small ones and split sums."""
    with simulated(replace(SMALL, processors=processors)) as device:
        for equation, shapes in SHAPES:
            given = operands(shapes, dtype)
            device.launched.clear()
            out = np.zeros_like(expected_of(equation, given, dtype), dtype)
            found = einsum(equation, *given, out=out)
            assert isinstance(device.launched[0], ContractionForm)
            assert_close(found, expected_of(equation, given, dtype), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "complex64"])
def test_where_vectors_do_not_fit(dtype):
    """Strides and addresses at which nothing may be read but element by element."""
    with simulated():
        for step in (1, 2):
            wide = operands([(135, 71), (71, 103)], dtype)
            windows = [(67, 35), (35, 51)]
            given = [
                x[1 : 1 + rows * step : step, 1 : 1 + columns * step : step]
                for x, (rows, columns) in zip(wide, windows, strict=True)
            ]
            assert_close(einsum("ij,jk->ik", *given), expected_of("ij,jk->ik", given, dtype), dtype)


def test_what_lies_beyond_the_edges_is_not_read():
    """NaN around the operands, and terms that are no multiple of a stage."""
    with simulated():
        for terms in (8, 9, 15, 16, 17, 31, 33, 255, 257, 300):
            a, b = (np.full((40, terms + 4), np.nan) for _ in range(2))
            a[:, 2:-2], b[:, 2:-2] = operands([(40, terms)] * 2, "float64")
            found = einsum("ij,kj->ik", a[:, 2:-2], b[:, 2:-2])
            assert_close(found, a[:, 2:-2] @ b[:, 2:-2].T, "float64")


@pytest.mark.parametrize("dtype", ["float64", "float16", "3x"])
def test_infinities_stay_in_their_rows(dtype):
    """With `3x` too, where an infinite operand has no rest, nor a round one."""
    given = operands([(40, 20), (20, 40)], "float32" if dtype == "3x" else dtype)
    a, b = given
    a[3, 4], a[7, 8] = np.inf, -np.inf
    b[5, 6], b[9, 10] = np.nan, np.inf
    a[:, 9] = 2  # whose rest is 0
    tf32 = "3x" if dtype == "3x" else False
    with simulated(), fastein.config(tf32=tf32), np.errstate(invalid="ignore"):
        found = einsum("ij,jk->ik", a, b)
    assert np.isinf(found).sum() > 100
    expected = expected_of("ij,jk->ik", given, a.dtype.name)
    accuracy = {"float64": 1e-12, "float16": 2e-3}.get(dtype, 3e-6)
    np.testing.assert_allclose(found, expected, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("dtype", ["float64", "float16", "float32"])
def test_wide_offsets(dtype, monkeypatch):
    from fastein_cuda import loops as module

    monkeypatch.setattr(module, "NARROW", 0)
    with simulated():
        for equation, shapes in SHAPES[:8]:
            given = operands(shapes, dtype)
            found = einsum(equation, *given)
            assert_close(found, expected_of(equation, given, dtype), dtype)


def test_tf32_is_asked_for():
    given = operands([(70, 500), (500, 90)], "float32")
    exact = given[0].astype("float64") @ given[1]
    errors = {}
    with simulated() as device:
        for tf32 in (False, True):
            with fastein.config(tf32=tf32):
                found = einsum("ij,jk->ik", *given)
            assert device.launched[-1].tile.unit == ("tf32" if tf32 else "simt")
            errors[tf32] = np.abs(found - exact).max() / np.abs(exact).max()
    assert errors[False] < 3e-6 < errors[True] < 2e-3


@pytest.mark.parametrize("terms", [16, 250, 2000])
@pytest.mark.parametrize("kind", ["normal", "positive", "of any size"])
def test_three_products_of_tf32_are_as_precise_as_float32(terms, kind):
    rng = np.random.default_rng(terms)
    a, b = rng.standard_normal((2, 40, terms))
    if kind == "positive":
        a, b = abs(a), abs(b)
    elif kind == "of any size":
        a, b = a * 10.0 ** rng.integers(-15, 15, terms), b * 10.0 ** rng.integers(-15, 15, terms)
    a, b = a.astype("float32"), b.astype("float32")
    exact = a.astype("float64") @ b.astype("float64").T
    scale = abs(a.astype("float64")) @ abs(b.astype("float64")).T
    errors = {}
    with simulated() as device:
        for tf32, unit in ((False, "simt"), ("3x", "tf32x3")):
            with fastein.config(tf32=tf32):
                found = einsum("ij,kj->ik", a, b)
            form = next(f for f in device.launched[::-1] if isinstance(f, ContractionForm))
            assert form.tile.unit == unit
            errors[tf32] = np.sqrt((((found - exact) / scale) ** 2).mean())
    assert errors["3x"] <= max(1.5 * errors[False], 2**-23)


@pytest.mark.parametrize("tf32", [True, "3x"])
def test_tf32_in_every_layout(tf32):
    with simulated(), fastein.config(tf32=tf32):
        for equation, shapes in SHAPES:
            rng = np.random.default_rng(0)
            given = [rng.integers(-9, 9, shape).astype("float32") for shape in shapes]
            np.testing.assert_array_equal(einsum(equation, *given), np.einsum(equation, *given))


@pytest.mark.parametrize("key", TILES)
@pytest.mark.parametrize("along", [("terms", "terms"), ("lines", "terms"), ("lines", "lines")])
def test_every_entry_has_one_thread(key, along):
    unit, itemsize = key
    stored = {1: "int8", 2: "float16", 4: "float32", 8: "float64", 16: "complex128"}[itemsize]
    for rows, columns, depth in TILES[key]:
        tile = Tile(unit, stored, stored, rows, columns, depth, along, (1, 1), 2)
        places = list(entries(tile, np.arange(256)))
        assert len(places) == tile.sums
        flat = np.concatenate([row * columns + column for row, column in places])
        np.testing.assert_array_equal(np.sort(flat), np.arange(rows * columns))


def test_small_products_are_nests():
    assert schedule(loops("ij,jk->ik", (15, 100), (100, 100)), H100).family == "nest"
    assert schedule(loops("ij,jk->ik", (100, 7), (7, 100)), H100).family == "nest"
    assert schedule(loops("ij,jk->ik", (16, 8), (8, 16)), H100).family == "contraction"
    assert contraction(loops("ij,ij->i", (100, 100), (100, 100)), H100, True) is None
    assert contraction(loops("ijk,jk->i", (100, 100, 9), (100, 9)), H100, True) is None


def test_sides_are_those_along_which_the_output_lies():
    straight = schedule(loops("ij,jk->ik", (64, 64), (64, 64)), H100)
    turned = schedule(loops("ij,jk->ik", (64, 64), (64, 64), out_order="F"), H100)
    assert (straight.order, turned.order) == ((0, 1), (1, 0))


def test_stages_fit_the_shared_memory():
    a100 = replace(H100, capability=(8, 0), processors=108, shared=163 << 10)
    small = replace(H100, capability=(8, 9), processors=128, shared=99 << 10)
    for machine in (H100, a100, small):
        for dtype in DTYPES:
            large = schedule(loops("ij,jk->ik", (4096,) * 2, (4096,) * 2, dtype=dtype), machine)
            assert large.form.shared <= machine.shared
            assert large.form.tile.stages >= (2 if machine is small else 3)


def test_few_tiles_split_their_sums():
    chosen = schedule(loops("ij,jk->ik", (128, 10_000), (10_000, 128)), H100)
    assert chosen.splits > 10
    assert chosen.chunk * chosen.splits >= 10_000
    assert chosen.workspace == chosen.splits * 128 * 128 * 8


MUTATIONS = {
    "a stage that has not arrived": ("wait(2)", "wait(3)"),
    "no wait": ("wait(2)", "pass"),
    "no barrier": ("barrier()", "pass"),
    "the barrier before the wait": (
        "wait(2)\n        barrier()",
        "barrier()\n        wait(2)",
    ),
    "a stage too early": ("if t >= 3:", "if t >= 2:"),
    "the wrong stage": ("((t - 3) % 4)", "((t - 2) % 4)"),
    "a stage that is in use": ("+ (t % 4)", "+ ((t - 1) % 4)"),
    "terms beyond the end": ("term + begin < upto", "term + begin < upto + 300"),
    "a table too late": ("(begin + 256)", "(begin + 512)"),
    "a table too short": ("& 511", "& 255"),
    "rows beyond the edge": ("rows - row_from", "rows - row_from + 64"),
    "the other operand's offsets": ("get(columns_b, line)", "get(rows_a, line)"),
    "some rows too many": ("line < rows))", "line < rows + 9))"),
    "a row too many": ("line < rows))", "line < rows + 1))"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_spoilt_kernel_is_caught(name):
    old, new = MUTATIONS[name]
    given = operands([(70, 600), (600, 90)], "float64")
    edited = []

    def edit(source):
        changed = source.replace(old, new)
        edited.append(changed != source)
        return changed

    with simulated(edit=edit):
        try:
            found = einsum("ij,jk->ik", *given)
        except SimulatedFault:
            found = None
    assert any(edited), "the mutation does not apply any more"
    assert found is None or not np.allclose(found, given[0] @ given[1])


def test_replaced_counts_from_one():
    assert replaced("a b a", "a", "c", 2) == "a b c"
