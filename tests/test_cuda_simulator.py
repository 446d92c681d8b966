"""The simulator sees what would go wrong on a GPU: kernels spoilt on purpose, and memory."""

import numpy as np
import pytest
from simulated import einsum

from fastein_cuda.elements import ELEMENTS
from fastein_cuda.primitives_sim import Lockstep, Memory, Pointer, SimulatedFault
from fastein_cuda.simulator import simulated

FLOAT64 = ELEMENTS["float64"]

ACROSS = ("ij,ji->ij", [(40, 50), (50, 40)])

# equation, shapes, what is replaced in the kernels' source, by what, at which occurrence
MUTATIONS = {
    "no barrier after the write": ("ij->i", [(3, 5000)], "barrier()", "pass", 1),
    "no barrier before the next write": ("ij->i", [(3, 5000)], "barrier()", "pass", 2),
    "no barrier between the halves of a tile": (*ACROSS, "barrier()", "pass", 1),
    "an item too many": ("i,i->i", [(1000,)] * 2, "item < items", "item < items + 1", 1),
    "no clipping of items": ("i,i->i", [(1001,)] * 2, "clipped(item, items)", "item", 1),
    "no clipping of terms": ("i->", [(1001,)], "clipped(term, terms)", "term", 1),
    "terms counted twice": ("i->", [(1001,)], "term < upto", "term < terms + 512", 1),
    "half of the parts": ("ij->i", [(3, 5000)], "half = 128", "half = 64", 1),
    "a tile's pitch": (*ACROSS, "(lane + s) * 33", "(lane + s) * 32", 1),
    "no clipping in a tile": (*ACROSS, "clipped(x_from + row + r, X)", "(x_from + row + r)", 1),
    "a block's own partial sum": ("i->", [(100_000,)], "block_y(items) * items", "items", 1),
}  # fmt: skip


def replaced(source, old, new, which):
    """Replace the first, second, ... occurrence."""
    pieces = source.split(old)
    if len(pieces) <= which:
        return source
    return old.join(pieces[:which]) + new + old.join(pieces[which:])


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_spoilt_kernel_is_caught(name):
    equation, shapes, old, new, which = MUTATIONS[name]
    given = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
    out = np.full_like(np.einsum(equation, *given), np.nan, subok=False)
    expected = np.einsum(equation, *given)
    edited = []

    def edit(source):
        edited.append(replaced(source, old, new, which) != source)
        return replaced(source, old, new, which)

    with simulated(edit=edit):
        try:
            found = einsum(equation, *given, out=out)
        except SimulatedFault:
            found = None
    assert any(edited), "the mutation does not apply any more"
    assert found is None or not np.allclose(found, expected)
    with simulated():
        np.testing.assert_allclose(einsum(equation, *given), expected, rtol=1e-12, atol=1e-12)


# Memory


def threads(memory, count=4, shared=0):
    return Lockstep(memory, np.array([(0, 0)]), count, shared)


def pointer(address, lanes=1, alignment=8, reach=2**31):
    return Pointer(np.int64(address), FLOAT64, FLOAT64, lanes, alignment, reach)


def test_new_memory_is_poison():
    memory = Memory()
    step = threads(memory)
    at = pointer(memory.allocate(32)) + step.thread(0) * 8
    assert np.isnan(step.load(at)).all()


@pytest.mark.parametrize("offset", [-8, 8, 1 << 41])
def test_an_access_outside_an_allocation(offset):
    memory = Memory()
    memory.allocate(1000)
    step = threads(memory)
    at = pointer(memory.allocate(32), reach=2**62) + (step.thread(0) * 8 + offset)
    memory.allocate(1000)
    with pytest.raises(SimulatedFault, match="an access lies"):
        step.load(at)
    with pytest.raises(SimulatedFault, match="an access lies"):
        step.store(at, np.ones((4, 1)), np.ones(4, bool))


def test_an_access_off_its_alignment():
    memory = Memory()
    step = threads(memory)
    with pytest.raises(SimulatedFault, match="aligned"):
        step.load(pointer(memory.allocate(64) + 4))
    with pytest.raises(SimulatedFault, match="aligned"):
        step.load(pointer(memory.allocate(64) + 8, lanes=2, alignment=16))


def test_a_race_for_an_element():
    memory = Memory()
    step = threads(memory)
    address = pointer(memory.allocate(32))
    with pytest.raises(SimulatedFault, match="two threads"):
        step.store(address, np.ones((4, 1)), np.ones(4, bool))
    step.store(address, np.ones((4, 1)), step.thread(0) < 1)


def test_an_index_beyond_its_width():
    step = threads(Memory())
    with pytest.raises(SimulatedFault, match="width"):
        pointer(0) + np.int64(2**31)
    with pytest.raises(SimulatedFault, match="width"):
        step.quotient(np.array([2**31]), 3, 1, 2)


def test_shared_memory():
    step = threads(Memory(), shared=4 * 8)
    shelf = step.shelf(np.zeros((4, 1)), 0)
    me = step.thread(0)
    with pytest.raises(SimulatedFault, match="before it is written"):
        step.get(shelf, me)
    step.put(shelf, me, np.arange(4.0)[:, None])
    np.testing.assert_array_equal(step.get(shelf, me)[:, 0], np.arange(4))
    with pytest.raises(SimulatedFault, match="without a barrier after the write"):
        step.get(shelf, 3 - me)
    step.barrier()
    np.testing.assert_array_equal(step.get(shelf, 3 - me)[:, 0], 3 - np.arange(4))
    with pytest.raises(SimulatedFault, match="without a barrier after the read"):
        step.put(shelf, me, np.zeros((4, 1)))
    step.barrier()
    with pytest.raises(SimulatedFault, match="two threads write"):
        step.put(shelf, me * 0, np.zeros((4, 1)))
    with pytest.raises(SimulatedFault, match="outside"):
        step.get(shelf, me + 1)
