"""Configuration of the documentation: python -m sphinx -W -b html docs docs/_build/html."""

import sys
from pathlib import Path

import fastein

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "fastein"
author = "fastein developers"
copyright = "2026, fastein developers"
version = release = fastein.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "equation_corpus",
]

exclude_patterns = ["_build", "_ext", "_templates"]
templates_path = ["_templates"]
root_doc = "index"
default_role = "code"

# Links in the reference have to lead somewhere; types that live outside of it are named here,
# as the build may have no network to fetch other projects' inventories from.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|npt|collections|typing|types)\..*"),
    (r"py:.*", r"_?[A-Za-z]*(ArrayLike|DTypeLike|NDArray|Any|Self|NoReturn|Mapping|Sequence)"),
    (r"py:class", r"(optional|array_like|ndarray|dtype|callable|scalar|default|sequence|operands)"),
    (r"py:(class|exc|obj)", r"(ValueError|TypeError|RuntimeError|str|int|bool|tuple|list|dict)"),
]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's Parameters sections have them
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = f"fastein {release}"
html_theme_options = {
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "install": [], "quickstart": [], "parity": [], "corpus": []}
html_show_sourcelink = False
