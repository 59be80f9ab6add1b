"""Weight gradients of layers: products of shifted source rows with the gradient, sums over all pixels in registers.

For each group, ``dw[o][k] = sum over p of g[o][p] * x_k[p]`` with k = (c, kh, kw) and p a pixel of the result: a matrix product
whose long axis is the pixels. Register tiles are as in `fastconv.kernels.gemm`, with k on the broadcast side::

    source     block [c][image][row][column], a copy with its border, or the source itself      one element of x_k, by an offset per k
    gradient   panel [p][NR output channels]                                                    vectors

A shift by a tap or a stride is an offset, so nothing is unrolled. The work is cut into tasks, a range of output channels and
a range of k of one group, which walk the blocks of pixels in order: any number of threads gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import config

from fastconv.kernels._jit import jit
from fastconv.kernels.gemm import UNROLL
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.rows import memory
from fastconv.kernels.simd import I64, Emitter, Value, call_by_case, i64, keepalive, kernel_intrinsic, new_function
from fastconv.kernels.threads import parallel_for

#: Arguments of a tile's function.
ARGUMENTS = 10


def build_tile(module: Value, element: str, rows: int, vectors: int, panel_vectors: int) -> Value:
    """Write the kernel of one register tile: the sums of `rows` k and `vectors` vectors of output channels over a block of pixels.

    ``sums[m][:] += sum over n < images, i < height, j < width of x[offsets[m] + n*image_step + i*row_step + j*step] * panel[n][i][j][:]``

    Arguments: x, offsets (address of `rows` i64), step, row_step, image_step, all steps and offsets in bytes, panel, images,
    height, width, sums (rows of `panel_vectors` vectors).
    """
    function, b = new_function(module, f"weight_products_{element}_{rows}x{vectors}of{panel_vectors}", ARGUMENTS)
    if b is None:
        return function
    e = Emitter(module, b, element)
    x, offsets, step, row_step, image_step, panel, images, height, width, sums = function.args
    pitch = panel_vectors * e.lanes
    shift = UNROLL.bit_length() - 1
    table = e.ptr(offsets)
    starts = [b.add(x, b.load(b.gep(table, [i64(m)], source_etype=I64), typ=I64, align=8)) for m in range(rows)]
    turns, rest = b.ashr(width, i64(shift)), b.and_(width, i64(UNROLL - 1))
    aside = [b.mul(step, i64(u)) for u in range(UNROLL + 1)]

    def image(n: Value, carried: list[Value]) -> list[Value]:
        def row(i: Value, carried: list[Value]) -> list[Value]:
            first = b.add(b.mul(n, image_step), b.mul(i, row_step))
            pointers = [e.ptr(b.add(start, first)) for start in starts]

            def pixels(count: int) -> Any:
                def body(_: Value, carried: list[Value]) -> list[Value]:
                    at, line, *acc = carried
                    for u in range(count):
                        here = b.add(at, aside[u])
                        values = [e.load(e.offset(line, u * pitch + v * e.lanes)) for v in range(vectors)]
                        for m, pointer in enumerate(pointers):
                            factor = e.broadcast(e.offset_nbytes(pointer, here))
                            for v, value in enumerate(values):
                                acc[m * vectors + v] = e.fma(factor, value, acc[m * vectors + v])
                    return [b.add(at, aside[count]), e.offset(line, count * pitch), *acc]

                return body

            carried = e.loop(turns, [i64(0), *carried], pixels(UNROLL), "pixels")
            return e.loop(rest, carried, pixels(1), "rest")[1:]

        return e.loop(height, carried, row, "row")

    _, *acc = e.loop(images, [e.ptr(panel), *([e.zero()] * (rows * vectors))], image, "image")
    for m in range(rows):
        for v in range(vectors):
            place = e.offset(e.ptr(sums), m * pitch + v * e.lanes)
            e.store(b.fadd(e.load(place), acc[m * vectors + v]), place)
    b.ret_void()
    return function


def build_tiles(module: Value, element: str) -> Value:
    """Write ``f(rows, vectors, ...)``, which calls the kernel of that tile; a size that was not generated does nothing."""
    tile = register_tile({"float32": 4, "float64": 8}[element])
    function, b = new_function(module, f"weight_products_{element}_any", 2 + ARGUMENTS)
    if b is None:
        return function
    rows, vectors, *rest = function.args
    kernels = {
        height * 64 + width: build_tile(module, element, height, width, tile.vectors) for height in tile.heights for width in tile.widths
    }
    call_by_case(b, b.add(b.mul(rows, i64(64)), vectors), kernels, rest)
    return function


def build_panel(module: Value, element: str) -> Value:
    """Write ``dst[j*pitch + c] = src[min(c, channels - 1)*plane + j]`` for j < n, c < lanes*groups, by squares transposed in registers.

    Arguments: dst, pitch, src, plane, n, channels, groups; strides in elements.
    """
    function, b = new_function(module, f"weight_panel_{element}", 7)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, pitch, src, plane, n, channels, groups = function.args
    lanes = i64(e.lanes)

    def group(v: Value, _: list[Value]) -> list[Value]:
        c = b.mul(v, lanes)
        rows = []
        for i in range(e.lanes):
            channel, last = b.add(c, i64(i)), b.sub(channels, i64(1))
            channel = b.select(b.icmp_signed("<", channel, last), channel, last)
            rows.append(e.offset(e.ptr(src), b.mul(channel, plane)))
        to = e.offset(e.ptr(dst), c)

        def square(j: Value) -> None:
            turned = e.transpose([e.load(e.offset(row, j)) for row in rows])
            for i, value in enumerate(turned):
                e.store(value, e.offset(to, b.mul(b.add(j, i64(i)), pitch)))

        def whole(q: Value, _: list[Value]) -> list[Value]:
            # The last square ends where the rows do.
            j, last = b.mul(q, lanes), b.sub(n, lanes)
            square(b.select(b.icmp_signed("<", j, last), j, last))
            return []

        def single(j: Value, _: list[Value]) -> list[Value]:
            for i, row in enumerate(rows):
                b.store(e.load_scalar(e.offset(row, j)), e.offset(to, b.add(b.mul(j, pitch), i64(i))), align=e.nbytes)
            return []

        is_short = b.icmp_signed("<", n, lanes)
        e.loop(b.select(is_short, i64(0), b.sdiv(b.add(n, b.sub(lanes, i64(1))), lanes)), [], whole, "square")
        e.loop(b.select(is_short, n, i64(0)), [], single, "single")
        return []

    e.loop(groups, [], group, "group")
    b.ret_void()
    return function


def build_line(module: Value, element: str) -> Value:
    """Write ``dst[j] = src[j]`` for j < n. Arguments: dst, src, n."""
    function, b = new_function(module, f"weight_line_{element}", 3)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, src, n = function.args
    to, origin, lanes = e.ptr(dst), e.ptr(src), i64(e.lanes)

    def whole(v: Value, _: list[Value]) -> list[Value]:
        # The last vector ends where the line does.
        j, last = b.mul(v, lanes), b.sub(n, lanes)
        j = b.select(b.icmp_signed("<", j, last), j, last)
        e.store(e.load(e.offset(origin, j)), e.offset(to, j))
        return []

    def single(j: Value, _: list[Value]) -> list[Value]:
        b.store(e.load_scalar(e.offset(origin, j)), e.offset(to, j), align=e.nbytes)
        return []

    is_short = b.icmp_signed("<", n, lanes)
    e.loop(b.select(is_short, i64(0), b.sdiv(b.add(n, b.sub(lanes, i64(1))), lanes)), [], whole, "whole")
    e.loop(b.select(is_short, n, i64(0)), [], single, "single")
    b.ret_void()
    return function


def _plain_tiles(
    like: Any, rows: int, vectors: int, x: int, offsets: int, step: int, row_step: int, image_step: int, panel: int, images: int,
    height: int, width: int, sums: int,
) -> None:  # fmt: skip
    tile = register_tile(like.itemsize)
    gradient = memory(panel, images * height * width * tile.columns, like.dtype).reshape(images, height, width, tile.columns)
    total = memory(sums, rows * tile.columns, like.dtype).reshape(rows, tile.columns)
    columns = vectors * tile.columns // tile.vectors
    for m, offset in enumerate(memory(offsets, rows, np.int64)):
        for n, i in np.ndindex(images, height):
            row = memory(x + int(offset) + n * image_step + i * row_step, (width - 1) * (step // like.itemsize) + 1, like.dtype)
            total[m, :columns] += row[:: step // like.itemsize] @ gradient[n, i, :, :columns]


def _plain_panel(like: Any, dst: int, pitch: int, src: int, plane: int, n: int, channels: int, groups: int) -> None:
    count = groups * register_tile(like.itemsize).columns // register_tile(like.itemsize).vectors
    rows = np.lib.stride_tricks.as_strided(
        memory(src, (channels - 1) * plane + n, like.dtype), (channels, n), (plane * like.itemsize, like.itemsize)
    )
    memory(dst, n * pitch, like.dtype).reshape(n, pitch)[:, :count] = rows[np.minimum(np.arange(count), channels - 1)].T


def _plain_line(like: Any, dst: int, src: int, n: int) -> None:
    memory(dst, n, like.dtype)[:] = memory(src, n, like.dtype)


#: In jitted code ``_tiles(like, rows, vectors, ...)``, ``_panel(like, ...)``, ``_line(like, ...)``; `like` is any array of the dtype.
_tiles: Any = _plain_tiles if config.DISABLE_JIT else kernel_intrinsic(build_tiles)
_panel: Any = _plain_panel if config.DISABLE_JIT else kernel_intrinsic(build_panel)
_line: Any = _plain_line if config.DISABLE_JIT else kernel_intrinsic(build_line)


@jit
def _copy_source(
    src: Any, rows: Any, cols: Any, row0: int, col0: int, left: int, fill: Any, n: int, c: int, dst: Any, at: int, high: int, wide: int,
    pitch: int,
) -> None:  # fmt: skip
    """Copy the padded plane from (row0, col0) on: dst[at + a*pitch + b] = xp[n, c, row0 + a, col0 + b]; a < high, b < wide."""
    width, nbytes = src.shape[3], src.itemsize
    first, last = min(max(left - col0, 0), wide), max(min(left + width - col0, wide), 0)
    to, origin = dst.ctypes.data, src.ctypes.data + (n * src.shape[1] + c) * src.shape[2] * width * nbytes
    for a in range(high):
        row = rows[row0 + a]
        line = at + a * pitch
        if row < 0:
            for b in range(wide):
                dst[line + b] = fill
            continue
        if first < last:
            _line(src, to + (line + first) * nbytes, origin + (row * width + col0 + first - left) * nbytes, last - first)
        for b in range(first):
            col = cols[col0 + b]
            dst[line + b] = src[n, c, row, col] if col >= 0 else fill
        for b in range(last, wide):
            col = cols[col0 + b]
            dst[line + b] = src[n, c, row, col] if col >= 0 else fill
    keepalive(dst)
    keepalive(src)


@jit
def _task(i: int, tid: int, operands: Any, tables: Any, places: Any, geometry: Any, block: Any) -> None:
    """Compute task i: the arguments are those of `weight_gradient`."""
    src, diff_dst, diff_weights, fill = operands
    tasks, starts, offsets, rows, cols = tables
    sources, panels, sums = places
    groups, sh, sw, left, nr, vectors = geometry
    step_n, step_i, step_j, height, width, pitch, in_place = block
    row_step, image_step = (src.shape[3], src.shape[1] * src.shape[2] * src.shape[3]) if in_place else (width, height * width)
    nbytes = src.itemsize
    lanes = nr // vectors
    per_group, kernels = src.shape[1] // groups, diff_weights.shape[0] // groups
    taps = diff_weights.shape[1] // per_group
    mb, oh, ow = diff_dst.shape[0], diff_dst.shape[2], diff_dst.shape[3]
    group, first_panel, last_panel, first_tile, last_tile = tasks[i]
    k0, k1 = starts[first_tile], starts[last_tile]
    c0, c1 = k0 // taps, (k1 - 1) // taps + 1
    total = sums[tid]
    # Sums of several blocks wait for the next one; those of a single block leave their place to the next panel.
    slot = 0 if step_n >= mb and step_i >= oh and step_j >= ow else k1 - k0
    scratch = sources[tid]
    panel, sums_at, offsets_at = panels[tid].ctypes.data, total.ctypes.data, offsets.ctypes.data
    gradient = diff_dst.ctypes.data
    base = scratch.ctypes.data - c0 * pitch * nbytes
    for n0 in range(0, mb, step_n):
        images = min(step_n, mb - n0)
        for i0 in range(0, oh, step_i):
            count = min(step_i, oh - i0)
            for j0 in range(0, ow, step_j):
                columns = min(step_j, ow - j0)
                # Of a last, smaller block only what its pixels read is there.
                high, wide = height - (step_i - count) * sh, width - (step_j - columns) * sw
                if in_place:
                    base = src.ctypes.data + ((n0 * groups + group) * per_group * src.shape[2] + i0 * sh) * src.shape[3] * nbytes
                    base += j0 * sw * nbytes
                for c in range(c0, c0 if in_place else c1):
                    for n in range(images):
                        _copy_source(
                            src, rows, cols, i0 * sh, j0 * sw, left, fill, n0 + n, group * per_group + c, scratch,
                            (c - c0) * pitch + n * height * width, high, wide, width,
                        )  # fmt: skip
                is_first, is_last = n0 + i0 + j0 == 0, n0 + images == mb and i0 + count == oh and j0 + columns == ow
                for q in range(first_panel, last_panel):
                    waiting = (q - first_panel) * slot
                    if is_first:
                        total[waiting : waiting + k1 - k0] = 0
                    channels = min(nr, kernels - q * nr)
                    used = vectors
                    while used % 2 == 0 and used // 2 * lanes >= channels:
                        used //= 2
                    for n in range(images):
                        g = gradient + ((((n0 + n) * groups + group) * kernels + q * nr) * oh * ow + i0 * ow + j0) * nbytes
                        to = panel + n * count * columns * nr * nbytes
                        if columns == ow:
                            _panel(src, to, nr, g, oh * ow, count * columns, channels, used)
                        else:
                            for a in range(count):
                                _panel(src, to + a * columns * nr * nbytes, nr, g + a * ow * nbytes, oh * ow, columns, channels, used)
                    for t in range(first_tile, last_tile):
                        k = starts[t]
                        there = sums_at + (waiting + k - k0) * nr * nbytes
                        _tiles(
                            src, starts[t + 1] - k, used, base, offsets_at + k * 8, sw * nbytes, sh * row_step * nbytes,
                            image_step * nbytes, panel, images, count, columns, there,
                        )  # fmt: skip
                    for o in range(channels if is_last else 0):
                        row = group * kernels + q * nr + o
                        for k in range(k1 - k0):
                            diff_weights[row, k0 + k] = total[waiting + k, o]
    keepalive(sources)
    keepalive(panels)
    keepalive(sums)
    keepalive(offsets)
    keepalive(diff_dst)


@jit
def weight_gradient(ctl: int, threads: int, operands: Any, tables: Any, places: Any, geometry: Any, block: Any) -> None:
    """Compute diff_weights[o, (c, r, s)] = sum over n, i, j of diff_dst[n, o, i, j] * xp[n, c0(o) + c, i*sh + r*dh, j*sw + s*dw].

    Parameters
    ----------
    operands : tuple
        ``src`` (N, IC, IH, IW), ``diff_dst`` (N, OC, OH, OW), ``diff_weights`` (OC, IC/G*KH*KW), C-contiguous, and the border's value.
    tables : tuple of int64 arrays
        Tasks (group, first and last panel, first and last tile), first k of each tile and the end, byte offset of each k in a block
        of the source, and the indices of padded rows and columns, -1 for the border's value.
    places : tuple
        Scratch memory of each thread: a block of the source, a panel, the sums (rows of NR).
    geometry : tuple of int
        (G, sh, sw, columns of padding on the left, NR, vectors in NR).
    block : tuple of int
        Images, rows and columns of the result in a block; rows and columns of the source that they read, elements of a channel;
        whether they are read where they are, without a copy.

    Notes
    -----
    2*N*OC*OH*OW*IC/G*KH*KW flops. Bytes: a block of the source and a panel of the gradient are read once for each task that needs
    them, the sums are written once. Preconditions are not checked here.
    """
    parallel_for(ctl, threads, tables[0].shape[0], _task, (operands, tables, places, geometry, block))
