"""`.ci/gpu` ends in its time and keeps what was measured, whatever hangs or is missing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "gpu"
SECONDS = 6

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists() or not sys.platform.startswith("linux"), reason="runs where CI does"
)

HANGS = "trap '' TERM; exec sleep 1000"  # until it is killed


def run(tmp_path, program):
    """The exit status, what was printed, and the seconds it took, `program` being python3."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    begin = time.monotonic()
    done = subprocess.run(
        [SCRIPT, tmp_path / "found", str(SECONDS)],
        env={"PYTHON": str(python), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=5 * SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, time.monotonic() - begin


def test_everything_hangs(tmp_path):
    status, told, seconds = run(tmp_path, HANGS)
    assert status == 1
    assert "== done" in told
    assert seconds < SECONDS + 5


def test_the_tests_hang(tmp_path):
    """The benchmark runs, and its page is kept beside the log of what came before the hang."""
    program = f"""
    case "$*" in
        *"-m pytest"*) echo test_before PASSED; {HANGS};;
        *"-m fastein_cuda.benchmark"*) echo a page > {tmp_path}/found/page.rst;;
        *print*) echo 1;;
    esac"""
    status, told, seconds = run(tmp_path, program)
    assert status == 1
    assert seconds < SECONDS + 5
    assert (tmp_path / "found" / "page.rst").read_text() == "a page\n"
    assert "test_before PASSED" in (tmp_path / "found" / "gpu-tests.log").read_text()
    assert "== benchmark" in told


def test_nothing_is_left_behind_where_all_is_well(tmp_path):
    status, told, _ = run(tmp_path, 'case "$*" in *print*) echo 1;; esac')
    assert status == 0, told
    assert list((tmp_path / "found").iterdir()) == []
