"""Sums over a window in one fixed order, in double or single precision, whatever the dtype of the array.

`scipy.ndimage` sums in double, tap after tap, and casts the sum to the output's dtype. These loops do the same
operations in the same order for many outputs at once, without fused multiply-adds, so that results agree to the last
bit wherever SciPy's own C was compiled without them (x86-64).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.threads import parallel_for

#: How a window is summed: each tap, or pairs of taps around the middle one with equal or opposite weights.
PLAIN, SYMMETRIC, ANTISYMMETRIC = 0, 1, 2


@jit
def load_line(src: Any, n: int, row: int, cols: Any, inside: Any, first: int, line: Any, fill: float) -> None:
    """Convert padded columns ``first ..`` of a source row into `line`; row -1 and column -1 are `fill`.

    Padded columns ``inside[0] .. inside[1] - 1`` are neighbours in the source.
    """
    count = line.shape[0]
    if row < 0:
        line[:] = fill
        return
    source = src[n, row]
    start = min(max(inside[0] - first, 0), count)
    end = max(min(inside[1] - first, count), start)
    for j in range(start):
        col = cols[first + j]
        line[j] = source[col] if col >= 0 else fill
    if start < end:
        col = cols[first + start]
        run = source[col : col + end - start]
        target = line[start:end]
        for j in range(end - start):
            target[j] = run[j]
    for j in range(end, count):
        col = cols[first + j]
        line[j] = source[col] if col >= 0 else fill


@jit
def add_plain(lines: Any, taps: Any, slots: Any, shifts: Any, acc: Any) -> None:
    """Set acc[j] = sum over q of taps[q] * lines[slots[q], shifts[q] + j], added one after the other; 8 per pass over acc."""
    n = acc.shape[0]
    count = taps.shape[0]
    acc[:] = 0
    q = 0
    while q + 8 <= count:
        w0, w1, w2, w3 = taps[q], taps[q + 1], taps[q + 2], taps[q + 3]
        w4, w5, w6, w7 = taps[q + 4], taps[q + 5], taps[q + 6], taps[q + 7]
        a0 = lines[slots[q], shifts[q] : shifts[q] + n]
        a1 = lines[slots[q + 1], shifts[q + 1] : shifts[q + 1] + n]
        a2 = lines[slots[q + 2], shifts[q + 2] : shifts[q + 2] + n]
        a3 = lines[slots[q + 3], shifts[q + 3] : shifts[q + 3] + n]
        a4 = lines[slots[q + 4], shifts[q + 4] : shifts[q + 4] + n]
        a5 = lines[slots[q + 5], shifts[q + 5] : shifts[q + 5] + n]
        a6 = lines[slots[q + 6], shifts[q + 6] : shifts[q + 6] + n]
        a7 = lines[slots[q + 7], shifts[q + 7] : shifts[q + 7] + n]
        for j in range(n):
            left = acc[j] + w0 * a0[j] + w1 * a1[j] + w2 * a2[j] + w3 * a3[j]
            acc[j] = left + w4 * a4[j] + w5 * a5[j] + w6 * a6[j] + w7 * a7[j]
        q += 8
    while q + 3 <= count:
        w0, w1, w2 = taps[q], taps[q + 1], taps[q + 2]
        a0 = lines[slots[q], shifts[q] : shifts[q] + n]
        a1 = lines[slots[q + 1], shifts[q + 1] : shifts[q + 1] + n]
        a2 = lines[slots[q + 2], shifts[q + 2] : shifts[q + 2] + n]
        for j in range(n):
            acc[j] = acc[j] + w0 * a0[j] + w1 * a1[j] + w2 * a2[j]
        q += 3
    while q < count:
        w0 = taps[q]
        a0 = lines[slots[q], shifts[q] : shifts[q] + n]
        for j in range(n):
            acc[j] += w0 * a0[j]
        q += 1


@jit
def add_pairs(lines: Any, taps: Any, slots: Any, shifts: Any, acc: Any, sign: float) -> None:
    """Set acc to the middle tap, then taps[q] * (lines of q + sign * lines of the mirrored tap) from the outermost pair inwards."""
    n = acc.shape[0]
    count = taps.shape[0]
    half = count // 2
    middle = lines[slots[half], shifts[half] : shifts[half] + n]
    w0 = taps[half]
    for j in range(n):
        acc[j] = w0 * middle[j]
    q = 0
    while q + 4 <= half:
        w0, w1, w2, w3 = taps[q], taps[q + 1], taps[q + 2], taps[q + 3]
        p = count - 1 - q
        a0 = lines[slots[q], shifts[q] : shifts[q] + n]
        b0 = lines[slots[p], shifts[p] : shifts[p] + n]
        a1 = lines[slots[q + 1], shifts[q + 1] : shifts[q + 1] + n]
        b1 = lines[slots[p - 1], shifts[p - 1] : shifts[p - 1] + n]
        a2 = lines[slots[q + 2], shifts[q + 2] : shifts[q + 2] + n]
        b2 = lines[slots[p - 2], shifts[p - 2] : shifts[p - 2] + n]
        a3 = lines[slots[q + 3], shifts[q + 3] : shifts[q + 3] + n]
        b3 = lines[slots[p - 3], shifts[p - 3] : shifts[p - 3] + n]
        if sign > 0:
            for j in range(n):
                left = acc[j] + (a0[j] + b0[j]) * w0 + (a1[j] + b1[j]) * w1
                acc[j] = left + (a2[j] + b2[j]) * w2 + (a3[j] + b3[j]) * w3
        else:
            for j in range(n):
                left = acc[j] + (a0[j] - b0[j]) * w0 + (a1[j] - b1[j]) * w1
                acc[j] = left + (a2[j] - b2[j]) * w2 + (a3[j] - b3[j]) * w3
        q += 4
    while q < half:
        w0 = taps[q]
        p = count - 1 - q
        a0 = lines[slots[q], shifts[q] : shifts[q] + n]
        b0 = lines[slots[p], shifts[p] : shifts[p] + n]
        if sign > 0:
            for j in range(n):
                acc[j] += (a0[j] + b0[j]) * w0
        else:
            for j in range(n):
                acc[j] += (a0[j] - b0[j]) * w0
        q += 1


@jit
def window_task(
    t: int, _tid: int, src: Any, dst: Any, rows: Any, cols: Any, taps: Any, tap_rows: Any, tap_cols: Any, form: int, fill: float,
    kernel: Any, inside: Any, block: Any, zero: Any, middle: Any,
) -> None:  # fmt: skip
    """Compute one block of rows and columns of one image of dst; the arguments are those of `windows`."""
    kh, kw = kernel
    block_rows, block_cols = block
    oh, ow = dst.shape[1], dst.shape[2]
    across = (ow + block_cols - 1) // block_cols
    down = (oh + block_rows - 1) // block_rows
    n, rest = divmod(t, across * down)
    i0 = rest // across * block_rows
    j0 = rest % across * block_cols
    width = min(block_cols, ow - j0)
    lines = np.empty((kh, width + kw - 1), zero.dtype)
    acc = np.empty(width, zero.dtype)
    whole = np.empty(width, middle.dtype)
    slots = np.empty_like(tap_rows)
    for r in range(kh - 1):
        load_line(src, n, rows[i0 + r], cols, inside, j0, lines[(i0 + r) % kh], fill)
    for i in range(i0, min(i0 + block_rows, oh)):
        newest = i + kh - 1
        load_line(src, n, rows[newest], cols, inside, j0, lines[newest % kh], fill)
        for q in range(taps.shape[0]):
            slots[q] = (i + tap_rows[q]) % kh
        if form == PLAIN:
            add_plain(lines, taps, slots, tap_cols, acc)
        else:
            add_pairs(lines, taps, slots, tap_cols, acc, 1.0 if form == SYMMETRIC else -1.0)
        target = dst[n, i, j0 : j0 + width]
        # In two steps, as C does it: truncated to a wide integer, of which the low bits are stored.
        for j in range(width):
            whole[j] = acc[j]
        for j in range(width):
            target[j] = whole[j]


@jit
def windows(
    ctl: int, threads: int, src: Any, dst: Any, rows: Any, cols: Any, taps: Any, tap_rows: Any, tap_cols: Any, form: int, fill: float,
    kernel: Any, inside: Any, block: Any, zero: Any, middle: Any,
) -> None:  # fmt: skip
    """Compute dst[n, i, j] = sum over q of taps[q] * src[n, rows[i + tap_rows[q]], cols[j + tap_cols[q]]].

    Parameters
    ----------
    src : (N, H, W)
        C-contiguous, any real dtype.
    dst : (N, OH, OW)
        C-contiguous; shares no memory with src.
    rows, cols : (OH + KH - 1,), (OW + KW - 1,) int64
        Source position of each padded position, -1 = `fill`.
    taps : (Q,)
        Weights in the dtype of the sums.
    tap_rows, tap_cols : (Q,) int64
        Where each tap lies in the window.
    form : int
        PLAIN: taps in their order. SYMMETRIC, ANTISYMMETRIC: Q is odd and taps[Q-1-q] counts as taps[q] or its negative.
    kernel, inside, block : (KH, KW), (first, end), (rows, columns)
        Extent of the window; padded columns between which the source is read in order; size of a task.
    zero, middle : (0,)
        Their dtypes are that of the sums and the one through which a sum is cast to dst's.

    Notes
    -----
    Preconditions are not checked here. KH lines of a block, converted and padded, are kept per task: the source is
    read (1 + KH/rows) times. 2*Q flops per output (no FMA, to keep SciPy's rounding).
    """
    oh, ow = dst.shape[1], dst.shape[2]
    tasks = dst.shape[0] * ((oh + block[0] - 1) // block[0]) * ((ow + block[1] - 1) // block[1])
    parallel_for(
        ctl, threads, tasks, window_task, (src, dst, rows, cols, taps, tap_rows, tap_cols, form, fill, kernel, inside, block, zero, middle)
    )


@jit
def running_task(t: int, _tid: int, src: Any, dst: Any, rows: Any, size: int, fill: float, block: int, zero: Any, middle: Any) -> None:
    """Compute `block` columns of one image of dst; the arguments are those of `running_sums`."""
    oh, ow = dst.shape[1], dst.shape[2]
    across = (ow + block - 1) // block
    n, rest = divmod(t, across)
    j0 = rest * block
    width = min(block, ow - j0)
    acc = np.zeros(width, zero.dtype)
    whole = np.empty(width, middle.dtype)
    for r in range(size):
        row = rows[r]
        if row < 0:
            for j in range(width):
                acc[j] += fill
        else:
            line = src[n, row, j0 : j0 + width]
            for j in range(width):
                acc[j] += line[j]
    for i in range(oh):
        if i > 0:
            newest, oldest = rows[i + size - 1], rows[i - 1]
            if newest >= 0 and oldest >= 0:
                new, old = src[n, newest, j0 : j0 + width], src[n, oldest, j0 : j0 + width]
                for j in range(width):
                    acc[j] += zero.dtype.type(new[j]) - zero.dtype.type(old[j])
            elif newest >= 0:
                new = src[n, newest, j0 : j0 + width]
                for j in range(width):
                    acc[j] += zero.dtype.type(new[j]) - fill
            elif oldest >= 0:
                old = src[n, oldest, j0 : j0 + width]
                for j in range(width):
                    acc[j] += fill - zero.dtype.type(old[j])
        for j in range(width):
            whole[j] = acc[j] / size
        target = dst[n, i, j0 : j0 + width]
        for j in range(width):
            target[j] = whole[j]


@jit
def running_sums(ctl: int, threads: int, src: Any, dst: Any, rows: Any, size: int, fill: float, block: int, zero: Any, middle: Any) -> None:
    """Compute dst[n, i, j] = (sum over k < size of src[n, rows[i + k], j]) / size by one running sum per column.

    Parameters
    ----------
    src, dst : (N, H, W), (N, OH, W)
        C-contiguous.
    rows : (OH + size - 1,) int64
        Source row of each padded row, -1 = `fill`.
    block : int
        Columns of a task.
    zero, middle
        As in `windows`.

    Notes
    -----
    Preconditions are not checked here. Each step adds the difference of the row that enters and the row that leaves.
    """
    tasks = dst.shape[0] * ((dst.shape[2] + block - 1) // block)
    parallel_for(ctl, threads, tasks, running_task, (src, dst, rows, size, fill, block, zero, middle))


@jit
def running_line_task(
    t: int, _tid: int, src: Any, dst: Any, cols: Any, inside: Any, size: int, fill: float, zero: Any, middle: Any
) -> None:
    """Compute 4 rows of dst; the arguments are those of `running_line_sums`."""
    height, width = dst.shape[1], dst.shape[2]
    first = 4 * t
    lines = np.zeros((4, width + size - 1), zero.dtype)
    sums = np.zeros((4, width), zero.dtype)
    whole = np.empty(width, middle.dtype)
    count = min(4, src.shape[0] * height - first)
    for k in range(count):
        n, row = divmod(first + k, height)
        load_line(src, n, row, cols, inside, 0, lines[k], fill)
    a0 = a1 = a2 = a3 = zero.dtype.type(0)
    l0, l1, l2, l3 = lines[0], lines[1], lines[2], lines[3]
    for j in range(size):
        a0 += l0[j]
        a1 += l1[j]
        a2 += l2[j]
        a3 += l3[j]
    s0, s1, s2, s3 = sums[0], sums[1], sums[2], sums[3]
    s0[0], s1[0], s2[0], s3[0] = a0, a1, a2, a3
    for j in range(1, width):
        a0 += l0[j + size - 1] - l0[j - 1]
        a1 += l1[j + size - 1] - l1[j - 1]
        a2 += l2[j + size - 1] - l2[j - 1]
        a3 += l3[j + size - 1] - l3[j - 1]
        s0[j] = a0
        s1[j] = a1
        s2[j] = a2
        s3[j] = a3
    for k in range(count):
        n, row = divmod(first + k, height)
        target = dst[n, row]
        line = sums[k]
        for j in range(width):
            whole[j] = line[j] / size
        for j in range(width):
            target[j] = whole[j]


@jit
def running_line_sums(
    ctl: int, threads: int, src: Any, dst: Any, cols: Any, inside: Any, size: int, fill: float, zero: Any, middle: Any
) -> None:
    """Compute dst[n, i, j] = (sum over k < size of src[n, i, cols[j + k]]) / size by one running sum per row.

    Parameters are those of `running_sums`, with the columns in the rows' place. Four rows go together, as each step of a
    running sum waits for the one before.
    """
    tasks = (dst.shape[0] * dst.shape[1] + 3) // 4
    parallel_for(ctl, threads, tasks, running_line_task, (src, dst, cols, inside, size, fill, zero, middle))
