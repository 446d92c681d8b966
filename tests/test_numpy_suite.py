"""NumPy's own tests of einsum, run on fastein: all of them pass."""

import pytest
from suites import run_suite


@pytest.mark.parametrize("jit", ["never", "tiered"])
def test_numpy_suite(jit):
    result = run_suite("numpy._core.tests.test_einsum", jit=jit)
    assert result.on_fastein, result.text
    assert not result.failed, result.text
    assert result.passed >= 70, result.text
