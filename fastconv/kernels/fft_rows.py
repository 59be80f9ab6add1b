"""Rows of FFT tiles: which source row a lane reads, with its borders; which result row it writes; results by the definition.

`fn`, `g` and `v` are the addresses of tables, see `fastconv.kernels.fft_fields`; `lane` and `target` those of
descriptions. `like` is a number of the element type.
"""

from __future__ import annotations

from fastconv.kernels._jit import jit
from fastconv.kernels.epilogue import activate
from fastconv.kernels.fft_elements import CLEAR, COPY, FINISH
from fastconv.kernels.fft_fields import (
    BASE,
    BIAS,
    CODE,
    COLS_AT,
    COLUMN_STEP,
    COLUMNS_READ,
    DH,
    DIRTY,
    DW,
    H_AT,
    H_LENGTH,
    HEIGHT,
    INDEX_H,
    INDEX_W,
    IS_PLAIN,
    KH,
    KW,
    LANES,
    LIMITS,
    N_AT,
    O_AT,
    OCG,
    OH,
    OH_AT,
    OW,
    OW_AT,
    PHH,
    PHW,
    RC,
    RH,
    RN,
    ROWS_AT,
    RUN,
    RUN_NBYTES,
    RUNS,
    RW,
    SBH,
    SBW,
    SH,
    SIZE,
    SOURCE_ICG,
    STEP_H,
    STEP_W,
    SW,
    TX,
    TY,
    W_AT,
    W_LENGTH,
    WEIGHTS,
    WIDTH,
    XC,
    XH,
    XN,
    XW,
    YC,
    YH,
    YN,
    YW,
    R,
    X,
    Y,
)
from fastconv.kernels.fft_memory import cast, peek, poke
from fastconv.kernels.function_pointers import call_function, set_word, word


