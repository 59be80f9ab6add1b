"""One filter pass over an array: it is brought into the form of the kernels, and the sums into the output."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.kernels import windows
from fastconv.kernels.threads import pool
from fastconv.kernels.windows import ANTISYMMETRIC, PLAIN, SYMMETRIC
from fastconv.ndimage.operands import EPSILON, index_map
from fastconv.settings import get_config

#: Columns of a task at most and at least, and elements of its converted lines: they stay in a core's second-level cache.
MOST_COLS, LEAST_COLS, LINES_SIZE = 1024, 128, 16384
#: Outputs of a task times taps: enough to hide its start and the lines that neighbouring tasks both convert.
TASK_MACS = 400_000
#: Rows of fewer elements than this are filtered as one long row, whose taps lie further apart.
NARROW = 64
#: Dtypes that kernels are compiled for; others are converted to float64 before and from it behind.
_COMPILED = frozenset(map(np.dtype, ("f4", "f8", "u1", "u2", "i2")))
_WIDE = {"i1": "i4", "i2": "i4", "i4": "i4", "i8": "i8", "u1": "i4", "u2": "i4", "u4": "i8", "f4": "f4", "f8": "f8"}
_ROW = np.zeros(1, np.int64)


def _middle(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype through which C casts a double to `dtype`."""
    return np.dtype(_WIDE[dtype.str[1:]])


def _sums(src: np.dtype[Any], dst: np.dtype[Any]) -> np.dtype[Any]:
    is_single = src == dst == np.float32 and get_config().ndimage_precision == "input"
    return np.dtype(np.float32 if is_single else np.float64)


class Pass:
    """Source and destination of a pass in the form of the kernels; on leaving, the result is in `out`.

    Attributes
    ----------
    src, dst : ndarray, C-contiguous
        Of dtypes that kernels are compiled for; they share no memory.
    zero, middle : ndarray of shape (0,)
        The dtypes of sums and casts, as the kernels take them.
    """

    def __init__(self, x: Array, out: Array) -> None:
        self._out = out
        shares = np.may_share_memory(x, out)
        is_direct = x.dtype in _COMPILED and (out.dtype == x.dtype or out.dtype in {np.dtype("f4"), np.dtype("f8")})
        if not is_direct:
            x = x.astype(np.float64)
            shares = False
        self.src = x if x.flags.c_contiguous and x.flags.writeable and x.flags.aligned else x.copy(order="C")
        kind = out.dtype if is_direct else np.dtype(np.float64)
        is_final = (
            kind == out.dtype and out.flags.c_contiguous and out.flags.aligned and not (shares and np.may_share_memory(self.src, out))
        )
        self.dst = out if is_final else np.empty(out.shape, kind)
        self.zero = np.zeros(0, _sums(self.src.dtype, out.dtype))
        self.middle = np.zeros(0, _middle(kind))

    def finish(self) -> Array:
        """Cast the result into the output if it is not there."""
        if self.dst is not self._out:
            with np.errstate(all="ignore"):
                if self.dst.dtype == self._out.dtype:
                    self._out[...] = self.dst
                else:
                    self._out[...] = self.dst.astype(_middle(self._out.dtype)).astype(self._out.dtype)
        return self._out


