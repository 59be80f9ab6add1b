"""2-D tile FFT convolution of single planes: two tiles share a complex transform, the lanes are neighbouring columns.

For images of one channel and for depthwise layers of large planes: the tile of one pair of signals, not of `lanes`
pairs, has to fit into the cache, so tiles can be long. With TW a multiple of the lanes::

    Z[row][group of columns]            a tile, elements [re of the columns][im of the columns]; rows padded by one element
    U[group of rows][column]            a spectrum: lanes are rows, digit-reversed in both axes

1. Columns: read from the source (or from a bordered copy of the tile), transformed, written to Z.
2. Rows, `lanes` of them at a time: transposed into the first-level cache, transformed, multiplied, transformed back.
3. Columns that hold results: transformed back and stored.
"""

from __future__ import annotations

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.fft import filtered, forward, forward_taken, inverse
from fastconv.kernels.fft_elements import PUT, TURN
from fastconv.kernels.fft_lanes import (
    BASE,
    COLUMN_STEP,
    DIRTY,
    ELEMENT,
    H_AT,
    H_LENGTH,
    INDEX_H,
    IS_PLAIN,
    LANE_FIELDS,
    LANES,
    MIDDLE,
    MULTIPLIER,
    OH,
    OW,
    PHH,
    PHW,
    PLAN_H,
    PLAN_W,
    RUN,
    RUNS,
    SCRATCH,
    SCRATCHES,
    SIZE,
    SPECTRA,
    STEP_H,
    STEP_W,
    TAKING,
    TH,
    TW,
    TW_H,
    TW_W,
    TX,
    TY,
    U_STEP,
    W_AT,
    W_LENGTH,
    XC,
    XH,
    XN,
    XW,
    YC,
    YH,
    YN,
    YW,
    Z_ROW,
    U,
    X,
    Y,
    _count,
    _exact,
    _read_row,
    _write_row,
)
from fastconv.kernels.fft_memory import peek, poke, word
from fastconv.kernels.function_pointers import call_function
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for

# Columns of a tile's description.
(N_AT, O_AT, OH_AT, OW_AT, HEIGHT, WIDTH, TILE_FIELDS) = range(7)


@jit
def _describe_tile(g, v, item, c, o, lane, tile):  # type: ignore[no-untyped-def]
    """Write where tile number `item` of channel `c` is read (`lane`, as for a lane) and written (`tile`)."""
    rest, tx = divmod(item, g[TX])
    rest, ty = divmod(rest, g[TY])
    rest, aw = divmod(rest, g[PHW])
    n, ah = divmod(rest, g[PHH])
    lane[BASE] = v[X] + (n * v[XN] + c * v[XC]) * g[SIZE]
    lane[H_AT] = ah * g[H_LENGTH] + ty * g[STEP_H]
    lane[W_AT] = aw * g[W_LENGTH] + tx * g[STEP_W]
    lane[RUN] = aw * g[TX] + tx
    lane[DIRTY] = 1
    tile[N_AT], tile[O_AT] = n, o
    tile[OH_AT] = ah + ty * g[STEP_H] * g[PHH]
    tile[OW_AT] = aw + tx * g[STEP_W] * g[PHW]
    tile[HEIGHT] = min(g[STEP_H], _count(g[OH], g[PHH], tile[OH_AT]))
    tile[WIDTH] = min(g[STEP_W], _count(g[OW], g[PHW], tile[OW_AT]))


@jit
def _source(like, fn, g, v, lane, image, padding):  # type: ignore[no-untyped-def]
    """Return (address, distance of rows in bytes) of a lane's tile: in the source, or copied with its borders to `image`."""
    size = g[SIZE]
    run = lane[RUN]
    first, last = word(v[INDEX_H], lane[H_AT]), word(v[INDEX_H], lane[H_AT] + g[TH] - 1)
    is_inside = word(v[RUNS], 4 * run + 1) == g[TW] and g[COLUMN_STEP] * v[XW] == 1 and first >= 0 and last - first == g[TH] - 1
    if is_inside:
        for y in range(g[TH]):
            if word(v[INDEX_H], lane[H_AT] + y) != first + y:
                is_inside = False
    if is_inside:
        return lane[BASE] + (first * v[XH] + word(v[RUNS], 4 * run + 2)) * size, v[XH] * size
    for y in range(g[TH]):
        lane[DIRTY] = 1  # each row has a place of its own
        _read_row(like, fn, g, v, lane, y, image + y * g[TW] * size, padding)
    return image, g[TW] * size


