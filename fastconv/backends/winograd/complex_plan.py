"""Complex convolution through the real kernels: real and imaginary parts are channels.

    [re y]   [wr  -wi] [re x]
    [im y] = [wi   wr] [im x]

Twice the channels on both sides: four real products for each complex one, as in the definition.
"""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.backends.winograd.plan import WinogradPlan
from fastconv.backends.winograd.variants import Variant
from fastconv.errors import UnsupportedProblem
from fastconv.plans import Plan
from fastconv.problem import ConvProblem

_PART = {"complex64": "float32", "complex128": "float64"}


def real_problem(p: ConvProblem) -> ConvProblem:
    """Return the real problem behind a complex one; per group, all real parts come before all imaginary ones."""
    return p.replace(dtype=_PART[p.dtype], ic=2 * p.ic, oc=2 * p.oc, padding_value=0, channels_last=False)


def real_weights(p: ConvProblem, w: Array) -> Array:
    """Return the weights (2*OC, 2*IC/G, KH, KW) of `real_problem`."""
    outputs, channels = p.oc // p.g, p.ic // p.g
    grouped = w.reshape(p.g, outputs, channels, p.kh, p.kw)
    out = np.empty((p.g, 2, outputs, 2, channels, p.kh, p.kw), _PART[p.dtype])
    out[:, 0, :, 0] = out[:, 1, :, 1] = grouped.real
    out[:, 0, :, 1] = -grouped.imag
    out[:, 1, :, 0] = grouped.imag
    return out.reshape(2 * p.oc, 2 * channels, p.kh, p.kw)


def to_planes(array: Array, groups: int, part: str) -> Array:
    """Return a copy of a complex (N, C, H, W) array as real (N, 2*C, H, W)."""
    n, c, h, w = array.shape
    grouped = array.reshape(n, groups, c // groups, h, w)
    out = np.empty((n, groups, 2, c // groups, h, w), part)
    out[:, :, 0], out[:, :, 1] = grouped.real, grouped.imag
    return out.reshape(n, 2 * c, h, w)


def copies_nbytes(p: ConvProblem) -> int:
    """Return the bytes of the copies of a complex problem's arrays as real planes."""
    return p.x_nbytes + p.out_nbytes * (1 + p.has_residual)


class ComplexWinogradPlan(Plan):
    """A real plan between copies of the arrays as planes."""

    def __init__(self, variant: Variant, p: ConvProblem, w: Array, bias: Array | None, threads: int, limit: int) -> None:
        copies = copies_nbytes(p)
        if copies >= limit:
            raise UnsupportedProblem(
                f"backend {variant.name!r} cannot compute {p}: its copies as real planes take {copies} bytes of workspace, "
                f"max_workspace is {limit}."
            )
        parts = None if bias is None else np.stack([bias.real.reshape(p.g, -1), bias.imag.reshape(p.g, -1)], axis=1).reshape(-1)
        self._inner = WinogradPlan(variant, real_problem(p), real_weights(p, w), parts, threads, limit - copies)
        super().__init__(
            variant.name, p, threads=threads, workspace_nbytes=self._inner.workspace_nbytes + copies,
            packed_nbytes=self._inner.packed_nbytes, description=f"real and imaginary parts as channels, {self._inner.description}",
        )  # fmt: skip

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`."""
        p, part = self.problem, _PART[self.problem.dtype]
        planes = np.empty((p.mb, 2 * p.oc, p.oh, p.ow), part)
        other = None if residual is None else to_planes(residual, p.g, part)
        self._inner.execute(to_planes(x, p.g, part), other, planes)
        grouped = planes.reshape(p.mb, p.g, 2, p.oc // p.g, p.oh, p.ow)
        out.real = grouped[:, :, 0].reshape(out.shape)
        out.imag = grouped[:, :, 1].reshape(out.shape)
