"""im2col + GEMM: the input is unrolled tile by tile into a cache-sized matrix that BLAS multiplies with the weights."""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, summation_bound, workspace_limit
from fastconv.errors import UnsupportedProblem
from fastconv.kernels.epilogue import apply_epilogue
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import DTYPES, ConvProblem

#: Size that the unrolled tile aims at: it is written and read once while it stays in a core's L2 and L3 share.
TILE_NBYTES = 2 * 2**20
# What follows: measured with OpenBLAS on Zen 1 and Zen 5, see `python bench/regret.py --judge`.
#: Rows of weights and products per output from which on BLAS' register tile is mostly full and its start does not show.
GEMM_ROWS = 4
#: Bytes that one byte of the unrolled matrix costs: written through a strided view, and read.
UNROLL_TRAFFIC = 10.0
#: NumPy's work beside tile and product, in calls into a kernel: per tile, and where nothing is unrolled.
TILE_CALLS, POINTWISE_CALLS = 25, 6


class Im2col(Algorithm):
    """y[n, g] = W[g] @ cols, W of shape (OC/G, K), cols of shape (K, pixels of a tile), K = IC/G*KH*KW.

    A tile is a number of output rows. Its source rows are copied with their padding into a strip, of which
    ``cols`` is a copy of a strided view; the whole unrolled matrix (K times the image) never exists. A dense
    1x1 kernel with stride 1 multiplies the source itself.
    """

    name = "im2col"
    rounding = "elementwise"
    dtypes = tuple(name for name in DTYPES if name != "float16")
    summary = "cache-sized im2col tiles and BLAS GEMM (numpy.matmul); the yardstick for dense layers"
    needs_compiler = False

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for dtypes that it leaves to a conversion, else None."""
        return self.dtype_reason(problem)

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return GEMM flops at BLAS' measured rate, the bytes of strip and tile, and the NumPy calls per tile."""
        p = problem
        m, pixels = p.oc // p.g, p.mb * p.oh * p.ow
        tile_rows, strips = _tiling(p, TILE_NBYTES)
        tiles = p.mb * p.g * strips
        # Integers have no BLAS at all.
        blas = machine.blas(p.dtype) / machine.peak(p.dtype)
        efficiency = 0.02 if p.is_integer else blas * m / (m + GEMM_ROWS) * p.reduction / (p.reduction + GEMM_ROWS)
        unrolled = 0 if _is_pointwise(p) else p.g * p.reduction * pixels * p.itemsize
        return Work(
            flops=p.flops / efficiency,
            nbytes=p.x_nbytes + p.out_nbytes + UNROLL_TRAFFIC * unrolled,
            calls=POINTWISE_CALLS * p.mb * p.g if _is_pointwise(p) else TILE_CALLS * tiles,
            parallelism=1 if tile_rows * p.ow < 64 else 8,
        )

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the bytes of strip, unrolled tile and product; see `Algorithm.workspace_nbytes`."""
        del threads
        limit = workspace_limit(problem, max_workspace)
        if _is_pointwise(problem):
            return 0
        booked = _workspace(problem, _tiling(problem, min(TILE_NBYTES, limit))[0])
        return booked if booked <= limit else None

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return gamma_k * S elementwise: it holds for any order of summation."""
        return summation_bound(problem, x, w)

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Copy the weights as (G, OC/G, K). Threads inside the products are BLAS' own."""
        smallest = _workspace(problem, 1)
        limit = workspace_limit(problem, max_workspace)
        if smallest > limit and not _is_pointwise(problem):
            raise UnsupportedProblem(
                f"backend 'im2col' cannot compute {problem}: one row of tiles takes {smallest} bytes of workspace, "
                f"max_workspace is {limit}."
            )
        return _Im2colPlan(self.name, problem, w, bias, threads, limit)


def _is_pointwise(p: ConvProblem) -> bool:
    return p.kh == p.kw == p.sh == p.sw == 1 and not p.has_padding


def _strip_rows(p: ConvProblem, tile_rows: int) -> int:
    return (tile_rows - 1) * p.sh + p.dh * (p.kh - 1) + 1


