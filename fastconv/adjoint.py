"""The adjoints of a convolution: with respect to its input (a convolution per output phase) and to its weights (products)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.kernels.row_dots import depthwise_weight_gradient
from fastconv.kernels.threads import pool
from fastconv.phases import scattered
from fastconv.problem import ConvProblem
from fastconv.settings import get_config

#: Copies of source and gradient that the weight gradient makes at a time.
BLOCK_NBYTES = 32 * 2**20
#: Products from which inner products of rows are shared out among threads.
PARALLEL_MACS = 200_000
#: With fewer input channels per group than this, all taps go into one matrix product.
FEW_CHANNELS = 16
#: Products over padded rows do this much more work than needed at most; beyond, each tap's slice is copied.
LARGEST_WASTE = 1.6


def input_gradient(problem: ConvProblem, w: Array, g: Array, backend: str | None = None) -> Array:
    """Return the adjoint of ``x -> conv(x, w)`` applied to `g`, for every border: what a border position read, its source gets."""
    p = problem
    stride, dilation = (p.sh, p.sw), (p.dh, p.dw)
    if p.padding_mode in {"zeros", "constant"} or not p.has_padding:
        return scattered(g, w, None, (p.ih, p.iw), stride, dilation, (p.ph_lo, p.pw_lo), p.g, backend)
    padded = (p.ph_lo + p.ih + p.ph_hi, p.pw_lo + p.iw + p.pw_hi)
    y = scattered(g, w, None, padded, stride, dilation, (0, 0), p.g, backend)
    return _folded(_folded(y, 2, p.row_index(), p.ph_lo, p.ih), 3, p.col_index(), p.pw_lo, p.iw)


def _folded(y: Array, axis: int, index: Any, lo: int, n: int) -> Array:
    """Add the border positions of `axis` to the positions that they read."""
    y = np.moveaxis(y, axis, 0)
    inner = y[lo : lo + n].copy()
    for position, source in enumerate(index):
        if not lo <= position < lo + n:
            inner[source] += y[position]
    return np.moveaxis(inner, 0, axis)


def weight_gradient(problem: ConvProblem, x: Array, g: Array) -> Array:
    """Return the adjoint of ``w -> conv(x, w)`` applied to `g`: dw[o, c, r, s] = sum over n, i, j of g[n, o, i, j] * xp[n, c, ...].

    Parameters
    ----------
    problem : ConvProblem
        The forward convolution.
    x : ndarray of shape (N, IC, IH, IW)
    g : ndarray of shape (N, OC, OH, OW)

    Returns
    -------
    ndarray of shape (OC, IC/G, KH, KW)

    Notes
    -----
    Matrix products of (OC/G, L) with (L, IC/G) per tap, L running over images and pixels. The padded source is laid out once
    per stride phase as (IC, images, rows, columns); a tap's operand is then a view of it, shifted, and `g` has zeros where
    a shifted row runs over its end.
    """
    p = problem
    dtype = np.result_type(x, g)
    if p.ic == p.g and dtype.name in {"float32", "float64"}:
        return _depthwise(p, x.astype(dtype, copy=False), g.astype(dtype, copy=False))
    total = np.zeros((p.oc, p.ic // p.g, p.kh, p.kw), dtype)
    rows, cols = p.row_index(), p.col_index()
    spread = ((p.dh * (p.kh - 1)) // p.sh, (p.dw * (p.kw - 1)) // p.sw)
    width = p.ow + spread[1]
    copies = p.g if p.ic // p.g < FEW_CHANNELS else 1
    channels = p.ic * (min(p.sh, p.kh) * min(p.sw, p.kw) + (p.kh * p.kw if copies > 1 or p.ic < FEW_CHANNELS else 0)) + p.oc
    fit = max(1, int(BLOCK_NBYTES // max(1, channels * width * np.dtype(dtype).itemsize)))
    height = max(1, min(p.oh, fit - spread[0]))
    images = max(1, fit // (height + spread[0]))
    for n in range(0, p.mb, images):
        for i in range(0, p.oh, height):
            block = slice(i, min(i + height, p.oh))
            needed = rows[i * p.sh : (block.stop - 1) * p.sh + p.dh * (p.kh - 1) + 1]
            source = x[n : n + images]
            total += _block_gradient(p, source, g[n : n + images, :, block], needed, cols, dtype)
    return total


def _depthwise(p: ConvProblem, x: Array, g: Array) -> Array:
    """Return the gradient of kernels that see one channel each: inner products of rows, without a copy in another layout."""
    pads = p.ph_lo, p.pw_lo
    if p.has_padding and not (p.padding_mode in {"zeros", "constant"} and p.padding_value == 0):
        x, pads = _padded(p, x, p.row_index(), p.col_index()), (0, 0)
    result = np.zeros((p.oc, 1, p.kh, p.kw), x.dtype)
    threads = get_config().threads if p.macs >= PARALLEL_MACS else 1
    geometry = (p.sh, p.sw, p.dh, p.dw, *pads, p.oc // p.g)
    depthwise_weight_gradient(
        pool.handle(threads), threads, np.ascontiguousarray(x), np.ascontiguousarray(g), result[:, 0], geometry
    )  # fmt: skip
    return result


def _block_gradient(p: ConvProblem, x: Array, g: Array, rows: Any, cols: Any, dtype: Any) -> Array:
    images, _, oh, ow = g.shape
    spread = ((p.dh * (p.kh - 1)) // p.sh, (p.dw * (p.kw - 1)) // p.sw)
    height, width = oh + spread[0], ow + spread[1]
    phases: dict[tuple[int, int], Array] = {}

    def phase(a: int, b: int) -> Array:
        """Return every (sh, sw)-th element of the padded source from (a, b), as (IC, images, height, width)."""
        if (a, b) not in phases:
            made = np.zeros((p.ic, images, height, width), dtype)
            found = _padded(p, x, rows[a :: p.sh][:height], cols[b :: p.sw][:width])
            made[:, :, : found.shape[2], : found.shape[3]] = found.swapaxes(0, 1)
            phases[a, b] = made
        return phases[a, b]

    def slices(r: int, s: int) -> tuple[Array, int, int]:
        return phase(r * p.dh % p.sh, s * p.dw % p.sw), r * p.dh // p.sh, s * p.dw // p.sw

    if height * width <= LARGEST_WASTE * oh * ow:
        # A shift by (u, v) is a shift by u*width + v of the flattened planes.
        gradient = np.zeros((p.oc, images, height, width), dtype)
        gradient[:, :, :oh, :ow] = g.swapaxes(0, 1)
        length = ((images - 1) * height + oh - 1) * width + ow

        def operand(r: int, s: int) -> Array:
            planes, u, v = slices(r, s)
            first = u * width + v
            return planes.reshape(p.g, p.ic // p.g, -1)[:, :, first : first + length]
    else:
        gradient = np.ascontiguousarray(g.swapaxes(0, 1), dtype)
        length = images * oh * ow

        def operand(r: int, s: int) -> Array:
            planes, u, v = slices(r, s)
            return planes[:, :, u : u + oh, v : v + ow].reshape(p.g, p.ic // p.g, -1)

    left = gradient.reshape(p.g, p.oc // p.g, -1)[:, :, :length]
    with np.errstate(all="ignore"):
        result = _products(p, left, operand, length, dtype)
        if dtype.kind in "fc" and not np.isfinite(result).all():
            # The zeros between rows must not meet NaN: sum over the taps' own slices.
            for r, s in np.ndindex(p.kh, p.kw):
                planes, u, v = slices(r, s)
                part = planes[:, :, u : u + oh, v : v + ow].reshape(p.g, p.ic // p.g, -1)
                exact = np.ascontiguousarray(g.swapaxes(0, 1), dtype).reshape(p.g, p.oc // p.g, -1)
                result[:, :, r, s] = np.matmul(exact, part.swapaxes(1, 2)).reshape(p.oc, p.ic // p.g)
    return result


def _products(p: ConvProblem, left: Array, operand: Callable[[int, int], Array], length: int, dtype: Any) -> Array:
    """Return left @ operand(r, s)^T per group and tap; few channels go into one product with all taps."""
    icg, ocg = p.ic // p.g, p.oc // p.g
    if icg >= FEW_CHANNELS or p.kh * p.kw == 1:
        result = np.empty((p.oc, icg, p.kh, p.kw), dtype)
        for r, s in np.ndindex(p.kh, p.kw):
            result[:, :, r, s] = np.matmul(left, operand(r, s).swapaxes(1, 2)).reshape(p.oc, icg)
        return result
    unrolled = np.empty((p.g, p.kh, p.kw, icg, length), dtype)
    for r, s in np.ndindex(p.kh, p.kw):
        unrolled[:, r, s] = operand(r, s)
    product: Array = np.matmul(left, unrolled.reshape(p.g, -1, length).swapaxes(1, 2))
    return product.reshape(p.g, ocg, p.kh, p.kw, icg).transpose(0, 1, 4, 2, 3).reshape(p.oc, icg, p.kh, p.kw)


def _padded(p: ConvProblem, x: Array, rows: Any, cols: Any) -> Array:
    """Return rows and columns of the padded source by their index, -1 = the padding value."""
    inner = x[:, :, _run(rows)] if _run(rows) is not None else x[:, :, np.maximum(rows, 0)]
    found = inner[:, :, :, _run(cols)] if _run(cols) is not None else inner[:, :, :, np.maximum(cols, 0)]
    if (rows < 0).any() or (cols < 0).any():
        found = found.copy()
        found[:, :, rows < 0] = p.padding_value
        found[:, :, :, cols < 0] = p.padding_value
    return found


def _run(index: Any) -> slice | None:
    """Return `index` as a slice if it counts up evenly from 0 or more."""
    if index.size == 0 or index[0] < 0:
        return None
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if step < 1 or not np.array_equal(index, np.arange(index[0], index[0] + step * index.size, step)):
        return None
    return slice(int(index[0]), int(index[-1]) + 1, step)
