"""Separable kernels: a vertical and a horizontal pass over a strip of rows that stays in cache between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels._jit import jit
from fastconv.kernels.function_pointers import call_function
from fastconv.kernels.planar_run import (
    ALIGNMENT,
    ALL_ROWS,
    BIAS_STEP,
    DST_IMAGE,
    DST_ROW,
    DST_STEP,
    KERNEL,
    RESIDUAL_IMAGE,
    RESIDUAL_ROW,
    RESIDUAL_STEP,
    ROW_STRIDE,
    ROW_TABLE,
    SRC_GROUP,
    SRC_IMAGE,
    WEIGHTS_STEP,
)
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for

#: Relative deviation of a weight from the product of its factors that is allowed, in units of the roundoff.
MOST_ROUNDINGS = 4


def factors(w: npt.NDArray[Any], roundoff: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return (u, v) with w[o] = outer(u[o], v[o]) within rounding, or None.

    Parameters
    ----------
    w : ndarray of shape (OC, KH, KW)
    roundoff : float
        Unit roundoff of the dtype of `w`.

    Returns
    -------
    u : ndarray of shape (OC, KH)
    v : ndarray of shape (OC, KW)

    Notes
    -----
    **Accuracy** Every weight is met within d = min(4, KH*KW - KH - KW - 2) roundings, checked element by element. Two passes
    then err by at most gamma_(KH+KW+d+2) * sum |x||w|, no more than the gamma_(KH*KW) of the plain sum. Kernels too
    small for that, such as 3x3, are not taken apart.
    """
    kh, kw = w.shape[1:]
    roundings = min(MOST_ROUNDINGS, kh * kw - kh - kw - 2)
    if roundings < 1 or not np.isfinite(w).all():
        return None
    # Projections on a row, then on the column found: each averages the roundings of a whole row or column of
    # weights, element by element relative to its own size, which a singular value decomposition does not.
    wide = w.astype(np.longdouble)
    pivots = abs(wide).max(axis=2).argmax(axis=1)
    v = wide[np.arange(len(wide)), pivots]
    if not (v != 0).any(axis=1).all():
        return None
    u = _project(wide, v)
    v = _project(wide.transpose(0, 2, 1), u)
    balance = np.sqrt(abs(v).max(axis=1) / abs(u).max(axis=1))[:, None]
    u, v = (u * balance).astype(w.dtype), (v / balance).astype(w.dtype)
    product = u.astype(np.longdouble)[:, :, None] * v.astype(np.longdouble)[:, None, :]
    return (u, v) if (abs(product - wide) <= roundings * roundoff * abs(wide)).all() else None


def _project(rows: npt.NDArray[Any], direction: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the coefficient of each row along `direction`."""
    squared = (direction * direction).sum(axis=1, keepdims=True)
    return np.asarray((rows * direction[:, None, :]).sum(axis=2) / squared)


@jit
def separable_task(
    i: int, _tid: int, vertical: Any, horizontal: Any, strips: int, planes: int, scratch_row: int, most_rows: int,
    src: int, columns: int, rows: int, dst: int, bias: int, residual: int,
) -> None:  # fmt: skip
    """Compute task i: strip s of plane p of image n, with i = (n*planes + p)*strips + s."""
    a, b = vertical, horizontal
    s, rest = i % strips, i // strips
    p, n = rest % planes, rest // planes
    top, bottom = a[ALL_ROWS] * s // strips, a[ALL_ROWS] * (s + 1) // strips
    scratch = np.empty(most_rows * scratch_row + ALIGNMENT, np.uint8)
    line = (scratch.ctypes.data + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    call_function(
        a[KERNEL], a.ctypes.data, src + n * a[SRC_IMAGE] + p * a[SRC_GROUP], columns + p * a[WEIGHTS_STEP], line, 0, 0,
        a[ROW_TABLE] + 8 * top * a[ROW_STRIDE], bottom - top, 1,
    )  # fmt: skip
    call_function(
        b[KERNEL], b.ctypes.data, line, rows + p * b[WEIGHTS_STEP], dst + n * b[DST_IMAGE] + p * b[DST_STEP] + top * b[DST_ROW],
        bias + p * b[BIAS_STEP], residual + n * b[RESIDUAL_IMAGE] + p * b[RESIDUAL_STEP] + top * b[RESIDUAL_ROW],
        b[ROW_TABLE], bottom - top, 1,
    )  # fmt: skip
    keepalive(scratch)
    keepalive(vertical)
    keepalive(horizontal)


@jit
def separable_run(
    ctl: int, threads: int, images: int, vertical: Any, horizontal: Any, strips: int, planes: int, scratch_row: int,
    most_rows: int, src: int, columns: int, rows: int, dst: int, bias: int, residual: int,
) -> None:  # fmt: skip
    """Compute dst = rows * (columns * src), plane by plane and strip by strip.

    Parameters
    ----------
    vertical, horizontal : ndarray of int64
        Geometries (`fastconv.kernels.planar.GEOMETRY`) of the two passes; the result of the first and the source of
        the second are rows of `scratch_row` bytes.
    strips, planes : int
        Tasks per plane and image; each strip has at least as many rows as either register tile.
    most_rows : int
        Rows of the largest strip.
    src, columns, rows, dst, bias, residual : int
        Addresses; `columns` holds the KH weights of each plane, `rows` the KW.

    Notes
    -----
    2*(KH + KW) flops per output instead of 2*KH*KW. Bytes: the source (1 + (KH - 1)/rows of a strip) times, the result once; a
    strip stays in cache. Not checked: addresses, and that both geometries read in place and fit the planes and strips.
    """
    args = (vertical, horizontal, strips, planes, scratch_row, most_rows, src, columns, rows, dst, bias, residual)
    parallel_for(ctl, threads, images * planes * strips, separable_task, args)
    keepalive(vertical)
    keepalive(horizontal)
