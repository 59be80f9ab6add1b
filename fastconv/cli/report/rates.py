"""Charts of two axes: the roofline, and error against time."""

from __future__ import annotations

from fastconv.cli.charts import Mark, Scale, legend
from fastconv.cli.console import digits, duration, thread_words
from fastconv.cli.report.cells import families, text
from fastconv.cli.results import Run
from fastconv.cli.scatter import Line, Point, scatter

#: What is slower than the fastest by more than this stands at the edge of the chart.
MOST_TIMES = 100.0


def rooflines(run: Run) -> str:
    """Return a roofline for each dtype: throughput over flops per byte, under the peak and the bandwidth of each level."""
    run = run.at(run.threads)
    found = run.machine.get("bandwidths_gb_per_s", {}).get(str(run.threads), {})
    panels = [_roofline(run, dtype, found) for dtype in run.dtypes]
    if not found or not any(panels):
        return ""
    listed = ", ".join(f"{text(level)} {digits(rate)} GB/s" for level, rate in found.items())
    return (
        f"<section><h2>Roofline</h2><p class=note>Effective GFLOP/s of the automatic choice with {thread_words(run.threads)}, over the "
        "flops of the definition per byte of source, weights and result. Flat: the measured peak. Slanted: what copies within each "
        f"level of memory allow ({listed}). Hollow marks do fewer multiplications and may pass the peak.</p>{''.join(panels)}</section>"
    )


def _roofline(run: Run, dtype: str, bandwidths: dict[str, float]) -> str:
    peak = run.peak(dtype)
    titles = [title for title, _ in run.groups()]
    points: list[Point] = []
    used: dict[str, str] = {}
    for case in run.cases:
        row = case.choice
        if row is None or case.dtype != dtype or not case.nbytes:
            continue
        colour = used.setdefault(case.title, f"c{titles.index(case.title) % 6}")
        words = f"{case.name}: {digits(case.gflops(row))} GFLOP/s, {digits(case.flops / case.nbytes, 2)} flops per byte, {row.name}"
        points.append(Point(case.flops / case.nbytes, Mark(case.gflops(row), colour, words, is_hollow=row.rounding != "elementwise")))
    if not points:
        return ""
    # Wide enough for the place where each level's slope meets the peak.
    low = min(*(point.x for point in points), peak / max(bandwidths.values()) / 2)
    high = max(*(point.x for point in points), peak / min(bandwidths.values()))
    across = Scale(low / 1.5, high * 1.5)
    rates = [point.mark.value for point in points]
    up = Scale(min(rates) / 1.5, max(*rates, peak) * 1.6)
    left, right = across.ends
    lines = []
    for level, rate in bandwidths.items():
        start, end = max(left, up.ends[0] / rate), peak / rate
        if start < end <= right:
            lines.append(Line((start, start * rate), (end, peak), level, "roof"))
    lines.append(Line((left, peak), (right, peak), "measured peak", "peak"))
    labels = [f"{tick:g}" for tick in across.ticks], [f"{tick:g}" for tick in up.ticks]
    entries = [(Mark(1, colour, ""), title) for title, colour in used.items()]
    chart = scatter(points, across, up, labels=labels, names=("flops per byte", "GFLOP/s"), lines=lines, title=f"Roofline of {dtype}")
    return f'<h3>{text(dtype)}</h3><div class="panel">{legend(entries)}{chart}</div>'


def errors_against_time(run: Run) -> str:
    """Return the error of every result over its time, as a multiple of the fastest of its case."""
    run = run.at(run.threads)
    panels = [_errors(run, dtype) for dtype in run.dtypes]
    if not any(panels):
        return ""
    return (
        f"<section><h2>Error against time</h2><p class=note>Every measured result with {thread_words(run.threads)}: its largest error as "
        "a share of the largest result, over its time as a multiple of the fastest on that case; both axes logarithmic, left and "
        f"low is best.</p>{''.join(panels)}</section>"
    )


def _errors(run: Run, dtype: str) -> str:
    colours = families(run)
    points = []
    for case in run.cases:
        rows = [row for kind in ("peer", "backend") for row in case.measured(kind) if row.error]
        least = min((row.median_s for row in rows), default=0.0)
        for row in rows if case.dtype == dtype else ():
            is_ours = row.kind == "backend"
            mark = Mark(
                row.error or 0.0, colours[row.name.partition(":")[0]] if is_ours else "cp",
                f"{case.name}, {row.name}: {duration(row.median_s)}, error {row.error:.1e}",
                shape="dot" if is_ours else "square", is_hollow=is_ours and row.rounding != "elementwise",
                is_chosen=row.name == case.chosen,
            )  # fmt: skip
            points.append(Point(min(row.median_s / least, MOST_TIMES), mark))
    if len(points) < 2:
        return ""
    across = Scale(0.9, max(*(point.x for point in points), 2.0) * 1.1)
    values = [point.mark.value for point in points]
    up = Scale(min(values) / 2, max(values) * 2)
    labels = [f"{tick:g}x" for tick in across.ticks], [f"{tick:.0e}".replace("e-0", "e-") for tick in up.ticks]
    entries = [(Mark(1, colour, ""), name) for name, colour in colours.items()]
    entries.append((Mark(1, "c4", "", is_chosen=True), "ring: the automatic choice"))
    if any(point.mark.shape == "square" for point in points):
        entries.append((Mark(1, "cp", "", shape="square"), "other libraries"))
    names = ("time, as a multiple of the fastest", "error")
    chart = scatter(points, across, up, labels=labels, names=names, title=f"Error against time, {dtype}")
    return f'<h3>{text(dtype)}</h3><div class="panel">{legend(entries)}{chart}</div>'
