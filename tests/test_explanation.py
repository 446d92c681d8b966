"""What `explain` and `einsum_path` say."""

import numpy as np
import opt_einsum
import pytest

from fastein import EinsumError, config, einsum, einsum_path, explain

A = np.ones((2, 3))
TABLE = {
    # name: arguments, keywords, what the text must say (in this order)
    "view": (("ij->ji", (2, 3)), {}, ["(j=3, i=2)", "strides (8, 24)", "view", "no memory"]),
    "nest": (("ij,jk->ik", (2, 3), (3, 4)), {}, ["step 0: ij,jk->ik", "48 flops", "nest: map"]),
    "dot": (("i,i->", (9,), (9,)), {}, ["(i=9)", "result", "()", "18 flops", "nest: dot"]),
    "scalars": ((",->", (), ()), {}, ["nest: scalar"]),
    "matmul": (
        ("bij,bjk->bik", (3, 90, 80), (3, 80, 70)),
        {},
        ["3,024,000 flops", "contraction: float64 tiles of "],
    ),
    "contraction": (
        ("bfae,cedf->dcba", (40, 44, 44, 44), (36, 44, 36, 44)),
        {"dtype": "f4"},
        [
            "8,831,877,120 flops, 32.8 MB",
            "contraction: float32 tiles of ",
            "rows from operand 1 packed by transposition",
            "columns from operand 0 packed by transposition",
            " steps of the sum; ",
        ],
    ),
    "one matrix a thread": (
        ("bij,bjk->bik", (9999, 30, 20), (9999, 20, 40)),
        {},
        ["rows from operand 1", "columns from operand 0", "one matrix a thread"],
    ),
    "streaming": (
        ("ij,jk->ik", (4000, 200), (200, 4096)),
        {},
        ["rows from operand 1 packed in runs", " shared, streaming stores"],
    ),
    "path": (
        ("ij,jk,kl->il", (20, 30), (30, 40), (40, 5)),
        {},
        ["step 0: jk,kl->jl", "step 1: ij,jl->il", "scratch: 1,216 bytes"],
    ),
    "no path": (
        ("ij,jk,kl->il", (20, 30), (30, 40), (40, 5)),
        {"optimize": False},
        ["step 0: ij,jk,kl->il", "360,000 flops"],
    ),
    "presummed": (("ij,ik->i", (50, 20), (50, 30)), {}, ["ij->i", "ik->i", "i,i->i"]),
    "empty sum": (("ij->j", (0, 3)), {}, ["clear", "the empty sum is 0"]),
    "dtype": (("ij->j", (2, 3)), {"dtype": "f4"}, ["(i=2, j=3)   float32", "(j=3)        float32"]),
    "convert": (
        ("ij,jk", A.astype(">f8"), np.ones((3, 4), "i4")),
        {},
        [">f8", "int32", "convert operand 0", "to float64, aligned"],
    ),
    "half": (
        ("ij,jk,kl->il", *[np.ones((20, 20), "e")] * 3),
        {},
        ["float16", "convert operand 2", "to float32", "convert intermediate", "to float16"],
    ),
    "object": (("ij,jk", A.astype(object), A.T), {}, ["object", "through numpy.einsum"]),
    "layout": (("ij->i", A[:, ::-1]), {}, ["float64, strides (24, -8)"]),
    "unaligned": (("i->", np.zeros(17, "u1")[1:].view("f8")), {}, [", unaligned", "convert"]),
    "ellipsis": (("...i,i", (4, 5, 3), (3,)), {}, ["result", "=4", "=5", "120 flops"]),
    "bytes": ((b"ij->i", (2, 3)), {}, ["einsum('ij->i')"]),
    "source": (
        ("ij,jk->ik", (2, 3), (3, 4)),
        {"source": True},
        ["generated loop nest", "# out[i, k] = sum over j of a[i, j] * b[j, k]", "def nest(data"],
    ),
    "source of a contraction": (
        ("bfae,cedf->dcba", (40, 44, 44, 44), (36, 44, 36, 44)),
        {"dtype": "f4", "source": True},
        [
            "step 0, blocks:\n\nfor ",
            "    for steps in blocks(1936, 330):\n        pack(",
            "            tiles(rows, columns, steps)\n",
            "step 0, packing a block of rows or of columns:\n\n# pack transposed: raw4, ",
            "step 0, tiles of a block of rows and one of columns:\n\n# out[i, j] = sum over k of ",
            "def tiles(data",
        ],
    ),
    "source of stacks": (
        ("bij,bkj->bik", (99, 90, 80), (99, 90, 80)),
        {"source": True},
        ["for matrix in range(99):", "    for ", "# pack ", "def tiles(data"],
    ),
    "source of interleaved results": (
        ("bqhd,bkhd->bhqk", (2, 64, 8, 64), (2, 64, 8, 64)),
        {"source": True},
        [
            "for matrix in range(2):\n    for lanes in blocks(8, 8):\n        for columns in ",
            "                    for steps in blocks(64, 64):\n                        pack(rows, ",
            "                interleave(rows, columns, lanes)\n\n",
        ],
    ),
    "no source": (("i->", np.ones(3, "G")), {"source": True}, ["none: no generated kernels"]),
    "NumPy scalars in a shape": (("i->", (np.int64(3),)), {}, ["(i=3)"]),
    "a number": (("i,->i", (3,), 2.0), {}, ["operand 1   ()", "float64"]),
}


