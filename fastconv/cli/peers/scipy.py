"""SciPy's own other ways: `scipy.ndimage.correlate`, and the FFT of `scipy.signal` with all its threads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.cli.peers.base import Call, is_one_plane, zeros_outside
from fastconv.problem import ConvProblem

#: Kernels with fewer elements are no work for an FFT of the image.
LEAST_FOR_FFT = 25
#: scipy.ndimage takes a turn per element of the kernel: beyond this it would only cost time.
MOST_FOR_NDIMAGE = 400


def prepare_ndimage(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Take `scipy.ndimage.correlate` where the borders are its own."""
    del threads  # it has one
    if not is_one_plane(p) or p.padding_mode != "symmetric" or p.out_shape != p.x_shape or p.kh * p.kw > MOST_FOR_NDIMAGE:
        return None
    ndimage: Any = importlib.import_module("scipy.ndimage")
    kernel = w[0, 0]

    def call() -> Array:
        y = np.empty_like(x)
        for n in range(p.mb):
            ndimage.correlate(x[n, 0], kernel, output=y[n, 0], mode="reflect")
        return y

    return call


def _transformed(name: str, p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    if not is_one_plane(p) or p.kh * p.kw < LEAST_FOR_FFT:
        return None
    convolve: Any = getattr(importlib.import_module("scipy.signal"), name)
    fft: Any = importlib.import_module("scipy.fft")
    p, x = zeros_outside(p, x)
    kernel = np.ascontiguousarray(w[:, :, ::-1, ::-1])
    if max(p.ph_lo, p.ph_hi) >= p.kh or max(p.pw_lo, p.pw_hi) >= p.kw:
        return None
    top, left = p.kh - 1 - p.ph_lo, p.kw - 1 - p.pw_lo  # within the full result

    def call() -> Array:
        with fft.set_workers(threads):
            y: Array = convolve(x, kernel, axes=(2, 3))
        return np.ascontiguousarray(y[:, :, top : top + p.oh, left : left + p.ow])

    return call


def transform(name: str) -> Callable[[ConvProblem, Array, Array, int], Call | None]:
    """Return the preparation of ``scipy.signal.fftconvolve`` or ``oaconvolve``."""

    def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
        return _transformed(name, p, x, w, threads)

    return prepare
