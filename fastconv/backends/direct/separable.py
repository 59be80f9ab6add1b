"""The plan of a separable kernel: two one-dimensional passes fused over strips of rows."""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.backends.direct.planar_plan import PlanarPlan
from fastconv.kernels.separable import factors, separable_run
from fastconv.kernels.threads import pool
from fastconv.plans import Plan, address
from fastconv.problem import ConvProblem
from fastconv.settings import get_config

#: Four weights each within `fastconv.kernels.separable.MOST_ROUNDINGS` of an outer product's, and the products' own roundings.
CORNER_ROUNDINGS = 32
#: Smaller kernels gain nothing from a second pass.
LEAST_TAPS = 25
#: Rows of the strip between the two passes take about this many bytes, so that they stay in the first-level cache.
STRIP_NBYTES = 16 * 2**10


class SeparablePlan(Plan):
    """y = v * (u * x): the vertical pass into a strip of scratch rows, the horizontal pass out of it."""

    def __init__(self, backend: str, problem: ConvProblem, parts: tuple[Array, Array], bias: Array | None, threads: int) -> None:
        p = problem
        u, v = parts
        first, second = passes(p)
        self._vertical = PlanarPlan(backend, first, np.ascontiguousarray(u[:, None, :, None]), None, 1)
        self._horizontal = PlanarPlan(backend, second, np.ascontiguousarray(v[:, None, None, :]), bias, 1)
        self._scratch_row = -(-p.iw * p.itemsize // 64) * 64
        least = max(self._vertical.layout.tile.r, self._horizontal.layout.tile.r)
        self._strips = max(1, min(p.oh // max(least, STRIP_NBYTES // self._scratch_row), p.oh // least))
        self._most_rows = -(-p.oh // self._strips)
        super().__init__(
            backend, p, threads=threads, workspace_nbytes=threads * self._most_rows * self._scratch_row,
            packed_nbytes=u.nbytes + v.nbytes, description="separable kernel: a vertical and a horizontal pass",
        )  # fmt: skip

    @property
    def is_in_place(self) -> bool:
        """Whether both passes read their source where it lies, which the driver needs."""
        return self._vertical.layout.is_in_place and self._horizontal.layout.is_in_place

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; sources, residuals and results without contiguous rows are copied."""
        p, item = self.problem, self.problem.itemsize
        if x.strides[3] != item and p.iw > 1:
            x = np.ascontiguousarray(x)
        if residual is not None and residual.strides[3] != item:
            residual = np.ascontiguousarray(residual)
        target = out if out.strides[3] == item or p.ow == 1 else np.empty(p.out_shape, p.dtype)
        added = target if residual is None else residual
        strip = (0, 0, self._scratch_row, item)
        # Each comes with its row table, which must live as long as the call.
        vertical = self._vertical.geometry(x.strides, strip, strip)
        horizontal = self._horizontal.geometry(strip, target.strides, added.strides)
        separable_run(
            pool.handle(self.threads), self.threads, p.mb, vertical[0], horizontal[0], self._strips, p.oc, self._scratch_row,
            self._most_rows, address(x), self._vertical.weights_address, self._horizontal.weights_address, address(target),
            self._horizontal.bias_address, address(added),
        )  # fmt: skip
        if target is not out:
            out[...] = target


def passes(problem: ConvProblem) -> tuple[ConvProblem, ConvProblem]:
    """Return the problems of the vertical and of the horizontal pass."""
    p = problem
    first = p.replace(kw=1, pw_lo=0, pw_hi=0, sw=1, dw=1, has_bias=False, has_residual=False, activation=None)
    second = p.replace(kh=1, ih=p.oh, ph_lo=0, ph_hi=0, sh=1, dh=1)
    return first, second


def _corners_have_rank_1(kernel: Array, roundoff: float) -> bool:
    """Tell whether the determinant of the four corners is 0 as nearly as it is wherever `factors` takes a kernel apart."""
    (a, b), (c, d) = kernel[:: kernel.shape[0] - 1, :: kernel.shape[1] - 1].tolist()
    return not abs(a * d - b * c) > CORNER_ROUNDINGS * roundoff * abs(a * d)


def separable_plan(backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int) -> SeparablePlan | None:
    """Return the two-pass plan if the kernels have rank 1 within rounding and it pays, else None."""
    p = problem
    is_plane_by_plane = p.ic == p.g == p.oc and p.pads_with_zeros and p.sw == 1 and np.dtype(p.dtype).kind == "f"
    if not is_plane_by_plane or p.kh * p.kw < LEAST_TAPS or min(p.kh, p.kw) == 1 or get_config().separable == "off":
        return None
    u = float(np.finfo(p.dtype).eps) / 2
    # Its corners tell of most kernels that they are not separable.
    parts = factors(w[:, 0], u) if _corners_have_rank_1(w[0, 0], u) else None
    if parts is None:
        return None
    plan = SeparablePlan(backend, p, parts, bias, threads)
    return plan if plan.is_in_place else None
