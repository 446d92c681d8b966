"""The call path: which calls share a plan, how long plans are kept, and that nothing leaks."""

import gc
import sys
import tracemalloc

import numpy as np
import opt_einsum
import pytest
from helpers import in_a_process

from fastein import EinsumError, config, einsum, einsum_path, explain
from fastein._dispatch import normalised_options, plan_for
from fastein._plan_cache import clear_plans, plan_count
from fastein.cpu.target import CPU
from fastein.plan import Layout

A = np.arange(6.0).reshape(2, 3)
B = np.arange(12.0).reshape(3, 4)
MOST_PLANS = 4096
OPTIMIZER = opt_einsum.DynamicProgramming()


@pytest.fixture(autouse=True)
def empty_cache():
    clear_plans()
    yield
    clear_plans()


def new_plans(*calls):
    """How many plans each of these calls adds to the cache."""
    added = []
    for call in calls:
        before = plan_count()
        call()
        added.append(plan_count() - before)
    return added


def test_the_second_call_is_a_hit():
    call = lambda: einsum("ij,jk->ik", A, B)  # noqa: E731
    assert new_plans(call, call, call) == [1, 0, 0]
    copies = A.copy(), B.copy()
    assert new_plans(lambda: einsum("ij,jk->ik", *copies)) == [0]


def copy_of(text):
    """An equal string that is another object."""
    return "".join(list(text))


SAME = {
    "equal subscripts": lambda: einsum(copy_of("ij,jk->ik"), A, B),
    "a subclass of str": lambda: einsum(np.str_("ij,jk->ik"), A, B),
    "bytes": lambda: einsum(b"ij,jk->ik", A, B),
    "lists": lambda: einsum("ij,jk->ik", A.tolist(), B.tolist()),
    "a list of operands": lambda: einsum("ij,jk->ik", [A, B]),
    "equal keywords": lambda: einsum(
        "ij,jk->ik", A, B, order=copy_of("K"), casting=copy_of("safe"), optimize=copy_of("auto")
    ),
    "lower case": lambda: einsum("ij,jk->ik", A, B, order="k"),
    "no order": lambda: einsum("ij,jk->ik", A, B, order=None),
    "a falsy strict": lambda: einsum("ij,jk->ik", A, B, strict=0),
    "a subclass of ndarray": lambda: einsum("ij,jk->ik", A.view(np.memmap), B),
}


@pytest.mark.parametrize("name", SAME)
def test_calls_that_share_a_plan(name):
    einsum("ij,jk->ik", A, B)
    assert new_plans(SAME[name], SAME[name]) == [0, 0]
    np.testing.assert_array_equal(SAME[name](), A @ B)


UNALIGNED = np.zeros(49, np.uint8)[1:].view("f8").reshape(2, 3)
OTHER = {
    "subscripts": lambda: einsum("ij,jk->ki", A, B),
    "spaces": lambda: einsum("ij, jk->ik", A, B),
    "shape": lambda: einsum("ij,jk->ik", A[:1], B),
    "strides": lambda: einsum("ij,jk->ik", np.asfortranarray(A), B),
    "alignment": lambda: einsum("ij,jk->ik", UNALIGNED, B),
    "out": lambda: einsum("ij,jk->ik", A, B, out=np.empty((2, 4))),
    "dtype=": lambda: einsum("ij,jk->ik", A, B, dtype="f8"),
    "order": lambda: einsum("ij,jk->ik", A, B, order="F"),
    "casting": lambda: einsum("ij,jk->ik", A, B, casting="unsafe"),
    "optimize": lambda: einsum("ij,jk->ik", A, B, optimize=False),
    "a path": lambda: einsum("ij,jk->ik", A, B, optimize=["einsum_path", (0, 1)]),
    "an optimizer": lambda: einsum("ij,jk->ik", A, B, optimize=OPTIMIZER),
    "strict": lambda: einsum("ij,jk->ik", A, B, strict=True),
    "sublists": lambda: einsum(A, [0, 1], B, [1, 2], [0, 2]),
}


