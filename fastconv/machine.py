"""What the cost model knows of the machine it runs on: a handful of rates, nominal or measured."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastconv.kernels.target import Target, host

#: Assumed until measured: a clock, fused multiply-adds per cycle, sustained bandwidths of one core, and the cost
#: of one call from Python into a kernel. `measured_rates` (``fastconv tune --machine``) gives the machine's own.
NOMINAL_HZ = 3.0e9
NOMINAL_FMA_PER_CYCLE = 2
NOMINAL_BANDWIDTH = 20e9
NOMINAL_CACHE_BANDWIDTH = 60e9
NOMINAL_CALL_S = 4e-6
#: Sizes of the copies that measure bandwidth: far beyond any cache, and within a last-level cache.
MEMORY_COPY_NBYTES = 64 * 2**20
CACHE_COPY_NBYTES = 2 * 2**20


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
    bandwidth : float
        Bytes per second that one core reads and writes in memory.
    cache_bandwidth : float
        Bytes per second that one core reads and writes in the last-level cache.
    call_s : float
        Seconds of one call from Python into a kernel with its checks and a result of few bytes.
    is_measured : bool
        Whether the rates were measured here or are assumed.
    """

    target: Target
    cores: int
    peak_float32: float
    peak_float64: float
    bandwidth: float = NOMINAL_BANDWIDTH
    cache_bandwidth: float = NOMINAL_CACHE_BANDWIDTH
    call_s: float = NOMINAL_CALL_S
    is_measured: bool = False

    def peak(self, dtype: str) -> float:
        """Return the peak of one core in flops per second for the real arithmetic behind `dtype`."""
        return self.peak_float32 if dtype in {"float32", "complex64", "float16"} else self.peak_float64


#: The rates that are measured and stored.
RATES = ("peak_float32", "peak_float64", "bandwidth", "cache_bandwidth", "call_s")


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
    return Machine(target, usable_cores(), per_lane * target.lanes(4), per_lane * target.lanes(8))


def machine_with(rates: dict[str, float]) -> Machine:
    """Return this machine with measured `rates`, all of `RATES`."""
    return Machine(host(), usable_cores(), **{name: rates[name] for name in RATES}, is_measured=True)


def measured_rates() -> dict[str, float]:
    """Measure the rates of one core; takes well below two seconds once the peak kernel is compiled."""
    from fastconv.kernels.peak import measured_peak  # noqa: PLC0415  compiled only when asked for

    like, small = np.zeros(1, np.float32), np.zeros((1, 1, 8, 8), np.float32)
    return {
        "peak_float32": measured_peak("float32"),
        "peak_float64": measured_peak("float64"),
        "bandwidth": _copy_bandwidth(MEMORY_COPY_NBYTES),
        "cache_bandwidth": _copy_bandwidth(CACHE_COPY_NBYTES),
        # A call does about what these three do: a look at two arrays, a result, some checks.
        "call_s": _best_s(lambda: (np.empty(small.shape, np.float32), small.__array_interface__, like.__array_interface__)) + 2e-6,
    }


def _copy_bandwidth(nbytes: int) -> float:
    source, target = np.zeros(nbytes // 8), np.zeros(nbytes // 8)
    return 2 * nbytes / _best_s(lambda: np.copyto(target, source))


def _best_s(function: Callable[[], object], seconds: float = 0.1) -> float:
    """Return the shortest of the runs of `function` within about `seconds`, at least three."""
    best, runs, end = float("inf"), 0, time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best
