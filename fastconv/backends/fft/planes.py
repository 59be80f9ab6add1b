"""FFT convolution of single planes by generated tile transforms: images and depthwise layers of large planes."""

from __future__ import annotations

import functools
import math

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, workspace_limit
from fastconv.backends.fft.accuracy import normwise_bound
from fastconv.backends.fft.plane_tiling import best_plane_tiling, is_line, largest_plane_points, line_reason
from fastconv.backends.fft.tiles import (
    FLOPS_PER_LANE_AND_CYCLE,
    PYTHON_CALLS,
    SMALL_ARRAYS_NBYTES,
    SPECTRA_NBYTES,
    TilesPlan,
    booked_nbytes,
)
from fastconv.backends.fft.tiling import LAST_LEVEL_NBYTES, Tiling, channels_of, phases_of, row_nbytes
from fastconv.errors import UnsupportedProblem
from fastconv.kernels import fft_fields as k
from fastconv.kernels import fft_plane
from fastconv.kernels.fft_elements import element_functions
from fastconv.kernels.fft_lengths import MAX_LENGTH, frequencies
from fastconv.kernels.fft_stages import middle, taking_stage
from fastconv.kernels.threads import pool
from fastconv.machine import Machine
from fastconv.plans import Plan, address
from fastconv.problem import ConvProblem
from fastconv.scratch import SCRATCH, aligned_empty


