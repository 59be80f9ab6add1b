"""2-D tile FFT convolution with independent signals in the lanes: channels of a tile, or tiles of a channel.

A *slot* is a vector of `lanes` real signals, each one tile of one source plane:

- ``CHANNELS``: slot (item, group, block) holds `lanes` channels of one item; an item is one tile of one image.
- ``TILES``: slot (vector of items, channel) holds one channel of `lanes` items.

Two slots share a complex transform (re and im), and are taken apart in the frequency domain, where only half of the
columns is kept. Buffers, all in elements [re of the lanes][im of the lanes]::

    Z[row][column]                  a tile of two slots; rows padded to an odd number of elements
    V[unit][column pair][row][slot]       spectra of the source      U[column pair][row][slot]: of the weights
    M[unit][column pair][row][out slot]   their products

A *unit* is an item (CHANNELS) or a vector of items (TILES): its spectra lie together, so that a transform writes, and
the products read, streams of neighbouring lines.

A tile goes rows first (rows of zeros are skipped), then each column together with that of the negative frequency,
and back the same way, rows that nobody wants left out. Depthwise layers multiply while the two columns are in the
first-level cache and need neither V nor M.
"""

from __future__ import annotations

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.fft import forward, inverse
from fastconv.kernels.fft_elements import CLEAR, COMBINE, COPY, FUNCTIONS, MULTIPLY, SEPARATE, TRANSPOSE_IN, TRANSPOSE_OUT
from fastconv.kernels.fft_fields import (
    BASE,
    CHANNELS,
    COLUMN_PAIRS,
    COLUMN_STEP,
    DESCRIPTIONS_NBYTES,
    DIRTY,
    ELEMENT,
    FLAGS_AT,
    GROUPS,
    H_AT,
    HEIGHT,
    ICG,
    IN_SLOTS,
    INDEX_H,
    IS_DEPTHWISE,
    IS_PLAIN,
    LANE_NBYTES,
    LANES,
    MULTIPLIER,
    NEGATIVE,
    OCG,
    OUT_SLOTS,
    PAIRS,
    PHW,
    PLACE,
    PLAN_H,
    PLAN_W,
    PRODUCTS,
    RUN,
    RUN_NBYTES,
    RUNS,
    SBH,
    SBW,
    SCRATCH,
    SCRATCHES,
    SIZE,
    SPECTRA,
    TH,
    TW,
    TW_H,
    TW_W,
    U_STEP,
    VALID,
    WIDTH,
    XC,
    XH,
    XW,
    YC,
    YW,
    Z_ROW,
    U,
)
from fastconv.kernels.fft_memory import peek, poke
from fastconv.kernels.fft_product import product
from fastconv.kernels.fft_rows import describe_source, describe_target, exact, read_row, result_at, write_row
from fastconv.kernels.function_pointers import call_function, set_word, word
from fastconv.kernels.threads import parallel_for

#: Frequencies that a thread multiplies at a time.
FREQUENCIES_AT_ONCE = 16


