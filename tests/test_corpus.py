"""Every equation of the corpus and every worked example, in every mode, layout and element type."""

import numpy as np
import pytest

import fastein
from fastein.testing import examples
from fastein.testing.call import Call
from fastein.testing.compare import compare
from fastein.testing.corpus import CORPUS, LAYOUTS, find, operands, reference

JIT_MODES = ("never", "tiered", "always")
DTYPES = (
    "float32",
    "float64",
    "complex64",
    "complex128",
    "int8",
    "int32",
    "uint16",
    "bool",
    "float16",
)


@pytest.fixture(params=JIT_MODES)
def jit(request):
    with fastein.config(jit=request.param):
        yield request.param


def as_call(case, arrays):
    spelling = None if case.reference == "summed ellipsis" else case.numpy_equation or None
    return Call(case.equation, tuple(arrays), buffers=tuple(arrays), numpy_subscripts=spelling)


def numpy_einsum(equation, *arrays):
    """Answer equations whose only label beyond letters is a digit."""
    digits = sorted(set(equation) & set("0123456789"))
    for digit, letter in zip(digits, "xyz", strict=False):
        equation = equation.replace(digit, letter)
    return np.einsum(equation, *arrays)


@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_every_equation(case, jit):
    assert compare(as_call(case, operands(case))) is None


@pytest.mark.parametrize("layout", LAYOUTS[1:])
@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_every_layout(case, layout):
    assert compare(as_call(case, operands(case, layout=layout))) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(dtype):
    faults = [
        (str(case), fault)
        for case in CORPUS
        if (fault := compare(as_call(case, operands(case, seed=1, dtype=dtype))))
    ]
    assert faults == []


@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_optimize_never_changes_meaning(case):
    arrays = operands(case, seed=2)
    for optimize in (False, True, "greedy", "optimal", "auto"):
        call = Call(
            case.equation,
            tuple(arrays),
            {"optimize": optimize},
            tuple(arrays),
            numpy_subscripts=as_call(case, arrays).numpy_subscripts,
        )
        assert compare(call) is None, optimize


# A lone operand in a list is a nested list to NumPy, so it stays one.
SEVERAL = [case for case in CORPUS if len(case.shapes) > 1 and case.reference != "error"]


@pytest.mark.parametrize("case", SEVERAL, ids=str)
def test_torch_list_form(case):
    # of whole numbers: calls may be computed in different orders until their equation is planned
    arrays = [np.rint(array).astype(array.dtype) for array in operands(case, seed=3)]
    np.testing.assert_array_equal(
        fastein.einsum(case.equation, arrays), fastein.einsum(case.equation, *arrays)
    )


def test_batch_axes_that_do_not_broadcast_are_named():
    case = next(case for case in CORPUS if case.reference == "error")
    with pytest.raises(fastein.EinsumError) as raised:
        fastein.einsum(case.equation, *operands(case))
    message = str(raised.value)
    assert case.equation in message
    assert "3" in message
    assert "4" in message


def test_digit_label():
    case = find("BSD,3KDH->3BSKH")
    arrays = operands(case, dtype="float64")
    answer = fastein.einsum(case.equation, *arrays)
    assert answer.shape == (3, 2, 8, 1, 16)
    np.testing.assert_allclose(answer, reference(case, arrays), rtol=1e-13, atol=1e-13)


def test_summed_batch():
    case = find("...ik,...kj->ji")
    a, b = operands(case)
    np.testing.assert_allclose(
        fastein.einsum(case.equation, a, b), (a @ b).sum(axis=0).T, rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("example", examples.EXAMPLES, ids=str)
def test_worked_example(example, jit):
    arrays = examples.inputs(example)
    got = example.run(fastein.einsum, *arrays)
    want = example.run(numpy_einsum, *[a.astype("float64") for a in arrays])
    tolerance = 1e-12 if example.dtype == "float64" else 2e-5
    pairs = zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]
    for answer, expected in pairs:
        assert answer.dtype == example.dtype
        np.testing.assert_allclose(answer, expected, rtol=tolerance, atol=tolerance)


def test_attention_is_what_matmul_says():
    q, k, v = examples.inputs(examples.EXAMPLES[0])
    logits = q @ k.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5)
    np.testing.assert_allclose(
        examples.attention(fastein.einsum, q, k, v),
        examples.softmax(logits) @ v,
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("wrt", [0, 1, 2])
def test_gradient_is_that_of_finite_differences(wrt):
    example = next(e for e in examples.EXAMPLES if e.run is examples.transition_gradient)
    *arrays, weights = examples.inputs(example)
    gradient = examples.transition_gradient(fastein.einsum, *arrays, weights)[wrt]

    def loss(changed):
        inputs = [*arrays[:wrt], changed, *arrays[wrt + 1 :]]
        return np.sum(weights * examples.transition(fastein.einsum, *inputs))

    step = 1e-6
    for at in np.ndindex(gradient.shape):
        up, down = arrays[wrt].copy(), arrays[wrt].copy()
        up[at] += step
        down[at] -= step
        slope = (loss(up) - loss(down)) / (2 * step)
        assert gradient[at] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_operands_are_the_same_for_the_same_seed():
    for case in CORPUS:
        pairs = zip(operands(case, seed=5), operands(case, seed=5), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_shapes(layout):
    for case in CORPUS:
        shapes = tuple(a.shape for a in operands(case, layout=layout))
        assert shapes == (case.small or case.shapes)
