"""Which tiles for single planes and lines: lengths by a model of cycles; fields of the model as in `tiling`."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from fastconv.backends.fft.geometry import AxisTiles, Wrap
from fastconv.backends.fft.tiling import (
    LAST_LEVEL_NBYTES,
    AxisPhases,
    Tiling,
    element_nbytes,
    phase_tiles,
    phases_of,
    row_nbytes,
    tilings_of,
)
from fastconv.kernels import fft_lengths
from fastconv.kernels.fft_fields import COLUMNS, DESCRIPTIONS_NBYTES, GROUPS_AT_ONCE
from fastconv.kernels.target import host
from fastconv.problem import ConvProblem

#: A radix-4 stage per element, and a call for a column or row: more than those of `tiling`, as columns and rows come one by one.
STAGE_CYCLES = 4.0
CALL_CYCLES = 60.0
#: Bytes of a tile and of spectra that arrive in a cycle from the last-level cache and from memory.
CACHE_BYTES_PER_CYCLE = 12.0
MEMORY_BYTES_PER_CYCLE = 5.0
#: Cycles per element: reading, turning twice and writing an element of a plane, and joining and parting the halves.
PLANE_CYCLES = 21.0
#: Multiplying by the twiddles between columns and rows of a line, both ways.
TWIST_CYCLES = 12.0
#: What an element more costs in a column that fills the first-level cache, and in a row that does not fit into it; both
#: grow with the length.
LONG_COLUMN_CYCLES = 20.0
LONG_ROW_CYCLES = 6.0
FIRST_LEVEL_NBYTES = 32 * 2**10
#: A tile: its place, its borders.
TILE_CYCLES = 1000.0
#: How often a tile goes through the caches: written and read by columns, read and written by rows.
TRIPS = 4
#: Longest side of the transform of a line, and longest tile of one.
MAX_SIDE = 512
MAX_LINE = 2 * MAX_SIDE**2
#: With fewer tiles a thread, threads share each of them, if the tiles cannot be dealt out evenly.
FEW_TILES = 4


def is_line(p: ConvProblem) -> bool:
    """Tell whether the problem is one-dimensional: one row in, one row out, nothing between rows."""
    return p.ih == p.oh == p.kh == 1 and p.ph_lo == p.ph_hi == 0


def line_reason(p: ConvProblem) -> str | None:
    """Return why a line is too long for the tiles, or None."""
    taps = phases_of(p)[1].taps
    return None if taps <= MAX_LINE else f"it needs kernels of at most {MAX_LINE} taps, got {taps}"


def desk_nbytes(th: int, tw: int) -> int:
    """Return the bytes of the descriptions and of columns or a row: what every thread needs."""
    return DESCRIPTIONS_NBYTES + max(GROUPS_AT_ONCE * (th + 1), tw) * element_nbytes()


def tile_nbytes(th: int, tw: int, part: int, parts: int) -> int:
    """Return the bytes of Z, a bordered copy of the tile, and a verdict for each of its parts, in whole elements."""
    verdicts = -(-8 * parts // element_nbytes()) * element_nbytes()
    return th * row_nbytes(tw * 2 * part // element_nbytes()) + 2 * th * tw * part + verdicts


def wrap_of(p: ConvProblem) -> Wrap:
    """Return how the halves of a tile wrap around: with a minus, so that only zeros may share room."""
    return Wrap.NEGATIVE if p.padding_value == 0 else Wrap.NONE


@functools.cache
def line_shapes(lanes: int) -> tuple[tuple[int, int, float], ...]:
    """Return (rows, columns, stages per element) of the cheapest transform of each length of lines, by length."""
    sides = [n for n in fft_lengths.lengths() if n % lanes == 0 and n <= MAX_SIDE]
    best: dict[int, tuple[int, int, float]] = {}
    for rows in sides:
        for columns in sides:
            cost = fft_lengths.stage_cost(rows) + fft_lengths.stage_cost(columns)
            # Of equal cost the one with the shorter sides: a column or row is to stay in the first-level cache.
            old = best.get(rows * columns)
            if old is None or (cost, max(rows, columns)) < (old[2], max(old[:2])):
                best[rows * columns] = (rows, columns, cost)
    return tuple(best[length] for length in sorted(best))


def _line_candidates(axis: AxisPhases, lanes: int, wrap: Wrap) -> Iterator[tuple[AxisTiles, tuple[int, int, float]]]:
    """Yield the tilings of a line worth looking at: of equal number of tiles, the cheapest transforms."""
    best: dict[int, tuple[float, AxisTiles, tuple[int, int, float]]] = {}
    for shape in line_shapes(lanes):
        length = shape[0] * shape[1]
        chosen = phase_tiles(axis, 2 * length, wrap)
        if chosen is None:
            continue
        cost = length * shape[2]
        if chosen.count not in best or cost < best[chosen.count][0]:
            best[chosen.count] = cost, chosen, shape
    for _, chosen, shape in best.values():
        yield chosen, shape


def _line_tilings(p: ConvProblem, lanes: int) -> Iterator[tuple[AxisTiles, AxisTiles, int, float]]:
    """Yield (rows, columns, rows of the transform, cycles per element) for lines."""
    for tiles, (height, _, stages) in _line_candidates(phases_of(p)[1], lanes, wrap_of(p)):
        yield AxisTiles(1, 1, 1), tiles, height, 2 * stages * STAGE_CYCLES + PLANE_CYCLES + TWIST_CYCLES


def _long_cycles(height: int, width: int) -> float:
    """Return what an element more costs where columns or rows are long."""
    columns, rows = (side * element_nbytes() / FIRST_LEVEL_NBYTES for side in (height, width))
    return LONG_COLUMN_CYCLES * columns * (columns >= 1) + LONG_ROW_CYCLES * rows * (rows > 1)


def _plane_tilings(p: ConvProblem, lanes: int) -> Iterator[tuple[AxisTiles, AxisTiles, int, float]]:
    """Yield (rows, columns, rows of the transform, cycles per element) for planes."""
    axes = phases_of(p)
    for rows in tilings_of(axes[0], lanes, 2, wrap_of(p)):
        height = rows.length // 2
        for cols in tilings_of(axes[1], lanes):
            wanted = min(1.0, cols.step / cols.length)
            stages = fft_lengths.stage_cost(height) * (1 + wanted) + 2 * fft_lengths.stage_cost(cols.length)
            yield rows, cols, height, stages * STAGE_CYCLES + PLANE_CYCLES + _long_cycles(height, cols.length)


@functools.lru_cache(maxsize=512)
def best_plane_tiling(p: ConvProblem, limit: int, spectra_limit: int, threads: int) -> Tiling | None:
    """Return the tiling of single planes, or of lines, of fewest modelled cycles, or None if none fits."""
    part = np.dtype(p.dtype).itemsize
    lanes = host().lanes(part)
    axes = phases_of(p)
    best: Tiling | None = None
    for rows, cols, th, per_element in (_line_tilings if is_line(p) else _plane_tilings)(p, lanes):
        tw = rows.length * cols.length // (2 * th)
        # A line keeps its twiddles beside the spectra.
        spectra = (p.oc + is_line(p)) * th * tw * element_nbytes() // lanes
        items = max(p.mb, 1) * axes[0].out_phases * axes[1].out_phases * rows.count * cols.count
        parts = _parts(p.oc * items, th * row_nbytes(tw // lanes), threads)
        shared = tile_nbytes(th, tw, part, parts) if parts > 1 else 0
        per_thread = desk_nbytes(th, tw) + (0 if parts > 1 else tile_nbytes(th, tw, part, 1))
        if spectra > spectra_limit or threads * per_thread + shared > limit:
            continue
        elements = th * tw // lanes
        tile = elements * element_nbytes()
        calls = 2 * (tw + th) // lanes
        cycles = TILE_CYCLES + calls * CALL_CYCLES + elements * per_element + spectra / p.oc / CACHE_BYTES_PER_CYCLE
        # The larger the tile, the less of it is still in the last-level cache.
        cycles += TRIPS * tile / MEMORY_BYTES_PER_CYCLE * min(1.0, tile / LAST_LEVEL_NBYTES)
        cycles *= p.oc * items
        if best is None or cycles < best.cycles:
            best = Tiling(rows, cols, COLUMNS, items, items, cycles, spectra, shared, per_thread, th, parts)
    return best


def _parts(tiles: int, nbytes: int, threads: int) -> int:
    """Return into how many parts each of `tiles` tiles is cut, so that `threads` threads share it."""
    is_uneven = tiles % threads != 0 and tiles < FEW_TILES * threads
    return threads if threads > 1 and (is_uneven or threads * nbytes > LAST_LEVEL_NBYTES) else 1


@functools.lru_cache(maxsize=256)
def largest_plane_points(p: ConvProblem) -> int:
    """Return the points of the largest tile that any plan of planes for `p` may use."""
    lanes = host().lanes(np.dtype(p.dtype).itemsize)
    tilings = (_line_tilings if is_line(p) else _plane_tilings)(p, lanes)
    return max((rows.length * cols.length for rows, cols, _, _ in tilings), default=fft_lengths.MAX_LENGTH**2)
