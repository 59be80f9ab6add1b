"""Pieces of HTML that the sections of the report share."""

from __future__ import annotations

import html
from collections.abc import Sequence

from fastconv.cli.results import Run

_COLOURS = 6


def text(value: object) -> str:
    """Return a value as HTML text."""
    return html.escape(str(value))


def families(run: Run) -> dict[str, str]:
    """Return family -> colour class, in the order of the table of backends."""
    names = dict.fromkeys(row.name.partition(":")[0] for case in run.cases for row in case.rows if row.kind == "backend")
    return {name: f"c{index % _COLOURS}" for index, name in enumerate(names)}


def cell(words: str, value: float | None = None, *, word: bool = False) -> str:
    """Return a cell that is sorted by `value`, or by its words."""
    data = "" if value is None else f' data-value="{value:.6g}"'
    return f"<td{' class=word' if word else ''}{data}>{text(words)}</td>"


def remark(words: str) -> str:
    """Return a cell of running text."""
    return f'<td class="remark">{text(words)}</td>'


def table(columns: Sequence[tuple[str, bool]], rows: Sequence[str]) -> str:
    """Return a sortable table of (name, whether it holds words) and rows of cells."""
    head = "".join(
        f'<th scope="col"{" class=word" if is_word else ""}><button type="button">{name}</button></th>' for name, is_word in columns
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def folded(summary: str, body: str) -> str:
    """Return a part that opens at a click."""
    return f'<details><summary>{summary}</summary><div class="panel">{body}</div></details>'
