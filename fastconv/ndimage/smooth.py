"""Gaussian filters, sobel, prewitt and laplace: passes of `correlate1d` along each axis."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.ndimage.lines import correlate1d, stages
from fastconv.ndimage.operands import COMPLEX, PassOn, axes_of, axis_of, border, destination, or_scipys, real_cval, sequence, source
from fastconv.ndimage.passes import correlate_axis

#: A standard deviation of at most this smooths nothing.
SMALLEST_SIGMA = 1e-15


@functools.lru_cache(maxsize=64)
def gaussian_weights(sigma: float, order: int, radius: int) -> Array:
    """Return the `order`-th derivative of a Gaussian at -radius .. radius, with sum one for order 0; not to be written to.

    The derivative of q(x) exp(-x^2 / 2 sigma^2) is (q' - q x / sigma^2) exp(...): one matrix product on q's coefficients.
    """
    x = np.arange(-radius, radius + 1)
    variance = sigma * sigma
    phi: Array = np.exp(-0.5 / variance * x**2)
    phi = phi / phi.sum()
    if order == 0:
        return phi
    powers = np.arange(order + 1)
    q = np.zeros(order + 1)
    q[0] = 1
    step = np.diag(powers[1:], 1) + np.diag(np.ones(order) / -variance, -1)
    for _ in range(order):
        q = step.dot(q)
    weights: Array = (x[:, np.newaxis] ** powers).dot(q) * phi
    return weights


def _taps(sigma: Any, order: Any, truncate: Any, radius: Any) -> Array:
    """Return the weights of a correlation, the derivative reversed, for SciPy's arguments."""
    if not isinstance(sigma, int | float | np.integer | np.floating) or not isinstance(order, int | np.integer) or order < 0:
        raise PassOn
    reach = int(truncate * float(sigma) + 0.5) if radius is None else radius
    if not isinstance(reach, int | np.integer) or reach < 0 or not sigma > 0:
        raise PassOn
    return np.ascontiguousarray(gaussian_weights(float(sigma), int(order), int(reach))[::-1])


@or_scipys
def gaussian_filter1d(
    input: Any,  # noqa: A002  SciPy's name
    sigma: Any,
    axis: int = -1,
    order: Any = 0,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
) -> Array:
    """Smooth by a Gaussian along one axis, or take its derivative: `scipy.ndimage.gaussian_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `correlate1d`.
    sigma : float
        Standard deviation.
    order : int
        Derivative, 0 = none.
    truncate : float
        The window ends after so many standard deviations.
    radius : int, optional
        The window's radius instead.

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
    >>> from fastconv.ndimage import gaussian_filter1d
    >>> gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1).round(8)
    array([1.42704095, 2.06782203, 3.        , 3.93217797, 4.57295905])
    """
    x = source(input, takes_complex=True)
    taps = _taps(sigma, order, truncate, radius)
    return correlate1d(x, taps, axis, output, mode, cval, 0)


@or_scipys
def gaussian_filter(
    input: Any,  # noqa: A002
    sigma: Any,
    order: Any = 0,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
    axes: Any = None,
) -> Array:
    """Smooth by a Gaussian along each axis: `scipy.ndimage.gaussian_filter`.

    Parameters
    ----------
    input, output, cval, truncate
        As in `gaussian_filter1d`. Between the passes the values are stored in the output's dtype, as SciPy does.
    sigma, order, mode, radius : scalar or sequence
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
    >>> from fastconv.ndimage import gaussian_filter
    >>> gaussian_filter(np.arange(50, step=2).reshape(5, 5), sigma=1)
    array([[ 4,  6,  8,  9, 11],
           [10, 12, 14, 15, 17],
           [20, 22, 24, 25, 27],
           [29, 31, 33, 34, 36],
           [35, 37, 39, 40, 42]])
    """
    x = source(input, takes_complex=True)
    return _gaussian(x, sigma, order, destination(output, x), mode, cval, truncate, radius, axes)


def _gaussian(x: Array, sigma: Any, order: Any, out: Array, mode: Any, cval: Any, truncate: Any, radius: Any, axes: Any) -> Array:
    chosen = axes_of(axes, x.ndim)
    orders, sigmas, modes, radii = (sequence(value, len(chosen)) for value in (order, sigma, mode, radius))
    steps = []
    for axis, s, d, place, r in zip(chosen, sigmas, orders, modes, radii, strict=True):
        if not isinstance(s, int | float | np.integer | np.floating):
            raise PassOn
        if s > SMALLEST_SIGMA:
            border(place)
            steps.append((_taps(s, d, truncate, r), axis, place))
    _pass_all(x, out, steps, cval)
    return out


def _pass_all(x: Array, out: Array, steps: list[tuple[Array, int, Any]], cval: Any) -> None:
    """Correlate with (weights, axis, mode) after (weights, axis, mode), from `x` to `out`."""
    if not steps:
        out[...] = x
        return
    if x.dtype in COMPLEX:
        if not isinstance(cval, int | float | complex | np.number):
            raise PassOn
        for part, value in (("real", complex(cval).real), ("imag", complex(cval).imag)):
            _pass_all(getattr(x, part), getattr(out, part), steps, value)
        return
    value = real_cval(cval)
    for (taps, axis, mode), (src, dst) in zip(steps, stages(x, out, len(steps)), strict=True):
        correlate_axis(src, taps, axis, dst, border(mode), value, taps.size // 2)


def _derivative(image: Any, axis: Any, output: Any, mode: Any, cval: Any, smoothing: tuple[float, ...]) -> Array:
    x = source(image)
    at = axis_of(axis, x.ndim)
    out = destination(output, x)
    modes = sequence(mode, x.ndim)
    for place in modes:
        border(place)
    across = [(np.array(smoothing), other, modes[other]) for other in range(x.ndim) if other != at]
    _pass_all(x, out, [(np.array([-1.0, 0.0, 1.0]), at, modes[at]), *across], cval)
    return out


@or_scipys
def sobel(
    input: Any,  # noqa: A002
    axis: int = -1,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
) -> Array:
    """Take Sobel's derivative: `scipy.ndimage.sobel`, (-1, 0, 1) along `axis`, (1, 2, 1) along the others.

    Parameters
    ----------
    input, axis, output, cval
        As in `correlate1d`.
    mode : str or sequence of str
        One for all axes or one for each.

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
    >>> from fastconv.ndimage import sobel
    >>> sobel(np.arange(9.0).reshape(3, 3), axis=0)
    array([[12., 12., 12.],
           [24., 24., 24.],
           [12., 12., 12.]])
    """
    return _derivative(input, axis, output, mode, cval, (1.0, 2.0, 1.0))


@or_scipys
def prewitt(
    input: Any,  # noqa: A002
    axis: int = -1,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
) -> Array:
    """Take Prewitt's derivative: `scipy.ndimage.prewitt`, (-1, 0, 1) along `axis`, (1, 1, 1) along the others.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `sobel`.

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
    >>> from fastconv.ndimage import prewitt
    >>> prewitt(np.arange(9.0).reshape(3, 3))
    array([[3., 6., 3.],
           [3., 6., 3.],
           [3., 6., 3.]])
    """
    return _derivative(input, axis, output, mode, cval, (1.0, 1.0, 1.0))


@or_scipys
def laplace(
    input: Any,  # noqa: A002
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    *,
    axes: Any = None,
) -> Array:
    """Sum the second differences along each axis: `scipy.ndimage.laplace`.

    Parameters
    ----------
    input, output, cval
        As in `correlate1d`.
    mode : str or sequence of str
        One for all axes or one for each.
    axes : int or tuple of int, optional
        The axes, by default all.

    Returns
    -------
    ndarray

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does.

    Notes
    -----
    With `output` the array `input` itself, or overlapping it, the result is the Laplacian of `input` as it was. SciPy's own
    function adds derivatives along the second axis of what the first has overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import laplace
    >>> laplace(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """
    x = source(input, may_pass_on=not isinstance(output, np.ndarray))
    out = destination(output, x)
    chosen = axes_of(axes, x.ndim)
    modes = sequence(mode, len(chosen))
    places, value = [border(place) for place in modes], real_cval(cval)
    if np.may_share_memory(x, out):
        x = x.copy()
    second = np.array([1.0, -2.0, 1.0])

    def term(axis: int, place: str, dst: Array) -> Array:
        return correlate_axis(x, second, axis, dst, place, value, 1)

    return _sum_over_axes(x, out, [functools.partial(term, axis, place) for axis, place in zip(chosen, places, strict=True)])


def _sum_over_axes(x: Array, out: Array, terms: list[Any]) -> Array:
    """Store the first term in `out` and add the others, each computed in out's dtype."""
    if not terms:
        out[...] = x
        return out
    terms[0](out)
    if len(terms) > 1:
        term = np.empty(out.shape, out.dtype)
        for compute in terms[1:]:
            compute(term)
            np.add(out, term, out=out)
    return out


@or_scipys
def gaussian_laplace(
    input: Any,  # noqa: A002
    sigma: Any,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    *,
    axes: Any = None,
    **kwargs: Any,
) -> Array:
    """Sum the second derivatives of Gaussians along each axis: `scipy.ndimage.gaussian_laplace`.

    Parameters
    ----------
    input, sigma, output, mode, cval, axes
        As in `gaussian_filter`.
    **kwargs
        truncate and radius of `gaussian_filter`.

    Returns
    -------
    ndarray

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does.

    Notes
    -----
    With `output` the array `input` itself the result is that of `input` as it was, as in `laplace`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import gaussian_laplace
    >>> gaussian_laplace(np.eye(3), sigma=1).shape
    (3, 3)
    """
    x = source(input, may_pass_on=not isinstance(output, np.ndarray))
    out = destination(output, x)
    chosen = axes_of(axes, x.ndim)
    if set(kwargs) - {"truncate", "radius"} or len(chosen) < x.ndim:
        raise PassOn
    sigmas, modes = sequence(sigma, len(chosen)), sequence(mode, len(chosen))
    if np.may_share_memory(x, out):
        x = x.copy()
    truncate, radius = kwargs.get("truncate", 4.0), kwargs.get("radius")
    for s in sigmas:
        _taps(s, 2, truncate, None)
    sequence(radius, x.ndim)
    value = real_cval(cval)

    def term(axis: int, place: Any, dst: Array) -> Array:
        orders = [2 if other == axis else 0 for other in range(x.ndim)]
        return _gaussian(x, sigmas, orders, dst, place, value, truncate, radius, None)

    return _sum_over_axes(x, out, [functools.partial(term, axis, place) for axis, place in zip(chosen, modes, strict=True)])
