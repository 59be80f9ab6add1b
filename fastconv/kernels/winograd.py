"""Winograd convolution block by block: strips, data transform, products, output transform, store.

    y = A_h^T [ sum over c of (G_h w G_w^T) o (B_h^T x B_w) ] A_w        per tile, output channel, group

With dilation, every dh-th row and dw-th column make a *phase*, an image of its own whose taps are neighbours; tiles never mix
phases. Along each axis the first `tall` (`wide`) phases have a pixel more than the others, which may need a tile less::

    oh = 7, dh = 3     rows of phase 0: 0 3 6    1: 1 4    2: 2 5     tall = 1; with m_h = 2: bands = 2, low_bands = 1

A *band* is a row of tiles of one phase of rows and all phases of columns. The bands of all images of a group are numbered
through, image by image, phase by phase; a *column* is a tile of each phase of columns that has one there. A block is a range
of bands times a range of columns, and its tiles, ``[band][phase of columns][column]``, are the rows of one matrix product per xi.
Blocks are independent; within a block the data transform splits over channels and the rest over panels of output channels.
Every output is summed in the same order whatever the blocks, so they may follow the number of threads and the memory at hand.

See `fastconv.kernels.winograd_transforms` for the layouts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.function_pointers import call_function
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for
from fastconv.kernels.winograd_products import multiply_panels
from fastconv.kernels.winograd_strips import (
    direct_sum,
    fill_pixels,
    finish_columns,
    finish_rows,
    pack_mapped,
    pack_pixels,
    pack_rows,
    transpose_block,
    unpack_pixels,
    unpack_rows,
)

#: What a plan fixes: one record of 64-bit integers. Extents are per group; strides, steps and places in elements.
GEOMETRY = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("images", "groups", "channels", "outputs", "width", "kh", "kw", "oh", "ow"),  # the problem
            *("sh", "sw", "dh", "dw", "pw_lo"),
            *("m_h", "m_w", "span_h", "span_w", "alpha_h", "alpha_w"),  # the algorithm
            *("data_columns", "data_rows", "output"),  # addresses of the transforms
            *("tall", "bands", "low_bands", "image_bands"),  # phases with a row more; bands of such a phase, of another, of an image
            *("wide", "columns", "low_columns"),  # likewise
            *("band_blocks", "column_blocks"),  # pieces of all bands and of the columns
            *("lanes", "nr", "rows", "panels", "panels_at_once"),  # the micro-kernel
            *("shares_blocks", "output_tasks", "data_pieces", "channels_per_task"),  # how threads share the work
            *("ldv", "v_step", "m_step", "row_step", "half_step", "out_step"),  # strides in scratch memory
            *("u_step",),  # between the xi of U
            *("v_size", "private_size", "half_at", "m_at", "out_at", "check_at"),  # its parts
            *("weights", "u", "bias", "fill", "limits", "code"),  # addresses, and the activation's code
        )
    ]
)


@jit
def _pack_row(like: Any, g: Any, cols_index: Any, source: int, src: Any, row: int, first: int, cols: int, strip: int, valid: int) -> None:
    """Copy one padded row, `cols` padded columns from `first` on, of `valid` channels into a strip.

    `source` is the address of the first channel's plane, `row` its row or -1 for a row of padding.
    """
    size = like.itemsize
    _, _, sc, sh, sw = src
    if row < 0:
        fill_pixels(like, strip, cols, g.fill)
        return
    line = source + row * sh * size
    index = cols_index.ctypes.data + first * 8
    low = min(max(g.pw_lo - first, 0), cols)
    high = max(min(g.pw_lo + g.width - first, cols), low)
    pixel = g.lanes * size
    inside = line + (first + low - g.pw_lo) * sw * size
    if sw == 1:
        pack_rows(like, inside, sc, strip + low * pixel, high - low, valid)
    elif sc == 1:
        pack_pixels(like, inside, sw, strip + low * pixel, high - low, valid)
    else:
        pack_mapped(like, line, sc, sw, index + low * 8, strip + low * pixel, high - low, valid, g.fill)
    if low > 0:
        pack_mapped(like, line, sc, sw, index, strip, low, valid, g.fill)
    if high < cols:
        pack_mapped(like, line, sc, sw, index + high * 8, strip + high * pixel, cols - high, valid, g.fill)


@jit
def _band_at(g: Any, index: int) -> Any:
    """Return (image, phase of rows, band of that phase) of a band."""
    n, band = divmod(index, g.image_bands)
    if band < g.tall * g.bands:
        py, b = divmod(band, g.bands)
    else:
        py, b = divmod(band - g.tall * g.bands, g.low_bands)
        py += g.tall
    return n, py, b


@jit
def _columns_of(g: Any, px: int, first: int, columns: int) -> Any:
    """Return how many of `columns` columns from `first` on have a tile of phase `px`."""
    return columns if px < g.wide else max(0, min(columns, g.low_columns - first))


@jit
def tiles_of(g: Any, block: Any) -> Any:
    """Return the tiles of a block."""
    _, _, bands, first, columns = block
    return bands * (g.wide * columns + (g.dw - g.wide) * _columns_of(g, g.wide, first, columns))


@jit
def transform_data(like: Any, g: Any, indices: Any, src: Any, v: int, private: int, block: Any, first: int, end: int) -> None:
    """Write V of one block for the channels ``first <= c < end``, L at a time.

    Parameters
    ----------
    like : array whose dtype is the element type
    g : record of `GEOMETRY`
    indices : (rows, cols)
        Source index per padded position, -1 = padding value; long enough for tiles that overhang.
    src : (address, sn, sc, sh, sw)
    v, private : int
        Addresses of V and of the thread's own scratch.
    block : (group, first band, bands, first column, columns)
    first, end : int
    """
    size = like.itemsize
    group, first_band, bands, first_column, columns = block
    rows_index, cols_index = indices
    strip, half = private, private + g.half_at * size
    band_rows = g.m_h * g.sh
    column_step = g.dw * g.m_w * g.sw
    cols = (columns - 1) * column_step + g.dw * g.span_w
    for c in range(first, end, g.lanes):
        valid = min(g.lanes, g.channels - c)
        image, phase, top, filled, tile = -1, -1, 0, 0, 0
        for band in range(bands):
            n, py, b = _band_at(g, first_band + band)
            if n != image or py != phase:
                image, phase, top, filled = n, py, b, 0
            source = src[0] + (n * src[1] + (group * g.channels + c) * src[2]) * size
            start = (b - top) * band_rows
            while filled < start + g.span_h:
                row = rows_index[py + (top * band_rows + filled) * g.dh]
                target = strip + filled * g.row_step * size
                _pack_row(like, g, cols_index, source, src, row, first_column * column_step, cols, target, valid)
                filled += 1
            call_function(g.data_columns, strip + start * g.row_step * size, g.row_step, half, g.half_step, cols)
            for px in range(g.dw):
                count = _columns_of(g, px, first_column, columns)
                for xi in range(g.alpha_h):
                    call_function(
                        g.data_rows, half + (xi * g.half_step + px * g.lanes) * size, g.dw * g.lanes, column_step * g.lanes,
                        v + (xi * g.alpha_w * g.v_step + tile * g.ldv + c) * size, g.v_step, g.ldv, count,
                    )  # fmt: skip
                tile += count


@jit
def _store_band(
    like: Any, g: Any, dst: Any, residual: Any, strip: int, n: int, oc: int, valid: int, y: int, x: int, cols: int, planes: int
) -> None:
    """Store `cols` columns of the rows of one band, from `y` on, of L output channels, with the epilogue.

    `planes` is scratch for partial blocks.

    `dst` and `residual` are (address, sn, sc, sh, sw); a residual's address of 0 means none.
    """
    size = like.itemsize
    lanes = g.lanes
    bias = g.bias + (oc // g.outputs * g.panels * g.nr + oc % g.outputs) * size
    _, dn, dc, dh, dw = dst
    _, rn, rc, rh, rw = residual
    for row in range(min(g.m_h, (g.oh - y + g.dh - 1) // g.dh)):
        source = strip + row * g.out_step * size
        pixels = min(cols, g.ow - x)
        target = dst[0] + (n * dn + oc * dc + (y + row * g.dh) * dh + x * dw) * size
        other = 0 if residual[0] == 0 else residual[0] + (n * rn + oc * rc + (y + row * g.dh) * rh + x * rw) * size
        if dw != 1:
            if valid == lanes:
                unpack_pixels(like, source, target, dw, pixels, 1, bias, other, rw, g.code, g.limits)
            else:
                finish_columns(like, source, lanes, target, dw, pixels, valid, 0, 1, bias, other, rw, g.code, g.limits)
        elif valid == lanes and pixels >= lanes:
            unpack_rows(like, source, target, dc, pixels, 1, bias, other, rc, g.code, g.limits)
        else:
            for first in range(0, pixels, lanes):
                transpose_block(like, source + first * lanes * size, planes)
                here = 0 if other == 0 else other + first * size
                finish_rows(
                    like, planes, lanes, target + first * size, dc, valid, min(lanes, pixels - first), 0,
                    1, bias, here, rc, g.code, g.limits,
                )  # fmt: skip


@jit
def _repair(
    like: Any, g: Any, indices: Any, src: Any, scratch: Any, strip: int, n: int, group: int, oc: int, valid: int, y: int, x: int, cols: int
) -> None:
    """Compute the tiles of one band that have a non-finite output again, by the definition.

    A transform mixes all data of a tile, so NaN and infinity (in data or weights, or from an overflow on the
    way) spread over its outputs; each output that reads one is not finite itself, so no such tile goes unseen.
    `strip` is the band's place in `scratch`, in elements.
    """
    size = like.itemsize
    lanes, base = g.lanes, scratch.ctypes.data
    rows_index, cols_index = indices
    source = src[0] + (n * src[1] + group * g.channels * src[2]) * size
    width = g.dw * g.m_w
    for first in range(0, cols, width):
        for px in range(g.dw):
            for lane in range(valid):
                total = like[0] * 0
                for i in range(g.m_h):
                    for j in range(g.m_w):
                        total += scratch[strip + i * g.out_step + (first + px + j * g.dw) * lanes + lane] * 0
                if total == 0:
                    continue
                weights = g.weights + (group * g.outputs + oc + lane) * g.channels * g.kh * g.kw * size
                for i in range(g.m_h):
                    for j in range(g.m_w):
                        row, col = y + i * g.dh, x + first + px + j * g.dw
                        if row < g.oh and col < g.ow:
                            where = strip + i * g.out_step + (first + px + j * g.dw) * lanes + lane
                            direct_sum(
                                like, source, src[2], src[3], src[4], rows_index.ctypes.data + row * g.sh * 8, g.dh,
                                cols_index.ctypes.data + col * g.sw * 8, g.dw, g.fill, weights, g.channels, g.kh, g.kw,
                                base + where * size,
                            )  # fmt: skip


@jit
def _products(
    like: Any, g: Any, indices: Any, heights: Any, src: Any, dst: Any, residual: Any, scratch: Any, v: int, private: int, block: Any,
    first_panel: int, end_panel: int,
) -> None:  # fmt: skip
    """Multiply and store the panels ``first_panel <= p < end_panel`` of output channels of one block.

    As in `transform_data`, but `private` is a place in `scratch`, in elements.
    """
    size = like.itemsize
    group, first_band, bands, first_column, columns = block
    tiles = tiles_of(g, block)
    xis, cols = g.alpha_h * g.alpha_w, columns * g.dw * g.m_w
    base = scratch.ctypes.data
    m = base + (private + g.m_at) * size
    out, check = private + g.out_at, private + g.check_at
    planes = base + (check + g.lanes) * size
    panel_nbytes, u_nbytes = g.channels * g.nr * size, g.u_step * size
    for first in range(first_panel, end_panel, g.panels_at_once):
        count = min(g.panels_at_once, end_panel - first)
        following = first + count if first + count < end_panel else first_panel
        for xi in range(xis):
            u = g.u + (group * xis + xi) * u_nbytes + first * panel_nbytes
            after = u + u_nbytes if xi + 1 < xis else g.u + group * xis * u_nbytes + following * panel_nbytes
            multiply_panels(
                like, v + xi * g.v_step * size, g.ldv, u, after, m + xi * g.m_step * size, xis * g.m_step, tiles, g.channels, count,
                g.nr, g.rows, heights,
            )  # fmt: skip
        for oc in range(first * g.nr, min((first + count) * g.nr, g.outputs), g.lanes):
            valid = min(g.lanes, g.outputs - oc)
            panel, lane = divmod(oc - first * g.nr, g.nr)
            products = m + (panel * xis * g.m_step + lane) * size
            for band in range(bands):
                n, py, b = _band_at(g, first_band + band)
                y, x = py + b * g.dh * g.m_h, first_column * g.dw * g.m_w
                for i in range(g.lanes):
                    scratch[check + i] = 0
                for px in range(g.dw):
                    count = _columns_of(g, px, first_column, columns)
                    call_function(
                        g.output, products, g.m_step, g.nr, base + (out + px * g.lanes) * size, g.out_step, g.dw * g.lanes,
                        g.dw * g.m_w * g.lanes, count, base + check * size,
                    )  # fmt: skip
                    products += count * g.nr * size
                total = like[0] * 0
                for i in range(g.lanes):
                    total += scratch[check + i]
                if not total == 0:  # noqa: SIM201  NaN is not different from 0 either way
                    _repair(like, g, indices, src, scratch, out, n, group, oc, valid, y, x, cols)
                _store_band(like, g, dst, residual, base + out * size, n, group * g.outputs + oc, valid, y, x, cols, planes)


@jit
def _piece(extent: int, pieces: int, index: int) -> Any:
    """Return (first, length) of one of `pieces` pieces of `extent`, longer ones first, so that threads end together."""
    short, longer = divmod(extent, pieces)
    return index * short + min(index, longer), short + (index < longer)


@jit
def block_of(g: Any, index: int) -> Any:
    """Return (group, first band, bands, first column, columns) of a block."""
    rest, column = divmod(index, g.column_blocks)
    group, band = divmod(rest, g.band_blocks)
    first_band, bands = _piece(g.images * g.image_bands, g.band_blocks, band)
    first_column, columns = _piece(g.columns, g.column_blocks, column)
    return group, first_band, bands, first_column, columns


@jit
def _private(g: Any, tid: int, areas: int) -> Any:
    """Return where the private scratch of thread `tid` starts, in elements, behind `areas` copies of V."""
    return areas * g.v_size + tid * g.private_size


@jit
def _block_task(
    i: int, tid: int, like: Any, geometry: Any, indices: Any, heights: Any, src: Any, dst: Any, residual: Any, scratch: Any, threads: int
) -> None:
    """Compute one block from source to result in the thread's own V."""
    g = geometry[0]
    size = like.itemsize
    block = block_of(g, i)
    v, private = scratch.ctypes.data + tid * g.v_size * size, _private(g, tid, threads)
    transform_data(like, g, indices, src, v, scratch.ctypes.data + private * size, block, 0, g.channels)
    _products(like, g, indices, heights, src, dst, residual, scratch, v, private, block, 0, g.panels)


