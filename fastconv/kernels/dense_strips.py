"""Strips and panels of dense convolution: which rows, columns and pixels the generated copying kernels work on.

See `fastconv.kernels.pack` for the layouts. Tables and functions are addresses: `f` of the generated functions, `g` of
the layout's fields, `v` of the arrays' strides.
"""

from __future__ import annotations

from fastconv.kernels._jit import jit
from fastconv.kernels.dense_fields import (
    COLUMN_SLOTS,
    IW,
    PADDED_ROWS,
    PITCH,
    PW_LO,
    ROW_POSITIONS,
    ROW_SLOTS,
    SH,
    SIZE,
    SW,
    WIDTH,
    XC,
    XH,
    XW,
)
from fastconv.kernels.dense_functions import (
    BORDER,
    COPY_1,
    COPY_2,
    COPY_ANY,
    FILL,
    GATHER,
    PACK_MASKED,
    PACK_ONE,
    PACK_TWO,
    TURN,
)
from fastconv.kernels.function_pointers import call_function, set_word, word


@jit
def fill_strip(
    f: int, g: int, v: int, rows: int, columns: int, slots: int, src: int, channels: int, strip: int, plane: int,
    row0: int, height: int, column0: int, width: int, padding: int,
) -> None:  # fmt: skip
    """Fill `channels` planes of a strip, each `plane` elements behind the one before, for ``height x width`` output pixels.

    `src` is the address of the first channel, `padding` that of the value beyond the border.
    """
    size = word(g, SIZE)
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
def pack_panel(
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
def pack_in_place(
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
