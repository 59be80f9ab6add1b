"""The machine as measured: from wisdom, or calibrated on first use and stored there."""

from __future__ import annotations

import functools
import warnings

from numba.core import config

from fastconv.errors import WisdomError
from fastconv.machine import RATES, Machine, machine_with, measured_rates, nominal_machine
from fastconv.wisdom import opened


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
