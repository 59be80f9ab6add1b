"""Write README.md's chart and table, and the performance page of the documentation, from committed result files.

    python bench/report.py

docs/benchmark.json and docs/networks.json -> docs/benchmark.svg, docs/speedup.svg, docs/performance.md, and the marked part of README.md.
`make figures` measures anew and then does this.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastconv.cli.charts import Mark, Scale, standalone_dot_plot
from fastconv.cli.console import digits, thread_words
from fastconv.cli.markdown import cases_table, compared, libraries, losing, losses, place, summary_table, table_of, totals_table
from fastconv.cli.results import SHARED, Run, geometric_mean

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
RESULTS, NETWORKS = DOCS / "benchmark.json", DOCS / "networks.json"
CHART, SPEEDUP, PAGE = DOCS / "benchmark.svg", DOCS / "speedup.svg", DOCS / "performance.md"
BEGIN, END = "<!-- begin: bench/report.py -->", "<!-- end -->"
WIDTH = 860
#: The libraries' colours in the chart, in the order in which they appear; those after them are in the tables only.
COLOURS = ("p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7")
#: Losses that README.md names; all of them are on the performance page.
NAMED_LOSSES = 8
METHOD = """Each call takes a NumPy array (NCHW) and returns one; weights are prepared outside the timing where the library can. All
candidates of a case run in one process and take turns in five rounds, with the same waking calls, each after the threads of the one
before have stopped spinning. Times are medians. GFLOP/s count the multiplications and additions of the definition. One thread of JAX
takes up to 1.7 cores, as its pool belongs to the process: those figures are better than one core's.

The clock of a machine drifts, so the multiply-add peak is measured again after each case. A share of the peak is a share of the
*highest* peak that was seen: a case that ran while the clock was low shows less than it deserves, never more."""
FEWER = "FFT and Winograd do fewer multiplications than the definition counts, so they can pass 100 %."


def chart(run: Run) -> str:
    """Return one row per group: throughput as a share of the peak, for fastconv, scipy and each library that does all its cases."""
    run = run.at(run.threads)
    colours = dict(zip(libraries(run), COLOURS, strict=False))
    rows, shown = [], set()
    for title, cases in compared(run):
        ours = geometric_mean(run.peak_share(case, case.choice) for case in cases if case.choice)
        scipy = geometric_mean(run.scipy_share(case) for case in cases)
        marks = [Mark(scipy, "ps", f"scipy.signal: {100 * scipy:.2g} %", shape="cross")]
        for name, colour in colours.items():
            found = [row for case in cases for row in case.measured("peer") if row.name == name]
            if len(found) == len(cases):
                share = geometric_mean(run.peak_share(case, row) for case, row in zip(cases, found, strict=True))
                marks.append(Mark(share, colour, f"{name}: {100 * share:.2g} %", shape="square"))
                shown.add(name)
        marks.append(Mark(ours, "pf", f"fastconv: {100 * ours:.2g} %", is_chosen=True))
        rows.append((title, marks))
    legend = [(Mark(1, "pf", "", is_chosen=True), "fastconv")]
    legend += [(Mark(1, colours[name], "", shape="square"), name) for name in colours if name in shown]
    legend.append((Mark(1, "ps", "", shape="cross"), "scipy.signal"))
    values = [mark.value for _, marks in rows for mark in marks]
    scale = Scale(min(1e-3, *values) / 1.2, max(2.0, *values) * 1.1)
    heading = f"Throughput as a share of the measured multiply-add peak, {thread_words(run.threads)} (logarithmic; right is faster)"
    labels = [f"{100 * tick:g} %" for tick in scale.ticks]
    return standalone_dot_plot(rows, scale, legend, labels, "peak", width=WIDTH, heading=heading)


def speedup(run: Run) -> str:
    """Return one row per case: the time of the best other library by fastconv's, for each number of threads."""
    looks = dict(zip(run.counts, ("p3", "pf") if len(run.counts) > 1 else ("pf",), strict=False))
    rows: dict[str, list[Mark]] = {}
    for case in run.cases:
        over, peer = case.over_best_peer, case.best_peer
        if over is not None and peer is not None and case.threads in looks:
            words = f"{case.name}, {thread_words(case.threads)}: {over:.2f}x {peer.name}"
            rows.setdefault(case.name, []).append(Mark(over, looks[case.threads], words))
    values = [mark.value for marks in rows.values() for mark in marks]
    scale = Scale(min(0.5, *values) / 1.1, max(2.0, *values) * 1.1)
    legend = [(Mark(1, look, ""), thread_words(count)) for count, look in looks.items()]
    heading = "Times as fast as the best other library, case by case (logarithmic; right is faster)"
    labels = [f"{tick:g}x" for tick in scale.ticks]
    return standalone_dot_plot(list(rows.items()), scale, legend, labels, "best other library", width=WIDTH, heading=heading)


