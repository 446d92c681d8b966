"""The suite of opt_einsum, with NumPy's einsum replaced: whatever passes on NumPy passes."""

import pytest
from suites import run_suite


@pytest.mark.slow
@pytest.mark.parametrize("jit", ["never", "tiered"])
def test_opt_einsum_suite(jit):
    result = run_suite("opt_einsum.tests", jit=jit)
    assert result.on_fastein, result.text
    assert result.passed >= 7000, result.text
    if result.failed:
        # Another release of NumPy or opt_einsum may fail on its own.
        on_numpy = run_suite(*sorted(result.failed), replaced=False)
        assert result.failed == on_numpy.failed, result.text
