"""How a problem is cut into blocks for Winograd convolution, and what scratch memory a block takes."""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Iterable

from fastconv.backends.winograd.variants import Variant
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.target import host
from fastconv.kernels.winograd_products import tile_heights
from fastconv.problem import ConvProblem

#: Tiles of a block: the rows of each product. Enough to read a panel of weights from L3 behind the arithmetic.
BLOCK_TILES = 48
#: Panels of output channels whose products are held at once.
PANELS_AT_ONCE = 4
#: What a block takes beside its tiles, in tiles: its products begin. One of fewer than the second number waits for U, for half of
#: what is missing. Measured by cutting 128 -> 128, 256 -> 256 and 512 -> 512 channels at 14 x 14 to 56 x 56 into more blocks.
TILES_TO_BEGIN, FEW_TILES = 3.0, 16.0
#: Threads that share a block, each with some of its output channels, read each other's part of V: they have to gain this much by it.
#: On cores with a common cache that takes up to 3 % of the time of 256 -> 256 at 56 x 56, on others 40 %.
SHARING_COST = 1.05
#: What blocks take more that are narrower than need be: 64 -> 64 channels at 224 x 224 in halves of the width, on two threads.
COLUMN_CUT = 1.17
#: How many times more tiles than `BLOCK_TILES` a block may have so that threads end together.
MOST_EXCESS = 1.25
#: Blocks for each thread from which on they are not weighed: threads end together anyhow.
MANY_BLOCKS = 32


