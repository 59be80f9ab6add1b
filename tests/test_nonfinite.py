"""NaN, infinity, overflow and denormals: the result is what the definition says, in every algorithm."""

from __future__ import annotations

import numpy as np
import pytest

from cases import PROBLEMS, Arrays, Case, cases, geometry, integers, reals, run
from fastconv.backends.base import absolute_sum
from oracle import Array, by_definition

SPECIAL = (np.nan, np.inf, -np.inf)
LINEAR = tuple(name for name, p in PROBLEMS.items() if p.macs and not (p.has_bias or p.has_residual or p.activation))
FEW = ("dense 3x3", "dense 3x3, taps in padding", "dense 3x3, stride 2", "dense 3x3, dilated", "dense 5x5", "1x1", "1x3", "3x1", "depthwise 3x3", "planar 5x5, narrow",
       "planar 15x15", "large kernel, channels", "grouped", "stem 7x7/2", "channels-last 1x1", "dense, reflect")  # fmt: skip


def check_kinds(y: Array, reference: Array) -> None:
    """Check that NaN and both infinities stand exactly where the definition has them."""
    np.testing.assert_array_equal(np.isnan(y), np.isnan(reference))
    np.testing.assert_array_equal(np.isposinf(y), np.isposinf(reference))
    np.testing.assert_array_equal(np.isneginf(y), np.isneginf(reference))


def check(case: Case, arrays: Arrays) -> None:
    y, reference = run(case, arrays), by_definition(arrays.x, arrays.w, **geometry(case.problem))
    check_kinds(y, reference)
    finite = np.isfinite(reference)
    x, w = (np.where(np.isfinite(array), array, 0) for array in (arrays.x, arrays.w))
    bound = case.algorithm.error_bound(case.problem, x, w) + 1e-12
    assert (np.abs(y[finite] - reference[finite]) <= bound[finite]).all()


@pytest.mark.parametrize("value", SPECIAL, ids=str)
@pytest.mark.parametrize("case", cases("float32", names=LINEAR) + cases("float64", names=FEW), ids=str)
def test_a_special_value_of_the_source_reaches_exactly_the_outputs_that_read_it(case: Case, value: float) -> None:
    arrays = integers(case.problem)
    rng = np.random.default_rng(int(np.nan_to_num(value) % 97))
    for _ in range(2):
        arrays.x[tuple(rng.integers(arrays.x.shape))] = value
    check(case, arrays)


@pytest.mark.parametrize("value", SPECIAL, ids=str)
@pytest.mark.parametrize("case", cases("float32", names=FEW), ids=str)
def test_a_special_weight_reaches_exactly_the_outputs_that_read_it(case: Case, value: float) -> None:
    arrays = integers(case.problem)
    arrays.w[tuple(np.random.default_rng(3).integers(arrays.w.shape))] = value
    check(case, arrays)


@pytest.mark.parametrize("case", cases("float32", names=FEW), ids=str)
def test_a_corner_that_is_nan_stays_in_its_corner(case: Case) -> None:
    arrays = integers(case.problem)
    arrays.x[:, :, 0, 0] = np.nan
    arrays.x[:, :, -1, -1] = np.inf
    check(case, arrays)


@pytest.mark.parametrize("case", cases("float32", names=FEW), ids=str)
def test_values_near_the_largest_do_not_overflow_on_the_way(case: Case) -> None:
    problem, arrays = case.problem, integers(case.problem)
    # One tap of 1 per output: the definition moves numbers about and can overflow nowhere.
    rng = np.random.default_rng(5)
    arrays.w[...] = 0
    for o in range(problem.oc):
        arrays.w[o, rng.integers(arrays.w.shape[1]), problem.kh // 2, problem.kw // 2] = 1
    arrays.x[...] = rng.choice([-3e38, 3e38, 1e38], arrays.x.shape)
    reference = by_definition(arrays.x, arrays.w, **geometry(problem))
    y = run(case, arrays)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y, reference, rtol=1e-4, atol=1e34)


@pytest.mark.parametrize("case", cases("float32", names=FEW), ids=str)
def test_a_sum_that_overflows_is_infinite(case: Case) -> None:
    problem, arrays = case.problem, integers(case.problem)
    arrays.x[...] = 3e38
    arrays.w[...] = 2
    y = run(case, arrays)
    exact = by_definition(arrays.x, arrays.w, **geometry(problem))
    check_kinds(y, np.where(exact > np.finfo(np.float32).max, np.inf, exact))


@pytest.mark.parametrize("case", cases("float32", names=FEW), ids=str)
def test_denormal_sources_are_not_flushed(case: Case) -> None:
    arrays = reals(case.problem)
    arrays.x *= np.float32(1e-40)
    reference = by_definition(arrays.x, arrays.w, **geometry(case.problem))
    y = run(case, arrays)
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    taps = 40 * case.problem.reduction * smallest * (1 + np.abs(arrays.w).max())
    assert (np.abs(y - reference) <= case.algorithm.error_bound(case.problem, arrays.x, arrays.w) + taps).all()
    assert np.abs(y).max() > 0.1 * np.abs(reference).max()
    assert absolute_sum(case.problem, arrays.x, arrays.w).max() < np.finfo(np.float32).tiny * 1e3
