"""Kernels to machine code, without a device: registers, spills, instructions, PTX version."""

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda")

from test_cuda_codegen import FORMS

import fastein
from fastein.store import KernelStore
from fastein_cuda import CudaUnavailableError, compiler
from fastein_cuda.contraction import TILES, UNITS
from fastein_cuda.elements import ELEMENTS
from fastein_cuda.forms import ContractionForm
from fastein_cuda.tile import Tile

CAPABILITIES = [(8, 0), (9, 0)]


def nvdisasm():
    """Where nvdisasm is: beside the other wheels of CUDA, or in the path."""
    import nvidia

    for root in nvidia.__path__:
        for found in Path(root).glob("*/bin/nvdisasm"):
            return str(found)
    return shutil.which("nvdisasm")


@dataclass(frozen=True)
class Report:
    """What is in a kernel's machine code."""

    opcodes: frozenset
    ptx_version: tuple

    @property
    def spills(self):
        return {op for op in self.opcodes if op.startswith(("STL", "LDL"))}

    def has(self, *names):
        return all(any(op.startswith(name) for op in self.opcodes) for name in names)


def report(form, capability, tmp_path):
    library = compiler.lower(form, capability)
    cc = compiler.architecture(capability)
    version = re.search(r"\.version (\d+)\.(\d+)", library.get_asm_str(cc=cc))
    path = tmp_path / "kernel.cubin"
    path.write_bytes(bytes(library.get_cubin(cc=cc).code))
    sass = subprocess.run([nvdisasm(), "-c", path], capture_output=True, text=True, check=True)
    opcodes = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z][\w.]*)", sass.stdout)
    return Report(frozenset(opcodes), tuple(map(int, version.groups())))


needs_disassembler = pytest.mark.skipif(nvdisasm() is None, reason="needs nvdisasm")


@needs_disassembler
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", FORMS)
def test_every_form(name, capability, tmp_path):
    found = report(FORMS[name], capability, tmp_path)
    assert not found.spills
    assert found.ptx_version <= (9, 0)
    assert found.has("STG")


@needs_disassembler
def test_vectors_are_one_instruction(tmp_path):
    found = report(FORMS["copy"], (9, 0), tmp_path)
    assert found.has("LDG.E.128", "STG.E.128")


@needs_disassembler
def test_shared_memory_and_barriers(tmp_path):
    for name in ("row_sums", "transpose"):
        assert report(FORMS[name], (9, 0), tmp_path).has("STS", "LDS", "BAR.SYNC")


@pytest.mark.parametrize("stored", ELEMENTS)
def test_every_dtype(stored):
    for name in ("matmul", "column_sums", "transpose"):
        form = FORMS[name]
        natural = ELEMENTS[stored].alignment
        form = replace(
            form,
            stored=(stored,) * len(form.stored),
            arithmetic=ELEMENTS[stored].arithmetic,
            alignment=(natural,) * len(form.stored),
        )
        assert compiler.cubin(form, (9, 0)).image[:4] == b"\x7fELF"


@pytest.mark.parametrize("source", ELEMENTS)
def test_every_conversion(source):
    for target in ("bool", "int8", "uint64", "float16", "bfloat16", "float64", "complex64"):
        form = replace(
            FORMS["convert"],
            stored=(source, target),
            arithmetic=ELEMENTS[source].arithmetic,
            alignment=(1, ELEMENTS[target].alignment),
        )
        assert compiler.cubin(form, (9, 0)).image


def test_vectors_of_every_width():
    for stored, lanes in [("int8", 16), ("bool", 4), ("int16", 8), ("float16", 8), ("bfloat16", 2)]:
        form = replace(
            FORMS["copy"],
            stored=(stored, stored),
            arithmetic=ELEMENTS[stored].arithmetic,
            lanes=lanes,
            alignment=(lanes * ELEMENTS[stored].itemsize,) * 2,
        )
        assert compiler.cubin(form, (8, 0)).image


