"""The plan behind direct:dense: packed weights, and tables for the strides of the arrays of a call."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from fastconv._typing import Array
from fastconv.kernels import dense, dense_fields
from fastconv.kernels.dense_cost import best_regions
from fastconv.kernels.dense_functions import functions
from fastconv.kernels.dense_geometry import Geometry, Region
from fastconv.kernels.dense_layout import DenseLayout, make_layout, pack_bias, pack_weights
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.threads import pool
from fastconv.plans import Plan, address, channels_last_copy, element_strides
from fastconv.problem import ConvProblem
from fastconv.scratch import SCRATCH

#: Tables kept by a plan, one set per set of strides of source, result and residual.
KEPT_TABLES = 8

Strides = tuple[int, ...]


def parts_of(problem: ConvProblem) -> int:
    """Return how many real numbers make an element."""
    return 2 if problem.is_complex else 1


def real_dtype(problem: ConvProblem) -> str:
    """Return the dtype of the arithmetic."""
    return {"complex64": "float32", "complex128": "float64"}.get(problem.dtype, problem.dtype)


@functools.lru_cache(maxsize=512)
def geometry_of(problem: ConvProblem) -> Geometry:
    """Return the numbers of `problem`, channels per group; of complex ones the parts count as channels."""
    p, parts = problem, parts_of(problem)
    return Geometry(
        p.mb, p.g, parts * p.ic // p.g, parts * p.oc // p.g, p.ih, p.iw, p.oh, p.ow, p.kh, p.kw, p.sh, p.sw, p.ph_lo, p.pw_lo,
        p.dh, p.dw, p.has_padding,
    )  # fmt: skip


@functools.lru_cache(maxsize=512)
def layout_of(
    problem: ConvProblem, threads: int, *, is_channels_last: bool, reads_rows: bool, is_flat: bool = True, has_row_gaps: bool = False,
    reads_channels: bool = False, design: bool | None = None, region: Region | None = None,
) -> DenseLayout:  # fmt: skip
    """Return the layout for one form of the arrays, see `fastconv.kernels.dense_layout.make_layout`."""
    parts = parts_of(problem)
    return make_layout(
        geometry_of(problem), problem.itemsize // parts, is_flat=is_flat, is_channels_last=is_channels_last, reads_rows=reads_rows,
        has_row_gaps=has_row_gaps, reads_channels=reads_channels, threads=threads,
        activation=activation_code(problem.activation)[0], parts=parts, design=design, region=region,
    )  # fmt: skip


def planned_layout(problem: ConvProblem, threads: int) -> DenseLayout:
    """Return the layout for contiguous arrays of the problem's own format: it decides on the design."""
    last = problem.channels_last
    return layout_of(problem, threads, is_channels_last=last, reads_rows=not last, reads_channels=last)


@functools.lru_cache(maxsize=512)
def regions_of(problem: ConvProblem) -> tuple[Region, ...]:
    """Return the rectangles of the result that leave out taps in the padding, none where it is computed whole."""
    p = problem
    if p.is_complex or p.channels_last or not p.pads_with_zeros:
        return ()
    return best_regions(geometry_of(p), p.itemsize, register_tile(p.itemsize))


@functools.lru_cache(maxsize=512)
def region_layouts(problem: ConvProblem, threads: int) -> tuple[DenseLayout, ...]:
    """Return the layout of each of `regions_of`."""
    return tuple(
        layout_of(problem, threads, is_channels_last=False, reads_rows=True, design=True, region=region) for region in regions_of(problem)
    )


def planned_layouts(problem: ConvProblem, threads: int, *, is_finite: bool = True) -> tuple[DenseLayout, ...]:
    """Return the layouts of the rectangles, or else the planned one of the whole; rectangles need weights that are all finite."""
    rectangles = region_layouts(problem, threads) if is_finite else ()
    return rectangles or (planned_layout(problem, threads),)


