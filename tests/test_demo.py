"""The demo at its small size, and the helpers that the benchmarks share with it."""

import pytest

from fastein import demo


def test_small_demo_agrees_with_numpy_and_draws_its_plot(tmp_path, capsys):
    path = tmp_path / "times.png"
    assert demo.main(["--size", "small", "--output", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "BSD,3KDH->3BSKH" in printed
    assert "3=3 B=2 S=32 K=1 H=16" in printed


def test_every_equation_of_the_layer_is_close_to_numpy():
    measurements = list(demo.attention_layer(demo.SIZES["small"]))
    assert len(measurements) == 5
    for measured in measurements:
        assert measured.relative < 1e-5, measured.equation
        assert {demo.FASTEIN, demo.NUMPY, demo.NUMPY_PLAIN} == set(measured.seconds)


def test_without_matplotlib_the_times_are_printed_and_the_extra_named(monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo.main(["--size", "small"]) == 1
    captured = capsys.readouterr()
    assert "All 5 equations" in captured.out
    assert "fastein[demo]" in captured.err


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("ij,jk->ik", "ij,jk->ik"),
        ("BSD,3KDH->3BSKH", "BSD,aKDH->aBSKH"),
        ("1a,12->2a", "ba,bc->ca"),
    ],
)
def test_numpy_spelling(equation, expected):
    assert demo.numpy_spelling(equation) == expected
