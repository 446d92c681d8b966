"""Every family on any strides and sizes, on the simulated device and, if there is one, a real one.

Operands lie among NaN, and the result among marks that must not change: what a memory checker would
say of an access that goes astray shows here too.
"""

from dataclasses import replace

import numpy as np
import pytest
from simulated import DEVICES, HALVES, einsum, on_device
from test_cuda_contraction import assert_close, expected_of, operands
from test_cuda_schedule import H100, loops

from fastein_cuda.forms import ContractionForm, NestForm, TinyForm, TranspositionForm
from fastein_cuda.schedule import schedule

#: Family, equation, sizes that suit the simulated machine.
CASES = [
    (NestForm, "ij,ij,ij->ij", {"i": 13, "j": 37}),
    (NestForm, "i,ij,j->", {"i": 31, "j": 97}),
    (NestForm, "ij->j", {"i": 211, "j": 7}),
    (NestForm, "abc,c,b->ac", {"a": 11, "b": 37, "c": 13}),
    (NestForm, "i,j,k->kij", {"i": 7, "j": 5, "k": 11}),
    (TranspositionForm, "abc,cb->bca", {"a": 13, "b": 17, "c": 31}),
    (TranspositionForm, "abcde->edcba", {"a": 11, "b": 3, "c": 5, "d": 2, "e": 13}),
    (ContractionForm, "aib,bja->ij", {"a": 5, "b": 11, "i": 37, "j": 23}),
    (ContractionForm, "ij,kj->ki", {"i": 19, "j": 401, "k": 17}),
    (TinyForm, "eij,ejk,ekl->eil", {"e": 101, "i": 3, "j": 5, "k": 2, "l": 7}),
    (TinyForm, "ije,jke->kie", {"e": 101, "i": 3, "j": 5, "k": 2}),
]

MANY = 5000  # items of small loops: what keeps a large GPU busy takes more than the simulator's

VIEWS = {
    "reversed": lambda room, shape: room[..., *[slice(n, 0, -1) for n in shape]],
    "every other": lambda room, shape: room[..., *[slice(1, 2 * n, 2) for n in shape]],
    "columns first": lambda room, shape: room.T[..., *[slice(2, n + 2) for n in shape]],
}


@pytest.fixture(params=DEVICES)
def device(request):
    with on_device(request.param) as found:
        yield found


def among(values, view, mark):
    """The values as a view of an array that is full of marks elsewhere; that array."""
    shape = tuple(2 * n + 3 for n in values.shape)
    room = np.full(shape[::-1] if view == "columns first" else shape, mark, values.dtype)
    found = VIEWS[view](room, values.shape)
    found[...] = values
    return found, room


def check(equation, given, view, dtype):
    mark = 99 if np.dtype(dtype).kind in "iu" else np.nan
    expected = expected_of(equation, given, dtype)
    inside = [among(x, view, mark)[0] for x in given]
    out, room = among(np.zeros_like(expected, dtype), view, mark)
    found = einsum(equation, *inside, out=out)
    assert found is out
    assert_close(out, expected, dtype)
    out[...] = mark
    assert room.tobytes() == np.full_like(room, mark).tobytes()


def shapes_of(equation, sizes):
    return [[sizes[x] for x in term] for term in equation.split("->")[0].split(",")]


def sizes_for(device, sizes):
    """The sizes at which a real device, of which there is no object, takes the same family."""
    return {**sizes, "e": MANY} if device is None and "e" in sizes else sizes


@pytest.mark.parametrize(("family", "equation", "sizes"), CASES)
def test_a_large_gpu_takes_the_family(family, equation, sizes):
    shapes = [tuple(shape) for shape in shapes_of(equation, sizes_for(None, sizes))]
    for processors in (108, 132, 148):
        machine = replace(H100, processors=processors)
        assert isinstance(schedule(loops(equation, *shapes), machine).form, family)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("family", "equation", "sizes"), CASES)
def test_any_strides(device, family, equation, sizes, view):
    sizes = sizes_for(device, sizes)
    for dtype in ("float64", "complex64", *HALVES, "int8"):
        given = operands(shapes_of(equation, sizes), dtype)
        if device is not None:
            device.launched.clear()
        check(equation, given, view, dtype)
        if device is not None and view == "reversed":
            assert family in [type(form) for form in device.launched]


@pytest.mark.parametrize(("family", "equation", "sizes"), CASES)
def test_sizes_of_zero_and_one(device, family, equation, sizes):
    sizes = sizes_for(device, sizes)
    for label in sizes:
        for size in (0, 1, 2):
            changed = {**sizes, label: size}
            given = operands(shapes_of(equation, changed), "float64")
            check(equation, given, "every other", "float64")


@pytest.mark.parametrize(("family", "equation", "sizes"), CASES)
def test_operands_that_stand_still(device, family, equation, sizes):
    """Broadcast operands: strides of zero along each axis in turn, and along all."""
    given = operands(shapes_of(equation, sizes_for(device, sizes)), "int32")
    for number, operand in enumerate(given):
        for axes in [*[(axis,) for axis in range(operand.ndim)], tuple(range(operand.ndim))]:
            first = [slice(0, 1) if k in axes else slice(None) for k in range(operand.ndim)]
            still = np.broadcast_to(operand[tuple(first)], operand.shape)
            changed = [*given[:number], still, *given[number + 1 :]]
            expected = expected_of(equation, changed, "int32")
            assert_close(einsum(equation, *changed), expected, "int32")
