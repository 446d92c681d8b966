"""What ships agrees with itself: versions, typing files, and the commands that people are told."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import fastein

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
CYTHON_MODULES = sorted((ROOT / "fastein").rglob("*.pyx"))
PAGES = [
    *ROOT.glob("*.md"),
    *(path for path in (ROOT / "docs").rglob("*.rst") if "generated" not in path.parts),
]


def read(name):
    return (ROOT / name).read_text("utf-8")


def match(pattern, text):
    found = re.search(pattern, text, re.MULTILINE)
    assert found, pattern
    return found[1]


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(metadata.version("fastein"), id="metadata"),
        pytest.param(match(r"^version: (\S+)$", read("CITATION.cff")), id="CITATION.cff"),
        pytest.param(match(r"^## (\d\S+)", read("CHANGELOG.md")), id="CHANGELOG.md"),
    ],
)
def test_one_version_everywhere(version):
    assert version == fastein.__version__


def test_runtime_dependencies():
    required = [line for line in metadata.requires("fastein") or () if "extra ==" not in line]
    names = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in required}
    assert names == {"numpy", "numba", "llvmlite", "opt_einsum"}


@pytest.mark.parametrize("package", ["fastein", "fastein_cuda"])
def test_packages_are_marked_as_typed(package):
    assert resources.files(package).joinpath("py.typed").is_file()


@pytest.mark.parametrize("module", CYTHON_MODULES, ids=lambda path: path.stem)
def test_every_cython_module_has_a_stub(module):
    assert module.with_suffix(".pyi").is_file()


def test_every_command_and_extra_that_pages_name_exists():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text("utf-8")
        commands = re.findall(r"(?:^\s*\$? ?|`)make ([a-z]+)\b", text, re.MULTILINE)
        assert set(commands) <= targets, page
        assert set(re.findall(r"fastein\[(\w+)\]", text)) <= set(EXTRAS), page


def test_readme_names_the_two_commands():
    assert "\nmake demo\nmake test\n" in read("README.md")


def test_links_between_pages_lead_somewhere():
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_demo_has_a_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "fastein.demo", "--help"], capture_output=True, text=True, check=True
    )
    assert "--size" in done.stdout
    assert "--output" in done.stdout
