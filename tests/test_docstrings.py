"""The examples of every public name run, also those of Cython functions (pytest sees none)."""

import doctest

import pytest

import fastein
import fastein_cuda

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PUBLIC = [
    (module, name)
    for module in (fastein, fastein_cuda)
    for name in module.__all__
    if not name.startswith("_")
]


@pytest.mark.parametrize(
    ("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value)
)
def test_examples_run(module, name):
    text = getattr(module, name).__doc__
    assert text, "no docstring"
    parsed = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(parsed).failed == 0
