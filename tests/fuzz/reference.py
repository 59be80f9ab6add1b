"""The reference: windows of the padded source times the weights, in float64, complex128 or int64, by `numpy.matmul`.

Independent of fastconv, and checked against `oracle`, which goes through SciPy, by ``tests/test_fuzz.py``.
"""

from __future__ import annotations

import functools

import numpy as np

import oracle
from fastconv.problem import ConvProblem
from oracle import Array


@functools.lru_cache(maxsize=4096)
def _positions(n: int, lo: int, hi: int, mode: str) -> Array:
    """Return the source position of each padded position, n for the padding value."""
    if mode in {"zeros", "constant"}:
        return np.pad(np.arange(n), (lo, hi), constant_values=n)
    return np.pad(np.arange(n), (lo, hi), mode=oracle.NUMPY_MODES[mode])  # type: ignore[call-overload,no-any-return]


def windows(p: ConvProblem, x: Array) -> Array:
    """Return what each output reads, as (G, N*OH*OW, IC/G*KH*KW)."""
    rows, cols = _positions(p.ih, p.ph_lo, p.ph_hi, p.padding_mode), _positions(p.iw, p.pw_lo, p.pw_hi, p.padding_mode)
    framed = np.full((p.mb, p.ic, p.ih + 1, p.iw + 1), p.padding_value, x.dtype)
    framed[:, :, : p.ih, : p.iw] = x
    padded = framed[:, :, rows[:, None], cols]
    n, c, h, w = padded.strides
    per_group = p.ic // p.g
    seen = np.lib.stride_tricks.as_strided(
        padded,
        (p.g, p.mb, p.oh, p.ow, per_group, p.kh, p.kw),
        (c * per_group, n, h * p.sh, w * p.sw, c, h * p.dh, w * p.dw),
    )
    return seen.reshape(p.g, p.mb * p.oh * p.ow, p.reduction)


def products(p: ConvProblem, seen: Array, w: Array) -> Array:
    """Return the sums of products as (N, OC, OH, OW)."""
    with np.errstate(all="ignore"):
        sums = seen @ w.reshape(p.g, p.oc // p.g, p.reduction).transpose(0, 2, 1)
    return sums.reshape(p.g, p.mb, p.oh, p.ow, p.oc // p.g).transpose(1, 0, 4, 2, 3).reshape(p.out_shape)


def correlate(p: ConvProblem, x: Array, w: Array) -> Array:
    """Return the correlation of `x` and `w`, without bias, residual and activation, in the wide type."""
    return products(p, windows(p, oracle.wide(x)), oracle.wide(w))
