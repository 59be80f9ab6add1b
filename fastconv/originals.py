"""SciPy's own functions, found once, so that what fastconv passes on reaches them even while they are patched."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any

#: The functions that fastconv replaces, by SciPy's module.
NAMES: dict[str, tuple[str, ...]] = {
    "signal": ("correlate2d", "convolve2d", "correlate", "convolve", "fftconvolve", "oaconvolve", "choose_conv_method"),
    "ndimage": (
        "correlate", "convolve", "correlate1d", "convolve1d", "gaussian_filter", "gaussian_filter1d", "uniform_filter",
        "uniform_filter1d", "sobel", "prewitt", "laplace", "gaussian_laplace",
    ),
}  # fmt: skip


@functools.cache
def originals(module: str) -> dict[str, Callable[..., Any]]:
    """Return SciPy's functions of ``scipy.<module>`` by name, as they were at the first call."""
    space = importlib.import_module(f"scipy.{module}")
    return {name: getattr(space, name) for name in NAMES[module]}


_noted = threading.local()


def original(module: str, name: str) -> Callable[..., Any]:
    """Return one of SciPy's functions for a call that is passed on; counted, see `passed_on`."""
    _noted.count = passed_on() + 1
    return originals(module)[name]


def passed_on() -> int:
    """Return how many calls this thread has passed on to SciPy."""
    count: int = getattr(_noted, "count", 0)
    return count


def is_loaded(module: str) -> bool:
    """Tell whether ``scipy.<module>`` is imported already, so that passing a tiny call on costs no import."""
    return f"scipy.{module}" in sys.modules
