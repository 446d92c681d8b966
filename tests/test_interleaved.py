"""Kernels that pick channels apart or lace them together: against NumPy, and what they take."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import check_golden
from test_schedule import nest_of

from fastein import config, einsum
from fastein.cpu import isa
from fastein.cpu.interleaved import MOST_CHANNELS, interleaved
from fastein.cpu.schedule import schedule

RNG = np.random.default_rng(0)


def bits(shape, dtype):
    raw = RNG.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    return (raw & 3 if dtype == "?" else raw).view(dtype)[..., 0]


def wanted(equation, array):
    truth = array.view("u1") != 0 if array.dtype == bool else array
    return np.einsum(equation, truth)


def placed(shape, dtype, offset):
    """An array that begins `offset` bytes beyond a line, in memory that is poisoned around it."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    memory = np.full(size + 320, 0x5A, "u1")
    begin = -memory.ctypes.data % 64 + 64 + offset
    return memory[begin : begin + size].view(dtype).reshape(shape), memory


@pytest.mark.parametrize("dtype", ["u1", "?", "i2", "e", "f4", "f8", "F"])
@pytest.mark.parametrize(
    "equation", ["hwc->chw", "chw->hwc", "nhwc->nchw", "nchw->nhwc", "hcw->hwc"]
)
def test_against_numpy(equation, dtype, monkeypatch):
    for streamed in (1e9, 0):
        monkeypatch.setattr("fastein.cpu.interleaved.STREAMED_BYTES", streamed)
        for channels in (2, 3, 4, 5, 7):
            for offset in (0, 1, 8, 16):
                sizes = {"n": 3, "h": 67, "w": 260 + channels, "c": channels}
                source, target = equation.split("->")
                array, _ = placed([sizes[x] for x in source], dtype, offset)
                array[...] = bits(array.shape, dtype)
                out, memory = placed([sizes[x] for x in target], dtype, offset)
                memory[...] = 0x5A
                want = memory.copy()
                begin = out.ctypes.data - memory.ctypes.data
                want[begin : begin + out.nbytes] = (
                    np.ascontiguousarray(wanted(equation, array)).reshape(-1).view("u1")
                )
                with config(jit="always"):
                    einsum(equation, array, out=out)
                assert (memory == want).all(), (channels, offset)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads):
    array = bits((300, 3000, 3), "f4")
    out = np.zeros((3, 300, 3000), "f4")
    back = np.zeros_like(array)
    with config(jit="always", num_threads=threads):
        einsum("hwc->chw", array, out=out)
        einsum("chw->hwc", out, out=back)
    np.testing.assert_array_equal(out.view("u4"), array.transpose(2, 0, 1).view("u4"))
    np.testing.assert_array_equal(back.view("u4"), array.view("u4"))


def channels_of(equation, dtype="f4", **sizes):
    return interleaved(nest_of(equation, sizes, dtype))


def test_vectors_and_directions(monkeypatch):
    monkeypatch.setattr("fastein.cpu.interleaved.host", lambda: isa.AVX2)
    apart = channels_of("xc->cx", x=10_000, c=3).form
    assert (apart.channels, apart.laces, apart.lanes) == (3, False, 8)
    assert channels_of("cx->xc", x=10_000, c=3).form.laces
    assert channels_of("xc->cx", dtype="i1", x=10_000, c=3).form.lanes == 32


def test_only_what_aligns_streams():
    assert channels_of("xc->cx", x=6_000_000, c=3).form.streams
    assert not channels_of("xc->cx", x=6_000_001, c=3).form.streams  # rows begin anywhere
    assert channels_of("cx->xc", x=6_000_001, c=3).form.streams
    assert not channels_of("cx->xc", x=6_000_001, c=4).form.streams
    assert not channels_of("xc->cx", x=60_000, c=3).form.streams


@pytest.mark.parametrize(
    ("equation", "dtype", "x", "c"),
    [
        ("xc->cx", "f4", 10_000, MOST_CHANNELS + 1),
        ("xc->cx", "D", 10_000, 3),
        ("xc->cx", "f4", 60, 3),
        ("xc->xc", "f4", 10_000, 3),
        ("xc->x", "f4", 10_000, 3),
    ],
)
def test_what_is_not_of_channels(equation, dtype, x, c):
    assert channels_of(equation, dtype, x=x, c=c) is None


def test_schedules():
    nest = nest_of("xc->cx", {"x": 10_000, "c": 3}, "f4")
    assert schedule(nest).family == "nest"
    assert schedule(nest, engine=False).family == "permutation"


@pytest.mark.parametrize(("name", "equation"), [("apart", "nxc->ncx"), ("laced", "cx->xc")])
def test_golden(name, equation, request, monkeypatch):
    monkeypatch.setattr("fastein.cpu.interleaved.host", lambda: isa.AVX512)
    source = channels_of(equation, n=3, x=6_400_000, c=3).form.source()
    check_golden(source, f"interleaved/{name}", request)
