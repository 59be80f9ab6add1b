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
from fastconv.kernels.epilogue import activate
from fastconv.kernels.fft import forward, inverse
from fastconv.kernels.fft_elements import CLEAR, COMBINE, COPY, FINISH, FUNCTIONS, MULTIPLY, SEPARATE, TRANSPOSE_IN, TRANSPOSE_OUT
from fastconv.kernels.fft_memory import peek, poke, word
from fastconv.kernels.fft_product import product
from fastconv.kernels.function_pointers import call_function
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for

CHANNELS, TILES = 0, 1
#: Frequencies that a thread multiplies at a time.
FREQUENCIES_AT_ONCE = 16
#: Bytes of a row of the table RUNS.
RUN_NBYTES = 32

# Fields of the array `g`. Geometry: items are (image, row phase, column phase, tile row, tile column). Channels are
# source channels times the stride phases (SBH, SBW).
(
    SIZE, LANES, ELEMENT, PLACE, TH, TW, Z_ROW, N, IC, OC, GROUPS, ICG, OCG, IN_SLOTS, OUT_SLOTS, PHH, PHW, SBH, SBW, TY, TX,
    STEP_H, STEP_W, H_LENGTH, W_LENGTH, OH, OW, COLUMN_STEP, PAIRS, U_STEP, SCRATCH, CODE, IS_PLAIN, IS_DEPTHWISE, MULTIPLIER,
    KH, KW, SH, SW, DH, DW, SOURCE_ICG, FIELDS,
) = range(43)  # fmt: skip
# Fields of the array `v`: address and strides in elements of source, result and residual; addresses of the rest.
(
    X, XN, XC, XH, XW, Y, YN, YC, YH, YW, R, RN, RC, RH, RW, BIAS, LIMITS, WEIGHTS, U, SPECTRA, PRODUCTS, SCRATCHES, TW_H, TW_W,
    PLAN_H, PLAN_W, MIDDLE, TAKING, COLUMN_PAIRS, NEGATIVE, INDEX_H, INDEX_W, ROWS_AT, COLS_AT, RUNS, VIEW_FIELDS,
) = range(36)  # fmt: skip
# Columns of a lane's description.
(BASE, H_AT, W_AT, RUN, DIRTY, VALID, LANE_FIELDS) = range(7)


