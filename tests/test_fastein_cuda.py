"""The GPU target's package, without a GPU, a driver or numba-cuda."""

import subprocess
import sys

import numpy as np
import pytest

import fastein_cuda


def test_the_error_is_a_runtime_error():
    assert issubclass(fastein_cuda.CudaUnavailableError, RuntimeError)


@pytest.mark.skipif(fastein_cuda.is_available(), reason="there is a device")
def test_without_a_device():
    with pytest.raises(fastein_cuda.CudaUnavailableError):
        fastein_cuda.asarray(np.eye(2))


@pytest.mark.parametrize(
    ("imported", "absent"),
    [("fastein_cuda", "numba"), ("fastein_cuda", "cuda"), ("fastein", "fastein_cuda")],
)
def test_importing_one_does_not_load_the_other(imported, absent):
    program = f"import sys, {imported}; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0


def test_a_call_on_the_host_does_not_load_it():
    program = (
        "import sys, numpy, fastein;"
        "fastein.einsum('ij,j', [[1, 2]], numpy.ones(2)); fastein.einsum('i->', numpy.ma.ones(2));"
        "sys.exit('fastein_cuda' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
