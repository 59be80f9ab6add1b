"""A bound on the rounding errors of Winograd convolution, tile by tile."""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import abs_padded, gamma, unit_roundoff
from fastconv.backends.winograd.variants import Variant
from fastconv.kernels.points import Bilinear, Matrix
from fastconv.kernels.winograd_products import SUM_CHANNELS
from fastconv.problem import ConvProblem


def magnitudes(matrix: Matrix) -> Array:
    """Return the absolute values of a matrix of fractions in float64."""
    return np.array([[abs(float(v)) for v in row] for row in matrix])


def roundings(axis: Bilinear) -> int:
    """Return how many rounded operations a number passes in the three transforms along one axis.

    A row of a transform with t terms rounds each term at most t times, and each constant is the product of at most
    two rounded ones.
    """
    longest = [max(sum(bool(v) for v in row) for row in matrix) for matrix in (axis.bt, axis.g, axis.at)]
    return sum(terms + 2 for terms in longest)


def tile_bound(variant: Variant, problem: ConvProblem, x: Array, w: Array) -> Array:
    """Return gamma_k * |A^T| [ sum_c (|G||w||G^T|) o (|B^T||x||B|) ] |A|, real arrays, as (N, OC, OH, OW) in float64.

    k counts the additions over channels, in a partial sum and of these, the roundings of the transforms along both
    axes, and that of U. Numbers below the normal range add absolute errors of half the smallest subnormal, amplified like the rest.
    """
    p, along_h, along_w = problem, variant.along_height, variant.along_width
    channels, outputs = p.ic // p.g, p.oc // p.g
    tiles_h, tiles_w = _tiles(p.oh, p.dh, along_h), _tiles(p.ow, p.dw, along_w)
    rows = tiles_h[:, None] * p.sh + p.dh * np.arange(along_h.span)
    cols = tiles_w[:, None] * p.sw + p.dw * np.arange(along_w.span)
    padded = abs_padded(p, x)
    # Beyond the padded source, where tiles hold outputs that nobody asked for, the kernels go on with the padding value.
    extents = max(int(rows.max()) + 1, padded.shape[2]), max(int(cols.max()) + 1, padded.shape[3])
    wide = np.full((p.mb, p.ic, *extents), abs(p.padding_value), np.float64)
    wide[:, :, : padded.shape[2], : padded.shape[3]] = padded
    data = wide[:, :, rows[:, None, :, None], cols[None, :, None, :]]
    v = np.einsum("ai,bj,nctuij->nctuab", magnitudes(along_h.bt), magnitudes(along_w.bt), data, optimize=True)
    u = np.einsum("ar,bs,ocrs->ocab", magnitudes(along_h.g), magnitudes(along_w.g), np.abs(w).astype(np.float64), optimize=True)
    products = np.empty((p.mb, p.oc, *v.shape[2:]))
    for g in range(p.g):
        of, to = slice(g * channels, (g + 1) * channels), slice(g * outputs, (g + 1) * outputs)
        products[:, to] = np.einsum("nctuab,ocab->notuab", v[:, of], u[to], optimize=True)
    at_h, at_w = magnitudes(along_h.at), magnitudes(along_w.at)
    tiles = np.einsum("ia,jb,notuab->notiuj", at_h, at_w, products, optimize=True)
    k = min(channels, SUM_CHANNELS) + -(-channels // SUM_CHANNELS) + roundings(along_h) + roundings(along_w) + 1
    u_roundoff, subnormal = unit_roundoff(p.dtype), float(np.finfo(p.dtype).smallest_subnormal)
    spread = float(at_h.sum(axis=1).max() * at_w.sum(axis=1).max())
    size = 1 + float(v.max(initial=0)) + float(u.max(initial=0))
    bound = gamma(k, u_roundoff) * tiles + k * channels * subnormal * spread * size
    out = np.empty((p.mb, p.oc, p.oh, p.ow))
    y = tiles_h[:, None] + p.dh * np.arange(along_h.m)
    z = tiles_w[:, None] + p.dw * np.arange(along_w.m)
    full = np.zeros((p.mb, p.oc, int(y.max()) + 1, int(z.max()) + 1))
    full[:, :, y[:, :, None, None], z[None, None]] = bound
    out[...] = full[:, :, : p.oh, : p.ow]
    return out


def _tiles(extent: int, dilation: int, axis: Bilinear) -> Array:
    """Return the first output of each tile along an axis."""
    band = dilation * axis.m
    return (np.arange(0, extent, band)[:, None] + np.arange(dilation)).ravel()
