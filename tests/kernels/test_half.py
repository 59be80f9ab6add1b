"""float16 to float32 and back: the same bits as NumPy's for every float16, every order of the axes and any number of threads."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastconv.kernels.half import TASK_ELEMENTS, to_half, to_single
from guard import guarded

ALL = np.arange(2**16, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_float16_becomes_what_numpy_makes_of_it(threads):
    single = to_single(ALL, threads)
    np.testing.assert_array_equal(single, ALL.astype(np.float32))
    back = np.empty_like(ALL)
    to_half(single, back, threads)
    np.testing.assert_array_equal(back, ALL)


def test_ties_overflow_and_subnormals_are_rounded_as_numpy_does():
    bits = np.random.default_rng(3).integers(0, 2**32, 300_000, dtype=np.uint64).astype(np.uint32)
    exact = np.sort(ALL[np.isfinite(ALL)]).astype(np.float32)
    between = (exact[1:] + exact[:-1]) / 2
    single = np.concatenate((bits.view(np.float32), between, np.float32([65519, 65520, 2**-25, 3e-8])))
    half = np.empty(single.shape, np.float16)
    to_half(single, half, 2)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        np.testing.assert_array_equal(half, single.astype(np.float16))


@pytest.mark.skipif(sys.platform == "win32", reason="memory is protected with mprotect")
@pytest.mark.parametrize("side", ["before", "behind"])
@pytest.mark.parametrize("size", [1, 7, 16, 17, 255, TASK_ELEMENTS + 3])
def test_nothing_beyond_the_arrays_is_touched(size, side):
    half = guarded(np.random.default_rng(size).standard_normal(size).astype(np.float16), side)
    single = guarded(to_single(half, 2), side)
    target = guarded(np.zeros(size, np.float16), side)
    to_half(single, target, 2)
    np.testing.assert_array_equal(target, half)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2), (1, 0, 3, 2)])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_any_order_of_the_axes(order, step):
    half = np.random.default_rng(5).standard_normal((2, 3, 20, 30)).astype(np.float16).transpose(order)[:, :, :, ::step]
    single = to_single(half, 2)
    np.testing.assert_array_equal(single, half.astype(np.float32))
    target = np.zeros((2, 3, 20, 30), np.float16).transpose(order)[:, :, :, ::step]
    to_half(np.ascontiguousarray(single), target, 2)
    np.testing.assert_array_equal(target, half)
