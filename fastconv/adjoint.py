"""The adjoints of a convolution: with respect to its input (a convolution per output phase) and to its weights (products)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.kernels import weight_products as kernels
from fastconv.kernels.register_tile import register_tile, row_tiles
from fastconv.kernels.row_dots import depthwise_weight_gradient
from fastconv.kernels.threads import pool
from fastconv.phases import scattered
from fastconv.problem import ConvProblem
from fastconv.settings import get_config

#: Pixels of the result that are multiplied at a time: their panel of the gradient stays in a first-level cache.
BLOCK_PIXELS = 448
#: Most bytes of the source that they read, for all channels of a group.
BLOCK_NBYTES = 2**20
#: Cycles per pixel: a panel of the gradient, and an element of the source, copied.
PANEL_CYCLES, SOURCE_CYCLES = 16.0, 0.5
#: Products from which they are shared out among threads.
PARALLEL_MACS = 200_000


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
    """
    p = problem
    dtype = np.result_type(x, g)
    if dtype.name not in {"float32", "float64"}:
        return _by_taps(p, x, g, dtype)
    x, g = np.ascontiguousarray(x, dtype), np.ascontiguousarray(g, dtype)
    return _depthwise(p, x, g) if p.ic == p.g else _products(p, x, g)


def _products(p: ConvProblem, x: Array, g: Array) -> Array:
    """Return the gradient of layers by the generated products over blocks of pixels."""
    if p.mb == 0:
        return np.zeros(p.w_shape, x.dtype)
    if p.kh == p.kw == p.sh == p.sw == 1 and not p.has_padding and p.oc > p.ic:
        # x and g change places: copied as panels is what there is less of.
        turned = _products(p.replace(ic=p.oc, oc=p.ic, has_bias=False), g, x)
        return np.ascontiguousarray(turned.reshape(p.g, p.ic // p.g, -1).swapaxes(1, 2)).reshape(p.w_shape)
    result = np.empty(p.w_shape, x.dtype)
    tile = register_tile(p.itemsize)
    threads = get_config().threads if p.macs >= PARALLEL_MACS else 1
    images, height, width = pixel_block(p)
    rows, cols = (height - 1) * p.sh + p.dh * (p.kh - 1) + 1, (width - 1) * p.sw + p.dw * (p.kw - 1) + 1
    pitch = images * rows * cols
    # Without a border the source is read where it is.
    plane, row = (pitch, cols) if p.has_padding else (p.ih * p.iw, p.iw)
    starts = np.cumsum((0, *row_tiles(p.reduction, tile)))
    tasks = gradient_tasks(p, len(starts) - 1, -(-(p.oc // p.g) // tile.columns), threads)
    c, r, s = np.unravel_index(np.arange(p.reduction), p.w_shape[1:])
    offsets = (c * plane + r * p.dh * row + s * p.dw) * p.itemsize
    panels = 1 if images >= p.mb and height == p.oh and width == p.ow else int((tasks[:, 2] - tasks[:, 1]).max())
    most = panels * int((starts[tasks[:, 4]] - starts[tasks[:, 3]]).max())
    counts = (
        p.ic // p.g * pitch if p.has_padding else 0,
        images * height * width * tile.columns,
        most * tile.columns,
    )
    source, panel, sums = (np.empty((threads, count), x.dtype) for count in counts)
    places = (source, panel, sums.reshape(threads, most, tile.columns))
    kernels.weight_gradient(
        pool.handle(threads), threads, (x, g, result.reshape(p.oc, -1), x.dtype.type(p.padding_value)),
        (tasks, starts, offsets, p.row_index(), p.col_index()), places, (p.g, p.sh, p.sw, p.pw_lo, tile.columns, tile.vectors),
        (images, height, width, rows, cols, pitch, not p.has_padding),
    )  # fmt: skip
    return result


def pixel_block(p: ConvProblem) -> tuple[int, int, int]:
    """Return how many images, rows and columns of the result are multiplied at a time; they do not depend on the threads."""
    width = -(-p.ow // -(-p.ow // BLOCK_PIXELS))
    height = 1 if width < p.ow else min(p.oh, max(1, BLOCK_PIXELS // width))
    height = -(-p.oh // -(-p.oh // height))
    images = 1 if height < p.oh else min(p.mb, max(1, BLOCK_PIXELS // (height * width)))

    def source() -> int:
        rows, cols = (height - 1) * p.sh + p.dh * (p.kh - 1) + 1, (width - 1) * p.sw + p.dw * (p.kw - 1) + 1
        return p.ic // p.g * images * rows * cols * p.itemsize

    while source() > BLOCK_NBYTES and images * height * width > 1:
        if images > 1:
            images //= 2
        elif height > 1:
            height //= 2
        else:
            width //= 2
    return max(images, 1), height, width


@functools.lru_cache(maxsize=256)
def gradient_tasks(p: ConvProblem, tiles: int, panels: int, threads: int) -> Array:
    """Return (group, first panel, last panel, first tile, last tile) of tasks that keep the threads equally busy.

    Each range of panels copies the source again, each range of tiles the gradient.
    """
    best = (float("inf"), 1, 1)
    copied = p.ic // p.g * p.sh * p.sw * SOURCE_CYCLES if p.has_padding else 0.0
    for by_panels in range(1, min(panels, threads) + 1):
        for by_tiles in range(1, min(tiles, 2 * threads) + 1):
            rounds = -(-p.g * by_panels * by_tiles // threads)
            wide, high = -(-panels // by_panels), -(-tiles // by_tiles)
            cycles = rounds * (wide * high * 12 + wide * PANEL_CYCLES + copied / by_tiles)
            best = min(best, (cycles, by_panels, by_tiles))
    _, by_panels, by_tiles = best
    return np.array([
        (group, panels * a // by_panels, panels * (a + 1) // by_panels, tiles * b // by_tiles, tiles * (b + 1) // by_tiles)
        for group in range(p.g) for a in range(by_panels) for b in range(by_tiles)
    ], np.int64)  # fmt: skip


def _by_taps(p: ConvProblem, x: Array, g: Array, dtype: np.dtype[Any]) -> Array:
    """Return the gradient of integers and complex numbers: a product of (OC/G, L) with (L, IC/G) per tap, image by image."""
    total = np.zeros(p.w_shape, dtype)
    rows, cols = p.row_index(), p.col_index()
    with np.errstate(all="ignore"):
        for n in range(p.mb):
            source = _padded(p, x[n : n + 1].astype(dtype, copy=False), rows, cols)[0]
            left = np.ascontiguousarray(g[n], dtype).reshape(p.g, p.oc // p.g, -1)
            for r, s in np.ndindex(p.kh, p.kw):
                u, v = r * p.dh, s * p.dw
                window = source[:, u : u + (p.oh - 1) * p.sh + 1 : p.sh, v : v + (p.ow - 1) * p.sw + 1 : p.sw]
                right = window.reshape(p.g, p.ic // p.g, -1).swapaxes(1, 2)
                total[:, :, r, s] += np.matmul(left, right).reshape(p.oc, p.ic // p.g)
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
