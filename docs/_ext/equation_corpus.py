"""The directive ``equation-corpus``: the cases of ``fastein.testing.corpus`` as tables.

One section per group, one row per case. The page is read again when the corpus changes.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fastein.testing import corpus

COLUMNS = (("equation", 34), ("shapes", 40), ("dtype", 10), ("what it is for", 36))


def cells(case: corpus.Case) -> tuple[nodes.Node, ...]:
    shapes = " ".join(str(tuple(shape)).replace(" ", "") for shape in case.shapes)
    return (
        nodes.literal(text=case.equation),
        nodes.Text(shapes),
        nodes.literal(text=str(case.dtype)),
        nodes.Text(case.note),
    )


def row(contents: Sequence[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in contents))


def table(cases: Sequence[corpus.Case]) -> nodes.table:
    group = nodes.tgroup(cols=len(COLUMNS))
    group += [nodes.colspec(colwidth=width) for _, width in COLUMNS]
    group += nodes.thead("", row([nodes.Text(title) for title, _ in COLUMNS]))
    group += nodes.tbody("", *(row(cells(case)) for case in cases))
    return nodes.table("", group)


class EquationCorpus(SphinxDirective):
    """Tables of all cases, under a heading for each group."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(inspect.getsourcefile(corpus))
        sections: list[nodes.Node] = []
        for name, cases in corpus.groups().items():
            title = nodes.title(text=name.capitalize())
            section = nodes.section("", title, table(cases), ids=[nodes.make_id(name)])
            section["names"] = [name]
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("equation-corpus", EquationCorpus)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
