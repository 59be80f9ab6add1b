"""The HTML report: one file, no other resources, for screens, phones and the dark."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

from fastconv.cli.cases import PHOTOGRAPH_GROUP
from fastconv.cli.charts import Mark, Scale, Track, bars, dot_plot, legend, ratio, share_scale
from fastconv.cli.console import digits, duration, flops
from fastconv.cli.pictures import Picture, data_url
from fastconv.cli.results import CaseResult, Row, Run, geometric_mean

_DATA = Path(__file__).parent / "data"
_COLOURS = 6
_METHOD = """Weights are packed before the clock starts; each call takes a NumPy array and returns a new one. Times are
medians over samples taken in rounds in which all candidates take turns; +- is half the interquartile range. GFLOP/s count the
multiplications and additions of the definition for every algorithm, so FFT and Winograd, which do fewer, may stand above the
peak. The error is the largest one, as a share of the largest result. A result passes if no output is further off than the
bound of its algorithm. scipy.signal.correlate2d runs on one thread, plane by plane; where it would take too long, it is timed
and compared on an evenly spread part of the outputs. A backend is skipped where the cost model predicts a call too long to
wait for; the tables say so."""
_COLUMNS = (
    ("case", True), ("backend", True), ("ms", False), ("+-", False), ("GFLOP/s", False), ("% of peak", False), ("error", False),
    ("of its bound", False), ("x scipy", False), ("", True),
)  # fmt: skip


def html_report(run: Run, pictures: dict[str, Picture]) -> str:
    """Return the report of a run as one HTML page.

    Parameters
    ----------
    run : Run
    pictures : dict of str to Picture
        Case name -> the filtered photograph.
    """
    style, script = ((_DATA / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    sections = [_header(run), _alarm(run), _cards(run), _totals(run), _overview(run)]
    if pictures:
        sections.append(_pictures(run, pictures))
    sections += [_group(run, title, cases) for title, cases in run.groups()]
    sections.append(_method(run))
    title = f"fastconv {run.versions['fastconv']} on {run.machine['cpu']}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>\n{script}</script></body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _families(run: Run) -> dict[str, str]:
    """Return family -> colour class, in the order of the table of backends."""
    names = dict.fromkeys(row.name.partition(":")[0] for case in run.cases for row in case.rows if row.kind == "backend")
    return {name: f"c{index % _COLOURS}" for index, name in enumerate(names)}


def _header(run: Run) -> str:
    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    return (
        "<header><h1>How fast fastconv convolves here</h1>"
        f"<p class=soft>fastconv {_text(run.versions['fastconv'])} on {_text(run.machine['cpu'])} "
        f"({_text(run.machine['target'])}), {threads}, "
        f"{_text(run.date[:10])}{', quick run' if run.is_quick else ''}</p></header>"
    )


def _alarm(run: Run) -> str:
    if not run.wrong:
        return ""
    items = "".join(f"<li>{_text(row.name)} on {_text(case.name)}: {_text(row.remark)}</li>" for case, row in run.wrong)
    return f'<div class="alarm" role="alert"><b>{len(run.wrong)} of {run.checks} checks failed</b><ul>{items}</ul></div>'


def _cards(run: Run) -> str:
    speedups = [case.speedup(case.choice) for case in run.cases if case.choice]
    cards = []
    if speedups:
        cards.append(
            (f"{ratio(geometric_mean(speedups))}", "as fast as scipy.signal.correlate2d: the automatic choice, geometric mean of the cases")
        )
    for dtype, peak in run.peak_gflops.items():
        cards.append((f"{digits(peak)}", f"GFLOP/s: this machine's measured multiply-add peak in {dtype}"))
    shares = [(run.peak_share(case, row), case) for case in run.cases for row in case.measured() if row.rounding == "elementwise"]
    if shares:
        best, case = max(shares, key=lambda pair: pair[0])
        cards.append((f"{100 * best:.0f} %", f"of the peak at best by plain summation ({case.name})"))
    body = "".join(f'<div class="card"><b>{_text(number)}</b><span>{_text(words)}</span></div>' for number, words in cards)
    verdict = "good" if not run.wrong else "bad"
    body += (
        f'<div class="card"><b class="{verdict}">{run.checks - len(run.wrong)} of {run.checks}</b>'
        "<span>results right, each against scipy in double precision</span></div>"
    )
    return f'<div class="cards">{body}</div>'


def _overview(run: Run) -> str:
    tracks, values = [], []
    for title, cases in run.groups():
        speedups = [case.speedup(case.choice) for case in cases if case.choice]
        if speedups:
            mean = geometric_mean(speedups)
            values.append(mean)
            count = f"{len(speedups)} cases" if len(speedups) > 1 else "1 case"
            tracks.append(Track(f"{title} ({count})", ratio(mean), (Mark(mean, "c0", f"{title}: {ratio(mean)}"),)))
    if not tracks:
        return ""
    chart = bars(tracks, Scale(1, max([*values, 10]) * 1.3), unit="x", title="Speed-up over scipy.signal per group of cases")
    return (
        "<section><h2>At a glance</h2><p class=note>How many times as fast as scipy.signal.correlate2d the automatic choice is "
        f'(geometric mean, logarithmic axis).</p><div class="panel">{chart}</div></section>'
    )


def _totals(run: Run) -> str:
    totals = run.totals()
    if not totals:
        return ""
    sections = []
    for total in totals:
        least, most = min(total.seconds.values()), max(total.seconds.values())
        tracks = [
            Track(name, duration(seconds), (Mark(1e3 * seconds, "c0" if name == "fastconv" else "cp", f"{name}: {duration(seconds)}"),))
            for name, seconds in total.seconds.items()
        ]
        chart = bars(tracks, Scale(1e3 * least / 2, 1e3 * most * 1.5), unit=" ms", title=f"{total.title}: time of all convolution layers")
        sections.append(
            f'<h3>{_text(total.title)}</h3><p class=note>{total.layers} layers, {flops(total.flops)}</p><div class="panel">{chart}</div>'
        )
    return (
        "<section><h2>Whole networks</h2><p class=note>All convolution layers for one picture, each as often as it occurs; "
        f"less is better, logarithmic axis. A library is missing where it does not compute every layer.</p>{''.join(sections)}</section>"
    )


def _pictures(run: Run, pictures: dict[str, Picture]) -> str:
    figures = []
    for case in run.cases:
        if case.group != PHOTOGRAPH_GROUP or case.name not in pictures:
            continue
        row = case.choice or next(iter(case.measured()), None)
        words = f"{row.name}, {duration(row.median_s)}, {ratio(case.speedup(row))} scipy's speed" if row else ""
        figures.append(
            f'<figure><img alt="{_text(case.name)}" src="{data_url(pictures[case.name])}">'
            f"<figcaption><b>{_text(case.name)}</b> {_text(words)}</figcaption></figure>"
        )
    return f'<section><h2>Classic kernels on one photograph</h2><div class="pictures">{"".join(figures)}</div></section>'


def _group(run: Run, title: str, cases: list[CaseResult]) -> str:
    families = _families(run)
    shares = [run.peak_share(case, row) for case in cases for kind in ("backend", "peer") for row in case.measured(kind)]
    shares += [case.flops / case.scipy_s / 1e9 / run.peak_gflops[case.dtype] for case in cases]
    scale = share_scale(shares)
    chart = dot_plot(
        [_track(run, case, families) for case in cases], scale, peak=1.0, title=f"{title}: share of the peak per case and backend"
    )
    peers = any(case.measured("peer") for case in cases)
    used = dict.fromkeys(row.name.partition(":")[0] for case in cases for row in case.measured())
    entries = [(Mark(1, families[name], ""), name) for name in used]
    entries.append((Mark(1, "c4", "", is_hollow=True), "hollow: fewer multiplications"))
    entries.append((Mark(1, "c4", "", is_chosen=True), "ring: the automatic choice"))
    if peers:
        entries.append((Mark(1, "cp", "", shape="square"), "other libraries"))
    entries.append((Mark(1, "cs", "", shape="cross"), "scipy.signal"))
    return (
        f"<section><h2>{_text(title)}</h2><p class=note>Effective GFLOP/s as a share of the measured peak, logarithmic axis; "
        "further right is faster.</p>"
        f'<div class="panel">{legend(entries)}{chart}</div>'
        '<details><summary>All figures</summary><div class="panel"><div class="scroll">'
        f"{_table(run, cases)}</div></div></details></section>"
    )


def _track(run: Run, case: CaseResult, families: dict[str, str]) -> Track:
    peak = run.peak_gflops[case.dtype]
    marks = [Mark(case.flops / case.scipy_s / 1e9 / peak, "cs", f"scipy.signal: {duration(case.scipy_s)}", shape="cross")]
    for row in case.measured():
        words = f"{row.name}: {duration(row.median_s)}, {100 * run.peak_share(case, row):.0f} % of the peak"
        is_hollow = row.rounding != "elementwise"
        marks.append(
            Mark(
                run.peak_share(case, row),
                families[row.name.partition(":")[0]],
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


def _table(run: Run, cases: Iterable[CaseResult]) -> str:
    head = "".join(
        f'<th scope="col"{" class=word" if is_word else ""}><button type="button">{name}</button></th>' for name, is_word in _COLUMNS
    )
    body = []
    for case in cases:
        body += [_line(run, case, row) for row in sorted(case.rows, key=lambda row: row.median_s)]
        scipy = case.flops / case.scipy_s / 1e9
        share = scipy / run.peak_gflops[case.dtype]
        body.append(
            f"<tr>{_cell(case.name, word=True)}{_cell('scipy.signal', word=True)}"
            f"{_cell(digits(case.scipy_s * 1e3), case.scipy_s)}{_cell('')}"
            f"{_cell(digits(scipy), scipy)}{_cell(digits(100 * share, 2), share)}{_cell('')}{_cell('')}{_cell('1', 1)}"
            f"{_remark(_checked(case))}</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _checked(case: CaseResult) -> str:
    words = f"{case.shape}; {flops(case.flops)}"
    return words if case.checked_share == 1 else f"{words}; timed and checked on {digits(100 * case.checked_share, 2)} % of the outputs"


def _line(run: Run, case: CaseResult, row: Row) -> str:
    kind = "chosen" if row.name == case.chosen else row.status
    cells = _cell(case.name, word=True) + _cell(row.name, word=True)
    if row.status == "measured":
        share = run.peak_share(case, row)
        cells += _cell(digits(row.median_s * 1e3), row.median_s) + _cell(digits(row.spread_s * 1e3, 2), row.spread_s)
        cells += _cell(digits(case.gflops(row)), case.gflops(row)) + _cell(digits(100 * share, 2), share)
        cells += _cell("" if row.error is None else f"{row.error:.1e}", row.error) + _cell(_percent(row.bound_share), row.bound_share)
        cells += _cell(digits(case.speedup(row)), case.speedup(row))
    else:
        cells += (
            _cell("") * 4 + _cell("" if row.error is None else f"{row.error:.1e}", row.error) + _cell(_percent(row.bound_share)) + _cell("")
        )
    remark = row.remark if row.status == "measured" else f"{row.status}: {row.remark}"
    return f'<tr class="{kind}">{cells}{_remark(remark)}</tr>'


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{digits(100 * share, 2)} %" if share < 10 else f"{share:.1e} times"


def _cell(text: str, value: float | None = None, *, word: bool = False) -> str:
    data = "" if value is None else f' data-value="{value:.6g}"'
    return f"<td{' class=word' if word else ''}{data}>{_text(text)}</td>"


def _remark(text: str) -> str:
    return f'<td class="remark">{_text(text)}</td>'


def _method(run: Run) -> str:
    facts = {
        "command": f"<code>{_text(run.command)}</code>",
        "commit": _text(run.commit or "not known"),
        "started": f"{_text(run.date)}; {digits(run.seconds, 2)} s in all",
        "processor": _text(
            f"{run.machine['cpu']} (LLVM: {run.machine['llvm_cpu']}), {run.machine['cores']} cores, {run.machine['system']}"
        ),
        "vectors": f"{_text(run.machine['target'])}: {run.machine['vector_nbytes']} bytes, {run.machine['vector_registers']} registers",
        "caches": ", ".join(f"{_text(level)} {_text(size)}" for level, size in run.machine["caches"].items()) or "not known",
        "peak of one core": ", ".join(f"{digits(value)} GFLOP/s {_text(dtype)}" for dtype, value in run.core_peak_gflops.items()),
        "settings": _text(", ".join(f"{name} = {value}" for name, value in run.settings.items())),
        "versions": _text(", ".join(f"{name} {value}" for name, value in run.versions.items())),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    return f"<section><h2>How this was measured</h2><p class=note>{_METHOD}</p><dl>{listed}</dl></section>"
