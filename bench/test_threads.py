"""Overheads of a parallel region: back to back, from idle, and what waiting costs.

``python bench/test_threads.py`` prints the table by which WORKER_SPIN_S and CALLER_SPIN_S of
``fastconv.kernels.threads`` were chosen; ``pytest bench/test_threads.py`` times the same regions with
pytest-benchmark. Never pass or fail by time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fastconv.kernels import threads
from fastconv.kernels.threads import Pool
from thread_cases import work, work_region


def median_us(action: Callable[[], Any], repeats: int, pause_s: float = 0.0) -> np.ndarray:
    """Return the 10th, 50th and 90th percentile of the time of `action` in microseconds, `pause_s` of sleep before each."""
    times = []
    for _ in range(repeats):
        if pause_s:
            time.sleep(pause_s)
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return np.percentile(times, [10, 50, 90]) * 1e6


def turns_for(microseconds: float) -> int:
    """Return how many turns of `work` take that long."""
    work(10)
    return round(100_000 * microseconds / median_us(lambda: work(100_000), 50)[0])


def report(pool: Pool) -> None:
    """Print the overheads of a region of two tiles on two threads over one tile alone."""
    out = np.zeros((2, 8))

    def region(turns: int) -> Callable[[], Any]:
        return lambda: work_region(pool.handle(2), 2, turns, out)

    for _ in range(1000):
        region(1)()
    start = time.perf_counter()
    for _ in range(20_000):
        work_region(pool.handle(2), 2, 0, out)
    empty = (time.perf_counter() - start) / 20_000 * 1e6
    start = time.perf_counter()
    for _ in range(20_000):
        work_region(0, 1, 0, out)
    alone = (time.perf_counter() - start) / 20_000 * 1e6
    print(f"empty region back to back {empty:.2f} us, the same alone {alone:.2f} us (both with the call from Python)")
    for tile_us, repeats in ((50, 2000), (200, 500)):
        turns = turns_for(tile_us)
        one = median_us(lambda turns=turns: work(turns), repeats)[1]
        print(f"two tiles of {one:.0f} us back to back +{median_us(region(turns), repeats)[1] - one:.1f} us")
    turns = turns_for(200)
    for pause_s, repeats in ((0.002, 200), (0.02, 60)):
        one = median_us(lambda: work(turns), repeats, pause_s)[1]
        both = 0
        times = []
        for _ in range(repeats):
            times.append(median_us(region(turns), 1, pause_s)[1])
            both += out[0, 1] != out[1, 1]
        low, middle, high = np.percentile(times, [10, 50, 90]) - one
        print(
            f"two tiles of 200 us after {pause_s * 1e3:.0f} ms of sleep: +{low:.0f} / +{middle:.0f} / +{high:.0f} us "
            f"(10 / 50 / 90 %), on two threads in {both} of {repeats}"
        )
        low, middle, high = median_us(region(0), repeats, pause_s)
        print(f"empty region after {pause_s * 1e3:.0f} ms of sleep: {low:.0f} / {middle:.0f} / {high:.0f} us")
    time.sleep(0.01)
    before = time.process_time()
    time.sleep(1.0)
    print(f"CPU while idle {(time.process_time() - before) * 100:.2f} %")


@pytest.mark.parametrize("tile_us", [0, 50])
@pytest.mark.parametrize("nthreads", [1, 2])
def test_region_back_to_back(benchmark: Any, nthreads: int, tile_us: int) -> None:
    out = np.zeros((2, 8))
    turns = turns_for(tile_us) if tile_us else 0
    work_region(threads.pool.handle(nthreads), nthreads, turns, out)
    benchmark(lambda: work_region(threads.pool.handle(nthreads), nthreads, turns, out))
    assert out[0, 0] == out[1, 0] == work(turns)


if __name__ == "__main__":
    for worker_spin_s, caller_spin_s in ((100e-6, 100e-6), (10e-6, 100e-6), (30e-6, 100e-6), (100e-6, 20e-6)):
        threads.WORKER_SPIN_S, threads.CALLER_SPIN_S = worker_spin_s, caller_spin_s
        print(f"-- worker spins {worker_spin_s * 1e6:.0f} us, caller {caller_spin_s * 1e6:.0f} us")
        report(Pool(max_workers=1))
