"""Generated source of the GPU kernels: golden files, and that it is tidy Python.

After a wanted change of the generated code, rewrite the golden files and read their diff::

    pytest tests/test_cuda_codegen.py --update-golden
"""

import pathlib

import pytest
from test_cuda_schedule import H100, loops

from fastein_cuda.codegen import (
    PRIMITIVES,
    TILE_PRIMITIVES,
    TINY_PRIMITIVES,
    parameters,
    render,
)
from fastein_cuda.forms import ContractionForm, NestForm, TranspositionForm
from fastein_cuda.primitives_sim import Lockstep
from fastein_cuda.schedule import schedule
from fastein_cuda.tile import Tile

GOLDEN = pathlib.Path(__file__).parent / "golden" / "cuda"


def nest(stored, moves, outputs, **given):
    settings = {
        "arithmetic": stored[0],
        "alignment": (8,) * len(stored),
        "lanes": 1,
        "vectors": (False,) * len(stored),
        "along": "items",
        "parts": 1,
        "partial": False,
        "wide": False,
    }
    return NestForm(stored, moves=moves, outputs=outputs, **{**settings, **given})


def scheduled(equation, *shapes, **given):
    return schedule(loops(equation, *shapes, **given), H100).form


DOUBLE = ("float64",)
FORMS = {
    "fill": nest(DOUBLE, ("1",), 1),
    "copy": nest(DOUBLE * 2, ("1", "1"), 1, lanes=2, vectors=(True, True), alignment=(16, 16)),
    "convert": nest(("float16", "float64"), ("111", "111"), 3, arithmetic="float32"),
    "outer": nest(DOUBLE * 3, ("10", "01", "11"), 2),
    "matmul": nest(DOUBLE * 3, ("101", "011", "110"), 2),
    "row_sums": nest(DOUBLE * 2, ("11", "10"), 1, along="terms", parts=32),
    "column_sums": nest(DOUBLE * 2, ("11", "10"), 1, parts=8),
    "dot_of_a_block": nest(
        DOUBLE * 3, ("1", "1", "0"), 0, along="terms", parts=256, partial=True,
        lanes=2, vectors=(True, True, False), alignment=(16, 16, 8),
    ),
    "trace_of_products": nest(("complex64",) * 3, ("111", "111", "000"), 0, parts=2),
    "transpose": TranspositionForm(DOUBLE * 2, "float64", ("11", "11"), (8, 8), (True,), 32, False),
    "contraction": ContractionForm(
        Tile("dmma", *DOUBLE, *DOUBLE, 128, 128, 16, ("terms", "lines"), (2, 2), 4),
        DOUBLE * 3, (0, 1, 1, 1), ("101", "011", "110"), (16, 16, 8), False, False,
    ),
    "batched_split_contraction": ContractionForm(
        Tile("hmma", "float16", "float32", 64, 64, 32, ("lines", "terms"), (8, 1), 3),
        ("float16", "float16", "float32"), (1, 2, 1, 2), ("111011", "100111", "111100"),
        (16, 2, 4), True, False,
    ),
    "batched_transposes": TranspositionForm(
        ("float16",) * 4, "float32", ("1111", "0011", "1010", "1111"), (2,) * 4,
        (True, True, False), 64, False,
    ),
    "stacks": scheduled("bij,bjk->bik", (8192, 3, 3), (8192, 3, 3)),
    "shared_stacks": scheduled("bij,bjk->bik", (8192, 16, 16), (8192, 16, 16)),
    "uneven_stacks": scheduled("bij,bjk->bik", (8192, 9, 9), (8192, 9, 9), dtype="complex64"),
    "stacks_innermost": scheduled("ijb,jkb->ikb", (3, 3, 8192), (3, 3, 8192), dtype="float32"),
    "chains": scheduled("bij,jk,bkl->bil", (8192, 4, 4), (4, 4), (8192, 4, 4), dtype="float16"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_golden(name, golden):
    golden(GOLDEN / f"{name}.txt", render(FORMS[name]))


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_source_uses_its_parameters_and_the_primitives_alone(name):
    code = compile(render(FORMS[name]), name, "exec")
    (kernel,) = [x for x in code.co_consts if hasattr(x, "co_names")]
    assert set(kernel.co_names) <= {*PRIMITIVES, *TILE_PRIMITIVES, *TINY_PRIMITIVES, "range"}
    taken = [parameter for parameter, _ in parameters(FORMS[name])]
    assert kernel.co_varnames[: len(taken)] == tuple(taken)
    assert len(set(taken)) == len(taken)


def test_the_simulator_has_every_primitive():
    assert all(callable(getattr(Lockstep, name)) for name in PRIMITIVES)


def test_names_do_not_collide():
    """With many operands and axes the letters end."""
    wide = nest(DOUBLE * 13, ("1" * 30,) * 13, 20)
    names = [name for name, _ in parameters(wide)]
    assert len(set(names)) == len(names)
    compile(render(wide), "wide", "exec")
