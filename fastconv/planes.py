"""Correlation of one plane with one kernel: what the adapters for SciPy are made of.

Real planes go to the planner as they are. Complex ones become real ones with two channels, integers become
floating-point numbers wherever that is exact.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastconv import planner
from fastconv._typing import Array
from fastconv.backends.direct.dense_plan import real_weights
from fastconv.plan_cache import PlanCache
from fastconv.plans import Plan
from fastconv.problem import DTYPES, ConvProblem
from fastconv.settings import Config, get_config

Pads = tuple[tuple[int, int], tuple[int, int]]

#: What `correlate_plane` computes; other dtypes are passed on to SciPy.
NATIVE = frozenset(np.dtype(name) for name in DTYPES if name != "float16")
#: Plans of kernels of at most so many bytes, and so many of them, are kept at once; of larger ones when they come again.
KEPT_KERNEL_NBYTES = 32 * 2**10
KEPT_PLANS = 48


def correlate_plane(
    x: Array, w: Array, pads: Pads, mode: str = "zeros", value: complex = 0, *, out: Array | None = None, accuracy: str | None = None
) -> Array:
    """Return y[i, j] = sum over r, s of xp[i + r, j + s] * w[r, s], without conjugation.

    Parameters
    ----------
    x : ndarray of shape (H, W)
        Any strides.
    w : ndarray of shape (KH, KW)
        Of x's dtype, one of `NATIVE`; any strides.
    pads : ((top, bottom), (left, right))
        The padded plane must hold the kernel.
    mode, value
        `padding_mode` and `padding_value` of `fastconv.conv2d`.
    out : ndarray of shape (OH, OW), optional
        Where the result goes; shares no memory with the inputs.
    accuracy : str, optional
        Instead of the configured accuracy.

    Returns
    -------
    ndarray of shape (OH, OW)
        With OH = H + top + bottom - KH + 1 and OW alike, in x's dtype; integers wrap.
    """
    config = configured(accuracy)
    kind = x.dtype.kind
    if kind == "c":
        y = _complex_plane(x, w, pads, mode, value, config)
    elif kind in "iu":
        y = _integer_plane(x, w, pads, mode, value, config)
    else:
        return _real_plane(x, w, pads, mode, value, config, out)
    if out is None:
        return y
    out[...] = y
    return out


def configured(accuracy: str | None) -> Config:
    """Return the active settings, with `accuracy` in the place of theirs if it is given."""
    config = get_config()
    return config if accuracy is None or accuracy == config.accuracy else _with_accuracy(config, accuracy)


@functools.lru_cache(maxsize=64)
def _with_accuracy(config: Config, accuracy: str) -> Config:
    from dataclasses import replace  # noqa: PLC0415  rarely needed

    return replace(config, accuracy=accuracy)


def _real_plane(x: Array, w: Array, pads: Pads, mode: str, value: complex, config: Config, out: Array | None = None) -> Array:
    y: Array = _run(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis], pads, mode, value, config, out)[0, 0]
    return y


def _run(x: Array, w: Array, pads: Pads, mode: str, value: complex, config: Config, out: Array | None = None) -> Array:
    """Convolve `x` (N, IC, H, W) with `w` (OC, IC, KH, KW) by the plan that the planner chooses."""
    problem = _problem(x.shape, w.shape, pads, x.dtype.name, mode, value)
    is_small = w.nbytes <= KEPT_KERNEL_NBYTES
    plan = _kept_plan(problem, config, w.tobytes()) if is_small else _large_plan(problem, config, w)
    if out is not None:
        out = out[np.newaxis, np.newaxis]
    return plan(x, out=out)


@functools.lru_cache(maxsize=1024)
def _problem(x_shape: tuple[int, ...], w_shape: tuple[int, ...], pads: Pads, dtype: str, mode: str, value: complex) -> ConvProblem:
    (top, bottom), (left, right) = pads
    mb, ic, ih, iw = x_shape
    oc, _, kh, kw = w_shape
    return ConvProblem(
        1, mb, ic, ih, iw, oc, kh, kw, ph_lo=top, ph_hi=bottom, pw_lo=left, pw_hi=right, dtype=dtype, padding_mode=mode, padding_value=value
    )


@functools.lru_cache(maxsize=KEPT_PLANS)
def _kept_plan(problem: ConvProblem, config: Config, taps: bytes) -> Plan:
    return _made_plan(problem, config, np.frombuffer(taps, problem.dtype).reshape(problem.w_shape))


def _large_plan(problem: ConvProblem, config: Config, w: Array) -> Plan:
    plan = _large_plans.find((problem, config), w, None)
    if plan is None:
        # The caller's kernel comes as a new view in each call.
        plan = _large_plans.made((problem, config), w, None, lambda kept, _: _made_plan(problem, config, kept), owner=w.base)
    return plan


_large_plans = PlanCache()


def _made_plan(problem: ConvProblem, config: Config, w: Array) -> Plan:
    return planner.prepare(planner.decide(problem, config), problem, config, w, None)


# ---- complex


def _complex_plane(x: Array, w: Array, pads: Pads, mode: str, value: complex, config: Config) -> Array:
    """Correlate by real planes: (a + ib)(c + id) has two channels in and two out."""
    real = x.real.dtype
    if value:
        x = np.pad(x, pads, constant_values=x.dtype.type(value))
        pads, mode = ((0, 0), (0, 0)), "zeros"
    planes = np.empty((1, 2, *x.shape), real)
    planes[0, 0], planes[0, 1] = x.real, x.imag
    parts = _run(planes, real_weights(w[np.newaxis, np.newaxis]), pads, mode, 0, config)[0]
    y = np.empty(parts.shape[1:], x.dtype)
    y.real, y.imag = parts[0], parts[1]
    return y


# ---- integers


def _integer_plane(x: Array, w: Array, pads: Pads, mode: str, value: complex, config: Config) -> Array:
    """Sum in floating point where every partial sum is an integer that it holds exactly, else in integers."""
    dtype = x.dtype
    largest = max(abs(int(x.max())), abs(int(x.min())), abs(int(value.real)))
    total = largest * int(np.abs(w.astype(np.float64)).sum() + 1)
    if total >= 2**53:
        problem_value = int(value.real)
        return _real_plane(x, w, pads, mode, problem_value, config)
    exact = np.dtype(np.float32 if total < 2**24 else np.float64)
    # Elementwise backends form partial sums of products only: all exact.
    y = _real_plane(x.astype(exact), w.astype(exact), pads, mode, float(value.real), _with_accuracy(config, "strict"))
    limits = np.iinfo(dtype)
    if limits.min <= -total and total <= limits.max:
        return y.astype(dtype)
    return y.astype(np.int64).astype(dtype)


def predicted(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], pads: Pads, dtype: str, mode: str = "zeros", value: complex = 0,
    config: Config | None = None,
) -> tuple[str, float]:  # fmt: skip
    """Return the name of the backend that the planner would choose for planes of these shapes, and its predicted seconds."""
    real: Any = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    channels = 1 if real == dtype else 2
    problem = _problem((1, channels, *x_shape), (channels, channels, *w_shape), pads, real, mode, value)
    decision = planner.decide(problem, get_config() if config is None else config)
    (seconds,) = (c.predicted_s for c in decision.candidates if c.algorithm is decision.algorithm)
    return decision.algorithm.name, seconds or 0.0
