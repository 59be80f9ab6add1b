"""Directive ``variants``: what the table of backends says of the variants of a family, so that no page can fall behind the code."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from fastconv.backends import TABLE
from fastconv.problem import DTYPES

_HEAD = ("variant", "what it is", "dtypes", "rounding", "chosen from accuracy=")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> nodes.Node:
    """Return a table; the first column is set as code."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    for kind, lines in ((nodes.thead, [head]), (nodes.tbody, rows)):
        part = kind()
        for cells in lines:
            row = nodes.row()
            for i, cell in enumerate(cells):
                text = nodes.literal(text=cell) if i == 0 and kind is nodes.tbody else nodes.Text(cell)
                row += nodes.entry("", nodes.paragraph("", "", text))
            part += row
        group += part
    wrapper = nodes.container(classes=["wide", "variants"])
    wrapper += nodes.table("", group)
    return wrapper


def dtype_words(dtypes: tuple[str, ...]) -> str:
    """Return the dtypes in few words."""
    missing = [name for name in DTYPES if name not in dtypes]
    if not missing:
        return "all"
    return f"all but {missing[0]}" if len(missing) == 1 else ", ".join(dtypes)


class Variants(Directive):
    """The rows of one family, or of all."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        family = self.arguments[0]
        rows = [
            (row.name, row.summary, dtype_words(row.dtypes), row.rounding, row.accuracy) for row in TABLE if family in {"all", row.family}
        ]
        if not rows:
            raise self.error(f"there is no backend {family!r}")
        return [table(_HEAD, rows)]


def unnumbered(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Make ".. [1] author, title" of a docstring's references a plain paragraph: the reference has many docstrings on one page."""
    del app, what, name, thing, options
    lines[:] = [re.sub(r"^\.\. \[\d+\] ", "", line) for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("variants", Variants)
    app.connect("autodoc-process-docstring", unnumbered, priority=400)
    return {"version": "1", "parallel_read_safe": True}
