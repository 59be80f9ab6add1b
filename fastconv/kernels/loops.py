"""Convolution as plain loops over an output row, vectorised by LLVM: every dtype, every geometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.threads import parallel_for


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
    Preconditions are not checked here. 2*OW*IC/G*KH*KW flops; reads the rows below the kernel once per tap.
    Padded positions are multiplied like any other, so that an infinite weight makes NaN there, as the definition says.
    """
    icg, ocg, sh, sw, dh, dw, pw, iw = geometry
    ow = acc.shape[0]
    kh, kw = weights.shape[2], weights.shape[3]
    c0 = o // ocg * icg
    acc[:] = 0
    for c in range(icg):
        for r in range(kh):
            row = rows[i * sh + r * dh]
            for s in range(kw):
                tap = weights[o, c, r, s]
                if row < 0:
                    for j in range(ow):
                        acc[j] += fill * tap
                    continue
                shift = s * dw - pw
                first = min(max((-shift + sw - 1) // sw, 0), ow)
                last = max(min((iw - 1 - shift) // sw + 1, ow), first)
                line = src[n, c0 + c, row]
                for j in range(first):
                    col = cols[j * sw + s * dw]
                    acc[j] += (line[col] if col >= 0 else fill) * tap
                if sw == 1:
                    window = line[first + shift : last + shift]
                    for j in range(last - first):
                        acc[first + j] += window[j] * tap
                else:
                    for j in range(first, last):
                        acc[j] += line[j * sw + shift] * tap
                for j in range(last, ow):
                    col = cols[j * sw + s * dw]
                    acc[j] += (line[col] if col >= 0 else fill) * tap


@jit
def conv_task(
    t: int, tid: int, src: Any, weights: Any, dst: Any, rows: Any, cols: Any, geometry: Any, fill: Any, zero: Any, block: int
) -> None:
    """Compute `block` rows of one (n, o) plane of dst, which is C-contiguous (N, OC, OH, OW)."""
    oc, oh, ow = dst.shape[1], dst.shape[2], dst.shape[3]
    blocks = (oh + block - 1) // block
    n, rest = divmod(t, oc * blocks)
    o, b = divmod(rest, blocks)
    acc = np.empty(ow, zero.dtype)
    for i in range(b * block, min((b + 1) * block, oh)):
        conv_row(src, weights, acc, rows, cols, geometry, fill, n, o, i)
        dst[n, o, i, :] = acc


@jit
def conv(
    ctl: int, threads: int, src: Any, weights: Any, dst: Any, rows: Any, cols: Any, geometry: Any, fill: Any, zero: Any, block: int
) -> None:
    """Compute dst, split into tasks of `block` rows of one plane over `threads` threads of the pool `ctl`.

    Parameters are those of `conv_row`; `zero` is an empty array of the accumulator's dtype (that of `dst`;
    int64 or uint64 for integers, so that sums wrap once, when they are stored).
    """
    tasks = dst.shape[0] * dst.shape[1] * ((dst.shape[2] + block - 1) // block)
    parallel_for(ctl, threads, tasks, conv_task, (src, weights, dst, rows, cols, geometry, fill, zero, block))
