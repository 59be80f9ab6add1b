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
from fastconv.cli.console import CliError, digits, flops, say, table
from fastconv.cli.measure import FULL, QUICK, Effort, measure_case, steps
from fastconv.cli.peers import Peer, installed_peers
from fastconv.cli.pictures import Picture, write_whole
from fastconv.cli.progress import Progress
from fastconv.cli.report import html_report
from fastconv.cli.results import CaseResult, Row, Run, geometric_mean
from fastconv.kernels.peak import measured_peak
from fastconv.settings import Config, config
from fastconv.tuning import blas_threads

#: A look at the peak after each case; the highest value of the run counts.
PEAK_LOOK_S = 0.02


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
    parser.add_argument("--threads", type=int, metavar="N", help="threads of each call (default: the setting, normally all cores)")
    parser.add_argument("--peers", action="store_true", help="also time the other libraries that are installed (torch, onnxruntime ...)")
    parser.add_argument(
        "--report", type=Path, default=Path("report.html"), metavar="FILE", help="where the HTML report goes (default: report.html)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the figures and raw samples go (default: beside the report, as .json)"
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
    if options.threads is not None and options.threads < 1:
        raise CliError(f"--threads must be at least 1; got {options.threads}.")
    json_path = options.json or options.report.with_suffix(".json")
    for path in (options.report, json_path):
        if not path.parent.is_dir():
            raise CliError(f"{path}: there is no folder {path.parent}.")
    cases = _cases(options)
    peers = installed_peers() if options.peers else []
    settings = {} if options.threads is None else {"threads": options.threads}
    with config(**settings) as active, blas_threads(active.threads):
        found, pictures = _measured(cases, active, backend, peers, options, words)
    write_whole(options.report, html_report(found, pictures).encode())
    write_whole(json_path, found.to_json().encode())
    _summary(found, options.report, json_path)
    return 1 if found.wrong else 0


def _cases(options: argparse.Namespace) -> list[Case]:
    """Return what is asked for; by default the photograph and all layers."""
    if options.networks is not None:
        return [layer_case(heading, layer) for heading, layer in network_layers(options.networks)]
    names = options.layers or ["photograph", *(QUICK_LAYERS if options.quick else ["all"])]
    cases = photograph_cases(options.image) if "photograph" in names or options.image else []
    return cases + [layer_case(heading, layer) for heading, layer in chosen_layers([name for name in names if name != "photograph"])]


def _measured(
    cases: list[Case], active: Config, backend: str | None, peers: list[Peer], options: argparse.Namespace, words: list[str]
) -> tuple[Run, dict[str, Picture]]:
    effort = QUICK if options.quick else FULL
    started = time.perf_counter()
    dtypes = sorted({case.problem.dtype for case in cases})
    found = Run(
        command=shlex.join(["fastconv", *words]),
        date=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        is_quick=options.quick,
        threads=active.threads,
        machine=environment.machine(),
        versions=environment.versions(),
        commit=environment.commit(),
        peak_gflops={dtype: measured_peak(dtype, active.threads) / 1e9 for dtype in dtypes},
        core_peak_gflops={dtype: measured_peak(dtype) / 1e9 for dtype in dtypes},
        settings={name: getattr(active, name) for name in ("accuracy", "effort", "max_workspace", "backend")},
    )
    if options.networks is not None:
        found.networks = list(dict.fromkeys(case.title for case in cases))
    found.versions.update({peer.name: peer.version for peer in peers})
    _heading(found, cases, effort)
    pictures: dict[str, Picture] = {}
    jobs = compile_jobs(cases, active, backend, effort)
    with Progress(len(jobs) + sum(steps(case, active, backend, peers) for case in cases)) as progress:
        progress.begin("compiling kernels")
        uncompiled = compile_ahead(jobs, active.threads, effort.compiling_s, lambda word: progress.tick(f"compiled {word}"))
        for case in cases:

            def tick(word: str, name: str = case.name) -> None:
                progress.tick(f"{name}: {word}")

            result, y = measure_case(case, active, backend, peers, effort, tick, uncompiled)
            dtype = case.problem.dtype
            found.peak_gflops[dtype] = max(found.peak_gflops[dtype], measured_peak(dtype, active.threads, seconds=PEAK_LOOK_S) / 1e9)
            found.cases.append(result)
            if case.filter is not None and y is not None:
                pictures[case.name] = filtered(case, y)
            progress.say(case_table(found, result))
    found.seconds = time.perf_counter() - started
    return found, pictures


def _heading(found: Run, cases: list[Case], effort: Effort) -> None:
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    peaks = ", ".join(f"{digits(value)} GFLOP/s in {dtype}" for dtype, value in found.peak_gflops.items())
    say(f"fastconv {found.versions['fastconv']} on {found.machine['cpu']} ({found.machine['target']}), {threads}")
    say(f"measured multiply-add peak: {peaks}")
    say(f"{len(cases)} cases; every result is checked against scipy.signal.correlate2d in float64.")
    say(f"A backend is skipped where the cost model predicts more than {digits(effort.slowest_call_s, 2)} s a call.")
    say()


def case_table(found: Run, case: CaseResult) -> str:
    """Return one case as a table, fastest first, then what was skipped or failed."""
    columns = ("", "ms", "+-", "GFLOP/s", "% peak", "error", "x scipy", "")
    ranked = sorted(case.rows, key=lambda row: row.median_s)
    rows = [_cells(found, case, row) for row in ranked if row.status == "measured"]
    rows.append(("scipy.signal", digits(case.scipy_s * 1e3), "", digits(case.flops / case.scipy_s / 1e9), "", "", "1", ""))
    lines = [f"{case.name}  ({case.shape}; {flops(case.flops)}, {case.dtype})", table(columns, rows, left=(0, 7))]
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


def _summary(found: Run, report: Path, json_path: Path) -> None:
    speedups = [case.speedup(case.choice) for case in found.cases if case.choice is not None]
    if speedups:
        mean = f"{digits(geometric_mean(speedups))} times as fast as scipy.signal.correlate2d"
        say(f"backend='auto' is {mean} (geometric mean of {len(speedups)} cases).")
    if found.totals():
        say(totals_table(found))
    right = found.checks - len(found.wrong)
    say(f"{right} of {found.checks} results are right.")
    for case, row in found.wrong:
        say(f"  FAILED: {row.name} on {case.name}: {row.remark}")
    say(f"{report}: the report; {json_path}: the figures. {digits(found.seconds, 2)} s in all.")


def totals_table(found: Run) -> str:
    """Return the whole networks as a table, milliseconds for one picture."""
    names = list(dict.fromkeys(name for total in found.totals() for name in total.seconds))
    names.sort(key=lambda name: (name != "fastconv", name))
    rows = [
        (
            total.title,
            str(total.layers),
            flops(total.flops),
            *(digits(1e3 * total.seconds[name]) if name in total.seconds else "" for name in names),
        )
        for total in found.totals()
    ]
    return "convolution layers of whole networks, ms for one picture:\n" + table(("", "layers", "", *names), rows)
