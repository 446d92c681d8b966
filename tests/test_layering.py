"""A module imports only from its own layer or a lower one: the call flows one way."""

import ast
import re
from pathlib import Path

import pytest

import fastein

PACKAGE = Path(fastein.__file__).parent
CUDA = PACKAGE.parent / "fastein_cuda"

# The first entry that a module's name starts with decides.
LAYERS = {
    "errors": 0,
    "record": 0,
    "forks": 0,
    "config": 0,
    "diagnose": 0,
    "misfits": 0,
    "_parser": 1,
    "equation": 1,
    "path": 1,
    "_nest": 2,
    "nest": 2,
    "plan": 2,
    "arena": 2,
    "result": 2,
    "planner": 2,
    "target": 2,
    "store": 2,
    "kernel_files": 2,
    "cpu": 3,
    "_overlap": 4,
    "_dispatch": 4,
    "_operands": 4,
    "_plan_cache": 4,
    "explanation": 4,
    "api": 5,
    "": 5,
    "testing": 6,
    "demo": 6,
    "interop": 6,
    "__main__": 6,
    "threadpools": 5,
}

# Imports inside a function that reach upwards, each with its reason.
ALLOWED = {}

CIMPORT = re.compile(
    r"^\s*from\s+(\.*[\w.]*)\s+c?import\s+(.+)$|^\s*c?import\s+([\w.]+)", re.MULTILINE
)
HEAVY = {"numba", "llvmlite", "opt_einsum", "matplotlib", "dask", "torch", "jax", "pytest"}


def modules():
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def layer(module):
    """Look a layer up; a module that has none is above all others."""
    return LAYERS.get(module.split(".")[0], 99)


def absolute(module, path, level, target):
    """Turn an import relative to a module into a name below fastein; None if it is elsewhere."""
    if level == 0:
        return target.removeprefix("fastein").lstrip(".") if is_ours(target) else None
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    base = package[: len(package) - level + 1]
    return ".".join([part for part in [*base, target] if part])


def is_ours(target):
    return target == "fastein" or target.startswith("fastein.")


