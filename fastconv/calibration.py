"""The machine as measured: from wisdom, or calibrated on first use and stored there."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import config

from fastconv.errors import WisdomError
from fastconv.kernels._jit import jit
from fastconv.kernels.peak import UNROLL, _fma_chains, chains
from fastconv.kernels.target import host
from fastconv.machine import COPY_NBYTES, RATES, Machine, machine_with, nominal_machine
from fastconv.plans import address
from fastconv.wisdom import opened

#: Turns of the multiply-add loop in a run: about 0.1 ms, shorter than a time slice.
PEAK_TURNS = 16_000
#: Seconds spent on each rate.
SECONDS_EACH = 0.04


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
    """Measure the rates of one core: below two seconds, compiling the multiply-add loops included."""
    return {
        "peak_float32": _peak("float32"),
        "peak_float64": _peak("float64"),
        **{name: _copy_bandwidth(nbytes) for name, nbytes in COPY_NBYTES.items()},
        "call_s": _call_s(),
    }


@jit
def _run_chains(like: Any, turns: int, dst: int) -> None:
    _fma_chains(like, turns, dst)


def _peak(dtype: str) -> float:
    """Return the flops per second of independent multiply-adds on registers."""
    like, target = np.zeros(1, dtype), host()
    result = np.zeros(target.vector_nbytes, np.uint8)
    seconds = _best_s(lambda: _run_chains(like, PEAK_TURNS, address(result)))
    return 2 * target.lanes(like.itemsize) * chains(target) * UNROLL * PEAK_TURNS / seconds


def _copy_bandwidth(nbytes: int) -> float:
    """Return the bandwidth of a copy that reads and writes `nbytes` together, what NumPy's call takes left out."""
    # Not zeros: pages of zeros that were never written are one page, read from the cache.
    source, target = np.ones(nbytes // 16), np.ones(nbytes // 16)
    call_s = _best_s(lambda: np.copyto(target[:1], source[:1])) if nbytes < 2**20 else 0.0
    whole_s = _best_s(lambda: np.copyto(target[:], source[:]))
    return nbytes / max(whole_s - call_s, whole_s / 10)


def _call_s() -> float:
    """Return the seconds of what a plan's call does besides computing: looks at an array, a result, a call into machine code."""
    x, like = np.ones((1, 1, 8, 8), np.float32), np.zeros(1, np.float32)
    shape, dtype, result = x.shape, x.dtype, np.zeros(64, np.uint8)

    def call() -> None:
        if x.shape != shape or x.dtype is not dtype or not x.flags.aligned:
            return
        out = np.empty(shape, dtype)
        if x.strides == out.strides and address(x) != address(out):
            _run_chains(like, 0, address(result))

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
