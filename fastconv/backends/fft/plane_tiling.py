"""Which tiles for single planes and lines: lengths by a model of cycles; fields of the model as in `tiling`."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from fastconv.backends.fft.geometry import AxisTiles, axis_tiles
from fastconv.backends.fft.tiling import (
    CACHE_BYTES_PER_CYCLE,
    LARGE_TILE_FACTOR,
    STAGE_CYCLES,
    TILE_NBYTES,
    AxisPhases,
    Tiling,
    element_nbytes,
    phases_of,
    row_nbytes,
    tilings_of,
)
from fastconv.kernels import fft_lengths
from fastconv.kernels.fft_fields import COLUMNS, DESCRIPTIONS_NBYTES
from fastconv.kernels.target import host
from fastconv.problem import ConvProblem

#: Cycles per element: reading, turning twice and writing an element of a plane.
PLANE_CYCLES = 30.0
#: Multiplying by the twiddles between columns and rows of a line, both ways.
TWIST_CYCLES = 12.0
#: Longest transform of a line.
MAX_LINE = fft_lengths.MAX_LENGTH**2


def is_line(p: ConvProblem) -> bool:
    """Tell whether the problem is one-dimensional: one row in, one row out, nothing between rows."""
    return p.ih == p.oh == p.kh == 1 and p.ph_lo == p.ph_hi == 0


def line_reason(p: ConvProblem) -> str | None:
    """Return why a line is too long for the tiles, or None."""
    taps = phases_of(p)[1].taps
    return None if taps <= MAX_LINE else f"it needs kernels of at most {MAX_LINE} taps, got {taps}"


def plane_thread_nbytes(th: int, tw: int, part: int) -> int:
    """Return the bytes of the descriptions, Z, a column, and bordered copies of two tiles."""
    groups = tw // (element_nbytes() // (2 * part))
    return DESCRIPTIONS_NBYTES + th * row_nbytes(groups) + max(th, tw) * element_nbytes() + 2 * th * tw * part


@functools.cache
def line_shapes(lanes: int) -> tuple[tuple[int, int, float], ...]:
    """Return (rows, columns, stages per element) of the cheapest transform of each length of lines, by length."""
    sides = [n for n in fft_lengths.lengths() if n % lanes == 0]
    best: dict[int, tuple[int, int, float]] = {}
    for rows in sides:
        for columns in sides:
            cost = fft_lengths.stage_cost(rows) + fft_lengths.stage_cost(columns)
            # Of equal cost the one with the shorter sides: a column or row is to stay in the first-level cache.
            old = best.get(rows * columns)
            if old is None or (cost, max(rows, columns)) < (old[2], max(old[:2])):
                best[rows * columns] = (rows, columns, cost)
    return tuple(best[length] for length in sorted(best))


def _line_candidates(axis: AxisPhases, lanes: int) -> Iterator[tuple[AxisTiles, tuple[int, int, float]]]:
    """Yield the tilings of a line worth looking at: of equal number of tiles, the cheapest transforms."""
    best: dict[int, tuple[float, AxisTiles, tuple[int, int, float]]] = {}
    for shape in line_shapes(lanes):
        length = shape[0] * shape[1]
        tiles = [axis_tiles(row, axis.dense_outputs, axis.taps, length) for row in axis.index.reshape(-1, axis.index.shape[2])]
        if any(t is None for t in tiles):
            continue
        chosen = max((t for t in tiles if t is not None), key=lambda t: t.count)
        cost = length * shape[2]
        if chosen.count not in best or cost < best[chosen.count][0]:
            best[chosen.count] = cost, chosen, shape
    for _, chosen, shape in best.values():
        yield chosen, shape


def _line_tilings(p: ConvProblem, lanes: int) -> Iterator[tuple[AxisTiles, AxisTiles, int, float]]:
    """Yield (rows, columns, folds, cycles per element) for lines."""
    for tiles, (height, _, stages) in _line_candidates(phases_of(p)[1], lanes):
        yield AxisTiles(1, 1, 1), tiles, height, 2 * stages * STAGE_CYCLES + PLANE_CYCLES + TWIST_CYCLES


def _plane_tilings(p: ConvProblem, lanes: int) -> Iterator[tuple[AxisTiles, AxisTiles, int, float]]:
    """Yield (rows, columns, no folds, cycles per element) for planes."""
    axes = phases_of(p)
    for rows in tilings_of(axes[0], lanes):
        for cols in tilings_of(axes[1], lanes):
            wanted = min(1.0, cols.step / cols.length)
            stages = fft_lengths.stage_cost(rows.length) * (1 + wanted) + 2 * fft_lengths.stage_cost(cols.length)
            yield rows, cols, 0, stages * STAGE_CYCLES + PLANE_CYCLES


@functools.lru_cache(maxsize=512)
def best_plane_tiling(p: ConvProblem, limit: int, spectra_limit: int, threads: int) -> Tiling | None:
    """Return the tiling of single planes, or of lines, of fewest modelled cycles, or None if none fits."""
    part = np.dtype(p.dtype).itemsize
    lanes = host().lanes(part)
    axes = phases_of(p)
    best: Tiling | None = None
    for rows, cols, folds, per_element in (_line_tilings if is_line(p) else _plane_tilings)(p, lanes):
        th, tw = (folds, cols.length // folds) if folds else (rows.length, cols.length)
        # A line keeps its twiddles beside the spectra.
        spectra = (p.oc + bool(folds)) * th * tw * 2 * part
        per_thread = plane_thread_nbytes(th, tw, part)
        if spectra > spectra_limit or threads * per_thread > limit:
            continue
        items = max(p.mb, 1) * axes[0].out_phases * axes[1].out_phases * rows.count * cols.count
        pairs = p.oc * -(-items // 2)
        large = LARGE_TILE_FACTOR if th * row_nbytes(tw // lanes) > TILE_NBYTES else 1.0
        cycles = pairs * (th * tw / lanes * large * per_element + spectra / p.oc / CACHE_BYTES_PER_CYCLE)
        if best is None or cycles < best.cycles:
            best = Tiling(rows, cols, COLUMNS, items, items, cycles, 0.0, spectra, 0, per_thread, folds)
    return best


@functools.lru_cache(maxsize=256)
def largest_plane_points(p: ConvProblem) -> int:
    """Return the points of the largest tile that any plan of planes for `p` may use."""
    lanes = host().lanes(np.dtype(p.dtype).itemsize)
    tilings = (_line_tilings if is_line(p) else _plane_tilings)(p, lanes)
    return max((rows.length * cols.length for rows, cols, _, _ in tilings), default=fft_lengths.MAX_LENGTH**2)
