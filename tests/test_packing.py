"""Packing kernels against plain NumPy, inside fences that no access may cross."""

from __future__ import annotations

import ctypes
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from helpers import any_bits

from fastein.cpu import packing
from fastein.cpu.isa import AVX2, AVX512, NEON, PLAIN

PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_ssize_t, ctypes.c_ssize_t)
ISAS = {isa.name: isa for isa in (AVX512, AVX2, PLAIN)}
ELEMENTS = list(packing.ELEMENTS)
SLACK = 64
POISON = 0xA5

# element: dtype read, dtype written
DTYPES = {
    "raw1": ("u1", "u1"),
    "raw2": ("u2", "u2"),
    "raw4": ("u4", "u4"),
    "raw8": ("u8", "u8"),
    "raw16": ("c16", "c16"),
    "bool": ("u1", "?"),  # bytes of any value, as a view makes them
    "int8": ("i1", "i2"),
    "uint8": ("u1", "i2"),
    "float16": ("f2", "f4"),
}

every_kernel = pytest.mark.parametrize(
    ("element", "isa"), [(e, i) for e in ELEMENTS for i in ISAS], ids="-".join
)


def numbers(rng, element, shape):
    """Return an array of any bit patterns, but for the NaN of float16, whose payload may change."""
    dtype = np.dtype(DTYPES[element][0])
    raw = any_bits(rng, dtype, shape)
    if dtype.kind == "f":
        return np.where(np.isnan(raw), dtype.type(0.1), raw)
    return raw


def pack(kind, element, isa, source, shape, table, steps):
    """Run a kernel and return its panel, `steps` by the pitch."""
    dtype = np.dtype(DTYPES[element][1])
    size = steps * shape[1] * dtype.itemsize
    memory = np.full(64 + size + SLACK + 64, POISON, np.uint8)
    shape, table = np.array(shape, np.intp), np.array(table, np.intp)
    data = np.array([source, memory.ctypes.data + 64], np.intp)
    kernel = packing.kernel(kind, element, ISAS[isa])
    arguments = [array.ctypes.data for array in (data, shape, table)]
    PROTOTYPE(kernel.address)(*arguments, None, 0, 0)
    assert (memory[:64] == POISON).all()
    assert (memory[64 + size + SLACK :] == POISON).all()
    return memory[64 : 64 + size].view(dtype).reshape(steps, shape[1])


def same(panel, expected):
    """Whether the rows of a panel are `expected` ([k, r]), bit by bit, as after widening."""
    expected = np.ascontiguousarray(expected).astype(panel.dtype)
    return np.ascontiguousarray(panel[:, : expected.shape[1]]).tobytes() == expected.tobytes()


def vector(element, isa):
    """Return the packed elements of a vector."""
    return ISAS[isa].vector_bytes // np.dtype(DTYPES[element][1]).itemsize


def pack_rows(element, isa, array, pitch, segments=None):
    """Pack ``array[k, r]``, whose rows are contiguous within segments of given starts."""
    nk, rows = array.shape
    segments = segments or [(0, rows)]
    table = [k * array.strides[0] for k in range(nk)]
    for start, length in segments:
        table += [start * array.itemsize, length]
    shape = [nk, pitch, len(segments)]
    return pack("rows", element, isa, array.ctypes.data, shape, table, nk)


def pack_transposed(element, isa, array, pitch, k_step=1):
    """Pack ``array[r, k]``, whose rows are contiguous."""
    rows, nk = array.shape
    table = [min(r, rows - 1) * array.strides[0] for r in range(pitch)]
    steps = (nk - 1) * k_step + 1
    shape = [nk, pitch, rows, k_step]
    return pack("transposed", element, isa, array.ctypes.data, shape, table, steps)


