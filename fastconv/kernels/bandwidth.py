"""The bandwidth of each level of memory, measured: the sloped part of the roofline."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir

from fastconv.kernels._jit import jit
from fastconv.kernels.simd import Emitter, Value, i64, kernel_intrinsic, new_function
from fastconv.kernels.target import host
from fastconv.kernels.threads import parallel_for, pool

#: Vectors that are copied per turn of the inner loop.
UNROLL = 4
#: A measurement copies at least this much between two looks at the clock.
LEAST_NBYTES = 2 * 2**20
ALIGN_NBYTES = 4096


def build_copies(module: Value, element: str) -> ir.Function:
    """Write ``f(repeats, turns, src, dst)``: `repeats` copies of `turns` x `UNROLL` vectors from `src` to `dst`.

    Notes
    -----
    Preconditions are not checked here: both areas hold ``turns * UNROLL`` aligned vectors. No flops; twice the size of an area in
    bytes per copy. The addresses are hidden from LLVM in each turn, which would otherwise call memmove.
    """
    function, builder = new_function(module, f"fastconv_copies_{element}", 4)
    if builder is None:
        return function
    e = Emitter(module, builder, element)
    repeats, turns, src, dst = function.args
    vector_nbytes = e.lanes * e.nbytes

    def copy(index: Value, carried: list[Value]) -> list[Value]:  # noqa: ARG001  the loop's signature
        def turn(index: Value, carried: list[Value]) -> list[Value]:
            start = builder.mul(index, i64(UNROLL * vector_nbytes))
            source, target = e.launder(e.ptr(builder.add(src, start))), e.launder(e.ptr(builder.add(dst, start)))
            values = [e.load(e.offset_nbytes(source, n * vector_nbytes), align=vector_nbytes) for n in range(UNROLL)]
            for n, value in enumerate(values):
                e.store(value, e.offset_nbytes(target, n * vector_nbytes), align=vector_nbytes)
            return carried

        e.loop(turns, [], turn, "turn")
        return carried

    e.loop(repeats, [], copy, "copy")
    builder.ret_void()
    return function


_copies = kernel_intrinsic(build_copies)


@jit
def _copy_tile(i: int, tid: int, like: Any, repeats: int, turns: int, areas: int, nbytes: int) -> None:  # noqa: ARG001  the form of a tile
    src = areas + 2 * i * nbytes
    _copies(like, repeats, turns, src, src + nbytes)


@jit
def run_copies(ctl: int, threads: int, like: Any, repeats: int, turns: int, areas: int, nbytes: int) -> None:
    """Copy on `threads` threads at once, each `repeats` times between two areas of `nbytes` of its own, from address `areas` on.

    No flops, ``2 * threads * repeats * nbytes`` bytes. Not checked: there are 2 * `threads` areas of `turns` turns each.
    """
    parallel_for(ctl, threads, threads, _copy_tile, (like, repeats, turns, areas, nbytes))


def measured_bandwidth(nbytes: int, threads: int = 1, *, seconds: float = 0.1) -> float:
    """Measure how fast data within `nbytes` is copied: the best of several runs of vector loads and stores.

    Parameters
    ----------
    nbytes : int
        What one thread reads and writes, its two areas together.
    threads : int
        Threads that copy at once, each between areas of its own.
    seconds : float
        How long to look for the best run.

    Returns
    -------
    float
        Bytes per second that all threads together read and write.
    """
    like = np.zeros(1, np.float32)
    block_nbytes = UNROLL * host().vector_nbytes
    turns = max(1, nbytes // 2 // block_nbytes)
    area_nbytes = turns * block_nbytes
    memory = np.ones(2 * threads * area_nbytes + ALIGN_NBYTES, np.uint8)  # written: each page is there
    areas = -(-memory.ctypes.data // ALIGN_NBYTES) * ALIGN_NBYTES
    repeats = max(1, LEAST_NBYTES // (2 * area_nbytes))
    ctl = pool.handle(threads)
    run_copies(ctl, threads, like, repeats, turns, areas, area_nbytes)
    best, end, runs = float("inf"), time.perf_counter() + seconds, 0
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run_copies(ctl, threads, like, repeats, turns, areas, area_nbytes)
        best = min(best, time.perf_counter() - start)
        runs += 1
    return 2 * area_nbytes * repeats * threads / best