@jit
def _describe_sources(g, v, first, items, slot, slots, lanes):  # type: ignore[no-untyped-def]
    """Write where the lanes of source slot `slot` are read; BASE 0 = nothing there."""
    count = word(g, LANES)
    set_word(lanes, VALID, 0)
    for i in range(count):
        if word(g, PLACE) == CHANNELS:
            item, rest = divmod(slot, word(g, IN_SLOTS))
            group, block = divmod(rest, word(g, IN_SLOTS) // word(g, GROUPS))
            c = block * count + i
            is_valid = c < word(g, ICG)
            c += group * word(g, ICG)
        else:
            vector, c = divmod(slot, word(g, IN_SLOTS))
            item, is_valid = vector * count + i, True
        lane = lanes + i * LANE_NBYTES
        if is_valid and item < items and slot < slots:
            describe_source(g, v, first + item, c, lane)
            set_word(lanes, VALID, word(lanes, VALID) + 1)
        else:
            set_word(lane, BASE, 0)
            set_word(lane, DIRTY, 1)


@jit
def _describe_targets(g, first, items, slot, slots, job, targets):  # type: ignore[no-untyped-def]
    """Write where the lanes of result slot `slot` go; HEIGHT 0 = nowhere."""
    count = word(g, LANES)
    for i in range(count):
        if word(g, PLACE) == CHANNELS:
            item, rest = divmod(slot, word(g, OUT_SLOTS))
            group, block = divmod(rest, word(g, OUT_SLOTS) // word(g, GROUPS))
            o = block * count + i
            is_valid = o < (word(g, ICG) if word(g, IS_DEPTHWISE) else word(g, OCG))
        else:
            vector, o = divmod(slot, word(g, OUT_SLOTS))
            group, item, is_valid = 0, vector * count + i, True
        o = o * word(g, MULTIPLIER) + job if word(g, IS_DEPTHWISE) else o + group * word(g, OCG)
        target = targets + i * LANE_NBYTES
        set_word(target, HEIGHT, 0)
        set_word(target, WIDTH, 0)
        if is_valid and item < items and slot < slots:
            describe_target(g, first + item, o, target)


@jit
def _read_rows(fn, g, v, lanes, y, to, row_nbytes, padding):  # type: ignore[no-untyped-def]
    """Copy row `y` of all lanes of a slot; return whether they read anything but zeros."""
    is_uniform = word(g, PLACE) == CHANNELS and word(g, SBH) * word(g, SBW) == 1 and word(lanes, BASE) != 0 and word(lanes, DIRTY) == 0
    if is_uniform and word(g, COLUMN_STEP) * word(v, XW) == 1:
        # Neighbouring channels of one tile: all in one call. Dirty rows and borders are left to the lanes.
        h = word(word(v, INDEX_H), word(lanes, H_AT) + y)
        run = word(v, RUNS) + RUN_NBYTES * word(lanes, RUN)
        if h >= 0 and word(run, 3) == 0:
            size = word(g, SIZE)
            src = word(lanes, BASE) + (h * word(v, XH) + word(run, 2)) * size
            call_function(word(fn, COPY), to + word(run, 0) * size, row_nbytes, src, word(v, XC) * size, word(run, 1), word(lanes, VALID))
            return True
    reads = False
    for i in range(word(g, LANES)):
        if read_row(fn, g, v, lanes + i * LANE_NBYTES, y, to + i * row_nbytes, padding):
            reads = True
    return reads


@jit
def _rows_forward(fn, g, v, padding, first, items, slot, slots, z, column, rows):  # type: ignore[no-untyped-def]
    """Fill Z with the row transforms of slots `slot` (re) and ``slot + 1`` (im)."""
    count = word(g, LANES)
    blocks = (word(g, TW) + count - 1) // count
    row_nbytes = blocks * count * word(g, SIZE)
    half_nbytes = word(g, ELEMENT) // 2
    lanes = z - DESCRIPTIONS_NBYTES
    for half in range(2):
        _describe_sources(g, v, first, items, slot + half, slots, lanes + half * count * LANE_NBYTES)
    for y in range(word(g, TH)):
        reads = False
        for half in range(2):
            at = half * count
            if _read_rows(fn, g, v, lanes + at * LANE_NBYTES, y, rows + at * row_nbytes, row_nbytes, padding):
                reads = True
        to = z + y * word(g, Z_ROW)
        if not reads:
            call_function(word(fn, CLEAR), to, 2 * word(g, TW))
            continue
        for half in range(2):
            call_function(word(fn, TRANSPOSE_IN), rows + half * count * row_nbytes, row_nbytes, column + half * half_nbytes, blocks)
        if word(g, TW) == 1:
            call_function(word(fn, COPY), to, 0, column, 0, 2 * count, 1)
        else:
            forward(word(v, PLAN_W), word(v, TW_W), column, word(g, ELEMENT), to, word(g, ELEMENT), moves_first=False)


@jit
def _column(fn, g, v, at, to):  # type: ignore[no-untyped-def]
    if word(g, TH) == 1:
        call_function(word(fn, COPY), to, 0, at, 0, 2 * word(g, LANES), 1)
    else:
        forward(word(v, PLAN_H), word(v, TW_H), at, word(g, Z_ROW), to, word(g, ELEMENT), moves_first=True)


@jit
def _column_back(fn, g, v, at, to):  # type: ignore[no-untyped-def]
    if word(g, TH) == 1:
        call_function(word(fn, COPY), to, 0, at, 0, 2 * word(g, LANES), 1)
    else:
        inverse(word(v, PLAN_H), word(v, TW_H), at, word(g, ELEMENT), to, word(g, Z_ROW), moves_first=False)


@jit
def _store_lanes(fn, g, v, padding, targets, y, rows, row_nbytes, flags):  # type: ignore[no-untyped-def]
    """Store row `y` of the lanes of a slot from `rows`, broken ones computed again."""
    count, size = word(g, LANES), word(g, SIZE)
    valid, is_broken = 0, False
    for i in range(count):
        if y < word(targets + i * LANE_NBYTES, HEIGHT):
            valid += 1
            if peek(padding, flags + i * size) != 0:
                is_broken = True
    if word(g, PLACE) == CHANNELS and word(g, IS_PLAIN) and word(g, PHW) * word(v, YW) == 1 and valid and not is_broken:
        # Neighbouring channels of one tile, nothing to be done but to store them: all in one call.
        step = word(v, YC) * size * (word(g, MULTIPLIER) if word(g, IS_DEPTHWISE) else 1)
        call_function(word(fn, COPY), result_at(g, v, targets, y), step, rows, row_nbytes, word(targets, WIDTH), valid)
        return
    for i in range(count):
        target, row = targets + i * LANE_NBYTES, rows + i * row_nbytes
        if y >= word(target, HEIGHT):
            continue
        if peek(padding, flags + i * size) != 0:
            for j in range(word(target, WIDTH)):
                if not np.isfinite(peek(padding, row + j * size)):
                    poke(padding, row + j * size, exact(g, v, padding, target, y, j))
        write_row(padding, fn, g, v, row, target, y)


@jit
def _rows_back(fn, g, v, padding, first, items, slot, slots, job, z, column, rows):  # type: ignore[no-untyped-def]
    """Transform the rows of Z back and store what belongs to result slots `slot` and ``slot + 1``."""
    count = word(g, LANES)
    row_nbytes = (word(g, TW) + count - 1) // count * count * word(g, SIZE)
    half_nbytes = word(g, ELEMENT) // 2
    targets = z - DESCRIPTIONS_NBYTES
    flags = targets + FLAGS_AT
    for half in range(2):
        _describe_targets(g, first, items, slot + half, slots, job, targets + half * count * LANE_NBYTES)
    tallest, widest = 0, 0
    for i in range(2 * count):
        tallest = max(tallest, word(targets + i * LANE_NBYTES, HEIGHT))
        widest = max(widest, word(targets + i * LANE_NBYTES, WIDTH))
    blocks = (widest + count - 1) // count
    for y in range(tallest):
        at = z + y * word(g, Z_ROW)
        if word(g, TW) == 1:
            call_function(word(fn, COPY), column, 0, at, 0, 2 * count, 1)
        else:
            inverse(word(v, PLAN_W), word(v, TW_W), at, word(g, ELEMENT), column, word(g, ELEMENT), moves_first=True)
        for half in range(2):
            here = rows + half * count * row_nbytes
            call_function(word(fn, TRANSPOSE_OUT), column + half * half_nbytes, here, row_nbytes, blocks, flags)
            _store_lanes(fn, g, v, padding, targets + half * count * LANE_NBYTES, y, here, row_nbytes, flags)


@jit
def _buffers(g, v, tid):  # type: ignore[no-untyped-def]
    """Return the addresses of this thread's Z, two columns, and rows of the lanes."""
    longest = max(word(g, TH), word(g, TW)) + word(g, LANES)
    z = word(v, SCRATCHES) + tid * word(g, SCRATCH) + DESCRIPTIONS_NBYTES
    one = z + word(g, TH) * word(g, Z_ROW) + word(g, LANES) * word(g, ELEMENT)
    two = one + longest * word(g, ELEMENT)
    return z, one, two, two + longest * word(g, ELEMENT)


@jit
def _unit_nbytes(g, slots):  # type: ignore[no-untyped-def]
    """Return the distance of units in V or M; one element more than they take, so that units fall on different sets."""
    return (word(g, PAIRS) * word(g, TH) * slots + 1) * word(g, ELEMENT)


@jit
def _slots(g, start, per_unit, slot, slots):  # type: ignore[no-untyped-def]
    """Return the address of the first frequency of `slot` and the distance of ``slot + 1``, 0 if there is none."""
    at = start + slot // per_unit * _unit_nbytes(g, per_unit) + slot % per_unit * word(g, ELEMENT)
    if slot + 1 >= slots:
        return at, 0
    return at, start + (slot + 1) // per_unit * _unit_nbytes(g, per_unit) + (slot + 1) % per_unit * word(g, ELEMENT) - at


@jit
def forward_task(i, tid, fn, g, v, padding, first, items, slots):  # type: ignore[no-untyped-def]
    """Transform source slots 2i and 2i + 1 of the items ``first ...`` into V."""
    z, one, two, rows = _buffers(g, v, tid)
    _rows_forward(fn, g, v, padding, first, items, 2 * i, slots, z, one, rows)
    step = word(g, IN_SLOTS) * word(g, ELEMENT)
    to, second = _slots(g, word(v, SPECTRA), word(g, IN_SLOTS), 2 * i, slots)
    for p in range(word(g, PAIRS)):
        _column(fn, g, v, z + word(word(v, COLUMN_PAIRS), 2 * p) * word(g, ELEMENT), one)
        other = one
        if word(word(v, COLUMN_PAIRS), 2 * p + 1) != word(word(v, COLUMN_PAIRS), 2 * p):
            _column(fn, g, v, z + word(word(v, COLUMN_PAIRS), 2 * p + 1) * word(g, ELEMENT), two)
            other = two
        call_function(word(fn, SEPARATE), one, other, word(v, NEGATIVE), word(g, TH), to + p * word(g, TH) * step, step, second)


@jit
def product_task(i, tid, fn, g, v, items, block, points):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Multiply the spectra at frequencies ``i*block ...``: M[f] = V[f] U[f] in each group."""
    element, icg, ocg, groups = word(g, ELEMENT), word(g, ICG), word(g, OCG), word(g, GROUPS)
    v_unit, m_unit = _unit_nbytes(g, word(g, IN_SLOTS)), _unit_nbytes(g, word(g, OUT_SLOTS))
    functions = fn + 8 * FUNCTIONS
    for f in range(i * block, min((i + 1) * block, points)):
        x, y = word(v, SPECTRA) + f * word(g, IN_SLOTS) * element, word(v, PRODUCTS) + f * word(g, OUT_SLOTS) * element
        u = word(v, U) + f * word(g, U_STEP)
        if word(g, PLACE) == CHANNELS:
            ic_blocks, oc_blocks = word(g, IN_SLOTS) // groups, word(g, OUT_SLOTS) // groups
            for slot in range(groups * oc_blocks):
                source = x + slot // oc_blocks * ic_blocks * element
                product(functions, items, source, v_unit, u + slot * icg * element, y + slot * element, m_unit, icg)
        else:
            k_blocks = (icg + word(g, LANES) - 1) // word(g, LANES)
            for vector in range((items + word(g, LANES) - 1) // word(g, LANES)):
                for group in range(groups):
                    weights = u + group * ocg * k_blocks * element
                    source, to = x + vector * v_unit + group * icg * element, y + vector * m_unit + group * ocg * element
                    product(functions, ocg, weights, k_blocks * element, source, to, element, icg)


@jit
def inverse_task(i, tid, fn, g, v, padding, first, items, slots):  # type: ignore[no-untyped-def]
    """Transform result slots 2i and 2i + 1 of the items ``first ...`` back from M and store them."""
    z, one, two, rows = _buffers(g, v, tid)
    step = word(g, OUT_SLOTS) * word(g, ELEMENT)
    at, second = _slots(g, word(v, PRODUCTS), word(g, OUT_SLOTS), 2 * i, slots)
    for p in range(word(g, PAIRS)):
        is_own = word(word(v, COLUMN_PAIRS), 2 * p + 1) == word(word(v, COLUMN_PAIRS), 2 * p)
        call_function(
            word(fn, COMBINE), at + p * word(g, TH) * step, step, second, one, one if is_own else two, word(v, NEGATIVE), word(g, TH)
        )
        _column_back(fn, g, v, one, z + word(word(v, COLUMN_PAIRS), 2 * p) * word(g, ELEMENT))
        if not is_own:
            _column_back(fn, g, v, two, z + word(word(v, COLUMN_PAIRS), 2 * p + 1) * word(g, ELEMENT))
    _rows_back(fn, g, v, padding, first, items, 2 * i, slots, np.int64(0), z, one, rows)


@jit
def depthwise_task(i, tid, fn, g, v, padding, items, slots):  # type: ignore[no-untyped-def]
    """Convolve slots 2s and 2s + 1 with weights number `job` of their channels, i = s*MULTIPLIER + job."""
    z, one, two, rows = _buffers(g, v, tid)
    s, job = divmod(i, word(g, MULTIPLIER))
    _rows_forward(fn, g, v, padding, np.int64(0), items, 2 * s, slots, z, one, rows)
    channels = word(g, IN_SLOTS)
    # U[f][job][channel slot]
    u = word(v, U) + (job * channels + 2 * s % channels) * word(g, ELEMENT)
    second = ((2 * s + 1) % channels - 2 * s % channels) * word(g, ELEMENT)
    for p in range(word(g, PAIRS)):
        _column(fn, g, v, z + word(word(v, COLUMN_PAIRS), 2 * p) * word(g, ELEMENT), one)
        here = u + p * word(g, TH) * word(g, U_STEP)
        if word(word(v, COLUMN_PAIRS), 2 * p + 1) == word(word(v, COLUMN_PAIRS), 2 * p):
            call_function(word(fn, MULTIPLY), one, one, word(v, NEGATIVE), word(g, TH), two, two, here, word(g, U_STEP), second)
            _column_back(fn, g, v, two, z + word(word(v, COLUMN_PAIRS), 2 * p) * word(g, ELEMENT))
        else:
            _column(fn, g, v, z + word(word(v, COLUMN_PAIRS), 2 * p + 1) * word(g, ELEMENT), two)
            call_function(word(fn, MULTIPLY), one, two, word(v, NEGATIVE), word(g, TH), one, two, here, word(g, U_STEP), second)
            _column_back(fn, g, v, one, z + word(word(v, COLUMN_PAIRS), 2 * p) * word(g, ELEMENT))
            _column_back(fn, g, v, two, z + word(word(v, COLUMN_PAIRS), 2 * p + 1) * word(g, ELEMENT))
    _rows_back(fn, g, v, padding, np.int64(0), items, 2 * s, slots, job, z, one, rows)


@jit
def transform_slots(ctl, threads, fn, g, v, padding, items, slots):  # type: ignore[no-untyped-def]
    """Transform all source slots into V: how the weights get their spectra; arguments and what is not checked as in `convolve`.

    About ``2.5 * TH*TW*log2(TH*TW)`` flops per plane. Bytes: the source once, half of the columns of each spectrum once.
    """
    parallel_for(ctl, threads, (slots + 1) // 2, forward_task, (fn, g, v, padding, np.int64(0), items, slots))


@jit
def convolve_depthwise(ctl, threads, fn, g, v, padding, items):  # type: ignore[no-untyped-def]
    """Convolve all items of a layer whose groups have one input channel; arguments and what is not checked as in `convolve`.

    ``5 * TH*TW*log2(TH*TW)`` flops per tile and plane, and 3 per point for the products. Bytes: the source once where tiles do
    not overlap, a spectrum of the weights for each vector of items, the result once.
    """
    vectors = items if word(g, PLACE) == CHANNELS else (items + word(g, LANES) - 1) // word(g, LANES)
    slots = vectors * word(g, IN_SLOTS)
    tasks = (slots + 1) // 2 * word(g, MULTIPLIER)
    parallel_for(ctl, threads, tasks, depthwise_task, (fn, g, v, padding, items, slots))


@jit
def convolve(ctl, threads, fn, g, v, padding, items, items_at_once):  # type: ignore[no-untyped-def]
    """Convolve all items, `items_at_once` in V and M at a time.

    Parameters
    ----------
    ctl, threads : int
        Of `fastconv.kernels.threads`.
    fn : int
        Address of a table: `element_functions`, then `product_functions`.
    g, v : int
        Addresses of the tables of `fft_fields`. The tables whose addresses are in `v`:

        - PLAN_H, PLAN_W: `stages` of TH and TW; TW_H, TW_W: `twiddles`.
        - COLUMN_PAIRS: positions of a column and of that of the negative frequency, PAIRS times.
        - NEGATIVE: offset in bytes of the negative of each row frequency.
        - INDEX_H, INDEX_W: source row and column by phase and tile position, -1 for padding; ROWS_AT, COLS_AT: the same
          by padded position.
        - RUNS: for each column phase and tile column where its longest run of source columns begins in the tile, its
          length, the first source column, whether there are others outside it.
    padding : scalar
        Of the element type.

    Notes
    -----
    Not checked: the tables fit one another and the arrays. ``2.5 * TH*TW*log2(TH*TW)`` flops per tile and plane of source or result,
    ``4 * TH*TW`` per tile and pair of channels for the products. Bytes: the source once where tiles do not overlap, the
    spectra of the weights once per `items_at_once`, those of the source and of the products written and read, the result once.
    """
    count = word(g, LANES)
    points = word(g, PAIRS) * word(g, TH)
    block = FREQUENCIES_AT_ONCE
    for first in range(0, items, items_at_once):
        part = min(items_at_once, items - first)
        vectors = part if word(g, PLACE) == CHANNELS else (part + count - 1) // count
        slots, out_slots = vectors * word(g, IN_SLOTS), vectors * word(g, OUT_SLOTS)
        parallel_for(
            ctl, threads, (slots + 1) // 2, forward_task,
            (fn, g, v, padding, first, part, slots),
        )  # fmt: skip
        parallel_for(ctl, threads, (points + block - 1) // block, product_task, (fn, g, v, part, block, points))
        parallel_for(
            ctl, threads, (out_slots + 1) // 2, inverse_task,
            (fn, g, v, padding, first, part, out_slots),
        )  # fmt: skip
