"""The GPU benchmark, on the simulated device: it runs to the end, come what may."""

import subprocess
import sys
import time

import numpy as np
import pytest

from fastein_cuda import (
    benchmark,
    benchmark_report,
    benchmark_worker,
    measurement,
    rivals,
    suites,
)
from fastein_cuda.measurement import Limits, Line
from fastein_cuda.rivals import installed
from fastein_cuda.simulator import simulated


def test_it_writes_a_page(tmp_path, capfd):
    arguments = ["--simulate", "--suites", "gemm,chain,batch", "--output", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    (path,) = tmp_path.iterdir()
    page = path.read_text()
    assert path.name.endswith("-gpu-simulator.rst")
    assert page.count("``ij,jk->ik``") >= 8
    assert all(f"\n{name}\n---" in page for name in ("gemm", "chain", "batch"))
    assert "Beside fastein: nobody" in page
    assert "Error" not in page
    assert "failed" not in page
    assert "differs" not in page
    printed = capfd.readouterr().out
    assert printed.startswith("Python ")
    assert f"numpy {np.__version__}" in printed


def test_it_stops_when_the_minutes_are_over(tmp_path, capfd):
    arguments = ["--simulate", "--suites", "tutorial", "--minutes", "0", "--output", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    assert "left out when the time was over" in next(tmp_path.iterdir()).read_text()


def test_an_unknown_suite(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--suites", "gem"])
    assert "gem" in capsys.readouterr().err


@pytest.mark.parametrize("name", suites.SUITES)
def test_suites(name):
    cases = suites.SUITES[name]()
    assert name == "tccg" or cases
    for case in cases:
        assert case.nbytes > 0
        assert len(case.output) == len(case.equation.split("->")[1])


def test_what_is_not_installed():
    assert installed("no_such_library") is None


# What goes wrong in the worker


def said(device, names=("batch",), skip=0, seconds=60.0):
    """The worker's exit status, and what it says."""
    records = []
    status = benchmark_worker.work(device, list(names), skip, seconds, True, records.append)
    return status, records


def test_the_worker_goes_on_where_another_one_ended():
    with simulated() as device:
        status, records = said(device, skip=8)
    assert status == 0
    assert [r["number"] for r in records if r["about"] == "line"] == [8, 9]
    assert records[-1] == {"about": "end"}


def test_a_wrong_answer_is_told():
    def edit(source):
        return source.replace("kept(", "(lambda value, flag: value + value)(")

    with simulated(edit=edit) as device:
        (_, records) = said(device, skip=9)
    (line,) = [r for r in records if r["about"] == "line"]
    assert "differs from the CPU by" in line["error"]
    assert line["seconds"]["fastein"] > 0


def test_an_error_of_one_case_is_told():
    def edit(source):
        return source.replace("def kernel(", "def colonel(") if "float64" in source else source

    with simulated(edit=edit) as device:
        (status, records) = said(device, skip=2)
    assert status == 0
    errors = [r["error"] for r in records if r["about"] == "line"]
    assert len(errors) == 8
    assert all("KeyError: 'kernel'" in e for e in errors[::2])
    assert not any(errors[1::2])


def test_no_time_left():
    with simulated() as device:
        (status, records) = said(device, skip=2, seconds=-1.0)
    assert status == 0
    assert [r["about"] for r in records] == ["rivals"] + ["left out"] * 8 + ["end"]


def test_a_device_that_does_not_answer():
    with simulated() as device:
        device.trim = lambda: 1 / 0
        status, records = said(device, skip=2)
    assert status == benchmark_worker.STUCK
    assert [r["about"] for r in records] == ["rivals", "begin", "line", "stuck"]


# What the parent makes of it

BEGIN = '{"about": "device", "name": "Stand-in; 132"}\n{"about": "begin", "number": %d}\n'
LINE = '{"about": "line", "number": %d, "seconds": {"fastein": 1e-6}, "error": ""}\n'


def page_after(monkeypatch, tmp_path, programs, minutes=1.0, patience=60.0):
    """The page when workers run these programs one after the other; what they were to skip."""
    skipped = []

    def start(names, skip, seconds, how, records):
        skipped.append(skip)
        program = f"import os, time\nfile = open({str(records)!r}, 'a', buffering=1)\n"
        return subprocess.Popen([sys.executable, "-c", program + programs[len(skipped) - 1]])

    monkeypatch.setattr(benchmark, "_start", start)
    path = benchmark.run(["batch"], minutes, ["tiny"], tmp_path, patience)
    return path and path.read_text(), skipped


def write(text):
    return f"file.write({text!r})\n"


END = write('{"about": "end"}\n')


def test_a_worker_that_dies(monkeypatch, tmp_path, capsys):
    dies = write(BEGIN % 2 + LINE % 2 + BEGIN % 3) + "os.abort()"
    page, skipped = page_after(monkeypatch, tmp_path, [dies, write(BEGIN % 4 + LINE % 4) + END])
    assert skipped == [0, 4]
    assert "the process ended with status -6" in page
    assert "1 of 3 failed" in page
    assert page.count("- 1.0\n") == 2


def test_a_worker_that_hangs(monkeypatch, tmp_path, capsys):
    hangs = write(BEGIN % 2) + "time.sleep(60)"
    begin = time.monotonic()
    page, skipped = page_after(monkeypatch, tmp_path, [hangs, END], patience=0.5)
    assert time.monotonic() - begin < 30
    assert skipped == [0, 3]
    assert "ended: it took too long" in page


def test_a_device_that_is_stuck(monkeypatch, tmp_path, capsys):
    stuck = '{"about": "stuck", "number": 2, "reason": "CUDA_ERROR_ILLEGAL_ADDRESS"}\n'
    program = write(BEGIN % 2 + LINE % 2 + stuck) + f"os._exit({benchmark_worker.STUCK})"
    page, skipped = page_after(monkeypatch, tmp_path, [program, END])
    assert skipped == [0, 3]
    assert "ILLEGAL_ADDRESS (after it the device answered no more)" in page
    assert "- 1.0\n" in page


def test_limits_that_cannot_be_measured(monkeypatch, tmp_path, capsys):
    fails = '{"about": "failure", "number": 0, "reason": "MemoryError: none"}\n'
    page, _ = page_after(monkeypatch, tmp_path, [write(BEGIN % 0 + fails) + END])
    assert "- the limits: MemoryError: none" in page
    assert "could not be measured" in page


def test_without_a_device(monkeypatch, tmp_path):
    assert page_after(monkeypatch, tmp_path, ["os._exit(1)"]) == (None, [0])
    assert list(tmp_path.iterdir()) == []


def test_the_share_of_the_limit():
    (case, *_) = suites.gemm()
    found = benchmark_report.Findings(
        "Stand-in",
        ["torch"],
        Limits("torch", 3e12, {"float64": 5e13}),
        lines=[Line(case, {"fastein": 4 * 8192**3 / 5e13, "torch": 1.0})],
    )
    page = benchmark_report.page(found)
    assert "copy 3.00 TB/s; matrix products float64 50.0 TFLOP/s" in page
    assert "- 0.50\n" in page
    assert measurement.Line(case).ratio is None


# What is a view elsewhere


def test_permutations_are_written_into_an_array():
    cases = {case.equation: case for case in suites.memory()}
    assert {"ij->ji", "ijk->kij", "abcdef->fbdaec"} == {e for e, c in cases.items() if c.is_view}
    assert not suites.Timed("", "ii->", ((9, 9),), "float32").is_view
    diagonal = suites.Timed("", "ii->i", ((1000, 1000),), "float32")
    assert diagonal.is_view
    assert diagonal.nbytes == 2 * 4 * 1000


def test_a_permutation_launches_a_kernel():
    case = suites.smaller(next(case for case in suites.memory() if case.is_view))
    with simulated() as device:
        found = measurement.line(case, device)
        assert [form for form in device.launched if type(form).__name__ == "TranspositionForm"]
    assert found.error == ""
    assert found.seconds["fastein"] > 0
    page = benchmark_report.page(benchmark_report.Findings(lines=[found]))
    assert ", into out\n" in page


def test_rivals_write_into_an_array_too(monkeypatch):
    """Everybody into one of their own: else there would be nothing to compare."""

    class Tensor(np.ndarray):
        def copy_(self, other):
            self[...] = other
            return self

    monkeypatch.setattr(rivals, "operands_of", lambda library, arrays: arrays)
    view = np.arange(6.0).reshape(2, 3).T
    target = np.empty((3, 2)).view(Tensor)
    for library in ("torch", "cupy"):
        target[...] = 0
        assert rivals.written(library, lambda: view, lambda: target)() is target
        np.testing.assert_array_equal(target, view)
    new = object()
    assert rivals.written("jax", lambda: new, lambda: 1 / 0)() is new


def test_small_calls_have_two_times(tmp_path, capfd):
    with simulated() as device:
        found = measurement.overheads(device)
    assert set(found) == set(measurement.SMALL_CALLS)
    for row in found.values():
        host, result = row["fastein"]
        assert host > 0
        assert result > 0
    page = benchmark_report.page(benchmark_report.Findings(small=found))
    assert "- fastein: host\n" in page
    assert "- fastein: result\n" in page