@jit
def _count(total, step, at):  # type: ignore[no-untyped-def]
    """Return how many of ``at, at + step, ...`` are below `total`."""
    return max(0, (total - at + step - 1) // step)


@jit
def _position(g, item):  # type: ignore[no-untyped-def]
    """Return (image, row phase, column phase, tile row, tile column) of an item."""
    rest, tx = divmod(item, word(g, TX))
    rest, ty = divmod(rest, word(g, TY))
    rest, aw = divmod(rest, word(g, PHW))
    n, ah = divmod(rest, word(g, PHH))
    return n, ah, aw, ty, tx


@jit
def describe_source(g, v, item, channel, lane):  # type: ignore[no-untyped-def]
    """Write where item number `item` of a channel (of those times the stride phases) is read."""
    n, ah, aw, ty, tx = _position(g, item)
    rest, bw = divmod(channel, word(g, SBW))
    c, bh = divmod(rest, word(g, SBH))
    column_phase = aw * word(g, SBW) + bw
    set_word(lane, BASE, word(v, X) + (n * word(v, XN) + c * word(v, XC)) * word(g, SIZE))
    set_word(lane, H_AT, (ah * word(g, SBH) + bh) * word(g, H_LENGTH) + ty * word(g, STEP_H))
    set_word(lane, W_AT, column_phase * word(g, W_LENGTH) + tx * word(g, STEP_W))
    set_word(lane, RUN, column_phase * word(g, TX) + tx)
    set_word(lane, DIRTY, 1)


@jit
def describe_target(g, item, o, target):  # type: ignore[no-untyped-def]
    """Write where item number `item` of output channel `o` goes."""
    n, ah, aw, ty, tx = _position(g, item)
    oh = ah + ty * word(g, STEP_H) * word(g, PHH)
    ow = aw + tx * word(g, STEP_W) * word(g, PHW)
    set_word(target, N_AT, n)
    set_word(target, O_AT, o)
    set_word(target, OH_AT, oh)
    set_word(target, OW_AT, ow)
    set_word(target, HEIGHT, min(word(g, STEP_H), _count(word(g, OH), word(g, PHH), oh)))
    set_word(target, WIDTH, min(word(g, STEP_W), _count(word(g, OW), word(g, PHW), ow)))


@jit
def result_at(g, v, target, y):  # type: ignore[no-untyped-def]
    """Return the address of the first result in row `y` of a target."""
    row = word(target, OH_AT) + y * word(g, PHH)
    start = word(target, N_AT) * word(v, YN) + word(target, O_AT) * word(v, YC) + row * word(v, YH) + word(target, OW_AT) * word(v, YW)
    return word(v, Y) + start * word(g, SIZE)


@jit
def _fill(like, to, n, size, value):  # type: ignore[no-untyped-def]
    for j in range(n):
        poke(like, to + j * size, value)


@jit
def read_row(fn, g, v, lane, y, to, padding):  # type: ignore[no-untyped-def]
    """Copy row `y` of a lane's tile to `to`, borders filled; return whether it reads anything but zeros."""
    size, tw = word(g, SIZE), word(g, COLUMNS_READ)
    vectors = (tw + word(g, LANES) - 1) // word(g, LANES)
    if word(lane, BASE) == 0:
        if word(lane, DIRTY):
            call_function(word(fn, CLEAR), to, vectors)
            set_word(lane, DIRTY, 0)
        return False
    h = word(word(v, INDEX_H), word(lane, H_AT) + y)
    if h < 0:
        if padding == 0:
            call_function(word(fn, CLEAR), to, vectors)
            set_word(lane, DIRTY, 0)
            return False
        _fill(padding, to, tw, size, padding)
        set_word(lane, DIRTY, 1)
        return True
    src = word(lane, BASE) + h * word(v, XH) * size
    run = word(v, RUNS) + RUN_NBYTES * word(lane, RUN)
    low, count, start, borders = word(run, 0), word(run, 1), word(run, 2), word(run, 3)
    step = word(g, COLUMN_STEP) * word(v, XW)
    columns = word(v, INDEX_W) + 8 * word(lane, W_AT)
    if word(lane, DIRTY):
        # Padding next to the run stays as it is from row to row.
        call_function(word(fn, CLEAR), to, vectors)
        if padding != 0:
            for j in range(tw):
                if word(columns, j) < 0:
                    poke(padding, to + j * size, padding)
        set_word(lane, DIRTY, 0)
    if step == 1:
        call_function(word(fn, COPY), to + low * size, 0, src + start * size, 0, count, 1)
    else:
        for j in range(count):
            poke(padding, to + (low + j) * size, peek(padding, src + (start * word(v, XW) + j * step) * size))
    if borders:
        for j in range(tw):
            if j < low or j >= low + count:
                column = word(columns, j)
                if column >= 0:
                    poke(padding, to + j * size, peek(padding, src + column * word(v, XW) * size))
    return True


@jit
def exact(g, v, padding, target, y, j):  # type: ignore[no-untyped-def]
    """Return result `j` in row `y` of a target by the definition, before the epilogue."""
    size, n, o = word(g, SIZE), word(target, N_AT), word(target, O_AT)
    i, k = word(target, OH_AT) + y * word(g, PHH), word(target, OW_AT) + j * word(g, PHW)
    icg = word(g, SOURCE_ICG)
    first = o // word(g, OCG) * icg
    total = cast(padding, 0)
    at = word(v, WEIGHTS) + o * icg * word(g, KH) * word(g, KW) * size
    for c in range(icg):
        plane = word(v, X) + (n * word(v, XN) + (first + c) * word(v, XC)) * size
        for r in range(word(g, KH)):
            h = word(word(v, ROWS_AT), i * word(g, SH) + r * word(g, DH))
            for s in range(word(g, KW)):
                w = word(word(v, COLS_AT), k * word(g, SW) + s * word(g, DW))
                value = peek(padding, plane + (h * word(v, XH) + w * word(v, XW)) * size) if h >= 0 and w >= 0 else padding
                total += value * peek(padding, at)
                at += size
    return total


@jit
def write_row(like, fn, g, v, src, target, y):  # type: ignore[no-untyped-def]
    """Finish and store the results of row `y` of a target, contiguous at `src`."""
    size, count, o = word(g, SIZE), word(target, WIDTH), word(target, O_AT)
    to, more = result_at(g, v, target, y), 0
    if word(v, R):
        row = word(target, OH_AT) + y * word(g, PHH)
        start = word(target, N_AT) * word(v, RN) + o * word(v, RC) + row * word(v, RH) + word(target, OW_AT) * word(v, RW)
        more = word(v, R) + start * size
    step = word(g, PHW) * word(v, YW)
    bias = word(v, BIAS) + o * size
    if step == 1 and word(g, IS_PLAIN):
        call_function(word(fn, COPY), to, 0, src, 0, count, 1)
    elif step == 1 and (more == 0 or word(v, RW) == 1):
        call_function(word(fn, FINISH), to, src, count, bias, more, word(g, CODE), word(v, LIMITS))
    else:
        low, high = peek(like, word(v, LIMITS)), peek(like, word(v, LIMITS) + size)
        for j in range(count):
            value = peek(like, src + j * size) + peek(like, bias)
            if more:
                value += peek(like, more + j * word(g, PHW) * word(v, RW) * size)
            poke(like, to + j * step * size, cast(like, activate(value, word(g, CODE), low, high)))
