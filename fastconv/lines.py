"""Correlation of one line with one kernel, as a plane: so register tiles, FFT tiles and threads work on it as on an image."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from fastconv._typing import Array
from fastconv.planes import configured, correlate_plane, predicted
from fastconv.settings import Config

#: Fewer products than this are summed as one row: a second layout is not worth looking at.
SMALL_MACS = 200_000
#: Outputs of a row at least, and at most where there are enough for several rows a thread.
LEAST_ROW, ROW = 512, 4096
#: Folded kernels have rows of so many taps: vectors of columns fill the tile, and the tiles' lengths do not run out.
LEAST_FOLD, MOST_FOLD = 16, 256
#: Outputs that are computed at a time, and in taps: the copy of what they read stays in a cache and reads little twice.
CHUNK, CHUNK_TAPS = 2**19, 8


class Layout(NamedTuple):
    """How a line becomes planes.

    Attributes
    ----------
    rows, row : int
        Rows of a plane of results and outputs of each; row 0 leaves the line as it is.
    depth : int
        Rows that the kernel is folded to, each of `row` taps; 0 for a kernel of one row.
    """

    rows: int = 1
    row: int = 0
    depth: int = 0


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
    A long line is seen as planes, by the layout that is predicted to be fastest. With rows of R outputs::

        rows     y[i*R + j] = sum over k of xp[i*R + j + k] * w[k]                     a kernel of one row
        folded   y[i*R + j] = sum over r, s of X[i + r, j + s] * w[r*R + s]            a kernel of K/R rows of R taps

    where row i of X is ``xp[i*R : i*R + 2*R - 1]``: the rows of both overlap in memory. The folded form lets two short
    transforms do the work of one of length R*K/R; half of the columns of its tiles are thrown away.

    **Memory** a copy, between zeros, of what is computed at a time: half a million outputs or eight times the taps.
    """
    layout = Layout() if x.size * w.size < SMALL_MACS else _layout(x.size, w.size, lo, hi, x.dtype, configured(accuracy))
    if layout.row:
        y = _in_planes(x, w, lo, hi, layout, accuracy)
        # Zeros fill the last row of a folded kernel up, and must not meet NaN.
        if not layout.depth or np.isfinite(y.sum()):
            return y
    single: Array = correlate_plane(x[np.newaxis], w[np.newaxis], ((0, 0), (lo, hi)), accuracy=accuracy)[0]
    return single


@functools.lru_cache(maxsize=512)
def _layout(n: int, k: int, lo: int, hi: int, dtype: np.dtype[np.generic], config: Config) -> Layout:
    """Return the layout with the shortest predicted time for an output."""
    none = ((0, 0), (0, 0))
    outputs = n + lo + hi - k + 1
    # Chunks of equal length, so that the last one does little twice.
    chunk = -(-outputs // -(-outputs // max(CHUNK, CHUNK_TAPS * k)))
    # Rows that share their samples out among the threads, not much shorter than the kernel.
    row = min(max(LEAST_ROW, chunk // (8 * config.threads), k), max(ROW, 4 * k))
    in_rows = Layout(-(-chunk // row), row)
    if dtype.kind in "iu":
        return in_rows if in_rows.rows > 1 else Layout()
    name = dtype.name
    algorithm, seconds = predicted((1, n), (1, k), ((0, 0), (lo, hi)), name, config=config)
    # The transform of a line as a whole is the last resort: it runs at the speed of memory.
    times = {} if algorithm == "fft:whole" else {Layout(): seconds}
    if in_rows.rows > 1:
        algorithm, seconds = predicted((in_rows.rows, row + k - 1), (1, k), none, name, config=config)
        if algorithm != "fft:whole":
            times[in_rows] = seconds * outputs / (in_rows.rows * row)
    near = 2 ** round(math.log2(math.sqrt(k)))
    for fold in sorted({min(max(size, LEAST_FOLD), MOST_FOLD) for size in (near // 2, near, 2 * near)}):
        layout = Layout(-(-chunk // fold), fold, -(-k // fold))
        if layout.depth > 1:
            plane, window = (layout.rows + layout.depth - 1, 2 * fold - 1), (layout.depth, fold)
            algorithm, seconds = predicted(plane, window, none, name, config=config)
            if algorithm in {"fft:plane", "fft:tiles"}:
                times[layout] = seconds * outputs / (layout.rows * fold)
    return min(times, key=times.__getitem__, default=Layout())


def _in_planes(x: Array, w: Array, lo: int, hi: int, layout: Layout, accuracy: str | None) -> Array:
    """Correlate a plane of overlapping rows at a time; the last one ends where the line does."""
    rows, row, depth = layout
    outputs, chunk = x.size + lo + hi - w.size + 1, rows * row
    if depth:
        window, read, shape = np.zeros((depth, row), w.dtype), (rows + depth) * row, (rows + depth - 1, 2 * row - 1)
        window.reshape(-1)[: w.size] = w
    else:
        window, read, shape = w[np.newaxis], chunk + w.size - 1, (rows, row + w.size - 1)
    line = np.empty(read, x.dtype)
    plane = np.lib.stride_tricks.as_strided(line, shape, (row * line.itemsize, line.itemsize), writeable=False)
    none = ((0, 0), (0, 0))
    if outputs <= chunk:
        _copy_between_zeros(x, -lo, line)
        y: Array = correlate_plane(plane, window, none, accuracy=accuracy).reshape(-1)[:outputs]
        return y
    y = np.empty(outputs, x.dtype)
    for first in (*range(0, outputs - chunk, chunk), outputs - chunk):
        _copy_between_zeros(x, first - lo, line)
        correlate_plane(plane, window, none, out=y[first : first + chunk].reshape(rows, row), accuracy=accuracy)
    return y


def _copy_between_zeros(x: Array, first: int, line: Array) -> None:
    """Copy x[first], x[first + 1], ... into `line`, zeros where there are none."""
    before, end = max(0, -first), max(0, min(line.size, x.size - first))
    line[:before], line[end:] = 0, 0
    line[before:end] = x[first + before : first + end]