@jit
def _count(total, step, at):  # type: ignore[no-untyped-def]
    """Return how many of ``at, at + step, ...`` are below `total`."""
    return max(0, (total - at + step - 1) // step)


@jit
def _describe(g, v, first, items, slot, half, lanes):  # type: ignore[no-untyped-def]
    """Write where the lanes of source slot `slot` begin into rows ``half*LANES ...`` of `lanes`; BASE 0 = nothing there."""
    count = g[LANES]
    for lane in range(count):
        row = half * count + lane
        if g[PLACE] == CHANNELS:
            item, rest = divmod(slot, g[IN_SLOTS])
            blocks = g[IN_SLOTS] // g[GROUPS]
            group, block = divmod(rest, blocks)
            c = block * count + lane
            valid = c < g[ICG] and item < items
            c += group * g[ICG]
        else:
            vector, c = divmod(slot, g[IN_SLOTS])
            item = vector * count + lane
            valid = item < items
        lanes[row, BASE] = 0
        lanes[row, DIRTY] = 1
        if not valid:
            continue
        lanes[half * count, VALID] += 1
        rest, tx = divmod(first + item, g[TX])
        rest, ty = divmod(rest, g[TY])
        rest, aw = divmod(rest, g[PHW])
        n, ah = divmod(rest, g[PHH])
        rest, bw = divmod(c, g[SBW])
        channel, bh = divmod(rest, g[SBH])
        lanes[row, BASE] = v[X] + (n * v[XN] + channel * v[XC]) * g[SIZE]
        lanes[row, H_AT] = (ah * g[SBH] + bh) * g[H_LENGTH] + ty * g[STEP_H]
        lanes[row, W_AT] = (aw * g[SBW] + bw) * g[W_LENGTH] + tx * g[STEP_W]
        lanes[row, RUN] = (aw * g[SBW] + bw) * g[TX] + tx


@jit
def _fill(like, to, n, value):  # type: ignore[no-untyped-def]
    for j in range(n):
        poke(like, to + j * like.itemsize, value)


@jit
def _read_row(like, fn, g, v, lane, y, to, padding):  # type: ignore[no-untyped-def]
    """Copy row `y` of a lane's tile to `to`, borders filled; return whether it reads anything but zeros."""
    size = g[SIZE]
    if lane[BASE] == 0:
        if lane[DIRTY]:
            call_function(word(fn, CLEAR), to, (g[TW] + g[LANES] - 1) // g[LANES])
            lane[DIRTY] = 0
        return False
    h = word(v[INDEX_H], lane[H_AT] + y)
    if h < 0:
        if padding == 0:
            call_function(word(fn, CLEAR), to, (g[TW] + g[LANES] - 1) // g[LANES])
            lane[DIRTY] = 0
            return False
        _fill(like, to, g[TW], padding)
        lane[DIRTY] = 1
        return True
    src = lane[BASE] + h * v[XH] * size
    run = v[RUNS] + RUN_NBYTES * lane[RUN]
    low, count, start, borders = word(run, 0), word(run, 1), word(run, 2), word(run, 3)
    step = g[COLUMN_STEP] * v[XW]
    if lane[DIRTY]:
        # Padding next to the run stays as it is from row to row.
        call_function(word(fn, CLEAR), to, (g[TW] + g[LANES] - 1) // g[LANES])
        if padding != 0:
            for j in range(g[TW]):
                if word(v[INDEX_W], lane[W_AT] + j) < 0:
                    poke(like, to + j * size, padding)
        lane[DIRTY] = 0
    if step == 1:
        call_function(word(fn, COPY), to + low * size, 0, src + start * size, 0, count, 1)
    else:
        for j in range(count):
            poke(like, to + (low + j) * size, peek(like, src + (start * v[XW] + j * step) * size))
    if borders:
        for j in range(g[TW]):
            if j < low or j >= low + count:
                column = word(v[INDEX_W], lane[W_AT] + j)
                if column >= 0:
                    poke(like, to + j * size, peek(like, src + column * v[XW] * size))
    return True


@jit
def _read_rows(like, fn, g, v, lanes, first, y, to, row_nbytes, padding):  # type: ignore[no-untyped-def]
    """Copy row `y` of all lanes of a slot; return whether they read anything but zeros."""
    lane = lanes[first]
    is_uniform = g[PLACE] == CHANNELS and g[SBH] * g[SBW] == 1 and lane[BASE] != 0 and lane[DIRTY] == 0
    if is_uniform and g[COLUMN_STEP] * v[XW] == 1:
        # Neighbouring channels of one tile: all in one call. Dirty rows and borders are left to the lanes.
        h = word(v[INDEX_H], lane[H_AT] + y)
        run = v[RUNS] + RUN_NBYTES * lane[RUN]
        if h >= 0 and word(run, 3) == 0:
            step = v[XC] * g[SIZE]
            src = lane[BASE] + (h * v[XH] + word(run, 2)) * g[SIZE]
            call_function(word(fn, COPY), to + word(run, 0) * g[SIZE], row_nbytes, src, step, word(run, 1), lane[VALID])
            return True
    reads = False
    for i in range(g[LANES]):
        if _read_row(like, fn, g, v, lanes[first + i], y, to + i * row_nbytes, padding):
            reads = True
    return reads


@jit
def _rows_forward(like, fn, g, v, padding, first, items, slot, slots, z, column, rows):  # type: ignore[no-untyped-def]
    """Fill Z with the row transforms of slots `slot` (re) and ``slot + 1`` (im)."""
    count, size = g[LANES], g[SIZE]
    blocks = (g[TW] + count - 1) // count
    row_nbytes = blocks * count * size
    half_nbytes = g[ELEMENT] // 2
    lanes = np.zeros((2 * count, LANE_FIELDS), np.int64)
    for half in range(2):
        _describe(g, v, first, items if slot + half < slots else 0, slot + half, half, lanes)
    for y in range(g[TH]):
        reads = False
        for half in range(2):
            if _read_rows(like, fn, g, v, lanes, half * count, y, rows + half * count * row_nbytes, row_nbytes, padding):
                reads = True
        to = z + y * g[Z_ROW]
        if not reads:
            call_function(word(fn, CLEAR), to, 2 * g[TW])
            continue
        for half in range(2):
            call_function(word(fn, TRANSPOSE_IN), rows + half * count * row_nbytes, row_nbytes, column + half * half_nbytes, blocks)
        if g[TW] == 1:
            call_function(word(fn, COPY), to, 0, column, 0, 2 * count, 1)
        else:
            forward(like, v[PLAN_W], v[TW_W], column, g[ELEMENT], to, g[ELEMENT], moves_first=False)


@jit
def _column(like, fn, g, v, at, to):  # type: ignore[no-untyped-def]
    if g[TH] == 1:
        call_function(word(fn, COPY), to, 0, at, 0, 2 * g[LANES], 1)
    else:
        forward(like, v[PLAN_H], v[TW_H], at, g[Z_ROW], to, g[ELEMENT], moves_first=True)


@jit
def _column_back(like, fn, g, v, at, to):  # type: ignore[no-untyped-def]
    if g[TH] == 1:
        call_function(word(fn, COPY), to, 0, at, 0, 2 * g[LANES], 1)
    else:
        inverse(like, v[PLAN_H], v[TW_H], at, g[ELEMENT], to, g[Z_ROW], moves_first=False)


@jit
def _exact(like, g, v, padding, n, o, i, j):  # type: ignore[no-untyped-def]
    """Return one output by the definition, before the epilogue."""
    size = g[SIZE]
    icg = g[SOURCE_ICG]
    first = o // g[OCG] * icg
    total = like.dtype.type(0)
    at = v[WEIGHTS] + o * icg * g[KH] * g[KW] * size
    for c in range(icg):
        plane = v[X] + (n * v[XN] + (first + c) * v[XC]) * size
        for r in range(g[KH]):
            h = word(v[ROWS_AT], i * g[SH] + r * g[DH])
            for s in range(g[KW]):
                w = word(v[COLS_AT], j * g[SW] + s * g[DW])
                tap = peek(like, at)
                at += size
                total += (peek(like, plane + (h * v[XH] + w * v[XW]) * size) if h >= 0 and w >= 0 else padding) * tap
    return total


@jit
def _write_row(like, fn, g, v, src, n, o, oh, ow, count):  # type: ignore[no-untyped-def]
    """Finish and store `count` outputs of one row."""
    size = g[SIZE]
    to = v[Y] + (n * v[YN] + o * v[YC] + oh * v[YH] + ow * v[YW]) * size
    more = v[R] + (n * v[RN] + o * v[RC] + oh * v[RH] + ow * v[RW]) * size if v[R] else 0
    step = g[PHW] * v[YW]
    if step == 1 and g[IS_PLAIN]:
        call_function(word(fn, COPY), to, 0, src, 0, count, 1)
    elif step == 1 and (more == 0 or v[RW] == 1):
        call_function(word(fn, FINISH), to, src, count, v[BIAS] + o * size, more, g[CODE], v[LIMITS])
    else:
        bias = peek(like, v[BIAS] + o * size)
        low, high = peek(like, v[LIMITS]), peek(like, v[LIMITS] + size)
        for j in range(count):
            value = peek(like, src + j * size) + bias
            if more:
                value += peek(like, more + j * g[PHW] * v[RW] * size)
            poke(like, to + j * step * size, like.dtype.type(activate(value, g[CODE], low, high)))


@jit
def _rows_back(like, fn, g, v, padding, first, items, slot, slots, job, z, column, rows):  # type: ignore[no-untyped-def]
    """Transform the rows of Z back and store what belongs to result slots `slot` and ``slot + 1``."""
    count, size = g[LANES], g[SIZE]
    blocks = (g[TW] + count - 1) // count
    row_nbytes = blocks * count * size
    half_nbytes = g[ELEMENT] // 2
    lanes = np.zeros((2 * count, 6), np.int64)
    flags = np.zeros(count, like.dtype)
    tallest = 0
    for half in range(2):
        for lane in range(count):
            if g[PLACE] == CHANNELS:
                item, rest = divmod(slot + half, g[OUT_SLOTS])
                group, block = divmod(rest, g[OUT_SLOTS] // g[GROUPS])
                o = block * count + lane
                valid = o < (g[ICG] if g[IS_DEPTHWISE] else g[OCG]) and item < items
                o = o * g[MULTIPLIER] + job if g[IS_DEPTHWISE] else o + group * g[OCG]
            else:
                vector, o = divmod(slot + half, g[OUT_SLOTS])
                item = vector * count + lane
                valid = item < items
                o = o * g[MULTIPLIER] + job if g[IS_DEPTHWISE] else o
            if not valid or slot + half >= slots:
                continue
            rest, tx = divmod(first + item, g[TX])
            rest, ty = divmod(rest, g[TY])
            rest, aw = divmod(rest, g[PHW])
            n, ah = divmod(rest, g[PHH])
            row = half * count + lane
            lanes[row, 0], lanes[row, 1] = n, o
            lanes[row, 2] = ah + ty * g[STEP_H] * g[PHH]
            lanes[row, 3] = aw + tx * g[STEP_W] * g[PHW]
            lanes[row, 4] = min(g[STEP_H], _count(g[OH], g[PHH], lanes[row, 2]))
            lanes[row, 5] = min(g[STEP_W], _count(g[OW], g[PHW], lanes[row, 3]))
            tallest = max(tallest, lanes[row, 4])
    # Neighbouring channels of one tile, nothing to be done but to store them: all in one call.
    is_uniform = g[PLACE] == CHANNELS and g[IS_PLAIN] and g[PHW] * v[YW] == 1
    channel_step = v[YC] * size * (g[MULTIPLIER] if g[IS_DEPTHWISE] else 1)
    valid_lanes = np.zeros(2, np.int64)
    widest = 0
    for lane in range(2 * count):
        if lanes[lane, 4] > 0:
            valid_lanes[lane // count] += 1
        widest = max(widest, lanes[lane, 5])
    blocks = (widest + count - 1) // count
    for y in range(tallest):
        at = z + y * g[Z_ROW]
        if g[TW] == 1:
            call_function(word(fn, COPY), column, 0, at, 0, 2 * count, 1)
        else:
            inverse(like, v[PLAN_W], v[TW_W], at, g[ELEMENT], column, g[ELEMENT], moves_first=True)
        for half in range(2):
            here = rows + half * count * row_nbytes
            call_function(word(fn, TRANSPOSE_OUT), column + half * half_nbytes, here, row_nbytes, blocks, flags.ctypes.data)
            if is_uniform:
                row = half * count
                if y >= lanes[row, 4]:
                    continue
                bad = False
                for lane in range(count):
                    if flags[lane] != 0:
                        bad = True
                if not bad:
                    n, o, oh, ow = lanes[row, 0], lanes[row, 1], lanes[row, 2] + y * g[PHH], lanes[row, 3]
                    to = v[Y] + (n * v[YN] + o * v[YC] + oh * v[YH] + ow * v[YW]) * size
                    call_function(word(fn, COPY), to, channel_step, here, row_nbytes, lanes[row, 5], valid_lanes[half])
                    continue
            for lane in range(count):
                row = half * count + lane
                n, o, oh, ow = lanes[row, 0], lanes[row, 1], lanes[row, 2] + y * g[PHH], lanes[row, 3]
                if y >= lanes[row, 4]:
                    continue
                if flags[lane] != 0:
                    for j in range(lanes[row, 5]):
                        p = here + lane * row_nbytes + j * size
                        if not np.isfinite(peek(like, p)):
                            poke(like, p, _exact(like, g, v, padding, n, o, oh, ow + j * g[PHW]))
                _write_row(like, fn, g, v, here + lane * row_nbytes, n, o, oh, ow, lanes[row, 5])
    keepalive(flags)


@jit
def _buffers(g, v, tid):  # type: ignore[no-untyped-def]
    """Return the addresses of this thread's Z, two columns, and rows of the lanes."""
    longest = max(g[TH], g[TW]) + g[LANES]
    z = v[SCRATCHES] + tid * g[SCRATCH]
    one = z + g[TH] * g[Z_ROW] + g[LANES] * g[ELEMENT]
    two = one + longest * g[ELEMENT]
    return z, one, two, two + longest * g[ELEMENT]


@jit
def _unit_nbytes(g, slots):  # type: ignore[no-untyped-def]
    """Return the distance of units in V or M; one element more than they take, so that units fall on different sets."""
    return (g[PAIRS] * g[TH] * slots + 1) * g[ELEMENT]


@jit
def _slots(g, start, per_unit, slot, slots):  # type: ignore[no-untyped-def]
    """Return the address of the first frequency of `slot` and the distance of ``slot + 1``, 0 if there is none."""
    at = start + slot // per_unit * _unit_nbytes(g, per_unit) + slot % per_unit * g[ELEMENT]
    if slot + 1 >= slots:
        return at, 0
    return at, start + (slot + 1) // per_unit * _unit_nbytes(g, per_unit) + (slot + 1) % per_unit * g[ELEMENT] - at


@jit
def forward_task(i, tid, like, fn, g, v, padding, first, items, slots):  # type: ignore[no-untyped-def]
    """Transform source slots 2i and 2i + 1 of the items ``first ...`` into V."""
    z, one, two, rows = _buffers(g, v, tid)
    _rows_forward(like, fn, g, v, padding, first, items, 2 * i, slots, z, one, rows)
    step = g[IN_SLOTS] * g[ELEMENT]
    to, second = _slots(g, v[SPECTRA], g[IN_SLOTS], 2 * i, slots)
    for p in range(g[PAIRS]):
        _column(like, fn, g, v, z + word(v[COLUMN_PAIRS], 2 * p) * g[ELEMENT], one)
        other = one
        if word(v[COLUMN_PAIRS], 2 * p + 1) != word(v[COLUMN_PAIRS], 2 * p):
            _column(like, fn, g, v, z + word(v[COLUMN_PAIRS], 2 * p + 1) * g[ELEMENT], two)
            other = two
        call_function(word(fn, SEPARATE), one, other, v[NEGATIVE], g[TH], to + p * g[TH] * step, step, second)


@jit
def product_task(i, tid, like, fn, g, v, items, block, points):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Multiply the spectra at frequencies ``i*block ...``: M[f] = V[f] U[f] in each group."""
    element = g[ELEMENT]
    v_unit, m_unit = _unit_nbytes(g, g[IN_SLOTS]), _unit_nbytes(g, g[OUT_SLOTS])
    groups = g[GROUPS]
    for f in range(i * block, min((i + 1) * block, points)):
        x, y = v[SPECTRA] + f * g[IN_SLOTS] * element, v[PRODUCTS] + f * g[OUT_SLOTS] * element
        u = v[U] + f * g[U_STEP]
        if g[PLACE] == CHANNELS:
            ic_blocks, oc_blocks = g[IN_SLOTS] // groups, g[OUT_SLOTS] // groups
            for group in range(groups):
                for o in range(oc_blocks):
                    slot = group * oc_blocks + o
                    product(
                        fn + 8 * FUNCTIONS, items, x + group * ic_blocks * element, v_unit, u + slot * g[ICG] * element,
                        y + slot * element, m_unit, g[ICG],
                    )  # fmt: skip
        else:
            k_blocks = (g[ICG] + g[LANES] - 1) // g[LANES]
            for vector in range((items + g[LANES] - 1) // g[LANES]):
                for group in range(groups):
                    product(
                        fn + 8 * FUNCTIONS, g[OCG], u + group * g[OCG] * k_blocks * element, k_blocks * element,
                        x + vector * v_unit + group * g[ICG] * element, y + vector * m_unit + group * g[OCG] * element, element, g[ICG],
                    )  # fmt: skip


@jit
def inverse_task(i, tid, like, fn, g, v, padding, first, items, slots):  # type: ignore[no-untyped-def]
    """Transform result slots 2i and 2i + 1 of the items ``first ...`` back from M and store them."""
    z, one, two, rows = _buffers(g, v, tid)
    step = g[OUT_SLOTS] * g[ELEMENT]
    at, second = _slots(g, v[PRODUCTS], g[OUT_SLOTS], 2 * i, slots)
    for p in range(g[PAIRS]):
        is_own = word(v[COLUMN_PAIRS], 2 * p + 1) == word(v[COLUMN_PAIRS], 2 * p)
        call_function(word(fn, COMBINE), at + p * g[TH] * step, step, second, one, one if is_own else two, v[NEGATIVE], g[TH])
        _column_back(like, fn, g, v, one, z + word(v[COLUMN_PAIRS], 2 * p) * g[ELEMENT])
        if not is_own:
            _column_back(like, fn, g, v, two, z + word(v[COLUMN_PAIRS], 2 * p + 1) * g[ELEMENT])
    _rows_back(like, fn, g, v, padding, first, items, 2 * i, slots, np.int64(0), z, one, rows)


@jit
def depthwise_task(i, tid, like, fn, g, v, padding, items, slots):  # type: ignore[no-untyped-def]
    """Convolve slots 2s and 2s + 1 with weights number `job` of their channels, i = s*MULTIPLIER + job."""
    z, one, two, rows = _buffers(g, v, tid)
    s, job = divmod(i, g[MULTIPLIER])
    _rows_forward(like, fn, g, v, padding, np.int64(0), items, 2 * s, slots, z, one, rows)
    channels = g[IN_SLOTS]
    # U[f][job][channel slot]
    u = v[U] + (job * channels + 2 * s % channels) * g[ELEMENT]
    second = ((2 * s + 1) % channels - 2 * s % channels) * g[ELEMENT]
    for p in range(g[PAIRS]):
        _column(like, fn, g, v, z + word(v[COLUMN_PAIRS], 2 * p) * g[ELEMENT], one)
        here = u + p * g[TH] * g[U_STEP]
        if word(v[COLUMN_PAIRS], 2 * p + 1) == word(v[COLUMN_PAIRS], 2 * p):
            call_function(word(fn, MULTIPLY), one, one, v[NEGATIVE], g[TH], two, two, here, g[U_STEP], second)
            _column_back(like, fn, g, v, two, z + word(v[COLUMN_PAIRS], 2 * p) * g[ELEMENT])
        else:
            _column(like, fn, g, v, z + word(v[COLUMN_PAIRS], 2 * p + 1) * g[ELEMENT], two)
            call_function(word(fn, MULTIPLY), one, two, v[NEGATIVE], g[TH], one, two, here, g[U_STEP], second)
            _column_back(like, fn, g, v, one, z + word(v[COLUMN_PAIRS], 2 * p) * g[ELEMENT])
            _column_back(like, fn, g, v, two, z + word(v[COLUMN_PAIRS], 2 * p + 1) * g[ELEMENT])
    _rows_back(like, fn, g, v, padding, np.int64(0), items, 2 * s, slots, job, z, one, rows)


@jit
def transform_slots(ctl, threads, like, fn, g, v, padding, items, slots):  # type: ignore[no-untyped-def]
    """Transform all source slots into V: how the weights get their spectra."""
    parallel_for(ctl, threads, (slots + 1) // 2, forward_task, (like, fn, g, v, padding, np.int64(0), items, slots))


@jit
def convolve_depthwise(ctl, threads, like, fn, g, v, padding, items):  # type: ignore[no-untyped-def]
    """Convolve all items of a layer whose groups have one input channel; arguments as in `convolve`."""
    vectors = items if g[PLACE] == CHANNELS else (items + g[LANES] - 1) // g[LANES]
    slots = vectors * g[IN_SLOTS]
    tasks = (slots + 1) // 2 * g[MULTIPLIER]
    parallel_for(ctl, threads, tasks, depthwise_task, (like, fn, g, v, padding, items, slots))


@jit
def convolve(ctl, threads, like, fn, g, v, padding, items, items_at_once):  # type: ignore[no-untyped-def]
    """Convolve all items, `items_at_once` in V and M at a time.

    Parameters
    ----------
    ctl, threads : int
        Of `fastconv.kernels.threads`.
    like : array
        Its dtype picks the element type.
    fn : int
        Address of a table: `element_functions`, then `product_functions`.
    g, v : ndarray of int64
        Fields as listed in this module. The tables whose addresses are in `v`:

        - PLAN_H, PLAN_W: `stages` of TH and TW; TW_H, TW_W: `twiddles`.
        - COLUMN_PAIRS: positions of a column and of that of the negative frequency, PAIRS times.
        - NEGATIVE: offset in bytes of the negative of each row frequency.
        - INDEX_H, INDEX_W: source row and column by phase and tile position, -1 for padding; ROWS_AT, COLS_AT: the same
          by padded position.
        - RUNS: for each column phase and tile column where its longest run of source columns begins in the tile, its
          length, the first source column, whether there are others outside it.
    padding : scalar
    """
    count = g[LANES]
    points = g[PAIRS] * g[TH]
    block = FREQUENCIES_AT_ONCE
    for first in range(0, items, items_at_once):
        part = min(items_at_once, items - first)
        vectors = part if g[PLACE] == CHANNELS else (part + count - 1) // count
        slots, out_slots = vectors * g[IN_SLOTS], vectors * g[OUT_SLOTS]
        parallel_for(
            ctl, threads, (slots + 1) // 2, forward_task,
            (like, fn, g, v, padding, first, part, slots),
        )  # fmt: skip
        parallel_for(ctl, threads, (points + block - 1) // block, product_task, (like, fn, g, v, part, block, points))
        parallel_for(
            ctl, threads, (out_slots + 1) // 2, inverse_task,
            (like, fn, g, v, padding, first, part, out_slots),
        )  # fmt: skip
