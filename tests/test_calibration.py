"""Measuring the machine: figures that make sense, once, where nobody waits for them."""

from __future__ import annotations

import io
import pickle

import pytest

import fastein
from fastein.cpu import calibration, rates, worker
from fastein.cpu.calibration import OneFamily, product
from fastein.cpu.machine import MACHINE


@pytest.fixture
def empty(tmp_path):
    worker._measure.cache_clear()
    with fastein.config(cache_dir=str(tmp_path)):
        yield


def test_what_is_measured_makes_sense(empty):
    machine = calibration.measured()
    assert rates.keep(machine)
    assert rates.kept() == machine
    usual = MACHINE.replace(**{name: getattr(machine, name) for name in rates.MEASURED})
    assert machine == usual


def test_it_is_measured_once(empty, monkeypatch):
    machine = calibration.ensure()
    monkeypatch.setattr(calibration, "measured", lambda: pytest.fail("measured again"))
    assert calibration.ensure() == machine


def test_settings_are_as_before(empty):
    with fastein.config(jit="always"):
        calibration.measured()
        assert fastein.config().jit == "always"


@pytest.mark.parametrize(("matmul", "family"), [(False, "nest"), (True, "matmul")])
def test_each_family_is_measured_alone(matmul, family):
    target = OneFamily(matmul)
    nest, seconds = product(target, "bij,bjk->bik", 8, stack=3)
    assert (nest.iterations, target.schedule(nest).family) == (3 * 8**3, family)
    assert seconds > 0


def test_the_worker_measures_after_its_first_kernels(empty, monkeypatch):
    monkeypatch.setattr(worker, "_load_compiler", lambda: None)
    monkeypatch.setattr(worker.os, "nice", lambda priority: None, raising=False)
    monkeypatch.setattr(worker.signal, "alarm", lambda seconds: None, raising=False)
    replies = io.BytesIO()
    worker.serve(io.BytesIO(pickle.dumps(())), replies)
    assert replies.getvalue() == b"\n"
    assert rates.kept() is not None


def test_a_worker_that_cannot_measure_goes_on(empty, monkeypatch):
    def fail():
        raise ArithmeticError("no clock")

    monkeypatch.setattr(calibration, "measured", fail)
    worker._measure()
    assert rates.kept() is None
