"""Which arguments are computed here, and where the outputs of a mode lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.planes import NATIVE, Pads

#: The scalars and nested sequences that become arrays without asking; other array types belong to SciPy.
_PLAIN = (list, tuple, int, float, complex, np.generic)


def plain_array(value: Any) -> Array | None:
    """Return `value` as an array if it is an ndarray, a sequence or a number, else None (also where NumPy refuses)."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, _PLAIN):
        try:
            return np.asarray(value)
        except (ValueError, TypeError):
            return None
    return None


def common_dtype(a: Array, b: Array) -> np.dtype[Any] | None:
    """Return the dtype that both promote to if it is one that `correlate_plane` computes, else None."""
    if a.dtype == b.dtype:
        dtype = a.dtype
    else:
        try:
            dtype = np.result_type(a, b)
        except TypeError:
            return None
    if dtype not in NATIVE:
        return None
    # Half precision takes part in sums of a wider type only after SciPy's own conversions.
    return None if np.dtype(np.float16) in {a.dtype, b.dtype} else dtype.newbyteorder("=")


def needs_swap(shape1: tuple[int, ...], shape2: tuple[int, ...]) -> bool | None:
    """Tell whether 'valid' exchanges its inputs; None if neither holds the other."""
    if all(n >= k for n, k in zip(shape1, shape2, strict=True)):
        return False
    return True if all(n <= k for n, k in zip(shape1, shape2, strict=True)) else None


def window(x: Array, kernel: tuple[int, ...], first: tuple[int, ...], count: tuple[int, ...]) -> tuple[Array, Pads]:
    """Return the part of `x` that outputs `first` to ``first + count - 1`` of the full convolution read, and its padding.

    Output i of an axis reads positions i - (k - 1) to i. The part is a view.
    """
    parts, pads = [], []
    for n, k, start, m in zip(x.shape, kernel, first, count, strict=True):
        lowest, highest = start - k + 1, start + m - 1
        parts.append(slice(max(0, lowest), min(n, highest + 1)))
        pads.append((max(0, -lowest), max(0, highest - n + 1)))
    height, width = [(0, 0)] * (2 - x.ndim) + pads
    return x[tuple(parts)], (height, width)
