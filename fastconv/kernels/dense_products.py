"""The products of one task of dense convolution: panels are packed, tiles multiplied and stored, for both designs.

Everything is an address or an integer: `f` the table of generated functions, `g` the layout's fields, `v` the strides
of the arrays, `tiles` the register tiles (see `fastconv.kernels.dense_layout`); `source` is the strip, or the source where
it is read in place, `table` the offsets of this block of k in it.
"""

from __future__ import annotations

from fastconv.kernels._jit import jit
from fastconv.kernels.dense_fields import (
    ACTIVATION,
    BLOCK,
    IN_PLACE,
    IS_PLACED,
    LANES,
    LEAST_PACKING,
    MR,
    NR,
    OC,
    OC_PADDED,
    PITCH,
    RC,
    READS_PIXELS,
    RW,
    SIZE,
    SPLITS,
    SUMS_AT,
    TILE_AT,
    XW,
    YC,
    YW,
    K,
)
from fastconv.kernels.dense_functions import FINISH_COLUMNS, FINISH_ROWS, GEMM, GEMM_PACKS, GEMM_PLACED, GEMM_ROWS, STORE_TURNED
from fastconv.kernels.dense_strips import pack_in_place, pack_panel
from fastconv.kernels.function_pointers import call_function, set_word, word


