"""Laws of convolution, on random problems. Integers in floating point make most of them exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastconv
import oracle
from cases import REPRESENTATIVES, Arrays, Case, expected, integers, plan, reals, run, supported
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.problem import ConvProblem
from oracle import Array
from strategies import problems

every_algorithm = pytest.mark.parametrize("algorithm", TABLE, ids=lambda algorithm: algorithm.name)
#: Depthwise and grouped layers run on the kernels of planar ones, which are compiled for each shape.
algorithms = pytest.mark.parametrize(
    "algorithm", [a for a in REPRESENTATIVES if a.name not in {"direct:depthwise", "direct:grouped"}], ids=lambda algorithm: algorithm.name
)
#: For what happens before an algorithm begins, one of each family.
families = pytest.mark.parametrize(
    "algorithm",
    [a for a in TABLE if a.name in {"winograd:f4x3", "direct:dense", "fft:tiles", "im2col", "naive"}],
    ids=lambda algorithm: algorithm.name,
)
seeds = st.integers(0, 2**32 - 1)


def exact(algorithm: Algorithm, problem: ConvProblem, x: Array, w: Array) -> Array:
    """Return the result as integers; only called where the derived bound says that rounding finds them."""
    bound = algorithm.error_bound(algorithm.computed(problem), x, w)
    assume(not bound.size or bound.max() < 0.5)
    return np.rint(run(Case(algorithm, problem), Arrays(x, w, None, None))).astype(np.int64)


@every_algorithm
@given(data=st.data(), seed=seeds)
def test_any_problem_equals_the_oracle(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm))
    arrays = integers(problem, seed=seed)
    np.testing.assert_array_equal(exact(algorithm, problem, arrays.x, arrays.w), expected(problem, arrays))


@algorithms
@given(data=st.data(), seed=seeds, a=st.integers(-3, 3), b=st.integers(-3, 3))
def test_linear_in_source_and_weights(algorithm: Algorithm, data: st.DataObject, seed: int, a: int, b: int) -> None:
    problem = data.draw(problems(algorithm))
    assume(problem.padding_value == 0)
    one, other = integers(problem, 1, seed), integers(problem, 1, seed + 1)
    parts = a * exact(algorithm, problem, one.x, one.w) + b * exact(algorithm, problem, other.x, one.w)
    np.testing.assert_array_equal(exact(algorithm, problem, a * one.x + b * other.x, one.w), parts)
    parts = a * exact(algorithm, problem, one.x, one.w) + b * exact(algorithm, problem, one.x, other.w)
    np.testing.assert_array_equal(exact(algorithm, problem, one.x, a * one.w + b * other.w), parts)


@algorithms
@given(data=st.data(), seed=seeds)
def test_an_impulse_returns_the_kernel(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm, padding_mode="zeros"))
    p, w = problem, integers(problem, 2, seed).w
    x = np.zeros(p.x_shape, p.dtype)
    n, c, i, j = (data.draw(st.integers(0, length - 1)) for length in p.x_shape)
    x[n, c, i, j] = 1
    kernel = np.zeros(p.out_shape, np.int64)
    per_group_in, per_group_out = p.ic // p.g, p.oc // p.g
    outputs = slice(c // per_group_in * per_group_out, (c // per_group_in + 1) * per_group_out)
    for r, s in np.ndindex(p.kh, p.kw):
        top, left = i + p.ph_lo - r * p.dh, j + p.pw_lo - s * p.dw
        if top % p.sh == 0 and left % p.sw == 0 and 0 <= top < p.oh * p.sh and 0 <= left < p.ow * p.sw:
            kernel[n, outputs, top // p.sh, left // p.sw] = w[outputs, c % per_group_in, r, s]
    np.testing.assert_array_equal(exact(algorithm, problem, x, w), kernel)


@algorithms
@given(data=st.data(), seed=seeds)
def test_shifting_the_source_by_a_stride_shifts_the_result_by_one(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm, padding_mode="zeros", ph_lo=0, ph_hi=0, pw_lo=0, pw_hi=0))
    arrays = integers(problem, seed=seed)
    whole = exact(algorithm, problem, arrays.x, arrays.w)
    assume(problem.oh > 1 and problem.ow > 1)
    cut = np.ascontiguousarray(arrays.x[:, :, problem.sh :, problem.sw :])
    shifted = problem.replace(ih=cut.shape[2], iw=cut.shape[3])
    assume(supported(algorithm, shifted))
    np.testing.assert_array_equal(exact(algorithm, shifted, cut, arrays.w), whole[:, :, 1:, 1:])


@algorithms
@given(data=st.data(), seed=seeds)
def test_images_of_a_batch_are_independent(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm, mb=2))
    arrays = integers(problem, seed=seed)
    together = exact(algorithm, problem, arrays.x, arrays.w)
    for n in range(2):
        alone = exact(algorithm, problem.replace(mb=1), arrays.x[n : n + 1], arrays.w)
        np.testing.assert_array_equal(together[n : n + 1], alone)


@algorithms
@given(data=st.data(), seed=seeds)
def test_groups_are_independent(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm))
    p = problem
    single = p.replace(g=1, ic=p.ic // p.g, oc=p.oc // p.g)
    # Rows that are only for groups are held against the definition.
    alone = algorithm if supported(algorithm, single) else TABLE[-1]
    arrays = integers(problem, seed=seed)
    together = exact(algorithm, problem, arrays.x, arrays.w)
    apart = [exact(alone, single, x, w) for x, w in zip(np.split(arrays.x, p.g, axis=1), np.split(arrays.w, p.g, axis=0), strict=True)]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))


@pytest.mark.parametrize(
    "algorithm", [a for a in TABLE if supported(a, ConvProblem(1, 1, 8, 5, 5, 8, 1, 1))], ids=lambda algorithm: algorithm.name
)
@given(
    seed=seeds, n=st.integers(1, 2), ic=st.integers(1, 40), oc=st.integers(1, 40), h=st.sampled_from((1, 8)), w=st.sampled_from((1, 7, 20))
)
def test_a_1x1_kernel_is_a_product_of_matrices(algorithm: Algorithm, seed: int, n: int, ic: int, oc: int, h: int, w: int) -> None:
    problem = ConvProblem(1, n, ic, h, w, oc, 1, 1)
    assume(supported(algorithm, problem))
    arrays = integers(problem, seed=seed)
    product = arrays.w[:, :, 0, 0] @ arrays.x.reshape(n, ic, h * w)
    np.testing.assert_array_equal(exact(algorithm, problem, arrays.x, arrays.w), product.reshape(problem.out_shape))


@families
@given(data=st.data(), seed=seeds)
def test_the_padding_argument_equals_padding_by_hand(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm))
    p, arrays = problem, integers(problem, seed=seed)
    x = oracle.padded(arrays.x, ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), p.padding_mode, p.padding_value)
    by_hand = p.replace(ih=x.shape[2], iw=x.shape[3], ph_lo=0, ph_hi=0, pw_lo=0, pw_hi=0, padding_mode="zeros", padding_value=0)
    assume(supported(algorithm, by_hand))
    np.testing.assert_array_equal(exact(algorithm, problem, arrays.x, arrays.w), exact(algorithm, by_hand, x, arrays.w))


@algorithms
@given(data=st.data(), seed=seeds)
def test_algorithms_agree_within_the_sum_of_their_bounds(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm))
    arrays, naive = reals(problem, seed), TABLE[-1]
    difference = np.abs(run(Case(algorithm, problem), arrays).astype(float) - run(Case(naive, problem), arrays))
    bounds = [a.error_bound(problem, arrays.x, arrays.w) for a in (algorithm, naive)]
    assert (difference <= bounds[0] + bounds[1]).all()


@algorithms
@given(data=st.data(), seed=seeds)
def test_one_two_and_more_threads_give_the_same_bits(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm))
    case, arrays = Case(algorithm, problem), reals(problem, seed)
    alone = run(case, arrays, threads=1)
    for threads in (2, 3):
        np.testing.assert_array_equal(run(case, arrays, threads).view(np.uint8), alone.view(np.uint8))


@families
@given(data=st.data(), seed=seeds)
def test_a_plan_used_again_gives_the_bits_of_a_call(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm, channels_last=False))
    case, arrays, others = Case(algorithm, problem), reals(problem, seed), reals(problem, seed + 1)
    kept = plan(case, arrays)
    first = kept(arrays.x)
    kept(others.x)
    np.testing.assert_array_equal(kept(arrays.x).view(np.uint8), first.view(np.uint8))
    p = problem
    with fastconv.config(threads=1):
        called = fastconv.conv2d(
            arrays.x, arrays.w, None, (p.sh, p.sw), ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), (p.dh, p.dw), p.g,
            padding_mode=p.padding_mode, padding_value=p.padding_value, backend=algorithm.name,
        )  # fmt: skip
    np.testing.assert_array_equal(called.view(np.uint8), first.view(np.uint8))


@families
@given(data=st.data(), seed=seeds)
def test_flipping_the_kernel_twice_changes_nothing(algorithm: Algorithm, data: st.DataObject, seed: int) -> None:
    problem = data.draw(problems(algorithm, channels_last=False, padding_mode="zeros", dh=1, dw=1))
    p, arrays = problem, integers(problem, seed=seed)
    y = fastconv.conv2d(
        arrays.x, arrays.w[:, :, ::-1, ::-1], None, (p.sh, p.sw), ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), 1, p.g,
        flip_kernel=True, backend=algorithm.name,
    )  # fmt: skip
    np.testing.assert_array_equal(np.rint(y), exact(algorithm, problem, arrays.x, arrays.w))
