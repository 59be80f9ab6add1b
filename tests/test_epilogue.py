"""Bias, residual and activation, fused into the last store of every algorithm."""

from __future__ import annotations

import numpy as np
import pytest

from cases import PROBLEMS, Arrays, Case, cases, expected, geometry, integers, reals, run, supported
from fastconv.backends import TABLE
from fastconv.backends.base import unit_roundoff
from fastconv.problem import ACTIVATIONS, ConvProblem
from oracle import Array, activated, by_definition

SHAPES = ("dense 3x3, odd everything, batch", "1x1", "depthwise 3x3", "planar 3x3", "large kernel, channels", "dense 3x3, stride 2", "1x3", "channels-last")  # fmt: skip
CURVES = (*ACTIVATIONS, (-0.5, 0.75), (-np.inf, 1.0), (2.0, 2.0))
#: The activation of the source itself.
ONE_TO_ONE = [
    Case(algorithm, problem)
    for algorithm in TABLE
    for problem in (ConvProblem(1, 1, 1, 40, 50, 1, 1, 1, dtype=dtype) for dtype in ("float32", "float64"))
    if supported(algorithm, problem)
]
#: Slope of each activation at its steepest.
SLOPE = 1.2


def with_activation(case: Case, activation: object, *, bias: bool = True, residual: bool = True) -> Case:
    return Case(case.algorithm, case.problem.replace(activation=activation, has_bias=bias, has_residual=residual))


@pytest.mark.parametrize("activation", CURVES, ids=str)
@pytest.mark.parametrize("case", cases("float32", names=SHAPES) + cases("float64", names=SHAPES[:1]), ids=str)
def test_every_activation_of_sum_bias_and_residual(case: Case, activation: object) -> None:
    case = with_activation(case, activation)
    problem, arrays = case.problem, reals(case.problem)
    assert arrays.bias is not None
    assert arrays.residual is not None
    reference = expected(problem, arrays)
    before = np.abs(expected(problem.replace(activation=None), arrays)) + np.abs(arrays.residual)
    u = unit_roundoff(problem.dtype)
    allowed = SLOPE * case.algorithm.error_bound(problem, arrays.x, arrays.w) + 12 * u * (1 + before + np.abs(arrays.bias).max())
    assert (np.abs(run(case, arrays) - reference) <= allowed).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("case", ONE_TO_ONE, ids=str)
def test_activations_over_their_whole_range(case: Case, activation: str) -> None:
    problem = case.problem.replace(activation=activation)
    x = np.concatenate([np.linspace(-12, 12, 1000), np.geomspace(1e-30, 1e4, 500), -np.geomspace(1e-30, 1e4, 500)])
    x = x.astype(problem.dtype).reshape(problem.x_shape)
    y = run(Case(case.algorithm, problem), Arrays(x, np.ones(problem.w_shape, problem.dtype), None, None))
    u = unit_roundoff(problem.dtype)
    spread = np.abs(x).max() if case.algorithm.rounding == "normwise" else np.abs(x)
    np.testing.assert_array_less(np.abs(y - activated(x.astype(float), activation)), 16 * u * (1 + spread))
    with np.errstate(over="ignore"):
        assert np.isfinite(y).all()


@pytest.mark.parametrize("case", cases("float32", names=SHAPES), ids=str)
@pytest.mark.parametrize(("bias", "residual"), [(True, False), (False, True), (True, True)], ids=["bias", "residual", "both"])
def test_bias_and_residual_are_added_once(case: Case, bias: bool, residual: bool) -> None:  # noqa: FBT001  parameters of the matrix
    case = with_activation(case, None, bias=bias, residual=residual)
    arrays = integers(case.problem)
    np.testing.assert_array_equal(np.rint(run(case, arrays)), expected(case.problem, arrays))


@pytest.mark.parametrize("activation", ["relu", "relu6", (-1.0, 2.0), "sigmoid", "tanh"], ids=str)
@pytest.mark.parametrize("case", cases("float32", names=SHAPES), ids=str)
def test_activations_pass_nan_on_and_saturate_at_infinity(case: Case, activation: object) -> None:
    case = with_activation(case, activation, bias=False, residual=False)
    arrays = integers(case.problem)
    for value in (np.nan, np.inf, -np.inf):
        arrays.x[tuple(np.random.default_rng(int(np.nan_to_num(value) % 97)).integers(arrays.x.shape))] = value
    sums: Array = by_definition(arrays.x, arrays.w, **geometry(case.problem))
    y = run(case, arrays)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(sums))
    known = np.isinf(sums)
    np.testing.assert_array_equal(y[known], activated(sums[known], activation).astype(np.float32))


def test_relu_of_a_negative_zero_is_zero() -> None:
    (naive,) = (case for case in cases("float32", names=("1x1",)) if case.algorithm.name == "naive")
    problem = PROBLEMS["1x1"].replace(mb=1, ic=1, oc=1, activation="relu")
    y = run(Case(naive.algorithm, problem), Arrays(-np.zeros(problem.x_shape, "float32"), np.ones((1, 1, 1, 1), "float32"), None, None))
    assert not y.any()
