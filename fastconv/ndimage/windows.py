"""correlate and convolve with a window of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import planes
from fastconv._typing import Array
from fastconv.ndimage.operands import (
    COMPLEX,
    EPSILON,
    PassOn,
    axes_of,
    before,
    border,
    destination,
    or_scipys,
    real_cval,
    real_weights,
    sequence,
    source,
)
from fastconv.ndimage.passes import correlate_windows
from fastconv.settings import get_config

#: Windows of fewer taps are summed directly without asking the planner.
SMALL_WINDOW = 64
#: Products per second of one core in `kernels.windows`, for the comparison with the planner's prediction.
WINDOW_MACS_PER_S = 5e9


@or_scipys
def correlate(
    input: Any,  # noqa: A002  SciPy's name
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> Array:
    """Correlate with a window: `scipy.ndimage.correlate`.

    Parameters
    ----------
    input : array_like
        Any number of dimensions.
    weights : array_like
        With as many axes as `input`, or as `axes` names. Weights of at most 2.2e-16 in magnitude are left out, so NaN under
        them does not spread.
    output, mode, cval
        As in `correlate1d`.
    origin : int or sequence of int
        Shift of the window along each axis, from -(K//2) to (K-1)//2.
    axes : int or tuple of int, optional
        The axes of the window, by default all.

    Returns
    -------
    ndarray

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does.

    Notes
    -----
    **Accuracy** sums in double in SciPy's order. Floating-point output of large windows goes by FFT (in double) where that is
    predicted to be faster, unless ``accuracy="strict"``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import correlate
    >>> correlate(np.arange(9.0).reshape(3, 3), [[0.0, 1.0], [2.0, 3.0]])
    array([[ 0.,  4., 10.],
           [15., 19., 25.],
           [33., 37., 43.]])
    """
    return _filtered(input, weights, output, mode, cval, origin, axes, convolution=False)


@or_scipys
def convolve(
    input: Any,  # noqa: A002
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> Array:
    """Convolve with a window: `scipy.ndimage.convolve`.

    Parameters
    ----------
    input, weights, output, mode, cval, origin, axes
        As in `correlate`; the window is rotated by 180 degrees, and `origin` counts in the other direction.

    Returns
    -------
    ndarray

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import convolve
    >>> convolve(np.eye(3), np.arange(9.0).reshape(3, 3), mode="constant")
    array([[ 4.,  6.,  2.],
           [10., 12.,  6.],
           [ 6., 10., 12.]])
    """
    return _filtered(input, weights, output, mode, cval, origin, axes, convolution=True)


def _filtered(image: Any, weights: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any, *, convolution: bool) -> Array:
    x = source(image, takes_complex=True)
    array = np.asarray(weights)
    chosen = axes_of(axes, x.ndim)
    if array.ndim != len(chosen) or array.dtype.kind not in "biufc" or not array.size:
        raise PassOn
    shifts = sequence(origin, len(chosen))
    if convolution:
        array = array[(slice(None, None, -1),) * array.ndim]
        try:
            shifts = [-shift - (k % 2 == 0) for shift, k in zip(shifts, array.shape, strict=True)]
        except TypeError:
            raise PassOn from None
    lo = dict(zip(chosen, (before(k, shift) for k, shift in zip(array.shape, shifts, strict=True)), strict=True))
    # The axes of the window in the array's order; all but the last two must have length one.
    if list(chosen) != sorted(chosen):
        raise PassOn
    extents = dict(zip(chosen, array.shape, strict=True))
    if any(extents.get(axis, 1) > 1 for axis in range(x.ndim - 2)):
        raise PassOn
    window = array.reshape(tuple(extents.get(axis, 1) for axis in (x.ndim - 2, x.ndim - 1)))
    place = (lo.get(x.ndim - 2, 0), lo.get(x.ndim - 1, 0))
    where = border(mode)
    if x.dtype in COMPLEX or window.dtype.kind == "c":
        return _complex(x, window if convolution else window.conj(), output, where, cval, place)
    taps = real_weights(window)
    value, out = real_cval(cval), destination(output, x)
    return _real(x, taps, out, where, value, place)


def _real(x: Array, taps: Array, out: Array, mode: str, cval: float, lo: tuple[int, int]) -> Array:
    rows = x[np.newaxis] if x.ndim == 1 else x
    target = out[np.newaxis] if x.ndim == 1 else out
    is_single = x.dtype == out.dtype == np.float32 and get_config().ndimage_precision == "input"
    if rows.ndim == 2 and out.dtype.kind == "f" and (is_single or taps.size >= SMALL_WINDOW):
        dtype = np.dtype(np.float32 if is_single else np.float64)
        y = _planned(rows, taps, dtype, mode, cval, lo, always=is_single)
        if y is not None:
            target[...] = y
            return out
    correlate_windows(rows, taps, target, mode, cval, lo)
    return out


def _planned(x: Array, taps: Array, dtype: np.dtype[Any], mode: str, cval: float, lo: tuple[int, int], *, always: bool) -> Array | None:
    """Return the sums by the backend that the planner chooses, or None where the loops in SciPy's order are faster."""
    kh, kw = taps.shape
    pads = ((lo[0], kh - 1 - lo[0]), (lo[1], kw - 1 - lo[1]))
    zero, value = (mode, cval) if mode == "constant" and cval else ("zeros" if mode == "constant" else mode, 0)
    if not always:
        name, seconds = planes.predicted(x.shape, taps.shape, pads, dtype.name, zero, value)
        if not name.startswith("fft") or seconds > x.size * taps.size / WINDOW_MACS_PER_S / min(2, get_config().threads):
            return None
    dropped = np.abs(taps) <= EPSILON
    if dropped.any():
        taps = np.where(dropped, 0.0, taps)
        # A backend multiplies by zero weights, and so would spread what SciPy leaves out.
        if not np.isfinite(x).all() or not np.isfinite(cval):
            return None
    return planes.correlate_plane(x.astype(dtype, copy=False), taps.astype(dtype, copy=False), pads, zero, value)


def _complex(x: Array, window: Array, output: Any, mode: str, cval: Any, lo: tuple[int, int]) -> Array:
    """Filter real and imaginary parts one after the other, each cast to the output as SciPy does."""
    if not isinstance(cval, int | float | complex | np.number):
        raise PassOn
    if x.dtype not in COMPLEX and isinstance(cval, complex | np.complexfloating):
        raise PassOn
    out = destination(output, x, np.promote_types(x.dtype, np.complex64))
    if np.may_share_memory(x, out):
        raise PassOn
    value = complex(cval)
    real, imag = real_weights(window.real), real_weights(window.imag)
    if x.dtype not in COMPLEX:
        _real(x, real, out.real, mode, value.real, lo)
        _real(x, imag, out.imag, mode, value.real, lo)
    elif window.dtype.kind != "c":
        _real(x.real, real, out.real, mode, value.real, lo)
        _real(x.imag, real, out.imag, mode, value.imag, lo)
    else:
        rest = np.empty(x.shape, x.real.dtype)
        _real(x.real, real, out.real, mode, value.real, lo)
        out.real -= _real(x.imag, imag, rest, mode, value.imag, lo)
        _real(x.real, imag, out.imag, mode, value.real, lo)
        out.imag += _real(x.imag, real, rest, mode, value.imag, lo)
    return out