@jit
def _data_task(i: int, tid: int, like: Any, geometry: Any, indices: Any, src: Any, scratch: Any, index: int) -> None:
    """Transform some channels of some bands of a block into the common V."""
    g = geometry[0]
    size = like.itemsize
    rest, piece = divmod(i, g.data_pieces)
    first = rest * g.channels_per_task
    end = min(first + g.channels_per_task, g.channels)
    group, first_band, bands, first_column, columns = block_of(g, index)
    above, bands = _piece(bands, g.data_pieces, piece)
    v: Any = np.int64(scratch.ctypes.data + tiles_of(g, (group, first_band, above, first_column, columns)) * g.ldv * size)
    private = scratch.ctypes.data + _private(g, tid, 1) * size
    transform_data(like, g, indices, src, v, private, (group, first_band + above, bands, first_column, columns), first, end)


@jit
def _output_task(
    i: int, tid: int, like: Any, geometry: Any, indices: Any, heights: Any, src: Any, dst: Any, residual: Any, scratch: Any, index: int
) -> None:
    """Compute some panels of output channels of a block from the common V."""
    g = geometry[0]
    first, count = _piece(g.panels, g.output_tasks, i)
    v: Any = np.int64(scratch.ctypes.data)  # of the type that it has in the other task, so that one function serves both
    _products(like, g, indices, heights, src, dst, residual, scratch, v, _private(g, tid, 1), block_of(g, index), first, first + count)


