"""Where a padded position reads its value from: one index map per axis serves every padding mode."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: The padding modes, in the words of the API. "zeros" is "constant" with value 0.
PADDING_MODES = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")


def source_index(n: int, before: int, after: int, mode: str) -> npt.NDArray[np.int64]:
    """Return, for each position of the padded axis, the position of the array that it reads.

    Parameters
    ----------
    n : int
        Length of the axis, at least 1.
    before, after : int
        Padding on either side, not negative.
    mode : str
        One of `PADDING_MODES`. Any number of reflections or periods is allowed.

    Returns
    -------
    ndarray of shape (before + n + after,), int64
        Values in [0, n), or -1 where the padding value is read ("zeros" and "constant").

    Notes
    -----
    "reflect" leaves the edge out (period 2n - 2), "symmetric" repeats it (period 2n), as in `numpy.pad`.
    """
    i = np.arange(-before, n + after, dtype=np.int64)
    if mode in {"zeros", "constant"}:
        return np.where((i < 0) | (i >= n), np.int64(-1), i)
    if mode == "replicate":
        return np.clip(i, 0, n - 1)
    if mode == "circular":
        return i % n
    if mode == "symmetric":
        i %= 2 * n
        return np.where(i < n, i, 2 * n - 1 - i)
    if mode == "reflect":
        period = max(2 * n - 2, 1)
        i %= period
        return np.where(i < n, i, period - i)
    raise ValueError(f"padding mode {mode!r} is not one of {PADDING_MODES}")
