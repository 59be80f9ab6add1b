"""What the cost model knows of the machine it runs on: a handful of rates, nominal or measured."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass

import numpy as np

from fastconv.kernels.target import Target, host

#: Assumed until measured: a clock, fused multiply-adds per cycle, the share of that peak that BLAS reaches, sustained
#: bandwidths of one core, and the cost of one call from Python into a kernel. `fastconv.calibration` (``fastconv tune
#: --machine``) gives the machine's own.
NOMINAL_HZ = 3.0e9
NOMINAL_FMA_PER_CYCLE = 2
NOMINAL_BLAS_SHARE = 0.78
NOMINAL_BANDWIDTH = 20e9
NOMINAL_FAR_BANDWIDTH = 30e9
NOMINAL_CACHE_BANDWIDTH = 60e9
NOMINAL_L2_BANDWIDTH = 80e9
NOMINAL_L1_BANDWIDTH = 150e9
NOMINAL_CALL_S = 4e-6
#: Bytes that a copy reads and writes where it measures a bandwidth: within a core's first and second cache and the
#: last-level cache of any CPU of today, about as much as the largest of these hold, and far beyond all of them.
COPY_NBYTES = {
    "l1_bandwidth": 16 * 2**10, "l2_bandwidth": 192 * 2**10, "cache_bandwidth": 4 * 2**20, "far_bandwidth": 32 * 2**20,
    "bandwidth": 128 * 2**20,
}  # fmt: skip
#: Rates of all cores together where they share what is behind them, and the rate of one core that each belongs to. Nearer caches
#: serve each core as if it were alone.
SHARED = {"far_bandwidth": "shared_far_bandwidth", "bandwidth": "shared_bandwidth"}
#: Dtypes whose arithmetic is done in float32.
SINGLE = {"float32", "complex64", "float16"}


@dataclass(frozen=True)
class Machine:
    """Numbers of the machine that turn counted work into time.

    Attributes
    ----------
    target : Target
        Vector width and registers.
    cores : int
        Cores this process may use.
    peak_float32, peak_float64 : float
        Floating-point operations per second of one core, two per multiply-add.
    blas_float32, blas_float64 : float
        The same of NumPy's matrix product, which need not use all that the core has.
    bandwidth : float
        Bytes per second that one core reads and writes in memory.
    far_bandwidth, cache_bandwidth, l2_bandwidth, l1_bandwidth : float
        The same on 32 MiB, in the last-level cache and in its own second and first one.
    shared_bandwidth, shared_far_bandwidth : float
        What all cores together reach in memory and on 32 MiB.
    call_s : float
        Seconds of one call from Python into a kernel with its checks and a result of few bytes.
    is_measured : bool
        Whether the rates were measured here or are assumed.
    """

    target: Target
    cores: int
    peak_float32: float
    peak_float64: float
    blas_float32: float
    blas_float64: float
    bandwidth: float = NOMINAL_BANDWIDTH
    far_bandwidth: float = NOMINAL_FAR_BANDWIDTH
    cache_bandwidth: float = NOMINAL_CACHE_BANDWIDTH
    l2_bandwidth: float = NOMINAL_L2_BANDWIDTH
    l1_bandwidth: float = NOMINAL_L1_BANDWIDTH
    shared_bandwidth: float = 2 * NOMINAL_BANDWIDTH
    shared_far_bandwidth: float = 2 * NOMINAL_FAR_BANDWIDTH
    call_s: float = NOMINAL_CALL_S
    is_measured: bool = False

    def peak(self, dtype: str) -> float:
        """Return the peak of one core in flops per second for the real arithmetic behind `dtype`."""
        return self.peak_float32 if dtype in SINGLE else self.peak_float64

    def blas(self, dtype: str) -> float:
        """Return the flops per second of NumPy's matrix product on one core, for the real arithmetic behind `dtype`."""
        return self.blas_float32 if dtype in SINGLE else self.blas_float64

    def bandwidth_within(self, nbytes: float, cores: int = 1) -> float:
        """Return the bytes per second of `cores` cores together on arrays of `nbytes` together, met again and again.

        Between the measured sizes it is interpolated over the logarithm of the size; where the caches end need not be known.
        """
        return float(np.interp(math.log(max(nbytes, 1.0)), _COPY_LOGS, [self._bandwidth_of(name, cores) for name in COPY_NBYTES]))

    def _bandwidth_of(self, name: str, cores: int) -> float:
        alone: float = getattr(self, name)
        # A core of several may reach less than one alone does.
        return alone if cores == 1 else min(cores * alone, getattr(self, SHARED[name])) if name in SHARED else cores * alone


_COPY_LOGS = [math.log(size) for size in COPY_NBYTES.values()]
#: The rates that are measured and stored.
RATES = ("peak_float32", "peak_float64", "blas_float32", "blas_float64", *COPY_NBYTES, *SHARED.values(), "call_s")


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
    per_lane = NOMINAL_HZ * NOMINAL_FMA_PER_CYCLE * 2
    single, double = per_lane * target.lanes(4), per_lane * target.lanes(8)
    return Machine(target, usable_cores(), single, double, NOMINAL_BLAS_SHARE * single, NOMINAL_BLAS_SHARE * double)


def machine_with(rates: dict[str, float]) -> Machine:
    """Return this machine with measured `rates`, all of `RATES`."""
    return Machine(host(), usable_cores(), **{name: rates[name] for name in RATES}, is_measured=True)
