"""Arrays between inaccessible pages: one element read or written outside kills the process.

``python -m guard ALGORITHM`` runs an algorithm over all cases on such arrays, and prints each case before it runs.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from typing import Any

import numpy as np

from cases import Arrays, Case, cases, expected, integers
from fastconv.planner import make_plan
from oracle import Array

PROT_NONE, PROT_READ_WRITE = 0, 3
#: Cases of other dtypes than float32: few, since kernels are compiled for each.
FEW = (
    "dense 3x3, odd everything, batch",
    "1x1",
    "depthwise 3x3",
    "planar 5x5, narrow",
    "stem 7x7/2",
    "channels-last",
    "large kernel, channels",
)


class Guarded:
    """A block of memory that ends (side "behind") or begins ("before") at a page that must not be touched."""

    def __init__(self, nbytes: int, side: str) -> None:
        page = mmap.PAGESIZE
        inner = -(-max(nbytes, 1) // page) * page
        self._map = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for guard in (start, start + page + inner):
            if mprotect(guard, page, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        offset = page + (inner - nbytes if side == "behind" else 0)
        self.bytes: Array = np.frombuffer(self._map, np.uint8, nbytes, offset)


def guarded(array: Array, side: str, gap: int = 0) -> Array:
    """Return a copy in guarded memory with its axes in the same order; `gap` elements stand between its rows.

    The array itself touches the guard page: the gap before the first row, or behind the last one, does not exist.
    """
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    shape = [array.shape[axis] for axis in order]
    if array.size == 0 or array.ndim == 0:
        return array.copy()
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if len(shape) == 4 and gap:
        # Only the innermost axis stays dense.
        row = shape[3] + gap
        steps = [shape[1] * shape[2] * row, shape[2] * row, row, 1]
    count = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + 1
    memory = Guarded(count * array.itemsize, side).bytes.view(array.dtype)
    placed = np.lib.stride_tricks.as_strided(memory, shape, [step * array.itemsize for step in steps])
    placed[...] = array.transpose(order)
    back: Array = placed.transpose(np.argsort(order))
    return back


def run_guarded(case: Case, side: str, gap: int, threads: int) -> None:
    """Run the case between guard pages and check the result."""
    arrays = integers(case.problem, 1)

    def place(array: Array | None) -> Any:
        return None if array is None else guarded(array, side, gap)

    fenced = Arrays(place(arrays.x), place(arrays.w), place(arrays.bias), place(arrays.residual))
    out = place(np.zeros(case.problem.out_shape, case.problem.dtype))
    if case.problem.channels_last:
        out = place(np.moveaxis(np.zeros(np.moveaxis(out, 1, -1).shape, out.dtype), -1, 1))
    plan = make_plan(case.algorithm, case.problem, fenced.w, fenced.bias, threads=threads, max_workspace=None)
    plan(fenced.x, fenced.residual, out=out)
    np.testing.assert_array_equal(np.rint(out), expected(case.problem, arrays))


def main(name: str) -> None:
    """Run all cases of the algorithm called `name`."""
    matrix = cases("float32") + cases("float64", names=FEW)
    for case in matrix:
        if case.algorithm.name != name:
            continue
        for side, gap, threads in (("behind", 0, 1), ("before", 0, 2), ("behind", 3, 1), ("before", 5, 1)):
            sys.stdout.write(f"{case} {side} gap={gap} threads={threads}\n")
            sys.stdout.flush()
            run_guarded(case, side, gap, threads)


if __name__ == "__main__":
    main(sys.argv[1])
