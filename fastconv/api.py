"""The public functions: user words become numbers here, once; below, everything is trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import planner, wisdom
from fastconv._typing import Activation, Array, DataFormat, Padding, PaddingMode, Pair
from fastconv.backends import plan_by_name
from fastconv.plan_cache import PlanCache
from fastconv.plans import Plan, check_out
from fastconv.requests import Request, as_array, fixed_request, overlaps, requested, spatial_axes
from fastconv.settings import Config, get_config


def _convolve(
    words: tuple[Any, ...],
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: Any,
    residual: Any,
    backend: str | None,
    out: Array | None,
    *,
    flip_kernel: bool,
) -> Array:
    """Run one request of any public convolution function; `words` are the arguments of `requests.geometry`."""
    subject = words[0]
    source = x if type(x) is np.ndarray else as_array(subject, "x", x)
    weights = w if type(w) is np.ndarray else as_array(subject, "w", w)
    bias = None if bias is None else as_array(subject, "bias", bias)
    residual = None if residual is None else as_array(subject, "residual", residual)
    asked = requested(words, source, weights, bias, residual)
    config = get_config()
    if out is not None:
        check_out(subject, out, asked.form.user_shape(asked.problem.out_shape), asked.problem.dtype)
    plan = _one_shot_plans.find((asked, config, backend, flip_kernel, wisdom.changes), weights, bias)
    if plan is None:
        decision = planner.decide(asked.problem, config, backend)  # which may open the wisdom, a part of the key

        def make(w: Array, b: Array | None) -> Plan:
            return _one_shot_plan(decision, asked, config, w, b, flip_kernel=flip_kernel)

        plan = _one_shot_plans.made((asked, config, backend, flip_kernel, wisdom.changes), weights, bias, make)
    dtype = asked.dtype
    if source.dtype is not dtype and source.dtype != dtype:
        source = source.astype(dtype)
    if residual is not None:
        residual = residual.astype(dtype, copy=False)
    if out is None:
        return plan(source, residual)
    if overlaps(out, (weights, bias)):
        out[...] = plan(source, residual)
        return out
    return plan(source, residual, out=out)


_one_shot_plans = PlanCache()


def _one_shot_plan(decision: planner.Decision, asked: Request, config: Config, w: Array, bias: Array | None, *, flip_kernel: bool) -> Plan:
    weights = _canonical_weights(w, asked.dtype, flip_kernel=flip_kernel)
    own_bias = None if bias is None else bias.astype(asked.dtype, copy=False)
    return planner.prepare(decision, asked.problem, config, weights, own_bias).in_form(asked.form, asked.subject)


def _canonical_weights(w: Array, dtype: np.dtype[Any], *, flip_kernel: bool) -> Array:
    """Return the weights as (OC, IC/G, KH, KW), rotated by 180 degrees for a mathematical convolution."""
    w = w.astype(dtype, copy=False)
    if w.ndim == 3:
        w = w[:, :, np.newaxis]
    return w[:, :, ::-1, ::-1] if flip_kernel else w


def conv2d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: complex = 0.0,
    flip_kernel: bool = False,
    activation: Activation = None,
    residual: npt.ArrayLike | None = None,
    data_format: DataFormat = "NCHW",
    backend: str | None = None,
    out: Array | None = None,
) -> Array:
    r"""Cross-correlate multi-channel images with kernels, as a convolution layer does.

    ``y[n, o, i, j] = b[o] + sum over c, r, s of xp[n, c0(o) + c, i*s_h + r*d_h, j*s_w + s*d_w] * w[o, c, r, s]``,
    where ``xp`` is ``x`` padded and ``c0(o)`` the first input channel of o's group.

    Parameters
    ----------
    x : array_like of shape (N, C_in, H, W) or (C_in, H, W)
        Source images; (N, H, W, C_in) with ``data_format="NHWC"``. Any strides. float32, float64, complex64,
        complex128, float16 (computed in float32) or integers (exact, wrapping as in NumPy).
    w : array_like of shape (C_out, C_in/groups, K_h, K_w)
        Kernels. Mixed dtypes follow `numpy.result_type`.
    bias : array_like of shape (C_out,), optional
        Added to each output channel.
    stride, dilation : int or (int, int)
        Steps of the window and of its taps along height and width, at least 1.
    padding : int, (int, int), ((top, bottom), (left, right)) or str
        "valid" (none), "same" or "same_upper" (ceil(n/stride) outputs, an odd row or column at the end),
        "same_lower" (at the start), "full" (every overlap).
    groups : int
        Input and output channels are cut into so many independent groups.
    padding_mode : {"zeros", "constant", "reflect", "symmetric", "replicate", "circular"}
        What the border holds; "reflect" leaves the edge out, "symmetric" repeats it.
    padding_value : scalar
        The value of "constant".
    flip_kernel : bool
        Rotate the kernels by 180 degrees: the mathematical convolution.
    activation : {"relu", "relu6", "silu", "sigmoid", "tanh", "gelu"} or (low, high), optional
        Applied to the sum of everything; a pair clamps.
    residual : array_like of the result's shape, optional
        Added before the activation.
    data_format : {"NCHW", "NHWC"}
        Layout of `x`, `residual` and the result.
    backend : str, optional
        "auto", a name of `backends` or a variant such as "direct:loops"; by default the configured one.
    out : ndarray, optional
        Where the result goes: its exact shape and dtype. May overlap the inputs.

    Returns
    -------
    ndarray of shape (N, C_out, OH, OW)
        With OH = floor((H + top + bottom - d_h*(K_h-1) - 1)/s_h) + 1 and OW alike; without N if `x` has none.

    Raises
    ------
    ShapeError
        If the shapes do not fit together or the kernel does not fit into the padded input.
    DTypeError
        If the dtypes promote to one that is not computed.
    UnsupportedProblem
        If the named backend cannot do it; the message names those that can.
    ValueError
        If a word or number is not allowed.

    See Also
    --------
    Conv2d : the same with the weights packed once.
    plan : the same for one shape, with everything decided before.
    explain : what would be chosen, and why.

    Notes
    -----
    **Complexity** 2*N*C_out*OH*OW*(C_in/groups)*K_h*K_w flops by the definition; FFT and Winograd take fewer.
    **Accuracy** accuracy="strict" keeps every backend within the bound of plain summation,
    \|error\| <= gamma_k * sum \|x\|\|w\| with k = C_in/groups*K_h*K_w; the other modes are a few times that.
    **Memory** no padded or unrolled copy of the input is made.

    References
    ----------
    .. [1] V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016, arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> w = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> fastconv.conv2d(x, w)[0, 0]
    array([[19., 25.],
           [37., 43.]])
    """
    words = ("conv2d", 2, stride, padding, dilation, groups, padding_mode, padding_value, activation, data_format)
    return _convolve(words, x, w, bias, residual, backend, out, flip_kernel=flip_kernel)


def conv1d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: complex = 0.0,
    flip_kernel: bool = False,
    activation: Activation = None,
    residual: npt.ArrayLike | None = None,
    data_format: DataFormat = "NCHW",
    backend: str | None = None,
    out: Array | None = None,
) -> Array:
    """Cross-correlate multi-channel signals with kernels: `conv2d` along one axis.

    Parameters
    ----------
    x : array_like of shape (N, C_in, L) or (C_in, L)
        Source signals; (N, L, C_in) with ``data_format="NHWC"``.
    w : array_like of shape (C_out, C_in/groups, K)
        Kernels.
    bias, stride, padding, dilation, groups, padding_mode, padding_value, flip_kernel, activation, residual, data_format, backend, out
        As in `conv2d`, with one number per spatial argument; unequal padding as ``((left, right),)``.

    Returns
    -------
    ndarray of shape (N, C_out, OL)
        With OL = floor((L + left + right - dilation*(K-1) - 1)/stride) + 1.

    Raises
    ------
    ShapeError, DTypeError, UnsupportedProblem, ValueError
        As in `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv1d(np.array([[1.0, 2.0, 4.0, 7.0]]), np.array([[[-1.0, 1.0]]]))
    array([[1., 2., 3.]])
    """
    words = ("conv1d", 1, stride, padding, dilation, groups, padding_mode, padding_value, activation, data_format)
    return _convolve(words, x, w, bias, residual, backend, out, flip_kernel=flip_kernel)


def plan(
    x_shape: tuple[int, ...],
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: complex = 0.0,
    flip_kernel: bool = False,
    activation: Activation = None,
    has_residual: bool = False,
    data_format: DataFormat = "NCHW",
    dtype: npt.DTypeLike | None = None,
    backend: str | None = None,
) -> Plan:
    """Prepare a convolution of fixed shape: choose the backend, pack the weights, book the workspace.

    Parameters
    ----------
    x_shape : tuple of int
        Shape of the arrays to come: (N, C_in, H, W) or (C_in, H, W); with a 3-axis `w`, (N, C_in, L) or (C_in, L).
    w : array_like of shape (C_out, C_in/groups, K_h, K_w) or (C_out, C_in/groups, K)
        Kernels; copied.
    dtype : dtype, optional
        That of the arrays to come; by default the weights'.
    has_residual : bool
        Whether calls give a residual.
    bias, stride, padding, dilation, groups, padding_mode, padding_value, flip_kernel, activation, data_format, backend
        As in `conv2d`.

    Returns
    -------
    Plan
        Call it as ``plan(x, residual=None, out=None)``. Immutable, usable by many threads at once, picklable.

    Raises
    ------
    ShapeError, DTypeError, UnsupportedProblem, ValueError
        As in `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> p = fastconv.plan((1, 3, 3), np.ones((1, 1, 2, 2)))
    >>> p(np.ones((1, 3, 3)))
    array([[[4., 4.],
            [4., 4.]]])
    """
    weights = as_array("plan", "w", w)
    spatial = spatial_axes("plan", weights.shape)
    words = ("plan", spatial, stride, padding, dilation, groups, padding_mode, padding_value, activation, data_format)
    bias = None if bias is None else as_array("plan", "bias", bias)
    asked = fixed_request(words, tuple(x_shape), weights, bias, dtype, has_residual=has_residual)
    return made_plan(asked, get_config(), backend, weights, bias, flip_kernel=flip_kernel)


def made_plan(asked: Request, config: Config, backend: str | None, w: Array, bias: Array | None, *, flip_kernel: bool) -> Plan:
    """Return a plan that keeps its own copy of the weights, so that it can be pickled and never changes."""
    problem, dtype = asked.problem, asked.dtype
    decision = planner.decide(problem, config, backend, is_prepared=True)
    weights = _canonical_weights(w, dtype, flip_kernel=flip_kernel).copy(order="C")
    own_bias = None if bias is None else bias.astype(dtype)
    made = planner.prepare(decision, problem, config, weights, own_bias)
    made.remember_origin(plan_by_name, made.backend, problem, weights, own_bias, threads=config.threads, max_workspace=config.max_workspace)
    return made.in_form(asked.form)
