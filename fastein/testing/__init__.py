"""Equations, worked examples and a differential fuzzer, for everybody's tests.

``fastein.testing.corpus`` is the one list of equations behind the tests, the benchmarks and the
documentation; ``fastein.testing.examples`` holds whole computations built of them;
``fastein.testing.fuzz`` compares `fastein.einsum` with `numpy.einsum` on random calls.
Nothing here needs pytest.
"""
