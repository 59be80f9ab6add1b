"""`Explanation`: the planner's decision as a table that people read."""

from __future__ import annotations

import html
from dataclasses import dataclass

from fastconv.calibration import current_machine
from fastconv.planner import Decision, decide
from fastconv.problem import ConvProblem
from fastconv.settings import Config

_COLUMNS = ("backend", "", "predicted", "measured", "GFLOP", "MB moved", "errors", "remark")
_NUMBERS = range(2, 6)


@dataclass(frozen=True)
class Explanation:
    """What was chosen for a problem, and why; prints as a table, in a notebook as HTML.

    Attributes
    ----------
    problem : ConvProblem
    decision : Decision
        The chosen algorithm, the source that decided, and every candidate.
    rows : tuple of tuple of str
        The table's cells: backend, mark, predicted and measured time, flops, bytes moved, error class, remark.
    """

    problem: ConvProblem
    decision: Decision
    rows: tuple[tuple[str, ...], ...]

    @property
    def chosen(self) -> str:
        """Name of the chosen algorithm."""
        return self.decision.algorithm.name

    def __str__(self) -> str:
        widths = [max(len(row[i]) for row in (_COLUMNS, *self.rows)) for i in range(len(_COLUMNS))]
        lines = [f"{self.problem}", f"chosen: {self.chosen} (by {self.decision.source})", ""]
        for row in (_COLUMNS, *self.rows):
            padded = zip(range(len(widths)), row, widths, strict=True)
            cells = [cell.rjust(width) if i in _NUMBERS else cell.ljust(width) for i, cell, width in padded]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in _COLUMNS)
        body = ""
        for row in self.rows:
            style = ' style="font-weight:bold"' if row[0] == self.chosen else ""
            body += f"<tr{style}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        title = f"<p><code>{html.escape(str(self.problem))}</code><br>chosen: <b>{self.chosen}</b> (by {self.decision.source})</p>"
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def explained(problem: ConvProblem, config: Config, backend: str | None = None, *, is_prepared: bool = True) -> Explanation:
    """Return the explanation of `decide` for the same arguments."""
    decision = decide(problem, config, backend, is_prepared=is_prepared)
    machine = current_machine(config.wisdom)
    rows = []
    for candidate in decision.candidates:
        algorithm = candidate.algorithm
        mark = "<-" if algorithm is decision.algorithm else ""
        if candidate.predicted_s is None:
            rows.append((algorithm.name, mark, "", "", "", "", algorithm.rounding, f"no: {candidate.reason}"))
            continue
        work = algorithm.work(algorithm.computed(problem), machine)
        times = (_duration(candidate.predicted_s), _duration(candidate.measured_s))
        counts = (f"{work.flops / 1e9:.3g}", f"{work.nbytes / 1e6:.3g}")
        remark = f"no: {candidate.reason}" if candidate.reason else algorithm.summary
        rows.append((algorithm.name, mark, *times, *counts, algorithm.rounding, remark))
    return Explanation(problem, decision, tuple(rows))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
