"""2-D tile FFT convolution of single planes: two tiles share a complex transform, the lanes are neighbouring columns.

For images of one channel and for depthwise layers of large planes: the tile of one pair of signals, not of `lanes`
pairs, has to fit into the cache, so tiles can be long. With TW a multiple of the lanes::

    Z[row][group of columns]            a tile, elements [re of the columns][im of the columns]; rows padded by one element
    U[group of rows][column]            a spectrum: lanes are rows, digit-reversed in both axes

1. Columns: read from the source (or from a bordered copy of the tile), transformed, written to Z.
2. Rows, `lanes` of them at a time: transposed into the first-level cache, transformed, multiplied, transformed back.
3. Columns that hold results: transformed back and stored.

A *line*, one row of TH*TW numbers, goes the same way as if it were TH rows; the twiddles of a transform of that length
stand between columns and rows (TWISTS, laid out as U; `D. H. Bailey, J. Supercomputing 4 (1990)`).
"""

from __future__ import annotations

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.fft import filtered, forward, forward_taken, inverse
from fastconv.kernels.fft_elements import PUT, TURN, TWIST, UNTWIST
from fastconv.kernels.fft_fields import (
    BASE,
    COLUMN_STEP,
    COLUMNS_READ,
    DESCRIPTIONS_NBYTES,
    DIRTY,
    ELEMENT,
    FLAGS_AT,
    H_AT,
    HEIGHT,
    INDEX_H,
    IS_PLAIN,
    LANE_NBYTES,
    LANES,
    MIDDLE,
    MULTIPLIER,
    PHH,
    PHW,
    PLAN_H,
    PLAN_W,
    ROWS_READ,
    RUN,
    RUN_NBYTES,
    RUNS,
    SCRATCH,
    SCRATCHES,
    SIZE,
    SPECTRA,
    TAKING,
    TH,
    TW,
    TW_H,
    TW_W,
    TWISTS,
    U_STEP,
    WIDTH,
    XH,
    XW,
    YH,
    YW,
    Z_ROW,
    U,
    X,
)
from fastconv.kernels.fft_memory import peek, poke
from fastconv.kernels.fft_rows import describe_source, describe_target, exact, read_row, result_at, write_row
from fastconv.kernels.function_pointers import call_function, set_word, word
from fastconv.kernels.threads import parallel_for


@jit
def _source(fn, g, v, lane, image, padding):  # type: ignore[no-untyped-def]
    """Return (address, distance of rows in bytes) of a lane's tile: in the source, or copied with its borders to `image`."""
    size = word(g, SIZE)
    run = word(v, RUNS) + RUN_NBYTES * word(lane, RUN)
    rows = word(v, INDEX_H) + 8 * word(lane, H_AT)
    height = word(g, ROWS_READ)
    first = word(rows, 0)
    is_inside = word(run, 1) == word(g, COLUMNS_READ) and word(g, COLUMN_STEP) * word(v, XW) == 1 and first >= 0
    for y in range(height):
        if word(rows, y) != first + y:
            is_inside = False
    step = word(g, TW) * size
    if is_inside:
        at = word(lane, BASE) + (first * word(v, XH) + word(run, 2)) * size
        return at, step if word(v, TWISTS) else word(v, XH) * size
    for y in range(height):
        set_word(lane, DIRTY, 1)  # each row has a place of its own
        read_row(fn, g, v, lane, y, image + y * step, padding)
    return image, step


