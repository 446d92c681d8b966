"""Object files to images, and images in memory."""

from __future__ import annotations

import ctypes
import functools

import pytest

from fastein.cpu._machine_code import MachineCode
from fastein.cpu.image import ROUTINES, Image, unpacked
from fastein.cpu.linking import CannotLink, link

binding = pytest.importorskip("llvmlite.binding")

TABLE = """
@table = private constant [4 x i64] [i64 10, i64 21, i64 32, i64 43]
define internal i64 @double(i64 %x) noinline {
  %y = add i64 %x, %x
  ret i64 %y
}
define i64 @entry(i64 %k) {
  %place = getelementptr [4 x i64], ptr @table, i64 0, i64 %k
  %value = load i64, ptr %place
  %twice = call i64 @double(i64 %value)
  ret i64 %twice
}
"""
SWITCH = """
define i64 @entry(i64 %k) {
  switch i64 %k, label %other [CASES]
other:
  ret i64 -1
BLOCKS
}
"""
COPY = """
declare ptr @memcpy(ptr, ptr, i64)
declare ptr @memset(ptr, i32, i64)
define void @entry(ptr %to, ptr %from, i64 %n) {
  %a = call ptr @memcpy(ptr %to, ptr %from, i64 %n)
  %half = lshr i64 %n, 1
  %b = call ptr @memset(ptr %to, i32 7, i64 %half)
  ret void
}
"""


@functools.cache
def machine(triple=None, relocation="pic", model="small"):
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(triple or binding.get_process_triple())
    return target.create_target_machine(opt=2, reloc=relocation, codemodel=model)


def compiled(ir, *options):
    return machine(*options).emit_object(binding.parse_assembly(ir))


def needs_elf(test):
    elf = compiled(TABLE)[:4] == b"\x7fELF"
    return pytest.mark.skipif(not elf, reason="objects here are not ELF")(test)


def run(image, *arguments, result=ctypes.c_int64):
    code = MachineCode(unpacked(image.packed()))
    kinds = [ctypes.c_int64 if isinstance(x, int) else ctypes.c_void_p for x in arguments]
    return ctypes.CFUNCTYPE(result, *kinds)(code.address)(*arguments)


@needs_elf
def test_constants_and_calls():
    image = link(compiled(TABLE), "entry")
    assert image.imports == ()
    assert [run(image, k) for k in range(4)] == [20, 42, 64, 86]


@needs_elf
def test_jump_tables():
    values = [k * k * 12345 % 1009 for k in range(40)]
    cases = " ".join(f"i64 {k}, label %case{k}" for k in range(40))
    blocks = "\n".join(
        f"case{k}:\n  %v{k} = mul i64 %k, {v}\n  ret i64 %v{k}" for k, v in enumerate(values)
    )
    image = link(compiled(SWITCH.replace("CASES", cases).replace("BLOCKS", blocks)), "entry")
    assert [run(image, k) for k in range(40)] == [k * v for k, v in enumerate(values)]
    assert run(image, 40) == -1


@needs_elf
def test_routines_of_the_c_library():
    image = link(compiled(COPY), "entry")
    assert sorted(routine for _, routine in image.imports) == [
        ROUTINES.index("memcpy"),
        ROUTINES.index("memset"),
    ]
    source, target = ctypes.create_string_buffer(bytes(range(100))), (ctypes.c_char * 101)()
    run(image, target, source, 100, result=None)
    assert bytes(target) == b"\7" * 50 + bytes(range(50, 100)) + b"\0"


@needs_elf
@pytest.mark.parametrize(
    ("ir", "why"),
    [
        ("declare i64 @sin(i64)\n" + TABLE.replace("call i64 @double", "call i64 @sin"), "sin"),
        (TABLE.replace("private constant", "global"), "variables"),
        (TABLE.replace("@entry", "@other"), "not defined"),
        ("@x = external constant i64\n" + TABLE.replace("ptr %place", "ptr @x"), "kind|elsewhere"),
    ],
    ids=["routine", "variable", "entry", "constant"],
)
def test_what_cannot_be_an_image(ir, why):
    with pytest.raises(CannotLink, match=why):
        link(compiled(ir), "entry")


@needs_elf
def test_code_for_one_place_only_is_refused():
    with pytest.raises(CannotLink, match="kind"):
        link(compiled(TABLE, None, "static", "large"), "entry")


@needs_elf
def test_no_part_of_an_object_is_needed_to_refuse_it():
    whole = compiled(TABLE)
    for data in (
        b"",
        b"\x7fELF",
        whole[:40],
        b"MZ" + whole[2:],
        whole[:64],
        whole[: len(whole) // 2],
    ):
        with pytest.raises(CannotLink):
            link(data, "entry")


def test_images_survive_packing():
    image = Image(bytes(range(200)), 16, ((8, 2), (192, 0)))
    assert unpacked(image.packed()) == image


@pytest.mark.parametrize(
    "image",
    [
        Image(b"", 0),
        Image(bytes(8), 8),
        Image(bytes(8), 0, ((1, 0),)),
        Image(bytes(8), 0, ((0, len(ROUTINES)),)),
        Image(bytes(7), 0, ((0, 0),)),
        Image(bytes(16), 0, ((2**32 - 4, 0),)),
    ],
)
def test_images_that_point_outside_themselves(image):
    with pytest.raises(ValueError, match="outside"):
        unpacked(image.packed())
    with pytest.raises(ValueError, match="no "):
        MachineCode(image)


@pytest.mark.parametrize("size", [0, 3, 7, 12])
def test_too_few_bytes_for_an_image(size):
    with pytest.raises(ValueError, match=r"too short|outside"):
        unpacked(Image(bytes(32), 0, ((0, 0),) * 2).packed()[:size])