class PlaneFFT(Algorithm):
    """Overlap-save with the halves of a tile in one complex transform, vectors along the columns."""

    name = "fft:plane"
    rounding = "normwise"
    accuracy = "standard"
    dtypes = ("float32", "float64")
    summary = "overlap-save with generated tile FFTs, one tile of a plane at a time: images, large depthwise planes"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason if channels or stride phases are summed, for other dtypes and for kernels larger than the tiles."""
        if (reason := self.dtype_reason(problem)) is not None:
            return reason
        if not channels_of(problem).is_depthwise:
            return (
                f"it needs one input channel per group and a stride that divides the dilation, got {problem.ic // problem.g} "
                f"channels and stride {(problem.sh, problem.sw)}"
            )
        if is_line(problem) and (reason := line_reason(problem)) is not None:
            return reason
        for axis, word in zip(phases_of(problem), ("height", "width"), strict=True):
            if not is_line(problem) and axis.taps > MAX_LENGTH:
                return f"it needs kernels of at most {MAX_LENGTH} taps, got {axis.taps} along {word}"
        if _tiling(problem, None, 1) is None:
            return f"it needs spectra of the weights of at most {SPECTRA_NBYTES} bytes"
        return None

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return the modelled cycles as flops at the peak."""
        t = _tiling(problem, None, 1)
        if t is None:
            return Work(flops=math.inf, nbytes=math.inf)
        lanes = machine.target.lanes(np.dtype(problem.dtype).itemsize)
        per_cycle = FLOPS_PER_LANE_AND_CYCLE * lanes
        tiles = problem.oc * t.items
        return Work(
            flops=t.cycles * per_cycle, nbytes=float(problem.x_nbytes + problem.out_nbytes), calls=PYTHON_CALLS,
            setup_flops=t.cycles / (2 * tiles) * problem.oc * per_cycle, setup_nbytes=2.0 * t.spectra_nbytes,
            parallelism=tiles * t.height // lanes,
        )  # fmt: skip

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the tiles of the threads; see `Algorithm.workspace_nbytes`."""
        t = _tiling(problem, max_workspace, threads)
        return None if t is None else booked_nbytes(problem, t, threads)

    def remark(self, problem: ConvProblem) -> str:
        """Return the tiles that a plan takes."""
        return str(_tiling(problem, None, 1))

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return the norm-wise bound for the largest tile."""
        return normwise_bound(problem, x, w, largest_plane_points(problem))

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Choose the tiles by the model and transform the weights."""
        t = _tiling(problem, max_workspace, threads)
        if t is None:
            raise UnsupportedProblem(
                f"backend {self.name!r} cannot compute {problem}: no tile fits into {workspace_limit(problem, max_workspace)} bytes "
                "of workspace. Increase max_workspace."
            )
        return PlanePlan(self.name, problem, w, bias, threads, t)


def _tiling(p: ConvProblem, max_workspace: int | None, threads: int) -> Tiling | None:
    if max_workspace is None:
        return best_plane_tiling(p, workspace_limit(p, None), SPECTRA_NBYTES, threads)
    copies = p.x_nbytes + p.out_nbytes if p.channels_last else 0
    return best_plane_tiling(p, max_workspace - copies - SMALL_ARRAYS_NBYTES - threads * 8192, max_workspace, threads)


@functools.lru_cache(maxsize=4)
def _twists(th: int, tw: int, lanes: int, dtype: str) -> Array:
    """Return the factors between columns and rows of a line's transform, as its kernel reads them.

    Cosines and sines of up to 262,144 points take longer than the transforms; kernels of one length have them in common.
    """
    angle = -2 * np.pi / (th * tw) * ((frequencies(th) - 0.25)[:, np.newaxis] * np.arange(tw)).reshape(-1, lanes, tw).swapaxes(1, 2)
    return np.stack([np.cos(angle), np.sin(angle)], 2).astype(dtype)


class PlanePlan(TilesPlan):
    """Spectra of the weights and all tables for one shape."""

    def _geometry(self, code: int) -> Array:
        g = super()._geometry(code)
        g[k.Z_ROW] = row_nbytes(int(g[k.TW] // g[k.LANES]))
        g[k.U_STEP] = 2 * g[k.SIZE] * g[k.TH] * g[k.TW]
        g[[k.PARTS, k.ITEMS]] = self._tiling.parts, self._tiling.items
        return g

    def _function_addresses(self) -> Array:
        return element_functions(self.problem.dtype, are_planes=True)

    def points(self) -> int:
        """Return the points of a transform, half of those of a tile."""
        return self._tiling.height * self._tiling.width

    def transforms(self) -> int:
        """Return how many complex transforms of half a tile a call takes, forward and back."""
        return 2 * self.problem.oc * self._tiling.items

    def _weight_spectra(self) -> tuple[Array, int]:
        """Transform the weights, taps reversed modulo the tile; what wraps around changes its sign."""
        p, t = self.problem, self._tiling
        th, tw = t.height, t.width
        points, lanes = th * tw, int(self._g[k.LANES])
        scaled = (self._w[:, 0].astype(np.float64) / points).astype(p.dtype)
        # Images that fit into the caches lose 3 to 5 percent by it; 2048x2048 takes 0.85 to 0.95 of the time.
        in_memory = p.x_nbytes + p.out_nbytes > LAST_LEVEL_NBYTES
        self._middle, self._taking = middle(tw, p.dtype), taking_stage(th, p.dtype, reads_ahead=in_memory)
        planes = np.zeros((p.oc, t.rows.length, t.cols.length), p.dtype)
        planes[:, (-np.arange(p.kh) % t.rows.length)[:, np.newaxis], -np.arange(p.kw) % t.cols.length] = scaled
        planes[:, 1:] *= -1
        if t.is_folded:
            planes[:, :, 1:] *= -1
        angle = -np.pi / (2 * th) * np.arange(th)
        self._roots = np.stack([np.cos(angle), np.sin(angle)], 1).astype(p.dtype)
        spectra, spectra_at = aligned_empty(t.spectra_nbytes)
        self._twists = 0
        if t.is_folded:
            self._twists = spectra_at + p.oc * 2 * points * p.itemsize
            place = spectra[self._twists - address(spectra) :][: 2 * points * p.itemsize].view(p.dtype).reshape(th // lanes, tw, 2, lanes)
            place[...] = _twists(th, tw, lanes, p.dtype)
        threads = self.threads if t.parts == 1 else 1
        scratch, scratch_at = SCRATCH.take(threads * self._scratch_nbytes + self._shared_nbytes)
        v = self._view(scratch_at)
        v[[k.X, k.SPECTRA, k.TAKING, k.TWISTS, k.ROOTS]] = address(planes), spectra_at, self._taking, self._twists, address(self._roots)
        tables = address(self._functions), address(self._g), address(v)
        fft_plane.transform_planes(pool.handle(threads), threads, *tables, p.oc)
        SCRATCH.give(scratch)
        return spectra, spectra_at

    def _run(self, v: Array) -> None:
        p = self.problem
        v[[k.MIDDLE, k.TAKING, k.TWISTS, k.ROOTS]] = self._middle, self._taking, self._twists, address(self._roots)
        padding = np.dtype(p.dtype).type(p.padding_value)
        tables = address(self._functions), address(self._g), address(v)
        fft_plane.convolve_planes(pool.handle(self.threads), self.threads, *tables, padding, p.oc * self._tiling.items)
