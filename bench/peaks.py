"""Print this machine's measured peaks: multiply-adds per second, and bytes per second from each level of memory.

python bench/peaks.py
"""

from __future__ import annotations

import time

import numpy as np

from fastconv.cli.console import memory
from fastconv.kernels.peak import measured_peak
from fastconv.machine import usable_cores

COPY_NBYTES = (16 * 2**10, 256 * 2**10, 4 * 2**20, 256 * 2**20)


def copy_bandwidth(nbytes: int, seconds: float = 0.3) -> float:
    """Return bytes per second, read and written, of numpy.copyto between two arrays of `nbytes` together."""
    src, dst = np.ones(nbytes // 2, np.uint8), np.zeros(nbytes // 2, np.uint8)
    repeats = max(1, int(1e6 / nbytes))
    np.copyto(dst, src)  # the first touch of fresh memory costs page faults
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(repeats):
            np.copyto(dst, src)
        best = min(best, (time.perf_counter() - start) / repeats)
    return nbytes / best


if __name__ == "__main__":
    cores = usable_cores()
    for dtype in ("float32", "float64"):
        print(f"{dtype}: {measured_peak(dtype) / 1e9:.1f} GFLOP/s on one core, {measured_peak(dtype, cores) / 1e9:.1f} on {cores}")
    for nbytes in COPY_NBYTES:
        print(f"copy within {memory(nbytes)}: {copy_bandwidth(nbytes) / 1e9:.1f} GB/s on one core")
