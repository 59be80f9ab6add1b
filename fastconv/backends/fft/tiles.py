"""FFT convolution by generated tile transforms, many channels or many tiles at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, workspace_limit
from fastconv.backends.fft.accuracy import normwise_bound
from fastconv.backends.fft.geometry import AxisTiles
from fastconv.backends.fft.tiling import (
    Channels,
    Tiling,
    best_tiling,
    channels_of,
    element_nbytes,
    frequencies_kept,
    largest_points,
    phases_of,
    row_nbytes,
    spectrum_step,
)
from fastconv.errors import UnsupportedProblem
from fastconv.kernels import fft_fields as k
from fastconv.kernels import fft_lanes, fft_lengths
from fastconv.kernels.activations import NONE
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.fft_elements import element_functions
from fastconv.kernels.fft_product import product_functions
from fastconv.kernels.fft_stages import stages
from fastconv.kernels.target import host
from fastconv.kernels.threads import pool
from fastconv.machine import Machine
from fastconv.plans import Plan, address, element_strides
from fastconv.problem import ConvProblem
from fastconv.scratch import SCRATCH, aligned_empty

#: Largest spectra of the weights that a plan keeps if no limit is given.
SPECTRA_NBYTES = 256 * 2**20
#: Flops of a cycle at the peak: two FMAs of `lanes`.
FLOPS_PER_LANE_AND_CYCLE = 4
#: What a call does in Python, in calls into a kernel: tiles described, scratch memory taken. Least times of bench/regret.py --random.
PYTHON_CALLS = 10


class TilesFFT(Algorithm):
    """Overlap-save with generated tile transforms, channels summed by small complex matrix products.

    Stride and dilation are resolved into phases; a single tile may use zeros on both sides, or a circular border, as
    the period of the transform.
    """

    name = "fft:tiles"
    rounding = "normwise"
    accuracy = "standard"
    dtypes = ("float32", "float64")
    summary = "overlap-save with generated tile FFTs, vectors of channels or tiles: large kernels, many channels"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for other dtypes and for kernels larger than the tiles, else None."""
        if (reason := self.dtype_reason(problem)) is not None:
            return reason
        for axis, word in zip(phases_of(problem), ("height", "width"), strict=True):
            if axis.taps > fft_lengths.MAX_LENGTH:
                return f"it needs kernels of at most {fft_lengths.MAX_LENGTH} taps, got {axis.taps} along {word}"
        if _tiling(problem, None, 1) is None:
            return f"it needs spectra of the weights of at most {SPECTRA_NBYTES} bytes"
        return None

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return the modelled cycles, those for reading spectra included, as flops at the peak."""
        t = _tiling(problem, None, 1)
        if t is None:
            return Work(flops=math.inf, nbytes=math.inf)
        lanes = machine.target.lanes(np.dtype(problem.dtype).itemsize)
        per_cycle = FLOPS_PER_LANE_AND_CYCLE * lanes
        channels = channels_of(problem)
        _, _, weight_slots = channels.slots(t.place, lanes)
        points = t.rows.length * t.cols.length
        stages = fft_lengths.stage_cost(t.rows.length) + fft_lengths.stage_cost(t.cols.length)
        setup = weight_slots / 2 * points * (stages + 4) * 6.0 * per_cycle
        slots = max(channels.slots(t.place, lanes)[:2])
        return Work(
            flops=t.cycles * per_cycle, nbytes=float(problem.x_nbytes + problem.out_nbytes), calls=PYTHON_CALLS,
            setup_flops=setup, setup_nbytes=2.0 * t.spectra_nbytes, parallelism=max(1, t.items * slots // 2),
        )  # fmt: skip

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the spectra in work and the tiles of the threads; see `Algorithm.workspace_nbytes`."""
        t = _tiling(problem, max_workspace, threads)
        return None if t is None else booked_nbytes(problem, t, threads)

    def remark(self, problem: ConvProblem) -> str:
        """Return the tiles that a plan takes."""
        return str(_tiling(problem, None, 1))

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return the norm-wise bound for the largest tile."""
        return normwise_bound(problem, x, w, largest_points(problem))

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
        return TilesPlan(self.name, problem, w, bias, threads, t)


def _copies_nbytes(p: ConvProblem) -> int:
    """Bytes of the planar copies of a channels-last source and result."""
    return p.x_nbytes + p.out_nbytes if p.channels_last else 0


def booked_nbytes(p: ConvProblem, t: Tiling, threads: int) -> int:
    """Return the bytes of workspace of a plan."""
    return threads * t.thread_nbytes + t.shared_nbytes + _copies_nbytes(p) + SMALL_ARRAYS_NBYTES


def _tiling(p: ConvProblem, max_workspace: int | None, threads: int) -> Tiling | None:
    if max_workspace is None:
        return best_tiling(p, max(workspace_limit(p, None), 4 * BLOCK_ROOM), SPECTRA_NBYTES, threads)
    return best_tiling(p, max_workspace - _copies_nbytes(p) - SMALL_ARRAYS_NBYTES, max_workspace, threads)


#: Index tables and small arrays of a call.
SMALL_ARRAYS_NBYTES = 16 * 2**10
#: An FFT plan may state more than the default workspace: a tile for each of many threads.
BLOCK_ROOM = 16 * 2**20


def longest_runs(index: Array, length: int, step: int, count: int, distance: int) -> Array:
    """Return (begin, length, first source position, whether others exist) of the longest run in each tile.

    A run is a stretch of positions in which the source position grows by `distance`.
    """
    rows = []
    low = np.arange(count)[:, np.newaxis] * step
    for phase in index.reshape(-1, index.shape[-1]):
        part = phase[: (count - 1) * step + length]
        breaks = np.flatnonzero((np.diff(part) != distance) | (part[1:] < 0) | (part[:-1] < 0)) + 1
        starts, ends = np.concatenate([[0], breaks]), np.concatenate([breaks, [len(part)]])
        is_read = part[starts] >= 0
        starts, ends = starts[is_read], ends[is_read]
        if not len(starts):
            rows.append(np.zeros((count, 4), np.int64))
            continue
        sizes = np.minimum(ends, low + length) - np.maximum(starts, low)
        longest = sizes.argmax(axis=1)
        size = np.maximum(sizes[np.arange(count), longest], 0)
        begin = np.where(size > 0, np.maximum(starts[longest], low[:, 0]), low[:, 0])
        total = np.concatenate([[0], np.cumsum(part >= 0)])
        others = total[np.minimum(low[:, 0] + length, len(part))] - total[low[:, 0]] > size
        rows.append(np.stack([begin - low[:, 0], size, np.where(size > 0, part[begin], 0), others], axis=1))
    return np.concatenate(rows).astype(np.int64)


def column_pairs(tw: int) -> Array:
    """Return positions (of a column frequency, of its negative) for frequencies 0 .. tw/2."""
    where = np.argsort(fft_lengths.frequencies(tw))
    half = np.arange(tw // 2 + 1)
    return np.stack([where[half], where[-half % tw]], 1).astype(np.int64)


def negatives(th: int) -> Array:
    """Return for each position of a row frequency the offset in bytes of its negative."""
    order = fft_lengths.frequencies(th)
    offsets: Array = np.argsort(order)[-order % th] * element_nbytes()
    return offsets.astype(np.int64)


class TilesPlan(Plan):
    """Spectra of the weights and all tables for one shape."""

    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int, tiling: Tiling) -> None:
        p, t = problem, tiling
        th, tw = t.height, t.width
        scratch = t.thread_nbytes
        shared = t.shared_nbytes
        super().__init__(
            backend, p, threads=threads,
            workspace_nbytes=booked_nbytes(p, t, threads),
            packed_nbytes=t.spectra_nbytes + w.nbytes, description=str(t),
        )  # fmt: skip
        self._tiling, self._scratch_nbytes, self._shared_nbytes = t, scratch, shared
        self._w = np.require(w, requirements=("C", "A"))
        self._bias = np.zeros(p.oc, p.dtype) if bias is None else np.require(bias, requirements=("C", "A"))
        code, low, high = activation_code(p.activation)
        self._limits = np.array([low, high], p.dtype)
        self._channels = channels_of(p)
        self._functions = self._function_addresses()
        self._plans = (stages(th, p.dtype), stages(tw, p.dtype))
        self._twiddles = (fft_lengths.twiddles(th, p.dtype), fft_lengths.twiddles(tw, p.dtype))
        self._pairs, self._negative = column_pairs(tw), negatives(th)
        rows, cols = phases_of(p)
        self._index = (
            self._table(rows.index, t.rows).ravel(), (columns := self._table(cols.index, t.cols)).ravel(), p.row_index(), p.col_index(),
        )  # fmt: skip
        self._runs = longest_runs(columns, t.cols.length, t.cols.step, t.cols.count, cols.step)
        self._g = self._geometry(code)
        self._spectra, self._spectra_at = self._weight_spectra()

    def _function_addresses(self) -> Array:
        functions = element_functions(self.problem.dtype, are_planes=False)
        return functions if self._channels.is_depthwise else np.concatenate([functions, product_functions(self.problem.dtype)])

    def points(self) -> int:
        """Return the points of a tile."""
        return self._tiling.rows.length * self._tiling.cols.length

    def transforms(self) -> int:
        """Return how many complex transforms of a tile a call takes, forward and back."""
        t, lanes = self._tiling, int(self._g[k.LANES])
        unit = 1 if t.place == k.CHANNELS else lanes
        slots = -(-t.items // unit) * int(self._g[k.IN_SLOTS] + self._g[k.OUT_SLOTS])
        return slots * lanes // 2

    @staticmethod
    def _table(index: Array, tiles: AxisTiles) -> Array:
        """Return `index` as long as all tiles reach, padded with -1."""
        table = np.full((*index.shape[:2], (tiles.count - 1) * tiles.step + tiles.length), -1, np.int64)
        used = min(index.shape[2], table.shape[2])
        table[:, :, :used] = index[:, :, :used]
        return table

    def _geometry(self, code: int) -> Array:
        p, t, c = self.problem, self._tiling, self._channels
        rows, cols = phases_of(p)
        th, tw = t.height, t.width
        lanes = host().lanes(p.itemsize)
        in_slots, out_slots, weight_slots = c.slots(t.place, lanes)
        g = np.zeros(k.FIELDS, np.int64)
        g[[k.SIZE, k.LANES, k.ELEMENT, k.PLACE, k.TH, k.TW, k.Z_ROW]] = p.itemsize, lanes, element_nbytes(), t.place, th, tw, row_nbytes(tw)
        g[[k.N, k.IC, k.OC, k.GROUPS, k.ICG, k.OCG]] = p.mb, c.ic, c.oc, c.groups, c.ic_per_group, c.oc_per_group
        g[[k.IN_SLOTS, k.OUT_SLOTS, k.IS_DEPTHWISE, k.MULTIPLIER]] = in_slots, out_slots, c.is_depthwise, c.oc_per_group
        if c.is_depthwise:
            g[[k.GROUPS, k.ICG]] = 1, c.ic
        g[[k.PHH, k.PHW, k.SBH, k.SBW]] = rows.out_phases, cols.out_phases, rows.in_phases, cols.in_phases
        g[[k.TY, k.TX, k.STEP_H, k.STEP_W]] = t.rows.count, t.cols.count, t.rows.step, t.cols.step
        g[[k.ROWS_READ, k.COLUMNS_READ]] = t.rows.length, t.cols.length
        g[k.H_LENGTH] = (t.rows.count - 1) * t.rows.step + t.rows.length
        g[k.W_LENGTH] = (t.cols.count - 1) * t.cols.step + t.cols.length
        g[[k.OH, k.OW, k.COLUMN_STEP, k.PAIRS]] = p.oh, p.ow, cols.step, len(self._pairs)
        g[[k.U_STEP, k.SCRATCH, k.CODE]] = spectrum_step(weight_slots), self._scratch_nbytes, code
        g[k.IS_PLAIN] = code == NONE and not p.has_bias and not p.has_residual
        g[[k.KH, k.KW, k.SH, k.SW, k.DH, k.DW, k.SOURCE_ICG]] = p.kh, p.kw, p.sh, p.sw, p.dh, p.dw, p.ic // p.g
        return g

    def _weight_spectra(self) -> tuple[Array, int]:
        """Transform the weights as if they were one image of many channels, taps reversed modulo the tile."""
        p, t = self.problem, self._tiling
        lanes = int(self._g[k.LANES])
        th, tw = t.rows.length, t.cols.length
        planes = weight_planes(p, self._w, self._channels, t.place, lanes, 0.25 / (th * tw))
        slots, taps_h, taps_w = planes.shape[0] // lanes, *planes.shape[1:]
        g = self._g.copy()
        g[[k.PLACE, k.N, k.IC, k.GROUPS, k.ICG, k.IN_SLOTS]] = k.CHANNELS, 1, slots * lanes, 1, slots * lanes, slots
        g[[k.PHH, k.PHW, k.SBH, k.SBW, k.TY, k.TX, k.COLUMN_STEP, k.H_LENGTH, k.W_LENGTH]] = 1, 1, 1, 1, 1, 1, 1, th, tw
        index_h, index_w = np.full(th, -1, np.int64), np.full(tw, -1, np.int64)
        index_h[-np.arange(taps_h) % th] = np.arange(taps_h)
        index_w[-np.arange(taps_w) % tw] = np.arange(taps_w)
        runs = longest_runs(index_w[np.newaxis, np.newaxis], tw, 1, 1, 1)
        spectra, spectra_at = aligned_empty(t.spectra_nbytes)
        scratch, scratch_at = SCRATCH.take(self.threads * self._scratch_nbytes)
        v = self._view(scratch_at)
        v[[k.X, k.XN, k.XC, k.XH, k.XW, k.SPECTRA]] = address(planes), 0, taps_h * taps_w, taps_w, 1, spectra_at
        v[[k.INDEX_H, k.INDEX_W, k.RUNS]] = address(index_h), address(index_w), address(runs)
        ctl = pool.handle(self.threads)
        zero = np.dtype(p.dtype).type(0)
        fft_lanes.transform_slots(ctl, self.threads, address(self._functions), address(g), address(v), zero, 1, slots)
        SCRATCH.give(scratch)
        return spectra, spectra_at

    def _view(self, scratch_at: int) -> Array:
        v = np.zeros(k.VIEW_FIELDS, np.int64)
        v[[k.BIAS, k.LIMITS, k.WEIGHTS, k.TW_H, k.TW_W, k.SCRATCHES]] = (
            address(self._bias), address(self._limits), address(self._w), *map(address, self._twiddles), scratch_at,
        )  # fmt: skip
        tables = (*self._plans, self._pairs, self._negative, *self._index, self._runs)
        places = [k.PLAN_H, k.PLAN_W, k.COLUMN_PAIRS, k.NEGATIVE, k.INDEX_H, k.INDEX_W, k.ROWS_AT, k.COLS_AT, k.RUNS]
        v[places] = list(map(address, tables))
        return v

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:  # noqa: D102  see Plan
        p = self.problem
        target = out
        if p.channels_last:
            x = np.ascontiguousarray(x)
            target = np.empty(p.out_shape, p.dtype)
        start = self.threads * self._scratch_nbytes
        buffer, at = SCRATCH.take(start + self._shared_nbytes)
        v = self._view(at)
        v[[k.X, k.XN, k.XC, k.XH, k.XW]] = address(x), *element_strides(x)
        v[[k.Y, k.YN, k.YC, k.YH, k.YW]] = address(target), *element_strides(target)
        if residual is not None:
            v[[k.R, k.RN, k.RC, k.RH, k.RW]] = address(residual), *element_strides(residual)
        v[k.U], v[k.SPECTRA] = self._spectra_at, at + start
        v[k.PRODUCTS] = at + start + self._source_spectra_nbytes()
        self._run(v)
        SCRATCH.give(buffer)
        if target is not out:
            out[...] = target

    def _run(self, v: Array) -> None:
        t = self._tiling
        padding = np.dtype(self.problem.dtype).type(self.problem.padding_value)
        tables = pool.handle(self.threads), self.threads, address(self._functions), address(self._g), address(v)
        if self._channels.is_depthwise:
            fft_lanes.convolve_depthwise(*tables, padding, t.items)
        else:
            fft_lanes.convolve(*tables, padding, t.items, t.items_at_once)

    def _source_spectra_nbytes(self) -> int:
        """Bytes of V, before M in the shared workspace."""
        t = self._tiling
        unit = 1 if t.place == k.CHANNELS else int(self._g[k.LANES])
        vectors = -(-min(t.items_at_once, t.items) // unit)
        unit_nbytes = frequencies_kept(t.rows.length, t.cols.length) * spectrum_step(int(self._g[k.IN_SLOTS])) + element_nbytes()
        return vectors * unit_nbytes


def weight_planes(p: ConvProblem, w: Array, c: Channels, place: int, lanes: int, scale: float) -> Array:
    """Return the dense kernels, scaled, as planes (slots*lanes, taps, taps) in the order of the slots of the weights."""
    rows, cols = phases_of(p)
    sh, sw = _stride_of(p.sh, p.dh, p.kh), _stride_of(p.sw, p.dw, p.kw)
    dense = np.zeros((p.oc, p.ic // p.g, rows.taps * sh, cols.taps * sw), p.dtype)
    dense[:, :, : p.kh, : p.kw] = w.astype(np.float64) * scale
    dense = dense.reshape(p.oc, p.ic // p.g, rows.taps, sh, cols.taps, sw)[:, :, :, : rows.in_phases, :, : cols.in_phases]
    dense = dense.transpose(0, 1, 3, 5, 2, 4).reshape(c.groups, c.oc_per_group, c.ic_per_group, rows.taps, cols.taps)
    if c.is_depthwise:
        order = dense[:, :, 0].transpose(1, 0, 2, 3)  # job, channel
        if place == k.TILES:
            return np.ascontiguousarray(np.repeat(order[:, :, np.newaxis], lanes, axis=2)).reshape(-1, rows.taps, cols.taps)
        return _padded(order, 1, lanes).reshape(-1, rows.taps, cols.taps)
    if place == k.TILES:
        return _padded(dense, 2, lanes).reshape(-1, rows.taps, cols.taps)
    blocks = _padded(dense, 1, lanes)
    blocks = blocks.reshape(c.groups, -1, lanes, c.ic_per_group, rows.taps, cols.taps).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(blocks).reshape(-1, rows.taps, cols.taps)


def _stride_of(stride: int, dilation: int, taps: int) -> int:
    """Return the stride that is left when what it shares with the dilation is taken out."""
    return stride // (math.gcd(stride, dilation) if taps > 1 else stride)


def _padded(array: Array, axis: int, multiple: int) -> Array:
    """Return `array` with zeros appended along `axis` up to a multiple."""
    shape: list[Any] = list(array.shape)
    shape[axis] = -(-shape[axis] // multiple) * multiple
    out = np.zeros(shape, array.dtype)
    out[(slice(None),) * axis + (slice(array.shape[axis]),)] = array
    return out
