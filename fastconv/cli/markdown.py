"""The tables of a run as Markdown: for the file beside the report, README.md and the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv.cli.console import digits, flops, thread_words
from fastconv.cli.results import CaseResult, Run, geometric_mean

#: Groups of fewer cases stand together in one row, so that the table stays short.
SMALL_GROUP = 4


def markdown_report(run: Run) -> str:
    """Return the whole run: what was measured where, the means, the losses, each case."""
    parts = [f"# fastconv {run.versions['fastconv']} on {run.machine['cpu']}", place(run), summary_table(run)]
    if run.totals():
        parts += ["## Whole networks", totals_table(run)]
    if any(case.best_peer for case in run.cases):
        parts += ["## Where another library is faster", losses(run)]
    for count in run.counts:
        for title, cases in run.at(count).groups():
            parts += [f"## {title}, {thread_words(count)}", cases_table(run, cases)]
    return "\n\n".join(parts) + "\n"


def row_of(cells: Sequence[str]) -> str:
    """Return one row of a table."""
    return "| " + " | ".join(cells) + " |"


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Return a table whose first `words` columns stand left, the others right."""
    rule = "|" + "---|" * words + "--:|" * (len(columns) - words)
    return "\n".join([row_of(columns), rule, *(row_of(row) for row in rows)])


def place(run: Run) -> str:
    """Return machine, peak, command and versions in a sentence or two."""
    counts = " and ".join(str(count) for count in run.counts)
    threads = "1 thread" if run.counts == [1] else f"{counts} threads"
    peaks = ", ".join(
        f"{digits(run.peak(dtype, count))} GFLOP/s in {dtype} with {thread_words(count)}" for dtype in run.dtypes for count in run.counts
    )
    names = ", ".join(f"{name} {run.versions[name]}" for name in libraries(run) if name in run.versions)
    others = f" Others: {names}." if names else ""
    return (
        f"{run.machine['cpu']} ({run.machine['target']}), {threads}, {run.date[:10]}; `{run.command}` at {run.commit}. "
        f"Peak: {peaks}, the highest seen in {sum(map(len, run.peak_looks.values()))} looks during the run.{others}"
    )


def libraries(run: Run) -> list[str]:
    """Return the other libraries, those measured on most cases first."""
    counts: dict[str, int] = {}
    for case in run.cases:
        for row in case.measured("peer"):
            counts[row.name] = counts.get(row.name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def compared(run: Run) -> list[tuple[str, list[CaseResult]]]:
    """Return the groups with those of their cases on which the automatic choice was measured; small groups are joined."""
    groups = [(title, [case for case in cases if case.choice]) for title, cases in run.groups()]
    large = [(title, cases) for title, cases in groups if len(cases) >= SMALL_GROUP]
    rest = [case for _, cases in groups if len(cases) < SMALL_GROUP for case in cases]
    return [*large, (f"{len(rest)} other layers", rest)] if rest else large


def summary_table(run: Run) -> str:
    """Return the geometric means of each group, against the best other library per case and against scipy."""
    columns = ["geometric means", "cases", "of the peak"]
    columns += [f"over the best other library, {thread_words(count)}" for count in run.counts] + ["over scipy.signal"]
    parts = {count: dict(compared(run.at(count))) for count in run.counts}
    rows = []
    for title, cases in parts[run.threads].items():
        chosen = [(case, case.choice) for case in cases if case.choice]
        share = geometric_mean(run.peak_share(case, row) for case, row in chosen)
        scipy = geometric_mean(case.speedup(row) for case, row in chosen)
        over = [_over(parts[count].get(title, [])) for count in run.counts]
        rows.append([title, str(len(cases)), f"{100 * share:.0f} %", *over, f"{digits(scipy, 2)}x"])
    return table_of(columns, rows)


def _over(cases: Sequence[CaseResult]) -> str:
    ratios = [case.over_best_peer for case in cases if case.over_best_peer is not None]
    return f"{digits(geometric_mean(ratios), 2)}x (worst {digits(min(ratios), 2)}x)" if ratios else "-"


def losing(run: Run) -> list[CaseResult]:
    """Return the cases on which another library is faster, the worst first."""
    return sorted((case for case in run.cases if (case.over_best_peer or 1) < 1), key=lambda case: case.over_best_peer or 1)


def losses(run: Run) -> str:
    """Return every case on which another library is faster."""
    found = losing(run)
    compared_count = sum(case.over_best_peer is not None for case in run.cases)
    if not found:
        return f"On none of {compared_count} cases."
    columns = ("case", "chosen", "best other library", "threads", "ms", "its ms", "times its speed")
    rows = []
    for case in found:
        row, peer = case.choice, case.best_peer
        if row is not None and peer is not None:
            times = (digits(row.median_s * 1e3), digits(peer.median_s * 1e3), f"{case.over_best_peer:.2f}")
            rows.append((case.name, case.chosen, peer.name, str(case.threads), *times))
    return f"On {len(found)} of {compared_count} cases:\n\n" + table_of(columns, rows, words=3)


def cases_table(run: Run, cases: Sequence[CaseResult]) -> str:
    """Return the automatic choice, or the fastest that was measured, on each case beside the best other library."""
    columns = (
        "case",
        "chosen",
        "best other library",
        "ms",
        "+-",
        "GFLOP/s",
        "of the peak",
        "error",
        "over scipy",
        "its ms",
        "times its speed",
    )
    rows = []
    for case in cases:
        row, peer = case.choice or next(iter(case.measured()), None), case.best_peer
        if row is None:
            continue
        other = (digits(peer.median_s * 1e3), f"{peer.median_s / row.median_s:.2f}") if peer else ("", "")
        rows.append((
            case.name, row.name, peer.name if peer else "", digits(row.median_s * 1e3), digits(row.spread_s * 1e3, 2),
            digits(case.gflops(row)), f"{100 * run.peak_share(case, row):.0f} %", "" if row.error is None else f"{row.error:.1e}",
            f"{digits(case.speedup(row), 2)}x", *other,
        ))  # fmt: skip
    return table_of(columns, rows, words=3)


def totals_cells(run: Run) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return columns and rows: whole networks, milliseconds for one picture; empty where a library does not compute every layer."""
    names = list(dict.fromkeys(name for total in run.totals() for name in total.seconds))
    names.sort(key=lambda name: (name != "fastconv", name == "scipy.signal", name))
    rows = []
    for total in run.totals():
        times = [digits(1e3 * total.seconds[name]) if name in total.seconds else "" for name in names]
        rows.append((total.title, str(total.layers), flops(total.flops), *times))
    return (f"ms for one picture, {thread_words(run.threads)}", "layers", "flops", *names), rows


def totals_table(run: Run) -> str:
    """Return the same as Markdown."""
    return table_of(*totals_cells(run))
