"""Fit constants of a backend's cost model to measured times.

    python bench/regret.py --json TIMES [WHAT]                                     measure the candidates of some problems
    python bench/fit_model.py --threads N MODULE CONSTANT,CONSTANT TIMES ...       the constants that predict them best

MODULE is such as ``winograd`` or ``direct.planar``, of fastconv.backends; CONSTANT a number in it. Least squares of the logarithm of
predicted / measured time over the module's algorithms and all problems where they take less than three times as long as the
best, with this machine's rates as measured now. Shows constants and errors (10th percentile, median, 90th) before and after.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.optimize import minimize

from fastconv import config
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.calibration import current_machine
from fastconv.cli.cases import problem_of
from fastconv.cost import predicted_s
from fastconv.machine import Machine
from fastconv.problem import ConvProblem

Measured = tuple[Algorithm, ConvProblem, float]


def measured(paths: list[Path], module: str) -> list[Measured]:
    """Return (algorithm of `module`, problem, seconds) of the files of times."""
    rows = {row.name: row for row in TABLE if any(base.__module__ == module for base in type(row).__mro__)}
    return [
        (rows[name], problem_of(case["problem"]), seconds)
        for case in itertools.chain.from_iterable(json.loads(path.read_text()) for path in paths)
        for name, seconds in case["seconds"].items()
        if name in rows and seconds < 3 * min(case["seconds"].values())
    ]  # fmt: skip


def errors(cases: list[Measured], machine: Machine, threads: int) -> np.ndarray[Any, Any]:
    """Return log(predicted / measured) with the constants as they are."""
    predicted = [
        predicted_s(row.work(row.computed(p), machine), p, machine, threads, is_prepared=True) for row, p, _ in cases
    ]  # fmt: skip
    return np.log(np.array(predicted) / np.array([seconds for _, _, seconds in cases]))


def set_constants(module: ModuleType, names: list[str], values: np.ndarray[Any, Any]) -> None:
    """Set constants, and forget what was counted with others."""
    for name, value in zip(names, values, strict=True):
        setattr(module, name, float(value))
    for function in vars(module).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def main() -> None:
    """Fit and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("constants", type=lambda text: text.split(","))
    parser.add_argument("times", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    module, names = importlib.import_module(f"fastconv.backends.{options.module}"), options.constants
    cases = measured(options.times, module.__name__)
    with tempfile.TemporaryDirectory() as folder, config(wisdom=str(Path(folder) / "wisdom.json")):
        machine = current_machine(str(Path(folder) / "wisdom.json"))

    def loss(logs: np.ndarray[Any, Any]) -> float:
        set_constants(module, names, np.exp(logs))
        return float(np.square(errors(cases, machine, options.threads)).mean())

    def show(title: str) -> None:
        quantiles = np.exp(np.quantile(errors(cases, machine, options.threads), (0.1, 0.5, 0.9)))
        words = [f"{name} {getattr(module, name):.3g}" for name in names]
        sys.stdout.write(f"{title}: {', '.join(words)}; predicted / measured {' '.join(f'{q:.2f}' for q in quantiles)}\n")

    sys.stdout.write(f"{len(cases)} times, {options.threads} threads\n")
    show("as they are")
    start = np.log([getattr(module, name) for name in names])
    found = minimize(loss, start, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-5, "maxfev": 200})
    set_constants(module, names, np.exp(found.x))
    show("fitted")


if __name__ == "__main__":
    main()
