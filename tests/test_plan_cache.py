"""One-shot plans: kept for equal weights, never trusted by identity, bounded in bytes."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import api
from fastconv.backends import TABLE
from fastconv.plan_cache import PlanCache, Snapshot
from fastconv.problem import ConvProblem


def _naive_plan(w, bias):
    return fastconv.plan((4, 8, 8), w, bias, backend="naive")


def test_only_a_plan_that_is_kept_is_made_from_a_copy():
    cache, w, given = PlanCache(), np.ones((4, 4, 3, 3)), []

    def make(weights, bias):
        given.append(weights)
        return _naive_plan(weights, bias)

    for _ in range(2):
        cache.made("key", w, None, make)
    assert given[0] is w
    assert not np.may_share_memory(given[1], w)
    assert cache.find("key", w, None) is not None


def _rows_and_dtypes():
    for dtype in ("float32", "float64", "int32"):
        problem = ConvProblem(1, 1, 2, 12, 12, 2, 3, 3, dtype=dtype)
        yield from ((row.name, dtype) for row in TABLE if row.why_not(problem) is None)


@pytest.mark.parametrize(("name", "dtype"), list(_rows_and_dtypes()))
def test_no_plan_sees_a_change_of_the_weights(name, dtype):
    x, w = np.ones((1, 2, 12, 12), dtype), np.ones((2, 2, 3, 3), dtype)
    plan, layer = fastconv.plan(x.shape, w, backend=name), fastconv.Conv2d(w, backend=name)
    for _ in range(3):
        before = fastconv.conv2d(x, w, backend=name)
    w[...] = 3
    np.testing.assert_array_equal(plan(x), before)
    np.testing.assert_array_equal(layer(x), before)
    np.testing.assert_allclose(fastconv.conv2d(x, w, backend=name), 3 * before, rtol=1e-5)


def test_a_mutated_array_gives_new_results():
    x = np.arange(25.0).reshape(1, 1, 5, 5)
    w = np.ones((1, 1, 3, 3))
    first = [fastconv.conv2d(x, w, backend="naive") for _ in range(4)][-1]
    w[...] = 2
    np.testing.assert_array_equal(fastconv.conv2d(x, w, backend="naive"), 2 * first)
    w[0, 0, 0, 0] = 0
    np.testing.assert_array_equal(fastconv.conv2d(x, w, backend="naive"), 2 * first - 2 * x[:, :, :3, :3])


def test_a_changed_bias_gives_new_results():
    x, w, bias = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), np.zeros(1)
    for value in (0.0, 0.0, 0.0, 5.0, 7.0):
        bias[0] = value
        assert fastconv.conv2d(x, w, bias, backend="naive").item() == 9 + value


def test_equal_weights_find_the_plan_from_the_third_call_on():
    cache = api._one_shot_plans
    x, w = np.ones((1, 1, 6, 6)), np.full((1, 1, 3, 3), 0.3)
    cache.clear()
    for _ in range(2):
        fastconv.conv2d(x, w, backend="naive")
    (key,) = cache._entries
    plan = cache.find(key, w, None)
    assert plan is not None
    assert cache.find(key, w.copy(), None) is plan
    assert cache.find(key, w + 1, None) is None


def test_the_cache_stays_within_its_bytes():
    cache = PlanCache(limit_nbytes=20_000)
    for i in range(50):
        w = np.full((4, 4, 3, 3), float(i))
        for _ in range(2):
            cache.made(i, w, None, _naive_plan)
        assert cache.nbytes <= 20_000
    assert cache.nbytes > 0
    cache.clear()
    assert cache.nbytes == 0


def test_a_plan_larger_than_the_cache_is_not_kept():
    cache = PlanCache(limit_nbytes=100)
    w = np.zeros((4, 4, 3, 3))
    for _ in range(3):
        cache.made("key", w, None, _naive_plan)
    assert cache.nbytes == 0
    assert cache.find("key", w, None) is None


def test_bytes_decide_not_values():
    nan = np.array([np.nan, 0.0])
    assert Snapshot(nan).is_still(nan.copy())
    assert not Snapshot(nan).is_still(np.array([np.nan, -0.0]))
    for n in (1, 7, 8, 63, 64, 65, 513, 5000):
        for dtype in (np.int8, np.float32, np.complex128):
            a = np.arange(n).astype(dtype)
            kept, backwards = Snapshot(a), Snapshot(a[::-1])
            assert kept.is_still(a.copy())
            assert backwards.is_still(a[::-1].copy())
            for i in {0, n // 2, n - 1}:
                b = a.copy()
                b[i] += 1
                assert not kept.is_still(b)
