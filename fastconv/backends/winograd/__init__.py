"""Winograd convolution: small tiles with fewer multiplications, rounded a few times more than plain summation."""

from __future__ import annotations

import numpy as np

from fastconv._typing import Accuracy, Array
from fastconv.backends.base import Algorithm, Work, workspace_limit
from fastconv.backends.winograd.bound import tile_bound
from fastconv.backends.winograd.complex_plan import ComplexWinogradPlan, copies_nbytes, real_problem, real_weights, to_planes
from fastconv.backends.winograd.layout import Layout
from fastconv.backends.winograd.plan import WinogradPlan
from fastconv.backends.winograd.variants import VARIANTS, Variant
from fastconv.kernels.points import Bilinear, Matrix
from fastconv.kernels.winograd_products import SUM_CHANNELS, tile_heights
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import ConvProblem

# By ``python bench/fit_model.py winograd PRODUCT_EFFICIENCY,TILE_CYCLES,FLOPS_PER_INSTRUCTION`` over all layers and random problems on
# Zen 5, AVX-512: 1.08, 18, 2.98 (predicted / measured 0.90 to 1.09); rounded, with the first kept below the peak.
#: Share of the FMA peak that the products reach inside a register tile.
PRODUCT_EFFICIENCY = 0.97
#: Cycles of a register tile of a product beside its multiply-adds: sums begun and stored, addresses.
TILE_CYCLES = 20.0
#: Flops at the FMA peak that pass in the time of one vector instruction of a transform, per lane, loads and stores
#: included: 0.7 cycles where the peak is two multiply-adds a cycle.
FLOPS_PER_INSTRUCTION = 2.8
#: Share of U that blocks after the first wait for, which find it in the last-level cache or on its way there. Measured:
#: bench/winograd_layers.py.
READ_AGAIN_SHARE = 0.15
#: Flops of products for which another thread is worth its while. Picked from 1, 2, 4 and 8 million by the problems that lose in
#: ``python bench/regret.py --random 60 --seed 11 --threads 2`` and seed 21; 1 million is about as good.
PIECE_FLOPS = 4e6
#: What a call does in Python, in calls into a kernel: the arrays described, the geometry handed over.
PYTHON_CALLS = 4


def _terms(matrix: Matrix) -> int:
    """Return the instructions of a transform by `matrix`, about half its terms because signs are paired."""
    return sum(1 for row in matrix for v in row if v) // 2 + len(matrix)


def _transform_instructions(along_h: Bilinear, along_w: Bilinear) -> tuple[float, float]:
    """Return vector instructions per tile of the data and of the output transform, with loads, stores and packing."""
    columns = along_w.m  # the columns of B^T x are shared by neighbouring tiles
    data = columns * (_terms(along_h.bt) + along_h.span + 3 * along_h.alpha) + along_h.alpha * (
        _terms(along_w.bt) + along_w.span + 2 * along_w.alpha
    )
    output = along_h.alpha * (_terms(along_w.at) + 2 * along_w.alpha + along_w.m) + along_w.m * (
        _terms(along_h.at) + along_h.alpha + 6 * along_h.m
    )
    return float(data), float(output)


