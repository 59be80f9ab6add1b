"""Dense convolution as an implicit matrix product: strips and panels are packed into cache, never the unrolled input.

For each group, ``out[oc][p] = sum over k of w[oc][k] * x_k[p]`` with k = (c, kh, kw) and p an output pixel. Two
designs, for the register tile has a broadcast side and a vector side::

    pixels      weights [tile of rows][k][row]      panel [k][NR pixels]       results in rows of `dst`
    channels    weights [panel][k][NR channels]     tile  [k][pixel]           results [pixel][NR]

- ``pixels``: pixels lie in vectors, output channels are broadcast. Results go straight into rows of `dst`.
- ``channels``: output channels lie in vectors, pixels are broadcast. Results are stored as they are (channels-last)
  or transposed. Wastes no lanes where the pixels do not fill panels.

Complex numbers run through ``pixels``: real and imaginary parts are channels of their own, taken apart while the strip
is filled, and the parts of a block of results, kept in scratch memory, are put together when they are complete.

The work is cut into tasks: image (or several small ones), group, block of pixels, range of output channels. A task walks the blocks of k
in order and keeps partial sums in `dst` or in scratch; the cut of pixels into panels and of k into blocks does not
depend on the number of tasks, so any number of threads gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastconv.kernels._jit import jit
from fastconv.kernels.dense_fields import (
    ACTIVATION,
    BATCH,
    BIAS,
    BLOCK,
    BLOCKS,
    COLUMN,
    COLUMNS,
    FLAT,
    FUNCTIONS,
    GROUPS,
    IC,
    IMAGE,
    IMAGES,
    IN_PLACE,
    IS_PIXELS,
    IS_PLACED,
    IS_REGION,
    LAYOUT,
    LIMITS,
    NR,
    OC,
    OC_PADDED,
    OFFSETS,
    OH,
    OW,
    PANEL_ROWS,
    PANELS_AT,
    PARTS,
    PIECES,
    PLACES_AT,
    PLANE,
    RC,
    READS_PIXELS,
    REGISTER_TILES,
    RH,
    RN,
    ROW,
    ROWS,
    RUN,
    RW,
    SCRATCH,
    SIZE,
    SLOTS,
    SPLITS,
    STEP_AT,
    STEP_CHANNEL,
    STEP_CHANNELS,
    STEP_COUNT,
    STEP_K,
    STEP_PACKED,
    STEP_WORDS,
    STEPS,
    STRIP_AT,
    SUMS_AT,
    TABLES,
    TASKS,
    TILE_AT,
    TILES,
    VIEW,
    WEIGHTS,
    WHERE_WORDS,
    XC,
    XH,
    XN,
    XW,
    YC,
    YH,
    YN,
    YW,
    K,
)
from fastconv.kernels.dense_functions import FINISH_ROWS, JOIN_PARTS, TURN
from fastconv.kernels.dense_products import multiply_channels, multiply_pixels, multiply_placed
from fastconv.kernels.dense_strips import fill_strip
from fastconv.kernels.function_pointers import call_function, word
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for

Array = npt.NDArray[Any]


@jit
def _task(i: int, tid: int, tables: int, x: int, y: int, residual: int, scratch: int, where_all: int) -> None:
    """Compute one task: a range of output channels for a block of pixels of one group, image and, if there are some, rectangle."""
    while i >= word(word(tables, LAYOUT), TASKS):
        i -= word(word(tables, LAYOUT), TASKS)
        tables += TABLES * 8
    f, g, v, tiles = word(tables, FUNCTIONS), word(tables, LAYOUT), word(tables, VIEW), word(tables, REGISTER_TILES)
    weights, bias, limits = word(tables, WEIGHTS), word(tables, BIAS), word(tables, LIMITS)
    size, parts = word(g, SIZE), word(g, PARTS)
    i, split = i // word(g, SPLITS), i % word(g, SPLITS)
    i, block = i // word(g, BLOCKS), i % word(g, BLOCKS)
    segments = 1 if word(g, FLAT) else word(g, OH)
    i, segment = i // segments, i % segments
    n, group = i // word(g, GROUPS), i % word(g, GROUPS)
    p0 = block * word(g, BLOCK)
    pixels_in_segment = word(g, OH) * word(g, OW) if word(g, FLAT) else word(g, OW)
    pixels = min(word(g, BLOCK), pixels_in_segment - p0)
    n *= word(g, IMAGES)
    images = min(word(g, IMAGES), word(g, BATCH) - n)
    where = where_all + tid * WHERE_WORDS * 8
    base = scratch + tid * word(g, SCRATCH) * size
    strip = base + word(g, STRIP_AT) * size
    panels, tile = base + word(g, PANELS_AT) * size, base + word(g, TILE_AT) * size
    places = base + word(g, PLACES_AT) * size
    x += (n * word(v, XN) + group * (word(g, IC) // parts) * word(v, XC)) * size
    y += (
        n * word(v, YN) + group * (word(g, OC) // parts) * word(v, YC) + word(g, ROW) * word(v, YH) + word(g, COLUMN) * word(v, YW)
    ) * size
    if residual != 0:
        residual += (
            n * word(v, RN) + group * (word(g, OC) // parts) * word(v, RC) + word(g, ROW) * word(v, RH) + word(g, COLUMN) * word(v, RW)
        ) * size
    if not word(g, IS_REGION):
        y += p0 * word(v, YW) * size
        if residual != 0:
            residual += p0 * word(v, RW) * size
    if word(g, FLAT):
        row0 = p0 // word(g, OW)
        height = (p0 + pixels - 1) // word(g, OW) - row0 + 1
        column0 = 0
        width = word(g, OW)
        run = word(g, RUN)
        pixel0 = p0 - row0 * word(g, OW)
        x_first = p0
    else:
        row0, height, column0, width, run, pixel0 = segment, 1, p0, pixels, pixels, 0
        x_first = segment * word(v, XH) + p0
        y += segment * word(v, YH) * size
        if residual != 0:
            residual += segment * word(v, RH) * size
    is_last_block = 1 if block == word(g, BLOCKS) - 1 else 0
    first, end = word(g, TILES) * split // word(g, SPLITS), word(g, TILES) * (split + 1) // word(g, SPLITS)
    # The parts of complex results stay in scratch memory, a row of the block for each part of the task's channels; so do
    # the sums of a rectangle.
    held = base + word(g, SUMS_AT) * size
    held_row0 = held - word(tiles, first) * word(g, BLOCK) * size
    channels_before = group * word(g, OC)
    for s in range(word(g, STEPS)):
        step = word(tables, PIECES) + s * STEP_WORDS * 8
        k0, at, count = word(step, STEP_K), word(step, STEP_AT), word(step, STEP_COUNT)
        c0, channels = word(step, STEP_CHANNEL), word(step, STEP_CHANNELS)
        table = word(tables, OFFSETS) + (k0 + at) * 8
        if word(g, READS_PIXELS):
            source = x + (segment * word(v, XH) + p0 * word(v, XW)) * size
        elif word(g, IN_PLACE):
            source = x + x_first * size
        else:
            for i in range(images * parts if channels > 0 else 0):
                image, part = i // parts, i % parts
                fill_strip(
                    f, g, v, word(tables, ROWS), word(tables, COLUMNS), word(tables, SLOTS),
                    x + (image * word(v, XN) + c0 * word(v, XC) + part) * size, channels,
                    strip + (image * word(g, IMAGE) + part * word(g, PLANE)) * size, parts * word(g, PLANE),
                    row0, height, column0, width, limits + (2 + part) * size,
                )  # fmt: skip
            source = strip - c0 * parts * word(g, PLANE) * size
        last = 1 if s == word(g, STEPS) - 1 else 0
        if not word(g, IS_PIXELS):
            multiply_channels(
                f, g, v, tiles, weights, bias, limits, group, split, k0, count, last, pixels, pixels_in_segment - p0,
                source, table, panels, base, where, pixel0, run, y, residual, is_last_block,
            )  # fmt: skip
            continue
        is_held = parts > 1 or word(g, IS_REGION)
        rows, row_step, added, added_step = y, word(v, YC), residual, word(v, RC)
        if is_held:
            rows, row_step, added, added_step = held_row0, word(g, BLOCK), 0, 0
        block_of_weights = weights + (channels_before * word(g, K) + k0 * word(g, OC)) * size
        biases, is_added, is_complete = bias + channels_before * size, 1 if s > 0 else 0, last if parts > 1 or not is_held else 0
        if word(g, IS_PLACED):
            multiply_placed(
                f, g, tiles, block_of_weights, word(step, STEP_PACKED), at, biases, limits, first, end, count, is_added, is_complete,
                images * pixels, pixels, pixels_in_segment - p0, source, table, panels, word(tables, PANEL_ROWS), places, tile, where,
                pixel0, run, rows, row_step, word(v, YN), added, added_step, word(v, RN),
            )  # fmt: skip
        else:
            multiply_pixels(
                f, g, tiles, block_of_weights, word(step, STEP_PACKED), at, biases, limits, first, end, count, is_added, is_complete,
                pixels, pixels_in_segment - p0, source, table, panels, tile, where, pixel0, run, rows, row_step, added, added_step,
            )  # fmt: skip
    if parts > 1:
        channel, count = word(tiles, first) // parts, (word(tiles, end) - word(tiles, first)) // parts
        added = residual + channel * word(v, RC) * size if residual != 0 else 0
        call_function(
            word(f, JOIN_PARTS), held, word(g, BLOCK), y + channel * word(v, YC) * size, word(v, YC), word(v, YW), count, pixels,
            added, word(v, RC), word(v, RW),
        )  # fmt: skip
    if word(g, IS_REGION):
        channel = word(tiles, first)
        count = word(tiles, end) - channel
        p = 0
        while p < pixels:
            row = (pixel0 + p) // width
            column = pixel0 + p - row * width
            valid = min(width - column, pixels - p)
            there = ((row0 + row) * word(v, YH) + column * word(v, YW) + channel * word(v, YC)) * size
            added = residual + ((row0 + row) * word(v, RH) + column * word(v, RW) + channel * word(v, RC)) * size if residual != 0 else 0
            call_function(
                word(f, FINISH_ROWS), held + p * size, word(g, BLOCK), y + there, word(v, YC), count, valid, 0, 1,
                bias + (channels_before + channel) * size, added, word(v, RC), word(g, ACTIVATION), limits,
            )  # fmt: skip
            p += valid


@jit
def dense(ctl: int, nthreads: int, ntasks: int, tables: Array, src: int, dst: int, residual: int, scratch: int) -> None:
    """Convolve: ``y[n, oc, oh, ow] = act(sum over c, kh, kw of x[n, c, oh*sh + kh*dh, ow*sw + kw*dw] * w[oc, c, kh, kw] + ...)``.

    Parameters
    ----------
    ctl : int
        Handle of the thread pool, 0 for none.
    nthreads, ntasks : int
        At most so many threads work on so many tasks.
    tables : ndarray of int64, shape (TABLES,) or (rectangles, TABLES)
        For the whole result, or for each rectangle that it is cut into, addresses of tables of int64: generated functions
        (`fastconv.kernels.dense_functions.functions`); fields of the layout; strides of the arrays; offset of each k; register
        tiles; source row of each padded row and column of each padded column, -1 beyond the border; slots of a strip; pieces
        of k; rows of a packed panel; then of numbers: packed weights; bias of all output channels, padded like the weights;
        (low, high, padding value[, its imaginary part]).
    src, dst, residual : int
        Addresses of source, result and residual (0: none).
    scratch : int
        Address of ``workspace_nbytes_per_thread`` of the layout for each thread, at the start of a cache line, with any contents.

    Notes
    -----
    Not checked: every index of the tables lies inside the arrays; the pixels of a segment are equally spaced in
    result and residual; the caller keeps all tables and arrays alive. Never touches memory outside the arrays.

    **Complexity** 2*N*OC*OH*OW*(IC/G)*KH*KW flops, four times as many for complex numbers. Bytes: the source once per
    range of output channels (for kernels above 1x1 the rows that neighbouring blocks share twice), each panel of weights
    once per block of pixels, the result once per block of k.

    Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures",
    SC 2018, for the register blocking; the strips are this project's own.
    """
    start = scratch + nthreads * WHERE_WORDS * 8
    parallel_for(ctl, nthreads, ntasks, _task, (tables.ctypes.data, src, dst, residual, start, scratch))
    keepalive(tables)


@jit
def pack_weights(f: Array, g: Array, tiles: Array, blocks: Array, w: int, out: int) -> None:
    """Pack weights (G, OC/G, K), contiguous at address `w`, into ``out[g][block of k][tile or panel][k][row or column]``.

    Squares of vectors are transposed in registers. A tile's last square writes over its end, which the next one
    repairs; `out` ends with room for one more square of vectors by a row. Columns of a last panel beyond OC hold zeros or anything finite.
    """
    size, depth, channels, nr = g[SIZE], g[K], g[OC], g[NR]
    for group in range(g[GROUPS]):
        k0 = 0
        for count in blocks:
            source = w + (group * channels * depth + k0) * size
            if g[IS_PIXELS]:
                for t in range(g[TILES]):
                    m, height = tiles[t], tiles[t + 1] - tiles[t]
                    call_function(f[TURN], out, height, source + m * depth * size, depth, height, count)
                    out += height * count * size
            else:
                for m in range(0, channels, nr):
                    call_function(f[TURN], out, nr, source + m * depth * size, depth, min(nr, channels - m), count)
                    out += nr * count * size
            k0 += count


def packed_elements(g: Any) -> int:
    """Return how many elements the packed weights of layout `g` take."""
    return int(g[GROUPS] * g[K] * (g[OC] if g[IS_PIXELS] else g[OC_PADDED]))
