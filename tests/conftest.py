"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fastein


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the golden files of generated source instead of comparing with them",
    )


@pytest.fixture(params=["never", "tiered"])
def both_tiers(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test without compiled kernels, and as a user's process would."""
    with fastein.config(jit=request.param):
        yield request.param
