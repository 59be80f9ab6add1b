"""conv_transpose1d and conv_transpose2d."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._typing import Array, Pair
from fastconv.errors import DTypeError, ShapeError
from fastconv.phases import scattered
from fastconv.plans import check_out
from fastconv.problem import DTYPES
from fastconv.requests import as_array, overlaps


def conv_transpose2d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    backend: str | None = None,
    out: Array | None = None,
) -> Array:
    """Apply the adjoint of a convolution to images ("transposed convolution", "deconvolution"), as torch does.

    ``y[n, o, i] = bias[o] + sum over c, j, r with j*stride + r*dilation - padding = i of x[n, c, j] * w[c, o, r]``, along both axes.

    Parameters
    ----------
    x : array_like of shape (N, C_in, H, W) or (C_in, H, W)
        Source images.
    w : array_like of shape (C_in, C_out/groups, K_h, K_w)
        Kernels.
    bias : array_like of shape (C_out,), optional
        Added to each output channel.
    stride, padding, dilation : int or (int, int)
        Those of the convolution whose adjoint this is.
    output_padding : int or (int, int)
        Rows and columns added at the end of the result, less than stride or dilation.
    groups : int
        Input and output channels are cut into so many independent groups.
    backend : str, optional
        As in `conv2d`.
    out : ndarray, optional
        Where the result goes: its exact shape and dtype.

    Returns
    -------
    ndarray of shape (N, C_out, OH, OW)
        With OH = (H-1)*stride - 2*padding + dilation*(K_h-1) + output_padding + 1 and OW alike; without N if `x` has none.

    Raises
    ------
    ShapeError, DTypeError, UnsupportedProblem, ValueError
        As in `conv2d`.

    See Also
    --------
    fastconv.grad.conv2d_input : the same for a given size of the result, and any padding.

    Notes
    -----
    **Complexity** the products of the definition, without one for a stuffed zero: each of the stride*stride phases of the result
    is a dense convolution with the taps that meet it.

    References
    ----------
    .. [1] V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016, arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv_transpose2d(np.ones((1, 2, 2)), np.ones((1, 1, 2, 2)), stride=2).shape
    (1, 4, 4)
    """
    return _transposed("conv_transpose2d", 2, x, w, bias, stride, padding, output_padding, groups, dilation, backend, out)


def conv_transpose1d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    backend: str | None = None,
    out: Array | None = None,
) -> Array:
    """Apply the adjoint of a convolution to signals: `conv_transpose2d` along one axis.

    Parameters
    ----------
    x : array_like of shape (N, C_in, L) or (C_in, L)
        Source signals.
    w : array_like of shape (C_in, C_out/groups, K)
        Kernels.
    bias, stride, padding, output_padding, groups, dilation, backend, out
        As in `conv_transpose2d`, with one number each.

    Returns
    -------
    ndarray of shape (N, C_out, OL)
        With OL = (L-1)*stride - 2*padding + dilation*(K-1) + output_padding + 1.

    Raises
    ------
    ShapeError, DTypeError, UnsupportedProblem, ValueError
        As in `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv_transpose1d(np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[  1.,  10., 102.,  20., 200.]])
    """
    return _transposed("conv_transpose1d", 1, x, w, bias, stride, padding, output_padding, groups, dilation, backend, out)


def numbers(subject: str, name: str, value: Any, spatial: int, least: int) -> tuple[int, ...]:
    """Return one integer per spatial axis from an integer or a sequence of one or `spatial` integers."""
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        found = tuple(operator.index(item) for item in items)
    except TypeError:
        raise ValueError(f"{subject}: {name} must be an integer or {spatial} integers; got {value!r}.") from None
    if len(found) not in {1, spatial}:
        raise ValueError(f"{subject}: {name} must be an integer or {spatial} integers; got {value!r}.")
    if min(found) < least:
        raise ValueError(f"{subject}: {name} must be at least {least}; got {min(found)}.")
    return found * spatial if len(found) == 1 else found


def _transposed(
    subject: str, spatial: int, x: Any, w: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any,
    backend: str | None, out: Array | None,
) -> Array:  # fmt: skip
    source, weights = as_array(subject, "x", x), as_array(subject, "w", w)
    added = None if bias is None else as_array(subject, "bias", bias)
    words = "(N, C_in, H, W) or (C_in, H, W)" if spatial == 2 else "(N, C_in, L) or (C_in, L)"
    if source.ndim not in {spatial + 1, spatial + 2}:
        raise ShapeError(f"{subject}: x must have the shape {words}; got {source.ndim} axes, x.shape = {source.shape}.")
    if weights.ndim != spatial + 2:
        kernel = "(C_in, C_out/groups, K_h, K_w)" if spatial == 2 else "(C_in, C_out/groups, K)"
        raise ShapeError(f"{subject}: w must have the shape {kernel}; got {weights.ndim} axes, w.shape = {weights.shape}.")
    (group_count,) = numbers(subject, "groups", groups, 1, 1)
    steps, reach = numbers(subject, "stride", stride, spatial, 1), numbers(subject, "dilation", dilation, spatial, 1)
    lo, more = numbers(subject, "padding", padding, spatial, 0), numbers(subject, "output_padding", output_padding, spatial, 0)
    is_batched = source.ndim == spatial + 2
    batch = source if is_batched else source[np.newaxis]
    channels = batch.shape[1]
    if channels != weights.shape[0] or channels % group_count:
        raise ShapeError(
            f"{subject}: x has {channels} channels, w.shape[0] = {weights.shape[0]} and groups = {group_count}; "
            f"the first two must be equal and groups must divide them; x.shape = {source.shape}, w.shape = {weights.shape}."
        )
    if 0 in weights.shape or 0 in batch.shape[1:]:
        raise ShapeError(f"{subject}: no axis but the batch may be empty; x.shape = {source.shape}, w.shape = {weights.shape}.")
    oc = weights.shape[1] * group_count
    if added is not None and added.shape != (oc,):
        raise ShapeError(f"{subject}: bias must have the shape (C_out,) = ({oc},); got {added.shape}.")
    for extra, s, d in zip(more, steps, reach, strict=True):
        if extra >= max(s, d):
            raise ValueError(f"{subject}: output_padding must be smaller than stride or dilation; got {extra} with {s} and {d}.")
    size = []
    for n, k, s, d, p, extra in zip(batch.shape[2:], weights.shape[2:], steps, reach, lo, more, strict=True):
        length = (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        if length < 1:
            raise ShapeError(
                f"{subject}: the result would have the length (n-1)*stride - 2*padding + dilation*(k-1) + output_padding + 1 = "
                f"({n}-1)*{s} - 2*{p} + {d}*({k}-1) + {extra} + 1 = {length}. Use a smaller padding."
            )
        size.append(length)
    dtype = np.result_type(source, weights, *(() if added is None else (added,)))
    if dtype.name not in DTYPES:
        raise DTypeError(f"{subject}: the arrays promote to {dtype}, but fastconv computes in {', '.join(DTYPES)}. Convert with astype.")
    shape = (*((batch.shape[0],) if is_batched else ()), oc, *size)
    if out is not None:
        check_out(subject, out, shape, dtype.name)
    target = np.empty(shape, dtype) if out is None or overlaps(out, (source, weights, added)) else out
    view = target if is_batched else target[np.newaxis]
    if spatial == 1:
        batch, view = batch[:, :, np.newaxis], view[:, :, np.newaxis]
        size, steps, reach, lo = [1, *size], (1, *steps), (1, *reach), (0, *lo)
    scattered(
        batch.astype(dtype, copy=False), weights.astype(dtype, copy=False), None if added is None else added.astype(dtype),
        (size[0], size[1]),
        (steps[0], steps[1]), (reach[0], reach[1]), (lo[0], lo[1]), group_count, backend, view,
    )  # fmt: skip
    if out is not None and target is not out:
        out[...] = target
        return out
    return target
