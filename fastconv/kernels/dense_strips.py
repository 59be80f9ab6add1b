"""Strips and panels of dense convolution: which rows, columns and pixels the generated copying kernels work on.

See `fastconv.kernels.pack` for the layouts. Tables and functions are addresses: `f` of the generated functions, `g` of
the layout's fields, `v` of the arrays' strides.
"""

from __future__ import annotations

from fastconv.kernels._jit import jit
from fastconv.kernels.dense_fields import (
    COLUMN_SLOT,
    COLUMN_SLOTS,
    IW,
    PADDED_ROWS,
    PITCH,
    PW_LO,
    ROW_SLOT,
    ROW_SLOTS,
    SH,
    SIZE,
    SW,
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

    `src` is the address of the first channel, `padding` that of the value beyond the border. Rows that lie equally far
    apart in the source are filled together: first what is copied, whose vectors may run over the row's end, then its border.
    """
    size, sh = word(g, SIZE), word(g, SH)
    for rs in range(word(g, ROW_SLOTS)):
        residue, positions = word(slots, 2 * rs), height + word(slots, 2 * rs + 1)
        position = 0
        while position < positions:
            padded_row = (row0 + position) * sh + residue
            ih = _row_read(g, rows, padded_row)
            count = 1
            while position + count < positions:
                following = _row_read(g, rows, padded_row + count * sh)
                if following != (ih + count * sh if ih >= 0 else -1):
                    break
                count += 1
            at = strip + (rs * word(g, ROW_SLOT) + position * word(g, PITCH)) * size
            row = src + ih * word(v, XH) * size if ih >= 0 else 0
            _fill_rows(f, g, v, columns, slots, row, channels, at, plane, count, column0, width, padding)
            position += count


@jit
def _row_read(g: int, rows: int, padded_row: int) -> int:
    """Return the source row that a padded one reads, -1 for none."""
    return word(rows, padded_row) if padded_row < word(g, PADDED_ROWS) else -1


@jit
def _fill_rows(
    f: int, g: int, v: int, columns: int, slots: int, row: int, channels: int, to: int, plane: int, count: int,
    column0: int, width: int, padding: int,
) -> None:  # fmt: skip
    """Fill `count` rows of all column slots from source rows `SH` apart, the first at `row`, or of padding (0)."""
    size, sw, pitch = word(g, SIZE), word(g, SW), word(g, PITCH)
    xc, step, row_step = word(v, XC), word(v, XW), word(g, SH) * word(v, XH)
    for cs in range(word(g, COLUMN_SLOTS)):
        phase, extra = word(slots, 2 * (word(g, ROW_SLOTS) + cs)), word(slots, 2 * (word(g, ROW_SLOTS) + cs) + 1)
        at = to + cs * word(g, COLUMN_SLOT) * size
        n = width + extra
        if row == 0:
            call_function(word(f, FILL), at, plane, pitch, n, count, channels, padding)
            continue
        # Columns j of the strip read column (column0 + j)*sw + phase - pw_lo of the source.
        first = column0 * sw + phase
        begin = min(n, max(0, (word(g, PW_LO) - first + sw - 1) // sw))
        end = min(n, max(begin, (word(g, PW_LO) + word(g, IW) - first + sw - 1) // sw))
        index = columns + first * 8
        if end > begin:
            inner = row + (first + begin * sw - word(g, PW_LO)) * step * size
            inside, stride = at + begin * size, sw * step
            if stride == 1:
                call_function(word(f, COPY_1), inside, plane, pitch, inner, xc, row_step, end - begin, count, channels)
            elif xc == 1 and channels > 1:
                for r in range(count):
                    call_function(
                        word(f, TURN), inside + r * pitch * size, plane, inner + r * row_step * size, stride, end - begin, channels
                    )
            elif stride == 2:
                call_function(word(f, COPY_2), inside, plane, pitch, inner, xc, row_step, end - begin, count, channels)
            else:
                call_function(word(f, COPY_ANY), inside, plane, pitch, inner, xc, row_step, end - begin, count, channels, stride)
        if begin > 0:
            call_function(word(f, BORDER), at, plane, pitch, row, xc, row_step, step, index, sw, begin, count, channels, padding)
        if n > end:
            index += end * sw * 8
            call_function(
                word(f, BORDER), at + end * size, plane, pitch, row, xc, row_step, step, index, sw, n - end, count, channels, padding
            )


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
