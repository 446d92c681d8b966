"""Kernels to machine code, without a device: registers, spills, instructions, PTX version."""

import bisect
import itertools
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda")

from test_cuda_codegen import FORMS

import fastein
from fastein.store import KernelStore
from fastein_cuda import CudaUnavailableError, compiler
from fastein_cuda.contraction import TILES, UNITS, tiles
from fastein_cuda.elements import ELEMENTS
from fastein_cuda.forms import THREADS, ContractionForm, TinyForm
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
    registers: int

    @property
    def spills(self):
        return {op for op in self.opcodes if op.startswith(("STL", "LDL"))}

    def has(self, *names):
        return all(any(op.startswith(name) for op in self.opcodes) for name in names)


def reports(forms, capability, tmp_path):
    """Return what is in the machine code of each form.

    All of it is disassembled at once: to start the disassembler takes longer than its work.
    """
    cc = compiler.architecture(capability)
    libraries = [compiler.lower(form, capability) for form in forms]
    images = [bytes(library.get_cubin(cc=cc).code) for library in libraries]
    texts = [code_of(image) for image in images]
    path = tmp_path / "code"
    path.write_bytes(b"".join(texts))
    command = [nvdisasm(), "--binary", "SM" + "".join(map(str, cc)), path]
    sass = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?([A-Z][\w.]*)", sass)
    ends = list(itertools.accumulate(map(len, texts)))
    opcodes = [set() for _ in forms]
    for address, opcode in found:
        opcodes[bisect.bisect_right(ends, int(address, 16))].add(opcode)
    assert all(opcodes)
    return [
        Report(frozenset(names), ptx_version(library.get_asm_str(cc=cc)), registers(image))
        for names, library, image in zip(opcodes, libraries, images, strict=True)
    ]


def ptx_version(ptx):
    return tuple(map(int, re.search(r"\.version (\d+)\.(\d+)", ptx).groups()))


def code_of(image):
    """Return the sections of an ELF file that hold machine code."""
    (start,) = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<3H", image, 0x3A)
    # name, type, flags, address, offset, size
    sections = [struct.unpack_from("<2I4Q", image, start + size * n) for n in range(count)]
    return b"".join(
        [
            image[offset : offset + length]
            for name, *_, offset, length in sections
            if image.startswith(b".text.", sections[names][4] + name)
        ]
    )


def registers(image):
    """Return the registers of a thread: the attribute REGCOUNT of the cubin's functions."""
    found = [
        struct.unpack_from("<I", image, place.start() + 8)[0]
        for place in re.finditer(rb"\x04\x2f\x08\x00", image)
    ]
    return max([count for count in found if count < 256])  # else it is code that looks like one


