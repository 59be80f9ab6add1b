"""The machine as measured: from wisdom, or calibrated on first use and stored there."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable

import numpy as np
from numba.core import config

from fastconv.errors import WisdomError
from fastconv.kernels.bandwidth import measured_bandwidth
from fastconv.kernels.peak import RESULT_NBYTES, measured_peak, run_chains
from fastconv.kernels.threads import pool
from fastconv.machine import COPY_NBYTES, RATES, SHARED, Machine, machine_with, nominal_machine, usable_cores
from fastconv.plans import address
from fastconv.wisdom import opened

#: Seconds spent on each rate.
SECONDS_EACH = 0.02
#: Rows, sum and columns of the product that BLAS is judged by: so few multiply-adds that it does not wake threads, as
#: those are not fastconv's and may wait for each other for milliseconds (OpenBLAS: below 2**18).
BLAS_SHAPE = (48, 112, 48)


@functools.lru_cache(maxsize=16)
def current_machine(wisdom: str) -> Machine:
    """Return the machine that the cost model counts with.

    Parameters
    ----------
    wisdom : str
        The setting "wisdom". With "off", or without a compiler, nothing is measured and the nominal rates hold; otherwise the rates are
        read from the file, or measured now (once per machine, below two seconds) and stored there.
    """
    known = opened(wisdom)
    if known is None or config.DISABLE_JIT:
        return nominal_machine()
    rates = known.rates()
    if not set(RATES) <= rates.keys():
        rates = calibrate(wisdom)
    return machine_with(rates)


def calibrate(wisdom: str) -> dict[str, float]:
    """Measure the rates of this machine and store them; a file that cannot be written costs a warning."""
    rates = measured_rates()
    known = opened(wisdom)
    if known is not None:
        try:
            known.store_rates(rates)
        except WisdomError as error:
            warnings.warn(f"fastconv: {error} This machine is calibrated anew in each process.", RuntimeWarning, stacklevel=2)
    return rates


def measured_rates() -> dict[str, float]:
    """Measure the rates of one core, and of all where they share memory: below two seconds, compiling the loops included."""
    cores = usable_cores()
    copies = {name: measured_bandwidth(nbytes, seconds=SECONDS_EACH) for name, nbytes in COPY_NBYTES.items()}
    shared = {SHARED[name]: measured_bandwidth(COPY_NBYTES[name] // cores, cores, seconds=SECONDS_EACH) for name in SHARED}
    return {
        **{f"peak_{dtype}": measured_peak(dtype, seconds=SECONDS_EACH) for dtype in ("float32", "float64")},
        **{f"blas_{dtype}": _blas(dtype) for dtype in ("float32", "float64")},
        **copies,
        **shared,
        "call_s": _call_s(),
    }


def _blas(dtype: str) -> float:
    """Return the flops per second of a matrix product of NumPy's on one core, what its call takes left out."""
    rows, depth, columns = BLAS_SHAPE
    a, b, out = (np.ones(shape, dtype) for shape in ((rows, depth), (depth, columns), (rows, columns)))
    tiny = a[:1, :1], b[:1, :1], out[:1, :1]
    call_s = _best_s(lambda: np.matmul(tiny[0], tiny[1], out=tiny[2]))
    whole_s = _best_s(lambda: np.matmul(a, b, out=out))
    return 2 * rows * depth * columns / max(whole_s - call_s, whole_s / 10)


def _call_s() -> float:
    """Return the seconds of what a plan's call does besides computing: looks at an array, a result, a call into machine code."""
    x, like = np.ones((1, 1, 8, 8), np.float32), np.zeros(1, np.float32)
    shape, dtype, result = x.shape, x.dtype, np.zeros(RESULT_NBYTES, np.uint8)

    def call() -> None:
        if x.shape != shape or x.dtype is not dtype or not x.flags.aligned:
            return
        out = np.empty(shape, dtype)
        if x.strides == out.strides and address(x) != address(out):
            run_chains(pool.handle(1), 1, like, 0, address(result))

    return _best_s(call)


def _best_s(function: Callable[[], object]) -> float:
    """Return the shortest of the runs of `function` within `SECONDS_EACH`, at least three after a first one."""
    function()
    best, runs, end = float("inf"), 0, time.perf_counter() + SECONDS_EACH
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best
