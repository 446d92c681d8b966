"""Plans: layouts, steps, and where intermediates live in the scratch arena."""

import random

import numpy as np
import pytest

from fastein import EinsumError
from fastein._dispatch import normalised_options, plan_for
from fastein.arena import ARENA_ALIGNMENT
from fastein.path import SMALL_WORK
from fastein.plan import Clear, Contract, Convert, Layout, ThroughNumPy, View


def layout_of(x):
    return Layout(x.shape, x.strides, x.dtype, x.flags.aligned)


def plan_of(equation, *arrays, out=None, **keywords):
    layouts = tuple(map(layout_of, arrays))
    into = None if out is None else layout_of(out)
    return plan_for(equation, layouts, into, normalised_options(**keywords))


def kinds(plan):
    return [type(step) for step in plan.steps]


def reads(step):
    if isinstance(step, Contract | ThroughNumPy):
        return [slot.number for slot in step.inputs]
    return [step.source] if isinstance(step, Convert) else []


def writes(step):
    return step.target if isinstance(step, Convert | Clear) else step.output.number


def check_arena(plan):
    """Assert that every buffer is written once, before it is read, and kept until its last read."""
    first = len(plan.operands)
    last = first + len(plan.buffers)
    born = {writes(step): when for when, step in enumerate(plan.steps)}
    dies = {slot: when for when, step in enumerate(plan.steps) for slot in reads(step)}
    assert sorted(born) == list(range(first, last + 1))
    assert born[last] == len(plan.steps) - 1
    top = 0
    for k, buffer in enumerate(plan.buffers):
        slot = first + k
        assert born[slot] < dies[slot]
        assert buffer.offset % ARENA_ALIGNMENT == 0
        end = buffer.offset + buffer.layout.nbytes
        top = max(top, -(-end // ARENA_ALIGNMENT) * ARENA_ALIGNMENT)
        for j, other in enumerate(plan.buffers[:k]):
            alive_together = born[slot] <= dies[first + j] and born[first + j] <= dies[slot]
            apart = buffer.offset >= other.offset + other.layout.nbytes or other.offset >= end
            assert apart or not alive_together, (k, j)
    assert plan.scratch == top


EMPTY = np.ones((3, 0))
SQUARE = np.arange(9.0).reshape(3, 3)
UNALIGNED = np.zeros(73, np.uint8)[1:].view("f8").reshape(3, 3)
STEPS = {
    "view": ("ij->ji", (SQUARE,), {}, [View]),
    "diagonal": ("ii->i", (SQUARE,), {}, [View]),
    "view ignores dtype": ("ij->ij", (SQUARE,), {"dtype": "i1"}, [View]),
    "no view into out": ("ij->ji", (SQUARE,), {"out": SQUARE.copy()}, [Contract]),
    "sum": ("ij->i", (SQUARE,), {}, [Contract]),
    "empty sum": ("ij->i", (EMPTY,), {}, [Clear]),
    "empty result": ("ij,ik->jk", (EMPTY, EMPTY), {}, [Clear]),
    "other dtype": ("ij,jk", (SQUARE, SQUARE.astype("i4")), {}, [Convert, Contract]),
    "byte order": ("ij,jk", (SQUARE, SQUARE.astype(">f8")), {}, [Convert, Contract]),
    "unaligned": ("ij,jk", (SQUARE, UNALIGNED), {}, [Convert, Contract]),
    "unaligned out": ("ij,jk", (SQUARE, SQUARE), {"out": UNALIGNED}, [Contract, Convert]),
    "dtype of out": (
        "ij,jk",
        (SQUARE.astype("f4"),) * 2,
        {"out": SQUARE.astype("f4"), "dtype": "f8", "casting": "same_kind"},
        [Convert, Convert, Contract, Convert],
    ),
    "object": ("ij,jk", (SQUARE.astype(object),) * 2, {}, [ThroughNumPy]),
    "object and float": ("ij,jk", (SQUARE.astype(object), SQUARE), {}, [ThroughNumPy]),
    "path": ("ij,jk,kl->il", (SQUARE,) * 3, {"optimize": [(1, 2), (0, 1)]}, [Contract] * 2),
    "half on a path": (
        "ij,jk,kl->il",
        (SQUARE.astype("f2"),) * 3,
        {"optimize": [(1, 2), (0, 1)]},
        [Convert] * 3 + [Contract] * 2 + [Convert],
    ),
    "rounded to half on a path": (
        "ij,jk,kl->il",
        (SQUARE.astype("f4"),) * 3,
        {"optimize": [(1, 2), (0, 1)], "dtype": np.dtype("f2"), "casting": "unsafe"},
        [Convert] * 6 + [Contract] * 2 + [Convert],
    ),
    "half in one nest": ("ij,jk,kl->il", (SQUARE.astype("f2"),) * 3, {}, [Contract]),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name):
    equation, operands, keywords, want = STEPS[name]
    plan = plan_of(equation, *operands, **keywords)
    assert kinds(plan) == want
    assert plan.scratch == 0 or plan.buffers
    if want not in ([View], [Clear]):
        check_arena(plan)


def test_equal_calls_have_equal_plans():
    one, two = (plan_of("ij,jk->ik", SQUARE, SQUARE.copy()) for _ in range(2))
    assert one == two
    assert one != plan_of("ij,jk->ki", SQUARE, SQUARE)


def test_axes_that_stand_still_are_converted_once():
    wide = np.broadcast_to(np.arange(3, dtype="i4"), (1000, 3))
    plan = plan_of("ij,j->i", wide, np.ones(3))
    (buffer,) = plan.buffers
    assert buffer.layout.shape == (1, 3)
    assert plan.steps[0].layout.shape == (1, 3)


def test_a_converted_copy_keeps_the_order_of_the_axes():
    turned = np.ones((4, 5), "i4").T
    (buffer,) = plan_of("ij,jk->ik", turned, np.ones((4, 3))).buffers
    assert buffer.layout == Layout((5, 4), (8, 40), np.dtype("f8"))


def test_private_labels_are_summed_before_the_product():
    a, b = np.ones((50, 20)), np.ones((50, 30))
    plan = plan_of("ij,ik->i", a, b)
    assert [step.output.term for step in plan.steps] == [(0,), (0,), (0,)]
    assert [buffer.layout.nbytes for buffer in plan.buffers] == [400, 400]
    assert len(plan_of("ij,ik->i", a, b, optimize=False).steps) == 1
    small = np.ones((2, SMALL_WORK // 8))
    assert len(plan_of("ij,ik->i", small, np.ones((2, 4))).steps) == 1


def test_float16_is_not_converted_for_the_sake_of_a_path():
    x, matrices = np.ones((7000, 5), "f2"), np.ones((7000, 5, 5), "f2")
    assert kinds(plan_of("bi,bij,bj->b", x, matrices, x)) == [Contract]


def test_intermediates_keep_size_one_until_something_broadcasts_them():
    thin, wide = np.ones((30, 1)), np.ones((40, 20))
    plan = plan_of("ij,ik,kj->kj", thin, np.ones((30, 40)), wide, optimize=[(0, 1), (0, 1)])
    check_arena(plan)
    assert max(buffer.layout.nbytes for buffer in plan.buffers) == 40 * 8


def test_dead_buffers_are_reused_first_fit():
    n = 32
    chain = [np.ones((n, n))] * 6
    plan = plan_of(
        "ab,bc,cd,de,ef,fg->ag", *chain, optimize=[(0, 1)] + [(0, 4 - k) for k in range(4)]
    )
    check_arena(plan)
    size = n * n * 8
    assert [buffer.offset for buffer in plan.buffers] == [0, size, 0, size]
    assert plan.scratch == 2 * size


@pytest.mark.parametrize("seed", range(30))
def test_no_two_live_buffers_overlap(seed):
    rng = random.Random(seed)
    labels = "abcdefgh"
    sizes = {x: rng.choice((1, 2, 3, 20)) for x in labels}
    terms = ["".join(rng.sample(labels, rng.randint(0, 3))) for _ in range(rng.randint(3, 9))]
    arrays = [
        np.ones([sizes[x] for x in term], rng.choice(("f8", "f8", "i4", "f2", ">f8")))
        for term in terms
    ]
    path, left = [], len(terms)
    while left > 1:
        step = tuple(rng.sample(range(left), min(left, rng.choice((1, 2, 2, 2, 3)))))
        path.append(step)
        left -= len(step) - 1
    used = sorted(set("".join(terms)))
    output = "".join(rng.sample(used, min(len(used), 2)))
    check_arena(plan_of(",".join(terms) + "->" + output, *arrays, optimize=path))


def test_every_slot_has_the_shape_of_its_term():
    rng = np.random.default_rng(0)
    a, b, c = (rng.random(s) for s in ((40, 3), (3, 40, 5), (5, 40)))
    plan = plan_of("ij,jkl,lm->ikm", a, b, c)
    layouts = [*plan.operands, *[x.layout for x in plan.buffers], plan.result]
    for step in plan.steps:
        for slot in (*step.inputs, step.output):
            assert layouts[slot.number].shape == tuple(plan.sizes[x] for x in slot.term)


HUGE = np.broadcast_to(np.ones(1), 2**50)


@pytest.mark.parametrize(
    ("equation", "operands", "keywords", "error", "says"),
    [
        ("i,j->ij", (HUGE, HUGE), {}, EinsumError, "too big"),
        ("i,j->", (HUGE, HUGE), {"optimize": False}, EinsumError, "terms"),
        ("ij,jk", (SQUARE, SQUARE[:2]), {}, EinsumError, "'j'"),
        ("ij,jk", (SQUARE, SQUARE), {"dtype": "f4"}, TypeError, "operand 0"),
        ("ij->i", (SQUARE.astype("M8[s]"),), {}, TypeError, "invalid data type"),
        ("ij->i", (SQUARE.astype("S3"),), {}, TypeError, "invalid data type"),
        ("ij,jk", (SQUARE, SQUARE), {"out": SQUARE.astype("f4")}, TypeError, "of out"),
    ],
)
def test_what_cannot_be_planned(equation, operands, keywords, error, says):
    with pytest.raises(error, match=says):
        plan_of(equation, *operands, **keywords)


@pytest.mark.parametrize("count", [64, 65])
def test_a_result_has_as_many_axes_as_an_array_can(count):
    labels = "".join(chr(0x4E00 + k) for k in range(count))
    half = np.ones((1,) * 40), np.ones((1,) * (count - 40))
    equation = f"{labels[:40]},{labels[40:]}->{labels}"
    if count == 64:
        assert len(plan_of(equation, *half).result.shape) == 64
        return
    with pytest.raises(EinsumError, match="at most 64"):
        plan_of(equation, *half)


@pytest.mark.parametrize("order", ["K", "C", "F", "A"])
def test_the_results_layout_is_numpys(order):
    f, c = np.asfortranarray(SQUARE), SQUARE
    for x, y in ((c, c), (f, f), (f, c), (c.T, f), (f[::-1], f)):
        for equation in ("ij,ij->ij", "ij,ij->ji", "ij,jk->ik", "ij,jk->ki", "ii,ii->i"):
            want = np.einsum(equation, x, y, order=order)
            assert plan_of(equation, x, y, order=order).result.strides == want.strides