def _run(
    p: Pass,
    src: Array,
    dst: Array,
    rows: Any,
    cols: Any,
    taps: Array,
    tap_rows: Any,
    tap_cols: Any,
    form: int,
    cval: float,
    kernel: tuple[int, int],
    inside: tuple[int, int],
) -> None:
    threads = get_config().threads
    width = min(dst.shape[2], max(LEAST_COLS, min(MOST_COLS, LINES_SIZE // kernel[0])))
    height = max(4 * kernel[0], TASK_MACS // (width * taps.size), 1)
    # Two tasks for each thread at least, where that costs little.
    blocks = dst.shape[0] * -(-dst.shape[2] // width)
    height = max(min(height, -(-dst.shape[1] * blocks // (2 * threads))), 2 * kernel[0] - 1)
    windows.windows(
        pool.handle(threads), threads, src, dst, rows, cols, taps.astype(p.zero.dtype, copy=False), tap_rows, tap_cols, form, cval, kernel,
        inside, (height, width), p.zero, p.middle,
    )  # fmt: skip


def _form(weights: Array) -> int:
    """Return SciPy's judgement whether taps are summed one by one or in pairs."""
    if weights.size % 2 == 0:
        return PLAIN
    mirrored = weights[::-1]
    if (np.abs(weights - mirrored) <= EPSILON).all():
        return SYMMETRIC
    # The middle weight is not looked at.
    differs = np.abs(weights + mirrored) > EPSILON
    differs[weights.size // 2] = False
    return PLAIN if differs.any() else ANTISYMMETRIC


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    outer = int(np.prod(shape[:axis], dtype=np.int64))
    inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
    return outer, shape[axis], inner


def correlate_axis(x: Array, weights: Array, axis: int, out: Array, mode: str, cval: float, lo: int) -> Array:
    """Correlate along one axis in SciPy's order of summation; `x` and `out` may be the same array.

    Parameters
    ----------
    x : ndarray
        Of a dtype in `operands.INPUTS`.
    weights : ndarray of shape (K,), float64
    axis : int
        From 0.
    out : ndarray of x's shape
    mode : str
        In the words of `source_index`.
    cval : float
    lo : int
        Window positions before the output's.

    Returns
    -------
    ndarray
        `out`.
    """
    p = Pass(x, out)
    outer, n, inner = _around(x.shape, axis)
    k = weights.size
    steps, zeros = np.arange(k), np.zeros(k, np.int64)
    form = _form(weights)
    if form == PLAIN:
        # SciPy begins with the last tap, goes on with the first.
        order = np.roll(steps, 1)
        weights, steps = weights[order], steps[order]
    if inner < NARROW:
        shape = (1, outer, n * inner)
        cols = index_map(n, lo, k - 1 - lo, mode, inner)
        rows = np.arange(outer)
        _run(
            p,
            p.src.reshape(shape),
            p.dst.reshape(shape),
            rows,
            cols,
            weights,
            zeros,
            steps * inner,
            form,
            cval,
            (1, (k - 1) * inner + 1),
            (lo * inner, (lo + n) * inner),
        )
    else:
        shape = (outer, n, inner)
        rows = index_map(n, lo, k - 1 - lo, mode)
        _run(p, p.src.reshape(shape), p.dst.reshape(shape), rows, np.arange(inner), weights, steps, zeros, form, cval, (k, 1), (0, inner))
    return p.finish()


def correlate_windows(x: Array, weights: Array, out: Array, mode: str, cval: float, lo: tuple[int, int]) -> Array:
    """Correlate the last two axes of `x` with `weights` (KH, KW), in the order of the window, small weights left out."""
    p = Pass(x, out)
    shape = (int(np.prod(x.shape[:-2], dtype=np.int64)), *x.shape[-2:])
    kh, kw = weights.shape
    tap_rows, tap_cols = np.nonzero(np.abs(weights) > EPSILON)
    rows = index_map(shape[1], lo[0], kh - 1 - lo[0], mode)
    cols = index_map(shape[2], lo[1], kw - 1 - lo[1], mode)
    taps = weights[tap_rows, tap_cols]
    if not taps.size:
        p.dst[...] = 0
    else:
        _run(
            p,
            p.src.reshape(shape),
            p.dst.reshape(shape),
            rows,
            cols,
            taps,
            tap_rows,
            tap_cols,
            PLAIN,
            cval,
            (kh, kw),
            (lo[1], lo[1] + shape[2]),
        )
    return p.finish()


def average_axis(x: Array, size: int, axis: int, out: Array, mode: str, cval: float, lo: int) -> Array:
    """Average `size` neighbours along one axis by a running sum; the arguments are those of `correlate_axis`."""
    p = Pass(x, out)
    threads = get_config().threads
    outer, n, inner = _around(x.shape, axis)
    index = index_map(n, lo, size - 1 - lo, mode)
    if inner == 1:
        shape = (1, outer, n)
        windows.running_line_sums(
            pool.handle(threads), threads, p.src.reshape(shape), p.dst.reshape(shape), index, (lo, lo + n), size, cval, p.zero, p.middle
        )
    else:
        shape = (outer, n, inner)
        block = max(16, min(256, -(-inner * outer // (2 * threads))))
        windows.running_sums(
            pool.handle(threads), threads, p.src.reshape(shape), p.dst.reshape(shape), index, size, cval, block, p.zero, p.middle
        )
    return p.finish()
