"""The direct kernels on the layers of bench/layers, against the other libraries: one run, alternating. Prints a Markdown table.

    python bench/direct_layers.py [--threads 1 2] [--layers WORD ...] [--problems STRING ...] [--dense] [--dtype float64]
                                  [--rounds 6] [--alone]
    python bench/direct_layers.py --nhwc [...]         the same layers on channels-last arrays, against NCHW
    python bench/direct_layers.py --complex [...]      ... in complex64, as a share of four real products at the peak, against
                                                       the other direct variants
    python bench/direct_layers.py --model [--nhwc ...] predicted / measured time, with this machine's rates measured first, and
                                                       the shares of the prediction: what the constants of ``work`` are fitted to

Times are the best and the median of all calls in milliseconds, weights prepared, NumPy arrays in, result into the same
array each time. The peak is measured between the calls, so a clock that drifts meets both. "best other" is the fastest of
the libraries by its best time; ratios are theirs / ours, of the best times and of the medians. ``--dense`` takes
direct:dense on every layer without depthwise or grouped channels, else the direct variant that the model prefers runs.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm
from fastconv.backends.direct import ALGORITHMS
from fastconv.calibration import measured_rates
from fastconv.cli.cases import Case, builtin_layers, layer_case
from fastconv.cli.peers import installed_peers
from fastconv.cost import predicted_s
from fastconv.kernels.peak import measured_peak
from fastconv.machine import Machine, machine_with, nominal_machine
from fastconv.problem import ConvProblem

RIVALS = ("onnxruntime", "torch", "ncnn")
#: Time for the calls of one contender in one round, and the pause before it: other libraries' threads spin for a while.
TURN_S, PAUSE_S = 0.04, 0.03


@dataclass
class Times:
    """All times of one contender."""

    seconds: list[float]

    @property
    def best(self) -> float:
        """The shortest, in seconds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return float(np.median(self.seconds))


def alternate(calls: dict[str, Callable[[], object]], rounds: int, dtype: str, threads: int) -> tuple[dict[str, Times], float]:
    """Return the times of all calls, taken in turns, and the best multiply-add peak measured between them."""
    found, peak = {name: Times([]) for name in calls}, 0.0
    for _ in range(rounds):
        peak = max(peak, measured_peak(dtype, threads, seconds=TURN_S))
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            call()
            end = time.perf_counter() + TURN_S
            while True:
                start = time.perf_counter()
                call()
                now = time.perf_counter()
                found[name].seconds.append(now - start)
                if now >= end:
                    break
    return found, peak


def algorithm_for(problem: ConvProblem, threads: int, *, dense: bool) -> Algorithm | None:
    """Return the direct variant to run, None if the layer is not asked for."""
    fitting = [a for a in ALGORITHMS if a.why_not(problem) is None and a.name != "direct:loops"]
    if dense:
        fitting = [a for a in fitting if a.name == "direct:dense" and problem.g == 1 and max(problem.ic, problem.oc) > 1]
    machine = nominal_machine()
    return min(fitting, key=lambda a: predicted_s(a.work(problem, machine), problem, machine, threads, is_prepared=True), default=None)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the layers asked for, in the dtype asked for, and the problems asked for."""
    for text in options.problems:
        p = ConvProblem.parse(text)
        rng = np.random.default_rng(0)
        yield Case(text, "", "", p, *(rng.standard_normal(shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape)))
    for heading, layers in builtin_layers().values():
        for layer in layers:
            if any(word in layer.name for word in options.layers):
                case = layer_case(heading, layer)
                if options.dtype is not None and case.problem.dtype == "float32":
                    p = case.problem.replace(dtype=options.dtype)
                    case = Case(case.name, case.group, case.title, p, case.x.astype(options.dtype), case.w.astype(options.dtype))
                yield case


def call_of(algorithm: Algorithm, problem: ConvProblem, x: Array, w: Array, threads: int) -> Callable[[], object]:
    """Return a call of a plan on `x`, into an array of the same memory order."""
    plan = algorithm.make_plan(problem, w, threads=threads)
    out = np.empty(problem.out_shape, problem.dtype)
    if problem.channels_last:
        out = np.empty((problem.mb, problem.oh, problem.ow, problem.oc), problem.dtype).transpose(0, 3, 1, 2)
    return lambda: plan(x, out=out)


def against_peers(case: Case, algorithm: Algorithm, threads: int, options: argparse.Namespace) -> list[str]:
    """Return the cells of a row: our times, share of the peak, the other libraries' times, ratios."""
    p = case.problem
    calls = {"ours": call_of(algorithm, p, case.x, case.w, threads)}
    for peer in [] if options.alone else installed_peers():
        call = peer.prepare(p, case.x, case.w, threads) if peer.name in RIVALS else None
        if call is not None:
            calls[peer.name] = call
    times, peak = alternate(calls, options.rounds, p.dtype, threads)
    ours = times.pop("ours")
    cells = [algorithm.name, f"{ours.best * 1e3:.3f}", f"{ours.median * 1e3:.3f}", f"{p.flops / ours.best / peak:.0%}"]
    if times:
        other = min(times, key=lambda name: times[name].best)
        medians = min(t.median for t in times.values()) / ours.median
        cells += [other, f"{times[other].best * 1e3:.3f}", f"{times[other].best / ours.best:.2f}", f"{medians:.2f}"]
    return cells