@pytest.mark.parametrize("name", TABLE)
def test_explanations(name):
    arguments, keywords, says = TABLE[name]
    with config(jit="tiered"):
        text = explain(*arguments, **keywords)
    at = 0
    for words in says:
        assert words in text[at:], text
        at = text.index(words, at)
    assert not text.endswith("\n")
    assert all(line == line.rstrip() for line in text.split("\n"))


def test_an_explanation_shows_itself():
    text = explain("ij->i", (2, 3))
    assert isinstance(text, str)
    assert repr(text) == str(text)
    assert text.startswith("einsum('ij->i')\n")


def test_user_text_is_quoted():
    label = "\u202e"  # turns the text around on a terminal
    assert label not in explain(f"{label}->", (3,)).split("\n")[0]


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        (("ij,jk", (2, 3), (4, 5)), {}, EinsumError),
        (("ij", (2, -3)), {}, EinsumError),
        (("ij", (2, 3, 4)), {}, EinsumError),
        (("ij,jk", (2, 3)), {}, EinsumError),
        (("ij",), {}, EinsumError),
        (("ij->k", (2, 3)), {}, EinsumError),
        (("ij,jk,kl", (9, 9), (9, 9), (9, 9)), {"optimize": "best"}, EinsumError),
        (([0, 1], (2, 3)), {}, TypeError),
        (("i->", np.ones(3, "M8[s]")), {}, TypeError),
    ],
)
def test_what_cannot_be_explained(arguments, keywords, error):
    with pytest.raises(error):
        explain(*arguments, **keywords)


# einsum_path

CHAIN = [np.ones(shape) for shape in ((20, 30), (30, 40), (40, 5), (5, 6))]


def test_a_path_report():
    path, text = einsum_path("ij,jk,kl->il", *CHAIN[:3])
    assert path == ["einsum_path", (1, 2), (0, 1)]
    for words in (
        "Complete contraction:  ij,jk,kl->il",
        "Naive scaling:  4",
        "Optimized scaling:  3",
        "Naive FLOP count:  3.600e+05",
        "Optimized FLOP count:  1.800e+04",
        "Theoretical speedup:  20",
        "Largest intermediate:  1.500e+02 elements",
        "jk,kl->jl                    ij,jl->il",
    ):
        assert words in text


@pytest.mark.parametrize("optimize", ["greedy", "optimal", "auto", "dp", True, False])
def test_a_path_contracts(optimize):
    path, text = einsum_path("ij,jk,kl,lm->im", *CHAIN, optimize=optimize)
    assert path[0] == "einsum_path"
    assert len(text.split("\n")) == 10 + len(path) - 1
    want = np.linalg.multi_dot(CHAIN)
    np.testing.assert_allclose(einsum("ij,jk,kl,lm->im", *CHAIN, optimize=path), want)
    np.testing.assert_allclose(np.einsum("ij,jk,kl,lm->im", *CHAIN, optimize=path), want)


def test_a_given_path_comes_back():
    given = ["einsum_path", (0, 1), (0, 1)]
    assert einsum_path("ij,jk,kl->il", *CHAIN[:3], optimize=given)[0] == given
    assert einsum_path("ij,jk,kl->il", *CHAIN[:3], optimize=given[1:])[0] == given


@pytest.mark.parametrize("equation", ["i->", "ij,jk", ",->", "ii->i", "...i,i"])
def test_one_step_has_a_report_too(equation):
    operands = [
        np.ones((3,) * len(t.replace("...", ""))) for t in equation.split("->")[0].split(",")
    ]
    path, text = einsum_path(equation, *operands)
    assert path == ["einsum_path", tuple(range(len(operands)))]
    assert "speedup:  1\n" in text


def test_sublists_and_long_names():
    x = np.ones((2, 3))
    path, text = einsum_path(x, ["row", "col"], x.T, ["col", "k"], ["row", "k"])
    assert path == ["einsum_path", (0, 1)]
    assert "row col,col k->row k" in text
    assert einsum_path(x, [0, 1], x.T, [1, 2])[0] == path


def test_the_list_of_operands():
    a, b = np.ones((2, 3)), np.ones((3, 4))
    listed = explain("ij,jk->ik", [a, b])
    assert listed == explain("ij,jk->ik", a, b)
    assert listed == explain("ij,jk->ik", [(2, 3), (3, 4)])
    assert einsum_path("ij,jk->ik", [a, b]) == einsum_path("ij,jk->ik", a, b)
    assert explain("ij->", [[1, 2], [3, 4]]) == explain("ij->", np.ones((2, 2), int))
    with pytest.raises(EinsumError, match="label 'j'"):
        explain("ij,jk->ik", [a, a])
    with pytest.raises(ValueError, match="inhomogeneous"):
        einsum_path("ij->", [[1, 2], [3]])


def test_only_shapes_matter():
    far = np.broadcast_to(np.float64(0), (10**6, 10**6))
    _, text = einsum_path("ij,jk,kl->il", far, far, far)
    assert "Naive FLOP count:  3.000e+24" in text
    assert einsum_path("ij,j", [[1, 2]], [3, 4])[0] == ["einsum_path", (0, 1)]


def test_an_optimizer_of_opt_einsum():
    optimizer = opt_einsum.DynamicProgramming(minimize="size")
    assert len(einsum_path("ij,jk,kl,lm->im", *CHAIN, optimize=optimizer)[0]) == 4


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), EinsumError),
        (("ij",), EinsumError),
        (("ij,jk", A, A), EinsumError),
        (("ij", A, A), EinsumError),
        ((A,), (EinsumError, TypeError)),
        ((A, [True, 0]), TypeError),
    ],
)
def test_what_has_no_path(arguments, error):
    with pytest.raises(error):
        einsum_path(*arguments)