@jit
def convolve(
    ctl: int, threads: int, like: Any, geometry: Any, indices: Any, heights: Any, src: Any, dst: Any, residual: Any, scratch: Any
) -> None:
    """Convolve.

    Parameters
    ----------
    ctl, threads : int
        The pool and how many of its threads take part.
    like : array whose dtype is the element type
    geometry : ndarray of shape (1,), `GEOMETRY`
        Holds the addresses of U (see `transform_weights`), weights (OC, IC/G, KH, KW), bias (per group a whole number of panels),
        fill, and limits; the caller keeps them alive.
    indices : (rows, cols), int64
        Source index per padded position, -1 = padding value, with -1 for all positions of overhanging tiles.
    heights : ndarray, int64
        `fastconv.kernels.winograd_products.height_table`.
    src, dst, residual : (address, sn, sc, sh, sw)
        Arrays (N, C, H, W) with strides in elements; of dst sw = 1 or sc = 1, of residual the same one; a
        residual's address of 0 means none. `src` may have any strides; sw = 1 or sc = 1 are fast.
    scratch : ndarray of the element type
        As many elements as the plan computed, the first at the start of a cache line, with any contents.

    Notes
    -----
    Preconditions are not checked here. Products: ``2 * alpha_h * alpha_w * tiles * IC/G * OC`` flops. Bytes: the source once where
    blocks do not overlap, U once for each block, V and M written and read in cache, the result once.

    Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
    """
    g = geometry[0]
    blocks = g.groups * g.band_blocks * g.column_blocks
    if g.shares_blocks == 0:
        parallel_for(ctl, threads, blocks, _block_task, (like, geometry, indices, heights, src, dst, residual, scratch, threads))
    else:
        data_tasks = (g.channels + g.channels_per_task - 1) // g.channels_per_task * g.data_pieces
        for index in range(blocks):
            parallel_for(ctl, threads, data_tasks, _data_task, (like, geometry, indices, src, scratch, index))
            parallel_for(
                ctl, threads, g.output_tasks, _output_task,
                (like, geometry, indices, heights, src, dst, residual, scratch, index),
            )  # fmt: skip
    keepalive(scratch)
