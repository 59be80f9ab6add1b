"""Sums over a window in one fixed order, in double or single precision, whatever the dtype of the array.

`scipy.ndimage` sums in double, tap after tap, and casts the sum to the output's dtype. These loops do the same
operations in the same order for many outputs at once, without fused multiply-adds, so that results agree to the last
bit wherever SciPy's own C was compiled without them (x86-64).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.rows import gather, load, store
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for
from fastconv.kernels.window_sums import sums

#: The words of a geometry: kinds (`rows.KINDS`) and bytes of an element of src and dst; heights of their images and their widths;
(SRC_KIND, SRC_NBYTES, DST_KIND, DST_NBYTES, HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH,
 # padded columns between which the source is read in order; rows and columns of the window, or outputs of a running sum;
 INSIDE, INSIDE_END, KERNEL_ROWS, KERNEL_COLS,
 # rows and columns of a task; outputs that are summed at once; how the window is summed (`window_sums`); rows that
 # are summed together.
 BLOCK_ROWS, BLOCK_COLS, STEP, FORM, GROUP) = range(17)  # fmt: skip


@jit
def load_line(src: int, row: int, cols: Any, geometry: Any, first: int, line: Any, count: int, fill: float) -> None:
    """Convert padded columns ``first ..`` of a row of the image at address `src` into `line`; row -1 and column -1 are `fill`."""
    if row < 0:
        for j in range(count):
            line[j] = fill
        return
    g = geometry
    source = src + row * g[WIDTH] * g[SRC_NBYTES]
    places, target, nbytes = cols.ctypes.data + 8 * first, line.ctypes.data, line.itemsize
    start = min(max(g[INSIDE] - first, 0), count)
    end = max(min(g[INSIDE_END] - first, count), start)
    gather(line, g[SRC_KIND], source, places, target, start)
    if start < end:
        load(line, g[SRC_KIND], source + cols[first + start] * g[SRC_NBYTES], target + start * nbytes, end - start)
    gather(line, g[SRC_KIND], source, places + 8 * end, target + end * nbytes, count - end)
    for j in range(start):
        if cols[first + j] < 0:
            line[j] = fill
    for j in range(end, count):
        if cols[first + j] < 0:
            line[j] = fill
    keepalive(cols)
    keepalive(line)


@jit
def window_task(
    t: int, _tid: int, src: int, dst: int, rows: Any, cols: Any, taps: Any, tap_rows: Any, tap_cols: Any, geometry: Any, fill: float
) -> None:
    """Compute one block of rows and columns of one image of dst; the arguments are those of `windows`."""
    g = geometry
    kh, oh, ow, count = g[KERNEL_ROWS], g[OUT_HEIGHT], g[OUT_WIDTH], taps.shape[0]
    across = (ow + g[BLOCK_COLS] - 1) // g[BLOCK_COLS]
    down = (oh + g[BLOCK_ROWS] - 1) // g[BLOCK_ROWS]
    n, rest = divmod(t, across * down)
    i0 = rest // across * g[BLOCK_ROWS]
    j0 = rest % across * g[BLOCK_COLS]
    end = min(i0 + g[BLOCK_ROWS], oh)
    width = min(g[BLOCK_COLS], ow - j0)
    blocks = (width + g[STEP] - 1) // g[STEP]
    used = width + g[KERNEL_COLS] - 1
    nbytes = taps.itemsize
    # An odd number of cache lines, so that equal columns of neighbouring rows do not compete for the same places of the cache.
    length = ((((blocks * g[STEP] + g[KERNEL_COLS] - 1) * nbytes + 63) // 64) | 1) * 64 // nbytes
    # Output rows go in groups: a stretch of all lines that fits the first-level cache serves each of them.
    group, ring = g[GROUP], kh + g[GROUP] - 1
    chunk = blocks if group == 1 else 1
    lines = np.empty((ring, length), taps.dtype)
    acc = np.empty((group, blocks * g[STEP]), taps.dtype)
    offsets = np.empty((group, count), np.int64)
    slots = np.empty(count, np.int64)
    for q in range(count):
        slots[q] = (i0 + tap_rows[q]) % ring * length * nbytes
    image = src + n * g[HEIGHT] * g[WIDTH] * g[SRC_NBYTES]
    target = dst + ((n * oh + i0) * ow + j0) * g[DST_NBYTES]
    for r in range(ring):
        for j in range(used, length):  # summed too, into outputs that are thrown away
            lines[r, j] = 0
    for r in range(i0, i0 + kh - 1):
        load_line(image, rows[r], cols, g, j0, lines[r % ring], used, fill)
    for i in range(i0, end, group):
        fresh = min(group, end - i)
        for r in range(fresh):
            newest = i + r + kh - 1
            load_line(image, rows[newest], cols, g, j0, lines[newest % ring], used, fill)
            for q in range(count):
                offsets[r, q] = slots[q] + tap_cols[q] * nbytes
                following = slots[q] + length * nbytes
                slots[q] = following if following < ring * length * nbytes else 0
        for block in range(0, blocks, chunk):
            shift = block * g[STEP] * nbytes
            for r in range(fresh):
                places = offsets.ctypes.data + r * count * 8
                result = acc.ctypes.data + r * blocks * g[STEP] * nbytes + shift
                sums(taps, lines.ctypes.data + shift, taps.ctypes.data, places, count, result, chunk, g[FORM])
        for r in range(fresh):
            store(taps, g[DST_KIND], acc.ctypes.data + r * blocks * g[STEP] * nbytes, target, width)
            target += ow * g[DST_NBYTES]
    keepalive(lines)
    keepalive(acc)
    keepalive(offsets)
    keepalive(taps)


@jit
def windows(
    ctl: int, threads: int, tasks: int, src: int, dst: int, rows: Any, cols: Any, taps: Any, tap_rows: Any, tap_cols: Any, geometry: Any,
    fill: float,
) -> None:  # fmt: skip
    """Compute dst[n, i, j] = sum over q of taps[q] * src[n, rows[i + tap_rows[q]], cols[j + tap_cols[q]]].

    Parameters
    ----------
    tasks : int
        Images times blocks of rows times blocks of columns.
    src, dst : int
        Addresses of (N, H, W) and (N, OH, OW), C-contiguous, aligned; they share no memory.
    rows, cols : (OH + KH - 1,), (OW + KW - 1,) int64
        Source position of each padded position, -1 = `fill`.
    taps : (Q,)
        Weights in the dtype of the sums.
    tap_rows, tap_cols : (Q,) int64
        Where each tap lies in the window.
    geometry : (17,) int64
        The words named above. With FORM other than PLAIN, Q is odd and taps[Q-1-q] counts as taps[q] or its negative.

    Notes
    -----
    Preconditions are not checked here. KH lines of a block, converted and padded, are kept per task: the source is
    read (1 + KH/rows) times, `dst` is written once; no other bytes. 2*Q flops per output (no FMA, to keep SciPy's rounding).
    """
    parallel_for(ctl, threads, tasks, window_task, (src, dst, rows, cols, taps, tap_rows, tap_cols, geometry, fill))


@jit
def load_part(src: int, row: int, geometry: Any, first: int, line: Any, fill: float) -> None:
    """Convert columns ``first ..`` of a row of the image at address `src`; row -1 is `fill`."""
    if row < 0:
        for j in range(line.shape[0]):
            line[j] = fill
        return
    g = geometry
    load(line, g[SRC_KIND], src + (row * g[WIDTH] + first) * g[SRC_NBYTES], line.ctypes.data, line.shape[0])
    keepalive(line)


@jit
def running_task(t: int, _tid: int, src: int, dst: int, rows: Any, size: int, geometry: Any, fill: float, zero: Any) -> None:
    """Compute a block of columns of one image of dst; the arguments are those of `running_sums`."""
    g = geometry
    oh, ow = g[OUT_HEIGHT], g[OUT_WIDTH]
    across = (ow + g[BLOCK_COLS] - 1) // g[BLOCK_COLS]
    n, rest = divmod(t, across)
    j0 = rest * g[BLOCK_COLS]
    width = min(g[BLOCK_COLS], ow - j0)
    image = src + n * g[HEIGHT] * g[WIDTH] * g[SRC_NBYTES]
    target = dst + (n * oh * ow + j0) * g[DST_NBYTES]
    acc = np.zeros(width, zero.dtype)
    enters = np.empty(width, zero.dtype)
    leaves = np.empty(width, zero.dtype)
    for r in range(size):
        load_part(image, rows[r], g, j0, enters, fill)
        for j in range(width):
            acc[j] += enters[j]
    for i in range(oh):
        if i > 0:
            load_part(image, rows[i + size - 1], g, j0, enters, fill)
            load_part(image, rows[i - 1], g, j0, leaves, fill)
            for j in range(width):
                acc[j] += enters[j] - leaves[j]
        for j in range(width):
            enters[j] = acc[j] / size
        store(zero, g[DST_KIND], enters.ctypes.data, target, width)
        target += ow * g[DST_NBYTES]
    keepalive(enters)


@jit
def running_sums(
    ctl: int, threads: int, tasks: int, src: int, dst: int, rows: Any, size: int, geometry: Any, fill: float, zero: Any
) -> None:
    """Compute dst[n, i, j] = (sum over k < size of src[n, rows[i + k], j]) / size by one running sum per column.

    Parameters
    ----------
    tasks : int
        Images times blocks of columns.
    src, dst : int
        Addresses of (N, H, W), (N, OH, W), C-contiguous, aligned.
    rows : (OH + size - 1,) int64
        Source row of each padded row, -1 = `fill`.
    geometry : (17,) int64
        As in `windows`; of the blocks only BLOCK_COLS counts.
    zero : (0,)
        Its dtype is that of the sums.

    Notes
    -----
    Preconditions are not checked here. Each step adds the difference of the row that enters and the row that leaves: 3 flops per
    output whatever the size. Bytes: the source twice, the result once.
    """
    parallel_for(ctl, threads, tasks, running_task, (src, dst, rows, size, geometry, fill, zero))


@jit
def running_line_task(t: int, _tid: int, src: int, dst: int, cols: Any, size: int, geometry: Any, fill: float, zero: Any) -> None:
    """Compute 4 rows of dst; the arguments are those of `running_line_sums`."""
    g = geometry
    height, width = g[OUT_HEIGHT], g[OUT_WIDTH]
    first = 4 * t
    lines = np.zeros((4, width + size - 1), zero.dtype)
    averages = np.zeros((4, width), zero.dtype)
    count = min(4, height - first)
    for k in range(count):
        load_line(src, first + k, cols, g, 0, lines[k], width + size - 1, fill)
    a0 = a1 = a2 = a3 = zero.dtype.type(0)
    l0, l1, l2, l3 = lines[0], lines[1], lines[2], lines[3]
    for j in range(size):
        a0 += l0[j]
        a1 += l1[j]
        a2 += l2[j]
        a3 += l3[j]
    s0, s1, s2, s3 = averages[0], averages[1], averages[2], averages[3]
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
        line = averages[k]
        for j in range(width):
            line[j] = line[j] / size
        store(zero, g[DST_KIND], line.ctypes.data, dst + (first + k) * width * g[DST_NBYTES], width)
    keepalive(averages)


@jit
def running_line_sums(
    ctl: int, threads: int, tasks: int, src: int, dst: int, cols: Any, size: int, geometry: Any, fill: float, zero: Any
) -> None:
    """Compute dst[i, j] = (sum over k < size of src[i, cols[j + k]]) / size by one running sum per row.

    Parameters are those of `running_sums`, with columns in the place of rows, one image, and tasks of four rows: they go
    together, as each step of a running sum waits for the one before. As many flops and bytes; preconditions are not checked either.
    """
    parallel_for(ctl, threads, tasks, running_line_task, (src, dst, cols, size, geometry, fill, zero))
