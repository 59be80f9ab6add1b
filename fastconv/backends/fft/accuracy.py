"""The norm-wise error bound of a convolution by FFT tiles."""

from __future__ import annotations

import math

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import gamma, pad, unit_roundoff
from fastconv.problem import ConvProblem


def relative_bound(points: int, channels: int, u: float) -> float:
    """Return c in abs(error) <= c * sum over channels of norm2(x tile) * norm1(w), for tiles of `points` points.

    Notes
    -----
    Each of the t = log2(points) stages of a transform multiplies by a rounded twiddle (relative error u, and sqrt(2)
    gamma_2 for the complex product) and adds (u): eta = 2u + sqrt(2) gamma_2 per stage, as in Higham, Accuracy and
    Stability, section 24.1. That grows to t*eta / (1 - t*eta), norm-wise for the data and, path by path, element-wise
    for the spectrum of the weights. Three transforms and the products, summed over `channels`, add up; two real signals
    that share a transform cost one more addition at either end and a factor sqrt(2). The halves of a tile of a single
    plane share one of points/2 points and cost a rounded factor at either end, as much as one more stage. Proved for
    powers of two; a model for other sizes, whose stages have other radices.
    """
    eta = 2 * u + math.sqrt(2) * gamma(2, u)
    growth = math.log2(max(points, 2)) * eta + 2 * u
    stages = growth / (1 - growth) if growth < 1 else math.inf
    return math.sqrt(2) * (3 * stages * (1 + stages) ** 2 + math.sqrt(2) * gamma(2 + channels, u))


def normwise_bound(problem: ConvProblem, x: Array, w: Array, points: int) -> Array:
    """Return the bound per output element; each plane's norm stands for the norms of its tiles."""
    p = problem
    u = unit_roundoff(p.dtype)
    with np.errstate(all="ignore"):
        planes = pad(p, x).astype(np.complex128 if p.is_complex else np.float64)
        # Squares of numbers near the ends of the range are beyond it: norms are taken of numbers around 1.
        sizes = np.abs(planes)
        unit = sizes.max(initial=0.0) or 1.0
        # Planes of any two channels and images may share a transform, on the way in or out: the largest norms stand for all.
        largest = unit * np.sqrt(((sizes / unit) ** 2).sum(axis=(2, 3))).max(initial=0.0)
        # A tile that hangs over the end holds the padding value there too.
        largest = np.hypot(largest, abs(p.padding_value) * math.sqrt(points))
        sums = np.abs(w.astype(np.complex128 if p.is_complex else np.float64)).sum(axis=(1, 2, 3))
        size = sums.max(initial=0.0)
        parts = 2 if p.is_complex else 1
        c = relative_bound(points, p.ic // p.g * parts, u) * parts
        # Numbers below the normal range lose half the smallest subnormal in each of the stages; every loss reaches all
        # points of a tile, those of the data times the weights and those of the spectra times the data.
        losses = points * (math.log2(max(points, 2)) + 2) * (1 + largest + size) * (p.ic // p.g * parts)
        bound = c * largest * size + losses * float(np.finfo(p.dtype).smallest_subnormal)
    return np.full(p.out_shape, bound)


def integer_reason(problem: ConvProblem, points: int) -> str | None:
    """Return why integers of the problem's dtype may not come out exact in float64, or None if they do."""
    limits = np.iinfo(problem.dtype)
    largest = float(max(-limits.min, limits.max))
    norm = math.sqrt(points) * largest
    bound = relative_bound(points, problem.ic // problem.g, 2.0**-53) * norm * problem.reduction * largest
    if bound < 0.5 and problem.reduction * largest**2 < 2.0**53:
        return None
    return (
        f"it needs an error bound below 1/2 for exact integers; {problem.dtype} values up to {largest:.0f} over "
        f"{problem.reduction} products bound it by {bound:.2g}"
    )
