"""Correlation of one line with one kernel: short kernels on long lines see a plane of overlapping rows, without a copy."""

from __future__ import annotations

import functools

import numpy as np

from fastconv._typing import Array
from fastconv.planes import configured, correlate_plane, predicted
from fastconv.settings import Config

#: Fewer products than this are summed as one row: rows are not worth looking at.
SMALL_MACS = 200_000
#: Outputs of a row, about, and rows that are worth the two ends.
ROW, LEAST_ROWS = 4096, 8


def correlate_line(x: Array, w: Array, lo: int, hi: int, *, accuracy: str | None = None) -> Array:
    """Return y[i] = sum over k of xp[i + k] * w[k], where xp is x with `lo` zeros before and `hi` behind.

    Parameters
    ----------
    x : ndarray of shape (L,)
        Any stride; not shorter than `w`.
    w : ndarray of shape (K,)
        Of x's dtype, one of `planes.NATIVE`.
    lo, hi : int
        At most K - 1.
    accuracy : str, optional
        Instead of the configured accuracy.

    Returns
    -------
    ndarray of shape (L + lo + hi - K + 1,)

    Notes
    -----
    A direct backend shares rows, not samples, out among its vectors and threads. So where one is predicted to be fastest, the
    outputs that read no zeros are computed as a plane: row i is ``x[i*R : i*R + R + K - 1]``, rows overlap in memory. The few
    at both ends are summed by `numpy.convolve`.
    """
    rows = 0 if x.size * w.size < SMALL_MACS else _rows(x.size, w.size, lo, hi, x.dtype, configured(accuracy))
    if not rows:
        single: Array = correlate_plane(x[np.newaxis], w[np.newaxis], ((0, 0), (lo, hi)), accuracy=accuracy)[0]
        return single
    k, flipped = w.size, w[::-1]
    row = (x.size - k + 1) // rows
    end = rows * row
    y = np.empty(x.size + lo + hi - k + 1, x.dtype)
    (step,) = x.strides
    plane = np.lib.stride_tricks.as_strided(x, (rows, row + k - 1), (row * step, step), writeable=False)
    correlate_plane(plane, w[np.newaxis], ((0, 0), (0, 0)), out=y[lo : lo + end].reshape(rows, row), accuracy=accuracy)
    with np.errstate(all="ignore"):
        if lo:
            y[:lo] = np.convolve(np.concatenate((np.zeros(lo, x.dtype), x[: k - 1])), flipped, "valid")
        if lo + end < y.size:
            y[lo + end :] = np.convolve(np.concatenate((x[end:], np.zeros(hi, x.dtype))), flipped, "valid")
    return y


@functools.lru_cache(maxsize=512)
def _rows(n: int, k: int, lo: int, hi: int, dtype: np.dtype[np.generic], config: Config) -> int:
    """Return how many rows to see the line as, or 0 for the line as it is."""
    outputs = n - k + 1
    rows = round(outputs / ROW)
    if rows < LEAST_ROWS or dtype.kind in "iu":
        return rows if rows >= LEAST_ROWS else 0
    row = outputs // rows
    _, alone = predicted((1, n), (1, k), ((0, 0), (lo, hi)), dtype.name, config=config)
    algorithm, seconds = predicted((rows, row + k - 1), (1, k), ((0, 0), (0, 0)), dtype.name, config=config)
    return rows if algorithm.startswith("direct") and seconds < alone else 0
