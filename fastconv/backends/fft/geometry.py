"""How an axis is cut into FFT tiles: overlap-save, or one circular tile where borders may share positions."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]
#: The share of all points that a longer tile has to save over the shorter ones.
POINTS_SAVED = 0.02


class Wrap(enum.Enum):
    """What a tile's sum takes position u + length for: u, minus u, or minus u where not even padding is zero."""

    SAME, NEGATIVE, NONE = range(3)


@dataclass(frozen=True)
class AxisTiles:
    """One axis cut into tiles of FFT length `length`, each giving `step` outputs (the last one maybe fewer).

    Tile t reads positions ``t*step .. t*step + length - 1`` of the padded axis and gives outputs ``t*step ..``.
    A single tile may be shorter than the padded axis: positions `length` apart are then one (or one the negative of the
    other).
    """

    length: int
    step: int
    count: int


def axis_tiles(index: Index, outputs: int, span: int, length: int, wrap: Wrap = Wrap.SAME) -> AxisTiles | None:
    """Return the tiles of `length` for an axis, or None if the kernel does not fit into that length.

    Parameters
    ----------
    index : ndarray of int64
        Source position of each padded position that is read, ``outputs + span - 1`` of them.
    outputs : int
        Outputs at stride 1.
    span : int
        Length of the (dilated) kernel.
    length : int
        Length of the tile.
    wrap : Wrap
        What positions beyond the tile count as.

    Notes
    -----
    A circular correlation of length N is the linear one for all outputs if positions u and u + N read the same
    value wherever both are used. Zeros on the left may so share room with zeros on the right, and a circular
    border needs no room at all when N is the length of the axis. A sum that wraps around with a minus sign lets only
    zeros share room.
    """
    if length < span:
        return None
    if length >= outputs and _can_share(index, length, wrap):
        return AxisTiles(length, outputs, 1)
    step = length - span + 1
    return AxisTiles(length, step, -(-outputs // step))


def _can_share(index: Index, length: int, wrap: Wrap) -> bool:
    """Tell whether positions `length` apart may be one, see `axis_tiles`."""
    folded = len(index) - length
    if folded <= 0:
        return True
    if wrap is Wrap.NONE or not np.array_equal(index[:folded], index[length:]):
        return False
    return wrap is not Wrap.NEGATIVE or bool((index[length:] < 0).all())


def tile_positions(index: Index, tiles: AxisTiles, t: int) -> Index:
    """Return the `length` source positions of tile `t`; beyond the padded axis -1, or -2 where nothing may be read."""
    start = t * tiles.step
    positions = np.full(tiles.length, -2, np.int64)
    part = index[start : start + tiles.length]
    positions[: len(part)] = part
    return positions


def candidate_tiles(index: Index, outputs: int, span: int, lengths: Sequence[int]) -> list[AxisTiles]:
    """Return the tilings worth looking at, see `worth_looking_at`."""
    tilings = (axis_tiles(index, outputs, span, length) for length in sorted(lengths))
    return worth_looking_at((t, t.length) for t in tilings if t is not None)


def worth_looking_at(priced: Iterable[tuple[AxisTiles, float]]) -> list[AxisTiles]:
    """Choose from tilings by growing length, given with the price of a tile.

    Of equal number of tiles the cheapest; of these the longer ones only where they save points, and a single tile.
    """
    cheapest: dict[int, tuple[AxisTiles, float]] = {}
    for tiles, price in priced:
        if tiles.count not in cheapest or price < cheapest[tiles.count][1]:
            cheapest[tiles.count] = tiles, price
    kept: list[AxisTiles] = []
    least = math.inf
    for tiles, _ in sorted(cheapest.values(), key=lambda pair: pair[0].length):
        points = tiles.count * tiles.length
        if points < (1 - POINTS_SAVED) * least or tiles.count == 1:
            kept.append(tiles)
            least = min(least, points)
    return kept