def against_nchw(case: Case, algorithm: Algorithm, threads: int, options: argparse.Namespace) -> list[str]:
    """Return the cells of a row: variants and times on arrays in NCHW and NHWC order, and the latter over the former."""
    p = case.problem.replace(channels_last=True)
    turned = np.ascontiguousarray(case.x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    last = algorithm_for(p, threads, dense=options.dense) or algorithm
    calls = {
        "NCHW": call_of(algorithm, case.problem, case.x, case.w, threads),
        "NHWC": call_of(last, p, turned, case.w, threads),
    }
    times, _ = alternate(calls, options.rounds, p.dtype, threads)
    variants = algorithm.name if last.name == algorithm.name else f"{algorithm.name}, {last.name}"
    return [variants, *(f"{times[name].best * 1e3:.3f}" for name in calls), f"{times['NHWC'].best / times['NCHW'].best:.2f}"]


def in_complex(case: Case, algorithm: Algorithm, threads: int, options: argparse.Namespace) -> list[str]:
    """Return the cells of a row: times in complex64, share of the peak, the plan's workspace, the other variants' times."""
    p = case.problem.replace(dtype="complex64")
    x, w = ((array + 1j * np.flip(array)).astype(p.dtype) for array in (case.x, case.w))
    rows = [algorithm, *(row for row in ALGORITHMS if row.name != algorithm.name and row.why_not(p) is None)]
    times, peak = alternate({row.name: call_of(row, p, x, w, threads) for row in rows}, options.rounds, "float32", threads)
    workspace = algorithm.workspace_nbytes(p, threads, None) or 0
    best = times.pop(algorithm.name).best
    others = ", ".join(f"{name} {t.best * 1e3:.3f}" for name, t in times.items())
    sizes = f"{workspace / 2**10:.0f}", f"{p.x_nbytes / 2**10:.0f}"
    return [algorithm.name, f"{best * 1e3:.3f}", f"{p.flops / best / peak:.0%}", *sizes, others]


def against_model(case: Case, algorithm: Algorithm, threads: int, options: argparse.Namespace) -> list[str]:
    """Return the cells of a row: time, predicted time over it, and what arithmetic, traffic and calls have of the prediction."""
    p, machine, x = case.problem, measured_machine(), case.x
    if options.nhwc:
        p, x = p.replace(channels_last=True), np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        algorithm = algorithm_for(p, threads, dense=options.dense) or algorithm
    times, _ = alternate({"ours": call_of(algorithm, p, x, case.w, threads)}, options.rounds, p.dtype, threads)
    work, best = algorithm.work(p, machine), times["ours"].best
    predicted = predicted_s(work, p, machine, threads, is_prepared=True)
    parts = (replace(work, nbytes=0, streamed_nbytes=0, calls=0), replace(work, flops=0, calls=0), replace(work, flops=0, nbytes=0))
    shares = [f"{predicted_s(part, p, machine, threads, is_prepared=True) / predicted:.0%}" for part in parts]
    return [algorithm.name, f"{best * 1e3:.3f}", f"{predicted / best:.2f}", *shares]


@functools.cache
def measured_machine() -> Machine:
    """Return this machine with its rates as they are now."""
    return machine_with(measured_rates())


def main() -> None:
    """Print one table per number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--layers", nargs="+", default=[""])
    parser.add_argument("--problems", nargs="+", default=[], help="problem strings, computed before the layers")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--alone", action="store_true", help="without the other libraries")
    parser.add_argument("--nhwc", action="store_true")
    parser.add_argument("--complex", action="store_true")
    parser.add_argument("--model", action="store_true")
    options = parser.parse_args()
    row, columns = (
        against_peers,
        ["variant", "best", "median", "of peak", *([] if options.alone else ["other", "best", "ratio", "of medians"])],
    )
    if options.nhwc and not options.model:
        row, columns = against_nchw, ["variant", "NCHW", "NHWC", "NHWC / NCHW"]
    elif options.complex:
        row, columns = in_complex, ["variant", "best", "of peak", "workspace KiB", "x KiB", "other variants"]
    elif options.model:
        row, columns = against_model, ["variant", "best", "predicted / best", "arithmetic", "traffic", "calls"]
    for threads in options.threads:
        print(f"\n{threads} thread{'s' * (threads > 1)}, ms\n\n| layer | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
        ratios = []
        for case in cases(options):
            p = case.problem.replace(dtype="complex64") if options.complex else case.problem
            algorithm = algorithm_for(p, threads, dense=options.dense)
            if algorithm is not None:
                cells = row(case, algorithm, threads, options)
                print(f"| {case.name} | {' | '.join(cells)} |", flush=True)
                if "ratio" in columns and len(cells) == len(columns):
                    ratios.append(float(cells[columns.index("ratio")]))
        if ratios:
            print(f"\ngeometric mean of the ratios {np.exp(np.log(ratios).mean()):.3f}, least {min(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
