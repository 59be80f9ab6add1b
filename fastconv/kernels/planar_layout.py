"""Numbers behind a planar kernel: its register tile, and how a row of the result is cut into vectors."""

from __future__ import annotations

from typing import NamedTuple

from fastconv.kernels.target import Target

#: Rows with at least this many full tiles end with one that overlaps, instead of a kernel part of its own.
MANY_TILES = 8
#: `before` and `after` of `Columns` where no load leaves the row.
WITHIN = (0, 0), (0, 0)


class RegisterTile(NamedTuple):
    """Output channels, rows and vectors of a register tile, and whether weights are loaded anew for each row."""

    mo: int
    r: int
    v: int
    reloads: bool


def choose_tile(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    channels: tuple[int, int],
    extent: tuple[int, int, int],
    target: Target,
    parts: int = 1,
) -> RegisterTile:
    """Return the register tile for a kernel.

    Parameters
    ----------
    kernel, stride : (int, int)
        Along height and width.
    channels : (int, int)
        Real input and output channels per group.
    extent : (int, int, int)
        Rows of the result, vectors in a row (rounded up), and those of them that are no border.
    target : Target
    parts : int
        Real channels that stay together in a tile.

    Notes
    -----
    Eight independent sums hide the latency of two FMA units; more of them serve to share loads, rows the source
    vectors (a vector is used by up to KH rows), vectors the weights. Two source rows are walked together where that keeps
    the sums independent: the sums, 2*V source vectors and a weight must fit the registers, because a spill costs as much
    as the load that it was to save. Without a fused multiply-add each product takes one more. The tiles are those that
    ``python bench/planar_tiles.py`` finds best on AVX2 and AVX-512 (Zen 5), rows chosen so that the last block of
    rows computes few of them again: a tile of 7 rows takes two thirds of the time of one of 12 on 14 rows.
    """
    kh, kw = kernel
    inputs, outputs = channels
    rows, vectors, _ = extent
    has_many, folds = target.registers >= 32, target.folds_loads
    if outputs > 1:
        mo = largest_block(outputs, parts)
        r, v = {2: (2, 3), 3: (1, 4), 4: (1, 3), 5: (1, 2), 6: (1, 2), 7: (1, 1), 8: (1, 1)}.get(mo, (4, 3))
        if mo == 4 and has_many and folds:
            r, v = 2, 2
        v = v if target.has_fma else min(v, 2)
        reloads = kh * kw > 25 or r == v == 2
    else:
        mo = 1
        is_small = kh * kw <= 9 and inputs == 1
        if kh == 1:
            r, v, reloads = (1, 8, False) if rows == 1 else (2, 4, True)
        elif has_many and folds:
            r, v, reloads = _large_tile(kh * kw, stride[1], extent, is_small=is_small)
        elif is_small:
            r, v = (5, 2) if has_many and vectors > 7 else (rows if vectors == 1 and rows <= 7 else _even_rows(rows, 4, 5), 1)
            reloads = not target.has_fma
        elif stride[1] > 1:
            r, v, reloads = 2, 2, True
        elif has_many or kh > 8:
            r, v, reloads = 6, 2, True
        else:
            r, v, reloads = _even_rows(rows, 5, 4), 2, True
        r = r if target.has_fma else min(r, 3)
    if v > vectors:
        r, v = r * v // vectors, vectors
    return RegisterTile(mo, min(r, rows), v, reloads)


def _large_tile(taps: int, stride: int, extent: tuple[int, int, int], *, is_small: bool) -> tuple[int, int, bool]:
    """Return rows, vectors and reloading of a tile of one output channel, for 32 registers and operands from memory."""
    rows, vectors, inner = extent
    if vectors == 1:
        # The products of a large kernel's tile fill the reorder buffer: its own sums have to hide the latency.
        return 8 if taps > 25 else _even_rows(rows, 8, 7, 6, 5), 1, stride == 1 or rows > 7
    if stride > 1:
        return _even_rows(rows, 4, 5), 2 if is_small else 1, not is_small
    if is_small:
        return (_even_rows(rows, 8, 7, 6, 5), 1, False) if vectors == 2 else (_even_rows(rows, 4, 5), 3, False)
    if inner > 2:
        return _even_rows(rows, 5, 6, 4), 4, True
    return _even_rows(rows, 8, 7, 6, 5), 2 if inner == 2 else 1, True


