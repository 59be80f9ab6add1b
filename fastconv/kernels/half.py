"""float16 to float32 and back, by the CPU's own instructions and on all threads.

NumPy converts element by element on most CPUs, about 2 ns each, which takes longer than many convolutions::

    wide[i] = float32(narrow[i])        exact
    narrow[i] = float16(wide[i])        to nearest, ties to even; too large becomes infinite
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import config

from fastconv.kernels._jit import jit
from fastconv.kernels.simd import Emitter, Value, i64, kernel_intrinsic, new_function
from fastconv.kernels.target import host
from fastconv.kernels.threads import parallel_for, pool

#: Elements that one task converts: their 384 KiB fit into a second cache.
TASK_ELEMENTS = 1 << 16

Array = npt.NDArray[Any]


def _build(module: Value, element: str, name: str, *, widens: bool) -> Value:
    """Write ``f(src, dst, n)``: `n` elements by whole vectors, the rest one by one."""
    function, b = new_function(module, f"fastconv_{name}_{element}", 3)
    if b is None:
        return function
    e = Emitter(module, b, element)
    src, dst, n = function.args
    half = ir.HalfType()
    (source, source_nbytes), (target, target_nbytes) = ((half, 2), (e.scalar, 4)) if widens else ((e.scalar, 4), (half, 2))

    def convert(at: Value, lanes: int) -> None:
        read, written = (ir.VectorType(kind, lanes) if lanes > 1 else kind for kind in (source, target))
        value = b.load(b.gep(e.ptr(src), [at], source_etype=source), typ=read, align=source_nbytes)
        value = b.fpext(value, written) if widens else b.fptrunc(value, written)
        b.store(value, b.gep(e.ptr(dst), [at], source_etype=target), align=target_nbytes)

    def by_vectors(i: Value, _: list[Value]) -> list[Value]:
        convert(b.mul(i, i64(e.lanes)), e.lanes)
        return []

    def by_elements(i: Value, _: list[Value]) -> list[Value]:
        convert(b.add(done, i), 1)
        return []

    whole = b.sdiv(n, i64(e.lanes))
    done = b.mul(whole, i64(e.lanes))
    e.loop(whole, [], by_vectors, "vectors")
    e.loop(b.sub(n, done), [], by_elements, "elements")
    b.ret_void()
    return function


def build_widen(module: Value, element: str) -> Value:
    """Write ``f(src, dst, n)``: float16 to float32."""
    return _build(module, element, "widen", widens=True)


def build_narrow(module: Value, element: str) -> Value:
    """Write ``f(src, dst, n)``: float32 to float16."""
    return _build(module, element, "narrow", widens=False)


widen, narrow = kernel_intrinsic(build_widen), kernel_intrinsic(build_narrow)


@jit
def _task(i: int, _tid: int, like: Any, src: int, dst: int, n: int, widens: bool) -> None:  # noqa: FBT001
    first = i * TASK_ELEMENTS
    count = min(TASK_ELEMENTS, n - first)
    if widens:
        widen(like, src + 2 * first, dst + 4 * first, count)
    else:
        narrow(like, src + 4 * first, dst + 2 * first, count)


@jit
def convert(ctl: int, threads: int, like: Any, src: int, dst: int, n: int, widens: bool) -> None:  # noqa: FBT001
    """Convert `n` elements at address `src`, one behind the other, into those at `dst`.

    Parameters
    ----------
    ctl, threads : int
        The pool and how many of its threads take part.
    like : array of float32
    src, dst, n : int
        Addresses of float16 and float32, or of float32 and float16, and how many. The areas share no memory.
    widens : bool
        Which way.

    Notes
    -----
    No flops, 6n bytes. Not checked: both areas hold `n` elements, and the target has the instructions.
    """
    parallel_for(ctl, threads, (n + TASK_ELEMENTS - 1) // TASK_ELEMENTS, _task, (like, src, dst, n, widens))


_LIKE = np.zeros(1, np.float32)


def _is_twin(half: Array, single: Array) -> bool:
    """Tell whether `single`, fresh and without gaps, holds its elements in the order of `half`, and the CPU converts."""
    steps = zip(half.strides, single.strides, half.shape, strict=True)
    return host().converts_half and not config.DISABLE_JIT and half.flags.aligned and all(2 * a == b for a, b, n in steps if n > 1)


def to_single(half: Array, threads: int) -> Array:
    """Return a float32 copy of a float16 array, on up to `threads` threads."""
    single = np.empty_like(half, np.float32)
    if _is_twin(half, single):
        convert(pool.handle(threads), threads, _LIKE, half.ctypes.data, single.ctypes.data, half.size, True)  # noqa: FBT003
    else:
        single[...] = half
    return single


def to_half(single: Array, half: Array, threads: int) -> None:
    """Round a float32 array, fresh and without gaps, into a float16 array of its shape, on up to `threads` threads."""
    if _is_twin(half, single):
        convert(pool.handle(threads), threads, _LIKE, single.ctypes.data, half.ctypes.data, half.size, False)  # noqa: FBT003
        return
    with np.errstate(over="ignore", invalid="ignore"):
        half[...] = single
