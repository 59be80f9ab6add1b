"""What was chosen for each case, by what, and why not another."""

from __future__ import annotations

from fastconv.cli.console import digits
from fastconv.cli.report.cells import folded, row, table
from fastconv.cli.results import CaseResult, Considered, Run

_CHOICES = (
    ("case", "word"), ("threads", "number"), ("chosen", "word"), ("by", "word"), ("predicted ms", "number"), ("measured ms", "number"),
    ("next by prediction", "word"), ("its predicted ms", "number"), ("fastest measured", "word"), ("its ms", "number"),
)  # fmt: skip
_CONSIDERED = (("case", "word"), ("threads", "number"), ("could, predicted ms", "remark"), ("left out, and why", "remark"))


def choices(run: Run) -> str:
    """Return the section: one line per case, and all that was considered."""
    cases = [case for case in run.cases if case.considered]
    if not cases:
        return ""
    lines = table(_CHOICES, [_choice(case) for case in cases])
    reasons = table(_CONSIDERED, [_considered(case) for case in cases])
    return (
        "<section><h2>What was chosen, and why</h2><p class=note>The automatic choice follows a setting, else measurements stored as "
        "wisdom, else the cost model: the lowest predicted time among those that can compute the case at the accuracy in force. "
        f'"Fastest measured" names what this run found.</p><div class="panel">{lines}</div>'
        f"{folded('All that was considered, and why not', reasons)}</section>"
    )


def _ranked(case: CaseResult) -> list[Considered]:
    return sorted(case.considered, key=lambda item: (item.predicted_s is None, item.predicted_s or 0.0))


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else digits(seconds * 1e3)


def _choice(case: CaseResult) -> str:
    allowed = [item for item in _ranked(case) if item.predicted_s is not None and not item.reason]
    mine = next((item for item in allowed if item.name == case.chosen), None)
    following = next((item for item in allowed if item.name != case.chosen), None)
    fastest = next(iter(case.measured()), None)
    ours = case.choice
    return row(
        case.name, str(case.threads), case.chosen, case.decided_by,
        _ms(mine.predicted_s if mine else None), _ms(ours.median_s if ours else None),
        following.name if following else "", _ms(following.predicted_s if following else None),
        fastest.name if fastest else "", _ms(fastest.median_s if fastest else None),
    )  # fmt: skip


def _considered(case: CaseResult) -> str:
    could, out = [], []
    for item in _ranked(case):
        if item.reason:
            out.append(f"{item.name}: {item.reason}")
        elif item.measured_s is None:
            could.append(f"{item.name} {_ms(item.predicted_s)}")
        else:
            could.append(f"{item.name} {_ms(item.predicted_s)} (wisdom: {_ms(item.measured_s)})")
    return row(case.name, str(case.threads), ", ".join(could), "; ".join(out))
