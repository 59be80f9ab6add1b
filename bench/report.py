"""Write the chart and the table of README.md from a committed result file.

    python bench/report.py            docs/benchmark.json -> docs/benchmark.svg, and the marked part of README.md

The result file comes from ``fastconv bench --quick --backend auto --layers photograph all --peers --json docs/benchmark.json``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastconv.cli.charts import Mark, Scale, standalone_dot_plot
from fastconv.cli.console import digits
from fastconv.cli.results import CaseResult, Row, Run, geometric_mean

ROOT = Path(__file__).parents[1]
RESULTS, CHART, README = ROOT / "docs" / "benchmark.json", ROOT / "docs" / "benchmark.svg", ROOT / "README.md"
BEGIN, END = "<!-- begin: bench/report.py -->", "<!-- end -->"
WIDTH = 860
#: Groups of fewer cases stand together in one row, so that README.md stays short.
SMALL_GROUP = 4
#: The libraries' colours in the chart, in the order in which they appear.
COLOURS = ("p0", "p1", "p2", "p3", "p4", "p5")


def best_peer(case: CaseResult) -> Row | None:
    """Return the fastest other library, None if none was measured."""
    return next(iter(case.measured("peer")), None)


def compared(run: Run) -> list[tuple[str, list[CaseResult]]]:
    """Return the groups with those of their cases on which the automatic choice was measured; small groups are joined."""
    groups = [(title, [case for case in cases if case.choice]) for title, cases in run.groups()]
    large = [(title, cases) for title, cases in groups if len(cases) >= SMALL_GROUP]
    rest = [case for _, cases in groups if len(cases) < SMALL_GROUP for case in cases]
    return [*large, (f"{len(rest)} other layers", rest)] if rest else large


def libraries(run: Run) -> list[str]:
    """Return the other libraries, those measured on most cases first."""
    counts: dict[str, int] = {}
    for case in run.cases:
        for row in case.measured("peer"):
            counts[row.name] = counts.get(row.name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def chart(run: Run) -> str:
    """Return one row per group: throughput as a share of the peak, for fastconv, scipy and each library that does all its cases."""
    names = libraries(run)
    colours = dict(zip(names, COLOURS, strict=False))
    rows = []
    for title, cases in compared(run):
        peaks = [run.peak_gflops[case.dtype] for case in cases]
        ours = geometric_mean(run.peak_share(case, case.choice) for case in cases if case.choice)
        scipy = geometric_mean(case.flops / case.scipy_s / 1e9 / peak for case, peak in zip(cases, peaks, strict=True))
        marks = [Mark(scipy, "ps", f"scipy.signal: {100 * scipy:.2g} %", shape="cross")]
        for name, colour in colours.items():
            found = [row for case in cases for row in case.measured("peer") if row.name == name]
            if len(found) == len(cases):
                share = geometric_mean(run.peak_share(case, row) for case, row in zip(cases, found, strict=True))
                marks.append(Mark(share, colour, f"{name}: {100 * share:.2g} %", shape="square"))
        marks.append(Mark(ours, "pf", f"fastconv: {100 * ours:.2g} %", is_chosen=True))
        rows.append((title, marks))
    legend = [(Mark(1, "pf", "", is_chosen=True), "fastconv")]
    legend += [(Mark(1, colours[name], "", shape="square"), name) for name in colours]
    legend.append((Mark(1, "ps", "", shape="cross"), "scipy.signal"))
    values = [mark.value for _, marks in rows for mark in marks]
    scale = Scale(min(1e-3, *values) / 1.2, max(2.0, *values) * 1.1)
    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    heading = f"Throughput as a share of the measured multiply-add peak, {threads} (logarithmic; right is faster)"
    return standalone_dot_plot(rows, scale, legend, width=WIDTH, heading=heading)


def table(run: Run) -> str:
    """Return the Markdown table: each group against the best other library per case, and scipy."""
    lines = ["| geometric means | cases | of the peak | over the best other library | over scipy.signal |", "|---|--:|--:|--:|--:|"]
    for title, cases in compared(run):
        chosen = [(case, case.choice) for case in cases if case.choice]
        share = geometric_mean(run.peak_share(case, row) for case, row in chosen)
        pairs = [(case, row, peer) for case, row in chosen if (peer := best_peer(case))]
        over = geometric_mean(peer.median_s / row.median_s for _, row, peer in pairs)
        least = min((peer.median_s / row.median_s for _, row, peer in pairs), default=0.0)
        scipy = geometric_mean(case.speedup(row) for case, row in chosen)
        words = f"{digits(over, 2)}x (worst case {digits(least, 2)}x)" if pairs else "-"
        lines.append(f"| {title} | {len(cases)} | {100 * share:.0f} % | {words} | {digits(scipy, 2)}x |")
    names = ", ".join(f"{name} {run.versions[name]}" for name in libraries(run) if name in run.versions)
    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    peaks = ", ".join(f"{digits(value)} GFLOP/s {dtype}" for dtype, value in run.peak_gflops.items())
    place = f"{run.machine['cpu']} ({run.machine['target']}), {threads}, measured peak {peaks}"
    lines += ["", f"{place}; `{run.command}` at {run.commit}. Others: {names}."]
    lines.append("FFT and Winograd do fewer multiplications than the definition counts, so they can pass 100 %.")
    return "\n".join(lines)


def main() -> int:
    """Write both."""
    run = Run.from_json(RESULTS)
    CHART.write_text(chart(run), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(run)}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
