"""Regret of the automatic choice: time of what is chosen / time of the best that is allowed.

    python bench/regret.py --compile [WHAT]              compile the candidates' kernels, so that measuring does not
    python bench/regret.py --json TIMES [WHAT]           measure the candidates, and judge the choice
    python bench/regret.py --judge TIMES ... [WHAT]      judge the choice against times measured before

WHAT is ``--layers WORDS ...`` (of bench/layers, default all) or ``--random COUNT [--seed S]`` (drawn as `random_problem`
says), ``--part I/N`` of it, and ``--threads N``. Weights are packed before. Without ``--wisdom FILE`` the choice is
the cost model's alone, with this machine's rates as measured at the first use; with it, that file decides
(``fastconv tune --wisdom FILE`` fills it, or ``--learn`` here). The judgement also shows the model's errors:
predicted / measured time by algorithm, which is what the constants of the backends' ``work`` were adjusted to.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fastconv import config
from fastconv.cli.cases import chosen_layers, problem_of
from fastconv.errors import FastconvError
from fastconv.planner import decide
from fastconv.problem import ConvProblem
from fastconv.settings import Config
from fastconv.tuning import EFFORTS, core_problem, learn, measure

Row = dict[str, Any]


def random_problem(rng: np.random.Generator) -> ConvProblem:
    """Return a problem of the stated distribution.

    Kinds: dense 60 %, depthwise 20 %, one channel 20 %. Kernel 1, 3, 5, 7, 11 or 31 with weights 6, 8, 3, 2, 1, 1; stride 1
    (3 in 4) or 2; size log-uniform in 7..256 (one channel: 64..1024); channels log-uniform in 4..512, as multiples of
    4; float32 (4 in 5) or float64; padding "same"; below 3 GFLOP, drawn again otherwise.
    """
    while True:
        kind = rng.choice(["dense", "depthwise", "image"], p=[0.6, 0.2, 0.2])
        k = int(rng.choice([1, 3, 5, 7, 11, 31], p=np.array([6, 8, 3, 2, 1, 1]) / 21))
        s = int(rng.choice([1, 1, 1, 2]))
        low, high = (64, 1024) if kind == "image" else (7, 256)
        n = int(np.exp(rng.uniform(np.log(low), np.log(high))))
        channels = [4 * max(1, round(float(np.exp(rng.uniform(0, np.log(128)))))) for _ in range(2)]
        ic, oc = (1, 1) if kind == "image" else (channels[0], channels[0] if kind == "depthwise" else channels[1])
        dtype = str(rng.choice(["float32"] * 4 + ["float64"]))
        try:
            p = ConvProblem(ic if kind == "depthwise" else 1, 1, ic, n, n, oc, k, k, s, s, k // 2, k // 2, k // 2, k // 2, dtype=dtype)
        except FastconvError:
            continue
        if p.flops < 3e9:
            return p


def judged(row: Row, settings: Config) -> Row:
    """Hold the choice for the problem of `row` against its measured times."""
    problem = problem_of(row["problem"])
    decision = decide(problem, settings, is_prepared=True)
    allowed = {algorithm.name for algorithm in decision.ranked}
    possible = {name: value for name, value in row["seconds"].items() if name in allowed}
    best = min(possible, key=lambda name: possible[name])
    chosen = decision.algorithm.name
    if chosen not in possible:
        raise SystemExit(f"{row['name']}: {chosen} is chosen but was not measured; measure anew.")
    predicted = {c.algorithm.name: c.predicted_s for c in decision.candidates if c.algorithm.name in row["seconds"]}
    return {
        **row,
        "chosen": chosen,
        "by": decision.source,
        "best": best,
        "regret": possible[chosen] / possible[best],
        "predicted": predicted,
    }


def show(rows: list[Row], threads: int) -> None:
    """Print the rows of a regret, the quantiles and the model's errors."""
    for row in sorted(rows, key=lambda row: row["regret"]):
        times = sorted(row["seconds"].items(), key=lambda item: item[1])[:4]
        words = "  ".join(f"{name} {1e3 * value:.3f} ({1e3 * row['predicted'][name]:.3f})" for name, value in times)
        sys.stdout.write(f"{row['name']:28s} {row['regret']:6.3f}  chosen {row['chosen']:18s} {words}\n")
    errors = defaultdict(list)
    for row in rows:
        for name, seconds in row["seconds"].items():
            if seconds < 3 * min(row["seconds"].values()):
                errors[name].append(row["predicted"][name] / seconds)
    sys.stdout.write("predicted / measured, of algorithms within 3 times the best: 10th percentile, median, 90th percentile, count\n")
    for name, ratios in sorted(errors.items()):
        low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9))
        sys.stdout.write(f"  {name:20s} {low:6.2f} {middle:6.2f} {high:6.2f} {len(ratios):4d}\n")
    values = np.array([row["regret"] for row in rows])
    sources = ", ".join(sorted({row["by"] for row in rows}))
    sys.stdout.write(
        f"{len(values)} problems, {threads} threads, by {sources}: regret median {np.median(values):.3f}, "
        f"95th percentile {np.quantile(values, 0.95):.3f}, worst {values.max():.3f}\n"
    )


def problems_of(options: argparse.Namespace) -> list[tuple[str, ConvProblem]]:
    """Return (name, problem) as the options say."""
    if options.random:
        rng = np.random.default_rng(options.seed)
        found = [(f"random{i}", random_problem(rng)) for i in range(options.random)]
    else:
        found = [(layer.name, layer.problem) for _, layer in chosen_layers(options.layers)]
    part, parts = map(int, options.part.split("/"))
    return [(name, core_problem(problem)) for name, problem in found[part - 1 :: parts]]


def main() -> None:
    """Compile, measure or judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", nargs="*", default=["all"])
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th problem, beginning with the I-th")
    parser.add_argument("--effort", choices=tuple(EFFORTS), default="measure")
    parser.add_argument("--compile", action="store_true", help="run each candidate once")
    parser.add_argument("--learn", action="store_true", help="with --wisdom: fill the file, and stop")
    parser.add_argument("--wisdom", metavar="FILE", help="decide by this file; without it by the cost model")
    parser.add_argument("--json", type=Path, metavar="TIMES")
    parser.add_argument("--judge", type=Path, nargs="+", metavar="TIMES")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # The rates of the machine are measured, and known in this run only.
        settings = config(threads=options.threads, wisdom=options.wisdom or str(Path(folder) / "wisdom.json"))
        with settings:
            if options.judge:
                names = {name for name, _ in problems_of(options)}
                rows = [row for path in options.judge for row in json.loads(path.read_text()) if row["name"] in names]
                show([judged(row, settings) for row in rows], options.threads)
                return
            rows = []
            for name, problem in problems_of(options):
                if options.compile:
                    EFFORTS["once"] = (0.0, EFFORTS[options.effort][1])
                    measure(problem, settings, effort="once")
                    sys.stdout.write(f"{name}\n")
                    sys.stdout.flush()
                elif options.learn:
                    learn(problem, settings, effort=options.effort)
                else:
                    rows.append({"name": name, "problem": str(problem), "seconds": measure(problem, settings, effort=options.effort)})
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
            if rows:
                show([judged(row, settings) for row in rows], options.threads)


if __name__ == "__main__":
    main()
