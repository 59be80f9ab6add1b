"""Gradients of conv1d and conv2d with respect to input, weights and bias, in the order of `torch.nn.grad`.

They are convolutions and matrix products themselves and run on the same backends. All are plain adjoints: nothing is
conjugated. For every stride, dilation, number of groups, form of padding and padding mode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._typing import Array, Padding, PaddingMode, Pair
from fastconv.adjoint import input_gradient, weight_gradient
from fastconv.errors import DTypeError, ShapeError
from fastconv.problem import ConvProblem
from fastconv.requests import as_array, requested

__all__ = ["conv1d_bias", "conv1d_input", "conv1d_weight", "conv2d_bias", "conv2d_input", "conv2d_weight"]


def conv2d_input(
    input_shape: tuple[int, ...],
    w: npt.ArrayLike,
    grad_output: npt.ArrayLike,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    backend: str | None = None,
) -> Array:
    """Return the gradient of `conv2d` with respect to its input.

    ``dx[n, c, h, w] = sum over all (o, i, j, r, s) whose product reads x[n, c, h, w] of grad_output[n, o, i, j] * w[o, c, r, s]``.

    Parameters
    ----------
    input_shape : (N, C_in, H, W) or (C_in, H, W)
        Shape of the input.
    w : array_like of shape (C_out, C_in/groups, K_h, K_w)
        Kernels.
    grad_output : array_like of the convolution's shape
        Gradient with respect to its result.
    stride, padding, dilation, groups, padding_mode
        Those of the convolution.
    backend : str, optional
        As in `conv2d`.

    Returns
    -------
    ndarray of shape `input_shape`

    Raises
    ------
    ShapeError, DTypeError, UnsupportedProblem, ValueError
        As in `conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import grad
    >>> grad.conv2d_input((1, 3, 3), np.ones((1, 1, 2, 2)), np.ones((1, 2, 2)))
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    return _input("conv2d_input", 2, input_shape, w, grad_output, (stride, padding, dilation, groups, padding_mode), backend)


def conv1d_input(
    input_shape: tuple[int, ...],
    w: npt.ArrayLike,
    grad_output: npt.ArrayLike,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    backend: str | None = None,
) -> Array:
    """Return the gradient of `conv1d` with respect to its input, of shape `input_shape`: `conv2d_input` along one axis.

    Parameters
    ----------
    input_shape : (N, C_in, L) or (C_in, L)
        Shape of the input.
    w, grad_output, stride, padding, dilation, groups, padding_mode, backend
        As in `conv2d_input`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import grad
    >>> grad.conv1d_input((1, 4), np.array([[[1.0, 2.0]]]), np.array([[1.0, 0.0, 3.0]]))
    array([[1., 2., 3., 6.]])
    """
    return _input("conv1d_input", 1, input_shape, w, grad_output, (stride, padding, dilation, groups, padding_mode), backend)


def conv2d_weight(
    x: npt.ArrayLike,
    weight_shape: tuple[int, ...],
    grad_output: npt.ArrayLike,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
) -> Array:
    """Return the gradient of `conv2d` with respect to its weights.

    ``dw[o, c, r, s] = sum over n, i, j of grad_output[n, o, i, j] * xp[n, c0(o) + c, i*s_h + r*d_h, j*s_w + s*d_w]``.

    Parameters
    ----------
    x : array_like of shape (N, C_in, H, W) or (C_in, H, W)
        The convolution's input.
    weight_shape : (C_out, C_in/groups, K_h, K_w)
        Shape of the kernels.
    grad_output : array_like of the convolution's shape
        Gradient with respect to its result.
    stride, padding, dilation, groups, padding_mode
        Those of the convolution.

    Returns
    -------
    ndarray of shape `weight_shape`

    Raises
    ------
    ShapeError, DTypeError, ValueError
        As in `conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import grad
    >>> grad.conv2d_weight(np.arange(9.0).reshape(1, 3, 3), (1, 1, 2, 2), np.ones((1, 2, 2)))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    return _weight("conv2d_weight", 2, x, weight_shape, grad_output, (stride, padding, dilation, groups, padding_mode))


def conv1d_weight(
    x: npt.ArrayLike,
    weight_shape: tuple[int, ...],
    grad_output: npt.ArrayLike,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
) -> Array:
    """Return the gradient of `conv1d` with respect to its weights, of shape `weight_shape`: `conv2d_weight` along one axis.

    Parameters
    ----------
    x : array_like of shape (N, C_in, L) or (C_in, L)
        The convolution's input.
    weight_shape : (C_out, C_in/groups, K)
        Shape of the kernels.
    grad_output, stride, padding, dilation, groups, padding_mode
        As in `conv2d_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import grad
    >>> grad.conv1d_weight(np.array([[1.0, 2.0, 4.0]]), (1, 1, 2), np.array([[1.0, 10.0]]))
    array([[[21., 42.]]])
    """
    return _weight("conv1d_weight", 1, x, weight_shape, grad_output, (stride, padding, dilation, groups, padding_mode))