def loss_words(run: Run) -> str:
    """Return in one sentence where another library is faster with all threads, the worst first."""
    part = run.at(run.threads)
    found = losing(part)
    count = sum(case.over_best_peer is not None for case in part.cases)
    named = ", ".join(f"{case.name} {case.over_best_peer:.2f}x" for case in found[:NAMED_LOSSES])
    more = f" and {len(found) - NAMED_LOSSES} more" if len(found) > NAMED_LOSSES else ""
    if not found:
        return f"With {thread_words(run.threads)} no other library is faster on any of {count} cases."
    return f"Slower than the best other library on {len(found)} of {count} cases with {thread_words(run.threads)}: {named}{more}."


def network_words(networks: Run | None) -> str:
    """Return in one paragraph the times of the whole networks beside the best other library's."""
    found = []
    for total in networks.totals() if networks is not None else ():
        others = [(seconds, name) for name, seconds in total.seconds.items() if name not in {"fastconv", "scipy.signal"}]
        if others and "fastconv" in total.seconds:
            seconds, name = min(others)
            found.append(f"{total.title} {digits(1e3 * total.seconds['fastconv'])} ms ({name} {digits(1e3 * seconds)})")
    if not found or networks is None:
        return ""
    words = f"All convolution layers of a network for one picture with {thread_words(networks.threads)}, beside the best other library: "
    return f"{words}{', '.join(found)}.\n\n"


def readme_part(run: Run, networks: Run | None) -> str:
    """Return what stands between the marks of README.md."""
    losses_here = f"{loss_words(run)} [Every case](docs/performance.md). {FEWER}"
    return f"{summary_table(run)}\n\n{losses_here}\n\n{network_words(networks)}{place(run)}"


def drift_table(run: Run) -> str:
    """Return how the measured peak moved during the run."""
    rows = []
    for key, looks in run.peak_looks.items():
        dtype, _, count = key.partition(", ")
        ordered = sorted(looks)
        rows.append((dtype, count, str(len(looks)), digits(ordered[-1]), digits(ordered[len(looks) // 2]), digits(ordered[0])))
    return table_of(("dtype", "threads", "looks", "highest GFLOP/s", "middle", "lowest"), rows)


def drift_words(run: Run) -> str:
    """Return how often all threads together were no faster than half of them, if they ever were."""
    found = []
    for key, looks in run.peak_looks.items():
        dtype, _, count = key.partition(", ")
        slow = sum(look < SHARED * max(looks) for look in looks)
        if int(count) > 1 and slow:
            found.append(f"{slow} of {len(looks)} in {dtype}")
    if not found:
        return ""
    words = f"In some looks with several threads ({', '.join(found)}) the cores together gave less than {SHARED:g} of the highest, "
    return f"{words}as cores do that the host of a virtual machine has put on one; a case after which it was so was measured anew.\n\n"


def bandwidth_table(run: Run) -> str:
    """Return the measured copies per level of memory."""
    found = run.machine.get("bandwidths_gb_per_s", {})
    levels = list(dict.fromkeys(level for rates in found.values() for level in rates))
    rows = [(level, *(digits(rates[level]) for rates in found.values())) for level in levels]
    return table_of(("copy within", *(f"GB/s, {thread_words(int(count))}" for count in found)), rows)


def page(run: Run, networks: Run | None) -> str:
    """Return the performance page."""
    parts = [
        "# Performance\n\n<!-- written by bench/report.py from docs/benchmark.json and docs/networks.json: do not edit -->",
        f"{place(run)}\n\n`make figures` measures all of this anew and writes this page; the raw samples are in `docs/benchmark.json`.",
        f"## By group\n\n{summary_table(run)}\n\n{FEWER}",
        "![Throughput of fastconv and other libraries as a share of this machine's peak](benchmark.svg)",
        f"## Where another library is faster\n\n{losses(run)}",
        "![How many times as fast as the best other library, case by case](speedup.svg)",
    ]
    if networks is not None:
        parts.append(
            "## Whole networks\n\nThe convolution layers of a network for one picture, each as often as it occurs. A library is missing "
            f"where it does not compute every layer.\n\n{totals_table(networks)}\n\n{place(networks)}"
        )
    parts.append(f"## How it was measured\n\n{METHOD}\n\n{drift_words(run)}{drift_table(run)}")
    if run.machine.get("bandwidths_gb_per_s"):
        parts.append(bandwidth_table(run))
    parts.append("## Every case")
    for count in reversed(run.counts):
        for title, cases in run.at(count).groups():
            parts.append(f"### {title}, {thread_words(count)}\n\n:::{{container}} wide\n{cases_table(run, cases)}\n:::")
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write all of them."""
    run = Run.from_json(RESULTS)
    networks = Run.from_json(NETWORKS) if NETWORKS.exists() else None
    CHART.write_text(chart(run), encoding="utf-8")
    SPEEDUP.write_text(speedup(run), encoding="utf-8")
    PAGE.write_text(page(run, networks), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{readme_part(run, networks)}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
