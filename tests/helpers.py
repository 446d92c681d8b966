"""Operands and assertions that several test modules share."""

import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from fastein import EinsumError, einsum

ORDINARY = (ValueError, TypeError, MemoryError, OverflowError)
PRELUDE = """
import resource, sys
import numpy as np
from fastein import EinsumError, einsum
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
def attempt(*args, **kwargs):
    try:
        return einsum(*args, **kwargs)
    except (ValueError, TypeError, MemoryError, OverflowError, RecursionError) as error:
        return error
"""

GOLDEN = pathlib.Path(__file__).parent / "golden"


def check_golden(source, name, request):
    """Compare generated source with that of a file, or rewrite this (see `test_codegen`)."""
    compile(source, name, "exec")
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    assert source == path.read_text(), "see the docstring of test_codegen"


def any_bits(rng, dtype, shape):
    """Return an array of any bit patterns."""
    dtype = np.dtype(dtype)
    return rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]


def numbers(dtype, shape, seed=0, true=0.3):
    """Return floats around 0, integers of any bits, or bools, such a share of them true."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    rng = np.random.default_rng([seed, *shape])
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < true
    if dtype.kind in "iu":
        return any_bits(rng, dtype, shape)
    array = rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "c":
        array.imag = rng.standard_normal(shape)
    elif dtype.char == "g":
        array += rng.standard_normal(shape) * np.longdouble(2) ** -60  # beyond a float64
    return array


def same(*args, **kwargs):
    """Assert that NumPy answers alike, down to type and strides; return the answer."""
    want = np.einsum(*args, **kwargs)
    got = einsum(*args, **kwargs)
    assert type(got) is type(want)
    np.testing.assert_array_equal(got, want)
    if isinstance(want, np.ndarray | np.generic):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        assert got.strides == want.strides
    return got


def both_raise(category, *args, **kwargs):
    """Assert that NumPy raises this class too; return fastein's exception."""
    with pytest.raises(category):
        np.einsum(*args, **kwargs)
    return raises(category, *args, **kwargs)


def raises(category, *args, **kwargs):
    with pytest.raises(category) as caught:
        einsum(*args, **kwargs)
    if category is ValueError:
        assert isinstance(caught.value, EinsumError)
    return caught.value


def survives(*args, **kwargs):
    """Call einsum; return its answer, or the ordinary exception that it raised."""
    try:
        return einsum(*args, **kwargs)
    except ORDINARY as error:
        return error


def in_a_process(code, timeout=120):
    """Run code in a process of its own; fail if it dies."""
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, f"exit status {result.returncode}\n{result.stderr[-4000:]}"
    return result.stdout
