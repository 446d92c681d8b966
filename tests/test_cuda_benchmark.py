"""The GPU benchmark, on the simulated device: that it runs from one end to the other."""

import pytest

from fastein_cuda import benchmark, suites
from fastein_cuda.rivals import installed


def test_it_writes_a_page(tmp_path, capsys):
    arguments = ["--simulate", "--suites", "gemm,chain,batch", "--output", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    (path,) = tmp_path.iterdir()
    page = path.read_text()
    assert path.name.endswith("-gpu-simulator.rst")
    assert page.count("``ij,jk->ik``") >= 8
    assert all(f"\n{name}\n---" in page for name in ("gemm", "chain", "batch"))
    assert "Error" not in page
    assert "fastein" in capsys.readouterr().out


def test_it_stops_when_the_minutes_are_over(tmp_path, capsys):
    arguments = ["--simulate", "--suites", "tutorial", "--minutes", "0", "--output", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    assert "left out when the minutes were over" in next(tmp_path.iterdir()).read_text()


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