def conv2d_bias(grad_output: npt.ArrayLike) -> Array:
    """Return the gradient of `conv2d` with respect to its bias: the sum of `grad_output` over images, rows and columns.

    Parameters
    ----------
    grad_output : array_like of shape (N, C_out, OH, OW) or (C_out, OH, OW)
        Gradient with respect to the convolution's result.

    Returns
    -------
    ndarray of shape (C_out,)

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import grad
    >>> grad.conv2d_bias(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    return _bias("conv2d_bias", 2, grad_output)


def conv1d_bias(grad_output: npt.ArrayLike) -> Array:
    """Return the gradient of `conv1d` with respect to its bias: the sum of `grad_output` over signals and samples.

    Parameters
    ----------
    grad_output : array_like of shape (N, C_out, OL) or (C_out, OL)
        Gradient with respect to the convolution's result.

    Returns
    -------
    ndarray of shape (C_out,)
    """
    return _bias("conv1d_bias", 1, grad_output)


def _problem(subject: str, spatial: int, x: Array, w: Array, g: Array, words: tuple[Any, ...]) -> tuple[ConvProblem, bool]:
    """Return the validated forward problem and whether there is a batch axis; `g` must have its result's shape."""
    *geometry, padding_mode = words
    asked = requested((subject, spatial, *geometry, padding_mode, 0.0, None, "NCHW"), x, w, None, None)
    shape = asked.form.user_shape(asked.problem.out_shape)
    if g.shape != shape:
        raise ShapeError(f"{subject}: grad_output must have the shape of the convolution's result, {shape}; got {g.shape}.")
    return asked.problem, asked.form.is_batched


def _promise(shape: Any, dtype: np.dtype[Any]) -> Array:
    return np.broadcast_to(np.zeros((), dtype), tuple(shape))


def _canonical(array: Array, spatial: int, *, is_batched: bool, dtype: Any) -> Array:
    array = array.astype(dtype, copy=False)
    array = array if is_batched else array[np.newaxis]
    return array[:, :, np.newaxis] if spatial == 1 else array


def _common(subject: str, *arrays: Array) -> np.dtype[Any]:
    try:
        dtype = np.result_type(*arrays)
    except TypeError:
        raise DTypeError(f"{subject}: the arrays have no common dtype: {', '.join(str(a.dtype) for a in arrays)}.") from None
    # Sums of half precision are formed, and given back, in single.
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _input(subject: str, spatial: int, input_shape: Any, w: Any, grad_output: Any, words: tuple[Any, ...], backend: str | None) -> Array:
    weights, g = as_array(subject, "w", w), as_array(subject, "grad_output", grad_output)
    dtype = _common(subject, weights, g)
    problem, is_batched = _problem(subject, spatial, _promise(input_shape, dtype), weights.astype(dtype, copy=False), g, words)
    dx = input_gradient(problem, weights.astype(dtype, copy=False), _canonical(g, spatial, is_batched=is_batched, dtype=dtype), backend)
    return np.ascontiguousarray(dx).reshape(tuple(input_shape))


def _weight(subject: str, spatial: int, x: Any, weight_shape: Any, grad_output: Any, words: tuple[Any, ...]) -> Array:
    source, g = as_array(subject, "x", x), as_array(subject, "grad_output", grad_output)
    dtype = _common(subject, source, g)
    problem, is_batched = _problem(subject, spatial, source.astype(dtype, copy=False), _promise(weight_shape, dtype), g, words)
    source, g = (_canonical(a, spatial, is_batched=is_batched, dtype=dtype) for a in (source, g))
    return weight_gradient(problem, source, g).reshape(tuple(weight_shape))


def _bias(subject: str, spatial: int, grad_output: Any) -> Array:
    g = as_array(subject, "grad_output", grad_output)
    if g.ndim not in {spatial + 1, spatial + 2}:
        raise ShapeError(f"{subject}: grad_output must have {spatial + 1} or {spatial + 2} axes; got {g.ndim}, shape {g.shape}.")
    channel = g.ndim - spatial - 1
    result: Array = g.sum(axis=tuple(axis for axis in range(g.ndim) if axis != channel), dtype=g.dtype)
    return result
