"""``import fastein`` loads what a first call needs, and nothing else."""

import json
import subprocess
import sys

import pytest

OPTIONAL = (
    "numba",
    "llvmlite",
    "opt_einsum",
    "matplotlib",
    "dask",
    "torch",
    "jax",
    "cotengra",
    "pytest",
)

PROBE = """
import json, sys
import numpy
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def new_modules(statement):
    """Names of the modules that a statement loads in a process that has NumPy."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(result.stdout.splitlines()[-1])


def loaded(modules):
    return {name.split(".")[0] for name in modules} & set(OPTIONAL)


def test_import_loads_no_optional_package():
    assert loaded(new_modules("import fastein")) == set()


def test_import_loads_few_modules():
    modules = new_modules("import fastein")
    own = [name for name in modules if name.split(".")[0] == "fastein"]
    assert "fastein" in own
    assert len(own) <= 20, own
    # Cython registers a module or two of its own; the rest would be the standard library's.
    assert len(modules) - len(own) <= 12, sorted(set(modules) - set(own))


@pytest.mark.parametrize(
    "name", ["dataclasses", "inspect", "asyncio", "multiprocessing", "hashlib"]
)
def test_import_loads_no_slow_part_of_the_standard_library(name):
    assert name not in new_modules("import fastein")


@pytest.mark.parametrize(
    "call",
    [
        "fastein.einsum('ij,jk->ik', numpy.ones((2, 2)), numpy.ones((2, 2)))",
        "fastein.einsum('ii->i', numpy.ones((3, 3)))",
        "fastein.einsum('i->', numpy.ones(3))",
        "fastein.einsum('bik,bkj->bij', numpy.ones((2, 3, 4), 'f4'), numpy.ones((2, 4, 5), 'f4'))",
    ],
)
def test_a_first_small_call_loads_no_compiler(call):
    assert not loaded(new_modules(f"import fastein; {call}")) & {"numba", "llvmlite"}


def test_everything_public_is_there():
    names = (
        "einsum einsum_path explain config set_num_threads get_num_threads EinsumError __version__"
    )
    assert new_modules(f"import fastein; [getattr(fastein, n) for n in {names.split()!r}]")