@jit
def multiply_pixels(
    f: int, g: int, tiles: int, weights: int, packed: int, at: int, bias: int, limits: int, first: int, end: int, count: int,
    accumulate: int, last: int, pixels: int, left: int, source: int, table: int, panels: int, panel_rows: int,
    places: int, tile: int, where: int, pixel0: int, width: int, y: int, yc: int, residual: int, rc: int,
) -> None:  # fmt: skip
    """Multiply a piece of k: pixels in vectors, register tiles `first` to `end` of the output channels.

    `weights` is the block of `packed` k's that holds the piece, from its k number `at` on.

    The first tile of channels packs each panel while it multiplies, where the panel's pixels lie in one row; the
    others read the panels, all whole ones in one call of the micro-kernel. Where the layout says so, panels are not packed
    then: `places` gets the address of each, and of the offsets of its rows, `panel_rows` for the others::

        y[m][p] (+)= sum over k of weights[tile][k][row] * panel[k][p]      yc, rc: from one channel to the next
    """
    size, nr, lanes = word(g, SIZE), word(g, NR), word(g, LANES)
    vectors = nr // lanes
    whole = pixels // nr
    is_placed = word(g, IS_PLACED)
    code, limit = word(g, ACTIVATION), limits
    for p in range(0, pixels, nr):
        needed = min(nr, pixels - p)
        dst = panels + p * count * size
        m = word(tiles, first)
        height = word(tiles, first + 1) - m
        a = weights + (m * packed + at * height) * size
        row = y + (m * yc + p) * size
        added = residual + (m * rc + p) * size if residual != 0 else 0
        pixel = pixel0 + p
        pixel_row = pixel // width
        column = pixel - pixel_row * width
        if is_placed:
            set_word(places, 2 * (p // nr), dst)
            set_word(places, 2 * (p // nr) + 1, panel_rows)
        if needed == nr and height >= word(g, LEAST_PACKING) and (word(g, IN_PLACE) or column + nr <= width):
            place = p if word(g, IN_PLACE) else pixel_row * word(g, PITCH) + column
            if is_placed:
                set_word(places, 2 * (p // nr), source + place * size)
                set_word(places, 2 * (p // nr) + 1, table)
                continue
            call_function(
                word(f, GEMM_PACKS), height, vectors, a, 0, source + place * size, row, yc, count, accumulate,
                table, dst, last, bias + m * size, added, rc, code, limit,
            )  # fmt: skip
            continue
        if word(g, IN_PLACE):
            pack_in_place(f, dst, nr, lanes, vectors, needed, left - p, source, table, count, where, p)
        else:
            pack_panel(f, dst, nr, lanes, vectors, needed, source, table, count, where, pixel, width, word(g, PITCH))
        if needed == nr and not is_placed:
            call_function(
                word(f, GEMM), height, vectors, a, 0, dst, row, yc, count, accumulate,
                last, bias + m * size, added, rc, code, limit, 1, 0, 0, 0, 0,
            )  # fmt: skip
    for t in range(first, end):
        m = word(tiles, t)
        height = word(tiles, t + 1) - m
        a = weights + (m * packed + at * height) * size
        row = y + m * yc * size
        added = residual + m * rc * size if residual != 0 else 0
        if whole > 0 and is_placed:
            call_function(
                word(f, GEMM_PLACED), height, vectors, a, 0, places, row, yc, count, accumulate,
                last, bias + m * size, added, rc, code, limit, whole, 0, 0, nr, nr,
            )  # fmt: skip
        elif whole > 0 and t > first:
            call_function(
                word(f, GEMM), height, vectors, a, 0, panels, row, yc, count, accumulate,
                last, bias + m * size, added, rc, code, limit, whole, 0, nr * count, nr, nr,
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
                word(f, FINISH_ROWS), tile, nr, row + p * size, yc, height, valid, accumulate, last, bias + m * size, there, rc,
                code, limit,
            )  # fmt: skip


@jit
def multiply_channels(
    f: int, g: int, v: int, tiles: int, weights: int, bias: int, limits: int, group: int, split: int, k0: int,
    count: int, last: int, pixels: int, left: int, source: int, table: int, panels: int, base: int, where: int,
    pixel0: int, width: int, y: int, residual: int, is_last_block: int,
) -> None:  # fmt: skip
    """Pack the tiles of pixels of a block of k and multiply: output channels in vectors.

    Where the layout says so, `source` holds the pixels of the block with their channels next to each other: then its rows
    are the broadcast side as they are, and nothing is packed::

        sums[p][n] (+)= sum over k of tile[k][p] (or source[p*xw + k0 + k]) * weights[panel][k][n]
    """
    size, nr, lanes = word(g, SIZE), word(g, NR), word(g, LANES)
    vectors = nr // lanes
    packed = -(-word(g, MR) // lanes)
    # tiles = (tiles of a whole block, their starts and end, tiles of the last block, their starts and end)
    at = word(tiles, 0) + 2 if is_last_block else 0
    tile_count = word(tiles, at)
    at += 1
    reads_rows = word(g, READS_PIXELS)
    lda = word(v, XW) if reads_rows else 0
    gemm = word(f, GEMM_ROWS) if reads_rows else word(f, GEMM)
    for t in range(at, at + (0 if reads_rows else tile_count)):
        p = word(tiles, t)
        height = word(tiles, t + 1) - p
        dst = panels + p * count * size
        if word(g, IN_PLACE):
            pack_in_place(f, dst, height, lanes, packed, height, left - p, source, table, count, where, p)
        else:
            pack_panel(f, dst, height, lanes, packed, height, source, table, count, where, pixel0 + p, width, word(g, PITCH))
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
        used = vectors
        while used % 2 == 0 and used // 2 * lanes >= valid:
            used //= 2
        offset = bias + (group * word(g, OC_PADDED) + j * nr) * size
        t = at
        while t < at + tile_count:
            p = word(tiles, t)
            height = word(tiles, t + 1) - p
            repeats = 1
            while t + repeats < at + tile_count and word(tiles, t + repeats + 1) - word(tiles, t + repeats) == height:
                repeats += 1
            a = source + (p * lda + k0) * size if reads_rows else panels + p * count * size
            a_step = height * (lda if reads_rows else count)
            following = b + nr * count * size + (t - at) * step * count
            if not is_direct:
                call_function(
                    gemm, height, used, a, lda, b, sums + p * nr * size, nr, count, accumulate, following, step,
                    0, 0, 0, 0, 0, 0, repeats, a_step, 0, height * nr, 0,
                )  # fmt: skip
                t += repeats
                continue
            there = y + (p * word(v, YW) + j * nr) * size
            added = residual + (p * word(v, RW) + j * nr) * size if residual != 0 else 0
            if valid == used * lanes:
                call_function(
                    gemm, height, used, a, lda, b, there, word(v, YW), count, accumulate, following, step,
                    last, offset, added, word(v, RW), code, limit, repeats, a_step, 0, height * word(v, YW), height * word(v, RW),
                )  # fmt: skip
                t += repeats
            else:
                call_function(
                    gemm, height, used, a, lda, b, tile, nr, count, 0, following, step,
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
