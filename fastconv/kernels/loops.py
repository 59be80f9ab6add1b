"""Convolution as plain loops over an output row, vectorised by LLVM: every dtype, every geometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.threads import parallel_for


@jit
def add_tap(acc: Any, line: Any, tap: Any, step: int, shift: int) -> None:
    """Add line[j*step + shift] * tap to acc[j] for each j; the slices tell LLVM that no index wraps, so it vectorises."""
    n = acc.shape[0]
    if step == 1:
        window = line[shift : shift + n]
        for j in range(n):
            acc[j] += window[j] * tap
    else:
        window = line[shift : shift + (n - 1) * step + 1 : step]
        for j in range(n):
            acc[j] += window[j] * tap


@jit
def add_two_taps(acc: Any, line: Any, tap: Any, tap2: Any, shift: int, shift2: int) -> None:
    """Add line[j + shift] * tap + line[j + shift2] * tap2 to acc[j]: half the traffic of two calls of `add_tap`."""
    n = acc.shape[0]
    first, second = line[shift : shift + n], line[shift2 : shift2 + n]
    for j in range(n):
        acc[j] += first[j] * tap + second[j] * tap2


@jit
def add_border(acc: Any, line: Any, cols: Any, fill: Any, tap: Any, step: int, first: int, last: int) -> None:
    """Add the tap for the outputs first .. last-1, whose source columns are looked up in `cols`, -1 = `fill`."""
    for j in range(first, last):
        col = cols[j * step]
        acc[j] += (line[col] if col >= 0 else fill) * tap


@jit
def inside(ow: int, iw: int, step: int, shift: int) -> tuple[int, int]:
    """Return the range of outputs j for which 0 <= j*step + shift < iw."""
    first = min(max((-shift + step - 1) // step, 0), ow)
    return first, max(min((iw - 1 - shift) // step + 1, ow), first)


@jit
def conv_row(src: Any, weights: Any, acc: Any, rows: Any, cols: Any, geometry: Any, fill: Any, n: int, o: int, i: int) -> None:
    """Compute one output row: acc[j] = sum over c, r, s of src[n, c0 + c, rows[..], cols[..]] * weights[o, c, r, s].

    Parameters
    ----------
    src : (N, IC, IH, IW)
        C-contiguous.
    weights : (OC, IC/G, KH, KW)
        C-contiguous.
    acc : (OW,)
        The row; written from scratch.
    rows, cols : (padded height,), (padded width,) int64
        Source position of each padded position, -1 = `fill`.
    geometry : tuple of int
        (IC/G, OC/G, sh, sw, dh, dw, pw_lo, IW).
    fill : scalar of acc's dtype
        The padding value.
    n, o, i : int
        Image, output channel, output row.

    Notes
    -----
    Preconditions are not checked here. 2*OW*IC/G*KH*KW flops; reads each source row once per tap or pair of taps.
    Padded positions are multiplied like any other, so that an infinite weight makes NaN there, as the definition says.
    """
    icg, ocg, sh, sw, dh, dw, pw, iw = geometry
    ow = acc.shape[0]
    kh, kw = weights.shape[2], weights.shape[3]
    c0 = o // ocg * icg
    for j in range(ow):
        acc[j] = 0
    for c in range(icg):
        for r in range(kh):
            row = rows[i * sh + r * dh]
            if row < 0:
                for s in range(kw):
                    for j in range(ow):
                        acc[j] += fill * weights[o, c, r, s]
                continue
            line = src[n, c0 + c, row]
            s = 0
            while s < kw:
                tap, shift = weights[o, c, r, s], s * dw - pw
                first, last = inside(ow, iw, sw, shift)
                add_border(acc, line, cols[s * dw :], fill, tap, sw, 0, first)
                add_border(acc, line, cols[s * dw :], fill, tap, sw, last, ow)
                s += 1
                if s == kw or sw != 1:
                    if last > first:
                        add_tap(acc[first:last], line, tap, sw, first * sw + shift)
                    continue
                tap2, shift2 = weights[o, c, r, s], s * dw - pw
                first2, last2 = inside(ow, iw, sw, shift2)
                add_border(acc, line, cols[s * dw :], fill, tap2, sw, 0, first2)
                add_border(acc, line, cols[s * dw :], fill, tap2, sw, last2, ow)
                s += 1
                # The second tap lies to the right: it is inside from earlier on, and ends earlier.
                if first2 < first:
                    add_tap(acc[first2 : min(first, last2)], line, tap2, 1, first2 + shift2)
                if last2 > first:
                    add_two_taps(acc[first:last2], line, tap, tap2, first + shift, first + shift2)
                if last > max(last2, first):
                    add_tap(acc[max(last2, first) : last], line, tap, 1, max(last2, first) + shift)


@jit
def conv_task(
    t: int,
    tid: int,  # noqa: ARG001  every task is told its thread
    src: Any,
    weights: Any,
    dst: Any,
    rows: Any,
    cols: Any,
    geometry: Any,
    fill: Any,
    zero: Any,
    block: int,
) -> None:
    """Compute `block` rows of one (n, o) plane of dst, which is C-contiguous (N, OC, OH, OW)."""
    oc, oh, ow = dst.shape[1], dst.shape[2], dst.shape[3]
    blocks = (oh + block - 1) // block
    n, rest = divmod(t, oc * blocks)
    o, b = divmod(rest, blocks)
    acc = np.empty(ow, zero.dtype)
    for i in range(b * block, min((b + 1) * block, oh)):
        conv_row(src, weights, acc, rows, cols, geometry, fill, n, o, i)
        for j in range(ow):  # Not as a slice, whose check of shapes takes seconds to compile.
            dst[n, o, i, j] = dst.dtype.type(acc[j])


@jit
def conv(
    ctl: int, threads: int, src: Any, weights: Any, dst: Any, rows: Any, cols: Any, geometry: Any, fill: Any, zero: Any, block: int
) -> None:
    """Compute dst = src * weights, split into tasks of `block` rows of one plane over `threads` threads of the pool `ctl`.

    Parameters are those of `conv_row`; `zero` is an empty array of the accumulator's dtype (that of `dst`;
    int64 or uint64 for integers, so that sums wrap once, when they are stored).

    Notes
    -----
    2*N*OC*OH*OW*(IC/G)*KH*KW flops. A row of the source is read KH times for each output channel of its group, from cache where
    `block` rows of IC/G planes fit; bytes of memory: the source and the result once. Not checked: the arrays have the
    shapes that `geometry` says.
    """
    tasks = dst.shape[0] * dst.shape[1] * ((dst.shape[2] + block - 1) // block)
    parallel_for(ctl, threads, tasks, conv_task, (src, weights, dst, rows, cols, geometry, fill, zero, block))
