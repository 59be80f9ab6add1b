"""The HTML report: one file, no other resources, for screens, phones and the dark."""

from __future__ import annotations

from pathlib import Path

from fastconv.cli.cases import PHOTOGRAPH_GROUP
from fastconv.cli.charts import SHAPES, ratio
from fastconv.cli.console import digits, duration, thread_words
from fastconv.cli.pictures import Picture, data_url
from fastconv.cli.report.cases import group_sections
from fastconv.cli.report.cells import text
from fastconv.cli.report.choices import choices
from fastconv.cli.report.compared import against_peers, overview, scaling, totals
from fastconv.cli.report.rates import errors_against_time, rooflines
from fastconv.cli.results import Run, geometric_mean

_DATA = Path(__file__).parents[1] / "data"
_METHOD = """Weights are packed before the clock starts; each call takes a NumPy array and returns a new one. Times are medians over samples
taken in rounds in which all candidates take turns; +- is half the interquartile range. GFLOP/s count the multiplications and
additions of the definition for every algorithm, so FFT and Winograd, which do fewer, may stand above the peak. The peak is
measured again after each case, as the clock drifts; shares are of the highest that was seen, so a case that ran at a lower
clock shows less than it deserves, never more. Other libraries get their weights prepared where they can, the same waking calls,
and their turn only after the threads of the one before have stopped spinning. The error is the largest one, as a share of the
largest result. A result passes if no output is further off than the bound of its algorithm. scipy.signal.correlate2d runs on
one thread, plane by plane; where it would take too long, it is timed and compared on an evenly spread part of the outputs. A
backend is skipped where the cost model predicts a call too long to wait for; the tables say so."""


def html_report(run: Run, pictures: dict[str, Picture]) -> str:
    """Return the report of a run as one HTML page.

    Parameters
    ----------
    run : Run
    pictures : dict of str to Picture
        Case name -> the filtered photograph.
    """
    style, script = ((_DATA / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    sections = [_header(run), _alarm(run), _cards(run), totals(run), against_peers(run), overview(run)]
    if pictures:
        sections.append(_pictures(run, pictures))
    sections += [*group_sections(run), rooflines(run), scaling(run), errors_against_time(run), choices(run), _method(run)]
    title = f"fastconv {run.versions['fastconv']} on {run.machine['cpu']}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title>\n<style>\n{style}</style></head>\n<body>"
        f'<svg class="shapes" aria-hidden="true">{SHAPES}</svg>\n<main>\n'
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>\n{script}</script></body></html>\n"
    )


def _header(run: Run) -> str:
    threads = thread_words(run.threads) if len(run.counts) == 1 else f"{' and '.join(map(str, run.counts))} threads"
    return (
        "<header><h1>How fast fastconv convolves here</h1>"
        f"<p class=soft>fastconv {text(run.versions['fastconv'])} on {text(run.machine['cpu'])} "
        f"({text(run.machine['target'])}), {threads}, "
        f"{text(run.date[:10])}{', quick run' if run.is_quick else ''}</p></header>"
    )


def _alarm(run: Run) -> str:
    if not run.wrong:
        return ""
    items = "".join(f"<li>{text(row.name)} on {text(case.name)}: {text(row.remark)}</li>" for case, row in run.wrong)
    return f'<div class="alarm" role="alert"><b>{len(run.wrong)} of {run.checks} checks failed</b><ul>{items}</ul></div>'


def _cards(run: Run) -> str:
    part = run.at(run.threads)
    speedups = [case.speedup(case.choice) for case in part.cases if case.choice]
    over = [case.over_best_peer for case in part.cases if case.over_best_peer is not None]
    cards = []
    if over:
        behind = sum(value < 1 for value in over)
        words = f"as fast as the best other library, geometric mean; slower than it on {behind} of {len(over)} cases"
        cards.append((ratio(geometric_mean(over)), words))
    if speedups:
        cards.append(
            (f"{ratio(geometric_mean(speedups))}", "as fast as scipy.signal.correlate2d: the automatic choice, geometric mean of the cases")
        )
    for dtype in run.dtypes:
        words = f"GFLOP/s: this machine's measured multiply-add peak in {dtype} with {thread_words(run.threads)}"
        cards.append((digits(run.peak(dtype)), words))
    shares = [(run.peak_share(case, row), case) for case in part.cases for row in case.measured() if row.rounding == "elementwise"]
    if shares:
        best, case = max(shares, key=lambda pair: pair[0])
        cards.append((f"{100 * best:.0f} %", f"of the peak at best by plain summation ({case.name})"))
    body = "".join(f'<div class="card"><b>{text(number)}</b><span>{text(words)}</span></div>' for number, words in cards)
    verdict = "good" if not run.wrong else "bad"
    body += (
        f'<div class="card"><b class="{verdict}">{run.checks - len(run.wrong)} of {run.checks}</b>'
        "<span>results right, each against scipy in double precision</span></div>"
    )
    return f'<div class="cards">{body}</div>'


def _pictures(run: Run, pictures: dict[str, Picture]) -> str:
    figures = []
    for case in run.at(run.threads).cases:
        if case.group != PHOTOGRAPH_GROUP or case.name not in pictures:
            continue
        row = case.choice or next(iter(case.measured()), None)
        words = f"{row.name}, {duration(row.median_s)}, {ratio(case.speedup(row))} scipy's speed" if row else ""
        figures.append(
            f'<figure><img alt="{text(case.name)}" src="{data_url(pictures[case.name])}">'
            f"<figcaption><b>{text(case.name)}</b> {text(words)}</figcaption></figure>"
        )
    return f'<section><h2>What the kernels make of the photograph</h2><div class="pictures">{"".join(figures)}</div></section>'


def _peak_words(run: Run, key: str) -> str:
    dtype, _, count = key.partition(", ")
    looks = run.peak_looks[key]
    middle, low = (100 * value / max(looks) for value in (sorted(looks)[len(looks) // 2], min(looks)))
    return (
        f"{text(dtype)} with {thread_words(int(count))} {digits(max(looks))} GFLOP/s, the highest of {len(looks)} looks "
        f"(the middle one is {middle:.0f} % of it, the lowest {low:.0f} %)"
    )


def _method(run: Run) -> str:
    facts = {
        "command": f"<code>{text(run.command)}</code>",
        "commit": text(run.commit or "not known"),
        "started": f"{text(run.date)}; {digits(run.seconds, 2)} s in all",
        "processor": text(f"{run.machine['cpu']} (LLVM: {run.machine['llvm_cpu']}), {run.machine['cores']} cores, {run.machine['system']}"),
        "vectors": f"{text(run.machine['target'])}: {run.machine['vector_nbytes']} bytes, {run.machine['vector_registers']} registers",
        "caches": ", ".join(f"{text(level)} {text(size)}" for level, size in run.machine["caches"].items()) or "not known",
        "peak": "; ".join(_peak_words(run, key) for key in run.peak_looks),
        "copies": "; ".join(
            f"{thread_words(int(count))}: " + ", ".join(f"{text(level)} {digits(rate)} GB/s" for level, rate in rates.items())
            for count, rates in run.machine.get("bandwidths_gb_per_s", {}).items()
        ),
        "settings": text(", ".join(f"{name} = {value}" for name, value in run.settings.items())),
        "versions": text(", ".join(f"{name} {value}" for name, value in run.versions.items())),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    return f"<section><h2>How this was measured</h2><p class=note>{_METHOD}</p><dl>{listed}</dl></section>"
