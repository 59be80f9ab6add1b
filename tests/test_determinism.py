"""The same bits: run to run, for any number of threads, alone or in a batch, at any address."""

from __future__ import annotations

import numpy as np
import pytest

from cases import Case, cases, plan, reals
from oracle import Array

#: Batches of two and three images; shapes that other tests compile kernels for.
BATCHES = (
    "dense 3x3, odd everything, batch",
    "1x1",
    "depthwise 3x3",
    "planar 5x5, narrow",
    "channels-last",
    "kernel as large as the image",
)
CASES = cases("float32", names=BATCHES)
#: Tiles of two images may share one complex transform of an FFT: equal within the bound, see test_laws.
ALONE = [case for case in CASES if case.algorithm.rounding != "normwise"]
on_batches = pytest.mark.parametrize("case", CASES, ids=str)


def at(array: Array, elements: int) -> Array:
    """Return a copy with the same strides that begins so many elements behind the start of a cache line."""
    memory = np.empty(array.nbytes + 64 * (1 + array.itemsize), np.uint8)
    start = -memory.ctypes.data % 64 + elements * array.itemsize
    copy = np.ndarray(array.shape, array.dtype, memory, start, array.strides)
    copy[...] = array
    return copy


@on_batches
def test_the_same_bits_run_to_run_and_for_any_number_of_threads(case: Case) -> None:
    arrays = reals(case.problem)
    first = plan(case, arrays)(arrays.x, arrays.residual)
    for threads in (1, 2, 3, 8):
        made = plan(case, arrays, threads)
        for _ in range(3):
            assert made(arrays.x, arrays.residual).tobytes() == first.tobytes()


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_an_image_of_a_batch_has_the_bits_of_the_image_alone(case: Case) -> None:
    arrays = reals(case.problem)
    together = plan(case, arrays)(arrays.x, arrays.residual)
    alone = plan(Case(case.algorithm, case.problem.replace(mb=1)), arrays)
    for i in range(case.problem.mb):
        assert alone(arrays.x[i : i + 1]).tobytes() == together[i : i + 1].tobytes()


@on_batches
def test_the_same_bits_at_any_address(case: Case) -> None:
    arrays = reals(case.problem)
    made = plan(case, arrays)
    first = made(arrays.x)
    for elements in (1, 3, 8):
        out = at(first, elements)
        made(at(arrays.x, elements), out=out)
        assert out.tobytes() == first.tobytes()