def pack_gathered(element, isa, array, pitch):
    """Pack ``array[k, r]`` of any strides."""
    nk, rows = array.shape
    table = [k * array.strides[0] for k in range(nk)]
    table += [r * array.strides[1] for r in range(rows)]
    return pack("gathered", element, isa, array.ctypes.data, [nk, pitch, rows], table, nk)


@every_kernel
def test_rows(element, isa):
    rng = np.random.default_rng(1)
    for pitch in [*range(1, 71), 6 * vector(element, isa)]:
        array = numbers(rng, element, (int(rng.integers(1, 9)), pitch))
        for operand in (array, array[::-1]):
            assert same(pack_rows(element, isa, operand, pitch), operand), pitch


@every_kernel
def test_rows_of_the_pitches_of_tiles(element, isa):
    rng = np.random.default_rng(2)
    half = max(1, vector(element, isa) // 2)
    for halves in range(1, 13):
        array = numbers(rng, element, (5, halves * half + 3))[:, : halves * half]
        assert same(pack_rows(element, isa, array, halves * half), array), halves


@every_kernel
def test_fewer_rows_than_the_pitch(element, isa):
    rng = np.random.default_rng(3)
    full = vector(element, isa)
    for rows in range(1, 3 * full):
        array = numbers(rng, element, (3, rows))
        pitch = -(-rows // full) * full
        assert same(pack_rows(element, isa, array, pitch), array), rows
        assert same(pack_gathered(element, isa, array, pitch), array), rows
        assert same(pack_transposed(element, isa, np.asfortranarray(array).T, pitch), array), rows


@every_kernel
def test_rows_in_segments(element, isa):
    rng = np.random.default_rng(4)
    for longest in (1, 2, 3, 5, 16, 70):
        lengths = rng.integers(1, longest + 1, 9)
        gaps = rng.integers(0, 4, 9)
        starts = np.cumsum([0, *(lengths + gaps)[:-1]])
        starts, lengths = starts[::-1].tolist(), lengths[::-1].tolist()
        array = numbers(rng, element, (4, max(starts) + 70))
        segments = list(zip(starts, lengths, strict=True))
        wanted = np.concatenate([array[:, s : s + n] for s, n in segments], axis=1)
        pitch = wanted.shape[1] + 3
        assert same(pack_rows(element, isa, array, pitch, segments), wanted), longest


@every_kernel
def test_transposed(element, isa):
    rng = np.random.default_rng(5)
    half = max(1, vector(element, isa) // 2)
    for nk in range(1, 71):
        rows = int(rng.integers(1, 4)) * half
        array = numbers(rng, element, (rows, nk + 9))
        for operand in (array[:, :nk], array[::-1, 9:], array[:, nk % 10 :][:, :nk]):
            assert same(pack_transposed(element, isa, operand, rows), operand.T), (rows, nk)


@every_kernel
def test_transposed_leaves_the_steps_between_alone(element, isa):
    rng = np.random.default_rng(6)
    half = max(1, vector(element, isa) // 2)
    for nk in (1, 3, 17, 70):
        array = numbers(rng, element, (3 * half, nk))
        panel = pack_transposed(element, isa, array, 3 * half, k_step=3)
        assert same(panel[::3], array.T)
        poison = np.full_like(panel, 0)
        poison.view(np.uint8)[...] = POISON
        assert panel[1::3].tobytes() == poison[1::3].tobytes()


@every_kernel
def test_gathered(element, isa):
    rng = np.random.default_rng(7)
    for rows in range(1, 71):
        array = numbers(rng, element, (4 * rows, 11))
        for operand in (array[::4, ::3].T, array[::-2].T[:, :rows], array.T[::2, 1::2]):
            panel = pack_gathered(element, isa, operand, operand.shape[1])
            assert same(panel, operand), rows


@every_kernel
def test_gathered_from_every_second_element(element, isa):
    rng = np.random.default_rng(9)
    array = numbers(rng, element, (3, 280))
    for rows in range(1, 141):
        for operand in (array[:, : 2 * rows : 2], array[::-1, 280 - 2 * rows :: 2]):
            assert same(pack_gathered(element, isa, operand, rows), operand), rows
    # one row is out of step
    wanted = array[:, [*range(0, 138, 2), 139]]
    table = [k * array.strides[0] for k in range(3)]
    table += [r * array.itemsize for r in (*range(0, 138, 2), 139)]
    assert same(pack("gathered", element, isa, array.ctypes.data, [3, 70, 70], table, 3), wanted)


GOLDEN = pathlib.Path(__file__).parent / "golden" / "packing"
SOURCES = [
    ("rows", "raw4", "avx512"),
    ("rows", "float16", "plain"),
    ("transposed", "raw8", "avx512"),
    ("transposed", "raw4", "avx2"),
    ("gathered", "int8", "avx2"),
]


@pytest.mark.parametrize(("kind", "element", "isa"), SOURCES, ids="-".join)
def test_golden(kind, element, isa, golden):
    golden(GOLDEN / f"{kind}_{element}_{isa}.txt", packing.source(kind, element, ISAS[isa]))


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {"_".join(names) for names in SOURCES}


def test_sources_are_tidy_python_and_differ_with_all_that_they_depend_on():
    sources = {
        (kind, element, isa): packing.source(kind, element, isa)
        for kind in packing.KINDS
        for element in ELEMENTS
        for isa in (*ISAS.values(), NEON)
    }
    assert len(set(sources.values())) == len(sources)
    for source in sources.values():
        compile(source, "source", "exec")
        assert max(map(len, source.splitlines())) <= 100
        assert source == "\n".join(line.rstrip() for line in source.splitlines()) + "\n"


FENCED = """
import ctypes, mmap, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_packing import ELEMENTS, numbers, pack_gathered, pack_rows, pack_transposed, same, vector

isa = sys.argv[1]
rng = np.random.default_rng(8)
PAGE = mmap.PAGESIZE
memory = mmap.mmap(-1, 18 * PAGE)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for fence in (base, base + 17 * PAGE):
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(PAGE), 0) == 0
inside = np.frombuffer(memory, np.uint8, 16 * PAGE, PAGE)

def placed(element, shape, last):
    # an array that ends with the memory, or begins with it
    values = numbers(rng, element, shape)
    part = inside[-values.nbytes:] if last else inside[:values.nbytes]
    array = part.view(values.dtype).reshape(shape)
    array[...] = values
    return array

def check(element, n, last):
    half = max(1, vector(element, isa) // 2)
    array = placed(element, (5, n), last)
    for operand in (array, array[::-1]):
        assert same(pack_rows(element, isa, operand, n), operand)
        assert same(pack_rows(element, isa, operand, n + half), operand)
        assert same(pack_transposed(element, isa, operand, -(-5 // half) * half), operand.T)
        assert same(pack_gathered(element, isa, operand, n), operand)
        assert same(pack_gathered(element, isa, operand.T, 5), operand.T)
    # the last element is one of every second
    array = placed(element, (3, 2 * n + 129), last)[:, (0 if last else 1)::2]
    assert same(pack_gathered(element, isa, array, array.shape[1]), array)
    array = placed(element, (n, 5), last)
    assert same(pack_transposed(element, isa, array, -(-n // half) * half), array.T)
    array = placed(element, (3, n), last)
    segments = [(start, min(4, n - start)) for start in range(0, n, 4)]
    assert same(pack_rows(element, isa, array, n, segments), array)

for element in ELEMENTS:
    for last in (True, False):
        for n in range(1, 71):
            check(element, n, last)
print("all of", inside.size, "bytes")
"""


@pytest.mark.parametrize("isa", ISAS)
def test_nothing_is_read_outside_the_operand(isa):
    """In a process of its own, because it would end by a signal."""
    here = str(pathlib.Path(__file__).parent)
    command = [sys.executable, "-c", FENCED, isa, here]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("all of")
