"""What NumPy's matmul shows of this machine's arithmetic, and timing beside it."""

from time import perf_counter

import numpy as np

SIZE = 1024
SECONDS = 0.3  # for each time that is asked for
BATCH_SECONDS = 0.0003  # calls between two looks at the clock

#: Of what dtype the arithmetic is, where NumPy has no fast product of the dtype's own.
ARITHMETIC = {"float16": "float32"}


def _batch_seconds(call, count):
    start = perf_counter()
    for _ in range(count):
        call()
    return perf_counter() - start


def best_seconds(call):
    """Time of a call in the fastest of several batches."""
    best = _batch_seconds(call, 1)
    count = max(1, int(BATCH_SECONDS / best))
    end = perf_counter() + SECONDS
    while perf_counter() < end:
        best = min(best, _batch_seconds(call, count) / count)
    return best


def numbers(dtype, shape):
    """Numbers of any dtype, so small that sums of 2,048 products are finite in float16.

    One in eight of bool is true: NumPy's product of these ends at the first true term.
    """
    values = np.random.default_rng(0).integers(0, 8, shape, np.uint8)
    return values == 7 if dtype == "bool" else values.astype(dtype)


def flops(dtype, products):
    """Operations of so many products and sums: those of complex numbers count as four."""
    return products * (8 if np.dtype(dtype).kind == "c" else 2)


def peak(dtype):
    """Operations a second of NumPy's matmul on two large squares."""
    a = numbers(ARITHMETIC.get(dtype, dtype), (SIZE, SIZE))
    out = np.empty_like(a)
    return flops(dtype, SIZE**3) / best_seconds(lambda: np.matmul(a, a, out=out))