@pytest.mark.parametrize("name", OTHER)
def test_calls_with_a_plan_of_their_own(name):
    einsum("ij,jk->ik", A, B)
    assert new_plans(OTHER[name], OTHER[name]) == [1, 0]


def test_an_operand_that_is_no_array():
    message = r"operand 1 cannot be made an array: (.|\n)*ij,jk"
    for call in (einsum, explain, einsum_path):
        for operands in ((B.T[:, :2], [[1, 2], [3]]), ([A, [[1], [2, 3]]],)):
            with pytest.raises(EinsumError, match=message):
                call("ij,jk->ik", *operands)
        with pytest.raises(EinsumError, match="2 terms, but 3 operands"):
            call("ij,jk->ik", [A, B, B])


def test_a_list_of_operands_that_answer_themselves():
    class Owned:
        def __array__(self, *args, **kwargs):
            raise AssertionError("converted")

        def __array_function__(self, function, types, args, kwargs):
            return function, args

    pair = [Owned(), Owned()]
    assert einsum("i,i->", pair) == (np.einsum, ("i,i->", *pair))


CONVERTED = {
    "dtype": lambda: einsum("ij,jk->ik", A.astype("f4"), B),
    "dtype of one size": lambda: einsum("ij,jk->ik", A.astype("i8"), B),
    "byte order": lambda: einsum("ij,jk->ik", A.astype(">f8"), B),
    "dtype=": lambda: einsum("ij,jk->ik", A.astype("f4"), B.astype("f4"), dtype="f8"),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_small_operands_are_converted_without_a_plan_until_that_is_worth_it(name):
    call = CONVERTED[name]
    want = np.einsum("ij,jk->ik", A, B)
    np.testing.assert_array_equal(call(), want)
    before = plan_count()
    for _ in range(30):
        np.testing.assert_array_equal(call(), want)
    assert plan_count() == before + 1
    assert new_plans(call) == [0]


def test_options_that_equal_but_differ():
    three = A, B, B.T
    for optimize, error in ((0, TypeError), (1, TypeError), (2.5, TypeError)):
        assert einsum("ij,jk,kl->il", *three, optimize=bool(optimize)).shape == (2, 3)
        with pytest.raises(error):
            einsum("ij,jk,kl->il", *three, optimize=optimize)


def test_a_view_that_differs_in_its_unit_of_time():
    for unit in ("s", "ns", "s"):
        times = np.arange(6).astype(f"M8[{unit}]").reshape(2, 3)
        assert einsum("ij->ji", times).dtype == times.dtype
    records = [np.zeros((2, 3), dt) for dt in ("i4,i4", "f4,f4", "V8")]
    for x in (*records, *records):
        assert einsum("ij->ji", x).dtype == x.dtype


def test_a_label_is_not_its_equal():
    np.testing.assert_array_equal(einsum(A, [1, 0]), A.T)
    for wrong in (True, np.True_, 1.0, np.float64(1)):
        with pytest.raises(TypeError):
            einsum(A, [wrong, 0])
    calls = [lambda one=one: einsum(A, [one, 0]) for one in (1, np.int8(1), np.uint64(1))]
    assert new_plans(*calls) == [0, 0, 0]
    assert new_plans(lambda: einsum(A, (1, 0)), lambda: einsum(A, range(1, -1, -1))) == [0, 0]
    assert new_plans(lambda: einsum(A, ["1", "0"])) == [1]


def test_out_of_another_kind_has_a_plan_of_its_own():
    def into(out):
        return lambda: einsum("ij,jk->ik", A, B, out=out)

    readonly = np.zeros((2, 4))
    readonly.flags.writeable = False
    assert new_plans(into(np.empty((2, 4))), into(np.empty((2, 4), order="F"))) == [1, 1]
    for _ in range(2):
        with pytest.raises(EinsumError, match="read-only"):
            einsum("ij,jk->ik", A, B, out=readonly)


def test_errors_leave_nothing_behind():
    for bad in ("ij,kj->ik", "ij,jk->il", "ij,jk,", "ij"):
        for _ in range(2):
            with pytest.raises(EinsumError):
                einsum(bad, A, B)
    assert plan_count() == 0


def test_a_change_of_the_settings_forgets_all_plans():
    einsum("ij,jk->ik", A, B)
    with config(memory_limit=10**6):
        assert plan_count() == 0
        einsum("ij,jk->ik", A, B)
        assert plan_count() == 1
    assert plan_count() == 0
    einsum("ij,jk->ik", A, B)
    config()  # changes nothing
    assert plan_count() == 1


def test_every_number_of_threads_has_its_plans():
    calls = [
        lambda: einsum("ij,jk->ik", A, B),
        lambda: einsum("ij,jk->ik", A, B, order="C"),
    ]
    threads = config().num_threads
    assert new_plans(*calls) == [1, 1]
    with config(num_threads=threads + 1):
        assert new_plans(*calls, *calls) == [1, 1, 0, 0]
        with config(jit="never"):
            assert plan_count() == 0
            assert new_plans(*calls) == [1, 1]
        assert plan_count() == 0
        assert new_plans(*calls) == [1, 1]
        with config(num_threads=threads):
            assert new_plans(*calls, *calls) == [1, 1, 0, 0]
    assert new_plans(*calls) == [0, 0]


def test_numbers_of_threads_without_number():
    for threads in [*range(1, 100)] * 2:
        with config(num_threads=threads):
            np.testing.assert_array_equal(einsum("ij,jk->ik", A, B), A @ B)
        assert plan_count() < 20


def test_the_memory_limit_reaches_the_next_plan():
    layouts = tuple(Layout(x.shape, x.strides, x.dtype) for x in [np.ones((20, 20))] * 3)
    with config(memory_limit=5):
        options = normalised_options(optimize="optimal")
        assert options.memory_limit == 5
        assert len(plan_for("ij,jk,kl->il", layouts, None, options).steps) == 1
    options = normalised_options(optimize="optimal")
    assert len(plan_for("ij,jk,kl->il", layouts, None, options).steps) == 2


def test_eviction_keeps_the_recently_used_half():
    kept = np.ones(1)
    for n in range(1, MOST_PLANS + 500):
        einsum("i->", np.broadcast_to(kept, n))
        einsum("i->", kept)
        assert plan_count() <= MOST_PLANS
    assert plan_count() >= MOST_PLANS // 2
    assert new_plans(lambda: einsum("i->", kept)) == [0]
    recent = np.broadcast_to(kept, MOST_PLANS + 499)
    assert new_plans(lambda: einsum("i->", recent)) == [0]


def test_many_equations_and_option_sets():
    for k in range(5000):
        label = chr(0x4E00 + k)
        assert einsum(f"{label},->{label}", np.ones(1), 1.0, optimize=("greedy", k)).shape == (1,)
    assert plan_count() <= MOST_PLANS


def test_long_keys():
    count = 300  # more words than fit on the stack
    operands = [np.ones((1, 1, 2))] * count
    equation = ",".join(["abc"] * count) + "->c"
    call = lambda: einsum(equation, *operands)  # noqa: E731
    assert new_plans(call, call) == [1, 0]
    np.testing.assert_array_equal(call(), [1, 1])


def test_calls_that_are_made_once_get_no_plan():
    einsum("ij,jk->ik", A, B, optimize=True)  # planning is loaded
    many = [np.random.default_rng(n).random((n, n)) for n in range(30, 50)]
    before = plan_count()
    for x in many:
        check_close(einsum("ij,jk->ik", x, x), x @ x)
        check_close(einsum("ij,kj->ik", x, x[::-1], out=np.empty_like(x)), x @ x[::-1].T)
    assert plan_count() == before
    x = many[0]
    for _ in range(20):
        check_close(einsum("ij,jk->ik", x, x), x @ x)
    assert plan_count() == before + 1
    overlapping = x.copy()
    check_close(einsum("ij,jk->ki", overlapping, x, out=overlapping), (x @ x).T)


def check_close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-13)