def contraction_form(stored, size, along, lanes, wide=False):
    element = ELEMENTS[stored]
    tile = Tile(
        UNITS.get(stored, "simt"), stored, element.arithmetic, *size, along, (lanes, lanes), 4
    )
    natural = max(lanes * element.itemsize, element.alignment)
    alignment = (natural, natural, element.alignment)
    moves = ("1101", "1011", "1110")
    return ContractionForm(tile, (stored,) * 3, (1, 1, 1, 1), moves, alignment, False, wide)


OPCODES = {"dmma": ("DMMA",), "hmma": ("HMMA", "LDSM")}


@needs_disassembler
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("along", [("terms", "terms"), ("terms", "lines"), ("lines", "lines")])
@pytest.mark.parametrize(
    "stored", ["int8", "float16", "bfloat16", "float32", "complex64", "float64", "complex128"]
)
def test_every_tile(stored, along, capability, tmp_path):
    """No spills, the instructions that are meant, PTX that drivers of CUDA 13 read."""
    element = ELEMENTS[stored]
    unit = UNITS.get(stored, "simt")
    for size in TILES[unit, element.itemsize]:
        lanes = min(16 // element.itemsize, min(size[:2]) * size[2] // 256)
        found = report(contraction_form(stored, size, along, lanes), capability, tmp_path)
        assert not found.spills
        assert found.ptx_version <= (9, 0)
        assert found.has("LDGSTS", *OPCODES.get(unit, ()))
        assert not found.has("LDG.") or unit == "simt"


@needs_disassembler
@pytest.mark.parametrize("along", [("terms", "terms"), ("lines", "lines")])
def test_tf32(along, tmp_path):
    for size in TILES["tf32", 4]:
        form = contraction_form("float32", size, along, 4)
        form = replace(form, tile=replace(form.tile, unit="tf32"))
        found = report(form, (9, 0), tmp_path)
        assert found.has("HMMA.1688.F32.TF32")
        assert not found.spills


@needs_disassembler
def test_a_tile_without_vectors(tmp_path):
    for stored in ("float16", "float64", "complex128"):
        (size, *_) = TILES[UNITS[stored], ELEMENTS[stored].itemsize]
        for wide in (False, True):
            form = contraction_form(stored, size, ("terms", "lines"), 1, wide)
            form = replace(form, alignment=(ELEMENTS[stored].alignment,) * 3)
            assert not report(form, (9, 0), tmp_path).spills


def test_wide_indices():
    assert compiler.cubin(replace(FORMS["matmul"], wide=True), (9, 0)).image


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has compiled nothing, with a directory of its own for what it compiles."""
    monkeypatch.setattr(compiler, "_store", KernelStore())
    with fastein.config(cache_dir=tmp_path):
        yield monkeypatch


def test_without_numba_cuda(fresh):
    fresh.setattr(compiler, "find_spec", lambda name: None)
    with pytest.raises(CudaUnavailableError, match=r"fastein\[cuda\]"):
        compiler.cubin(FORMS["copy"], (9, 0))


def test_a_kernel_is_compiled_once(fresh):
    first = compiler.cubin(FORMS["copy"], (9, 0))
    fresh.setattr(compiler, "build", None)
    assert compiler.cubin(FORMS["copy"], (9, 0)) is first


def test_another_process_finds_it(fresh):
    first = compiler.cubin(FORMS["copy"], (9, 0))
    fresh.setattr(compiler, "_store", KernelStore())
    fresh.setattr(compiler, "build", None)
    assert compiler.cubin(FORMS["copy"], (9, 0)) == first


def test_a_damaged_file_is_not_believed(fresh, tmp_path):
    first = compiler.cubin(FORMS["copy"], (9, 0))
    (path,) = (tmp_path / "cubins").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    fresh.setattr(compiler, "_store", KernelStore())
    again = compiler.cubin(FORMS["copy"], (9, 0))
    assert again.image[:4] == first.image[:4] == b"\x7fELF"


def test_capabilities_have_cubins_of_their_own(fresh, tmp_path):
    compiler.cubin(FORMS["copy"], (9, 0))
    compiler.cubin(FORMS["copy"], (8, 0))
    assert len(list((tmp_path / "cubins").iterdir())) == 2


def test_nothing_is_kept_without_a_directory(fresh):
    with fastein.config(cache_dir=None):
        assert compiler.files() is None
        assert compiler.cubin(FORMS["fill"], (9, 0)).image
