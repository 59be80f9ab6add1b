"""Scratch memory of calls, kept for the next one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv._typing import Array
from fastconv.kernels.simd import LINE_NBYTES
from fastconv.plans import address

#: Memory that is kept between calls at most.
KEPT_NBYTES = 64 * 2**20


def aligned_empty(nbytes: int) -> tuple[Array, int]:
    """Return (buffer, address in it aligned to a cache line) of `nbytes` bytes."""
    buffer = np.empty(nbytes + LINE_NBYTES, np.uint8)
    return buffer, _aligned(buffer)


def _aligned(buffer: Array) -> int:
    start = address(buffer)
    return start + -start % LINE_NBYTES


def aligned_part(buffer: Array, nbytes: int, dtype: npt.DTypeLike) -> Array:
    """Return `nbytes` of what `aligned_empty` made, from the cache line on, as elements of a dtype."""
    start = _aligned(buffer) - address(buffer)
    return buffer[start : start + nbytes].view(dtype)


class Scratch:
    """Buffers that wait for the next call, of any plan and thread; the last one given back goes first.

    Notes
    -----
    Whether memory of megabytes goes back to the system when it is released, and comes anew page by page, depends on what
    else the process has allocated. A call that meets new pages takes much longer, in ms: 3x3 over 64 -> 64 channels of 56x56 by
    Winograd 0.85 instead of 0.18, 31x31 over 16 -> 16 channels of 256x256 by FFT 4.0 instead of 2.2 (MALLOC_MMAP_THRESHOLD_=1048576
    shows it).
    """

    def __init__(self, limit_nbytes: int = KEPT_NBYTES) -> None:
        self.limit_nbytes = limit_nbytes
        self._waiting: list[Array] = []

    @property
    def nbytes(self) -> int:
        """Return the bytes of the buffers that wait."""
        return sum(buffer.nbytes for buffer in self._waiting)

    def take(self, nbytes: int) -> tuple[Array, int]:
        """Return (buffer, address in it aligned to a cache line) of at least `nbytes` bytes with any contents.

        A smaller one that waits is released first.
        """
        # Lists lock themselves: another thread may take the last buffer at any time.
        try:
            buffer = self._waiting.pop()
        except IndexError:
            return aligned_empty(nbytes)
        if buffer.nbytes >= nbytes + LINE_NBYTES:
            return buffer, _aligned(buffer)
        del buffer
        return aligned_empty(nbytes)

    def give(self, buffer: Array) -> None:
        """Keep `buffer` for the next call, unless that makes too many bytes."""
        if self.nbytes + buffer.nbytes <= self.limit_nbytes:
            self._waiting.append(buffer)


SCRATCH = Scratch()
