"""Rates that were measured once: kept beside the kernels, and used only if they make sense."""

from __future__ import annotations

import math
import os
import struct

import pytest
from helpers import in_a_process

import fastein
from fastein.cpu import rates, target
from fastein.cpu.machine import MACHINE
from fastein.testing.fuzz import run

OTHER = MACHINE.replace(cycle=MACHINE.cycle * 2, paired=3.0, matmul_call=1e-6)


@pytest.fixture
def folder(tmp_path):
    with fastein.config(cache_dir=str(tmp_path / "cache")):
        yield tmp_path / "cache" / "rates"


def file_in(folder):
    (path,) = folder.iterdir()
    return path


def test_what_was_kept_is_found(folder):
    assert rates.kept() is None
    assert rates.keep(OTHER)
    assert rates.kept() == OTHER
    assert os.stat(file_in(folder)).st_mode & 0o077 == 0
    assert rates.keep(MACHINE)
    assert rates.kept() == MACHINE


def test_nothing_is_kept_without_a_store(tmp_path):
    (tmp_path / "file").write_text("")
    for nowhere in (None, str(tmp_path / "file")):
        with fastein.config(cache_dir=nowhere):
            assert not rates.keep(OTHER)
            assert rates.kept() is None


def test_another_processor_or_numpy_has_rates_of_its_own(folder, monkeypatch):
    rates.keep(OTHER)
    with monkeypatch.context() as patch:
        patch.setattr(rates, "processor", lambda: "another")
        assert rates.kept() is None
    with monkeypatch.context() as patch:
        patch.setattr(rates.np, "__version__", "9.0")
        assert rates.kept() is None
    assert rates.kept() == OTHER


@pytest.mark.parametrize("content", [b"", b"1" * 55, b"1" * 57, b"\xff" * 56, bytes(56)])
def test_a_valid_file_with_other_content_is_not_used(folder, content):
    rates.files().write(rates._key(), content)
    assert rates.kept() is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 5e-324])
@pytest.mark.parametrize("place", range(len(rates.MEASURED)))
def test_rates_that_make_no_sense_are_not_used(folder, place, value):
    values = [getattr(MACHINE, name) for name in rates.MEASURED]
    values[place] = value
    rates.files().write(rates._key(), struct.pack(f"<{len(values)}d", *values))
    assert rates.kept() is None


def test_a_damaged_file_is_not_used(folder):
    rates.keep(OTHER)
    path = file_in(folder)
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        assert rates.kept() is None
    for end in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert rates.kept() is None
    path.write_bytes(whole)
    path.chmod(0o666)
    assert rates.kept() is None
    path.chmod(0o600)
    assert rates.kept() == OTHER


def test_a_process_estimates_with_what_is_kept(folder, monkeypatch):
    monkeypatch.setenv("FASTEIN_CACHE_DIR", str(folder.parent))
    code = "from fastein.cpu.rates import rates; print(rates().paired)"
    assert in_a_process(code).split() == [str(MACHINE.paired)]
    rates.keep(OTHER)
    assert in_a_process(code).split() == ["3.0"]


EXTREMES = [
    {"matmul_call": 1e-9, "matmul_each": 1e-12, "matmul_flops": 1e15, "copy_bytes": 1e15},
    {"paired": 1e6},
    {"cycle": 1e-15},
    {"cycle": 1.0, "stream_bytes": 1.0},
]


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("jit", ["tiered", "never"])
def test_rates_do_not_change_what_is_answered(monkeypatch, jit, extreme):
    """Estimates choose between ways to one answer, however wrong they are."""
    monkeypatch.setattr(target, "rates", lambda: MACHINE.replace(**extreme))
    with fastein.config(jit="always"), fastein.config(jit=jit):  # plans are made anew
        report = run(300, seed=11)
    assert not report.failures, "\n".join(map(str, report.failures[:20]))
