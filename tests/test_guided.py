"""What the coverage-guided fuzzer runs, on the inputs that it has found."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import fastein
from fastein.testing import guided
from fastein.testing.guided import TARGETS, Decisions, Fault

sys.path.append(str(Path(__file__).parent / "fuzz"))
import corpus


@pytest.mark.parametrize("jit", ["tiered", "never"])
@pytest.mark.parametrize("name", TARGETS)
def test_the_inputs_that_were_found(name, jit):
    inputs = corpus.inputs(name)
    assert inputs
    with fastein.config(jit=jit):
        for data in inputs:
            TARGETS[name](data)


def test_kept_inputs_become_files_and_lines_again(tmp_path, monkeypatch):
    corpus.unpack("parser", tmp_path / "files")
    before = corpus.inputs("parser")
    monkeypatch.setattr(corpus, "KEPT", tmp_path)
    corpus.pack("parser", tmp_path / "files")
    assert corpus.inputs("parser") == before


def test_every_byte_decides():
    rng = Decisions(bytes([0, 64, 128, 255]))
    assert [rng.random() for _ in range(4)] == [0, 0.25, 0.5, 255 / 256]
    assert Decisions(b"\x00").choice("abcdefg") == "a"
    assert Decisions(b"\x40").choice("abcdefg") == "c"
    assert Decisions(b"\xff\x20").choice("abcdefg") == "b"  # there is no eighth
    assert sorted(Decisions(b"").sample(range(100), 100)) == list(range(100))


@pytest.mark.parametrize("text", ["ij,jk", "ii->", "...i->i...", " i , j -> j i "])
def test_what_numpy_answers_is_compared(text, monkeypatch):
    guided.parser(text.encode())
    monkeypatch.setattr(guided.fastein, "einsum", lambda *_: np.array(-1))
    with pytest.raises(Fault, match="not"):
        guided.parser(text.encode())


@pytest.mark.parametrize("text", ["\u03b1\u03b2->\u03b2", "i->->", "ij\0", "i,j->k", "", "\udcff"])
def test_what_numpy_refuses_may_be_answered(text):
    guided.parser(text.encode("utf-8", "surrogateescape"))


def test_calls_are_compared(monkeypatch):
    monkeypatch.setattr(guided, "compare", lambda call: f"no answer to {call.subscripts!r}")
    with pytest.raises(Fault, match="no answer"):
        guided.planner(bytes(range(100)))
