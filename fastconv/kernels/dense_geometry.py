"""The numbers of a dense convolution, and rectangles of its result that read fewer taps than the kernel has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

#: Parts that the result is cut into along an axis, and places where a cut is tried.
MOST_PARTS, MOST_CUTS = 3, 32
#: Most pixels of a rectangle that a task computes: their sums wait in scratch memory.
REGION_PIXELS = 256

Table = npt.NDArray[np.int64]
#: What a task does with one piece of k: first k of its block in the packed weights, k's of that block, first k of the piece in
#: the block, k's of the piece, first channel read, channels to fill into the strip (0: they are there).
Step = tuple[int, int, int, int, int, int]


def multiple(value: int, unit: int) -> int:
    """Return `value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit


def even_blocks(extent: int, limit: int, unit: int = 1) -> int:
    """Return the size of blocks, a multiple of `unit`, of as equal size as can be, none above `limit` (at least one unit)."""
    limit = max(unit, limit // unit * unit)
    return multiple(-(-extent // -(-extent // limit)), unit)


@dataclass(frozen=True)
class Geometry:
    """The numbers of one convolution, per group where it says so."""

    n: int
    groups: int
    ic: int
    oc: int
    ih: int
    iw: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    sw: int
    ph_lo: int
    pw_lo: int
    dh: int
    dw: int
    is_padded: bool


@dataclass(frozen=True)
class Region:
    """A rectangle of the result for which all taps outside a rectangle of the kernel read nothing but padding.

    The rectangles of a problem share its packed weights: k runs over blocks of channels, in them over taps, then channels.

    Attributes
    ----------
    row, column : int
        First row and column of the result.
    kh, kw : int
        First row and column of the kernel.
    channels : int
        Channels of a block of k, the same for all rectangles of a problem.
    whole, geometry : Geometry
        Of the problem and of the rectangle itself.
    """

    row: int
    column: int
    kh: int
    kw: int
    channels: int
    whole: Geometry
    geometry: Geometry

    @property
    def source_row(self) -> int:
        """First padded row that it reads."""
        return self.row * self.whole.sh + self.kh * self.whole.dh

    @property
    def source_column(self) -> int:
        """First padded column that it reads."""
        return self.column * self.whole.sw + self.kw * self.whole.dw

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield, for each block of channels, its first channel, its size and, row by row of taps, the first k of a run of taps."""
        taps = self.whole.kh * self.whole.kw
        for c0 in range(0, self.whole.ic, self.channels):
            size = min(self.channels, self.whole.ic - c0)
            for row in range(self.geometry.kh):
                yield c0, size, c0 * taps + ((self.kh + row) * self.whole.kw + self.kw) * size

    def steps(self) -> list[Step]:
        """Return the pieces of k: a row of taps for a block of channels."""
        taps, out = self.whole.kh * self.whole.kw, []
        filled = -1
        for c0, size, k in self._runs():
            out.append((c0 * taps, taps * size, k - c0 * taps, self.geometry.kw * size, c0, 0 if c0 == filled else size))
            filled = c0
        return out

    def offsets(self, plane: int, taps: Table) -> Table:
        """Return the offset of each k in a strip of `plane` elements a channel, `taps` being those of the rectangle's own taps."""
        out = np.zeros(self.whole.ic * self.whole.kh * self.whole.kw, np.int64)
        rows = taps.reshape(self.geometry.kh, self.geometry.kw)
        for i, (c0, size, k) in enumerate(self._runs()):
            here = rows[i % self.geometry.kh][:, None] + (c0 + np.arange(size)) * plane
            out[k : k + here.size] = here.ravel()
        return out


def k_order(w: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    """Return weights (OC, IC, KH, KW) in the order of rectangles: blocks of channels, in them taps, then channels."""
    oc, ic = w.shape[:2]
    blocks = [w[:, c : c + channels].transpose(0, 2, 3, 1).reshape(oc, -1) for c in range(0, ic, channels)]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1))


def _axis_parts(outputs: int, inputs: int, taps: int, stride: int, dilation: int, before: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Return where an axis of outputs is cut, from 0 to `outputs`, and the taps (first, end) that each part reads within the array."""
    first = np.arange(outputs) * stride - before
    low = np.minimum(np.maximum(-(first // dilation), 0), taps - 1)
    high = np.maximum(np.minimum((inputs - 1 - first) // dilation + 1, taps), low + 1)
    changes = (np.flatnonzero((np.diff(low) != 0) | (np.diff(high) != 0)) + 1).tolist()
    if len(changes) > MOST_CUTS:
        changes = [changes[i * len(changes) // MOST_CUTS] for i in range(MOST_CUTS)]

    def taps_between(begin: int, end: int) -> tuple[int, int]:
        # Both bounds fall along the axis.
        return int(low[end - 1]), int(high[begin])

    best: tuple[float, list[int]] = (float("inf"), [])
    for count in range(MOST_PARTS):
        for cuts in itertools.combinations(changes, count):
            places = [0, *cuts, outputs]
            counted = sum((b - a) * (t1 - t0) for a, b in itertools.pairwise(places) for t0, t1 in [taps_between(a, b)])
            if counted < best[0]:
                best = (counted, places)
    places = best[1]
    return places, [taps_between(a, b) for a, b in itertools.pairwise(places)]


def regions(geometry: Geometry, run: int, strip: int, *, by_rows: bool, by_columns: bool) -> tuple[Region, ...]:
    """Cut the result into rectangles by the taps that lie in padding for all their outputs, along either axis or both.

    Blocks of channels are such that a row of taps makes at most about `run` k's, and a strip takes at most `strip` elements.
    """
    g = geometry
    rows, row_taps = _axis_parts(g.oh, g.ih, g.kh, g.sh, g.dh, g.ph_lo) if by_rows else ([0, g.oh], [(0, g.kh)])
    columns, column_taps = _axis_parts(g.ow, g.iw, g.kw, g.sw, g.dw, g.pw_lo) if by_columns else ([0, g.ow], [(0, g.kw)])
    parts = []
    for (r0, r1), (kh0, kh1) in zip(itertools.pairwise(rows), row_taps, strict=True):
        for (c0, c1), (kw0, kw1) in zip(itertools.pairwise(columns), column_taps, strict=True):
            part = replace(
                g, oh=r1 - r0, ow=c1 - c0, kh=kh1 - kh0, kw=kw1 - kw0,
                ph_lo=g.ph_lo - r0 * g.sh - kh0 * g.dh, pw_lo=g.pw_lo - c0 * g.sw - kw0 * g.dw,
            )  # fmt: skip
            parts.append((r0, c0, kh0, kw0, part))
    plane = max(
        (min(p.oh, REGION_PIXELS // p.ow + 2) * p.sh + (p.kh - 1) * p.dh) * max(p.ow * p.kw, p.ow * p.sw + (p.kw - 1) * p.dw)
        for *_, p in parts
    )
    channels = even_blocks(g.ic, min(run // max(p.kw for *_, p in parts), strip // plane), 4)
    return tuple(Region(r0, c0, kh0, kw0, channels, g, part) for r0, c0, kh0, kw0, part in parts)
