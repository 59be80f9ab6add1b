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
    HAS_MASKS,
    IN_PLACE,
    LANES,
    LEAST_PACKING,
    MR,
    NR,
    OC,
    OC_PADDED,
    PANEL_PITCH,
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
from fastconv.kernels.gemm import WORD_NBYTES


@jit
def multiply_pixels(
    f: int, g: int, tiles: int, weights: int, packed: int, at: int, bias: int, limits: int, first: int, end: int, count: int,
    accumulate: int, last: int, pixels: int, left: int, source: int, table: int, panels: int, tile: int, where: int, pixel0: int,
    width: int, y: int, yc: int, residual: int, rc: int,
) -> None:  # fmt: skip
    """Multiply a piece of k: pixels in vectors, register tiles `first` to `end` of the output channels.

    `weights` is the block of `packed` k's that holds the piece, from its k number `at` on.

    The first tile of channels packs each panel while it multiplies, where the panel's pixels lie in one row; the
    others read the panels, all whole ones in one call of the micro-kernel::

        y[m][p] (+)= sum over k of weights[tile][k][row] * panel[k][p]      yc, rc: from one channel to the next
    """
    size, nr, lanes = word(g, SIZE), word(g, NR), word(g, LANES)
    vectors = nr // lanes
    whole = pixels // nr
    code, limit = word(g, ACTIVATION), limits
    for p in range(0, pixels, nr):
        needed = min(nr, pixels - p)
        dst = panels + p * count * size
        m = word(tiles, first)
        height = word(tiles, first + 1) - m
        a = weights + (m * packed + at * height) * size
        row = y + (m * yc + p) * size
        added = residual + (m * rc + p) * size if residual != 0 else 0
        place = _place(g, p, needed, pixel0 + p, width)
        if place >= 0 and height >= word(g, LEAST_PACKING):
            call_function(
                word(f, GEMM_PACKS), height, vectors, a, 0, source + place * size, row, yc, count, accumulate,
                table, dst, last, bias + m * size, added, rc, code, limit,
            )  # fmt: skip
            continue
        _pack(f, g, dst, needed, left - p, source, table, count, where, p, pixel0 + p, width)
        if needed == nr:
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
        if whole > 0 and t > first:
            call_function(
                word(f, GEMM), height, vectors, a, 0, panels, row, yc, count, accumulate,
                last, bias + m * size, added, rc, code, limit, whole, 0, nr * count, nr, nr,
            )  # fmt: skip
        p = whole * nr
        if p < pixels:
            there = added + p * size if added != 0 else 0
            _multiply_panel(f, g, height, pixels - p, a, panels + p * count * size, tile, count)
            call_function(
                word(f, FINISH_ROWS), tile, nr, row + p * size, yc, height, pixels - p, accumulate, last, bias + m * size, there, rc,
                code, limit,
            )  # fmt: skip


