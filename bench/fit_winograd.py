"""Fit the constants of Winograd's cost model to measured times.

    python bench/regret.py --json TIMES [WHAT]                   measure the candidates of some problems
    python bench/fit_winograd.py --threads N TIMES [TIMES ...]   the constants that predict them best

Least squares of the logarithm of predicted / measured time over every form and problem that takes less than three times as long
as the best, with this machine's rates as measured now. Shows the errors before and after.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from fastconv import config
from fastconv.backends import TABLE
from fastconv.backends import winograd as model
from fastconv.backends.winograd import Winograd
from fastconv.calibration import current_machine
from fastconv.cli.cases import problem_of
from fastconv.cost import predicted_s
from fastconv.machine import Machine
from fastconv.problem import ConvProblem

CONSTANTS = ("PRODUCT_EFFICIENCY", "FLOPS_PER_INSTRUCTION", "READ_AGAIN_SHARE")
Measured = tuple[Winograd, ConvProblem, float]


def measured(paths: list[Path]) -> list[Measured]:
    """Return (form, problem, seconds) of the files of times."""
    forms = {row.name: row for row in TABLE if isinstance(row, Winograd)}
    rows = itertools.chain.from_iterable(json.loads(path.read_text()) for path in paths)
    return [
        (forms[name], problem_of(row["problem"]), seconds)
        for row in rows
        for name, seconds in row["seconds"].items()
        if name in forms and seconds < 3 * min(row["seconds"].values())
    ]  # fmt: skip


def errors(cases: list[Measured], machine: Machine, threads: int) -> np.ndarray:
    """Return log(predicted / measured) with the constants as they are."""
    predicted = [predicted_s(form.work(p, machine), p, machine, threads, is_prepared=True) for form, p, _ in cases]
    return np.log(np.array(predicted) / np.array([seconds for _, _, seconds in cases]))


def main() -> None:
    """Fit and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    cases = measured(options.times)
    with tempfile.TemporaryDirectory() as folder, config(wisdom=str(Path(folder) / "wisdom.json")):
        machine = current_machine(str(Path(folder) / "wisdom.json"))

    def show(title: str) -> None:
        low, middle, high = np.exp(np.quantile(errors(cases, machine, options.threads), (0.1, 0.5, 0.9)))
        constants = ", ".join(f"{name} {getattr(model, name):.2f}" for name in CONSTANTS)
        sys.stdout.write(f"{title}: {constants}; predicted / measured {low:.2f} {middle:.2f} {high:.2f} ({len(cases)} times)\n")

    def loss(logs: np.ndarray) -> float:
        for name, value in zip(CONSTANTS, np.exp(logs), strict=True):
            setattr(model, name, float(value))
        return float(np.square(errors(cases, machine, options.threads)).mean())

    show("as they are")
    found = minimize(
        loss, np.log([getattr(model, name) for name in CONSTANTS]), method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-5}
    )
    loss(found.x)
    show("fitted")


if __name__ == "__main__":
    main()
