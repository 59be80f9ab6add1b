"""One section per network: every candidate on every layer, as a share of the peak, and all figures."""

from __future__ import annotations

from fastconv.cli.charts import Mark, Track, dot_plot, legend, share_scale
from fastconv.cli.console import digits, duration, flops, thread_words
from fastconv.cli.report.cells import cell, families, folded, remark, table, text
from fastconv.cli.results import CaseResult, Row, Run

_COLUMNS = (
    ("case", True), ("threads", False), ("backend", True), ("ms", False), ("+-", False), ("GFLOP/s", False), ("% of peak", False),
    ("error", False), ("of its bound", False), ("x scipy", False), ("", True),
)  # fmt: skip


def group_sections(run: Run) -> list[str]:
    """Return a section for each group of cases, drawn with the highest number of threads."""
    return [_group(run, title, cases) for title, cases in run.at(run.threads).groups()]


def _group(run: Run, title: str, cases: list[CaseResult]) -> str:
    colours = families(run)
    shares = [run.peak_share(case, row) for case in cases for kind in ("backend", "peer") for row in case.measured(kind)]
    shares += [run.scipy_share(case) for case in cases]
    scale = share_scale(shares)
    chart = dot_plot(
        [_track(run, case, colours) for case in cases], scale, [f"{100 * tick:g} %" for tick in scale.ticks], (1.0, "measured peak"),
        title=f"{title}: share of the peak per case and backend",
    )  # fmt: skip
    peers = any(case.measured("peer") for case in cases)
    used = dict.fromkeys(row.name.partition(":")[0] for case in cases for row in case.measured())
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
    for row in case.measured():
        words = f"{row.name}: {duration(row.median_s)}, {100 * run.peak_share(case, row):.0f} % of the peak"
        is_hollow = row.rounding != "elementwise"
        marks.append(
            Mark(
                run.peak_share(case, row),
                colours[row.name.partition(":")[0]],
                words,
                is_hollow=is_hollow,
                is_chosen=row.name == case.chosen,
            )
        )
    marks += [
        Mark(run.peak_share(case, row), "cp", f"{row.name} {row.remark}: {duration(row.median_s)}", shape="square")
        for row in case.measured("peer")
    ]
    chosen = case.choice
    right = f"{chosen.name}  {duration(chosen.median_s)}" if chosen else ""
    return Track(case.name, right, tuple(marks))


def _table(run: Run, cases: list[CaseResult]) -> str:
    body = []
    for case in cases:
        body += [_line(run, case, row) for row in sorted(case.rows, key=lambda row: row.median_s)]
        rate, share = case.flops / case.scipy_s / 1e9, run.scipy_share(case)
        body.append(
            f"<tr>{cell(case.name, word=True)}{cell('1', 1)}{cell('scipy.signal', word=True)}"
            f"{cell(digits(case.scipy_s * 1e3), case.scipy_s)}{cell('')}"
            f"{cell(digits(rate), rate)}{cell(digits(100 * share, 2), share)}{cell('')}{cell('')}{cell('1', 1)}"
            f"{remark(_checked(case))}</tr>"
        )
    return table(_COLUMNS, body)


def _checked(case: CaseResult) -> str:
    words = f"{case.shape}; {flops(case.flops)}"
    return words if case.checked_share == 1 else f"{words}; timed and checked on {digits(100 * case.checked_share, 2)} % of the outputs"


def _line(run: Run, case: CaseResult, row: Row) -> str:
    kind = "chosen" if row.name == case.chosen else row.status
    cells = cell(case.name, word=True) + cell(str(case.threads), case.threads) + cell(row.name, word=True)
    if row.status == "measured":
        share = run.peak_share(case, row)
        cells += cell(digits(row.median_s * 1e3), row.median_s) + cell(digits(row.spread_s * 1e3, 2), row.spread_s)
        cells += cell(digits(case.gflops(row)), case.gflops(row)) + cell(digits(100 * share, 2), share)
        cells += cell("" if row.error is None else f"{row.error:.1e}", row.error) + cell(_percent(row.bound_share), row.bound_share)
        cells += cell(digits(case.speedup(row)), case.speedup(row))
    else:
        cells += (
            cell("") * 4 + cell("" if row.error is None else f"{row.error:.1e}", row.error) + cell(_percent(row.bound_share)) + cell("")
        )
    words = row.remark if row.status == "measured" else f"{row.status}: {row.remark}"
    return f'<tr class="{kind}">{cells}{remark(words)}</tr>'


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{digits(100 * share, 2)} %" if share < 10 else f"{share:.1e} times"
