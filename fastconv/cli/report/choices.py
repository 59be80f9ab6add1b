"""What was chosen for each case, by what, and why not another."""

from __future__ import annotations

from fastconv.cli.console import digits
from fastconv.cli.report.cells import cell, folded, remark, table
from fastconv.cli.results import CaseResult, Considered, Run

_CHOICES = (
    ("case", True), ("threads", False), ("chosen", True), ("by", True), ("predicted ms", False), ("measured ms", False),
    ("next by prediction", True), ("its predicted ms", False), ("fastest measured", True), ("its ms", False),
)  # fmt: skip
_REASONS = (("case", True), ("threads", False), ("backend", True), ("predicted ms", False), ("measured ms", False), ("", True))


def choices(run: Run) -> str:
    """Return the section: one line per case, and all that was considered."""
    cases = [case for case in run.cases if case.considered]
    if not cases:
        return ""
    lines = table(_CHOICES, [_choice(case) for case in cases])
    reasons = table(_REASONS, [_reason(case, item) for case in cases for item in _ranked(case)])
    return (
        "<section><h2>What was chosen, and why</h2><p class=note>The automatic choice follows a setting, else measurements stored as "
        "wisdom, else the cost model: the lowest predicted time among those that can compute the case at the accuracy in force. "
        f'"Fastest measured" names what this run found.</p><div class="panel">{lines}</div>'
        f"{folded('All that was considered, and why not', reasons)}</section>"
    )


def _ranked(case: CaseResult) -> list[Considered]:
    return sorted(case.considered, key=lambda item: (item.predicted_s is None, item.predicted_s or 0.0))


def _ms(seconds: float | None) -> str:
    return cell("") if seconds is None else cell(digits(seconds * 1e3), seconds)


def _choice(case: CaseResult) -> str:
    allowed = [item for item in _ranked(case) if item.predicted_s is not None and not item.reason]
    mine = next((item for item in allowed if item.name == case.chosen), None)
    following = next((item for item in allowed if item.name != case.chosen), None)
    fastest = next(iter(case.measured()), None)
    row = case.choice
    head = cell(case.name, word=True) + cell(str(case.threads), case.threads)
    return (
        f"<tr>{head}{cell(case.chosen, word=True)}{cell(case.decided_by, word=True)}"
        f"{_ms(mine.predicted_s if mine else None)}{_ms(row.median_s if row else None)}"
        f"{cell(following.name if following else '', word=True)}{_ms(following.predicted_s if following else None)}"
        f"{cell(fastest.name if fastest else '', word=True)}{_ms(fastest.median_s if fastest else None)}</tr>"
    )


def _reason(case: CaseResult, item: Considered) -> str:
    row = next((row for row in case.measured() if row.name == item.name), None)
    if item.name == case.chosen:
        words = f"chosen by {case.decided_by}"
    elif item.predicted_s is None:
        words = f"cannot: {item.reason}"
    else:
        words = f"not allowed: {item.reason}" if item.reason else "predicted to be slower"
        if item.measured_s is not None:
            words += f" (wisdom: {digits(item.measured_s * 1e3)} ms)"
    kind = "chosen" if item.name == case.chosen else "skipped" if item.predicted_s is None else ""
    return (
        f'<tr class="{kind}">{cell(case.name, word=True)}{cell(str(case.threads), case.threads)}{cell(item.name, word=True)}'
        f"{_ms(item.predicted_s)}{_ms(row.median_s if row else None)}{remark(words)}</tr>"
    )
