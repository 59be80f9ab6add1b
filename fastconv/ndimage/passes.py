"""One filter pass over an array: its arguments are brought into the form of the kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv._typing import Array
from fastconv.kernels import windows
from fastconv.kernels.rows import KINDS
from fastconv.kernels.threads import pool
from fastconv.kernels.window_sums import ANTISYMMETRIC, PLAIN, SYMMETRIC, step_of
from fastconv.ndimage.operands import EPSILON, index_map
from fastconv.settings import get_config

#: Columns of a task at most, and at least where its lines would leave a core's second-level cache.
MOST_COLS, LEAST_COLS = 1024, 128
#: Bytes of converted lines that stay in the second-level and in the first-level cache.
LINES_NBYTES, NEAR_NBYTES = 196_608, 24_576
#: Output rows that are summed together where their lines do not stay in the first-level cache.
GROUP_ROWS = 4
#: Outputs of a task times taps: enough to hide its start and the lines that neighbouring tasks both convert.
TASK_MACS = 400_000
#: Outputs times taps from which threads are used: waking one takes about as long as half of these sums.
PARALLEL_MACS = 400_000
#: What converting and storing an output costs, in taps.
FIXED_TAPS = 8
#: Rows of fewer elements than this are filtered as one long row, whose taps lie further apart.
NARROW = 64
#: Plans of each kind that are kept for the next call with such arrays and weights.
KEPT = 256
_KIND = {np.dtype(name): number for number, name in enumerate(KINDS)}
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
#: Of the source, of the result, of the sums.
_Dtypes = tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]


class Pass(NamedTuple):
    """What a pass over arrays of one shape needs besides the arrays: the last arguments of a kernel."""

    threads: int
    tasks: int
    arguments: tuple[Any, ...]


def _run(kernel: Callable[..., None], p: Pass, x: Array, out: Array) -> Array:
    """Run `kernel` from `x` into `out`, through copies where they overlap or their elements do not lie in order."""
    flags = x.flags
    src = x if flags.c_contiguous and flags.aligned else x.copy(order="C")
    flags = out.flags
    dst = out if flags.c_contiguous and flags.aligned and not np.may_share_memory(src, out) else np.empty(out.shape, out.dtype)
    kernel(pool.handle(p.threads), p.threads, p.tasks, src.ctypes.data, dst.ctypes.data, *p.arguments)
    if dst is not out:
        out[...] = dst
    return out


def _sums(x: Array, out: Array) -> np.dtype[Any]:
    """Return what is summed in."""
    is_single = x.dtype == out.dtype == np.float32 and get_config().ndimage_precision == "input"
    return _SINGLE if is_single else _DOUBLE


def _words(dtypes: _Dtypes, width: int, shape: tuple[int, int], inside: tuple[int, int], kernel: tuple[int, int], block: tuple[int, int],
           form: int, group: int = 1) -> Array:  # fmt: skip
    """Return the geometry of `kernels.windows`; along the axis that is filtered, source and result are equally long."""
    src, dst, sums = dtypes
    words = (_KIND[src], src.itemsize, _KIND[dst], dst.itemsize, shape[0], width, *shape, *inside, *kernel, *block, step_of(sums),
             form, group)  # fmt: skip
    return np.array(words, np.int64)


def _blocks(
    dtypes: _Dtypes, shape: tuple[int, int, int], maps: tuple[Array, Array], taps: Array, places: tuple[Array, Array], form: int,
    cval: float, kernel: tuple[int, int], inside: tuple[int, int], threads: int,
) -> Pass:  # fmt: skip
    """Plan the filtering of images of shape (N, H, W) in blocks of about equal size."""
    images, height, width = shape
    threads = threads if images * height * width * (taps.size + FIXED_TAPS) >= PARALLEL_MACS else 1
    across = -(-width // max(LEAST_COLS, min(MOST_COLS, LINES_NBYTES // (kernel[0] * taps.itemsize))))
    step = step_of(taps.dtype)
    cols = -(-width // (across * step)) * step
    across = -(-width // cols)
    rows = height
    if threads > 1:
        rows = max(4 * kernel[0], TASK_MACS // (min(cols, width) * taps.size), 1)
        # Two tasks for each thread at least, where that costs little.
        rows = max(min(rows, -(-height * images * across // (2 * threads))), 2 * kernel[0] - 1)
        rows = -(-height // -(-height // rows))
    tasks = images * across * -(-height // rows)
    group = 1 if kernel[0] * cols * taps.itemsize <= NEAR_NBYTES else GROUP_ROWS
    geometry = _words(dtypes, width, (height, width), inside, kernel, (rows, cols), form, group)
    return Pass(threads, tasks, (*maps, taps, *places, geometry, cval))


@functools.lru_cache(maxsize=KEPT)
def _axis_pass(
    dtypes: _Dtypes, shape: tuple[int, ...], weights: bytes, axis: int, mode: str, cval: float, lo: int, threads: int
) -> Pass:  # fmt: skip
    """Plan `correlate_axis`."""
    outer, n, inner = _around(shape, axis)
    taps = np.frombuffer(weights, np.float64)
    k, form = taps.size, _form(taps)
    steps, zeros = np.arange(k), np.zeros(k, np.int64)
    if form == PLAIN:
        # SciPy begins with the last tap, goes on with the first.
        steps = np.roll(steps, 1)
    taps = taps[steps].astype(dtypes[2])
    if inner < NARROW:
        maps = np.arange(outer), index_map(n, lo, k - 1 - lo, mode, inner)
        extent, inside = (1, (k - 1) * inner + 1), (lo * inner, (lo + n) * inner)
        return _blocks(dtypes, (1, outer, n * inner), maps, taps, (zeros, steps * inner), form, cval, extent, inside, threads)
    maps = index_map(n, lo, k - 1 - lo, mode), np.arange(inner)
    return _blocks(dtypes, (outer, n, inner), maps, taps, (steps, zeros), form, cval, (k, 1), (0, inner), threads)


@functools.lru_cache(maxsize=KEPT)
def _window_pass(
    dtypes: _Dtypes, shape: tuple[int, ...], weights: bytes, kw: int, mode: str, cval: float, lo: tuple[int, int], threads: int
) -> Pass:  # fmt: skip
    """Plan `correlate_windows`; without a tap that counts there is no task."""
    height, width = shape[-2:]
    window = np.frombuffer(weights, np.float64).reshape(-1, kw)
    kh = len(window)
    tap_rows, tap_cols = map(np.ascontiguousarray, np.nonzero(np.abs(window) > EPSILON))
    taps = window[tap_rows, tap_cols].astype(dtypes[2])
    if not taps.size:
        return Pass(1, 0, ())
    maps = index_map(height, lo[0], kh - 1 - lo[0], mode), index_map(width, lo[1], kw - 1 - lo[1], mode)
    images = (math.prod(shape[:-2]), height, width)
    return _blocks(dtypes, images, maps, taps, (tap_rows, tap_cols), PLAIN, cval, (kh, kw), (lo[1], lo[1] + width), threads)


@functools.lru_cache(maxsize=KEPT)
def _running_pass(
    dtypes: _Dtypes, shape: tuple[int, ...], size: int, axis: int, mode: str, cval: float, lo: int, threads: int
) -> Pass:  # fmt: skip
    """Plan `average_axis`."""
    outer, n, inner = _around(shape, axis)
    threads = threads if outer * n * inner * FIXED_TAPS >= PARALLEL_MACS else 1
    places, zero = index_map(n, lo, size - 1 - lo, mode), np.zeros(0, dtypes[2])
    if inner == 1:
        geometry = _words(dtypes, n, (outer, n), (lo, lo + n), (1, size), (4, n), PLAIN)
        return Pass(threads, -(-outer // 4), (places, size, geometry, cval, zero))
    cols = max(LEAST_COLS, min(MOST_COLS, -(-inner * outer // (2 * threads))))
    geometry = _words(dtypes, inner, (n, inner), (0, inner), (size, 1), (n, cols), PLAIN)
    return Pass(threads, outer * -(-inner // cols), (places, size, geometry, cval, zero))


def _form(weights: Array) -> int:
    """Return SciPy's judgement whether taps are summed one by one or in pairs."""
    if weights.size % 2 == 0:
        return PLAIN
    mirrored = weights[::-1]
    if (np.abs(weights - mirrored) <= EPSILON).all():
        return SYMMETRIC
    # The middle weight is not looked at.
    differs = np.abs(weights + mirrored) > EPSILON
    differs[weights.size // 2] = False
    return PLAIN if differs.any() else ANTISYMMETRIC


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def correlate_axis(x: Array, weights: Array, axis: int, out: Array, mode: str, cval: float, lo: int) -> Array:
    """Correlate along one axis in SciPy's order of summation; `x` and `out` may be the same array.

    Parameters
    ----------
    x : ndarray
        Of a dtype in `operands.INPUTS`.
    weights : ndarray of shape (K,), float64
    axis : int
        From 0.
    out : ndarray of x's shape
    mode : str
        In the words of `source_index`.
    cval : float
    lo : int
        Window positions before the output's.

    Returns
    -------
    ndarray
        `out`.
    """
    dtypes = x.dtype, out.dtype, _sums(x, out)
    p = _axis_pass(dtypes, x.shape, weights.tobytes(), axis, mode, cval, lo, get_config().threads)
    return _run(windows.windows, p, x, out)


def correlate_windows(x: Array, weights: Array, out: Array, mode: str, cval: float, lo: tuple[int, int]) -> Array:
    """Correlate the last two axes of `x` with `weights` (KH, KW), in the order of the window, small weights left out."""
    dtypes = x.dtype, out.dtype, _sums(x, out)
    p = _window_pass(dtypes, x.shape, weights.tobytes(), weights.shape[1], mode, cval, lo, get_config().threads)
    if not p.tasks:
        out[...] = 0
        return out
    return _run(windows.windows, p, x, out)


def average_axis(x: Array, size: int, axis: int, out: Array, mode: str, cval: float, lo: int) -> Array:
    """Average `size` neighbours along one axis by a running sum; the arguments are those of `correlate_axis`."""
    p = _running_pass((x.dtype, out.dtype, _sums(x, out)), x.shape, size, axis, mode, cval, lo, get_config().threads)
    is_last = math.prod(x.shape[axis + 1 :]) == 1
    return _run(windows.running_line_sums if is_last else windows.running_sums, p, x, out)
