"""What the cost model knows of the machine it runs on."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import numpy as np

from fastconv.kernels.target import Target, host

#: Assumed until measured: a clock, fused multiply-adds per cycle, and sustained bandwidths of one core.
NOMINAL_HZ = 3.0e9
NOMINAL_FMA_PER_CYCLE = 2
NOMINAL_MEMORY_BANDWIDTH = 20e9
NOMINAL_CACHE_BANDWIDTH = 60e9
#: Assumed cost of one call from Python into a kernel, and of starting one parallel region.
NOMINAL_CALL_S = 4e-6
NOMINAL_REGION_S = 3e-6


@dataclass(frozen=True)
class Machine:
    """Numbers of the machine that turn counted work into time.

    Attributes
    ----------
    target : Target
        Vector width and registers.
    cores : int
        Cores this process may use.
    peak_flops : dict-like tuple of (dtype, float)
        Floating-point operations per second of one core, per real dtype.
    bandwidth : float
        Bytes per second between memory and one core.
    cache_bandwidth : float
        Bytes per second between the last-level cache and one core.
    call_s : float
        Seconds of one call from Python into a kernel.
    """

    target: Target
    cores: int
    peak_flops: tuple[tuple[str, float], ...]
    bandwidth: float = NOMINAL_MEMORY_BANDWIDTH
    cache_bandwidth: float = NOMINAL_CACHE_BANDWIDTH
    call_s: float = NOMINAL_CALL_S

    def peak(self, dtype: str) -> float:
        """Return the peak of one core in flops per second for the real arithmetic behind `dtype`."""
        real = {"complex64": "float32", "complex128": "float64", "float16": "float32"}.get(dtype, dtype)
        peaks = dict(self.peak_flops)
        return peaks.get(real, peaks["float64"])


@functools.cache
def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def nominal_machine() -> Machine:
    """Return a machine with assumed rates: enough to rank algorithms, not to predict milliseconds."""
    target = host()
    per_s = NOMINAL_HZ * NOMINAL_FMA_PER_CYCLE * 2
    peaks = tuple((name, per_s * target.lanes(np.dtype(name).itemsize)) for name in ("float32", "float64"))
    return Machine(target, usable_cores(), peaks)
