"""Regret of the automatic choice: time of what the cost model chooses / time of the best that is allowed.

    python bench/regret.py [--threads N] [--random COUNT] [--seed S] [--layers WORDS ...] [--json FILE]

Each candidate within 12 times of the best prediction is measured, weights packed before, wisdom off, so that the
choice is the cost model's alone. `--random` adds problems drawn as `random_problem` says.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from fastconv import config
from fastconv.cli.cases import chosen_layers
from fastconv.errors import FastconvError
from fastconv.planner import decide
from fastconv.problem import ConvProblem
from fastconv.settings import Config
from fastconv.tuning import core_problem, measure


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


def regret(problem: ConvProblem, settings: Config) -> dict[str, object]:
    """Measure the candidates of `problem` and hold the choice against the best of those allowed."""
    problem = core_problem(problem)
    seconds = measure(problem, settings)
    decision = decide(problem, settings, is_prepared=True)
    allowed = {row.name for row in decision.ranked}
    possible = {name: value for name, value in seconds.items() if name in allowed}
    best = min(possible, key=lambda name: possible[name])
    chosen = decision.algorithm.name
    return {
        "problem": str(problem), "chosen": chosen, "best": best, "regret": possible[chosen] / possible[best],
        "seconds": seconds, "predicted": {c.algorithm.name: c.predicted_s for c in decision.candidates if c.algorithm.name in seconds},
    }  # fmt: skip


def main() -> None:
    """Measure, print a row per problem and the quantiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", nargs="*", default=["all"])
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    problems = [(layer.name, layer.problem) for _, layer in chosen_layers(options.layers)]
    rng = np.random.default_rng(options.seed)
    problems += [(f"random{i}", random_problem(rng)) for i in range(options.random)]
    settings = config(threads=options.threads, wisdom="off")
    rows = []
    with settings:
        for name, problem in problems:
            row = regret(problem, settings)
            rows.append({"name": name, **row})
            times = "  ".join(f"{k} {1e3 * v:.3f}" for k, v in sorted(row["seconds"].items(), key=lambda item: item[1])[:4])
            sys.stdout.write(f"{name:28s} {row['regret']:6.3f}  chosen {row['chosen']:18s} {times}\n")
            sys.stdout.flush()
    values = np.array([row["regret"] for row in rows])
    sys.stdout.write(
        f"{len(values)} problems, {options.threads} threads: regret median {np.median(values):.3f}, "
        f"95th percentile {np.quantile(values, 0.95):.3f}, worst {values.max():.3f}\n"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
