"""2-D tile FFT convolution of single planes: the halves of a tile share a complex transform, the lanes are neighbouring columns.

For images of one channel and for depthwise layers of large planes: one tile, not `lanes` of them, has to fit into the
cache, so tiles can be long. A tile is 2 TH rows of TW columns, TW a multiple of the lanes::

    Z[row][group of columns]            a tile, elements [re of the columns][im of the columns]; rows padded by one element
    U[group of rows][column]            a spectrum: lanes are rows, digit-reversed in both axes

1. Columns: read from the source (or from a bordered copy of the tile), transformed, written to Z.
2. Rows, `lanes` of them at a time: transposed into the first-level cache, transformed, multiplied, transformed back.
3. Columns that hold results: transformed back and stored.

Row y of Z holds row y of the tile as re and row TH + y as im, times exp(i pi y / (2 TH)): polynomials of the rows modulo
t^TH - i, a factor of t^(2 TH) + 1, whose products are real convolutions that wrap around with a minus sign (`H. J. Nussbaumer,
Fast Fourier Transform and Convolution Algorithms (1982)`). So a real tile takes half a complex transform, and nothing has
to be taken apart.

A *line*, one row of 2*TH*TW numbers, goes the same way as if it were 2 TH rows; the twiddles of a transform of that length
stand between columns and rows (TWISTS, laid out as U; `D. H. Bailey, J. Supercomputing 4 (1990)`).

Threads take a tile each, or, with PARTS > 1, a part of the columns or rows of one tile in each of the phases.
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
    GROUPS_AT_ONCE,
    H_AT,
    HEIGHT,
    INDEX_H,
    IS_PLAIN,
    ITEMS,
    LANE_NBYTES,
    LANES,
    MIDDLE,
    MULTIPLIER,
    PARTS,
    PHH,
    PHW,
    PLAN_H,
    PLAN_W,
    ROOTS,
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

#: Rows that are a multiple of so many bytes apart fall on few sets of the first-level cache: 15x15 over 1024x1024 takes 67
#: cycles an element with groups read together, 78 without; where rows are 4288 bytes apart 65 and 61.
COLLIDING_NBYTES = 512
#: The phases of a tile, and all of them at once.
ALL, READ, FORWARD, FILTER, BACK, FINISH_ROWS = range(-1, 5)


@jit
def _part(part, parts, count):  # type: ignore[no-untyped-def]
    """Return the first of `count` things that part number `part` of `parts` takes: a later one begins where it ends."""
    return part * count // parts


@jit
def _source(g, v, lane, image):  # type: ignore[no-untyped-def]
    """Return (address, distance of rows in bytes, whether it has to be copied there) of a tile: in the source or in `image`."""
    size = word(g, SIZE)
    run = word(v, RUNS) + RUN_NBYTES * word(lane, RUN)
    rows = word(v, INDEX_H) + 8 * word(lane, H_AT)
    first = word(rows, 0)
    is_inside = word(run, 1) == word(g, COLUMNS_READ) and word(g, COLUMN_STEP) * word(v, XW) == 1 and first >= 0
    for y in range(word(g, ROWS_READ)):
        if word(rows, y) != first + y:
            is_inside = False
    step = word(g, TW) * size
    if is_inside:
        at = word(lane, BASE) + (first * word(v, XH) + word(run, 2)) * size
        return at, step if word(v, TWISTS) else word(v, XH) * size, False
    return image, step, True


@jit
def _copy_rows(fn, g, v, lane, image, padding, first, last):  # type: ignore[no-untyped-def]
    """Copy rows of a tile with its borders to `image`."""
    for y in range(first, last):
        set_word(lane, DIRTY, 1)  # each row has a place of its own
        read_row(fn, g, v, lane, y, image + y * word(g, TW) * word(g, SIZE), padding)


@jit
def _columns_forward(g, v, at, step, z, column, first, last):  # type: ignore[no-untyped-def]
    element, half = word(g, ELEMENT), word(g, TH) * step
    # Where rows fall on the same sets, groups are read together: a line that two of them share is gone a column later.
    together = GROUPS_AT_ONCE if step % COLLIDING_NBYTES == 0 else 1
    for group in range(first, last, together):
        one = at + group * word(g, LANES) * word(g, SIZE)
        forward_taken(
            word(v, PLAN_H), word(v, TAKING), word(v, TW_H), word(v, ROOTS), one, one + half, step, column, element,
            z + group * element, word(g, Z_ROW), min(together, last - group), element,
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
def _filter_rows(fn, g, v, z, column, u, first, last):  # type: ignore[no-untyped-def]
    """Transform groups of rows of Z, multiply them with the spectrum at `u`, and transform them back."""
    element, count, tw = word(g, ELEMENT), word(g, LANES), word(g, TW)
    for group in range(first, last):
        at = _rows_in(fn, g, v, group, z, column)
        filtered(word(v, PLAN_W), word(v, MIDDLE), word(v, TW_W), column, element, u + group * tw * element)
        if word(v, TWISTS):
            call_function(word(fn, UNTWIST), column, word(v, TWISTS) + group * tw * element, tw)
        call_function(word(fn, TURN), column, element, count * element, at, word(g, Z_ROW), element, tw // count)


@jit
def _columns_back(fn, g, v, like, z, column, to, row_step, height, width, flags, first, last):  # type: ignore[no-untyped-def]
    """Transform groups of columns back and store `height` rows of `width` results; return whether all are finite."""
    size, element, count, th = word(g, SIZE), word(g, ELEMENT), word(g, LANES), word(g, TH)
    is_finite = True
    for group in range(first, last):
        inverse(word(v, PLAN_H), word(v, TW_H), z + group * element, word(g, Z_ROW), column, element, moves_first=True)
        columns = min(count, width - group * count)
        call_function(
            word(fn, PUT), column, word(v, ROOTS), min(th, height), max(0, height - th), to + group * count * size, th * row_step,
            row_step, columns, flags,
        )  # fmt: skip
        for lane in range(columns):
            if peek(like, flags + lane * size) != 0:
                is_finite = False
    return is_finite


@jit
def _finish_rows(fn, g, v, padding, target, at, row_step, is_direct, is_finite, first, last):  # type: ignore[no-untyped-def]
    """Compute results that are not finite by the definition, in place; then store what is not where it belongs."""
    size = word(g, SIZE)
    for y in range(first, last):
        row = at + y * row_step
        if not is_finite:
            for j in range(word(target, WIDTH)):
                if not np.isfinite(peek(padding, row + j * size)):
                    poke(padding, row + j * size, exact(g, v, padding, target, y, j))
        if not is_direct:
            write_row(padding, fn, g, v, row, target, y)


@jit
def plane_task(i, tid, fn, g, v, padding, begin, phase):  # type: ignore[no-untyped-def]
    """Do one phase, or with ``ALL`` all of them, of part i % PARTS of tile ``begin + i//PARTS``, of those of all output channels."""
    size, element, count, th, tw = word(g, SIZE), word(g, ELEMENT), word(g, LANES), word(g, TH), word(g, TW)
    parts, items = word(g, PARTS), word(g, ITEMS)
    source = word(v, SCRATCHES) + tid * word(g, SCRATCH)
    target, flags = source + LANE_NBYTES, source + FLAGS_AT
    column = source + DESCRIPTIONS_NBYTES
    z = word(v, SPECTRA) if parts > 1 else column + max(GROUPS_AT_ONCE * (th + 1), tw) * element
    image = z + th * word(g, Z_ROW)
    verdicts = image + 2 * th * tw * size  # one a part: whether its results are finite
    tile, part = divmod(i, parts)
    o, item = divmod(begin + tile, items)
    describe_source(g, v, item, o // word(g, MULTIPLIER), source)
    describe_target(g, item, o, target)
    if phase in (ALL, READ, FORWARD):
        at, step, is_copied = _source(g, v, source, image)
        if phase != FORWARD and is_copied:
            rows = word(g, ROWS_READ)
            _copy_rows(fn, g, v, source, image, padding, _part(part, parts, rows), _part(part + 1, parts, rows))
        if phase != READ:
            groups = tw // count
            _columns_forward(g, v, at, step, z, column, _part(part, parts, groups), _part(part + 1, parts, groups))
    if phase in (ALL, FILTER):
        groups = th // count
        _filter_rows(
            fn, g, v, z, column, word(v, U) + o * word(g, U_STEP), _part(part, parts, groups), _part(part + 1, parts, groups)
        )  # fmt: skip
    if phase in (ALL, BACK, FINISH_ROWS):
        is_line = word(v, TWISTS) != 0
        is_direct = word(g, IS_PLAIN) != 0 and word(g, PHW) * word(v, YW) == 1 and not is_line
        to, row_step = image, tw * size
        if is_direct:
            to, row_step = result_at(g, v, target, 0), word(g, PHH) * word(v, YH) * size
        if phase != FINISH_ROWS:
            height, width = word(target, HEIGHT), word(target, WIDTH)
            if is_line:
                height, width = (width + tw - 1) // tw, tw
            groups = (width + count - 1) // count
            is_finite = _columns_back(
                fn, g, v, padding, z, column, to, row_step, height, width, flags, _part(part, parts, groups), _part(part + 1, parts, groups)
            )  # fmt: skip
            set_word(verdicts, part, is_finite)
        if phase != BACK:
            is_finite = True
            for other in range(parts):
                if word(verdicts, other) == 0:
                    is_finite = False
            height = word(target, HEIGHT)
            _finish_rows(
                fn, g, v, padding, target, to, row_step, is_direct, is_finite, _part(part, parts, height), _part(part + 1, parts, height)
            )  # fmt: skip


@jit
def spectrum_task(i, tid, fn, g, v):  # type: ignore[no-untyped-def]
    """Transform kernel plane i of (2 TH, TW), contiguous at X, into U at SPECTRA."""
    element, th, tw = word(g, ELEMENT), word(g, TH), word(g, TW)
    column = word(v, SCRATCHES) + tid * word(g, SCRATCH) + DESCRIPTIONS_NBYTES
    z = column + max(GROUPS_AT_ONCE * (th + 1), tw) * element
    src = word(v, X) + 2 * i * th * tw * word(g, SIZE)
    _columns_forward(g, v, src, tw * word(g, SIZE), z, column, 0, tw // word(g, LANES))
    for group in range(th // word(g, LANES)):
        _rows_in(fn, g, v, group, z, column)
        to = word(v, SPECTRA) + i * word(g, U_STEP) + group * tw * element
        forward(word(v, PLAN_W), word(v, TW_W), column, element, to, element, moves_first=False)


@jit
def transform_planes(ctl, threads, fn, g, v, planes):  # type: ignore[no-untyped-def]
    """Transform the kernels of all output channels; arguments and what is not checked as in `convolve_planes`.

    About ``2.5 * N*log2(N)`` flops per kernel, with N = 2*TH*TW. Bytes: the kernel once, N elements of U once.
    """
    parallel_for(ctl, threads, planes, spectrum_task, (fn, g, v))


@jit
def convolve_planes(ctl, threads, fn, g, v, padding, tiles):  # type: ignore[no-untyped-def]
    """Convolve `tiles` tiles, ITEMS of each output channel; arguments as in `fastconv.kernels.fft_lanes.convolve`.

    MIDDLE in `v` is the address of the fused middle of a row's transform, see `fastconv.kernels.fft.filtered`; ROOTS
    that of exp(-i pi y / (2 TH)) for the rows of Z; TWISTS that of exp(-2 pi i (f - 1/4) x / (TH*TW)) for row frequency f
    and column x in the layout of U, or 0. With PARTS > 1 a tile's memory is at SPECTRA, else in that of the threads.

    Not checked: the tables fit one another and the arrays. About ``5 * N*log2(N) + 3*N`` flops per tile, with N = 2*TH*TW. Bytes:
    the source once where tiles do not overlap, the spectrum of the kernel once per tile, the result once.
    """
    if word(g, PARTS) == 1:
        rounds, first, last = 1, ALL, ALL
    else:
        rounds, first, last = tiles, READ, FINISH_ROWS
    for begin in range(rounds):
        for phase in range(first, last + 1):
            parallel_for(ctl, threads, tiles // rounds * word(g, PARTS), plane_task, (fn, g, v, padding, begin, phase))