def _workspace(p: ConvProblem, tile_rows: int) -> int:
    """Bytes of strip, unrolled tile and product for tiles of `tile_rows` output rows."""
    width = p.iw + p.pw_lo + p.pw_hi
    strip = p.ic // p.g * _strip_rows(p, tile_rows) * width
    return (strip + (p.reduction + p.oc // p.g) * tile_rows * p.ow) * p.itemsize


def _tiling(p: ConvProblem, nbytes: int) -> tuple[int, int]:
    """Return (output rows per tile, tiles per image) so that the workspace stays below `nbytes` if one row does."""
    rows = max(1, min(p.oh, nbytes // max(1, _workspace(p, 1))))
    while rows > 1 and _workspace(p, rows) > nbytes:
        rows -= 1
    strips = -(-p.oh // rows)
    return -(-p.oh // strips), strips


class _Im2colPlan(Plan):
    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int, limit: int) -> None:
        p = problem
        self._tile_rows, _ = _tiling(p, min(TILE_NBYTES, limit))
        booked = 0 if _is_pointwise(p) else _workspace(p, self._tile_rows)
        super().__init__(
            backend, p, threads=threads, workspace_nbytes=booked, packed_nbytes=w.nbytes,
            description="1x1: no unrolling" if booked == 0 else f"tiles of {self._tile_rows} rows",
        )  # fmt: skip
        self._w = np.require(w, requirements=("C", "A")).reshape(p.g, p.oc // p.g, p.reduction)
        self._bias = bias
        self._rows, self._cols = p.row_index(), p.col_index()

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        p = self.problem
        with np.errstate(all="ignore"):
            if _is_pointwise(p):
                self._multiply_pointwise(x, out)
            else:
                self._multiply_tiles(x, out)
            apply_epilogue(out, self._bias, residual, p.activation)

    def _multiply_pointwise(self, x: Array, out: Array) -> None:
        p = self.problem
        icg, ocg = p.ic // p.g, p.oc // p.g
        for n in range(p.mb):
            for g in range(p.g):
                # A view for contiguous and for channels-last planes, which BLAS reads as a transposed matrix.
                flat = x[n, g * icg : (g + 1) * icg].reshape(icg, p.ih * p.iw)
                target = out[n, g * ocg : (g + 1) * ocg]
                if target.flags.c_contiguous:
                    np.matmul(self._w[g], flat, out=target.reshape(ocg, p.oh * p.ow))
                else:
                    target[...] = np.matmul(self._w[g], flat).reshape(ocg, p.oh, p.ow)

    def _multiply_tiles(self, x: Array, out: Array) -> None:
        p = self.problem
        icg, ocg = p.ic // p.g, p.oc // p.g
        width = p.iw + p.pw_lo + p.pw_hi
        strip_buffer = np.empty((icg, _strip_rows(p, self._tile_rows), width), p.dtype)
        cols_buffer = np.empty(p.reduction * self._tile_rows * p.ow, p.dtype)
        for n in range(p.mb):
            for g in range(p.g):
                for first in range(0, p.oh, self._tile_rows):
                    rows = min(self._tile_rows, p.oh - first)
                    strip = strip_buffer[:, : _strip_rows(p, rows)]
                    self._fill_strip(strip, x[n, g * icg : (g + 1) * icg], first * p.sh)
                    cols = cols_buffer[: p.reduction * rows * p.ow].reshape(icg, p.kh, p.kw, rows, p.ow)
                    cols[...] = self._windows(strip, rows)
                    product = np.matmul(self._w[g], cols.reshape(p.reduction, rows * p.ow))
                    out[n, g * ocg : (g + 1) * ocg, first : first + rows] = product.reshape(ocg, rows, p.ow)

    def _fill_strip(self, strip: Array, planes: Array, top: int) -> None:
        """Copy the source rows below padded rows `top` onwards into `strip`, borders included."""
        p = self.problem
        rows = self._rows[top : top + strip.shape[1]]
        inside = slice(p.pw_lo, p.pw_lo + p.iw)
        start = int(rows[0])
        if start >= 0 and np.array_equal(rows, np.arange(start, start + len(rows))):
            strip[:, :, inside] = planes[:, start : start + len(rows)]
        else:
            strip[:, :, inside] = planes[:, np.maximum(rows, 0)]
        for border in (slice(0, p.pw_lo), slice(p.pw_lo + p.iw, None)):
            columns = self._cols[border]
            strip[:, :, border] = strip[:, :, p.pw_lo + np.maximum(columns, 0)]
            strip[:, :, border][:, :, columns < 0] = p.padding_value
        strip[:, rows < 0] = p.padding_value

    def _windows(self, strip: Array, rows: int) -> Array:
        """Return the (IC/G, KH, KW, rows, OW) view of `strip`: position (c, r, s, i, j) reads (c, i*sh + r*dh, j*sw + s*dw)."""
        p = self.problem
        c, h, w = strip.strides
        shape = (p.ic // p.g, p.kh, p.kw, rows, p.ow)
        return np.lib.stride_tricks.as_strided(strip, shape, (c, p.dh * h, p.dw * w, p.sh * h, p.sw * w), writeable=False)


ALGORITHMS: tuple[Algorithm, ...] = (Im2col(),)