@functools.lru_cache(maxsize=512)
def scratch_nbytes(problem: ConvProblem, threads: int) -> int:
    """Return the bytes of scratch that one of `threads` threads takes at most, whatever the arrays' strides and the weights."""
    design = planned_layout(problem, threads).is_pixels
    layouts = [
        layout_of(problem, threads, is_channels_last=last, reads_rows=rows, is_flat=flat, design=design)
        for flat in (True, False)
        for rows in (True, False)
        for last in ((False,) if design else (True, False))
    ]
    return max(layout.workspace_nbytes_per_thread for layout in (*layouts, *region_layouts(problem, threads)))


@dataclass(frozen=True)
class _Tables:
    """What a call hands to the kernel beside its arrays; `arrays` keeps alive what `addresses` point to."""

    tasks: int
    scratch_nbytes: int
    addresses: Array
    arrays: tuple[Array, ...]


class DensePlan(Plan):
    """Weights packed for one design; tables for the strides of the arrays of a call.

    Complex numbers are pairs of real ones: ``[y_re, y_im] = [[w_re, -w_im], [w_im, w_re]] * [x_re, x_im]``, so a part of the
    result is one sum of twice the length.
    """

    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int) -> None:
        p = problem
        self._geometry, self._parts = geometry_of(p), parts_of(p)
        self._threads = threads
        real = real_dtype(p)
        _, low, high = activation_code(p.activation)
        pad = complex(p.padding_value)
        self._limits = np.array([low, high, pad.real, pad.imag], real)
        self._rows, self._columns = p.row_index(), p.col_index()
        # A weight that is not finite makes NaN of the zeros beyond the border.
        self._planned = planned_layouts(p, threads, is_finite=not regions_of(p) or bool(np.isfinite(w).all()))
        layout = self._planned[0]
        rectangles = f"{len(self._planned)} rectangles, " if layout.region is not None else ""
        self._is_pixels = layout.is_pixels
        self._functions = functions(real, is_pixels=layout.is_pixels)
        self._weights = pack_weights(layout, self._functions, real_weights(w) if p.is_complex else w)
        self._bias = pack_bias(layout, bias if bias is None or not p.is_complex else np.ascontiguousarray(bias).view(real), real)
        self._kept: dict[tuple[Strides, Strides, Strides | None], _Tables] = {}
        super().__init__(
            backend, p, threads=threads, workspace_nbytes=threads * scratch_nbytes(p, threads), packed_nbytes=self._weights.nbytes,
            description=f"{'re and im as channels, ' if p.is_complex else ''}{'pixels' if layout.is_pixels else 'channels'} in vectors, "
            f"{'read in place' if layout.in_place else 'strips'}, {rectangles}{sum(part.tasks for part in self._planned)} tasks",
        )  # fmt: skip

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; a temporary array only where neither the pixels nor the channels of `out` are neighbours."""
        key = (x.strides, out.strides, None if residual is None else residual.strides)
        tables = self._kept.get(key)
        if tables is None:
            strides = self._result_strides(out)
            if not self._can_store(strides):
                target = np.empty(out.shape, out.dtype)
                self.execute(x, residual, target)
                out[...] = target
                return
            added: Strides = (0, 0, 0, 0)
            if residual is not None:
                added = self._result_strides(residual)
                if not self._can_add(strides, added):
                    is_along_channels = self._stored_along(strides) == 1
                    self.execute(x, channels_last_copy(residual) if is_along_channels else residual.copy(), out)
                    return
            if len(self._kept) >= KEPT_TABLES:
                self._kept.clear()
            tables = self._kept[key] = self._tables(self._source_strides(x), strides, added)
        buffer, scratch = SCRATCH.take(tables.scratch_nbytes)
        dense.dense(
            pool.handle(self._threads), self._threads, tables.tasks, tables.addresses,
            address(x), address(out), 0 if residual is None else address(residual), scratch,
        )  # fmt: skip
        SCRATCH.give(buffer)

    def _can_store(self, strides: Strides) -> bool:
        return self._parts > 1 or strides[3] == 1 or (strides[1] == 1 and not self._is_pixels)

    def _can_add(self, strides: Strides, residual: Strides) -> bool:
        return self._parts > 1 or residual[self._stored_along(strides)] == 1

    def _stored_along(self, strides: Strides) -> int:
        """Return the axis along which the kernel stores, and reads the residual: that of the channels wherever they are neighbours."""
        return 1 if strides[1] == 1 and not self._is_pixels else 3

    def _tables(self, x: Strides, out: Strides, residual: Strides) -> _Tables:
        g = self._geometry
        is_flat = g.oh == 1 or all(s[2] == g.ow * s[3] for s in (out, residual))
        layouts = self._planned
        if layouts[0].region is None:
            layout = layout_of(
                self.problem, self._threads, is_channels_last=self._parts == 1 and out[3] != 1, reads_rows=x[3] == 1, is_flat=is_flat,
                has_row_gaps=x[2] != g.iw * x[3], reads_channels=self._parts == 1 and x[1] == 1 and x[3] > 0, design=self._is_pixels,
            )  # fmt: skip
            layouts = (layout,)
        view = np.array((*x, *out, *residual), np.int64)
        arrays: list[Array] = []
        for layout in layouts:
            row, column = (0, 0) if layout.region is None else (layout.region.source_row, layout.region.source_column)
            fields = layout.fields.copy()
            fields[dense_fields.SCRATCH] = max(int(part.fields[dense_fields.SCRATCH]) for part in layouts)
            arrays += (
                self._functions, fields, view, layout.offsets(x, g), layout.tiles, self._rows[row:], self._columns[column:], layout.slots,
                layout.steps, layout.panel_rows, self._weights, self._bias, self._limits,
            )  # fmt: skip
        nbytes = self._threads * max(layout.workspace_nbytes_per_thread for layout in layouts)
        addresses = np.array([address(array) for array in arrays], np.int64)
        return _Tables(sum(layout.tasks for layout in layouts), nbytes, addresses, tuple(arrays))

    def _source_strides(self, array: Array) -> Strides:
        """Return the strides in real elements, with those of axes of length 1 as they would be in a contiguous array."""
        sn, sc, sh, sw = element_strides(array)
        _, c, h, w = array.shape
        if w == 1:
            sw = 1
        if h == 1:
            sh = w * sw
        sc = 1 if c == 1 and sw != 1 else sc
        return (sn * self._parts, sc * self._parts, sh * self._parts, sw * self._parts)

    def _result_strides(self, array: Array) -> Strides:
        """Return the strides in real elements, with those of axes of length 1 as the kernel's tests for neighbours like them."""
        sn, sc, sh, sw = element_strides(array)
        _, c, h, w = array.shape
        if w == 1:
            sw = sh if h > 1 else 1
        if h == 1:
            sh = w * sw
        if c == 1 and sw != 1:
            sc = 1
        return (sn * self._parts, sc * self._parts, sh * self._parts, sw * self._parts)


def real_weights(w: Array) -> Array:
    """Return complex weights (OC, IC/G, KH, KW) as real ones (2*OC, 2*IC/G, KH, KW), the parts of a channel next to each other."""
    out = np.empty((w.shape[0], 2, w.shape[1], 2, *w.shape[2:]), w.real.dtype)
    out[:, 0, :, 0] = out[:, 1, :, 1] = w.real
    out[:, 1, :, 0] = w.imag
    # Not np.negative: NumPy 2.4's reads wrong elements where they are 16 bytes (float64: 64) apart and the result has gaps.
    np.multiply(w.imag, -1, out=out[:, 0, :, 1])
    return out.reshape(2 * w.shape[0], 2 * w.shape[1], *w.shape[2:])
