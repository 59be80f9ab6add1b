"""Sections that compare: with scipy, with the best other library, one thread with several, whole networks."""

from __future__ import annotations

from fastconv.cli.charts import Mark, Scale, Track, bars, dot_plot, legend, ratio
from fastconv.cli.console import digits, duration, flops, thread_words
from fastconv.cli.report.cells import folded, row, table, text
from fastconv.cli.results import CaseResult, Run, geometric_mean


def overview(run: Run) -> str:
    """Return the mean speed-up over scipy of each group."""
    tracks, values = [], []
    for title, cases in run.at(run.threads).groups():
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
        "<section><h2>At a glance</h2><p class=note>How many times as fast as scipy.signal.correlate2d the automatic choice is with "
        f'{thread_words(run.threads)} (geometric mean, logarithmic axis).</p><div class="panel">{chart}</div></section>'
    )


def totals(run: Run) -> str:
    """Return the time of all layers of each whole network, per library."""
    sections = []
    for total in run.totals():
        least, most = min(total.seconds.values()), max(total.seconds.values())
        tracks = [
            Track(name, duration(seconds), (Mark(1e3 * seconds, "c0" if name == "fastconv" else "cp", f"{name}: {duration(seconds)}"),))
            for name, seconds in total.seconds.items()
        ]
        chart = bars(tracks, Scale(1e3 * least / 2, 1e3 * most * 1.5), unit=" ms", title=f"{total.title}: time of all convolution layers")
        sections.append(
            f'<h3>{text(total.title)}</h3><p class=note>{total.layers} layers, {flops(total.flops)}</p><div class="panel">{chart}</div>'
        )
    if not sections:
        return ""
    return (
        f"<section><h2>Whole networks</h2><p class=note>All convolution layers for one picture with {thread_words(run.threads)}, each as "
        "often as it occurs; less is better, logarithmic axis. A library is missing where it does not compute every layer."
        f"</p>{''.join(sections)}</section>"
    )


def against_peers(run: Run) -> str:
    """Return the speed-up over the best other library, case by case; losses are red."""
    sections = []
    for count in run.counts:
        cases = [case for case in run.at(count).cases if case.over_best_peer]
        if not cases:
            continue
        ratios = [case.over_best_peer or 1.0 for case in cases]
        behind = sum(value < 1 for value in ratios)
        scale = Scale(min(0.5, *ratios) / 1.1, max(2.0, *ratios) * 1.1)
        chart = dot_plot(
            [_against(case) for case in cases], scale, [f"{tick:g}x" for tick in scale.ticks], (1.0, "best other library"),
            title=f"Speed-up over the best other library with {thread_words(count)}",
        )  # fmt: skip
        words = f"{thread_words(count)}: {ratio(geometric_mean(ratios))} in the geometric mean, slower on {behind} of {len(cases)} cases"
        panel = f"{chart}"
        sections.append(f'<p class=note>{words}.</p><div class="panel">{panel}</div>' if count == run.threads else folded(words, panel))
    if not sections:
        return ""
    entries = [(Mark(1, "c0", "", is_chosen=True), "fastconv, the automatic choice"), (Mark(1, "lost", "", is_chosen=True), "slower")]
    return (
        "<section><h2>Against the best other library</h2><p class=note>For each case, the time of the fastest other library by that of "
        f"the automatic choice (logarithmic; further right is better); every loss is shown.</p>{legend(entries)}"
        f"{''.join(reversed(sections))}</section>"
    )


def _against(case: CaseResult) -> Track:
    over, peer, ours = case.over_best_peer or 1.0, case.best_peer, case.choice
    if peer is None or ours is None:
        raise ValueError(f"{case.name} has nothing to compare")
    words = f"{ours.name} {duration(ours.median_s)}, {peer.name} {duration(peer.median_s)}"
    return Track(case.name, f"{over:.2f}x {peer.name}", (Mark(over, "c0" if over >= 1 else "lost", words, is_chosen=True),))


def scaling(run: Run) -> str:
    """Return how much faster each case is with all threads of the run than with the fewest."""
    few, many = run.counts[0], run.counts[-1]
    if few == many:
        return ""
    tracks, rows, values = [], [], []
    for before, after in run.pairs(few, many):
        marks = []
        for kind, later in [("c0", after.choice), *(("cp", peer) for peer in after.measured("peer"))]:
            earlier = later and next((one for one in before.rows if one.name == later.name and one.status == "measured"), None)
            if later is None or earlier is None:
                continue
            gain = earlier.median_s / later.median_s
            marks.append(Mark(gain, kind, f"{later.name}: {gain:.2f}x", shape="dot" if kind == "c0" else "square", is_chosen=kind == "c0"))
            rows.append(row(after.name, later.name, digits(earlier.median_s * 1e3), digits(later.median_s * 1e3), f"{gain:.2f}"))
            if kind == "c0":
                values.append(gain)
        if marks:
            right = f"{marks[0].value:.2f}x" if marks[0].is_chosen else ""
            tracks.append(Track(after.name, right, tuple(marks)))
    if not tracks:
        return ""
    ideal = many / few
    shown = [mark.value for track in tracks for mark in track.marks]
    scale = Scale(max(min([0.8, *shown]) / 1.05, 0.3), max(ideal, *shown) * 1.15)
    chart = dot_plot(
        tracks, scale, [f"{tick:g}x" for tick in scale.ticks], (ideal, f"{ideal:g}x"), title=f"Speed-up from {few} to {many} threads"
    )
    entries = [
        (Mark(1, "c0", "", is_chosen=True), "fastconv, the automatic choice"),
        (Mark(1, "cp", "", shape="square"), "other libraries"),
    ]
    times = [(f"ms, {thread_words(count)}", "number") for count in (few, many)]
    columns = [("case", "word"), ("", "word"), *times, ("x", "number")]
    mean = f" {ratio(geometric_mean(values))} in the geometric mean." if values else ""
    return (
        f"<section><h2>From {thread_words(few)} to {many}</h2><p class=note>How many times as fast with {thread_words(many)} as with "
        f'{few}.{mean}</p><div class="panel">{legend(entries)}{chart}</div>{folded("All figures", table(columns, rows))}</section>'
    )
