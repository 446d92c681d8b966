"""Run the test suite of an installed package in a process of its own."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import fastein

# Node ids are paths below the folder that the packages are installed in.
ROOT = Path(np.__file__).parent.parent
SOURCE = str(Path(fastein.__file__).parent.parent)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What a suite reported; `failed` holds node ids."""

    passed: int
    failed: frozenset[str]
    on_fastein: bool
    text: str


def run_suite(*targets, replaced=True, jit="tiered"):
    """Run tests given by module or node id, on fastein's einsum or on NumPy's own."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short", f"--rootdir={ROOT}"]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-p", "fastein.testing.replace"] if replaced else []
    with TemporaryDirectory() as folder:
        settings = Path(folder, "pytest.ini")  # or it would find ours
        settings.write_text("[pytest]\n")
        result = subprocess.run(
            [*command, "-c", settings, "--pyargs", *targets],
            cwd=ROOT,
            env={**os.environ, "FASTEIN_JIT": jit, "PYTEST_ADDOPTS": "", "PYTHONPATH": SOURCE},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    passed = re.search(r"(\d+) passed", result.stdout)
    return SuiteResult(
        passed=int(passed.group(1)) if passed else 0,
        failed=frozenset(re.findall(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)),
        on_fastein="numpy.einsum was that of fastein" in result.stdout,
        text=f"exit status {result.returncode}\n{result.stdout[-8000:]}{result.stderr[-4000:]}",
    )
