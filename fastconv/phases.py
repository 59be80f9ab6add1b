"""The adjoint of a convolution with respect to its input, gathered by output phase: a dense convolution for each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv import planner
from fastconv._typing import Array
from fastconv.plan_cache import PlanCache
from fastconv.plans import Plan
from fastconv.problem import ConvProblem
from fastconv.settings import Config, get_config


@dataclass(frozen=True)
class Phase:
    """Every s-th output of a transposed convolution along one axis: a correlation with some of the taps.

    Attributes
    ----------
    outputs : slice
        first::stride.
    taps : slice
        Of the kernel, in falling order; empty if no tap meets these outputs.
    dilation : int
        Distance of the taps in the source.
    crop : slice
        The part of the source that is read.
    pads : (int, int)
        Zeros around that part.
    """

    outputs: slice
    taps: list[int]
    dilation: int
    crop: slice
    pads: tuple[int, int]


def axis_phases(n: int, size: int, k: int, stride: int, dilation: int, lo: int) -> list[Phase]:
    """Return the phases of y[i] = sum over j, r with j*stride + r*dilation - lo = i of x[j] * w[r], 0 <= i < size, x of length n.

    Outputs i = a + stride*q of phase a meet the taps r with (a + lo - r*dilation) % stride = 0, a progression of step
    stride/gcd; from one to the next, j falls by dilation/gcd.
    """
    common = math.gcd(stride, dilation)
    step, reach = stride // common, dilation // common
    phases = []
    for a in range(min(stride, size)):
        count = -(-(size - a) // stride)
        first = next((r for r in range(min(step, k)) if (a + lo - r * dilation) % stride == 0), None)
        outputs = slice(a, size, stride)
        if first is None:
            phases.append(Phase(outputs, [], 1, slice(0, 0), (0, 0)))
            continue
        taps = list(range(first, k, step))[::-1]
        nearest = (a + lo - first * dilation) // stride
        lowest, highest = nearest - (len(taps) - 1) * reach, nearest + count - 1
        crop = slice(min(max(0, lowest), n), max(min(n, highest + 1), 0))
        phases.append(
            Phase(
                outputs, taps, reach, crop, (max(0, min(-lowest, highest - lowest + 1)), max(0, min(highest + 1 - n, highest - lowest + 1)))
            )
        )
    return phases


@dataclass(frozen=True)
class Geometry:
    """What a transposed convolution is, besides its arrays; hashable.

    Attributes
    ----------
    x_shape, w_shape : tuple of int
        (N, IC, H, W) and (IC, OC/groups, KH, KW).
    size : (int, int)
        Height and width of the result.
    stride, dilation, lo : (int, int)
    groups : int
    dtype : str
    """

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    lo: tuple[int, int]
    groups: int
    dtype: str


class Gather:
    """The convolutions of all phases of one transposed convolution, planned, with their own weights packed.

    Attributes
    ----------
    packed_nbytes : int
        Memory of the packed weights.
    """

    def __init__(self, geometry: Geometry, w: Array, bias: Array | None, config: Config, backend: str | None) -> None:
        g = geometry
        ic, per_group, kh, kw = g.w_shape
        oc = per_group * g.groups
        self._bias = bias
        # (IC, OC/G) to (OC, IC/G): the kernels of a convolution from source to result.
        kernels = w.reshape(g.groups, ic // g.groups, per_group, kh, kw).swapaxes(1, 2).reshape(oc, ic // g.groups, kh, kw)
        rows, cols = (
            axis_phases(*axis) for axis in zip(g.x_shape[2:], g.size, (kh, kw), g.stride, g.dilation, g.lo, strict=True)
        )  # fmt: skip
        self._phases: list[tuple[Phase, Phase, Plan | None]] = []
        for row in rows:
            for col in cols:
                ih, iw = (max(0, phase.crop.stop - phase.crop.start) for phase in (row, col))
                if not row.taps or not col.taps or not ih or not iw:
                    self._phases.append((row, col, None))
                    continue
                taps = np.ascontiguousarray(kernels[:, :, row.taps][:, :, :, col.taps])
                problem = ConvProblem(
                    g.groups, g.x_shape[0], ic, ih, iw, oc, len(row.taps), len(col.taps), ph_lo=row.pads[0], ph_hi=row.pads[1],
                    pw_lo=col.pads[0], pw_hi=col.pads[1], dh=row.dilation, dw=col.dilation, dtype=g.dtype, has_bias=bias is not None,
                )  # fmt: skip
                plan = planner.prepare(planner.decide(problem, config, backend), problem, config, taps, bias)
                self._phases.append((row, col, plan))
        self.packed_nbytes = sum(plan.packed_nbytes for _, _, plan in self._phases if plan is not None)

    def __call__(self, x: Array, y: Array) -> None:
        """Compute the result of source `x` (N, IC, H, W) into `y` (N, OC, *size), which shares no memory with it."""
        for row, col, plan in self._phases:
            target = y[:, :, row.outputs, col.outputs]
            if plan is None:
                target[...] = 0 if self._bias is None else self._bias[:, np.newaxis, np.newaxis]
            else:
                plan(x[:, :, row.crop, col.crop], out=target)


#: Packed phases of the last weights; it keeps whatever has `packed_nbytes`.
_gathers: Any = PlanCache()


def scattered(
    x: Array, w: Array, bias: Array | None, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], lo: tuple[int, int],
    groups: int, backend: str | None = None, out: Array | None = None,
) -> Array:  # fmt: skip
    """Return y[n, o, i] = bias[o] + sum over c, j, r with j*stride + r*dilation - lo = i of x[n, c, j] * w[c, o, r] (two axes).

    Parameters
    ----------
    x : ndarray of shape (N, IC, H, W)
    w : ndarray of shape (IC, OC/groups, KH, KW), or (IC, OC/groups, K) for one axis
        Of x's dtype.
    bias : ndarray of shape (OC,), optional
        Of x's dtype.
    size : (int, int)
        Height and width of the result.
    stride, dilation, lo : (int, int)
    groups : int
    backend : str, optional
    out : ndarray, optional
        Shares no memory with the inputs.

    Returns
    -------
    ndarray of shape (N, OC, *size)

    Notes
    -----
    Each of the stride[0]*stride[1] phases of the result gathers from the source by a dense convolution with the taps that meet
    it; no zeros are stuffed between source elements. Packed weights are kept for the next call with the same ones, as in `conv2d`.
    """
    oc = w.shape[1] * groups
    y = np.empty((x.shape[0], oc, *size), x.dtype) if out is None else out
    if 0 in y.shape:
        return y
    kernels = w if w.ndim == 4 else w[:, :, np.newaxis]
    config, geometry = get_config(), Geometry(x.shape, kernels.shape, size, stride, dilation, lo, groups, x.dtype.name)
    key = (geometry, config, backend, bias is None)
    gather = _gathers.find(key, w, bias)
    if gather is None:
        gather = _gathers.made(key, w, bias, lambda kept, b: Gather(geometry, kept.reshape(kernels.shape), b, config, backend))
    gather(x, y)
    return y
