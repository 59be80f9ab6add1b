"""Results without tolerance: integers in floating point below the derived bound, and integers that wrap."""

from __future__ import annotations

import numpy as np
import pytest

from cases import PROBLEMS, Case, cases, expected, geometry, integers, run
from fastconv.backends.base import Algorithm
from oracle import activated, correlate

#: Problems of a few thousand products: what plain Python loops compute in a moment.
SMALL = tuple(name for name, problem in PROBLEMS.items() if problem.macs < 6000)
#: Those of them whose activation is defined for complex numbers too: none.
LINEAR = tuple(name for name in SMALL if PROBLEMS[name].activation is None)
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def check_exactly(case: Case) -> None:
    """Compare with the integer oracle; what the bound of the sum cannot tell apart is no test."""
    problem = case.problem
    for amplitude, density in ((2, 1.0), (1, 1.0), (1, 0.3)):
        arrays = integers(problem, amplitude, density=density)
        bound = case.algorithm.error_bound(case.algorithm.computed(problem), arrays.x, arrays.w)
        if not bound.size or bound.max() < 0.5:
            break
    assert not bound.size or bound.max() < 0.5
    y = run(case, arrays)
    assert y.shape == problem.out_shape
    assert y.dtype == problem.dtype
    np.testing.assert_array_equal(np.rint(y), expected(problem, arrays))


@pytest.mark.parametrize("case", cases("float32", "float64"), ids=str)
def test_integers_in_floating_point_are_exact(case: Case) -> None:
    check_exactly(case)


@pytest.mark.parametrize("case", cases("complex64", "complex128", names=LINEAR), ids=str)
def test_complex_integers_are_exact(case: Case) -> None:
    check_exactly(case)


@pytest.mark.parametrize("case", cases("complex64", "complex128", names=("1x1",)), ids=str)
@pytest.mark.parametrize("gap", [2, 4])
def test_complex_weights_apart_in_memory_are_exact(case: Case, gap: int) -> None:
    arrays = integers(case.problem)
    memory = np.zeros((*arrays.w.shape, gap), arrays.w.dtype)
    memory[..., 0] = arrays.w
    arrays.w = memory[..., 0]
    np.testing.assert_array_equal(np.rint(run(case, arrays)), expected(case.problem, arrays))


@pytest.mark.plain
@pytest.mark.parametrize("case", cases("float32", names=SMALL), ids=str)
def test_small_problems_are_exact(case: Case) -> None:
    check_exactly(case)


@pytest.mark.plain
@pytest.mark.parametrize(
    "case", cases(*INTEGERS, names=("grouped, everything unequal", "bias, residual and relu", "channels-last")), ids=str
)
def test_integers_wrap_as_in_numpy(case: Case) -> None:
    problem = case.problem
    limits = np.iinfo(problem.dtype)
    arrays = integers(problem)
    rng = np.random.default_rng(1)
    arrays.x[...] = rng.integers(limits.min, limits.max, arrays.x.shape, problem.dtype, endpoint=True)
    arrays.w[...] = rng.integers(limits.min, limits.max, arrays.w.shape, problem.dtype, endpoint=True)
    y = correlate(arrays.x, arrays.w, **geometry(problem)).astype(problem.dtype)
    if arrays.bias is not None:
        y = y + arrays.bias[:, np.newaxis, np.newaxis]
    if arrays.residual is not None:
        y = y + arrays.residual
    with np.errstate(over="ignore"):  # NumPy's scalars warn where no compiler replaces them
        found = run(case, arrays)
    np.testing.assert_array_equal(found, activated(y, problem.activation))


@pytest.mark.plain
@pytest.mark.parametrize("case", cases("int64", names=("dense 3x3, no padding",)), ids=str)
def test_large_integers_are_exact_beyond_the_53_bits_of_float64(case: Case) -> None:
    arrays = integers(case.problem)
    arrays.x[...] = arrays.x * (2**53 + 1)
    np.testing.assert_array_equal(run(case, arrays), correlate(arrays.x, arrays.w, **geometry(case.problem)))


def test_naive_computes_every_problem(naive: Algorithm) -> None:
    assert all(naive.why_not(problem) is None for problem in PROBLEMS.values())


@pytest.fixture
def naive() -> Algorithm:
    (found,) = {case.algorithm.name: case.algorithm for case in cases("float32") if case.algorithm.name == "naive"}.values()
    return found
