"""correlate1d, convolve1d and the uniform filters."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.ndimage.operands import (
    COMPLEX,
    PassOn,
    axes_of,
    axis_of,
    before,
    border,
    destination,
    or_scipys,
    real_cval,
    real_weights,
    sequence,
    source,
)
from fastconv.ndimage.passes import average_axis, correlate_axis


@or_scipys
def correlate1d(
    input: Any,  # noqa: A002  SciPy's name
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> Array:
    """Correlate along one axis: `scipy.ndimage.correlate1d`.

    Parameters
    ----------
    input : array_like
        Any number of dimensions.
    weights : array_like, 1-D
        Real or complex (then conjugated).
    axis : int
        The axis.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; by default that of `input`.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"} or their "grid-" names
        What lies beyond the border.
    cval : scalar
        The value of "constant".
    origin : int
        Shift of the window, from -(K//2) to (K-1)//2.

    Returns
    -------
    ndarray

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does.

    Examples
    --------
    >>> from fastconv.ndimage import correlate1d
    >>> correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    array = np.asarray(weights) if not isinstance(weights, np.ndarray) else weights
    x = source(input, takes_complex=True)
    at = axis_of(axis, x.ndim)
    if x.dtype in COMPLEX or array.dtype.kind == "c":
        return _complex_line(x, array, at, output, mode, cval, origin)
    taps = real_weights(array, 1)
    out = destination(output, x)
    return correlate_axis(x, taps, at, out, border(mode), real_cval(cval), before(taps.size, origin))


def _complex_line(x: Array, weights: Array, axis: int, output: Any, mode: str, cval: Any, origin: int) -> Array:
    """Filter real and imaginary parts one after the other, each cast to the output as SciPy does."""
    if weights.dtype.kind not in "fciu" or weights.ndim != 1 or not weights.size or not isinstance(cval, int | float | complex | np.number):
        raise PassOn
    if x.dtype not in COMPLEX and isinstance(cval, complex | np.complexfloating):
        raise PassOn
    out = destination(output, x, np.promote_types(x.dtype, np.complex64))
    taps = weights.conj().astype(np.complex128)
    place, lo, value = border(mode), before(taps.size, origin), complex(cval)
    real, imag = np.ascontiguousarray(taps.real), np.ascontiguousarray(taps.imag)
    if x.dtype not in COMPLEX:
        correlate_axis(x, real, axis, out.real, place, value.real, lo)
        correlate_axis(x, imag, axis, out.imag, place, value.real, lo)
        return out
    if weights.dtype.kind != "c":
        correlate_axis(x.real, real, axis, out.real, place, value.real, lo)
        correlate_axis(x.imag, real, axis, out.imag, place, value.imag, lo)
        return out
    if np.may_share_memory(x, out):
        raise PassOn
    rest = np.empty(x.shape, x.real.dtype)
    correlate_axis(x.real, real, axis, out.real, place, value.real, lo)
    out.real -= correlate_axis(x.imag, imag, axis, rest, place, value.imag, lo)
    correlate_axis(x.real, imag, axis, out.imag, place, value.real, lo)
    out.imag += correlate_axis(x.imag, real, axis, rest, place, value.imag, lo)
    return out


@or_scipys
def convolve1d(
    input: Any,  # noqa: A002
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> Array:
    """Convolve along one axis: `scipy.ndimage.convolve1d`.

    Parameters
    ----------
    input, weights, axis, output, mode, cval, origin
        As in `correlate1d`; the kernel is reversed and not conjugated.

    Returns
    -------
    ndarray

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does.

    Examples
    --------
    >>> from fastconv.ndimage import convolve1d
    >>> convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    array = np.asarray(weights)
    if array.ndim != 1 or not array.size:
        raise PassOn
    try:
        shift = -operator.index(origin) - (array.size % 2 == 0)
    except TypeError:
        raise PassOn from None
    flipped = array[::-1]
    x = source(input, takes_complex=True)
    at = axis_of(axis, x.ndim)
    if x.dtype in COMPLEX or array.dtype.kind == "c":
        return _complex_line(x, flipped.conj(), at, output, mode, cval, shift)
    taps = real_weights(flipped, 1)
    out = destination(output, x)
    return correlate_axis(x, taps, at, out, border(mode), real_cval(cval), before(taps.size, shift))


@or_scipys
def uniform_filter1d(
    input: Any,  # noqa: A002
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> Array:
    """Average `size` neighbours along one axis: `scipy.ndimage.uniform_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval, origin
        As in `correlate1d`.
    size : int
        Neighbours, at least 1.

    Returns
    -------
    ndarray

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does.

    Examples
    --------
    >>> from fastconv.ndimage import uniform_filter1d
    >>> uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    x = source(input)
    at = axis_of(axis, x.ndim)
    lo = _size_before(size, origin)
    out = destination(output, x)
    return average_axis(x, int(size), at, out, border(mode), real_cval(cval), lo)


def _size_before(size: Any, origin: Any) -> int:
    if not isinstance(size, int | np.integer) or size < 1:
        raise PassOn
    return before(int(size), origin)


@or_scipys
def uniform_filter(
    input: Any,  # noqa: A002
    size: Any = 3,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> Array:
    """Average the neighbours in a box, axis by axis: `scipy.ndimage.uniform_filter`.

    Parameters
    ----------
    input, output, cval
        As in `correlate1d`.
    size, mode, origin : scalar or sequence
        One for all axes or one for each.
    axes : int or tuple of int, optional
        The axes to filter, by default all.

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
    >>> from fastconv.ndimage import uniform_filter
    >>> uniform_filter(np.eye(3) * 9, 3)
    array([[5., 3., 1.],
           [3., 3., 3.],
           [1., 3., 5.]])
    """
    x = source(input)
    chosen = axes_of(axes, x.ndim)
    sizes, modes, origins = (sequence(value, len(chosen)) for value in (size, mode, origin))
    steps = []
    for axis, length, place, shift in zip(chosen, sizes, modes, origins, strict=True):
        if not isinstance(length, int | float | np.integer | np.floating):
            raise PassOn
        if length > 1:
            steps.append((axis, int(length), border(place), _size_before(int(length), shift)))
    value, out = real_cval(cval), destination(output, x)
    if not steps:
        out[...] = x
        return out
    for (axis, length, place, lo), (src, dst) in zip(steps, stages(x, out, len(steps)), strict=True):
        average_axis(src, length, axis, dst, place, value, lo)
    return out


def stages(x: Array, out: Array, count: int) -> list[tuple[Array, Array]]:
    """Return (source, destination) of each of `count` passes from `x` to `out`, through one more array of out's dtype."""
    between = np.empty(out.shape, out.dtype) if count > 1 else out
    # The last pass writes `out`, the one before `between`, and so on.
    targets = [out if (count - 1 - i) % 2 == 0 else between for i in range(count)]
    if count > 1 and targets[0] is out and np.may_share_memory(x, out):
        targets[0] = np.empty(out.shape, out.dtype)
    return list(zip([x, *targets[:-1]], targets, strict=True))
