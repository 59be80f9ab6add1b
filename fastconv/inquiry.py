"""`explain` and `autotune`: what would be chosen, why, and what a measurement says."""

from __future__ import annotations

import numpy.typing as npt

from fastconv._typing import Activation, DataFormat, Padding, PaddingMode, Pair
from fastconv.explanation import Explanation, explained
from fastconv.requests import shaped_problem, spatial_axes
from fastconv.settings import get_config
from fastconv.tuning import learn


def explain(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    bias: bool = False,  # noqa: FBT001, FBT002  the position of conv2d's bias
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: complex = 0.0,
    activation: Activation = None,
    has_residual: bool = False,
    data_format: DataFormat = "NCHW",
    dtype: npt.DTypeLike = "float32",
    backend: str | None = None,
    is_prepared: bool = True,
) -> Explanation:
    """Show what would be chosen for arrays of these shapes, and why.

    Parameters
    ----------
    x_shape, w_shape : tuple of int
        As for `conv2d` (or `conv1d` with 3 axes in `w_shape`).
    bias, has_residual : bool
        Whether they are given.
    dtype : dtype
        That of all arrays.
    is_prepared : bool
        Whether the weights are packed before (`Conv2d`, `plan`) or in the call (`conv2d`).
    stride, padding, dilation, groups, padding_mode, padding_value, activation, data_format, backend
        As in `conv2d`.

    Returns
    -------
    Explanation
        Prints as a table: each backend and variant, why not or what it takes, and what was chosen.

    Raises
    ------
    ShapeError, DTypeError, UnsupportedProblem, ValueError
        As in `conv2d`.
    """
    spatial = spatial_axes("explain", tuple(w_shape))
    words = ("explain", spatial, stride, padding, dilation, groups, padding_mode, padding_value, activation, data_format)
    problem = shaped_problem(words, tuple(x_shape), tuple(w_shape), dtype, has_bias=bias, has_residual=has_residual)
    return explained(problem, get_config(), backend, is_prepared=is_prepared)


def autotune(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: complex = 0.0,
    data_format: DataFormat = "NCHW",
    dtype: npt.DTypeLike = "float32",
    effort: str = "measure",
    time_limit: float | None = None,
) -> Explanation:
    """Measure the backends for arrays of these shapes on this machine, and store the result as wisdom.

    From then on, calls with such arrays and the same number of threads are decided by the measurement. Bias,
    residual and activation make no difference to the choice.

    Parameters
    ----------
    x_shape, w_shape : tuple of int
        As for `conv2d` (or `conv1d` with 3 axes in `w_shape`).
    effort : {"measure", "patient"}
        "measure" spends about 50 ms on each candidate that is predicted to be within 12 times the best, "patient"
        half a second on nearly all. One that is three times slower than the best so far is run once.
    time_limit : float, optional
        Seconds after which no further candidate is begun.
    stride, padding, dilation, groups, padding_mode, padding_value, data_format, dtype
        As in `explain`.

    Returns
    -------
    Explanation
        With the measured times.

    Raises
    ------
    ShapeError, DTypeError, ValueError
        As in `conv2d`.
    WisdomError
        If the result cannot be stored.
    """
    spatial = spatial_axes("autotune", tuple(w_shape))
    words = ("autotune", spatial, stride, padding, dilation, groups, padding_mode, padding_value, None, data_format)
    problem = shaped_problem(words, tuple(x_shape), tuple(w_shape), dtype, has_bias=False, has_residual=False)
    learn(problem, get_config(), effort=effort, time_limit=time_limit)
    return explained(problem, get_config())
