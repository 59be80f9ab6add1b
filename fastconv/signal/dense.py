"""correlate, convolve, fftconvolve, oaconvolve and choose_conv_method: one and two dimensions, zeros beyond the borders."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.lines import correlate_line
from fastconv.originals import is_loaded, original
from fastconv.planes import correlate_plane, predicted
from fastconv.signal.operands import common_dtype, needs_swap, plain_array, window

_MODES = ("valid", "same", "full")
#: Lines of fewer products go to `numpy.convolve`, planes to SciPy if it is imported: they are done before a plan is found.
SMALL_LINE_MACS = 120_000
SMALL_PLANE_MACS = 6000
#: Time that `choose_conv_method` spends on measuring a method.
MEASURE_S = 0.02


def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """Cross-correlate two arrays: `scipy.signal.correlate`.

    ``z[i] = sum over k of in1[i + k - lo] * conj(in2[k])``, in any number of dimensions.

    Parameters
    ----------
    in1, in2 : array_like
        Of the same number of dimensions; one and two are computed here.
    mode : {"full", "valid", "same"}
        Every overlap; the complete ones; the shape of `in1`.
    method : {"auto", "direct", "fft"}
        "direct" takes backends that sum in the plain way only; the others leave the choice to the planner.

    Returns
    -------
    ndarray
        In the promoted dtype.

    Raises
    ------
    ValueError
        As SciPy does.

    Examples
    --------
    >>> from fastconv.signal import correlate
    >>> correlate([1, 2, 3], [0, 1, 0.5])
    array([0.5, 2. , 3.5, 3. , 0. ])
    """
    kernel = plain_array(in2)
    if kernel is not None and kernel.ndim in {1, 2}:
        reverse = kernel[::-1] if kernel.ndim == 1 else kernel[::-1, ::-1]
        result = _native(in1, reverse.conj() if kernel.dtype.kind == "c" else reverse, mode, method, correlation=True)
        if result is not None:
            return result
    return original("signal", "correlate")(in1, in2, mode, method)


def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """Convolve two arrays: `scipy.signal.convolve`.

    Parameters
    ----------
    in1, in2, mode, method
        As in `correlate`; the result does not depend on the inputs' order (but for the shape of "same").

    Returns
    -------
    ndarray
        In the promoted dtype.

    Raises
    ------
    ValueError
        As SciPy does.

    Examples
    --------
    >>> from fastconv.signal import convolve
    >>> convolve([1.0, 2.0, 3.0], [0.0, 1.0, 0.5], "same")
    array([1. , 2.5, 4. ])
    """
    result = _native(in1, in2, mode, method)
    return original("signal", "convolve")(in1, in2, mode, method) if result is None else result


def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """Convolve two arrays: `scipy.signal.fftconvolve`, by FFT or directly, whichever is faster.

    Parameters
    ----------
    in1, in2 : array_like
        Of the same number of dimensions; integers are computed in float64.
    mode : {"full", "valid", "same"}
        As in `convolve`.
    axes : int or sequence of int, optional
        The axes to convolve over, by default all; along the others the arrays broadcast.

    Returns
    -------
    ndarray
        In a floating dtype.

    Raises
    ------
    ValueError
        As SciPy does.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.signal import fftconvolve
    >>> np.round(fftconvolve([1, 2, 3], [1, 1]), 12)
    array([1., 3., 5., 3.])
    """
    result = _frequency(in1, in2, mode, axes)
    return original("signal", "fftconvolve")(in1, in2, mode, axes) if result is None else result


def oaconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """Convolve two arrays: `scipy.signal.oaconvolve`; the same as `fftconvolve` here, as tiles are always used where they pay.

    Parameters
    ----------
    in1, in2, mode, axes
        As in `fftconvolve`.

    Returns
    -------
    ndarray
        In a floating dtype.

    Raises
    ------
    ValueError
        As SciPy does.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.signal import oaconvolve
    >>> np.round(oaconvolve(np.ones(5), np.ones(2), "valid"), 12)
    array([2., 2., 2., 2.])
    """
    result = _frequency(in1, in2, mode, axes)
    return original("signal", "oaconvolve")(in1, in2, mode, axes) if result is None else result


def choose_conv_method(in1: Any, in2: Any, mode: str = "full", measure: bool = False) -> Any:  # noqa: FBT001, FBT002  SciPy's signature
    """Tell which method `convolve` would use: `scipy.signal.choose_conv_method`, by fastconv's own cost model.

    Parameters
    ----------
    in1, in2, mode
        As in `convolve`.
    measure : bool
        Run both methods and return their times as well.

    Returns
    -------
    str or (str, dict)
        "fft" or "direct". "direct" always for booleans, objects, and integers whose exact result needs it.

    Raises
    ------
    ValueError
        As SciPy does.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.signal import choose_conv_method
    >>> choose_conv_method(np.ones((512, 512)), np.ones((3, 3)))
    'direct'
    """
    volume, kernel = plain_array(in1), plain_array(in2)
    operands = None if volume is None or kernel is None else _operands(volume, kernel, mode)
    if operands is None or volume is None or kernel is None:
        return original("signal", "choose_conv_method")(in1, in2, mode, measure)
    if measure:
        times = {method: _seconds(in1, in2, mode, method) for method in ("fft", "direct")}
        return ("fft" if times["fft"] < times["direct"] else "direct"), times
    for array in (volume, kernel):
        if array.dtype.kind not in "iu":
            continue
        # SciPy's rule: a product of integers is exact in float64 up to here only.
        largest = int(np.abs(volume).max()) * int(np.abs(kernel).max()) * min(volume.size, kernel.size)
        if largest > 2 ** np.finfo("float").nmant - 1:
            return "direct"
    x, w, pads, _ = operands
    if x.size * w.size < SMALL_LINE_MACS:
        return "direct"
    dtype = "float64" if x.dtype.kind in "iu" else x.dtype.name
    planes = (x.shape, w.shape) if x.ndim == 2 else ((1, x.size), (1, w.size))
    return "fft" if predicted(*planes, pads, dtype)[0].startswith("fft") else "direct"


def _seconds(in1: Any, in2: Any, mode: Any, method: str) -> float:
    """Return the shortest time of `convolve`, after one call that compiles; short calls are repeated."""
    best, start = float("inf"), time.perf_counter()
    convolve(in1, in2, mode, method)
    while time.perf_counter() - start < MEASURE_S or best == float("inf"):
        begin = time.perf_counter()
        convolve(in1, in2, mode, method)
        best = min(best, time.perf_counter() - begin)
    return best


def _operands(x: Array, w: Array, mode: Any) -> tuple[Array, Array, Any, Any] | None:
    """Return (part of x, flipped kernel, padding, dtype) for a convolution, or None for what SciPy does or refuses."""
    if x.ndim != w.ndim or x.ndim not in {1, 2} or not x.size or not w.size or mode not in _MODES:
        return None
    dtype = common_dtype(x, w)
    if dtype is None:
        return None
    if mode == "valid":
        swaps = needs_swap(x.shape, w.shape)
        if swaps is None:
            return None
        if swaps:
            x, w = w, x
        first = tuple(k - 1 for k in w.shape)
        count = tuple(n - k + 1 for n, k in zip(x.shape, w.shape, strict=True))
    else:
        if mode == "same":
            first, count = tuple((k - 1) // 2 for k in w.shape), x.shape
        else:
            first, count = (0,) * x.ndim, tuple(n + k - 1 for n, k in zip(x.shape, w.shape, strict=True))
        if w.size > x.size:  # the smaller one is the kernel: convolution commutes
            x, w = w, x
    flipped = w[::-1] if w.ndim == 1 else w[::-1, ::-1]
    part, pads = window(x, w.shape, first, count)
    return part, flipped, pads, dtype


def _native(in1: Any, in2: Any, mode: Any, method: Any, *, correlation: bool = False) -> Array | None:
    volume, kernel = plain_array(in1), plain_array(in2)
    if volume is None or kernel is None or method not in {"auto", "direct", "fft"}:
        return None
    macs = volume.size * kernel.size
    if volume.ndim == 2 and macs < SMALL_PLANE_MACS and is_loaded("signal"):
        return None
    operands = _operands(volume, kernel, mode)
    if operands is None:
        return None
    x, w, pads, dtype = operands
    if (
        correlation and method == "direct" and x.ndim == 2 and volume.dtype != dtype
    ):  # SciPy gives the dtype of one input here, which depends on the sizes
        return None
    if x.ndim == 1 and macs < SMALL_LINE_MACS and (mode != "same" or volume.size >= kernel.size) and dtype.kind not in "iu":
        return np.convolve(volume, kernel, mode)
    y = _summed(x, w, pads, dtype, "strict" if method == "direct" else None)
    if method == "fft" and dtype.kind in "fc" and not np.isfinite(y).all():
        warnings.warn(
            "Use of fft convolution on input with NAN or inf results in NAN or inf output. "
            "Consider using method='direct' instead.",
            category=RuntimeWarning, stacklevel=3,
        )  # fmt: skip
    return y


def _summed(x: Array, w: Array, pads: Any, dtype: np.dtype[Any], accuracy: str | None = None) -> Array:
    x, w = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
    if x.ndim == 2:
        return correlate_plane(x, w, pads, accuracy=accuracy)
    if x.size < w.size:  # "same" crops the line that plays the kernel's part
        single: Array = correlate_plane(x[np.newaxis], w[np.newaxis], pads, accuracy=accuracy)[0]
        return single
    return correlate_line(x, w, *pads[1], accuracy=accuracy)


def _frequency(in1: Any, in2: Any, mode: Any, axes: Any) -> Array | None:
    x, w = plain_array(in1), plain_array(in2)
    if x is None or w is None or x.ndim != w.ndim or x.ndim not in {1, 2} or (axes is not None and not _are_plain(axes, x, w)):
        return None
    if all(n == 1 or k == 1 for n, k in zip(x.shape, w.shape, strict=True)):
        return None  # SciPy multiplies these, in their own dtype
    if "b" in {x.dtype.kind, w.dtype.kind}:
        return None  # SciPy transforms booleans in float64, whatever the other dtype
    macs = x.size * w.size
    if x.ndim == 2 and macs < SMALL_PLANE_MACS and is_loaded("signal"):
        return None
    if x.dtype.kind in "iu":
        x = x.astype(np.float64)
    if w.dtype.kind in "iu":
        w = w.astype(np.float64)
    operands = _operands(x, w, mode)
    if operands is None:
        return None
    if x.ndim == 1 and macs < SMALL_LINE_MACS and (mode != "same" or x.size >= w.size):
        return np.convolve(x, w, mode).astype(operands[3], copy=False)
    return _summed(*operands)


def _are_plain(axes: Any, x: Array, w: Array) -> bool:
    """Tell whether convolving over `axes` is convolving over all axes, as `w` has length 1 along the others."""
    if isinstance(axes, int | np.integer):
        axes = (axes,)
    if not isinstance(axes, Iterable):
        return False
    chosen = list(axes)
    if not chosen or not all(isinstance(a, int | np.integer) and -x.ndim <= a < x.ndim for a in chosen):
        return False
    distinct = {int(a) % x.ndim for a in chosen}
    return len(distinct) == len(chosen) and all(w.shape[a] == 1 for a in range(x.ndim) if a not in distinct)
