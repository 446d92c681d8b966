"""What several test modules share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Tests, and the processes that they start, workers of xdist among them, share a store of kernels,
# but not with their user.
OWNS_CACHE = "PYTEST_XDIST_WORKER" not in os.environ
if OWNS_CACHE:
    os.environ["FASTEIN_CACHE_DIR"] = tempfile.mkdtemp(prefix="fastein-tests-")

import fastein  # noqa: E402
from fastein.cpu import background, rates, tiers  # noqa: E402
from fastein.cpu.machine import MACHINE  # noqa: E402

rates.keep(MACHINE)  # which way a step goes is to be the same on every machine
tiers.MOST_KERNELS = 2**16  # the suite asks for more kernels than one process is meant to


def pytest_unconfigure() -> None:
    background.wait(60)
    if OWNS_CACHE:
        shutil.rmtree(os.environ["FASTEIN_CACHE_DIR"], ignore_errors=True)


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


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare generated source with a golden file, or write that one if asked to."""

    def compare(path: Path, source: str) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(source)
        assert source == path.read_text(), "see the docstring of test_codegen"

    return compare
