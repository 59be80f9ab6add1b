"""correlate2d and convolve2d."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.originals import is_loaded, original
from fastconv.planes import correlate_plane
from fastconv.signal.operands import common_dtype, needs_swap, plain_array

_MODES = ("valid", "same", "full")
_BORDERS = {"fill": "zeros", "pad": "zeros", "wrap": "circular", "circular": "circular", "symm": "symmetric", "symmetric": "symmetric"}
#: Calls of fewer products are passed on to SciPy if it is imported: its loop is done before a plan is found.
SMALL_MACS = 6000


def correlate2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Array:
    """Cross-correlate two 2-D arrays: `scipy.signal.correlate2d`.

    ``z[i, j] = sum over r, s of in1[i + r - lo, j + s - lo] * conj(in2[r, s])``.

    Parameters
    ----------
    in1, in2 : array_like, 2-D
        Any dtype that SciPy takes; mixed dtypes are promoted as NumPy does, integers wrap in their own type.
    mode : {"full", "valid", "same"}
        Every overlap; the complete ones (the inputs change places if `in2` is the larger); the shape of `in1`.
    boundary : {"fill", "pad", "wrap", "circular", "symm", "symmetric"}
        What lies beyond the border of `in1`.
    fillvalue : scalar
        The value of "fill".

    Returns
    -------
    ndarray, 2-D

    Raises
    ------
    ValueError
        As SciPy does.

    See Also
    --------
    fastconv.conv2d : the same with channels, strides and dilations.

    Notes
    -----
    **Accuracy** as SciPy's plain sums with ``accuracy="strict"``; by default large kernels go by FFT, with an error of a few units
    in the last place of the largest sums.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.signal import correlate2d
    >>> correlate2d(np.arange(9.0).reshape(3, 3), [[0.0, 1.0], [2.0, 3.0]], "valid")
    array([[19., 25.],
           [37., 43.]])
    """
    result = _native(in1, in2, mode, boundary, fillvalue, convolution=False)
    return original("signal", "correlate2d")(in1, in2, mode, boundary, fillvalue) if result is None else result


def convolve2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Array:
    """Convolve two 2-D arrays: `scipy.signal.convolve2d`.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue
        As in `correlate2d`; the kernel is rotated by 180 degrees and not conjugated.

    Returns
    -------
    ndarray, 2-D

    Raises
    ------
    ValueError
        As SciPy does.

    Examples
    --------
    >>> from fastconv.signal import convolve2d
    >>> convolve2d([[1, 2], [3, 4]], [[1, 1]])
    array([[1, 3, 2],
           [3, 7, 4]])
    """
    result = _native(in1, in2, mode, boundary, fillvalue, convolution=True)
    return original("signal", "convolve2d")(in1, in2, mode, boundary, fillvalue) if result is None else result


def _native(in1: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any, *, convolution: bool) -> Array | None:
    """Return the result, or None for what SciPy has to do, or to refuse."""
    x, w = plain_array(in1), plain_array(in2)
    if x is None or w is None or x.ndim != 2 or w.ndim != 2 or not x.size or not w.size:
        return None
    dtype = common_dtype(x, w)
    if dtype is None or not isinstance(boundary, str) or boundary not in _BORDERS or mode not in _MODES:
        return None
    swaps = mode == "valid" and needs_swap(x.shape, w.shape)
    if swaps is None or (x.size * w.size < SMALL_MACS and is_loaded("signal")):
        return None
    if swaps:
        x, w = w, x
    border = _BORDERS[boundary]
    value: complex = 0
    if border == "zeros":
        found = _fill(fillvalue, dtype)
        if found is None:
            return None
        if found and mode != "valid":
            border, value = "constant", found
    if mode == "valid":
        border = "zeros"
    x, w = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
    kh, kw = w.shape
    if convolution:
        w = w[::-1, ::-1]
        low = (kh // 2, kw // 2)
    else:
        if dtype.kind == "c":
            w = w.conj()
        low = ((kh - 1) // 2, (kw - 1) // 2)
    if mode == "valid":
        pads = ((0, 0), (0, 0))
    elif mode == "same":
        pads = ((low[0], kh - 1 - low[0]), (low[1], kw - 1 - low[1]))
    else:
        pads = ((kh - 1, kh - 1), (kw - 1, kw - 1))
    y = correlate_plane(x, w, pads, border, value)
    return y[::-1, ::-1] if swaps and not convolution else y


def _fill(fillvalue: Any, dtype: np.dtype[Any]) -> complex | None:
    """Return `fillvalue` as SciPy casts it to the result's dtype, or None where SciPy is to judge."""
    if isinstance(fillvalue, bool | np.bool_) or not isinstance(fillvalue, int | float | complex | np.number):
        return None
    if dtype.kind == "c":
        return complex(dtype.type(fillvalue))
    if isinstance(fillvalue, complex | np.complexfloating):
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return int(fillvalue) if fillvalue == int(fillvalue) and limits.min <= fillvalue <= limits.max else None
    return float(dtype.type(fillvalue))
