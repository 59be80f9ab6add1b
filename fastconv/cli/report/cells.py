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


def row(*words: str, kind: str = "") -> str:
    """Return a row of cells, without the closing tags that HTML lets out: a report has ten thousand cells.

    Parameters
    ----------
    *words : str
        A number, with or without a unit, or words; by these a column is sorted.
    kind : {"", "chosen", "failed", "skipped"}
    """
    return f"<tr{f' class={kind}' if kind else ''}>" + "".join(f"<td>{text(cell)}" for cell in words)


def table(columns: Sequence[tuple[str, str]], rows: Sequence[str]) -> str:
    """Return a sortable table of (name, "number", "word" or "remark": running text) and of rows."""
    head = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name, _ in columns)
    # The style sheet aligns whole columns by their place.
    kinds = " ".join(f"{kind[0]}{place}" for place, (_, kind) in enumerate(columns, 1) if kind != "number" and place > 1)
    return f'<div class="scroll"><table class="{kinds}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def folded(summary: str, body: str) -> str:
    """Return a part that opens at a click."""
    return f'<details><summary>{summary}</summary><div class="panel">{body}</div></details>'
