"""Arrays of any layout in memory that ends, on both sides, at pages that must not be touched.

A layout is a word such as ``nchw``, ``nhwc+1``, ``NcH2w!``: the axes from the outermost to the innermost, in capitals
where they run backwards; behind an axis the elements left free between its steps, or ``~`` for a gap of one byte,
or ``*`` for a stride of zero; behind all, ``+k`` for k bytes off the alignment and ``!`` for read-only.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from guard import Guarded
from oracle import Array

#: Bytes between the two inaccessible pages.
ROOM = 2**22
#: Bytes beside an array, on the side that does not touch the page, that must stay as they are.
MARGIN = 512
FILL = 0xA5
_AXIS = re.compile(r"([nchwNCHW])(\d|~|\*|)")


class TooLarge(Exception):  # noqa: N818  no error: the case is drawn anew
    """The array does not fit between the pages."""


class Arena:
    """Guarded memory for one array at a time, used over and over."""

    def __init__(self) -> None:
        self._bytes: Array = Guarded(ROOM, "behind").bytes
        self._bytes[...] = FILL
        self._used = slice(0, 0)
        self._kept: Array = self._bytes[:0]

    def empty(self, shape: tuple[int, ...], dtype: Any, layout: str, side: str) -> Array:
        """Return a filled array that touches the page on its `side`."""
        dtype = np.dtype(dtype)
        words, _, options = layout.partition("+")
        shift = int(options.rstrip("!")) if options else 0
        letters = "nchw" if len(shape) == 4 else "c"
        strides, extent, first = [0] * len(shape), dtype.itemsize, 0
        for letter, gap in reversed(_AXIS.findall(words)):
            axis = letters.index(letter.lower())
            if gap == "*":
                continue
            step = extent + (1 if gap == "~" else int(gap or 0) * dtype.itemsize)
            reach = step * max(shape[axis] - 1, 0)
            strides[axis], extent = (-step if letter.isupper() else step), extent + reach
            first += reach if letter.isupper() else 0
        if extent + shift + MARGIN > ROOM:
            raise TooLarge
        start = shift if side == "before" else ROOM - extent - shift
        self._bytes[self._used] = FILL
        self._used = slice(max(0, start - MARGIN), min(ROOM, start + extent + MARGIN))
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, self._bytes, start + first, strides)

    def place(self, array: Array, layout: str, side: str) -> Array:
        """Return an array with the values of `array`; of those along an axis of stride zero, the first."""
        zero = {letter.lower() for letter, gap in _AXIS.findall(layout) if gap == "*"}
        letters = "nchw" if array.ndim == 4 else "c"
        source = array[tuple(slice(0, 1) if letter in zero else slice(None) for letter in letters)]
        placed = self.empty(array.shape, array.dtype, layout, side)
        placed[tuple(slice(0, 1) if letter in zero else slice(None) for letter in letters)] = source
        self._kept = self._bytes[self._used].copy()
        if "!" in layout:
            placed.flags.writeable = False
        return placed

    def is_untouched(self) -> bool:
        """Tell whether the array of the last `place` and what lies beside it are as they were."""
        return bool((self._bytes[self._used] == self._kept).all())

    def only_elements_changed(self, out: Array) -> bool:
        """Tell whether nothing beside the elements of `out`, the array of the last `empty`, was written; clears it."""
        if out.size:
            out[...] = np.frombuffer(bytes([FILL]) * out.itemsize, out.dtype)[0]
        return bool((self._bytes[self._used] == FILL).all())