def executed(tree):
    """Walk all code but that for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from executed(node)


def imports_of_python(module, path):
    for node in executed(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield absolute(module, path, 0, alias.name)
        elif isinstance(node, ast.ImportFrom):
            found = absolute(module, path, node.level, node.module or "")
            yield from named_modules(found, [alias.name for alias in node.names])


def imports_of_cython(module, path):
    text = re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)
    for source, names, plain in CIMPORT.findall(text):
        if plain:
            yield absolute(module, path, 0, plain)
            continue
        level = len(source) - len(source.lstrip("."))
        found = absolute(module, path, level, source.lstrip("."))
        yield from named_modules(found, re.findall(r"\w+", names))


def named_modules(package, names):
    """Tell ``from . import module`` from ``from .module import name``."""
    if package is None:
        return
    for name in names:
        inner = f"{package}.{name}".lstrip(".")
        yield inner if inner.split(".")[0] in LAYERS and not package else package


def imports(module, path):
    find = imports_of_python if path.suffix == ".py" else imports_of_cython
    return sorted({found for found in find(module, path) if found is not None})


MODULES = list(modules())


def test_every_module_has_a_layer():
    assert [module for module, _ in MODULES if layer(module) == 99] == []


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[str(p.name) for _, p in MODULES])
def test_imports_only_from_its_own_layer_or_lower(module, path):
    upwards = [
        target
        for target in imports(module, path)
        if layer(target) > layer(module) and (module, target) not in ALLOWED
    ]
    assert upwards == [], f"fastein.{module} (layer {layer(module)}) imports from above"


def test_the_check_sees_imports():
    found = {target for module, path in MODULES for target in imports(module, path)}
    assert {"errors", "equation", "_parser"} <= {name.split(".")[0] for name in found}


def test_every_exception_is_needed():
    found = {(module, target) for module, path in MODULES for target in imports(module, path)}
    assert set(ALLOWED) <= found


@pytest.mark.parametrize(
    ("module", "path"),
    [pair for pair in MODULES if pair[1].suffix == ".py"],
    ids=[str(path.name) for _, path in MODULES if path.suffix == ".py"],
)
def test_optional_packages_are_imported_where_they_are_used(module, path):
    """At the top of a module they would be paid for by every user."""
    tops = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    roots = set()
    for node in tops:
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif node.level == 0:
            roots.add((node.module or "").split(".")[0])
    allowed = HEAVY if module in LAZY else set()
    assert roots & HEAVY <= allowed


# Modules that nothing imports before a kernel is compiled.
LAZY = {
    "cpu.compiler",
    "cpu.frontend",
    "cpu.passes",
    "cpu.halves",
    "cpu.lanes",
    "cpu.moves",
    "cpu.permutation_moves",
    "cpu.primitives",
    "cpu.tile_intrinsics",
    "cpu.tile_lines",
    "cpu.tile_scatter",
    "cpu.word_moves",
    "cpu.vector_primitives",
    "cpu.vectors",
}


def test_targets_know_nothing_of_each_other():
    for module, path in MODULES:
        if module.startswith("cpu"):
            assert "fastein_cuda" not in path.read_text()
    for path in CUDA.glob("*.py"):
        assert "fastein.cpu" not in path.read_text()


# From the bottom up: a module imports only from those before it, but where it says so inside a
# function.
CUDA_ORDER = [
    "elements",
    "tile",
    "machine",
    "loops",
    "forms",
    "unrolled",
    "naming",
    "nest_source",
    "transposition_source",
    "contraction_source",
    "tiny_source",
    "codegen",
    "contraction",
    "tiny",
    "schedule",
    "device",
    "devices",
    "dlpack",
    "device_array",
    "conversions",
    "values",
    "primitives",
    "emitter",
    "tile_primitives",
    "tiny_primitives",
    "primitives_sim",
    "lanes_sim",
    "tile_primitives_sim",
    "tiny_primitives_sim",
    "compiler",
    "launch",
    "target",
    "driver",
    "simulator",
    "kinds",
    "arrays",
    "dispatch",
    "explained",
    "__init__",
    "__main__",
    "suites",
    "rivals",
    "measurement",
    "benchmark_report",
    "benchmark_worker",
    "benchmark",
]


def test_the_gpu_target_flows_one_way():
    found = {path.stem: path for path in CUDA.glob("*.py")}
    assert set(found) == set(CUDA_ORDER)
    for place, name in enumerate(CUDA_ORDER):
        for node in ast.parse(found[name].read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                targets = [node.module] if node.module else [x.name for x in node.names]
                assert set(targets) <= set(CUDA_ORDER[:place]), name


# The listing of the developer's page: a name of its own for each file

LISTING = PACKAGE.parent / "docs" / "developer" / "how-a-call-flows.rst"
LISTED = re.compile(r"^      ([\w/]+)\.(?:pyx?|pxd)(?:, (\w+)\.py)?", re.MULTILINE)


def listed():
    """The modules that the page lists, in its order."""
    if not LISTING.exists():
        pytest.skip("the documentation is not here")
    names = []
    for name, companion in LISTED.findall(LISTING.read_text()):
        names.append(name.replace("/", "."))
        if companion:
            names.append(".".join([*names[-1].split(".")[:-1], companion]))
    return names


def loaded_at_once(module, path):
    """What a module of Python imports outside its functions."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found = absolute(module, path, node.level, node.module or "")
            if found is not None:
                yield found
                yield from [f"{found}.{alias.name}".lstrip(".") for alias in node.names]


def test_the_listing_is_complete():
    sources = {module for module, path in MODULES if path.suffix != ".pxd"}
    beside = {name for name in sources if name.startswith("testing") or name in ("", "cpu")}
    assert sources - set(listed()) <= beside | {"_parser", "__init__"}


def test_modules_load_only_what_is_listed_above_them():
    place = {name: number for number, name in enumerate(listed())}
    below = [
        (module, target)
        for module, path in MODULES
        if path.suffix == ".py" and module in place
        for target in loaded_at_once(module, path)
        if place.get(target, -1) > place[module]
    ]
    assert below == []
