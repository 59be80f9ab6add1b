"""Winograd convolution: small tiles with fewer multiplications, exact in the points, rounded a few times more."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from fastconv._typing import Accuracy, Array
from fastconv.backends.base import Algorithm, Work, gamma, pad, unit_roundoff, workspace_limit
from fastconv.errors import UnsupportedProblem
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.gemm import register_tile
from fastconv.kernels.points import Bilinear, Matrix, algorithm
from fastconv.kernels.target import host
from fastconv.kernels.threads import pool
from fastconv.kernels.winograd import GEOMETRY, convolve
from fastconv.kernels.winograd_products import height_table, tile_heights
from fastconv.kernels.winograd_transforms import transforms
from fastconv.kernels.winograd_weights import transform_weights
from fastconv.machine import Machine
from fastconv.plans import Plan, address, element_strides, row_contiguous
from fastconv.problem import ConvProblem

#: Tiles of a block: the rows of each product. Enough to read a panel of weights from L3 behind the arithmetic.
BLOCK_TILES = 48
#: Bytes of one panel of weights that a pass over the tiles keeps in L1.
PANEL_NBYTES = 16 * 2**10
#: Panels of output channels whose products are held at once.
PANELS_AT_ONCE = 4


@dataclass(frozen=True)
class Variant:
    """One F(m_h x m_w, r_h x r_w) and the strides it is for."""

    name: str
    m: tuple[int, int]
    r: tuple[int, int]
    stride: int = 1
    accuracy: Accuracy = "standard"

    @property
    def axes(self) -> tuple[Bilinear, Bilinear]:
        """The algorithms along height and width."""
        return tuple(algorithm(m, r, self._axis_stride(r)) for m, r in zip(self.m, self.r, strict=True))  # type: ignore[return-value]

    def _axis_stride(self, r: int) -> int:
        return self.stride if r > 1 else 1

    @property
    def key(self) -> tuple[int, int, int, int, int, int]:
        """What `fastconv.kernels.winograd_transforms.transforms` takes."""
        (m_h, m_w), (r_h, r_w) = self.m, self.r
        return m_h, r_h, self._axis_stride(r_h), m_w, r_w, self._axis_stride(r_w)


class Layout:
    """How one problem is cut into blocks, and what scratch memory a block takes; nothing here depends on values."""

    def __init__(self, problem: ConvProblem, variant: Variant, threads: int, limit: int) -> None:
        p, (along_h, along_w) = problem, variant.axes
        self.itemsize = p.itemsize
        self.lanes = host().lanes(self.itemsize)
        self.tile = register_tile(self.itemsize)
        self.along_h, self.along_w = along_h, along_w
        self.channels, self.outputs = p.ic // p.g, p.oc // p.g
        self.dh, self.dw, self.sh, self.sw = p.dh, p.dw, p.sh, p.sw
        self.bands = -(-p.oh // (p.dh * along_h.m))
        self.columns = -(-p.ow // (p.dw * along_w.m))
        self.panels = -(-self.outputs // self.tile.columns)
        self.all_bands = p.mb * self.bands
        self._cut(p, threads, limit)

    def _cut(self, p: ConvProblem, threads: int, limit: int) -> None:
        """Choose the numbers of pieces and who shares what."""
        tiles_of_column = self.dh * self.dw
        per_band = tiles_of_column * self.columns
        column_blocks = max(1, round(per_band / BLOCK_TILES)) if per_band > BLOCK_TILES else 1
        column_blocks = min(column_blocks, self.columns)
        band_blocks = max(1, round(self.all_bands * per_band / column_blocks / BLOCK_TILES))
        band_blocks = min(band_blocks, max(self.all_bands, 1))
        self.shares_blocks = p.g * band_blocks * column_blocks < threads or self.panels >= 8 and threads > 1
        if not self.shares_blocks and threads > 1:
            band_blocks = min(self.all_bands, -(-band_blocks // threads) * threads)
        while True:
            self._measure(band_blocks, column_blocks, threads)
            if self.scratch_size * self.itemsize <= limit or (band_blocks >= self.all_bands and column_blocks >= self.columns):
                return
            if band_blocks < self.all_bands:
                band_blocks = min(self.all_bands, band_blocks * 2)
            else:
                column_blocks = min(self.columns, column_blocks * 2)

    def _measure(self, band_blocks: int, column_blocks: int, threads: int) -> None:
        """Compute strides and sizes, in elements, for blocks of this many pieces."""
        line = 64 // self.itemsize
        bands, columns = -(-self.all_bands // band_blocks), -(-self.columns // column_blocks)

        def step(elements: int) -> int:
            """A stride that is a whole, odd number of lines, so that planes do not fall on the same cache sets."""
            return (-(-elements // line) | 1) * line

        tiles = bands * self.dh * self.dw * columns + tile_heights(self.tile)[0]
        xis = self.along_h.alpha * self.along_w.alpha
        self.band_blocks, self.column_blocks = band_blocks, column_blocks
        self.ldv = -(-self.channels // self.lanes) * self.lanes
        self.v_step, self.m_step = step(tiles * self.ldv), step(tiles * self.tile.columns)
        self.panels_at_once = min(PANELS_AT_ONCE, self.panels)
        cols = self.dw * ((columns - 1) * self.along_w.m * self.sw + self.along_w.span)
        run = min(bands, self.bands)
        rows = self.dh * ((run - 1) * self.along_h.m * self.sh + self.along_h.span)
        self.row_step = step(cols * self.lanes)
        self.out_step = self.dw * columns * self.along_w.m * self.lanes
        slack = self.lanes * self.lanes
        self.half_at = step(rows * self.row_step + slack)
        self.m_at = step(self.half_at + self.along_h.alpha * self.row_step)
        self.out_at = step(self.m_at + self.panels_at_once * xis * self.m_step)
        self.check_at = step(self.out_at + self.dh * self.along_h.m * self.out_step + slack)
        self.private_size = step(self.check_at + self.lanes + slack)
        self.v_size = step(xis * self.v_step)
        self.panels_per_task = max(1, min(self.panels_at_once, -(-self.panels // threads)))
        self.channels_per_task = self.lanes * max(1, self.channels // self.lanes // (4 * threads))
        self.scratch_size = (1 if self.shares_blocks else threads) * self.v_size + threads * self.private_size + line


def _extended(index: Array, length: int) -> Array:
    """Return `index` with -1, the padding value, for positions behind its end."""
    out = np.full(max(length, len(index)), -1, np.int64)
    out[: len(index)] = index
    return out


class _WinogradPlan(Plan):
    def __init__(self, variant: Variant, p: ConvProblem, w: Array, bias: Array | None, threads: int, limit: int) -> None:
        layout = Layout(p, variant, threads, limit)
        nbytes = layout.scratch_size * p.itemsize
        if nbytes > limit:
            raise UnsupportedProblem(
                f"backend {variant.name!r} cannot compute {p}: its smallest block takes {nbytes} bytes of workspace, max_workspace is {limit}."
            )
        along_h, along_w = variant.axes
        xis = along_h.alpha * along_w.alpha
        dtype, nr = np.dtype(p.dtype), layout.tile.columns
        self._like = np.zeros(1, dtype)
        self._w = np.ascontiguousarray(w).copy() if np.may_share_memory(w, np.ascontiguousarray(w)) else np.ascontiguousarray(w)
        u_buffer = np.empty(p.g * xis * layout.panels * layout.channels * nr + 64 // p.itemsize, dtype)
        start = -(address(u_buffer) // p.itemsize) % (64 // p.itemsize)
        self._u = u_buffer[start:]
        self._bias = np.zeros((p.g, layout.panels * nr), dtype)
        if bias is not None:
            self._bias[:, : layout.outputs] = bias.reshape(p.g, layout.outputs)
        code, low, high = activation_code(p.activation)
        self._limits = np.array([low, high], dtype)
        self._fill = np.array([p.padding_value], dtype)
        rows = (layout.bands * p.dh * along_h.m - 1) * p.sh + p.dh * along_h.span + 1
        cols = (layout.columns * p.dw * along_w.m - 1) * p.sw + p.dw * along_w.span + 1
        self._indices = (_extended(p.row_index(), rows), _extended(p.col_index(), cols))
        self._heights = np.array(height_table(layout.tile), np.int64)
        functions = transforms(p.dtype, *variant.key)
        self._scratch_size = layout.scratch_size
        super().__init__(
            variant.name, p, threads=threads, workspace_nbytes=nbytes, packed_nbytes=self._u.nbytes + self._w.nbytes,
            description=f"{layout.band_blocks} x {layout.column_blocks} blocks, "
            f"{'panels' if layout.shares_blocks else 'blocks'} over {threads} threads",
        )  # fmt: skip
        values = {
            "images": p.mb, "groups": p.g, "channels": layout.channels, "outputs": layout.outputs, "width": p.iw,
            "kh": p.kh, "kw": p.kw, "oh": p.oh, "ow": p.ow, "sh": p.sh, "sw": p.sw, "dh": p.dh, "dw": p.dw, "pw_lo": p.pw_lo,
            "m_h": along_h.m, "m_w": along_w.m, "span_h": along_h.span, "span_w": along_w.span,
            "alpha_h": along_h.alpha, "alpha_w": along_w.alpha,
            "data_columns": functions.data_columns, "data_rows": functions.data_rows, "output": functions.output,
            "bands": layout.bands, "columns": layout.columns, "band_blocks": layout.band_blocks, "column_blocks": layout.column_blocks,
            "lanes": layout.lanes, "nr": nr, "rows": layout.tile.rows, "panels": layout.panels,
            "panels_at_once": layout.panels_at_once, "depth": PANEL_NBYTES // (nr * p.itemsize),
            "shares_blocks": layout.shares_blocks, "panels_per_task": layout.panels_per_task,
            "channels_per_task": layout.channels_per_task,
            "ldv": layout.ldv, "v_step": layout.v_step, "m_step": layout.m_step, "row_step": layout.row_step,
            "half_step": layout.row_step, "out_step": layout.out_step,
            "v_size": layout.v_size, "private_size": layout.private_size, "half_at": layout.half_at, "m_at": layout.m_at,
            "out_at": layout.out_at, "check_at": layout.check_at,
            "weights": address(self._w), "u": address(self._u), "bias": address(self._bias), "fill": address(self._fill),
            "limits": address(self._limits), "code": code,
        }  # fmt: skip
        self._geometry = np.array([tuple(int(values[name]) for name in GEOMETRY.names or ())], GEOMETRY)
        transform_weights(
            pool.handle(threads), threads, self._like, functions.weights, address(self._w), address(self._u),
            p.g, xis, layout.outputs, layout.channels, p.kh * p.kw, nr, layout.lanes,
        )  # fmt: skip

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        x = row_contiguous(x)
        target = out if _has_unit_stride(out) else np.empty(out.shape, out.dtype)
        other = residual
        if residual is not None and _pixel_stride(residual) != 1 and (_pixel_stride(target) == 1 or residual.strides[1] != residual.itemsize):
            other = np.ascontiguousarray(residual)
        if residual is not None and _pixel_stride(target) != 1:
            other = np.ascontiguousarray(residual.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        convolve(
            pool.handle(self.threads), self.threads, self._like, self._geometry, self._indices, self._heights,
            _described(x), _described(target), (0, 0, 0, 0, 0) if other is None else _described(other), self._scratch_size,
        )  # fmt: skip
        if target is not out:
            out[...] = target


def _pixel_stride(array: Array) -> int:
    """Return the distance of neighbouring columns in elements; 1 if there are none."""
    return 1 if array.shape[3] == 1 else array.strides[3] // array.itemsize


def _has_unit_stride(array: Array) -> bool:
    return _pixel_stride(array) == 1 or array.shape[1] == 1 or array.strides[1] == array.itemsize


def _described(array: Array) -> tuple[int, int, int, int, int]:
    """Return (address, sn, sc, sh, sw), strides in elements."""
    n, c, h, _ = element_strides(array)
    return address(array), n, c, h, _pixel_stride(array)


class Winograd(Algorithm):
    """y = A^T [ sum_c (G w G^T) o (B^T x B) ] A on tiles of m x m outputs."""

    rounding = "tilewise"
    dtypes = ("float32", "float64")

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.name = variant.name
        self.accuracy = variant.accuracy
        (m_h, m_w), (r_h, r_w) = variant.m, variant.r
        self.summary = f"F({m_h}x{m_w}, {r_h}x{r_w}), stride {variant.stride}"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for other kernels, strides and dtypes, else None."""
        p, v = problem, self.variant
        strides = tuple(v.stride if r > 1 else s for r, s in zip(v.r, (p.sh, p.sw), strict=True))
        if (p.kh, p.kw) != v.r or (p.sh, p.sw) != strides:
            wanted = " and ".join((f"a {v.r[0]}x{v.r[1]} kernel", f"stride {v.stride}"))
            return f"it needs {wanted}, got {p.kh}x{p.kw} and ({p.sh}, {p.sw})"
        return self.dtype_reason(problem)

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return products and transforms in flops, and the traffic of U, V and M."""
        return Work(flops=problem.flops, nbytes=problem.x_nbytes + problem.out_nbytes)

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return the bound."""
        raise NotImplementedError

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Transform the weights."""
        return _WinogradPlan(self.variant, problem, w, bias, threads, workspace_limit(problem, max_workspace))


VARIANTS = (
    Variant("winograd:f4x3", (4, 4), (3, 3)),
    Variant("winograd:f6x3", (6, 6), (3, 3), accuracy="fast"),
    Variant("winograd:f2x3", (2, 2), (3, 3)),
    Variant("winograd:f4x5", (4, 4), (5, 5), accuracy="fast"),
    Variant("winograd:f2x5", (2, 2), (5, 5)),
    Variant("winograd:f4x3s2", (4, 4), (3, 3), stride=2),
    Variant("winograd:f2x3s2", (2, 2), (3, 3), stride=2),
    *(Variant(f"winograd:f{m}x1x{r}", (1, m), (1, r)) for m, r in ((4, 3), (2, 5), (4, 5), (2, 7), (4, 7))),
    *(Variant(f"winograd:f{m}x{r}x1", (m, 1), (r, 1)) for m, r in ((4, 3), (2, 5), (4, 5), (2, 7), (4, 7))),
)

ALGORITHMS: tuple[Algorithm, ...] = tuple(Winograd(variant) for variant in VARIANTS)
