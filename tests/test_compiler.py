"""Compiled kernels against NumPy, called by their address as the runtime calls them."""

from __future__ import annotations

import ctypes
import functools
import linecache
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

import fastein
from fastein.cpu import codegen, compiler
from fastein.store import KernelStore

DTYPES = list(codegen.ITEMSIZE)
INTEGERS = [name for name in DTYPES if "int" in name]
PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_ssize_t, ctypes.c_ssize_t)


class Nest(NamedTuple):
    """The attributes of a `LoopNest` that the code generator reads."""

    dtype: np.dtype
    nin: int
    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    summed: tuple[bool, ...]


def call(kernel, nest, arrays, begin=0, end=None):
    """Run a kernel on arrays that have an axis for every loop of the nest."""
    if end is None:
        end = nest.sizes[0] if nest.sizes else 1

    def table(values):
        return (ctypes.c_ssize_t * max(1, len(values)))(*values)

    pointers = table([array.ctypes.data for array in arrays])
    strides = table([stride for operand in nest.strides for stride in operand])
    PROTOTYPE(kernel.address)(pointers, table(nest.sizes), strides, None, begin, end)


def nest_of(summed, arrays):
    """Return the nest over arrays with an axis for every loop, of length 1 where they lack it."""
    sizes = tuple(max(array.shape[axis] for array in arrays) for axis in range(len(summed)))
    strides = tuple(
        tuple(0 if n == 1 else s for n, s in zip(array.shape, array.strides, strict=True))
        for array in arrays
    )
    return Nest(arrays[0].dtype, len(arrays) - 1, sizes, strides, tuple(summed))


def run(loops, *inputs, out):
    """Run the kernel of a nest whose loops are `loops` ("." output, "+" summed)."""
    nest = nest_of([loop == "+" for loop in loops], [*inputs, out])
    kernel = compiler.kernel(nest)
    call(kernel, nest, [*inputs, out])
    return out


def expected(summed, inputs, shape):
    """Return what einsum means, by whole-array NumPy: products from the left, then the sum."""
    dtype = inputs[0].dtype
    axes = tuple(axis for axis, flag in enumerate(summed) if flag)
    if dtype == np.float16:
        inputs = [x.astype(np.float32) for x in inputs]
    multiply = np.logical_and if dtype.kind == "b" else np.multiply
    product = np.broadcast_to(functools.reduce(multiply, inputs), shape)
    if dtype.kind == "b":
        return product.any(axis=axes, keepdims=True)
    return product.sum(axis=axes, dtype=product.dtype, keepdims=True).astype(dtype)


