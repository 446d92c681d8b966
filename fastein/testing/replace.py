"""A pytest plugin that runs any test suite with ``numpy.einsum`` replaced by fastein's.

Replacement comes before the tests are collected, so that ``from numpy import einsum`` gets it too::

    python -m pytest -p fastein.testing.replace --pyargs numpy._core.tests.test_einsum
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastein

_NUMPY_EINSUM = np.einsum


def pytest_configure(config: Any) -> None:
    """Put `fastein.einsum` in place of ``numpy.einsum``."""
    np.einsum = fastein.einsum


def pytest_unconfigure(config: Any) -> None:
    """Put ``numpy.einsum`` back."""
    np.einsum = _NUMPY_EINSUM


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which einsum the tests ran on."""
    if np.einsum is fastein.einsum:
        terminalreporter.write_line(f"numpy.einsum was that of fastein {fastein.__version__}")
