"""Dense convolution as an implicit matrix product: strips and panels are packed into cache, never the unrolled input.

For each group, ``out[oc][p] = sum over k of w[oc][k] * x_k[p]`` with k = (c, kh, kw) and p an output pixel. Two
designs, for the register tile has a broadcast side and a vector side:

- ``pixels``: pixels lie in vectors, output channels are broadcast. A panel of `NR` pixels is packed as [k][NR], the
  weights as [tile of rows][k][row]; results go straight into rows of `dst`.
- ``channels``: output channels lie in vectors, pixels are broadcast. The weights are packed as [panel][k][NR], a tile
  of pixels as [k][pixel]; results are [pixel][NR], stored as they are (channels-last) or transposed. Wastes no
  lanes where the pixels do not fill panels.

The work is cut into tasks: image, group, block of pixels, range of output channels. A task walks the blocks of k
in order and keeps partial sums in `dst` or in scratch; the cut of pixels into panels and of k into blocks does not
depend on the number of tasks, so any number of threads gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels._jit import jit
from fastconv.kernels.dense_functions import (
    BORDER,
    COPY_1,
    COPY_2,
    COPY_ANY,
    FILL,
    FINISH_COLUMNS,
    FINISH_ROWS,
    GATHER,
    GEMM,
    PACK_MASKED,
    PACK_ONE,
    PACK_TWO,
    STORE_TURNED,
    TURN,
)
from fastconv.kernels.function_pointers import call_function, set_word, word
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for

Array = npt.NDArray[Any]

# Fields of the array `g` that describes a layout, see fastconv.kernels.dense_layout.DenseLayout.
(
    SIZE, GROUPS, IC, OC, OH, OW, TAPS, IH, IW, SH, SW, PW_LO, K, KC, FLAT, BLOCKS, BLOCK, SPLITS, IS_PIXELS, IN_PLACE,
    LANES, NR, MR, PITCH, ROW_POSITIONS, WIDTH, PLANE, ROW_SLOTS, COLUMN_SLOTS, STRIP_AT, PANELS_AT, TILE_AT, SUMS_AT, WHERE_AT,
    SCRATCH, ACTIVATION, OC_PADDED, TILES, PADDED_ROWS, FIELDS,
) = range(40)  # fmt: skip
# Fields of the array `v`: address of the first element and strides in elements, of each array.
#: Words of scratch for the places of a panel's vectors or lanes.
WHERE_WORDS = 64
(X, XN, XC, XH, XW, Y, YN, YC, YH, YW, R, RN, RC, RH, RW, VIEW_FIELDS) = range(16)


@jit
def _fill_strip(
    f: int, g: int, v: int, rows: int, columns: int, slots: int, src: int, channels: int, strip: int, row0: int,
    height: int, column0: int, width: int, padding: int,
) -> None:  # fmt: skip
    """Fill the strip of `channels` channels from `src` (address of the first) for ``height x width`` output pixels."""
    size = word(g, SIZE)
    plane = word(g, PLANE)
    step = word(v, XW)
    for rs in range(word(g, ROW_SLOTS)):
        for position in range(height + word(slots, 2 * rs + 1)):
            padded_row = (row0 + position) * word(g, SH) + word(slots, 2 * rs + 0)
            ih = word(rows, padded_row) if padded_row < word(g, PADDED_ROWS) else -1
            row = src + ih * word(v, XH) * size
            for cs in range(word(g, COLUMN_SLOTS)):
                phase, extra = word(slots, 2 * (word(g, ROW_SLOTS) + cs) + 0), word(slots, 2 * (word(g, ROW_SLOTS) + cs) + 1)
                at = strip + ((rs * word(g, ROW_POSITIONS) + position) * word(g, PITCH) + cs * word(g, WIDTH)) * size
                n = width + extra
                if ih < 0:
                    call_function(word(f, FILL), at, plane, n, channels, padding)
                    continue
                # Columns j of the strip read column (column0 + j)*sw + phase - pw_lo of the source.
                first = column0 * word(g, SW) + phase
                begin = min(n, max(0, (word(g, PW_LO) - first + word(g, SW) - 1) // word(g, SW)))
                end = min(n, max(begin, (word(g, PW_LO) + word(g, IW) - first + word(g, SW) - 1) // word(g, SW)))
                index = columns + first * 8
                if begin > 0:
                    call_function(word(f, BORDER), at, plane, row, word(v, XC), step, index, word(g, SW), begin, channels, padding)
                if end > begin:
                    inner = row + (first + begin * word(g, SW) - word(g, PW_LO)) * step * size
                    to = at + begin * size
                    stride = word(g, SW) * step
                    if stride == 1:
                        call_function(word(f, COPY_1), to, plane, inner, word(v, XC), end - begin, channels)
                    elif word(v, XC) == 1 and channels > 1:
                        call_function(word(f, TURN), to, plane, inner, stride, end - begin, channels)
                    elif stride == 2:
                        call_function(word(f, COPY_2), to, plane, inner, word(v, XC), end - begin, channels)
                    else:
                        call_function(word(f, COPY_ANY), to, plane, inner, word(v, XC), end - begin, channels, stride)
                if n > end:
                    index += end * word(g, SW) * 8
                    call_function(
                        word(f, BORDER), at + end * size, plane, row, word(v, XC), step, index, word(g, SW), n - end,
                        channels, padding,
                    )  # fmt: skip


@jit
def _pack_panel(
    f: int, dst: int, step: int, lanes: int, vectors: int, needed: int, src: int, offsets: int, count: int, where: int,
    pixel: int, width: int, pitch: int,
) -> None:  # fmt: skip
    """Pack `needed` pixels, the first being number `pixel` of a grid of rows of `width` at distance `pitch`."""
    row = pixel // width
    column = pixel - row * width
    if column + needed <= width:
        for q in range(vectors):
            set_word(where, 3 * q, row * pitch + column + (q * lanes if q * lanes < needed else 0))
        call_function(word(f, PACK_ONE), dst, step, src, offsets, count, where)
        return
    splits_once = True
    for q in range(vectors):
        lane = q * lanes if q * lanes < needed else 0
        r = (pixel + lane) // width
        c = pixel + lane - r * width
        first_lanes = width - c
        set_word(where, 3 * q, r * pitch + c)
        set_word(where, 3 * q + 1, (r + 1) * pitch - first_lanes)
        set_word(where, 3 * q + 2, first_lanes)
        if min(lanes, needed - lane) > first_lanes + width:
            splits_once = False
        if first_lanes >= min(lanes, needed - lane):
            set_word(where, 3 * q + 1, word(where, 3 * q))
    if splits_once:
        call_function(word(f, PACK_TWO), dst, step, src, offsets, count, where)
        return
    for i in range(needed):
        set_word(where, i, (pixel + i) // width * pitch + (pixel + i) % width)
    call_function(word(f, GATHER), dst, step, src, offsets, count, where, needed)


@jit
def _pack_in_place(
    f: int, dst: int, step: int, lanes: int, vectors: int, needed: int, left: int, src: int, offsets: int, count: int,
    where: int, pixel: int,
) -> None:  # fmt: skip
    """Pack `needed` pixels from the source itself, of which only `left` elements from `pixel` on may be read."""
    if left >= vectors * lanes:
        for q in range(vectors):
            set_word(where, 3 * q, pixel + q * lanes)
        call_function(word(f, PACK_ONE), dst, step, src, offsets, count, where)
        return
    for q in range(vectors):
        valid = max(0, min(lanes, needed - q * lanes))
        set_word(where, 3 * q, pixel + q * lanes if valid > 0 else pixel)
        set_word(where, 3 * q + 1, valid)
    call_function(word(f, PACK_MASKED), dst, step, src, offsets, count, where)


@jit
def _task(
    i: int, tid: int, f: int, g: int, v: int, offsets: int, tiles: int, rows: int, columns: int, slots: int,
    weights: int, bias: int, limits: int, scratch: int, where_all: int,
) -> None:  # fmt: skip
    """Compute one task: a range of output channels for a block of pixels of one group and image."""
    size = word(g, SIZE)
    i, split = i // word(g, SPLITS), i % word(g, SPLITS)
    i, block = i // word(g, BLOCKS), i % word(g, BLOCKS)
    segments = 1 if word(g, FLAT) else word(g, OH)
    i, segment = i // segments, i % segments
    n, group = i // word(g, GROUPS), i % word(g, GROUPS)
    p0 = block * word(g, BLOCK)
    pixels_in_segment = word(g, OH) * word(g, OW) if word(g, FLAT) else word(g, OW)
    pixels = min(word(g, BLOCK), pixels_in_segment - p0)
    where = where_all + tid * WHERE_WORDS * 8
    base = scratch + tid * word(g, SCRATCH) * size
    strip = base + word(g, STRIP_AT) * size
    panels = base + word(g, PANELS_AT) * size
    x = word(v, X) + (n * word(v, XN) + group * word(g, IC) * word(v, XC)) * size
    y = word(v, Y) + (n * word(v, YN) + group * word(g, OC) * word(v, YC) + p0 * word(v, YW)) * size
    residual = word(v, R)
    if residual != 0:
        residual += (n * word(v, RN) + group * word(g, OC) * word(v, RC) + p0 * word(v, RW)) * size
    if word(g, FLAT):
        row0 = p0 // word(g, OW)
        height = (p0 + pixels - 1) // word(g, OW) - row0 + 1
        column0 = 0
        width = word(g, OW)
        pixel0 = p0 - row0 * word(g, OW)
        x_first = p0
    else:
        row0, height, column0, width, pixel0 = segment, 1, p0, pixels, 0
        x_first = segment * word(v, XH) + p0
        y += segment * word(v, YH) * size
        if residual != 0:
            residual += segment * word(v, RH) * size
    is_last_block = 1 if block == word(g, BLOCKS) - 1 else 0
    for k0 in range(0, word(g, K), word(g, KC)):
        count = min(word(g, KC), word(g, K) - k0)
        table = offsets + k0 * 8
        if word(g, IN_PLACE):
            source = x + x_first * size
        else:
            c0 = k0 // word(g, TAPS)
            c1 = (k0 + count - 1) // word(g, TAPS) + 1
            _fill_strip(
                f, g, v, rows, columns, slots, x + c0 * word(v, XC) * size, c1 - c0, strip, row0, height, column0, width,
                limits + 2 * size,
            )  # fmt: skip
            source = strip - c0 * word(g, PLANE) * size
        last = 1 if k0 + count == word(g, K) else 0
        if word(g, IS_PIXELS):
            _multiply_pixels(
                f, g, v, tiles, weights, bias, limits, group, split, k0, count, last, pixels, pixels_in_segment - p0,
                source, table, panels, base + word(g, TILE_AT) * size, where, pixel0, width, y, residual,
            )  # fmt: skip
        else:
            _multiply_channels(
                f, g, v, tiles, weights, bias, limits, group, split, k0, count, last, pixels, pixels_in_segment - p0,
                source, table, panels, base, where, pixel0, width, y, residual, is_last_block,
            )  # fmt: skip


@jit
def _multiply_pixels(
    f: int, g: int, v: int, tiles: int, weights: int, bias: int, limits: int, group: int, split: int, k0: int,
    count: int, last: int, pixels: int, left: int, source: int, table: int, panels: int, tile: int, where: int,
    pixel0: int, width: int, y: int, residual: int,
) -> None:  # fmt: skip
    """Pack the panels of a block of k and multiply: pixels in vectors."""
    size, nr, lanes = word(g, SIZE), word(g, NR), word(g, LANES)
    vectors = nr // lanes
    for p in range(0, pixels, nr):
        needed = min(nr, pixels - p)
        dst = panels + p * count * size
        if word(g, IN_PLACE):
            _pack_in_place(f, dst, nr, lanes, vectors, needed, left - p, source, table, count, where, p)
        else:
            _pack_panel(f, dst, nr, lanes, vectors, needed, source, table, count, where, pixel0 + p, width, word(g, PITCH))
    accumulate = 1 if k0 > 0 else 0
    code, limit = word(g, ACTIVATION), limits
    first, end = word(g, TILES) * split // word(g, SPLITS), word(g, TILES) * (split + 1) // word(g, SPLITS)
    for t in range(first, end):
        m = word(tiles, t)
        height = word(tiles, t + 1) - m
        a = weights + (group * word(g, OC) * word(g, K) + k0 * word(g, OC) + m * count) * size
        row = y + m * word(v, YC) * size
        added = residual + m * word(v, RC) * size if residual != 0 else 0
        offset = bias + (group * word(g, OC) + m) * size
        whole = pixels // nr
        if whole > 0:
            call_function(
                word(f, GEMM), height, vectors, a, 0, panels, row, word(v, YC), count, accumulate,
                last, offset, added, word(v, RC), code, limit, whole, 0, nr * count, nr, nr,
            )  # fmt: skip
        p = whole * nr
        if p < pixels:
            valid = pixels - p
            used = 1
            while used * lanes < valid:
                used *= 2
            there = added + p * size if added != 0 else 0
            call_function(
                word(f, GEMM), height, used, a, 0, panels + p * count * size, tile, nr, count, 0,
                0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
            )  # fmt: skip
            call_function(
                word(f, FINISH_ROWS),
                tile,
                nr,
                row + p * size,
                word(v, YC),
                height,
                valid,
                accumulate,
                last,
                offset,
                there,
                word(v, RC),
                code,
                limit,
            )


@jit
def _multiply_channels(
    f: int, g: int, v: int, tiles: int, weights: int, bias: int, limits: int, group: int, split: int, k0: int,
    count: int, last: int, pixels: int, left: int, source: int, table: int, panels: int, base: int, where: int,
    pixel0: int, width: int, y: int, residual: int, is_last_block: int,
) -> None:  # fmt: skip
    """Pack the tiles of pixels of a block of k and multiply: output channels in vectors."""
    size, nr, lanes = word(g, SIZE), word(g, NR), word(g, LANES)
    vectors = nr // lanes
    packed = -(-word(g, MR) // lanes)
    # tiles = (tiles of a whole block, their starts and end, tiles of the last block, their starts and end)
    at = word(tiles, 0) + 2 if is_last_block else 0
    tile_count = word(tiles, at)
    at += 1
    for t in range(at, at + tile_count):
        p = word(tiles, t)
        height = word(tiles, t + 1) - p
        dst = panels + p * count * size
        if word(g, IN_PLACE):
            _pack_in_place(f, dst, height, lanes, packed, height, left - p, source, table, count, where, p)
        else:
            _pack_panel(f, dst, height, lanes, packed, height, source, table, count, where, pixel0 + p, width, word(g, PITCH))
    accumulate = 1 if k0 > 0 else 0
    code, limit = word(g, ACTIVATION), limits
    is_direct = word(v, YC) == 1
    all_panels = word(g, OC_PADDED) // nr
    first, end = all_panels * split // word(g, SPLITS), all_panels * (split + 1) // word(g, SPLITS)
    tile = base + word(g, TILE_AT) * size
    step = nr * size // tile_count  # bytes of the next panel of weights to ask for at each step of k
    for j in range(first, end):
        b = weights + (group * word(g, OC_PADDED) * word(g, K) + k0 * word(g, OC_PADDED) + j * nr * count) * size
        sums = base + (word(g, SUMS_AT) + (j - first) * word(g, BLOCK) * nr) * size
        valid = min(nr, word(g, OC) - j * nr)
        offset = bias + (group * word(g, OC_PADDED) + j * nr) * size
        t = at
        while t < at + tile_count:
            p = word(tiles, t)
            height = word(tiles, t + 1) - p
            repeats = 1
            while t + repeats < at + tile_count and word(tiles, t + repeats + 1) - word(tiles, t + repeats) == height:
                repeats += 1
            a = panels + p * count * size
            following = b + nr * count * size + (t - at) * step * count
            if not is_direct:
                call_function(
                    word(f, GEMM), height, vectors, a, 0, b, sums + p * nr * size, nr, count, accumulate, following, step,
                    0, 0, 0, 0, 0, 0, repeats, height * count, 0, height * nr, 0,
                )  # fmt: skip
                t += repeats
                continue
            there = y + (p * word(v, YW) + j * nr) * size
            added = residual + (p * word(v, RW) + j * nr) * size if residual != 0 else 0
            if valid == nr:
                call_function(
                    word(f, GEMM), height, vectors, a, 0, b, there, word(v, YW), count, accumulate, following, step,
                    last, offset, added, word(v, RW), code, limit, repeats, height * count, 0, height * word(v, YW), height * word(v, RW),
                )  # fmt: skip
                t += repeats
            else:
                call_function(
                    word(f, GEMM), height, vectors, a, 0, b, tile, nr, count, 0, following, step,
                    0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
                )  # fmt: skip
                call_function(
                    word(f, FINISH_COLUMNS),
                    tile,
                    nr,
                    there,
                    word(v, YW),
                    height,
                    valid,
                    accumulate,
                    last,
                    offset,
                    added,
                    word(v, RW),
                    code,
                    limit,
                )
                t += 1
        if last and not is_direct:
            added = residual + j * nr * word(v, RC) * size if residual != 0 else 0
            call_function(
                word(f, STORE_TURNED),
                sums,
                y + j * nr * word(v, YC) * size,
                word(v, YC),
                pixels,
                valid,
                offset,
                added,
                word(v, RC),
                code,
                limit,
                tile,
            )


@jit
def dense(
    ctl: int, nthreads: int, ntasks: int, f: Array, g: Array, v: Array, offsets: Array, tiles: Array, rows: Array,
    columns: Array, slots: Array, weights: int, bias: int, limits: int,
) -> None:  # fmt: skip
    """Convolve: ``y[n, oc, oh, ow] = act(sum over c, kh, kw of x[n, c, oh*sh + kh*dh, ow*sw + kw*dw] * w[oc, c, kh, kw] + ...)``.

    Parameters
    ----------
    ctl : int
        Handle of the thread pool, 0 for none.
    nthreads, ntasks : int
        At most so many threads work on so many tasks.
    f : ndarray of int64
        Addresses of the generated functions, of `fastconv.kernels.dense_functions.functions`.
    g, offsets, tiles, rows, columns, slots : ndarrays of int64
        The fields and tables of `fastconv.kernels.dense_layout.DenseLayout`.
    v : ndarray of int64
        Addresses and strides of source, result and residual (address 0: none), see the fields above.
    weights, bias, limits : int
        Addresses of the packed weights; bias of all output channels, padded like the weights; (low, high, padding value).

    Notes
    -----
    Not checked: every index of the tables lies inside the arrays; the pixels of a segment are equally spaced in
    result and residual. Never touches memory outside the arrays.

    **Complexity** 2*N*OC*OH*OW*(IC/G)*KH*KW flops; reads each panel of weights once per block of pixels.

    Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures",
    SC 2018, for the register blocking; the strips are this project's own.
    """
    scratch = np.empty(nthreads * g[SCRATCH] * g[SIZE] + 64, np.uint8)
    start = (scratch.ctypes.data + 63) // 64 * 64
    where = np.empty(nthreads * WHERE_WORDS, np.int64)
    tables = (
        f.ctypes.data, g.ctypes.data, v.ctypes.data, offsets.ctypes.data, tiles.ctypes.data, rows.ctypes.data,
        columns.ctypes.data, slots.ctypes.data, weights, bias, limits, start, where.ctypes.data,
    )  # fmt: skip
    parallel_for(ctl, nthreads, ntasks, _task, tables)
    keepalive(scratch)
    keepalive(where)
    keepalive(f)
    keepalive(g)
    keepalive(v)
    keepalive(offsets)
    keepalive(tiles)
    keepalive(rows)
    keepalive(columns)
    keepalive(slots)


@jit
def pack_weights(f: Array, g: Array, tiles: Array, w: int, out: int) -> None:
    """Pack weights (G, OC/G, K), contiguous at address `w`, into ``out[g][block of k][tile or panel][k][row or column]``.

    Squares of vectors are transposed in registers. A tile's last square writes over its end, which the next one
    repairs; `out` ends with room for one more square of vectors by a row. Columns of a last panel beyond OC hold zeros or anything finite.
    """
    size, depth, channels, nr = g[SIZE], g[K], g[OC], g[NR]
    for group in range(g[GROUPS]):
        for k0 in range(0, depth, g[KC]):
            count = min(g[KC], depth - k0)
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


def packed_elements(g: Any) -> int:
    """Return how many elements the packed weights of layout `g` take."""
    return int(g[GROUPS] * g[K] * (g[OC] if g[IS_PIXELS] else g[OC_PADDED]))