class Winograd(Algorithm):
    """y = A^T [ sum over c of (G w G^T) o (B^T x B) ] A on tiles of m x m outputs, alpha^2 products for each."""

    rounding = "tilewise"
    dtypes = ("float32", "float64", "complex64", "complex128")

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.name = variant.name  # type: ignore[misc]
        self.accuracy = variant.accuracy  # type: ignore[misc]
        (m_h, m_w), (r_h, r_w) = variant.m, variant.r
        stride = "" if variant.stride == 1 else f", stride {variant.stride}"
        self.summary = f"Winograd F({m_h}x{m_w}, {r_h}x{r_w}){stride}: {self._saving():.2f} times fewer multiplications"  # type: ignore[misc]

    def _saving(self) -> float:
        (m_h, m_w), (r_h, r_w) = self.variant.m, self.variant.r
        return m_h * m_w * r_h * r_w / self.variant.xis

    def accuracy_for(self, problem: ConvProblem) -> Accuracy:
        """Return the mode that allows it for as many channels: errors of long sums, which are split, are smaller."""
        return self.variant.accuracy_for(problem.ic // problem.g * (1 + problem.is_complex))

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for other kernels, strides and dtypes, else None."""
        p, v = problem, self.variant
        if (p.kh, p.kw) != v.r or (p.sh, p.sw) != (v.stride, v.stride):
            return f"it needs a {v.r[0]}x{v.r[1]} kernel and stride {v.stride}, got {p.kh}x{p.kw} and {(p.sh, p.sw)}"
        if v.stride > 1 and (p.dh, p.dw) != (1, 1):
            return f"it needs dilation 1, got ({p.dh}, {p.dw})"
        if p.is_complex and p.padding_value != 0:
            return f"it needs a padding value of 0 for complex dtypes, got {p.padding_value}"
        return self.dtype_reason(problem)

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return products and transforms in flops, overhanging tiles and empty lanes included, and the traffic of x, y, U."""
        p = real_problem(problem) if problem.is_complex else problem
        layout = Layout(p, self.variant, 1, workspace_limit(p, None))
        data, output = _transform_instructions(layout.along_h, layout.along_w)
        lanes = machine.target.lanes(p.itemsize)
        tiles, outputs = layout.tiles, layout.panels * layout.tile.columns
        heights = tile_heights(layout.tile)
        unit = heights[1] - heights[0] if len(heights) > 1 else heights[0]
        waste = max(-(-layout.block_tiles // unit) * unit, heights[0]) / max(layout.block_tiles, 1)
        products = 2.0 * p.g * self.variant.xis * tiles * layout.channels * outputs
        transforms = FLOPS_PER_INSTRUCTION * p.g * tiles * (data * layout.ldv + output * -(-layout.outputs // lanes) * lanes)
        strips = (tiles / max(1, layout.block_tiles)) * -(-layout.block_tiles // heights[-1])
        sums = p.g * self.variant.xis * strips * layout.panels * -(-layout.channels // SUM_CHANNELS)
        u_nbytes = float(p.g * self.variant.xis * layout.channels * outputs * p.itemsize)
        blocks = max(1.0, tiles / max(1, layout.block_tiles))
        # At the rate of U, which is larger than source, weights and result and read more slowly.
        rates = machine.bandwidth_within(problem.x_nbytes + problem.w_nbytes + problem.out_nbytes) / machine.bandwidth_within(u_nbytes)
        again = READ_AGAIN_SHARE * u_nbytes * (blocks - 1) * rates
        copies = 2.0 * (problem.x_nbytes + problem.out_nbytes) if problem.is_complex else 0.0
        return Work(
            flops=products * waste / PRODUCT_EFFICIENCY + sums * TILE_CYCLES * 4.0 * lanes + transforms,
            nbytes=p.x_nbytes + p.out_nbytes + again + copies,
            streamed_nbytes=u_nbytes,
            calls=PYTHON_CALLS,
            setup_flops=FLOPS_PER_INSTRUCTION * p.g * layout.channels * outputs * 4 * self.variant.xis,
            setup_nbytes=p.w_nbytes + 3 * u_nbytes,
            parallelism=max(1, min(p.g * max(layout.panels, layout.all_bands), int(products / PIECE_FLOPS))),
        )

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the scratch of the blocks, and the planes of a complex problem; see `Algorithm.workspace_nbytes`."""
        limit = workspace_limit(problem, max_workspace)
        copies = copies_nbytes(problem) if problem.is_complex else 0
        p = real_problem(problem) if problem.is_complex else problem
        nbytes = copies + Layout(p, self.variant, threads, limit - copies).nbytes
        return nbytes if nbytes <= limit else None

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return the bound of `fastconv.backends.winograd.bound`; of a complex problem, that of both parts together."""
        p = problem
        if not p.mb:
            return np.zeros(p.out_shape)
        if not p.is_complex:
            return tile_bound(self.variant, p, x, w)
        real = real_problem(p)
        parts = tile_bound(self.variant, real, to_planes(x, p.g, real.dtype), real_weights(p, w))
        grouped = parts.reshape(p.mb, p.g, 2, p.oc // p.g, p.oh, p.ow)
        bound: Array = np.hypot(grouped[:, :, 0], grouped[:, :, 1]).reshape(p.out_shape)
        return bound

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Transform the weights into U and choose blocks that fit the workspace."""
        kind = ComplexWinogradPlan if problem.is_complex else WinogradPlan
        return kind(self.variant, problem, w, bias, threads, workspace_limit(problem, max_workspace))


ALGORITHMS: tuple[Algorithm, ...] = tuple(Winograd(variant) for variant in VARIANTS)