def _even_rows(rows: int, *heights: int) -> int:
    """Return the first of the heights whose whole blocks of rows exceed `rows` least, to a sixteenth."""
    return min(heights, key=lambda r: -(-rows // r) * r * 16 // max(rows, 1))


def largest_block(outputs: int, parts: int) -> int:
    """Return how many output channels a tile computes at once: the best divisor that is a multiple of `parts`."""
    return next((mo for mo in (4, 6, 5, 3, 8, 7, 2) if outputs % mo == 0 == mo % parts), 1)


class Columns(NamedTuple):
    """How a row is cut into vectors; the fields are those of `PlanarSpec` and `GEOMETRY`."""

    border: int
    v: int
    rest: int
    before: tuple[int, int]
    after: tuple[int, int]
    tail: int
    right: int
    first: int
    tiles: int
    last: int
    rest_column: int


def load_offsets(kw: int, dw: int, lanes: int, *, deinterleaves: bool) -> list[int]:
    """Return the first column, from the vector's own, of each load of a vector."""
    if deinterleaves:
        return [offset for tap in range(0, kw, 2) for offset in (tap, tap + lanes)]
    return [tap * dw for tap in range(kw)]


def cut_in_place(ow: int, width: int, pad: int, sw: int, offsets: list[int], lanes: int, v: int) -> Columns | None:
    """Cut a row that is read in place; None if the borders reach beyond the first and last vector.

    Parameters
    ----------
    ow, width : int
        Columns of the result and of the source.
    pad : int
        Left padding.
    offsets : list of int
        See `load_offsets`.
    lanes, v : int
        Lanes of a vector, vectors of the full tile.
    """
    starts = [-pad, (ow - lanes) * sw - pad]
    before = max(0, -starts[0]), max(0, -starts[1])
    after = max(0, starts[0] + max(offsets) + lanes - width), max(0, starts[1] + max(offsets) + lanes - width)
    if ow < lanes and pad > max(offsets):
        return None
    if ow < lanes:
        return Columns(1, 1, 0, (before[0], 0), (after[0], 0), ow, 0, 0, 0, 0, 0)
    low = -(-pad // sw)
    high = (width + pad - max(offsets) - lanes) // sw
    if low == 0 and high >= ow - lanes:
        return _tiles(0, 0, ow, (0, ow - lanes), lanes, v)
    if width < lanes:
        return None
    borders = before, after
    if ow <= 2 * lanes:
        return Columns(2, 1, 0, *borders, 0, ow - lanes, 0, 0, 0, 0)
    if low > lanes or high < ow - 2 * lanes or high < low:
        return None
    return _tiles(2, lanes, ow - lanes, (low, high), lanes, v, borders, ow - lanes)


def cut_packed(ow: int, lanes: int, v: int) -> Columns:
    """Cut a row whose source is packed: every vector of it can be loaded."""
    if ow < lanes:
        return Columns(1, 1, 0, *WITHIN, ow, 0, 0, 0, 0, 0)
    return _tiles(0, 0, ow, (0, ow - lanes), lanes, v)


def _tiles(
    border: int, start: int, stop: int, limits: tuple[int, int], lanes: int, v: int,
    borders: tuple[tuple[int, int], tuple[int, int]] = WITHIN, right: int = 0,
) -> Columns:  # fmt: skip
    """Cover columns start .. stop - 1 by tiles of v vectors, whose columns lie within `limits`, and one of `rest`."""
    low, high = limits
    count = -(-(stop - start) // lanes)
    v = max(1, min(v, count, (high - low) // lanes + 1))
    tiles, rest = divmod(count, v)
    if rest and tiles >= MANY_TILES:
        tiles, rest = tiles + 1, 0
    last = min(stop - v * lanes, high - (v - 1) * lanes) if not rest else start + (tiles - 1) * v * lanes
    rest_column = max(low, min(stop - rest * lanes, high - (rest - 1) * lanes)) if rest else 0
    return Columns(border, v, rest, *borders, 0, right, start, tiles, max(low, last), rest_column)
