"""Time on one thread / time on all, for the automatic choice of each layer.

    python bench/scaling.py [--threads N] [--seconds S] [--layers WORDS ...] [--json FILE]

Weights are packed before, calls run in turns, the best of all counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from one_shot import best_s

import fastconv
from fastconv.backends import make_plan
from fastconv.cli.cases import chosen_layers, layer_case
from fastconv.machine import usable_cores
from fastconv.planner import decide
from fastconv.plans import Plan
from fastconv.tuning import blas_threads

#: The target is for layers that take longer than this on one thread.
LONG_S = 1e-3


def caller(plan: Plan, x: Any, out: Any) -> Callable[[int], object]:
    """Return what calls `plan`, whatever the turn."""
    return lambda _turn: plan(x, out=out)


def main() -> None:
    """Measure, print a row per layer and what falls short of the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--seconds", type=float, default=0.2, help="for each number of threads and layer")
    parser.add_argument("--layers", nargs="*", default=["all"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for heading, layer in chosen_layers(options.layers):
        case = layer_case(heading, layer)
        p = case.problem
        plans = {}
        for count in (1, options.threads):
            settings = fastconv.config(threads=count)
            algorithm = decide(p, settings, is_prepared=True).algorithm
            plans[count] = make_plan(algorithm, p, case.w, None, threads=count, max_workspace=None)
        out = np.empty(p.out_shape, p.dtype)
        for plan in plans.values():
            plan(case.x, out=out)
        functions = {f"{plan.backend}/{count}": caller(plan, case.x, out) for count, plan in plans.items()}
        with blas_threads(1):
            (one, alone), (many, together) = best_s(functions, options.seconds).items()
        rows.append({"name": layer.name, "one": one, "one_s": alone, "many": many, "many_s": together, "ratio": alone / together})
        sys.stdout.write(f"{layer.name:28s} {alone / together:5.2f}  {one} {1e3 * alone:.3f} ms, {many} {1e3 * together:.3f} ms\n")
        sys.stdout.flush()
    long = [row for row in rows if row["one_s"] > LONG_S]
    ratios = np.array([row["ratio"] for row in long])
    sys.stdout.write(
        f"{len(long)} layers above {1e3 * LONG_S:.0f} ms: median {np.median(ratios):.2f}, least {ratios.min():.2f}, "
        f"{int((ratios >= 1.85).sum())} reach 1.85\n"
        f"slower with {options.threads} threads: {[row['name'] for row in rows if row['ratio'] < 1] or 'none'}\n"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
