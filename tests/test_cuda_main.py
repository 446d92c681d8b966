"""`python -m fastein_cuda`: kernels of every family checked on the current device."""

import pytest

import fastein_cuda
from fastein_cuda.__main__ import CHECKS, main
from fastein_cuda.forms import ContractionForm, NestForm, TinyForm, TranspositionForm
from fastein_cuda.simulator import SimulatedDevice, simulated


def test_all_is_well(capsys, monkeypatch):
    launched = set()
    prepare = SimulatedDevice.prepare

    def noting(device, launch):
        launched.add(type(launch.form))
        return prepare(device, launch)

    monkeypatch.setattr(SimulatedDevice, "prepare", noting)
    assert main(["--simulate"]) == 0
    told = capsys.readouterr().out
    assert told.count(" ok\n") == len(CHECKS) + 2
    assert "all is well" in told
    assert launched == {ContractionForm, NestForm, TinyForm, TranspositionForm}


def test_what_is_wrong_is_told(capsys):
    def edit(source):
        wrong = source.replace("half = 128", "half = 64")
        return wrong.replace("def kernel(", "def colonel(") if "int32" in source else wrong

    with simulated(edit=edit):
        assert main([]) == 1
    told = capsys.readouterr().out
    (line,) = [line for line in told.splitlines() if "long sum" in line]
    assert "off by" in line or "Fault" in line
    assert "KeyError: 'kernel'" in told
    assert "are wrong" in told


@pytest.mark.skipif(fastein_cuda.is_available(), reason="there is a device")
def test_without_a_device(capsys):
    assert main([]) == 1
    told = capsys.readouterr().out
    assert "fastein" in told
    assert "NVVM" in told