@jit
def _columns_forward(g, v, one, one_step, two, two_step, z, column):  # type: ignore[no-untyped-def]
    element = word(g, ELEMENT)
    for group in range(word(g, TW) // word(g, LANES)):
        offset = group * word(g, LANES) * word(g, SIZE)
        forward_taken(
            word(v, PLAN_H), word(v, TAKING), word(v, TW_H), one + offset, one_step, two + offset, two_step, column, element,
            z + group * element, word(g, Z_ROW),
        )  # fmt: skip


@jit
def _rows_in(fn, g, v, group, z, column):  # type: ignore[no-untyped-def]
    """Bring `lanes` rows of Z to `column`, positions along it and rows in the lanes; return their address in Z."""
    element, count, tw = word(g, ELEMENT), word(g, LANES), word(g, TW)
    at = z + group * count * word(g, Z_ROW)
    call_function(word(fn, TURN), at, word(g, Z_ROW), element, column, element, count * element, tw // count)
    if word(v, TWISTS):
        call_function(word(fn, TWIST), column, word(v, TWISTS) + group * tw * element, tw)
    return at


@jit
def _filter_rows(fn, g, v, z, column, u):  # type: ignore[no-untyped-def]
    """Transform the rows of Z, multiply them with the spectrum at `u`, and transform them back."""
    element, count, tw = word(g, ELEMENT), word(g, LANES), word(g, TW)
    for group in range(word(g, TH) // count):
        at = _rows_in(fn, g, v, group, z, column)
        filtered(word(v, PLAN_W), word(v, MIDDLE), word(v, TW_W), column, element, u + group * tw * element)
        if word(v, TWISTS):
            call_function(word(fn, UNTWIST), column, word(v, TWISTS) + group * tw * element, tw)
        call_function(word(fn, TURN), column, element, count * element, at, word(g, Z_ROW), element, tw // count)


@jit
def _finish_tile(fn, g, v, padding, target, at, row_step, is_direct, is_broken):  # type: ignore[no-untyped-def]
    """Compute results that are not finite by the definition, in place; then store what is not where it belongs."""
    size = word(g, SIZE)
    for y in range(word(target, HEIGHT)):
        row = at + y * row_step
        if is_broken:
            for j in range(word(target, WIDTH)):
                if not np.isfinite(peek(padding, row + j * size)):
                    poke(padding, row + j * size, exact(g, v, padding, target, y, j))
        if not is_direct:
            write_row(padding, fn, g, v, row, target, y)


@jit
def plane_task(i, tid, fn, g, v, padding, items):  # type: ignore[no-untyped-def]
    """Convolve a pair of tiles of one channel: i = (channel*MULTIPLIER + job)*pairs + pair."""
    size, element, count, th, tw = word(g, SIZE), word(g, ELEMENT), word(g, LANES), word(g, TH), word(g, TW)
    lanes = word(v, SCRATCHES) + tid * word(g, SCRATCH)
    targets, flags = lanes + 2 * LANE_NBYTES, lanes + FLAGS_AT
    z = lanes + DESCRIPTIONS_NBYTES
    column = z + th * word(g, Z_ROW)
    image = column + max(th, tw) * element
    o, pair = divmod(i, (items + 1) // 2)
    halves = min(2, items - 2 * pair)
    for half in range(halves):
        describe_source(g, v, 2 * pair + half, o // word(g, MULTIPLIER), lanes + half * LANE_NBYTES)
        describe_target(g, 2 * pair + half, o, targets + half * LANE_NBYTES)
    one, one_step = _source(fn, g, v, lanes, image, padding)
    two, two_step = one, one_step
    if halves > 1:
        two, two_step = _source(fn, g, v, lanes + LANE_NBYTES, image + th * tw * size, padding)
    _columns_forward(g, v, one, one_step, two, two_step, z, column)
    _filter_rows(fn, g, v, z, column, word(v, U) + o * word(g, U_STEP))
    is_line = word(v, TWISTS) != 0
    is_direct = word(g, IS_PLAIN) and word(g, PHW) * word(v, YW) == 1 and not is_line
    broken_one, broken_two = False, False
    widest = tw if is_line else word(targets, WIDTH)
    if halves > 1:
        widest = max(widest, word(targets + LANE_NBYTES, WIDTH))
    for group in range((min(widest, tw) + count - 1) // count):
        inverse(word(v, PLAN_H), word(v, TW_H), z + group * element, word(g, Z_ROW), column, element, moves_first=True)
        for half in range(halves):
            target = targets + half * LANE_NBYTES
            height, columns = word(target, HEIGHT), min(count, word(target, WIDTH) - group * count)
            if is_line:
                height, columns = (word(target, WIDTH) + tw - 1) // tw, count
            if columns <= 0:
                continue
            to, row_step = image + half * th * tw * size, tw * size
            if is_direct:
                to, row_step = result_at(g, v, target, 0), word(g, PHH) * word(v, YH) * size
            call_function(word(fn, PUT), column + half * (element // 2), height, to + group * count * size, row_step, columns, flags)
            for lane in range(columns):
                if peek(padding, flags + lane * size) != 0:
                    if half:
                        broken_two = True
                    else:
                        broken_one = True
    for half in range(halves):
        target = targets + half * LANE_NBYTES
        is_broken = broken_two if half else broken_one
        if is_direct:
            _finish_tile(fn, g, v, padding, target, result_at(g, v, target, 0), word(g, PHH) * word(v, YH) * size, is_direct, is_broken)
        else:
            _finish_tile(fn, g, v, padding, target, image + half * th * tw * size, tw * size, is_direct, is_broken)


@jit
def spectrum_task(i, tid, fn, g, v):  # type: ignore[no-untyped-def]
    """Transform kernel plane i of (TH, TW), contiguous at X, into U at SPECTRA."""
    element, th, tw = word(g, ELEMENT), word(g, TH), word(g, TW)
    z = word(v, SCRATCHES) + tid * word(g, SCRATCH) + DESCRIPTIONS_NBYTES
    column = z + th * word(g, Z_ROW)
    zeros = column + max(th, tw) * element
    src = word(v, X) + i * th * tw * word(g, SIZE)
    _columns_forward(g, v, src, tw * word(g, SIZE), zeros, 0, z, column)
    for group in range(th // word(g, LANES)):
        _rows_in(fn, g, v, group, z, column)
        to = word(v, SPECTRA) + i * word(g, U_STEP) + group * tw * element
        forward(word(v, PLAN_W), word(v, TW_W), column, element, to, element, moves_first=False)


@jit
def transform_planes(ctl, threads, fn, g, v, planes):  # type: ignore[no-untyped-def]
    """Transform the kernels of all output channels; the first TW numbers behind a thread's column must be zeros."""
    parallel_for(ctl, threads, planes, spectrum_task, (fn, g, v))


@jit
def convolve_planes(ctl, threads, fn, g, v, padding, items, outputs):  # type: ignore[no-untyped-def]
    """Convolve `items` tiles of each of `outputs` output channels; arguments as in `fastconv.kernels.fft_lanes.convolve`.

    MIDDLE in `v` is the address of the fused middle of a row's transform, see `fastconv.kernels.fft.filtered`; TWISTS
    that of exp(-2 pi i f x / (TH*TW)) for row frequency f and column x in the layout of U, or 0.
    """
    parallel_for(ctl, threads, outputs * ((items + 1) // 2), plane_task, (fn, g, v, padding, items))