LAYOUTS = [np.moveaxis(np.random.default_rng(2).random((3, 1, 4, 2)), 0, k) for k in range(4)]


@pytest.mark.parametrize(
    "equation", ["abcd,abcd->dbca", "abcd,abcd->ca", "abcd,abcd->", "abcd->db"]
)
def test_small_calls_are_what_the_plan_says(equation):
    """Calls that are planned in C come to the results and layouts of the planner."""
    for x in LAYOUTS:
        for y in (x, x[::-1], x[:, ::-1], x[:1], x.copy("F")):
            arrays = (x, y)[: 1 + equation.count(",")]
            layouts = tuple(Layout(z.shape, z.strides, z.dtype) for z in arrays)
            plan = plan_for(equation, layouts, None, normalised_options())
            got = einsum(equation, *arrays)
            np.testing.assert_array_equal(got, CPU.executable(plan)(*arrays))
            assert np.ndim(got) == 0 or got.strides == plan.result.strides


# Nothing leaks

SQUARE = np.ones((3, 3))
CALLS = {
    "array": (("ij,jk->ik", A, B), {}),
    "scalar": (("ij,ij->", A, A), {}),
    "view": (("ij->ji", A), {}),
    "0-d view": (("", np.ones(())), {}),
    "out": (("ij,jk->ik", A, B), {"out": np.empty((2, 4))}),
    "overlapping out": (("ij,jk->ik", SQUARE, SQUARE), {"out": SQUARE}),
    "convert": (("ij,jk->ik", A.astype("i4"), B), {}),
    "path": (("ij,jk,lk->il", A, B, B), {"optimize": [(0, 1), (0, 1)]}),
    "empty": (("ij->i", A[:, :0]), {}),
    "object": (("ij,kj->ik", A.astype(object), A), {}),
    "lists": (("ij->i", [[1, 2], [3, 4]]), {}),
    "sublists": ((A, [0, 1], B, [1, 2], [0, 2]), {}),
    "keywords": (("ij,jk->ik", A, B), {"order": "F", "dtype": "f8", "optimize": False}),
    "many operands": ((",".join("i" * 14) + "->", *[A[0]] * 14), {}),
    "matmul": (("ij,jk->ik", *[np.ones((40, 40))] * 2), {}),
}


