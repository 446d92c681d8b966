"""Kernels of explicit vectors, after LLVM's few passes for them and after all of Numba's."""

import ctypes
from functools import partial

import numpy as np
import pytest

from fastein.cpu import compiler, packing
from fastein.cpu.isa import host
from fastein.cpu.tile import kernel, tile_for

PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_ssize_t, ctypes.c_ssize_t)


@pytest.fixture
def built(monkeypatch):
    """Return a function that builds a kernel anew, with its vectors explicit or not."""

    def build(make, is_explicit):
        def assemble(source, names, version, explicit=False):
            assert explicit
            return compiler.build(source, names(), f"{hash(source)} {is_explicit}", is_explicit)

        with monkeypatch.context() as patch:
            patch.setattr(compiler, "assemble", assemble)
            patch.setattr(compiler, "files", lambda: None)
            return make()

    return build


def words(*values):
    return (ctypes.c_ssize_t * len(values))(*values)


def call(kernel, arrays, shape, table, end):
    pointers = words(*[array.ctypes.data for array in arrays])
    PROTOTYPE(kernel.address)(pointers, words(*shape), words(*table), None, 0, end)


@pytest.mark.parametrize("dtype", ["float32", "int16", "complex128"])
def test_tiles_compute_the_same(built, dtype):
    tile, steps = tile_for(dtype, host()), 33
    rng = np.random.default_rng(0)
    size, pitch = np.dtype(dtype).itemsize, tile.column_pitch
    a = rng.integers(-9, 9, (steps, tile.rows)).astype(dtype)
    b = rng.integers(-9, 9, (steps, pitch)).astype(dtype)
    row_offsets = [r * size for r in range(tile.rows)]
    runs = range(tile.rows, 0, -1)
    columns = [c * tile.rows * size for c in range(tile.columns)]
    places, vectors = [0] * tile.rows, [tile.vectors] * tile.rows
    a_steps = [k * tile.rows * size for k in range(steps)]
    b_steps = [k * pitch * size for k in range(steps)]
    table = [*row_offsets, *runs, *columns, *columns, *places, *vectors, *a_steps, *b_steps]
    table += [0] * tile.columns
    shape = (steps, tile.rows, 0, 0, size, tile.rows, tile.rows, 1, -1)
    results = []
    for explicit in (False, True):
        out, spare = (np.full((tile.columns, tile.rows), 7, dtype) for _ in range(2))
        made = built(partial(kernel, tile), explicit)
        call(made, (a, b, out, spare), shape, table, tile.columns)
        results.append(out)
    np.testing.assert_array_equal(results[0], (b.T @ a)[: tile.columns])
    np.testing.assert_array_equal(results[1], results[0])


@pytest.mark.parametrize("kind", packing.KINDS)
def test_panels_are_the_same(built, kind):
    isa, steps = host(), 37
    pitch = isa.vector_bytes // 8
    source = np.random.default_rng(0).random((steps, steps))
    across, along = (8, 8 * steps) if kind == "rows" else (8 * steps, 8)
    places = [r * across for r in range(pitch)]
    table = {
        "rows": [*(k * along for k in range(steps)), 0, pitch],
        "transposed": places,
        "gathered": [*(k * along for k in range(steps)), *places],
    }[kind]
    shape = (steps, pitch, 1 if kind == "rows" else pitch, 1)
    want = source[:, :pitch] if kind == "rows" else source[:pitch].T
    for explicit in (False, True):
        panel = np.full(steps * pitch + pitch, 7.0)
        made = built(partial(packing.kernel, kind, "raw8", isa), explicit)
        call(made, (source, panel), shape, table, 1)
        np.testing.assert_array_equal(panel[: steps * pitch].reshape(steps, pitch), want)
