"""The command line."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

import fastein
from fastein.__main__ import _line_by_line, main
from fastein.cpu import compiler, engine, rates, tiers
from fastein.cpu.machine import MACHINE
from fastein.store import KernelStore


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A process that has compiled nothing, and an empty store."""
    monkeypatch.setattr(compiler, "_store", KernelStore())
    monkeypatch.setattr(engine, "_engines", {})
    monkeypatch.setattr(tiers, "_tiers", {})
    with fastein.config(cache_dir=str(tmp_path / "cache")):
        yield compiler.files()


def test_warmup_fills_the_store(store, tmp_path, capsys):
    (tmp_path / "equations").write_text(
        "# what this project calls\n\nij,jk->ik 300x200 200x400\nij,ij->j 50x60 50x60  # and this\n"
    )
    assert main(["warmup", str(tmp_path / "equations"), "--dtypes", "f4"]) == 0
    said = capsys.readouterr()
    assert "contractions of float32" in said.err
    assert "ij,ij->j of float32" in said.err
    assert rates.kept() is not None
    assert f"{len(store.sizes())} kernels" in said.out
    assert len(store.sizes()) == 5  # a tile, three ways of packing, a nest
    assert fastein.config().jit == "tiered"


def test_warmup_makes_compilers_unnecessary(store):
    assert main(["warmup", "--dtypes", "int16"]) == 0
    code = """
import sys, fastein, numpy as np
fastein.config(jit="always")
a = np.arange(90 * 90, dtype="i2").reshape(90, 90)
assert (fastein.einsum("ij,jk->ik", a, a) == a @ a).all()
assert not {"numba", "llvmlite", "hashlib"} & set(sys.modules)
"""
    folder = fastein.config().cache_dir
    environment = {**compiler.os.environ, "FASTEIN_CACHE_DIR": folder}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ij,jk->ik 3x4 4xx", "line 1: .* sizes with an x between"),
        ("ij,jk->ik 3x4 4x5 5x6", "line 1: .* the shape of each operand, and nothing else"),
        ("ij, jk -> ik 3x4 4x5", "line 1: .* the shape of each operand"),
        ("ij,jk->ik 3x-4 4x5", r"line 1: a shape has no negative sizes: \(3, -4\)"),
        ("i,i 99999999999999999999 1", "line 1: .* too big for memory"),
        ("\nij,jk->ik 3x4 5x6", "line 2: label 'j'"),
        ("ij,j(->i 3x4 4", r"line 1: .*\("),
        (
            "ij,jk->ik",
            r"line 1: behind 'ij,jk->ik' belongs the shape .*\n +ij,jk->ik 20x30 30x40\n",
        ),
        ("ij-> # 3x4", r"line 1: .*\n +ij-> 20x30\n"),
        ("...ij,,j 3x4", r"line 1: .*\n +\.\.\.ij,,j 20x30 \(\) 30\n"),
    ],
)
def test_mistakes_in_a_file_are_told(store, tmp_path, capsys, text, says):
    (tmp_path / "equations").write_text(text)
    assert main(["warmup", str(tmp_path / "equations"), "--dtypes", "O"]) == 2
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert "Traceback" not in said


def test_mistakes_are_told_before_anything_is_compiled(store, tmp_path, capsys):
    (tmp_path / "equations").write_text("ij->ji 3x4\nij,jk->ik\n")
    assert main(["warmup", str(tmp_path / "equations")]) == 2
    assert capsys.readouterr().err.startswith("fastein: line 2: ")
    assert not store.sizes()


def test_dtypes_that_cannot_be_summed(store, tmp_path, capsys):
    (tmp_path / "equations").write_text("i,i-> 4 4\n")
    assert main(["warmup", "--dtypes", "M8[s]", str(tmp_path / "equations")]) == 2
    assert "fastein: line 1: " in capsys.readouterr().err


def test_no_such_file(store, tmp_path, capsys):
    assert main(["warmup", str(tmp_path / "nowhere")]) == 2
    assert "nowhere cannot be read" in capsys.readouterr().err


def test_the_file_may_follow_the_dtypes(store, tmp_path, capsys):
    (tmp_path / "equations").write_text("ij->ji 3x4\n")
    assert main(["warmup", "--dtypes", "O", "?", str(tmp_path / "equations")]) == 0
    said = capsys.readouterr().err
    assert "ij->ji of object" in said
    assert "ij->ji of bool" in said


def test_no_such_dtype(store, capsys):
    assert main(["warmup", "--dtypes", "float65"]) == 2
    assert "float65" in capsys.readouterr().err


def test_no_store_to_fill(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for folder in (None, str(tmp_path / "file")):
        with fastein.config(cache_dir=folder):
            assert main(["warmup"]) == 2
        assert "no store to fill" in capsys.readouterr().err


def test_the_cache_is_shown_and_emptied(store, capsys):
    store.write("a" * 64, bytes(1000))
    assert main(["cache"]) == 0
    assert re.search("1 kernels, 1 kB\nrates: not measured", capsys.readouterr().out)
    rates.keep(MACHINE)
    assert main(["cache"]) == 0
    assert re.search("1 kernels, 1 kB\nrates: 3.3 GHz; ", capsys.readouterr().out)
    assert main(["cache", "--clear"]) == 0
    assert re.search("0 kernels, 0 kB\nrates: not measured", capsys.readouterr().out)
    assert store.sizes() == {}
    with fastein.config(cache_dir=None):
        assert main(["cache"]) == 0


def test_progress_without_rich():
    stream = io.StringIO()
    advance = _line_by_line(2, stream)
    advance("first")
    advance("second")
    assert stream.getvalue() == "[1/2] first\n[2/2] second\n"


def test_it_is_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fastein", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"fastein {fastein.__version__}"