def counts():
    return [
        sys.getrefcount(x) for x in (A, B, A.dtype, np.dtype("i4"), None, "ij,jk->ik", np.float64)
    ]


@pytest.mark.parametrize("name", CALLS)
def test_no_reference_leaks(name):
    arguments, keywords = CALLS[name]
    for _ in range(30):  # by then the call has its plan
        einsum(*arguments, **keywords)
    gc.collect()
    before = counts()
    for _ in range(10_000):
        einsum(*arguments, **keywords)
    after = counts()
    assert max(abs(x - y) for x, y in zip(before, after, strict=True)) < 50


@pytest.mark.parametrize("name", CALLS)
def test_no_memory_leaks(name):
    """A thread that is told to be ready to compile may import modules meanwhile, but only once."""
    arguments, keywords = CALLS[name]
    growth = []
    tracemalloc.start()
    try:
        for _ in range(3):
            for _ in range(20):
                einsum(*arguments, **keywords)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(1000):
                einsum(*arguments, **keywords)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            growth.append(after - before)
    finally:
        tracemalloc.stop()
    assert min(growth) < 4000


def test_errors_leak_nothing():
    def fail():
        for args in (("ij,kk", A, A), ("ij,jk", A, A), ("i", A), ("ij->ij", "text")):
            with pytest.raises(EinsumError):
                einsum(*args)

    fail()
    before = counts()
    for _ in range(500):
        fail()
    assert max(abs(x - y) for x, y in zip(before, counts(), strict=True)) < 50


def test_plans_keep_no_operand_alive():
    x = np.ones((7, 7))
    references = sys.getrefcount(x)
    einsum("ij,jk,kl->il", x, x, x)
    assert sys.getrefcount(x) == references
    view = einsum("ij->ji", x)
    assert sys.getrefcount(x) == references + 1
    del view
    assert sys.getrefcount(x) == references


