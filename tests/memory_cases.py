"""A kernel that works on the address of an array, called with and without `keepalive`.

``python -m memory_cases`` prints what each of the two functions computes.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from fastconv.kernels.simd import Emitter, i64, keepalive, kernel_intrinsic, new_function

#: Too large for the allocator's lists of small blocks, too small to be mapped on its own: a freed block is overwritten.
COUNT = 4000
KERNEL = "fastconv_sum"


def build_sum(module: Any, element: str) -> Any:
    """Write ``sum(src, count, dst)``: dst[0] = src[0] + ... + src[count - 1]."""
    function, builder = new_function(module, KERNEL, 3)
    if builder is None:
        return function
    emitter = Emitter(module, builder, element)
    src, count, dst = function.args
    start = emitter.scalar(0.0)
    (total,) = emitter.loop(
        count, [start], lambda i, carried: [builder.fadd(carried[0], emitter.load_scalar(emitter.offset(emitter.ptr(src), i)))], "sum"
    )
    builder.store(total, emitter.offset(emitter.ptr(dst), i64(0)), align=emitter.nbytes)
    builder.ret_void()
    return function


sum_kernel = kernel_intrinsic(build_sum)


@numba.njit(nogil=True)
def with_keepalive(dst: Any, blocks: int) -> None:
    src = np.ones(COUNT, dst.dtype)
    base = src.ctypes.data
    for block in range(blocks):
        sum_kernel(dst, base, COUNT, dst.ctypes.data + block * dst.itemsize)
    keepalive(src)


@numba.njit(nogil=True)
def without_keepalive(dst: Any, blocks: int) -> None:
    src = np.ones(COUNT, dst.dtype)
    base = src.ctypes.data
    for block in range(blocks):
        sum_kernel(dst, base, COUNT, dst.ctypes.data + block * dst.itemsize)


FUNCTIONS = (with_keepalive, without_keepalive)

if __name__ == "__main__":
    for function in FUNCTIONS:
        result = np.zeros(1)
        function(result, 1)
        print(result[0] == COUNT)  # noqa: T201  for the test that runs this