@jit
def multiply_placed(
    f: int, g: int, tiles: int, weights: int, packed: int, at: int, bias: int, limits: int, first: int, end: int, count: int,
    accumulate: int, last: int, pixels: int, image: int, left: int, source: int, table: int, panels: int, panel_rows: int,
    places: int, tile: int, where: int, pixel0: int, width: int, y: int, yc: int, yn: int, residual: int, rc: int, rn: int,
) -> None:  # fmt: skip
    """Do what `multiply_pixels` does, and leave panels whose pixels lie in one row where they are; the others are packed.

    `places` gets the address of each panel, and of the offsets of its rows: `table`, of packed panels `panel_rows`. The pixels
    may be those of several images, `image` pixels each, `yn` and `rn` elements apart in result and residual; the sums of a
    panel that lies in two or more images, or is not full, wait in `tile`::

        images    |-------------------|-------------------|-------------------|
        panels    |-----|-----|-----|-----|-----|-----|-----|-----|-----|---
        results   straight into rows  tile  straight..  tile
    """
    size, nr, lanes = word(g, SIZE), word(g, NR), word(g, LANES)
    code, limit = word(g, ACTIVATION), limits
    for p in range(0, pixels, nr):
        needed = min(nr, pixels - p)
        place = _place(g, p, needed, pixel0 + p, width)
        at_place = places + 2 * (p // nr) * WORD_NBYTES
        if place >= 0:
            set_word(at_place, 0, source + place * size)
            set_word(at_place, 1, table)
        else:
            dst = panels + p * count * size
            set_word(at_place, 0, dst)
            set_word(at_place, 1, panel_rows)
            _pack(f, g, dst, needed, left - p, source, table, count, where, p, pixel0 + p, width)
    for t in range(first, end):
        m = word(tiles, t)
        height = word(tiles, t + 1) - m
        a = weights + (m * packed + at * height) * size
        p = 0
        while p < pixels:
            n = p // image
            inside = image - (p - n * image)
            row = y + (m * yc + n * yn + p - n * image) * size
            added = residual + (m * rc + n * rn + p - n * image) * size if residual != 0 else 0
            if inside >= nr:
                whole = inside // nr
                call_function(
                    word(f, GEMM_PLACED), height, nr // lanes, a, 0, places + 2 * (p // nr) * WORD_NBYTES, row, yc, count, accumulate,
                    last, bias + m * size, added, rc, code, limit, whole, 0, 0, nr, nr,
                )  # fmt: skip
                p += whole * nr
                continue
            valid = min(nr, pixels - p)
            _multiply_panel(f, g, height, valid, a, panels + p * count * size, tile, count)
            done = 0
            while done < valid:
                here = min(inside, valid - done)
                call_function(
                    word(f, FINISH_ROWS), tile + done * size, nr, row, yc, height, here, accumulate, last, bias + m * size, added, rc,
                    code, limit,
                )  # fmt: skip
                done += here
                n += 1
                inside = image
                row = y + (m * yc + n * yn) * size
                added = residual + (m * rc + n * rn) * size if residual != 0 else 0
            p += valid


@jit
def _place(g: int, p: int, needed: int, pixel: int, width: int) -> int:
    """Return where the panel of pixels from number `p` of the block on lies in the source, -1 if not as a whole in one row."""
    if needed < word(g, NR):
        return -1
    if word(g, IN_PLACE):
        return p
    row = pixel // width
    column = pixel - row * width
    return row * word(g, PANEL_PITCH) + column if column + needed <= width else -1


@jit
def _pack(
    f: int, g: int, dst: int, needed: int, left: int, source: int, table: int, count: int, where: int, p: int, pixel: int, width: int
) -> None:
    """Pack `needed` pixels of a panel from number `p` of the block on, number `pixel` of the strip's rows of `width`."""
    nr, lanes = word(g, NR), word(g, LANES)
    if word(g, IN_PLACE):
        pack_in_place(f, dst, nr, lanes, nr // lanes, needed, left, source, table, count, where, p)
    else:
        pack_panel(f, dst, nr, lanes, nr // lanes, needed, source, table, count, where, pixel, width, word(g, PANEL_PITCH))


@jit
def _multiply_panel(f: int, g: int, height: int, valid: int, a: int, panel: int, tile: int, count: int) -> None:
    """Multiply a packed panel of which `valid` pixels matter, into scratch memory."""
    nr, lanes = word(g, NR), word(g, LANES)
    used = 1
    while used * lanes < valid:
        used *= 2
    call_function(word(f, GEMM), height, used, a, 0, panel, tile, nr, count, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)


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
                    0, 0, 0, 0, 0, 0, nr, repeats, a_step, 0, height * nr, 0,
                )  # fmt: skip
                t += repeats
                continue
            there = y + (p * word(v, YW) + j * nr) * size
            added = residual + (p * word(v, RW) + j * nr) * size if residual != 0 else 0
            if valid == used * lanes or (word(g, HAS_MASKS) and valid > (used - 1) * lanes):
                call_function(
                    gemm, height, used, a, lda, b, there, word(v, YW), count, accumulate, following, step, last, offset, added,
                    word(v, RW), code, limit, valid, repeats, a_step, 0, height * word(v, YW), height * word(v, RW),
                )  # fmt: skip
                t += repeats
            else:
                call_function(
                    gemm, height, used, a, lda, b, tile, nr, count, 0, following, step,
                    0, 0, 0, 0, 0, 0, nr, 1, 0, 0, 0, 0,
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
