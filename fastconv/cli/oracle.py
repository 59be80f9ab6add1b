"""The check: results against scipy.signal.correlate2d, plane by plane, in double precision."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, gamma, pad, unit_roundoff
from fastconv.problem import ConvProblem

#: scipy.signal takes about so many flops per second here and there; only used to decide how much it can check.
ASSUMED_SCIPY_FLOPS = 1e9


@dataclass(frozen=True)
class Selection:
    """Which outputs of a problem are compared: an evenly spread part, if all would take scipy too long.

    Attributes
    ----------
    images, channels : ndarray of int
        Images of the batch and output channels.
    rows : ndarray of int
        Output rows: all, or as many from the top as from the bottom.
    strips : tuple of (int, int)
        The same rows as ranges.
    problem : ConvProblem
        The problem of the chosen images and channels.
    in_channels : ndarray of int
        Input channels that it reads.
    share : float
        Share of the whole problem's outputs.
    """

    images: Array
    channels: Array
    rows: Array
    strips: tuple[tuple[int, int], ...]
    problem: ConvProblem
    in_channels: Array
    share: float

    def of(self, y: Array) -> Array:
        """Return the chosen outputs of a whole result."""
        picked: Array = y[np.ix_(self.images, self.channels, self.rows)]
        return picked


def select(p: ConvProblem, seconds: float) -> Selection:
    """Choose about as many outputs as scipy.signal computes in `seconds`."""
    # scipy computes every position of the padded plane, and strides are cut out afterwards.
    plane_s = 2.0 * p.oh * p.sh * p.ow * p.sw * p.reduction / ASSUMED_SCIPY_FLOPS
    planes = max(1, int(seconds / plane_s))
    images = np.arange(p.mb) if planes >= p.mb * p.oc else _spread(p.mb, max(1, planes // p.oc))
    per_image = planes // len(images)
    ocg, icg = p.oc // p.g, p.ic // p.g
    if per_image >= p.oc:
        groups, inside = np.arange(p.g), np.arange(ocg)
    elif per_image >= ocg:
        groups, inside = _spread(p.g, per_image // ocg), np.arange(ocg)
    else:
        groups, inside = _spread(p.g, 1), _spread(ocg, max(1, per_image))
    channels = (groups[:, np.newaxis] * ocg + inside).ravel()
    in_channels = (groups[:, np.newaxis] * icg + np.arange(icg)).ravel()
    count = p.oh if plane_s <= seconds else max(2, int(p.oh * seconds / plane_s))
    strips = ((0, p.oh),) if count >= p.oh else ((0, count // 2), (p.oh - count // 2, p.oh))
    rows = np.concatenate([np.arange(*strip) for strip in strips])
    part = p.replace(g=len(groups), mb=len(images), ic=len(in_channels), oc=len(channels))
    share = len(images) * len(channels) * len(rows) / (p.mb * p.oc * p.oh)
    return Selection(images, channels, rows, strips, part, in_channels, share)


def _spread(n: int, count: int) -> Array:
    """Return `count` of the numbers below `n`, evenly spread with the first and the last."""
    return np.unique(np.rint(np.linspace(0, n - 1, min(n, count))).astype(int))


@dataclass(frozen=True)
class Reference:
    """What scipy found for the chosen outputs.

    Attributes
    ----------
    selection : Selection
    expected : ndarray, float64
        Results in double precision.
    magnitude : ndarray, float64
        S = sum |x||w| per output: what rounding errors of a summation scale with.
    scipy_s : float
        Seconds that scipy.signal.correlate2d takes for the *whole* problem in its own dtype; where only a part
        was computed, scaled up by the share.
    """

    selection: Selection
    expected: Array
    magnitude: Array
    scipy_s: float


def reference(p: ConvProblem, x: Array, w: Array, seconds: float) -> Reference:
    """Compute the chosen outputs with scipy, and time it.

    The timed run is one in the problem's own dtype on the absolute values, since time does not depend on values
    and that run yields S as well.
    """
    chosen = select(p, seconds)
    x = np.ascontiguousarray(x[np.ix_(chosen.images, chosen.in_channels)])
    w = np.ascontiguousarray(w[chosen.channels])
    import scipy.signal  # noqa: F401, PLC0415  before the clock starts

    start = time.perf_counter()
    magnitude = _correlated(chosen, np.abs(x), np.abs(w))
    scipy_s = (time.perf_counter() - start) / chosen.share
    # The magnitudes are sums themselves: their own rounding is added.
    magnitude = magnitude.astype(np.float64) * (1 + 2 * gamma(p.reduction, unit_roundoff(p.dtype)))
    expected = _correlated(chosen, x.astype(np.float64), w.astype(np.float64))
    return Reference(chosen, expected, magnitude, scipy_s)


def _correlated(chosen: Selection, x: Array, w: Array) -> Array:
    """Return the chosen rows of the correlation, one scipy.signal.correlate2d per pair of planes and strip."""
    from scipy.signal import correlate2d  # noqa: PLC0415  slow to import: only where it is used

    p = chosen.problem
    padded = pad(p, x)
    dilated = np.zeros((*w.shape[:2], p.dh * (p.kh - 1) + 1, p.dw * (p.kw - 1) + 1), w.dtype)
    dilated[:, :, :: p.dh, :: p.dw] = w
    span = dilated.shape[2]
    icg, ocg = p.ic // p.g, p.oc // p.g
    y = np.zeros((p.mb, p.oc, len(chosen.rows), p.ow), x.dtype)
    for n, o in np.ndindex(p.mb, p.oc):
        place = 0
        for first, last in chosen.strips:
            target = y[n, o, place : place + last - first]
            place += last - first
            lines = slice(first * p.sh, (last - 1) * p.sh + span)
            for c in range(icg):
                plane = padded[n, o // ocg * icg + c, lines]
                target += correlate2d(plane, dilated[o, c], mode="valid")[:: p.sh, :: p.sw]
    return y


@dataclass(frozen=True)
class Verdict:
    """How far a result is from the reference.

    Attributes
    ----------
    is_right : bool
        Whether no output is further off than the backend's proved bound allows.
    error : float
        Largest error, as a share of the largest result.
    bound_share : float
        Largest error, as a share of its own bound.
    """

    is_right: bool
    error: float
    bound_share: float


def judge(found: Reference, algorithm: Algorithm | None, x: Array, w: Array, y: Array) -> Verdict:
    """Compare a result with the reference; without an algorithm, no bound is known and any finite result passes."""
    chosen, p = found.selection, found.selection.problem
    with np.errstate(invalid="ignore"):
        off = np.abs(chosen.of(y).astype(np.float64) - found.expected)
    largest = float(np.abs(found.expected).max(initial=0.0)) or 1.0
    error = float(off.max(initial=0.0)) / largest
    if algorithm is None:
        return Verdict(bool(np.isfinite(off).all()), error, 0.0)
    # The reference rounds too, in double precision.
    bound = gamma(p.reduction, unit_roundoff("float64")) * found.magnitude
    if algorithm.rounding == "elementwise":
        bound += gamma(p.reduction, unit_roundoff(p.dtype)) * found.magnitude + p.reduction * float(np.finfo(p.dtype).smallest_subnormal)
    else:
        part = np.ascontiguousarray(x[np.ix_(chosen.images, chosen.in_channels)])
        bound += algorithm.error_bound(p, part, np.ascontiguousarray(w[chosen.channels]))[:, :, chosen.rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(off == 0, 0.0, off / bound)
    return Verdict(bool((off <= bound).all()), error, float(shares.max(initial=0.0)))
