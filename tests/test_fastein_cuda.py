"""fastein_cuda says what it lacks, without needing a GPU, a driver or numba-cuda."""

import subprocess
import sys

import numpy as np
import pytest

import fastein_cuda


def test_is_not_available():
    assert fastein_cuda.is_available() is False


def test_einsum_says_what_to_do_instead():
    a = np.eye(2)
    with pytest.raises(fastein_cuda.CudaUnavailableError, match=r"fastein\.einsum") as caught:
        fastein_cuda.einsum("ij,jk->ik", a, a, out=a)
    assert "fastein[cuda]" in str(caught.value)


def test_the_error_is_a_runtime_error():
    assert issubclass(fastein_cuda.CudaUnavailableError, RuntimeError)


@pytest.mark.parametrize(
    ("imported", "absent"),
    [("fastein_cuda", "numba"), ("fastein_cuda", "fastein"), ("fastein", "fastein_cuda")],
)
def test_importing_one_does_not_load_the_other(imported, absent):
    program = f"import sys, {imported}; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0
