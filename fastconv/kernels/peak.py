"""The multiply-add peak of this CPU, measured: what every GFLOP/s figure is a share of."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir

from fastconv.kernels._jit import jit
from fastconv.kernels.simd import Emitter, Value, kernel_intrinsic, new_function
from fastconv.kernels.target import Target, host
from fastconv.kernels.threads import parallel_for, pool

#: Chains of dependent FMAs per turn: registers minus two operands and two to spare, so that nothing is spilled
#: and more are in flight than latency (4 to 5 cycles) times issue ports (2, 4 on some ARM cores).
SPARE_REGISTERS = 4
#: FMAs per chain and turn of the loop: the counter and the branch cost nothing beside them.
UNROLL = 4
#: Bytes between the results of two threads: no cache line is shared.
RESULT_NBYTES = 256


def chains(target: Target) -> int:
    """Return the number of independent accumulators."""
    return target.registers - SPARE_REGISTERS


def build_fma_chains(module: Value, element: str) -> ir.Function:
    """Write ``f(turns, dst)``: `chains` accumulators, each ``acc = acc*a + b``, `UNROLL` times per turn.

    The accumulators live in registers only; their sum goes to one vector at address `dst`, so that LLVM keeps
    them. They tend to b/(1 - a), far from overflow and from denormals.

    Notes
    -----
    Preconditions are not checked here: `dst` holds one vector. 2*lanes*chains*UNROLL flops per turn; no bytes.
    """
    function, builder = new_function(module, f"fastconv_peak_{element}", 2)
    if builder is None:
        return function
    e = Emitter(module, builder, element)
    turns, dst = function.args
    a, b = e.splat_const(0.75), e.splat_const(0.25)

    def turn(index: Value, accumulators: list[Value]) -> list[Value]:  # noqa: ARG001  the loop's signature
        for _ in range(UNROLL):
            accumulators = [e.fma(value, a, b) for value in accumulators]
        return accumulators

    # None starts at the fixed point 1: LLVM would see that it never changes and leave that chain out.
    first = [e.splat_const(2.0 + chain / 16) for chain in range(chains(e.target))]
    total, *rest = e.loop(turns, first, turn, "peak")
    for value in rest:
        total = builder.fadd(total, value)
    e.store(total, e.ptr(dst))
    builder.ret_void()
    return function


_fma_chains = kernel_intrinsic(build_fma_chains)


@jit
def _peak_tile(i: int, tid: int, like: Any, turns: int, dst: int) -> None:  # noqa: ARG001  the form of a tile
    _fma_chains(like, turns, dst + i * RESULT_NBYTES)


@jit
def run_chains(ctl: int, threads: int, like: Any, turns: int, dst: int) -> None:
    """Run the chains on `threads` threads at once, each for `turns` turns; their sums go to `dst`.

    ``2 * lanes * chains * UNROLL`` flops per turn and thread, no bytes. Not checked: `dst` has RESULT_NBYTES for each thread.
    """
    parallel_for(ctl, threads, threads, _peak_tile, (like, turns, dst))


def measured_peak(dtype: str, threads: int = 1, *, seconds: float = 0.05) -> float:
    """Measure the multiply-add peak: the best of many short runs on registers only.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    threads : int
        Threads that run at once, each on chains of its own.
    seconds : float
        How long to look for the best run.

    Returns
    -------
    float
        Flops per second of all threads together, two per multiply-add.
    """
    like = np.zeros(1, dtype)
    results = np.zeros(threads * RESULT_NBYTES, np.uint8)
    target = host()
    per_turn = 2 * target.lanes(like.itemsize) * chains(target) * UNROLL * threads
    turns = 16_000  # about 0.1 ms: longer than starting the threads, shorter than a time slice
    ctl = pool.handle(threads)
    run_chains(ctl, threads, like, turns, results.ctypes.data)
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run_chains(ctl, threads, like, turns, results.ctypes.data)
        best = min(best, time.perf_counter() - start)
    return per_turn * turns / best