def most_registers(form):
    """Return what a thread may have if a multiprocessor is to hold as many as its family needs."""
    if isinstance(form, ContractionForm):
        tile = form.tile
        bound = CONTRACTION_REGISTERS[tile.unit, tile.stored, tile.rows] + 16 * form.wide
        return min(bound, REGISTERS // (THREADS * form.resident))
    return 128 if isinstance(form, TinyForm) else 96


def well_made(forms, capability, tmp_path):
    """Return what is in kernels' machine code, after what is asserted of that of every kernel."""
    found = reports(forms, capability, tmp_path)
    for form, of_it in zip(forms, found, strict=True):
        assert not of_it.spills, form
        assert of_it.ptx_version <= (9, 0)
        assert of_it.registers <= most_registers(form), form
    return found


needs_disassembler = pytest.mark.skipif(nvdisasm() is None, reason="needs nvdisasm")


@needs_disassembler
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_form(capability, tmp_path):
    assert all(x.has("STG") for x in well_made(list(FORMS.values()), capability, tmp_path))


@needs_disassembler
def test_vectors_are_one_instruction(tmp_path):
    (found,) = reports([FORMS["copy"]], (9, 0), tmp_path)
    assert found.has("LDG.E.128", "STG.E.128")


@needs_disassembler
def test_shared_memory_and_barriers(tmp_path):
    forms = [FORMS[name] for name in ("row_sums", "transpose")]
    assert all(x.has("STS", "LDS", "BAR.SYNC") for x in reports(forms, (9, 0), tmp_path))


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


REGISTERS = 65536  # of a multiprocessor

# The most that a thread has of them, by unit, dtype and the tile's rows.
CONTRACTION_REGISTERS = {
    ("simt", "int8", 128): 240,
    ("simt", "int8", 64): 128,
    ("simt", "uint16", 128): 176,
    ("simt", "uint16", 64): 96,
    ("simt", "int32", 128): 255,
    ("simt", "int32", 64): 112,
    ("simt", "int64", 64): 104,
    ("simt", "bool", 128): 255,
    ("simt", "bool", 64): 128,
    ("simt", "float32", 128): 240,
    ("simt", "float32", 64): 112,
    ("simt", "complex64", 64): 112,
    ("tf32", "float32", 128): 160,
    ("tf32", "float32", 64): 80,
    ("tf32x3", "float32", 64): 144,
    ("hmma", "float16", 128): 216,
    ("hmma", "float16", 64): 72,
    ("hmma", "bfloat16", 128): 216,
    ("hmma", "bfloat16", 64): 72,
    ("dmma", "float64", 128): 248,
    ("dmma", "float64", 64): 104,
    ("dmma", "complex128", 64): 184,
}

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
    forms = []
    for size in TILES[unit, element.itemsize]:
        lanes = min(16 // element.itemsize, min(size[:2]) * size[2] // 256)
        forms.append(contraction_form(stored, size, along, lanes))
    for found in well_made(forms, capability, tmp_path):
        assert found.has("LDGSTS", *OPCODES.get(unit, ()))
        assert not found.has("LDG.") or unit == "simt"


@needs_disassembler
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    ("stored", "along"),
    [
        ("uint16", ("lines", "terms")),
        ("int32", ("terms", "terms")),
        ("int64", ("lines", "lines")),
        ("bool", ("terms", "lines")),
    ],
)
def test_other_integers(stored, along, capability, tmp_path):
    itemsize = ELEMENTS[stored].itemsize
    forms = []
    for size in TILES["simt", itemsize]:
        lanes = min(16 // itemsize, min(size[:2]) * size[2] // 256)
        forms.append(contraction_form(stored, size, along, lanes))
    for found in well_made(forms, capability, tmp_path):
        assert found.has("LDGSTS", "LOP3" if stored == "bool" else "IMAD")


@needs_disassembler
@pytest.mark.parametrize("along", [("terms", "terms"), ("lines", "lines")])
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("unit", ["tf32", "tf32x3"])
def test_tf32(unit, along, capability, tmp_path):
    large, small = TILES[unit, 4]
    forms = []
    for size, wide in ((large, False), (large, True), (small, False)):
        form = contraction_form("float32", size, along, 4, wide)
        forms.append(replace(form, tile=replace(form.tile, unit=unit)))
    for found in well_made(forms, capability, tmp_path):
        assert found.has("HMMA.1688.F32.TF32", "LDGSTS")


@needs_disassembler
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_split_sums(capability, tmp_path):
    """Tiles whose sums go into a workspace, in the dtype that they are added in."""
    forms = []
    for stored in ("float64", "float32", "float16", "complex128", "int8"):
        element = ELEMENTS[stored]
        (size, *_) = TILES[UNITS.get(stored, "simt"), element.itemsize]
        lanes = min(16 // element.itemsize, min(size[:2]) * size[2] // 256)
        form = contraction_form(stored, size, ("terms", "lines"), lanes)
        total = ELEMENTS[element.arithmetic]
        alignment = (*form.alignment[:2], total.itemsize)
        types = (stored, stored, total.name)
        forms.append(replace(form, partial=True, stored=types, alignment=alignment))
    for form, found in zip(forms, well_made(forms, capability, tmp_path), strict=True):
        assert found.has("STG", *OPCODES.get(form.tile.unit, ()))


@needs_disassembler
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_steps_with_unrounded_intermediates(stored, capability, tmp_path):
    """Floats of two bytes into float32, and float32 by the tensor cores into two bytes."""
    form = contraction_form(stored, TILES["hmma", 2][0], ("terms", "lines"), 8)
    first = replace(form, stored=(stored, stored, "float32"), alignment=(16, 16, 4))
    unit = "tf32" if stored == "bfloat16" else "tf32x3"
    form = contraction_form("float32", TILES[unit, 4][0], ("terms", "lines"), 4)
    last = replace(
        form,
        tile=replace(form.tile, unit=unit),
        stored=("float32", "float32", stored),
        alignment=(16, 16, 2),
    )
    halves, rests = well_made([first, last], capability, tmp_path)
    assert halves.has("HMMA.16816.F32", "LDGSTS")
    assert rests.has("HMMA.1688.F32.TF32", "LDGSTS")


@needs_disassembler
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    ("stored", "unit"),
    [("float16", "hmma"), ("float64", "dmma"), ("complex128", "dmma"), ("float32", "tf32")],
)
def test_a_tile_without_vectors(stored, unit, capability, tmp_path):
    forms = []
    for wide in (False, True):
        (size, *_) = tiles(unit, ELEMENTS[stored].itemsize, capability, wide)
        form = contraction_form(stored, size, ("terms", "lines"), 1, wide)
        form = replace(form, tile=replace(form.tile, unit=unit))
        forms.append(replace(form, alignment=(ELEMENTS[stored].alignment,) * 3))
    well_made(forms, capability, tmp_path)


@needs_disassembler
def test_wide_kernels_divide_in_32_bits(tmp_path):
    """A division of 64 bits takes some hundred instructions, by way of floating point."""
    names = ("matmul", "transpose", "stacks", "uneven_stacks")
    wide = [replace(FORMS[name], wide=True) for name in names]
    for found in well_made(wide, (9, 0), tmp_path):
        assert not any(op.startswith(("I2F", "CALL")) for op in found.opcodes)


def test_vast_indices():
    assert compiler.cubin(replace(FORMS["matmul"], wide=True, vast=True), (9, 0)).image


def test_another_way_to_machine_code(monkeypatch):
    """Where numba-cuda's inside is not what it was, or nvJitLink is missing: PTX."""

    def missing(*arguments):
        raise AttributeError("get_cubin")

    monkeypatch.setattr(compiler, "lower", missing)
    for name in ("stacks", "contraction"):
        found = compiler.build(FORMS[name], (9, 0))
        text = found.image.decode()
        assert text.endswith("\0")
        assert f".entry {found.entry}" in text
        assert ".target sm_90a" in text
    monkeypatch.setattr(compiler, "portable", lambda *_: 1 / 0)
    with pytest.raises(AttributeError, match="get_cubin"):
        compiler.build(FORMS["stacks"], (9, 0))


def test_a_numba_cuda_of_another_package(monkeypatch):
    from numba import cuda

    monkeypatch.setattr(cuda, "__file__", "/elsewhere/numba/cuda/__init__.py")
    with pytest.raises(CudaUnavailableError, match=r"_numba_cuda_redirector\.pth"):
        compiler.lower(FORMS["fill"], (9, 0))


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
