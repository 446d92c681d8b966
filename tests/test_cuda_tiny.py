"""Many items of small loops: every layout, on the simulated device."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import einsum
from test_cuda_contraction import assert_close, expected_of, operands
from test_cuda_schedule import H100, loops
from test_cuda_simulator import replaced

import fastein_cuda
from fastein_cuda import loops as loops_module
from fastein_cuda.forms import ContractionForm, NestForm, TinyForm
from fastein_cuda.primitives_sim import SimulatedFault
from fastein_cuda.schedule import schedule
from fastein_cuda.simulator import simulated
from fastein_cuda.unrolled import order, work

DTYPES = ("float64", "float32", "complex128", "complex64", "float16", "int8", "uint16", "int64",
          "bool")  # fmt: skip

SHAPES = [
    ("bij,bjk->bik", [(131, 3, 3), (131, 3, 3)]),
    ("ijb,jkb->ikb", [(3, 3, 300), (3, 3, 300)]),
    ("bij,bjk->bik", [(67, 16, 16), (67, 16, 16)]),
    ("bij,bjk->bik", [(130, 7, 5), (130, 5, 11)]),
    ("bij,bjk->kbi", [(130, 4, 4), (130, 4, 4)]),
    ("eij,ejk,ekl->eil", [(100, 3, 3)] * 3),
    ("bij,jk,bkl->bil", [(97, 4, 4), (4, 4), (97, 4, 4)]),
    ("ij,jk->ik", [(301, 3), (3, 3)]),
    ("ij,j->i", [(301, 5), (5,)]),
    ("bhij,bhjk->bhik", [(30, 9, 3, 4), (30, 9, 4, 2)]),
    ("bihj,bjhk->bhik", [(30, 4, 9, 3), (30, 3, 9, 2)]),
    ("eii->e", [(300, 3, 3)]),
    ("eij->ei", [(300, 2, 13)]),
    ("bij,bij->b", [(300, 2, 3)] * 2),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(dtype):
    with simulated() as device:
        for equation, shapes in SHAPES:
            given = operands(shapes, dtype)
            expected = expected_of(equation, given, dtype)
            device.launched.clear()
            found = einsum(equation, *given, out=np.zeros_like(expected, dtype))
            too_large = dtype == "complex128" and shapes[0][1] == 16
            assert isinstance(device.launched[0], ContractionForm if too_large else TinyForm)
            assert_close(found, expected, dtype)


@pytest.mark.parametrize("n", range(1, 17))
def test_every_size(n):
    with simulated():
        for dtype in ("float64", "complex64"):
            for items in (64, 127):
                given = operands([(items, n, n)] * 2, dtype)
                found = einsum("bij,bjk->bik", *given)
                assert_close(found, expected_of("bij,bjk->bik", given, dtype), dtype)


def test_any_strides():
    """Reversed, broadcast, every other one, and with NaN in all gaps."""
    room = np.full((400, 5, 9), np.nan)
    a = room[300:100:-2, 1:4, 8:2:-2]
    a[...] = operands([a.shape], "float64")[0]
    one, row = operands([(3, 3), (100, 1, 3)], "float64")
    with simulated() as device:
        for b in (
            np.broadcast_to(one, (100, 3, 3)),
            np.broadcast_to(row, (100, 3, 3)),
            np.asfortranarray(a),
            a[::-1, ::-1, ::-1],
        ):
            for order_of in "CF":
                out = np.empty(a.shape, order=order_of)
                device.launched.clear()
                found = einsum("bij,bjk->bik", a, b, out=out)
                assert isinstance(device.launched[0], TinyForm)
                assert_close(found, a @ b, "float64")


def test_only_out_is_written():
    a, b = operands([(100, 3, 3)] * 2, "float64")
    for view in (np.s_[:100, 1:4, 1:4], np.s_[100:0:-1, 3:0:-1, :3], np.s_[:200:2, ::2, 1:4]):
        room = np.full((201, 5, 5), np.nan)
        out = room[view]
        with simulated():
            einsum("bij,bjk->bik", a, b, out=out)
        np.testing.assert_allclose(out, a @ b, rtol=1e-12)
        out[...] = np.nan
        assert np.isnan(room).all()


def test_where_vectors_cannot_begin():
    with simulated():
        memory = fastein_cuda.asarray(np.arange(1.0, 2000.0, dtype="float32"))
        for begin in range(4):
            stack = fastein_cuda.DeviceArray(
                memory.address + 4 * begin, (100, 2, 2), (16, 8, 4), memory.dtype, memory.device,
                memory,
            )  # fmt: skip
            host = fastein_cuda.to_host(stack)
            found = fastein_cuda.to_host(fastein_cuda.einsum("bij,bjk->bik", stack, stack))
            np.testing.assert_array_equal(found, host @ host)


@pytest.mark.parametrize("narrow", [0, 1000])
def test_wide_offsets(narrow, monkeypatch):
    monkeypatch.setattr(loops_module, "NARROW", narrow)
    with simulated() as device:
        for equation, shapes in SHAPES:
            given = operands(shapes, "float64")
            assert_close(
                einsum(equation, *given), expected_of(equation, given, "float64"), "float64"
            )
        forms = device.launched
        assert all(form.wide and form.vast for form in forms) == (narrow == 0)
        assert any(form.wide and not form.vast for form in forms) == (narrow > 0)


def test_infinities_stay_in_their_items():
    a, b = operands([(100, 3, 3)] * 2, "float64")
    a[17, 1, 2], b[40, 0, 0] = np.inf, np.nan
    with simulated():
        found = einsum("bij,bjk->bik", a, b)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found, a @ b, rtol=1e-12)


def family(equation, *shapes, dtype="float32"):
    return type(schedule(loops(equation, *shapes, dtype=dtype), H100).form)


def test_what_is_tiny():
    assert family("bij,bjk->bik", (5000, 3, 3), (5000, 3, 3)) is TinyForm
    assert family("bij,bjk->bik", (4000, 3, 3), (4000, 3, 3)) is NestForm  # too few
    assert family("bij,bjk->bik", (5000, 17, 17), (5000, 17, 17)) is ContractionForm
    assert family("ij,jk->ik", (5000, 4), (4, 5000)) is NestForm  # hardly a product each
    assert family("bi,bj->bij", (5000, 3), (5000, 3)) is NestForm  # nothing is summed
    assert family("bij,bjk->bik", (5000, 7, 7), (5000, 7, 7), dtype="complex128") is TinyForm


def test_a_chain_is_multiplied_in_pairs():
    chosen = schedule(loops("eij,ejk,ekl->eil", *[(10_000, 3, 3)] * 3), H100)
    assert work(chosen.form) == 2 * 27
    star = tuple(frozenset(x) for x in ({0, 3}, {1, 3}, {2, 3}))
    assert order(star, frozenset({0, 1, 2}), (2, 2, 9, 9)) == ((0, 1), (0, 1))


def test_registers_decide_how_many_threads_share_an_item():
    shares = {
        n: schedule(loops("bij,bjk->bik", *[(10_000, n, n)] * 2, dtype="float32"), H100).form.share
        for n in (3, 8, 16)
    }
    assert shares == {3: 1, 8: 4, 16: 16}


MUTATIONS = {
    "no barrier before the products": ("barrier()", "pass", 1),
    "no barrier after them": ("barrier()", "pass", 2),
    "no wait": ("wait(0)", "pass", 1),
    "the barrier before the wait": ("wait(0)\n    barrier()", "barrier()\n    wait(0)", 1),
    "the last vector twice": ("clipped(a_from + u, a_all)", "clipped(a_from + u, a_all - 1)", 1),
    "a result too many": ("out_from + u < out_all", "out_from + u < out_all + 9", 1),
    "the next block's items": ("a_from = block_x(items) * ", "a_from = block_x(items) * 2 * ", 1),
    "the wrong item": ("item = me & 255", "item = me & 127", 1),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_spoilt_kernel_is_caught(name):
    old, new, which = MUTATIONS[name]
    a, b = operands([(301, 3, 3)] * 2, "float64")
    edited = []

    def edit(source):
        changed = replaced(source, old, new, which)
        edited.append(changed != source)
        return changed

    with simulated(edit=edit):
        try:
            found = einsum("bij,bjk->bik", a, b)
        except SimulatedFault:
            found = None
    assert any(edited), "the mutation does not apply any more"
    assert found is None or not np.allclose(found, a @ b)


def test_small_shared_memory():
    for shared in (99 << 10, 48 << 10):
        machine = replace(H100, shared=shared)
        for dtype in ("float64", "complex128"):
            for n in (3, 8, 12, 16):
                chosen = schedule(loops("bij,bjk->bik", *[(9000, n, n)] * 2, dtype=dtype), machine)
                if chosen.family == "tiny":
                    assert chosen.form.shared <= shared


def test_machines_differ_in_what_is_enough():
    stack = loops("bij,bjk->bik", (100, 3, 3), (100, 3, 3))
    assert schedule(stack, replace(H100, processors=2)).family == "tiny"
    assert schedule(stack, H100).family == "nest"
