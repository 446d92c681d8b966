"""Generated source: golden files, and what its text must never depend on.

After a wanted change of the generated code, rewrite the golden files and read their diff::

    pytest tests/test_codegen.py --update-golden
"""

from __future__ import annotations

import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from fastein.cpu.codegen import ITEMSIZE, MAX_INPUTS, MAX_RANK, CannotCompile, Form, form, render

GOLDEN = pathlib.Path(__file__).parent / "golden"

# name: dtype, loops ("." output, "+" summed), access of every operand, the output last
FORMS = {
    "scalars": ("float64", "", "", "", ""),
    "copy_transposed": ("float64", "..", "ss", "s1"),
    "axpy": ("float32", ".", "0", "1", "1"),
    "outer": ("float64", "..", "s0", "01", "s1"),
    "dot": ("float64", "+", "1", "1", "0"),
    "dot_strided": ("float64", "+", "s", "1", "0"),
    "dot_every_second": ("int32", "+", "2", "2", "0"),
    "row_sums_float16": ("float16", ".+", "s1", "s0"),
    "column_sums": ("float64", "+.", "s1", "01"),
    "triple_product": ("float64", "++", "s1", "s1", "s1", "00"),
    "matmul_ijk": ("int32", "..+", "s01", "0ss", "ss0"),
    "matmul_ikj": ("float64", ".+.", "ss0", "0s1", "s01"),
    "matmul_kij": ("complex128", "+..", "ss0", "s01", "0s1"),
    "sums_split_by_output": ("bool", ".+.+", "s00s", "0ss1", "s0s0"),
    "many_operands": ("float64", ".", *["1"] * 11),
    "dot_long": ("float32", "+", "1", "0", {"long": True}),
    "matvec_long": ("float64", ".+", "s1", "01", "s0", {"long": True}),
    "dot_blocks": ("float64", "+", "1", "1", "0", {"long": True, "block": 32}),
    "row_sums_blocks": ("int16", ".+", "s1", "s0", {"block": 128}),
    "column_sums_shared": ("float64", "+.", "s1", "01", {"shared": 1, "rows": 1}),
    "column_sums_float16": ("float16", "+.", "s1", "01", {"wide": True}),
}


def make(dtype, loops, *access):
    options = access[-1] if isinstance(access[-1], dict) else {}
    access = tuple(x for x in access if isinstance(x, str))
    return Form(dtype, tuple(loop == "+" for loop in loops), access, **options)


def nest(dtype, sizes, strides, summed):
    return SimpleNamespace(
        dtype=np.dtype(dtype),
        nin=len(strides) - 1,
        sizes=sizes,
        strides=strides,
        summed=summed,
    )


@pytest.mark.parametrize("name", FORMS)
def test_golden(name, golden):
    golden(GOLDEN / f"{name}.txt", render(make(*FORMS[name])))


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_source_is_tidy_python(name):
    source = render(make(*FORMS[name]))
    compile(source, name, "exec")
    assert max(map(len, source.splitlines())) <= 100
    assert source == "\n".join(line.rstrip() for line in source.splitlines()) + "\n"


def test_form_tells_unit_strides_on_the_innermost_loop_only():
    found = form(nest("f8", (2, 3, 4), ((8, 16, 0), (0, 0, 8), (96, 32, -8)), (False,) * 3))
    assert found == Form("float64", (False,) * 3, ("ss0", "001", "sss"))
    assert (found.nin, found.rank) == (2, 3)


def test_form_tells_short_steps_of_inputs_on_the_innermost_loop():
    def steps(dtype, *strides):
        rows = tuple([(1000, stride) for stride in strides])
        return [access[-1] for access in form(nest(dtype, (9, 9), rows, (False,) * 2)).access]

    assert steps("f4", 8, 12, 16, 20, 8) == ["2", "3", "4", "s", "s"]
    assert steps("c16", 32, 48, 16) == ["2", "s", "1"]
    assert steps("f8", -16, 8) == ["s", "1"]


def test_nests_of_one_canonical_form_share_their_source():
    # 'bij,bjk->bik' and 'abc,acd->abd' with other shapes, one of them cut out of larger arrays
    first = nest(
        "f8",
        (2, 3, 4, 5),
        ((96, 32, 8, 0), (160, 0, 40, 8), (120, 40, 0, 8)),
        (False, False, True, False),
    )
    second = nest(
        np.dtype("f8"),
        (7, 9, 8, 6),
        ((9999, 640, -80, 0), (4000, 0, 480, 8), (8000, 800, 0, 8)),
        (False, False, True, False),
    )
    assert form(first) == form(second)
    assert render(form(first)) == render(form(second))


def test_the_platform_names_of_a_dtype_share_their_source():
    kernels = {form(nest(kind, (4,), ((8,), (8,)), (False,))) for kind in ("l", "q", "int64")}
    assert len(kernels) == 1


@pytest.mark.parametrize(
    ("dtype", "rank", "nin", "why"),
    [
        ("longdouble", 1, 1, "dtype"),
        ("clongdouble", 1, 1, "dtype"),
        ("O", 1, 1, "dtype"),
        ("f8", MAX_RANK + 1, 1, "loops"),
        ("f8", 1, MAX_INPUTS + 1, "inputs"),
        ("f8", 1, 10_000, "inputs"),
    ],
)
def test_what_the_baseline_keeps(dtype, rank, nin, why):
    wide = nest(dtype, (2,) * rank, ((8,) * rank,) * (nin + 1), (False,) * rank)
    with pytest.raises(CannotCompile, match=why):
        form(wide)


def test_the_largest_kernel_is_still_python():
    for loops in ("." * MAX_RANK, "+" * MAX_RANK, "+." * (MAX_RANK // 2)):
        access = "s" * MAX_RANK
        out = "".join("0" if loop == "+" else "s" for loop in loops)
        source = render(make("float64", loops, *[access] * MAX_INPUTS, out))
        compile(source, loops, "exec")


def test_source_grows_in_proportion_to_the_operands():
    lines = [len(render(make("float64", ".", *["1"] * (n + 1))).splitlines()) for n in (8, 16, 32)]
    assert lines[2] - lines[1] <= 2.5 * (lines[1] - lines[0])


def test_float16_rounds_once():
    for loops, out in ((".+", "s0"), (".", "1"), ("++", "00")):
        assert "total" in render(make("float16", loops, "s" * len(loops), out)) or "+" not in loops
    with pytest.raises(AssertionError, match="rounds once"):
        render(make("float16", "+.", "s1", "01"))


def test_every_dtype_has_its_item_size():
    assert {name: np.dtype(name).itemsize for name in ITEMSIZE} == ITEMSIZE