def test_dtypes_that_look_alike_have_plans_of_their_own():
    """Structures, strings and dtypes with metadata share a number and a size."""
    as_float, as_int = np.array([(1.5,), (2.5,)], "f8,"), np.array([(1,), (2,)], "i8,")
    for array, want in ((as_float, 4.0), (as_int, 3.0), (as_float, 4.0)):
        assert einsum("i->", array, dtype=float, casting="unsafe") == want
    marked = np.ones((2, 2), np.dtype("f8", metadata={"marked": True}))
    einsum("ij,jk->ik", marked, marked)
    assert einsum("ij,jk->ik", np.ones((2, 2)), np.ones((2, 2))).dtype.metadata is None


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1), (2, 3)])
def test_views_keep_the_strides_of_axes_of_size_1(shape):
    x = np.arange(12.0).reshape(3, 4)[: shape[0], : shape[1]]
    assert einsum("ij->ji", x).strides == np.einsum("ij->ji", x).strides
    assert einsum("ij->ji", x, order="C").strides == x.T.strides


def test_a_path_that_contains_itself_is_refused():
    path = []
    path.append(path)
    with pytest.raises(TypeError, match="no deeper"):
        einsum("i,i,i->", *[np.ones(2)] * 3, optimize=path)


# Calls before planning is loaded


UNPLANNED = """
    import fastein
    equation, shapes = {case!r}
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, shape) * 1.0 for shape in shapes]
    want = np.einsum(equation, *arrays)
    assert (einsum(equation, *arrays) == want).all()
    assert not {{"fastein.planner", "opt_einsum", "fastein.cpu.schedule"}} & set(sys.modules)
    turns = 0
    while "fastein.planner" not in sys.modules:
        assert (einsum(equation, *arrays) == want).all()
        turns += 1
        assert turns < 100_000
    assert (einsum(equation, *arrays) == want).all()
"""


@pytest.mark.parametrize(
    "case",
    [
        ("ij,jk->ik", [(60, 70), (70, 80)]),
        ("ijk,jm,km->im", [(12, 11, 10), (11, 9), (10, 9)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 16, 8), (2, 3, 16, 8)]),
    ],
)
def test_early_calls_do_without_plans_until_these_are_earned(case):
    in_a_process(UNPLANNED.format(case=case))


def test_subclasses_of_str_are_their_characters():
    class Shown(str):
        __slots__ = ()

        def __str__(self):
            return "shown"

    a, b = np.ones((2, 3)), np.ones((3, 4))
    for subscripts in (Shown("ij,jk->ik"), np.str_("ij,jk->ik")):
        assert np.array_equal(einsum(subscripts, a, b), a @ b)
        assert str(explain(subscripts, a, b)).startswith("einsum('ij,jk->ik')")


def test_positions_that_are_equal_to_others_are_not_these():
    a, b = np.ones((2, 3)), np.ones((3, 4))
    for bad in ([(0.0, 1.0)], ((0.0, 1.0),)):
        with pytest.raises(EinsumError):
            einsum("ij,jk", a, b, optimize=bad)
        assert np.array_equal(einsum("ij,jk", a, b, optimize=[(0, 1)]), a @ b)
        assert np.array_equal(einsum("ij,jk", a, b, optimize=((0, 1),)), a @ b)


def test_strict_forbids_broadcasting_to_out():
    assert (einsum("i->i", np.ones(1), out=np.zeros(3)) == 1).all()
    with pytest.raises(EinsumError, match="size 1, but size 3 in out"):
        einsum("i->i", np.ones(1), out=np.zeros(3), strict=True)
    assert (einsum("...->...", np.ones(1), out=np.zeros(3), strict=True) == 1).all()


def test_a_ragged_operand_is_told_as_such():
    with pytest.raises(ValueError, match="inhomogeneous"):
        einsum("ij", [[1], [2, 3]])


def test_sizes_beyond_memory_are_errors_of_explain():
    for shape in ((2**63,), (2**70, 0), (2**40, 2**40)):
        with pytest.raises(EinsumError, match="too big"):
            explain("ij"[: len(shape)], shape)


def test_operands_with_a_library_of_their_own_answer_for_paths():
    class Foreign:
        def __array_function__(self, function, types, arguments, keywords):
            return function.__name__

    assert einsum_path("i,i", Foreign(), Foreign()) == "einsum_path"
