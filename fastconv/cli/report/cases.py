"""One section per network: every candidate on every layer, as a share of the peak, and all figures."""

from __future__ import annotations

from fastconv.cli.charts import Mark, Track, dot_plot, legend, share_scale
from fastconv.cli.console import digits, duration, flops, thread_words
from fastconv.cli.report.cells import families, folded, row, table, text
from fastconv.cli.results import CaseResult, Row, Run

_COLUMNS = (
    ("case", "word"), ("threads", "number"), ("backend", "word"), ("ms", "number"), ("+-", "number"), ("GFLOP/s", "number"),
    ("% of peak", "number"), ("error", "number"), ("of its bound", "number"), ("x scipy", "number"), ("", "remark"),
)  # fmt: skip


def group_sections(run: Run) -> list[str]:
    """Return a section for each group of cases, drawn with the highest number of threads."""
    return [_group(run, title, cases) for title, cases in run.at(run.threads).groups()]


def _group(run: Run, title: str, cases: list[CaseResult]) -> str:
    colours = families(run)
    shares = [run.peak_share(case, found) for case in cases for kind in ("backend", "peer") for found in case.measured(kind)]
    shares += [run.scipy_share(case) for case in cases]
    scale = share_scale(shares)
    chart = dot_plot(
        [_track(run, case, colours) for case in cases], scale, [f"{100 * tick:g} %" for tick in scale.ticks], (1.0, "measured peak"),
        title=f"{title}: share of the peak per case and backend",
    )  # fmt: skip
    peers = any(case.measured("peer") for case in cases)
    used = dict.fromkeys(found.name.partition(":")[0] for case in cases for found in case.measured())
    entries = [(Mark(1, colours[name], ""), name) for name in used]
    entries.append((Mark(1, "c4", "", is_hollow=True), "hollow: fewer multiplications"))
    entries.append((Mark(1, "c4", "", is_chosen=True), "ring: the automatic choice"))
    if peers:
        entries.append((Mark(1, "cp", "", shape="square"), "other libraries"))
    entries.append((Mark(1, "cs", "", shape="cross"), "scipy.signal"))
    everywhere = [case for case in run.cases if case.title == title]
    return (
        f"<section><h2>{text(title)}</h2><p class=note>Effective GFLOP/s as a share of the measured peak with "
        f"{thread_words(run.threads)}, logarithmic axis; further right is faster.</p>"
        f'<div class="panel">{legend(entries)}{chart}</div>{folded("All figures", _table(run, everywhere))}</section>'
    )


def _track(run: Run, case: CaseResult, colours: dict[str, str]) -> Track:
    marks = [Mark(run.scipy_share(case), "cs", f"scipy.signal: {duration(case.scipy_s)}", shape="cross")]
    for found in case.measured():
        words = f"{found.name}: {duration(found.median_s)}, {100 * run.peak_share(case, found):.0f} % of the peak"
        colour, is_hollow = colours[found.name.partition(":")[0]], found.rounding != "elementwise"
        is_chosen = found.name == case.chosen
        marks.append(Mark(run.peak_share(case, found), colour, words, is_hollow=is_hollow, is_chosen=is_chosen))
    marks += [
        Mark(run.peak_share(case, found), "cp", f"{found.name}: {duration(found.median_s)}", shape="square")
        for found in case.measured("peer")
    ]
    chosen = case.choice
    right = f"{chosen.name}  {duration(chosen.median_s)}" if chosen else ""
    return Track(case.name, right, tuple(marks))


def _table(run: Run, cases: list[CaseResult]) -> str:
    body = []
    for case in cases:
        body += [_line(run, case, found) for found in sorted(case.rows, key=lambda found: found.median_s)]
        rate, share = digits(case.flops / case.scipy_s / 1e9), digits(100 * run.scipy_share(case), 2)
        body.append(
            row(case.name, str(case.threads), "scipy.signal", digits(case.scipy_s * 1e3), "", rate, share, "", "", "1", _checked(case))
        )
    return table(_COLUMNS, body)


def _checked(case: CaseResult) -> str:
    words = f"{case.shape}; {flops(case.flops)}"
    return words if case.checked_share == 1 else f"{words}; timed and checked on {digits(100 * case.checked_share, 2)} % of the outputs"


def _line(run: Run, case: CaseResult, found: Row) -> str:
    head = case.name, str(case.threads), found.name
    error, bound_share = "" if found.error is None else f"{found.error:.1e}", _percent(found.bound_share)
    if found.status != "measured":
        return row(*head, *[""] * 4, error, bound_share, "", f"{found.status}: {found.remark}", kind=found.status)
    times = digits(found.median_s * 1e3), digits(found.spread_s * 1e3, 2)
    rates = digits(case.gflops(found)), digits(100 * run.peak_share(case, found), 2)
    kind = "chosen" if found.name == case.chosen else ""
    return row(*head, *times, *rates, error, bound_share, digits(case.speedup(found)), found.remark, kind=kind)


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{digits(100 * share, 2)} %" if share < 10 else f"{100 * share:.1e} %"
