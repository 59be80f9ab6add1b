"""How an axis is cut into FFT tiles: overlap-save, or one circular tile where borders may share positions."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


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
    folded = len(index) - length
    can_share = folded <= 0 or (wrap is not Wrap.NONE and np.array_equal(index[:folded], index[length:]))
    if wrap is Wrap.NEGATIVE and folded > 0:
        can_share = can_share and bool((index[length:] < 0).all())
    if length >= outputs and can_share:
        return AxisTiles(length, outputs, 1)
    step = length - span + 1
    return AxisTiles(length, step, -(-outputs // step))


def tile_positions(index: Index, tiles: AxisTiles, t: int) -> Index:
    """Return the `length` source positions of tile `t`; beyond the padded axis -1, or -2 where nothing may be read."""
    start = t * tiles.step
    positions = np.full(tiles.length, -2, np.int64)
    part = index[start : start + tiles.length]
    positions[: len(part)] = part
    return positions


def candidate_tiles(index: Index, outputs: int, span: int, lengths: Sequence[int]) -> list[AxisTiles]:
    """Return the tilings worth looking at: no tile that is longer than needed for the number of tiles it gives."""
    best: dict[int, AxisTiles] = {}
    for length in sorted(lengths):
        tiles = axis_tiles(index, outputs, span, length)
        if tiles is not None:
            best.setdefault(tiles.count, tiles)
    return list(best.values())