def _phases(extent: int, dilation: int, m: int) -> tuple[int, int, int]:
    """Return how many phases of an axis have a pixel more than the others, the tiles of such a one and those of the others."""
    pixels, more = divmod(extent, dilation)
    return more, -(-(pixels + (more > 0)) // m), -(-pixels // m)


@functools.lru_cache(maxsize=1024)
def _cut(
    bands: int, columns: int, per_band: int, groups: int, panels: int, output_tasks: int, threads: int, block_tiles: int
) -> tuple[bool, int, int]:
    """Return whether threads share each block, and the pieces of bands and columns: whatever lets the last thread end first.

    Time is counted in tiles. One thread, and threads that share blocks, take blocks of about `block_tiles`; threads with blocks
    of their own take numbers of pieces that come out even.
    """
    wanted = bands * per_band / block_tiles
    column_pieces = min(columns, max(1, round(per_band / block_tiles)))
    alone = max(1, min(bands, round(wanted / column_pieces))), column_pieces
    if threads == 1:
        return False, *alone
    if groups * alone[0] * alone[1] > MANY_BLOCKS * threads:
        return False, max(1, min(bands, -(-alone[0] // threads) * threads)), column_pieces
    per_tile = per_band / max(columns, 1)

    def own(pieces: tuple[int, int]) -> float:
        sizes = [h * w * per_tile for h in _pieces(bands, pieces[0]) for w in _pieces(columns, pieces[1])]
        busiest = _busiest(groups * [max(size, (size + FEW_TILES) / 2) + TILES_TO_BEGIN for size in sizes], threads)
        return busiest if pieces[1] == column_pieces else COLUMN_CUT * busiest

    candidates = []
    for c in (column_pieces, min(columns, -(-column_pieces // threads) * threads)):
        pieces = max(round(wanted / c), math.ceil(wanted / c / MOST_EXCESS), 1)
        candidates += [(max(1, min(bands, -(-pieces // multiple) * multiple)), c) for multiple in (1, threads)]
    best = min(candidates, key=own)
    share = _busiest(_pieces(panels, output_tasks), threads) / max(panels, 1)
    sharing = groups * (bands * per_band * share + TILES_TO_BEGIN * alone[0] * alone[1])
    return (True, *alone) if sharing * SHARING_COST < own(best) else (False, *best)


def _pieces(extent: int, pieces: int) -> list[int]:
    """Return the lengths of pieces, longer ones first, as `fastconv.kernels.winograd` cuts."""
    short, longer = divmod(extent, pieces)
    return [short + 1] * longer + [short] * (pieces - longer)


def _busiest(tasks: Iterable[float], threads: int) -> float:
    """Return the time of the thread that ends last, where each takes the next task when it is done with one."""
    loads = [0.0] * threads
    for task in tasks:
        heapq.heapreplace(loads, loads[0] + task)
    return max(loads)


class Layout:
    """How one problem is cut into blocks, and what scratch memory a block takes; nothing here depends on values."""

    def __init__(self, problem: ConvProblem, variant: Variant, threads: int, limit: int) -> None:
        p, along_h, along_w = problem, variant.along_height, variant.along_width
        self.itemsize = p.itemsize
        self.lanes = host().lanes(self.itemsize)
        self.tile = register_tile(self.itemsize)
        self.rows = tile_heights(self.tile)[-1]
        self.along_h, self.along_w = along_h, along_w
        self.channels, self.outputs = p.ic // p.g, p.oc // p.g
        self.dh, self.dw, self.sh, self.sw = p.dh, p.dw, p.sh, p.sw
        self.tall, self.bands, self.low_bands = _phases(p.oh, p.dh, along_h.m)
        self.wide, self.columns, self.low_columns = _phases(p.ow, p.dw, along_w.m)
        self.panels = -(-self.outputs // self.tile.columns)
        self.image_bands = self.tall * self.bands + (p.dh - self.tall) * self.low_bands
        self.all_bands = p.mb * self.image_bands
        self._cut(p.g, threads, limit)

    @property
    def nbytes(self) -> int:
        """Bytes of scratch memory over all threads."""
        return self.scratch_size * self.itemsize

    @property
    def tiles(self) -> int:
        """Tiles of all images, overhanging ones included."""
        return self.all_bands * self._in_columns(self.columns)

    def _in_columns(self, columns: int) -> int:
        """Return the tiles of a band in the first `columns` columns."""
        return self.wide * columns + (self.dw - self.wide) * min(columns, self.low_columns)

    def _cut(self, groups: int, threads: int, limit: int) -> None:
        """Choose the numbers of pieces and who shares what; halve blocks until the scratch memory is below `limit`."""
        self.panels_at_once = min(PANELS_AT_ONCE, self.panels)
        # As many for each thread, each panels of one pass.
        self.output_tasks = max(1, min(self.panels, threads * -(-self.panels // (self.panels_at_once * threads))))
        shape = self.all_bands, self.columns, self._in_columns(self.columns)
        self.shares_blocks, band_blocks, column_blocks = _cut(*shape, groups, self.panels, self.output_tasks, threads, BLOCK_TILES)
        while True:
            self._measure(band_blocks, column_blocks, threads)
            if self.nbytes <= limit or (band_blocks >= self.all_bands and column_blocks >= self.columns):
                return
            if band_blocks < self.all_bands:
                band_blocks = min(self.all_bands, band_blocks * 2)
            else:
                column_blocks = min(self.columns, column_blocks * 2)

    def _measure(self, band_blocks: int, column_blocks: int, threads: int) -> None:
        """Compute strides and sizes, in elements, for blocks of this many pieces."""
        line = 64 // self.itemsize
        bands, columns = max(1, -(-self.all_bands // band_blocks)), -(-self.columns // column_blocks)

        def step(elements: int) -> int:
            """Return a stride that is a whole, odd number of lines, so that planes do not fall on the same cache sets."""
            return (-(-elements // line) | 1) * line

        self.block_tiles = bands * self._in_columns(columns)
        # A strip is filled up to the next height there is: by a row where heights are even, a single low one by more.
        tiles = self.block_tiles + max(tile_heights(self.tile)[0], -(-self.block_tiles // self.rows))
        xis = self.along_h.alpha * self.along_w.alpha
        self.band_blocks, self.column_blocks = band_blocks, column_blocks
        self.ldv = -(-self.channels // self.lanes) * self.lanes
        self.u_step = step(self.panels * self.channels * self.tile.columns)
        self.v_step, self.m_step = step(tiles * self.ldv), step(tiles * self.tile.columns)
        cols = self.dw * ((columns - 1) * self.along_w.m * self.sw + self.along_w.span)
        run = min(bands, self.bands)
        rows = (run - 1) * self.along_h.m * self.sh + self.along_h.span
        self.row_step = step(cols * self.lanes)
        self.out_step = self.dw * columns * self.along_w.m * self.lanes
        slack = self.lanes * self.lanes
        self.half_at = step(rows * self.row_step + slack)
        self.m_at = step(self.half_at + self.along_h.alpha * self.row_step)
        self.out_at = step(self.m_at + self.panels_at_once * xis * self.m_step)
        self.check_at = step(self.out_at + self.along_h.m * self.out_step + slack)
        self.private_size = step(self.check_at + self.lanes + slack)
        self.v_size = step(xis * self.v_step)
        vectors = -(-self.channels // self.lanes)
        self.channels_per_task = self.lanes * max(1, vectors // (4 * threads))
        self.data_pieces = min(bands, -(-2 * threads // vectors))  # where there are few channels
        self.scratch_size = (1 if self.shares_blocks else threads) * self.v_size + threads * self.private_size + line