@jit
def _columns_forward(like, g, v, one, one_step, two, two_step, z, column):  # type: ignore[no-untyped-def]
    for group in range(g[TW] // g[LANES]):
        offset = group * g[LANES] * g[SIZE]
        to = z + group * g[ELEMENT]
        forward_taken(like, v[PLAN_H], v[TAKING], v[TW_H], one + offset, one_step, two + offset, two_step, column, g[ELEMENT], to, g[Z_ROW])


@jit
def _mend(like, g, v, padding, tile, at, row_step, step):  # type: ignore[no-untyped-def]
    """Compute the results of a tile that are not finite by the definition, in place."""
    for y in range(tile[HEIGHT]):
        for j in range(tile[WIDTH]):
            p = at + y * row_step + j * step
            if not np.isfinite(peek(like, p)):
                i, k = tile[OH_AT] + y * g[PHH], tile[OW_AT] + j * g[PHW]
                poke(like, p, _exact(like, g, v, padding, tile[N_AT], tile[O_AT], i, k))


@jit
def plane_task(i, tid, like, fn, g, v, padding, items):  # type: ignore[no-untyped-def]
    """Convolve a pair of tiles of one channel: i = (channel*MULTIPLIER + job)*pairs + pair."""
    size, element, count = g[SIZE], g[ELEMENT], g[LANES]
    z = v[SCRATCHES] + tid * g[SCRATCH]
    column = z + g[TH] * g[Z_ROW]
    image = column + max(g[TH], g[TW]) * element
    tile_nbytes = g[TH] * g[TW] * size
    o, pair = divmod(i, (items + 1) // 2)
    c = o // g[MULTIPLIER]
    lanes, tiles = np.zeros((2, LANE_FIELDS), np.int64), np.zeros((2, TILE_FIELDS), np.int64)
    halves = min(2, items - 2 * pair)
    for half in range(halves):
        _describe_tile(g, v, 2 * pair + half, c, o, lanes[half], tiles[half])
    one, one_step = _source(like, fn, g, v, lanes[0], image, padding)
    two, two_step = one, one_step
    if halves > 1:
        two, two_step = _source(like, fn, g, v, lanes[1], image + tile_nbytes, padding)
    _columns_forward(like, g, v, one, one_step, two, two_step, z, column)
    u = v[U] + o * g[U_STEP]
    for group in range(g[TH] // count):
        at = z + group * count * g[Z_ROW]
        blocks = g[TW] // count
        call_function(word(fn, TURN), at, g[Z_ROW], element, column, element, count * element, blocks)
        filtered(like, v[PLAN_W], v[MIDDLE], v[TW_W], column, element, u + group * g[TW] * element)
        call_function(word(fn, TURN), column, element, count * element, at, g[Z_ROW], element, blocks)
    is_direct = g[IS_PLAIN] and g[PHW] * v[YW] == 1
    flags = np.zeros((2, count), like.dtype)
    broken = np.zeros(2, np.bool_)
    widest = max(tiles[0, WIDTH], tiles[1, WIDTH])
    for group in range((widest + count - 1) // count):
        inverse(like, v[PLAN_H], v[TW_H], z + group * element, g[Z_ROW], column, element, moves_first=True)
        for half in range(halves):
            tile = tiles[half]
            columns = min(count, tile[WIDTH] - group * count)
            if columns <= 0:
                continue
            to, row_step = image + half * tile_nbytes, g[TW] * size
            if is_direct:
                to = v[Y] + (tile[N_AT] * v[YN] + tile[O_AT] * v[YC] + tile[OH_AT] * v[YH] + tile[OW_AT]) * size
                row_step = g[PHH] * v[YH] * size
            flag = flags[half]
            source = column + half * (element // 2)
            call_function(word(fn, PUT), source, tile[HEIGHT], to + group * count * size, row_step, columns, flag.ctypes.data)
            for lane in range(columns):
                if flag[lane] != 0:
                    broken[half] = True
    keepalive(flags)
    for half in range(halves):
        tile = tiles[half]
        to, row_step = image + half * tile_nbytes, g[TW] * size
        if is_direct:
            to = v[Y] + (tile[N_AT] * v[YN] + tile[O_AT] * v[YC] + tile[OH_AT] * v[YH] + tile[OW_AT]) * size
            row_step = g[PHH] * v[YH] * size
        if broken[half]:
            _mend(like, g, v, padding, tile, to, row_step, size)
        if not is_direct:
            for y in range(tile[HEIGHT]):
                _write_row(like, fn, g, v, to + y * row_step, tile[N_AT], tile[O_AT], tile[OH_AT] + y * g[PHH], tile[OW_AT], tile[WIDTH])


@jit
def spectrum_task(i, tid, like, fn, g, v):  # type: ignore[no-untyped-def]
    """Transform kernel plane i of (TH, TW), contiguous at v[X], into U at v[SPECTRA]."""
    size, element, count = g[SIZE], g[ELEMENT], g[LANES]
    z = v[SCRATCHES] + tid * g[SCRATCH]
    column = z + g[TH] * g[Z_ROW]
    zeros = column + max(g[TH], g[TW]) * element
    src = v[X] + i * g[TH] * g[TW] * size
    _columns_forward(like, g, v, src, g[TW] * size, zeros, 0, z, column)
    for group in range(g[TH] // count):
        to = v[SPECTRA] + i * g[U_STEP] + group * g[TW] * element
        at = z + group * count * g[Z_ROW]
        call_function(word(fn, TURN), at, g[Z_ROW], element, column, element, count * element, g[TW] // count)
        forward(like, v[PLAN_W], v[TW_W], column, element, to, element, moves_first=False)


@jit
def transform_planes(ctl, threads, like, fn, g, v, planes):  # type: ignore[no-untyped-def]
    """Transform the kernels of all output channels; the first ``LANES`` columns behind a thread's column must be zeros."""
    parallel_for(ctl, threads, planes, spectrum_task, (like, fn, g, v))


@jit
def convolve_planes(ctl, threads, like, fn, g, v, padding, items, outputs):  # type: ignore[no-untyped-def]
    """Convolve `items` tiles of each of `outputs` output channels; arguments as in `fastconv.kernels.fft_lanes.convolve`.

    MIDDLE in `v` is the address of the fused middle of a row's transform, see `fastconv.kernels.fft.filtered`.
    """
    parallel_for(ctl, threads, outputs * ((items + 1) // 2), plane_task, (like, fn, g, v, padding, items))
