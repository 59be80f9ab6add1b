"""Sums over the taps of a window in one fixed order, kept in registers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.core import config

from fastconv.kernels.rows import memory
from fastconv.kernels.simd import I64, Emitter, Value, i64, kernel_intrinsic, new_function
from fastconv.kernels.target import host

#: How a window is summed: each tap, or pairs of taps around the middle one with equal or opposite weights.
PLAIN, SYMMETRIC, ANTISYMMETRIC = 0, 1, 2
#: Vectors of sums at once: enough that an addition need not wait for the one before.
VECTORS = 8


@functools.cache
def step_of(dtype: Any) -> int:
    """Return the number of sums made at once; rows are padded to a multiple of it."""
    return VECTORS * host().lanes(np.dtype(dtype).itemsize)


def build_sums(module: Value, element: str) -> Value:
    """Write the sums of whole blocks of `step_of` outputs.

    Arguments: lines, taps, offsets, count, dst, blocks, form. Output j is the sum over q of ``taps[q]`` times the element j of
    the row at ``lines + offsets[q]`` (bytes). PLAIN adds one product after the other; SYMMETRIC and ANTISYMMETRIC begin with the
    middle tap and add ``(row[q] + row[count-1-q]) * taps[q]``, or with a minus sign. Products are rounded before they are added.
    """
    function, b = new_function(module, f"window_sums_{element}", 7)
    if b is None:
        return function
    e = Emitter(module, b, element)
    form = function.args[6]
    done = b.append_basic_block("done")
    choice = b.switch(form, done)
    for number, name in ((PLAIN, "plain"), (SYMMETRIC, "symmetric"), (ANTISYMMETRIC, "antisymmetric")):
        case = b.append_basic_block(name)
        choice.add_case(i64(number), case)
        b.position_at_end(case)
        _blocks(e, function, number, name)
        b.branch(done)
    b.position_at_end(done)
    b.ret_void()
    return function


def _blocks(e: Emitter, function: Value, form: int, name: str) -> None:
    lines, taps, offsets, count, dst, blocks, _ = function.args
    b = e.b
    width = e.lanes * e.nbytes
    half = b.lshr(count, i64(1))

    def row(base: Value, q: Value) -> list[Value]:
        at = b.add(base, b.load(b.gep(e.ptr(offsets), [q], source_etype=I64), typ=I64, align=8))
        return [e.load(e.offset_nbytes(e.ptr(at), v * width)) for v in range(VECTORS)]

    def tap(q: Value) -> Value:
        return e.broadcast(e.offset(e.ptr(taps), q))

    def block(i: Value, _: list[Value]) -> list[Value]:
        base = b.add(lines, b.mul(i, i64(VECTORS * width)))

        def add_tap(q: Value, sums: list[Value]) -> list[Value]:
            weight = tap(q)
            return [b.fadd(total, b.fmul(weight, a)) for total, a in zip(sums, row(base, q), strict=True)]

        def add_pair(q: Value, sums: list[Value]) -> list[Value]:
            weight, mirrored = tap(q), b.sub(b.sub(count, i64(1)), q)
            both = b.fadd if form == SYMMETRIC else b.fsub
            pairs = zip(sums, row(base, q), row(base, mirrored), strict=True)
            return [b.fadd(total, b.fmul(both(left, right), weight)) for total, left, right in pairs]

        if form == PLAIN:
            sums = e.loop(count, [e.zero()] * VECTORS, add_tap, f"{name}.taps")
        else:
            middle = tap(half)
            sums = e.loop(half, [b.fmul(middle, a) for a in row(base, half)], add_pair, f"{name}.taps")
        target = e.ptr(b.add(dst, b.mul(i, i64(VECTORS * width))))
        for v, total in enumerate(sums):
            e.store(total, e.offset_nbytes(target, v * width))
        return []

    e.loop(blocks, [], block, name)


def _plain_sums(like: Any, lines: int, taps: int, offsets: int, count: int, dst: int, blocks: int, form: int) -> None:
    n = blocks * step_of(like.dtype)
    weights = memory(taps, count, like.dtype)
    rows = [memory(lines + int(offset), n, like.dtype) for offset in memory(offsets, count, np.int64)]
    half = count // 2
    acc = np.zeros(n, like.dtype) if form == PLAIN else weights[half] * rows[half]
    for q in range(count if form == PLAIN else half):
        mirrored = rows[count - 1 - q]
        acc += weights[q] * rows[q] if form == PLAIN else (rows[q] + (mirrored if form == SYMMETRIC else -mirrored)) * weights[q]
    memory(dst, n, like.dtype)[:] = acc


#: In jitted code ``sums(like, lines, taps, offsets, count, dst, blocks, form)``; `like` is any array of the sums' dtype.
sums: Any = _plain_sums if config.DISABLE_JIT else kernel_intrinsic(build_sums)
