"""Packing words of several steps against plain NumPy, inside fences that no access may cross."""

import ctypes

import numpy as np
import pytest
from helpers import any_bits

from fastein.cpu import words
from fastein.cpu.elements import WORDS
from fastein.cpu.isa import AVX2, AVX512, PLAIN

PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_ssize_t, ctypes.c_ssize_t)
ISAS = {isa.name: isa for isa in (AVX512, AVX2, PLAIN)}
SINGLES, RUNS, ALONG = range(3)
POISON = 0xA5

every_kernel = pytest.mark.parametrize(
    ("element", "isa"), [(e, i) for e in WORDS for i in ISAS], ids="-".join
)


def joined(array, element):
    """Return the words of ``array[step, row]``, by NumPy."""
    form = WORDS[element]
    steps, rows = array.shape
    padded = np.zeros((-(-steps // form.steps) * form.steps, rows), np.uint32)
    padded[:steps] = array != 0 if form.bits == 1 else array & ((1 << form.bits) - 1)
    shifts = np.arange(form.steps, dtype=np.uint32) * form.bits
    groups = padded.reshape(-1, form.steps, rows) << shifts[:, None].astype(np.uint32)
    return np.bitwise_or.reduce(groups, axis=1)


def pack(element, isa, array, way, pitch):
    """Run a kernel on ``array[step, row]`` and return its words, as wide as the pitch."""
    steps, rows = array.shape
    count = -(-steps // WORDS[element].steps)
    size = count * pitch * 4
    memory = np.full(size + 128, POISON, np.uint8)
    table = np.array(
        [k * array.strides[0] for k in range(steps)] + [r * array.strides[1] for r in range(rows)],
        np.intp,
    )
    shape = np.array([steps, pitch, rows, way], np.intp)
    data = np.array([array.ctypes.data, memory.ctypes.data + 64], np.intp)
    kernel = words.kernel(element, ISAS[isa])
    arguments = [x.ctypes.data for x in (data, shape, table)]
    PROTOTYPE(kernel.address)(*arguments, None, 0, 0)
    assert (memory[:64] == POISON).all()
    assert (memory[64 + size :] == POISON).all()
    panel = memory[64 : 64 + size].view(np.uint32).reshape(count, pitch)
    assert (panel[:, rows:].view(np.uint8) == POISON).all()
    return panel[:, :rows]


def elements(element, shape, order):
    """Return any bit patterns, or one in three not 0, at the end of what may be read."""
    form = WORDS[element]
    dtype = np.dtype(f"u{form.source}")
    values = any_bits(np.random.default_rng(0), dtype, shape)
    if form.bits == 1:
        values[np.random.default_rng(1).random(shape) < 0.7] = 0
    return np.asarray(values, order=order)


@every_kernel
@pytest.mark.parametrize("steps", [1, 2, 5, 31, 32, 33, 64, 70])
def test_single_elements(element, isa, steps):
    for rows in (1, 3, 8):
        array = elements(element, (2 * steps, 3 * rows), "C")[::2, ::3]
        got = pack(element, isa, array, SINGLES, 8)
        np.testing.assert_array_equal(got, joined(array, element))


@every_kernel
@pytest.mark.parametrize("steps", [1, 4, 31, 33, 64, 70])
def test_contiguous_rows(element, isa, steps):
    least = words.together(ISAS[isa])
    for rows in (least, least + 1, 3 * least, 6 * least):
        array = elements(element, (steps, rows), "C")
        got = pack(element, isa, array, RUNS, 8 * least)
        np.testing.assert_array_equal(got, joined(array, element))


@every_kernel
@pytest.mark.parametrize("steps", [1, 4, 31, 33, 64, 70])
def test_contiguous_steps(element, isa, steps):
    for rows in (1, 7, 16):
        array = elements(element, (steps, rows), "F")
        got = pack(element, isa, array, ALONG, 16)
        np.testing.assert_array_equal(got, joined(array, element))


def test_sources_say_what_the_machine_code_depends_on():
    sources = {words.source(element, isa) for element in WORDS for isa in ISAS.values()}
    assert len(sources) == len(WORDS) * len(ISAS)
