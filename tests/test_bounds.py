"""Rounding errors: below the derived bound, far enough from nothing to mean something, and never worse than recorded."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cases import PROBLEMS, Arrays, Case, cases, geometry, reals, run, supported
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm, absolute_sum, unit_roundoff
from fastconv.problem import ConvProblem
from oracle import Array, correlate

#: RMS error / (u*S) of each algorithm; written anew by FASTCONV_RECORD_QUALITY=1, to be looked at before it is committed.
RECORDED = Path(__file__).with_name("quality.json")
#: An error may not grow beyond the recorded one by more than this.
GROWTH = 1.5
#: A bound this many times the largest error would not notice a lost term.
VACUOUS = 5e4

PLAIN = tuple(name for name, problem in PROBLEMS.items() if not (problem.has_bias or problem.has_residual or problem.activation))
QUALITY = (
    "dense 3x3", "dense 3x3, long sums", "dense 3x3, stride 2", "dense 5x5", "1x1", "1x3", "3x1", "1x5", "5x1", "1x7", "7x1", "grouped", "depthwise 3x3", "depthwise 5x5, multiplier 2",
    "planar 5x5, narrow", "planar 15x15", "n -> 3", "RGB 3x3", "large kernel, channels",
)  # fmt: skip


def errors(case: Case, arrays: Arrays) -> Array:
    y = run(case, arrays)
    reference = correlate(arrays.x, arrays.w, **geometry(case.problem))
    return np.abs(np.asarray(y, reference.dtype) - reference)


def bound(algorithm: Algorithm, problem: ConvProblem, arrays: Arrays) -> Array:
    """Return the bound of the error, plus that of the oracle's own sum in float64."""
    sums = absolute_sum(problem, arrays.x, arrays.w)
    own = problem.reduction * unit_roundoff("float64") * sums * (4 if problem.is_complex else 1)
    return algorithm.error_bound(problem, arrays.x, arrays.w) + own


@pytest.mark.parametrize("case", cases("float32", "float64", names=PLAIN), ids=str)
def test_errors_stay_below_the_derived_bound(case: Case) -> None:
    arrays = reals(case.problem)
    found, allowed = errors(case, arrays), bound(case.algorithm, case.problem, arrays)
    assert np.isfinite(allowed).all()
    assert (found <= allowed).all()


OTHER_DTYPES = [
    case
    for case in cases("float16", "complex64", "complex128", names=("dense 3x3, no padding", "grouped, everything unequal"))
    # Through float32 the other classes have the bound of float32, which says nothing about float16.
    if case.problem.dtype != "float16" or case.algorithm.rounding == "elementwise"
]


@pytest.mark.parametrize("case", OTHER_DTYPES, ids=str)
def test_errors_of_other_dtypes_stay_below_the_derived_bound(case: Case) -> None:
    arrays = reals(case.problem)
    assert (errors(case, arrays) <= bound(case.algorithm, case.problem, arrays)).all()


@pytest.mark.parametrize(
    "case", cases("float32", names=("dense 3x3", "depthwise 3x3", "planar 15x15", "1x1", "dense 5x5", "1x3", "3x1")), ids=str
)
def test_the_bound_is_not_vacuous(case: Case) -> None:
    arrays = reals(case.problem)
    allowed = case.algorithm.error_bound(case.problem, arrays.x, arrays.w)
    assert allowed.max() <= VACUOUS * errors(case, arrays).max()
    # A product that is lost or counted twice shows: the bound is a small part of what is summed.
    assert allowed.max() < 0.01 * absolute_sum(case.problem, arrays.x, arrays.w).max()


def quality(algorithm: Algorithm, dtype: str) -> float | None:
    """Return the RMS error / (u*S) over the problems of `QUALITY`; None where it computes none of them."""
    ratios = []
    for name in QUALITY:
        problem = PROBLEMS[name].replace(dtype=dtype)
        if supported(algorithm, problem):
            case, arrays = Case(algorithm, problem), reals(problem, seed=7)
            ratios.append(errors(case, arrays).ravel() / (unit_roundoff(dtype) * absolute_sum(problem, arrays.x, arrays.w).ravel()))
    return float(np.sqrt(np.mean(np.concatenate(ratios) ** 2))) if ratios else None


@pytest.mark.parametrize("algorithm", TABLE, ids=lambda algorithm: algorithm.name)
def test_the_error_has_not_grown(algorithm: Algorithm) -> None:
    key = f"{algorithm.name} float32"
    found = quality(algorithm, "float32")
    if found is None:
        pytest.skip(f"{algorithm.name} computes none of the problems")
    recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    if os.environ.get("FASTCONV_RECORD_QUALITY"):
        recorded[key] = round(found, 4)
        RECORDED.write_text(json.dumps(dict(sorted(recorded.items())), indent=1) + "\n", encoding="utf-8")
    assert key in recorded, "a new algorithm: run this test with FASTCONV_RECORD_QUALITY=1 and commit tests/quality.json"
    assert found <= GROWTH * recorded[key]
