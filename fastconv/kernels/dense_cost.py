"""What the register tiles of a dense convolution cost, and how its work is cut into tasks for the threads."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Callable, Sequence

from fastconv.kernels.dense_geometry import Geometry, Region, multiple, regions
from fastconv.kernels.gemm import INDEPENDENT_SUMS
from fastconv.kernels.register_tile import RegisterTile, row_tiles

#: Cache of one core that a kernel may count on: three quarters of the first level for one panel of k; for the strip of a rectangle
#: of the result that leaves taps out, under half of the second.
PANEL_NBYTES = 24 * 2**10
STRIP_NBYTES = 384 * 2**10
#: Rectangles are taken where they cost less than this share of the whole.
LEAST_SAVED = 0.93
#: Most images of a block.
BLOCK_IMAGES = 16
#: Fewest output channels of a task: each range of channels packs the same pixels again.
SPLIT_CHANNELS = 32

#: Most tiles of output channels for which panels are multiplied where they lie: packing costs two stores for each k, and a store
#: of a whole line takes a cycle from the multiply-adds; it saves each tile loads that fall into two lines, and pages. With 1x1 and
#: 3x3 kernels on 28x28 and 56x56 pixels, 1 to 4 tiles take 0.90 to 0.97 of the time, 6 and more up to 1.06.
PLACED_TILES = 4
#: Cycles to pack one k of a panel of pixels (mostly hidden behind the products of the first tile), and of a tile of
#: pixels; cycles of a task and of a tile of the micro-kernel beside the products and the packing.
PANEL_PACK_CYCLES = 2.0
TILE_PACK_CYCLES = 2.5
TASK_CYCLES = 2500.0
#: Bytes of weights that a task reads in a cycle, what hides behind the products left out: dilated 3x3 256 -> 256 on 28x28 pixels
#: on two threads, in blocks of 128 pixels instead of 288, reads 5 MB more and takes 1.935 ms instead of 1.910.
WEIGHT_NBYTES = 40
TILE_CYCLES = 30.0
#: Cycles of an image in a block of several beside its products: a panel over two images is packed and stored in two pieces.
IMAGE_CYCLES = 500.0


def are_placed(heights: Sequence[int], tile: RegisterTile) -> bool:
    """Tell whether panels of pixels are multiplied where they lie, by register tiles of these heights."""
    return len(heights) <= PLACED_TILES and min(heights) >= tile.high_heights[0]


@functools.lru_cache(maxsize=1024)
def pixels_cost(pixels: int, channels: int, tile: RegisterTile, *, is_placed: bool | None = None) -> float:
    """Return the model's cycles per step of k of the design with pixels in vectors, packing included.

    Of a range of channels, `is_placed` tells what all of them decide, see `are_placed`.
    """
    lanes = tile.columns // tile.vectors
    whole, rest = divmod(pixels, tile.columns)
    used = 0
    if rest:
        used = 1
        while used * lanes < rest:
            used *= 2
    heights = row_tiles(channels, tile)
    panels = whole * tile.cost_of(heights, tile.vectors)
    rest_panel = tile.cost_of(heights, used) if used else 0.0
    is_placed = are_placed(heights, tile) if is_placed is None else is_placed
    packed = bool(used) if is_placed else -(-pixels // tile.columns)
    return panels + rest_panel + PANEL_PACK_CYCLES * packed


@functools.lru_cache(maxsize=1024)
def channels_cost(pixels: int, channels: int, tile: RegisterTile) -> float:
    """Return the model's cycles per step of k of the design with output channels in vectors, packing included."""
    heights = row_tiles(pixels, tile)
    product = -(-channels // tile.columns) * tile.cost_of(heights, tile.vectors)
    return product + TILE_PACK_CYCLES * len(heights)


def images_of_block(most: int, pixels: int, channels: int, depth: int, tile: RegisterTile) -> int:
    """Return how many images of so many pixels make a block whose panels run on from one image to the next, 1 if none gains.

    Only where a channel's sum has one order in tiles of any width: an image has the same bits in a batch of any size.
    """
    if min(row_tiles(channels, tile)) < INDEPENDENT_SUMS:
        return 1
    costs = {
        count: depth * pixels_cost(count * pixels, channels, tile) / count + (IMAGE_CYCLES if count > 1 else 0.0)
        for count in range(1, min(most, BLOCK_IMAGES) + 1)
    }
    return min(costs, key=lambda count: (costs[count] > min(costs.values()) * 1.01, count), default=1)


def cycles(pixels: int, channels: int, depth: int, pieces: int, tile: RegisterTile, *, is_pixels: bool) -> float:
    """Return the model's cycles of a product with `depth` steps of k in so many pieces, without those of its tasks."""
    tiles = -(-pixels * channels // (tile.rows * tile.columns))
    return (pixels_cost if is_pixels else channels_cost)(pixels, channels, tile) * depth + tiles * pieces * TILE_CYCLES


@functools.lru_cache(maxsize=512)
def best_regions(geometry: Geometry, itemsize: int, tile: RegisterTile) -> tuple[Region, ...]:
    """Return the rectangles that save the most work by leaving out taps that lie in the padding, none where that is too little.

    Padding must read zeros, and all weights be finite: infinity times a padded zero is NaN.
    """
    g, run = geometry, PANEL_NBYTES // (tile.columns * itemsize)
    depth = g.ic * g.kh * g.kw
    plain = min(cycles(g.oh * g.ow, g.oc, depth, -(-depth // run), tile, is_pixels=side) for side in (True, False)) + TASK_CYCLES
    best: tuple[float, tuple[Region, ...]] = (plain * LEAST_SAVED, ())
    if not g.is_padded:
        return ()
    for by_rows, by_columns in ((True, False), (False, True), (True, True)):
        parts = regions(g, run, STRIP_NBYTES // itemsize, by_rows=by_rows, by_columns=by_columns)
        total = 0.0
        for part in parts:
            p = part.geometry
            total += cycles(p.oh * p.ow, p.oc, p.ic * p.kh * p.kw, -(-p.ic // part.channels) * p.kh, tile, is_pixels=True) + TASK_CYCLES
        if total < best[0]:
            best = (total, parts)
    return best[1]


def cut(
    channels: int, segment: int, block: int, units: int, depth: int, tile: RegisterTile, pieces: int, threads: int, *,
    is_pixels: bool, fewest: int, read_cycles: float, fill_cycles: Callable[[int], float],
) -> tuple[int, int]:  # fmt: skip
    """Return (pixels of a block, ranges of output channels) that keep all threads busy to the end at the least cost.

    A range of channels fills the strip and packs the same pixels again (`fill_cycles` of so many pixels); a smaller block
    reads all weights once more (`read_cycles`). Panels stay as they are, and so do the bits: blocks of the design
    ``channels``, whose tiles are not, are never cut.
    """
    if threads == 1:
        return block, fewest
    blocks = -(-segment // block)
    sizes = [block]
    if is_pixels:
        sizes += [multiple(-(-segment // count), tile.columns) for count in range(blocks + 1, blocks + 4 * threads)]
    most = max(fewest, min(units, channels // SPLIT_CHANNELS, 4 * threads))
    cost = functools.partial(pixels_cost, is_placed=are_placed(row_tiles(channels, tile), tile)) if is_pixels else channels_cost
    best = (math.inf, block, fewest)
    for size in dict.fromkeys(sizes):
        whole, rest = divmod(segment, size)
        for splits in range(fewest, most + 1):
            share = -(-channels // splits)
            fixed = TASK_CYCLES + read_cycles / splits
            task = depth * cost(size, share, tile) + fill_cycles(size) + fixed
            last = depth * cost(rest, share, tile) + fill_cycles(rest) + fixed if rest else 0.0
            span = _makespan(task, last, whole, splits, pieces, threads)
            if span < best[0] * 0.99:
                best = (span, size, splits)
    return best[1], best[2]


def tiles_of_ranges(channels: int, threads: int, tile: RegisterTile, unit: int) -> tuple[int, ...]:
    """Cut channels into the heights of register tiles: for each thread, if they are enough, a range of as many tiles and channels.

    Where that is not possible, or would give a channel a tile that adds up in another order, the heights are those of one range.
    """
    plain = row_tiles(channels, tile, unit)
    count = min(threads, channels // SPLIT_CHANNELS)
    if count <= 1:
        return plain
    step = math.lcm(unit, 2)
    bounds = [channels // step * i // count * step for i in range(count)] + [channels]
    ranges = [row_tiles(end - start, tile, unit) for start, end in itertools.pairwise(bounds)]
    is_even = len({len(heights) for heights in ranges}) == 1
    in_order = min(min(heights) for heights in (plain, *ranges)) * tile.vectors >= INDEPENDENT_SUMS
    return tuple(itertools.chain(*ranges)) if is_even and in_order else plain


def _makespan(task: float, last: float, whole: int, splits: int, pieces: int, threads: int) -> float:
    """Return when the last of `threads` threads ends that take tasks in order: per piece `whole` blocks and one more."""
    count = pieces * splits * (whole + (last > 0))
    total = pieces * splits * (whole * task + last)
    if count > 32 * threads:
        return total / threads + task * (threads - 1) / threads
    ends = [0.0] * threads
    for _ in range(pieces):
        for cost in [task] * (whole * splits) + [last] * (splits if last > 0 else 0):
            heapq.heapreplace(ends, ends[0] + cost)
    return max(ends)
