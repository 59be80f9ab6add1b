"""Weight gradients of depthwise layers: inner products of rows of the gradient and shifted rows of the source."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import config

from fastconv.kernels._jit import jit
from fastconv.kernels.loops import inside
from fastconv.kernels.rows import memory
from fastconv.kernels.simd import Emitter, Value, i64, keepalive, kernel_intrinsic, new_function
from fastconv.kernels.threads import parallel_for

#: Sums at a time, each of a vector: enough that an addition seldom waits for the one before.
SUMS = 2


def build_dots(module: Value, element: str) -> Value:
    """Write ``dst[:] += sum over i < rows, j < count of a[i][j] * b[i][j]``, lane by lane; `dst` holds a vector.

    Arguments: a, bytes between its rows, b, bytes between its rows, rows, count, dst.
    """
    function, b = new_function(module, f"row_dots_{element}", 7)
    if b is None:
        return function
    e = Emitter(module, b, element)
    left, left_step, right, right_step, rows, count, dst = function.args
    width = e.lanes * e.nbytes
    vectors, tail = b.sdiv(count, i64(e.lanes)), b.srem(count, i64(e.lanes))
    blocks, rest = b.sdiv(vectors, i64(SUMS)), b.srem(vectors, i64(SUMS))
    mask = e.as_mask(e.range_mask(i64(0), tail))

    def row(i: Value, sums: list[Value]) -> list[Value]:
        p, q = (b.add(base, b.mul(i, step)) for base, step in ((left, left_step), (right, right_step)))

        def product(at: Value, total: Value) -> Value:
            return e.fma(e.load(e.ptr(b.add(p, at))), e.load(e.ptr(b.add(q, at))), total)

        def block(j: Value, inner: list[Value]) -> list[Value]:
            at = b.mul(j, i64(SUMS * width))
            return [product(b.add(at, i64(v * width)), total) for v, total in enumerate(inner)]

        sums = e.loop(blocks, sums, block, "block")
        done = b.mul(blocks, i64(SUMS * width))

        def vector(j: Value, inner: list[Value]) -> list[Value]:
            return [product(b.add(done, b.mul(j, i64(width))), inner[0]), *inner[1:]]

        sums = e.loop(rest, sums, vector, "vector")
        end = b.mul(vectors, i64(width))

        def last(_: Value, inner: list[Value]) -> list[Value]:
            x, y = (e.masked_load(e.ptr(b.add(base, end)), mask) for base in (p, q))
            return [*inner[:-1], e.fma(x, y, inner[-1])]

        return e.loop(b.select(b.icmp_signed(">", tail, i64(0)), i64(1), i64(0)), sums, last, "tail")

    sums = e.loop(rows, [e.zero()] * SUMS, row, "row")
    total = e.load(e.ptr(dst))
    for part in sums:
        total = b.fadd(total, part)
    e.store(total, e.ptr(dst))
    b.ret_void()
    return function


def _plain_dots(like: Any, a: int, a_step: int, b: int, b_step: int, rows: int, count: int, dst: int) -> None:
    total = memory(dst, 1, like.dtype)
    for i in range(rows):
        total += (memory(a + i * a_step, count, like.dtype) * memory(b + i * b_step, count, like.dtype)).sum()


#: In jitted code ``row_dots(like, a, a_step, b, b_step, rows, count, dst)``; `like` is any array of the dtype.
row_dots: Any = _plain_dots if config.DISABLE_JIT else kernel_intrinsic(build_dots)
#: Room for a vector of any target.
MOST_LANES = 16


@jit
def depthwise_task(o: int, _tid: int, src: Any, diff_dst: Any, diff_weights: Any, geometry: Any) -> None:
    """Compute the gradient of the kernels of output channel `o`; the arguments are those of `depthwise_weight_gradient`."""
    sh, sw, dh, dw, ph, pw, per_group = geometry
    images, channels, height, width = src.shape
    oc, oh, ow = diff_dst.shape[1], diff_dst.shape[2], diff_dst.shape[3]
    kh, kw = diff_weights.shape[1], diff_weights.shape[2]
    nbytes = src.itemsize
    lanes = np.zeros((kh, kw, MOST_LANES), src.dtype)
    for n in range(images):
        plane = src.ctypes.data + (n * channels + o // per_group) * height * width * nbytes
        gradient = diff_dst.ctypes.data + (n * oc + o) * oh * ow * nbytes
        for r in range(kh):
            top, bottom = inside(oh, height, sh, r * dh - ph)
            for s in range(kw):
                shift = s * dw - pw
                first, last = inside(ow, width, sw, shift)
                a = gradient + (top * ow + first) * nbytes
                b = plane + ((top * sh + r * dh - ph) * width + first * sw + shift) * nbytes
                if first < last and top < bottom:
                    if sw == 1:
                        at = lanes.ctypes.data + (r * kw + s) * MOST_LANES * nbytes
                        row_dots(src, a, ow * nbytes, b, sh * width * nbytes, bottom - top, last - first, at)
                    else:
                        for i in range(top, bottom):
                            line = src[n, o // per_group, i * sh + r * dh - ph]
                            for j in range(first, last):
                                lanes[r, s, j % MOST_LANES] += diff_dst[n, o, i, j] * line[j * sw + shift]
    for r in range(kh):
        for s in range(kw):
            for k in range(MOST_LANES):
                diff_weights[o, r, s] += lanes[r, s, k]
    keepalive(lanes)
    keepalive(src)
    keepalive(diff_dst)


@jit
def depthwise_weight_gradient(ctl: int, threads: int, src: Any, diff_dst: Any, diff_weights: Any, geometry: Any) -> None:
    """Compute diff_weights[o, r, s] = sum over n, i, j of diff_dst[n, o, i, j] * src[n, o//m, i*sh + r*dh - ph, j*sw + s*dw - pw].

    Parameters
    ----------
    src : (N, G, IH, IW)
        C-contiguous; zeros beyond the borders take no part.
    diff_dst : (N, G*m, OH, OW)
        C-contiguous.
    diff_weights : (G*m, KH, KW)
        Zeros.
    geometry : tuple of int
        (sh, sw, dh, dw, ph, pw, m).

    Notes
    -----
    2*N*OC*OH*OW*KH*KW flops at most. Bytes: source and gradient once, as a plane of each stays in cache for all taps.
    Preconditions are not checked here.
    """
    parallel_for(ctl, threads, diff_weights.shape[0], depthwise_task, (src, diff_dst, diff_weights, geometry))
