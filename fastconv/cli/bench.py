"""``fastconv bench``: every backend on a photograph and on convolution layers, checked, timed and reported."""

from __future__ import annotations

import argparse
import datetime as dt
import shlex
import time
from pathlib import Path

from fastconv.backends import named, suggestion
from fastconv.cli import environment
from fastconv.cli.cases import QUICK_LAYERS, Case, chosen_layers, filtered, layer_case, network_layers, photograph_cases
from fastconv.cli.compare import compare
from fastconv.cli.compiling import compile_ahead, compile_jobs
from fastconv.cli.console import CliError, digits, flops, say, table, thread_words
from fastconv.cli.markdown import markdown_report, totals_cells
from fastconv.cli.measure import FULL, QUICK, Effort, measure_case, steps
from fastconv.cli.oracle import reference
from fastconv.cli.peers import installed_peers
from fastconv.cli.peers.base import Peer
from fastconv.cli.pictures import Picture, write_whole
from fastconv.cli.progress import Progress
from fastconv.cli.report import html_report
from fastconv.cli.results import SHARED, CaseResult, Row, Run, geometric_mean
from fastconv.kernels.peak import measured_peak
from fastconv.settings import config, get_config
from fastconv.tuning import blas_threads

#: A look at the peak after each case; the highest value of the run counts.
PEAK_LOOK_S = 0.02
#: A case after which several cores together give less than `results.SHARED` of the highest look is measured anew, so often at
#: most, once they give it again: looks with pauses of so long, at most so many.
MOST_REPEATS = 2
PAUSE_S, MOST_PAUSES = 0.5, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fastconv bench``."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="compare BEFORE.json AFTER.json",
        help="show what changed between two runs beyond noise; 1 if anything is slower",
    )
    parser.add_argument("--quick", action="store_true", help="a small choice of cases, in less than a minute")
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME",
        help="only these: all, a group (resnet50, vgg16, mobile ...), a layer, a problem string or a .json file; "
        "'photograph' keeps the picture",
    )  # fmt: skip
    parser.add_argument(
        "--networks",
        nargs="*",
        metavar="NAME",
        help="whole networks: the time of all convolution layers, the automatic choice only (no NAME: all networks)",
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="another picture than the one that comes with fastconv")
    parser.add_argument(
        "--backend", metavar="NAME", help="only this backend or variant, such as direct or winograd:f4x3; auto: only what would be chosen"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N",
        help="threads of each call (default: the setting, normally all cores); several numbers show how well it scales",
    )  # fmt: skip
    parser.add_argument("--peers", action="store_true", help="also time the other libraries that are installed (torch, onnxruntime ...)")
    parser.add_argument(
        "--report", type=Path, default=Path("report.html"), metavar="FILE", help="where the HTML report goes (default: report.html)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the figures and raw samples go (default: beside the report, as .json)"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="where the tables go as Markdown (default: beside the report, as .md)"
    )


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Run the benchmark, or compare two runs; return 1 if a check failed or something became slower."""
    if options.words:
        if options.words[0] != "compare" or len(options.words) != 3:
            raise CliError(f"{' '.join(options.words)!r} is not understood. Example: fastconv bench compare before.json after.json.")
        return compare(Path(options.words[1]), Path(options.words[2]))
    if options.backend is not None and not named(options.backend):
        raise CliError(f"--backend {suggestion(options.backend)}")
    backend = options.backend or ("auto" if options.networks is not None else None)
    for count in options.threads or ():
        if count < 1:
            raise CliError(f"--threads must be at least 1; got {count}.")
    json_path = options.json or options.report.with_suffix(".json")
    markdown_path = options.markdown or options.report.with_suffix(".md")
    for path in (options.report, json_path, markdown_path):
        if not path.parent.is_dir():
            raise CliError(f"{path}: there is no folder {path.parent}.")
    cases = _cases(options)
    peers = installed_peers() if options.peers else []
    counts = sorted(set(options.threads or [get_config().threads]))
    found, pictures = _measured(cases, counts, backend, peers, options, words)
    write_whole(options.report, html_report(found, pictures).encode())
    write_whole(json_path, found.to_json().encode())
    write_whole(markdown_path, markdown_report(found).encode())
    _summary(found)
    say(f"{options.report}: the report; {json_path}: the figures; {markdown_path}: the tables. {digits(found.seconds, 2)} s in all.")
    return 1 if found.wrong else 0


def _cases(options: argparse.Namespace) -> list[Case]:
    """Return what is asked for; by default the photograph and all layers."""
    if options.networks is not None:
        return [layer_case(heading, layer) for heading, layer in network_layers(options.networks)]
    names = options.layers or ["photograph", *(QUICK_LAYERS if options.quick else ["all"])]
    cases = photograph_cases(options.image) if "photograph" in names or options.image else []
    return cases + [layer_case(heading, layer) for heading, layer in chosen_layers([name for name in names if name != "photograph"])]


def _measured(
    cases: list[Case], counts: list[int], backend: str | None, peers: list[Peer], options: argparse.Namespace, words: list[str]
) -> tuple[Run, dict[str, Picture]]:
    effort = QUICK if options.quick else FULL
    started = time.perf_counter()
    active = get_config()
    found = Run(
        command=shlex.join(["fastconv", *words]),
        date=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        is_quick=options.quick,
        threads=counts[-1],
        machine=environment.machine(),
        versions=environment.versions(),
        commit=environment.commit(),
        peak_looks={},
        settings={name: getattr(active, name) for name in ("accuracy", "effort", "max_workspace", "backend")},
    )
    for dtype in sorted({case.problem.dtype for case in cases}):
        for count in {1, *counts}:
            found.look(dtype, count, measured_peak(dtype, count) / 1e9)
    found.machine["bandwidths_gb_per_s"] = {str(count): environment.bandwidths(count) for count in counts}
    if options.networks is not None:
        found.networks = list(dict.fromkeys(case.title for case in cases))
    found.versions.update({peer.name: peer.version for peer in peers})
    _heading(found, cases, effort)
    pictures: dict[str, Picture] = {}
    settings = [config(threads=count) for count in counts]
    jobs = [compile_jobs(cases, each, backend, effort) for each in settings]
    total = sum(map(len, jobs)) + len(cases) + sum(steps(case, each, backend, peers) for case in cases for each in settings)
    with Progress(total) as progress:
        progress.begin("compiling kernels")
        uncompiled = [
            compile_ahead(todo, each.threads, effort.compiling_s, lambda word: progress.tick(f"compiled {word}"))
            for todo, each in zip(jobs, settings, strict=True)
        ]
        for case in cases:

            def tick(word: str, name: str = case.name) -> None:
                progress.tick(f"{name}: {word}")

            tick("scipy")
            expected = reference(case.problem, case.x, case.w, effort.scipy_s)
            for each, late in zip(settings, uncompiled, strict=True):
                for repeat in range(MOST_REPEATS + 1):
                    with each, blas_threads(each.threads):
                        result, y = measure_case(case, expected, each, backend, peers, effort, progress.begin if repeat else tick, late)
                    with_all_cores = _has_all_cores(found, case.problem.dtype, each.threads)
                    if with_all_cores or repeat == MOST_REPEATS or not _get_cores_back(found, case.problem.dtype, each.threads):
                        break
                found.cases.append(result)
                if case.filter is not None and y is not None:
                    pictures[case.name] = filtered(case, y)
                progress.say(case_table(found, result))
    found.seconds = time.perf_counter() - started
    return found, pictures


def _has_all_cores(found: Run, dtype: str, threads: int) -> bool:
    """Look at the peak; tell whether the threads have as many cores as at the best look, not half of them for the moment."""
    gflops = measured_peak(dtype, threads, seconds=PEAK_LOOK_S) / 1e9
    found.look(dtype, threads, gflops)
    return threads == 1 or gflops >= SHARED * found.peak(dtype, threads)


def _get_cores_back(found: Run, dtype: str, threads: int) -> bool:
    """Wait, not forever, until the threads have all their cores; return whether they have."""
    for _ in range(MOST_PAUSES):
        time.sleep(PAUSE_S)
        if _has_all_cores(found, dtype, threads):
            return True
    return False


def _heading(found: Run, cases: list[Case], effort: Effort) -> None:
    say(f"fastconv {found.versions['fastconv']} on {found.machine['cpu']} ({found.machine['target']}), {thread_words(found.threads)}")
    say(f"measured multiply-add peak: {', '.join(f'{digits(found.peak(dtype))} GFLOP/s in {dtype}' for dtype in found.dtypes)}")
    say(f"{len(cases)} cases; every result is checked against scipy.signal.correlate2d in float64.")
    say(f"A backend is skipped where the cost model predicts more than {digits(effort.slowest_call_s, 2)} s a call.")
    say()


def case_table(found: Run, case: CaseResult) -> str:
    """Return one case as a table, fastest first, then what was skipped or failed."""
    columns = ("", "ms", "+-", "GFLOP/s", "% peak", "error", "x scipy", "")
    ranked = sorted(case.rows, key=lambda row: row.median_s)
    rows = [_cells(found, case, row) for row in ranked if row.status == "measured"]
    rows.append(("scipy.signal", digits(case.scipy_s * 1e3), "", digits(case.flops / case.scipy_s / 1e9), "", "", "1", ""))
    lines = [
        f"{case.name}  ({case.shape}; {flops(case.flops)}, {case.dtype}, {thread_words(case.threads)})",
        table(columns, rows, left=(0, 7)),
    ]
    lines += [
        f"  {row.name}: {'skipped' if row.status == 'skipped' else 'FAILED'}: {row.remark}" for row in ranked if row.status != "measured"
    ]
    return "\n".join(lines) + "\n"


def _cells(found: Run, case: CaseResult, row: Row) -> tuple[str, ...]:
    mark = "<- auto" if row.name == case.chosen else f"({row.remark})" if row.kind == "peer" else ""
    return (
        row.name, digits(row.median_s * 1e3), digits(row.spread_s * 1e3, 2), digits(case.gflops(row)),
        f"{100 * found.peak_share(case, row):.0f}",
        "" if row.error is None else f"{row.error:.1e}", digits(case.speedup(row)), mark,
    )  # fmt: skip


def _summary(found: Run) -> None:
    for count in found.counts:
        cases = found.at(count).cases
        speedups = [case.speedup(case.choice) for case in cases if case.choice is not None]
        ratios = [case.over_best_peer for case in cases if case.over_best_peer is not None]
        if speedups:
            words = f"{thread_words(count)}: backend='auto' is {digits(geometric_mean(speedups))} times as fast as scipy.signal.correlate2d"
            if ratios:
                behind = sum(ratio < 1 for ratio in ratios)
                words += f" and {digits(geometric_mean(ratios))} times as fast as the best other library (slower than it on {behind})"
            say(f"{words}; geometric mean of {len(speedups)} cases.")
    if found.totals():
        say(totals_table(found))
    right = found.checks - len(found.wrong)
    say(f"{right} of {found.checks} results are right.")
    for case, row in found.wrong:
        say(f"  FAILED: {row.name} on {case.name}: {row.remark}")


def totals_table(found: Run) -> str:
    """Return the whole networks as a table, milliseconds for one picture."""
    columns, rows = totals_cells(found)
    return "convolution layers of whole networks, ms for one picture:\n" + table(("", *columns[1:]), rows)