def values(rng, dtype, size):
    """Return numbers of which products and sums are exact in every dtype, but for wrap-around."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        # Any non-zero byte is true.
        return rng.choice([0, 1, 2, 255], size, p=[0.3, 0.3, 0.2, 0.2]).astype("u1").view(bool)
    if dtype.kind in "iu":
        return rng.integers(0, 256, size).astype(dtype)
    numbers = rng.integers(-2, 3, size)
    return (numbers + 1j * rng.integers(-2, 3, size) if dtype.kind == "c" else numbers).astype(
        dtype
    )


def strided(buffer, sizes, order, gaps, signs, offset):
    """Return a view of `buffer` with its axes laid out in `order`, gaps between and signs."""
    item, strides = buffer.itemsize, [0] * len(sizes)
    extent = item
    for axis, gap in zip(order, gaps, strict=True):
        strides[axis] = extent * gap if sizes[axis] != 1 else 0
        extent *= max(sizes[axis], 1) * gap
    start = offset
    for axis, sign in enumerate(signs):
        if sign < 0 and sizes[axis]:
            start += (sizes[axis] - 1) * strides[axis]
            strides[axis] = -strides[axis]
    return np.ndarray(sizes, buffer.dtype, buffer.view(np.uint8).data, start, tuple(strides))


def random_view(rng, dtype, sizes, fill):
    """Return a view with random axis order, gaps and signs within a guarded buffer."""
    rank = len(sizes)
    order = [int(axis) for axis in rng.permutation(rank)]
    if rng.random() < 0.7:
        order = list(range(rank))[::-1]  # C order, so that innermost unit strides are frequent
    gaps = [int(gap) for gap in rng.choice([1, 1, 1, 2, 3], rank)]
    signs = [int(sign) for sign in rng.choice([1, 1, 1, -1], rank)]
    count = math.prod(max(size, 1) * gap for size, gap in zip(sizes, gaps, strict=True))
    guard = 4
    buffer = fill(count + 2 * guard + 1)
    # Complex numbers need the alignment of their parts only.
    shift = buffer.itemsize // 2 if np.dtype(dtype).kind == "c" and rng.random() < 0.5 else 0
    start = guard * buffer.itemsize + shift
    return buffer, strided(buffer, sizes, order, gaps, signs, start)


def poison(dtype, count):
    buffer = np.empty(count, dtype)
    buffer.view(np.uint8)[:] = 0xFF  # NaN in every floating dtype
    return buffer


def random_case(seed, dtype):
    rng = np.random.default_rng(seed)
    rank, nin = int(rng.integers(0, 6)), int(rng.integers(1, 5))
    sizes = [int(size) for size in rng.choice([2, 3, 4, 5, 9], rank)]
    if rank and rng.random() < 0.1:
        sizes[int(rng.integers(rank))] = 0
    summed = [bool(flag) for flag in rng.random(rank) < 0.45]
    if dtype == "float16":
        summed.sort()
    inputs = []
    for _ in range(nin):
        own = [size if rng.random() < 0.7 else 1 for size in sizes]
        _, view = random_view(rng, dtype, own, lambda count: values(rng, dtype, count))
        inputs.append(view)
    shape = [1 if flag else size for size, flag in zip(sizes, summed, strict=True)]
    buffer, out = random_view(rng, dtype, shape, lambda count: poison(dtype, count))
    strides = tuple(
        tuple(0 if n == 1 else s for n, s in zip(array.shape, array.strides, strict=True))
        for array in [*inputs, out]
    )
    nest = Nest(np.dtype(dtype), nin, tuple(sizes), strides, tuple(summed))
    return nest, inputs, buffer, out, rng


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_nests(dtype):
    """Rank 0 to 5, 1 to 4 inputs, any strides, poisoned and guarded output, split or whole."""
    for number in range(10):
        seed = 1000 * DTYPES.index(dtype) + number
        nest, inputs, buffer, out, rng = random_case(seed, dtype)
        before = buffer.copy()
        touched = np.zeros(buffer.nbytes, bool)
        cells = np.ndarray(
            (*out.shape, out.itemsize),
            bool,
            touched.data,
            out.ctypes.data - buffer.ctypes.data,
            (*out.strides, 1),
        )
        cells[...] = True
        kernel = compiler.kernel(nest)
        length = nest.sizes[0] if nest.sizes else 1
        split = 0 if not nest.sizes or nest.summed[0] else int(rng.integers(length + 1))
        if split:
            call(kernel, nest, [*inputs, out], split, length)
        call(kernel, nest, [*inputs, out], 0, split or length)
        wanted = expected(nest.summed, inputs, nest.sizes)
        note = f"seed {seed}\n{kernel.source}"
        np.testing.assert_array_equal(out, wanted.reshape(out.shape), err_msg=note)
        same = before.view(np.uint8) == buffer.view(np.uint8)
        assert same[~touched].all(), f"wrote outside the output: {note}"


@pytest.mark.parametrize("size", [1, 3, 4, 7, 64, 1001])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "complex64"])
def test_long_unit_stride_loops_and_their_remainders(dtype, size):
    rng = np.random.default_rng(size)
    a, b = (values(rng, dtype, (7, size)) for _ in range(2))
    dot = run("++", a, b, out=np.empty((1, 1), dtype))
    assert dot[0, 0] == (a * b).sum(dtype=dtype)
    product = run("..", a, b, out=poison(dtype, 7 * size).reshape(7, size))
    np.testing.assert_array_equal(product, a * b)
    columns = run("+.", a, b, out=poison(dtype, size).reshape(1, size))
    np.testing.assert_array_equal(columns[0], (a * b).sum(axis=0, dtype=dtype))


@pytest.mark.parametrize("rows", range(10))
def test_rows_that_do_not_fill_a_pass(rows):
    a, b = np.arange(5.0 * rows).reshape(5, rows), np.arange(6.0 * rows).reshape(rows, 6)
    inputs = a[:, :, None], b[None]
    nest = Nest(
        np.dtype("f8"),
        2,
        (5, rows, 6),
        ((8 * rows, 8, 0), (0, 48, 8), (48, 0, 8)),
        (False, True, False),
    )
    out = poison("f8", 30).reshape(5, 6)
    call(compiler.kernel(nest), nest, [*inputs, out])
    np.testing.assert_array_equal(out, a @ b)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap_in_their_own_width(dtype):
    top = np.full(9, np.iinfo(dtype).max, dtype)
    with np.errstate(over="ignore"):
        assert run("+", top, top, out=np.empty(1, dtype))[0] == (top * top).sum(dtype=dtype)
        np.testing.assert_array_equal(run(".", top, top, out=np.empty(9, dtype)), top * top)


def test_products_group_from_the_left():
    big, small = np.full(33, 1e200), np.full(33, 1e-300)
    assert np.isposinf(run(".", big, big, small, out=np.empty(33))).all()
    assert np.isposinf(run("+", big, big, small, out=np.empty(1)))[0]
    # nor may what the loop does not move be multiplied first, outside it
    assert np.isposinf(run(".", big[:1], big, small[:1], out=np.empty(33))).all()


def test_no_product_with_zero_is_skipped():
    a, b = np.array([np.nan, np.inf, 2.0] * 11), np.array([0.0, 0.0, -0.0] * 11)
    out = run(".", a, b, out=np.empty(33))
    assert np.isnan(out[:2]).all()
    assert np.signbit(out[2])
    assert np.isnan(run("+", a, b, out=np.empty(1))[0])


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_products_are_naive(dtype):
    z = np.full(9, complex(np.inf, 0.0), dtype)
    out = run(".", z, np.ones(9, dtype), out=np.empty(9, dtype))
    assert np.isposinf(out.real).all()
    assert np.isnan(out.imag).all()


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_squared_moduli_are_real(dtype):
    rng = np.random.default_rng(3)
    z = (rng.random(1001) + 1j * rng.random(1001)).astype(dtype)
    total = run("+", z.conj(), z, out=np.empty(1, dtype))[0]
    assert total.imag == 0
    np.testing.assert_allclose(total.real, (abs(z) ** 2).sum(), rtol=1e-5)


def half_kernel(nest):
    """Compile the nest afresh: for the other way to convert float16."""
    form = codegen.form(nest)
    source = codegen.render(form)
    return compiler.build(source, compiler._primitives(form.dtype), f"test {source}")


@pytest.mark.parametrize("hardware", [True, False], ids=["hardware", "software"])
def test_float16_conversions(hardware, monkeypatch):
    from numba.core.registry import cpu_target

    from fastein.cpu import primitives

    if hardware and not primitives.converts_half(cpu_target.target_context):
        pytest.skip("this processor does not convert float16")
    monkeypatch.setattr(primitives, "converts_half", lambda context: hardware)
    rng = np.random.default_rng(16)
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    other = rng.permutation(every)
    nest = nest_of([False], [every, other, every])
    kernel, out = half_kernel(nest), np.empty_like(every)
    with np.errstate(all="ignore"):
        for factor in (np.ones_like(every), other, np.full_like(every, 0.33), every[::-1].copy()):
            call(kernel, nest, [every, factor, out])
            wanted = (every.astype("f4") * factor.astype("f4")).astype("f2")
            numbers = ~np.isnan(wanted)
            np.testing.assert_array_equal(np.isnan(out), ~numbers)
            np.testing.assert_array_equal(out.view("u2")[numbers], wanted.view("u2")[numbers])


def test_float16_sums_in_float32():
    ones = np.ones((2, 4097), np.float16)
    out = run(".+", ones, out=poison("float16", 2).reshape(2, 1))
    assert out.ravel().tolist() == [4096.0, 4096.0]  # 4097 rounds to even


def test_most_operands():
    x = np.full(5, -1.0)
    out = run(".", *[x] * codegen.MAX_INPUTS, out=np.empty(5))
    np.testing.assert_array_equal(out, 1.0)


def test_nine_loops():
    x = np.arange(2.0**9).reshape((2,) * 9)
    out = run(".+.+.+.+.", x, out=poison("f8", 32).reshape((2, 1) * 4 + (2,)))
    np.testing.assert_array_equal(out, x.sum(axis=(1, 3, 5, 7), keepdims=True))


def test_one_form_is_one_kernel():
    a, b = np.arange(12.0).reshape(3, 4), np.arange(70.0).reshape(7, 10)[:, ::2]
    nests = [
        nest_of([False, True], [x, x, np.empty((len(x), 1))])
        for x in (a, np.arange(10.0).reshape(5, 2), b)
    ]
    kernels = list(map(compiler.kernel, nests))
    assert kernels[0] is kernels[1]
    assert kernels[0] is not kernels[2]
    assert codegen.form(nests[0]).access == ("s1", "s1", "s0")
    assert kernels[0].source == codegen.render(codegen.form(nests[0]))


def test_threads_compile_a_kernel_once(monkeypatch):
    builds = []
    build = compiler.build

    def counted(*args):
        builds.append(args)
        return build(*args)

    monkeypatch.setattr(compiler, "build", counted)
    nests = [
        Nest(np.dtype("u2"), 3, (4,), tuple((stride,) for stride in strides), (False,))
        for strides in ((0, 2, 4, 2), (0, 4, 2, 2))
    ]
    with ThreadPoolExecutor(8) as pool:
        kernels = list(pool.map(compiler.kernel, nests * 8))
    assert len(builds) == 2
    assert len({kernel.address for kernel in kernels}) == 2


def test_a_kernel_that_cannot_be_generated_says_so():
    with pytest.raises(codegen.CannotCompile, match="dtype"):
        compiler.kernel(Nest(np.dtype("longdouble"), 1, (2,), ((16,), (16,)), (False,)))


def test_tracebacks_find_the_source(monkeypatch):
    monkeypatch.setattr(compiler, "_store", KernelStore())  # none of this process
    with fastein.config(cache_dir=None):  # nor of another one
        kernel = compiler.kernel(nest_of([True], [np.ones(3), np.ones(1)]))
    texts = [
        "".join(linecache.getlines(name)) for name in list(linecache.cache) if "fastein" in name
    ]
    assert kernel.source in texts


@pytest.mark.parametrize(
    ("loops", "count"), [("++", 3), ("..", 2), ("+.", 1), (".+", 2)], ids=lambda x: str(x)
)
def test_unit_stride_loops_are_vectorised_without_alias_checks(loops, count, monkeypatch):
    x = np.ones((64, 64))
    out = np.ones([1 if loop == "+" else 64 for loop in loops])
    kernel = compiler.kernel(nest_of([loop == "+" for loop in loops], [*[x] * count, out]))
    code = optimised(kernel.source, monkeypatch)
    assert "x double>" in code
    assert "conflict" not in code  # LLVM's name for the outcome of an overlap check


def optimised(source, monkeypatch):
    """Return the LLVM IR from which a kernel of float64 is made."""
    seen, image = [], compiler._image

    def look(library, entry):
        made = image(library, entry)
        seen.append(str(library._final_module))
        return made

    monkeypatch.setattr(compiler, "_image", look)
    compiler.build(source, compiler._primitives("float64"), "test")
    return seen[0]


def test_numba_is_not_imported_before_the_first_kernel():
    check = (
        "import sys, fastein.cpu.compiler\n"
        "print([name for name in ('numba', 'llvmlite') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
