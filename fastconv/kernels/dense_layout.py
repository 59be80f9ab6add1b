"""How a dense convolution is cut: design, blocks of k, blocks of pixels, register tiles, strips and scratch memory."""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels import dense
from fastconv.kernels import dense_fields as df
from fastconv.kernels.pack import SLACK
from fastconv.kernels.register_tile import RegisterTile, register_tile, row_tiles
from fastconv.kernels.target import Target, host

#: Cache of one core that a kernel may count on: three quarters of the first level for one panel of k,
#: under half of the second for the panels of one block of pixels.
PANEL_NBYTES = 24 * 2**10
BLOCK_NBYTES = 224 * 2**10
#: Fewest pixels of a block, where the image has them: each block reads all weights once. Most: the longer the runs that
#: a task writes into each channel's plane the better, up to about a page of each (measured with two threads: 64 to 256
#: channels at 56x56 with blocks of 448 pixels 1.46 ms, of 784 1.42).
BLOCK_PIXELS, MOST_PIXELS = 128, 2048
#: Whole images are cut where their rows are not longer than this; longer rows are cut themselves.
ROW_PIXELS = 512
#: Fewest output channels of a task: each range of channels packs the same pixels again.
SPLIT_CHANNELS = 32

#: Complex results of a task that wait in scratch memory for their last block of k.
HELD_NBYTES = 256 * 2**10

#: Cycles to pack one k of a panel of pixels (mostly hidden behind the products of the first tile), and of a tile of
#: pixels; cycles of a task and of a tile of the micro-kernel beside the products and the packing.
PANEL_PACK_CYCLES = 2.0
TILE_PACK_CYCLES = 2.5
TASK_CYCLES = 3000.0
#: Cycles to copy a vector of a row into a strip, for each column of the stride; to pack a vector of pixels that
#: lie in two rows, beside what one of a single row takes; to gather a pixel of a panel whose pixels lie in more.
ROW_COPY_CYCLES = 2.5
SPLIT_PACK_CYCLES = 2.5
GATHER_CYCLES = 1.5
TILE_CYCLES = 30.0

Table = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Geometry:
    """The numbers of one convolution, per group where it says so."""

    n: int
    groups: int
    ic: int
    oc: int
    ih: int
    iw: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    sw: int
    ph_lo: int
    pw_lo: int
    dh: int
    dw: int
    is_padded: bool


def _multiple(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def even_blocks(extent: int, limit: int, unit: int = 1) -> int:
    """Return the size of blocks, a multiple of `unit`, of as equal size as can be, none above `limit` (at least one unit)."""
    limit = max(unit, limit // unit * unit)
    return _multiple(-(-extent // -(-extent // limit)), unit)


@dataclass(frozen=True)
class DenseLayout:
    """All decisions for one geometry, dtype and form of the result; tables as the kernel reads them.

    Attributes
    ----------
    fields : ndarray of int64
        `g` of `fastconv.kernels.dense.dense`.
    tiles, slots : ndarray of int64
        Register tiles; residues modulo the stride that taps read, with the rows (columns) beyond the block's.
    taps : ndarray of int64, shape (KH*KW,)
        Offset of each tap in a strip's plane.
    is_pixels, in_place : bool
        The design; whether panels are packed from the source itself, without a strip.
    tasks : int
    workspace_nbytes_per_thread : int
    """

    fields: Table
    tiles: Table
    slots: Table
    taps: Table
    is_pixels: bool
    in_place: bool
    tasks: int
    workspace_nbytes_per_thread: int

    def offsets(self, x_strides: Sequence[int], geometry: Geometry) -> Table:
        """Return the offset of each k = (c, kh, kw) in a strip, or in a source of these element strides."""
        if not self.in_place:
            plane = int(self.fields[df.PLANE])
            return (np.arange(geometry.ic)[:, None] * plane + self.taps).ravel()
        _, sc, sh, sw = x_strides
        rows = np.arange(geometry.kh) * geometry.dh * sh
        columns = np.arange(geometry.kw) * geometry.dw * sw
        return (np.arange(geometry.ic)[:, None, None] * sc + rows[:, None] + columns).ravel().astype(np.int64)


@functools.lru_cache(maxsize=1024)
def pixels_cost(pixels: int, channels: int, tile: RegisterTile) -> float:
    """Return the model's cycles per step of k of the design with pixels in vectors, packing included."""
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
    return panels + rest_panel + PANEL_PACK_CYCLES * -(-pixels // tile.columns)


@functools.lru_cache(maxsize=1024)
def channels_cost(pixels: int, channels: int, tile: RegisterTile) -> float:
    """Return the model's cycles per step of k of the design with output channels in vectors, packing included."""
    heights = row_tiles(pixels, tile)
    product = -(-channels // tile.columns) * tile.cost_of(heights, tile.vectors)
    return product + TILE_PACK_CYCLES * len(heights)


def _slots(taps: int, dilation: int, stride: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return [(residue, extra positions)] and, for each tap, (its slot, its shift in positions)."""
    residues = sorted({t * dilation % stride for t in range(taps)})
    shifts = [(residues.index(t * dilation % stride), t * dilation // stride) for t in range(taps)]
    return [(r, max(s for i, s in shifts if residues[i] == r)) for r in residues], shifts


def _pays_to_unroll(geometry: Geometry, panel: int, lanes: int) -> bool:
    """Tell whether a copy of the rows for each column of the kernel costs less than panels of pixels that lie in several rows."""
    g = geometry
    slots, _ = _slots(g.kw, g.dw, g.sw)
    copies = sum(-(-(g.ow + extra) // lanes) for _, extra in slots)
    more = (g.kw * -(-g.ow // lanes) - copies) * g.sw * ROW_COPY_CYCLES
    # Panels for each row that begin in one row and end in another.
    split = min(1.0, g.ow / panel) * (1 - math.gcd(panel, g.ow) / panel)
    cycles = SPLIT_PACK_CYCLES * split * -(-panel // lanes) if lanes <= g.ow + 1 else GATHER_CYCLES * g.ow
    return more < g.kh * g.kw * cycles


def can_read_in_place(geometry: Geometry, *, is_flat: bool, has_row_gaps: bool = False) -> bool:
    """Tell whether every k reads the pixels of a segment at equal distance in the source: no strip is needed then."""
    g = geometry
    if g.is_padded or g.sh != 1 or g.sw != 1:
        return False
    return not is_flat or g.oh == 1 or (g.kw == 1 and g.iw == g.ow and not has_row_gaps)


def make_layout(
    geometry: Geometry,
    itemsize: int,
    *,
    is_flat: bool,
    is_channels_last: bool,
    reads_rows: bool,
    has_row_gaps: bool = False,
    reads_channels: bool = False,
    threads: int = 1,
    activation: int = 0,
    parts: int = 1,
    design: bool | None = None,
    target: Target | None = None,
) -> DenseLayout:
    """Decide everything.

    Parameters
    ----------
    geometry : Geometry
    itemsize : int
        Bytes of an element.
    is_flat : bool
        Whether the pixels of a whole image are equally spaced in result and residual; else those of a row are.
    is_channels_last : bool
        Whether the channels of result and residual lie next to each other (design ``channels`` is then taken).
    reads_rows : bool
        Whether the source's columns lie next to each other.
    has_row_gaps : bool
        Whether there is memory between the source's rows (or they run backwards).
    reads_channels : bool
        Whether the source's channels lie next to each other.
    threads : int
        Decides the number of tasks, nothing else.
    activation : int
        Code of the activation.
    parts : int
        2 for complex arrays: `geometry` counts real and imaginary parts as channels of their own, next to each other.
    design : bool, optional
        True takes ``pixels``, False ``channels``, None what the model finds faster.
    """
    g = geometry
    target = host() if target is None else target
    tile = register_tile(itemsize, target)
    lanes = target.lanes(itemsize)
    depth = g.ic * g.kh * g.kw
    segment = g.oh * g.ow if is_flat else g.ow
    if is_flat and g.ow > ROW_PIXELS and g.oh > 1:
        is_flat, segment = False, g.ow
    kc = even_blocks(depth, PANEL_NBYTES // (tile.columns * itemsize), 4)
    limit = max(BLOCK_PIXELS, min(MOST_PIXELS, BLOCK_NBYTES // (kc * itemsize)))
    if design is None:
        design = pixels_cost(segment, g.oc, tile) <= channels_cost(segment, g.oc, tile) * 1.02
    is_pixels = parts > 1 or (design and not is_channels_last)
    if parts > 1:
        limit = min(limit, 2 * BLOCK_PIXELS)
    block = even_blocks(segment, limit, tile.columns if is_pixels else 1)
    segments = 1 if is_flat else g.oh
    in_place = parts == 1 and reads_rows and can_read_in_place(g, is_flat=is_flat, has_row_gaps=has_row_gaps)
    oc_padded = _multiple(g.oc, tile.columns)
    pieces = g.n * g.groups * segments
    reads_pixels = False
    if is_pixels:
        heights = row_tiles(g.oc, tile, parts)
        tiles = np.concatenate(([0], np.cumsum(heights)))
        units = len(heights)
    else:
        last = segment - (-(-segment // block) - 1) * block
        sizes_of_blocks = [row_tiles(size, tile) for size in (min(block, segment), last)]
        tiles = np.concatenate([np.concatenate(([len(part), 0], np.cumsum(part))) for part in sizes_of_blocks])
        units = oc_padded // tile.columns
        # Pixels with their channels next to each other are the broadcast side as they are.
        are_high = min(min(part) for part in sizes_of_blocks) >= tile.high_heights[0]
        reads_pixels = reads_channels and are_high and can_read_in_place(g, is_flat=is_flat, has_row_gaps=has_row_gaps) and g.kh * g.kw == 1
    fewest = -(-g.oc * block * itemsize // HELD_NBYTES) if parts > 1 else 1
    block, splits = _cut(g.oc, segment, block, units, depth, tile, pieces, threads, is_pixels=is_pixels, fewest=min(units, fewest))
    blocks = -(-segment // block)

    padded_rows = (g.oh - 1) * g.sh + (g.kh - 1) * g.dh + 1
    row_slots, row_shifts = _slots(g.kh, g.dh, g.sh)
    unrolls = is_flat and _pays_to_unroll(g, tile.columns if is_pixels else tile.rows, lanes)
    column_slots, column_shifts = _slots(g.kw, g.dw, g.sw)
    if unrolls:
        column_slots, column_shifts = [(t * g.dw, 0) for t in range(g.kw)], [(t, 0) for t in range(g.kw)]
    height = min(g.oh, (block + g.ow - 2) // g.ow + 1) if is_flat else 1
    width = (g.ow if is_flat else block) + max(extra for _, extra in column_slots)
    positions = height + max(extra for _, extra in row_slots)
    # Pixels of a whole block lie next to each other where a strip's rows are as long as the output's.
    is_one_run = is_flat and width == g.ow and (unrolls or len(column_slots) == 1)
    if is_one_run:
        pitch, column_slot = width, positions * width + SLACK
        row_slot = len(column_slots) * column_slot
    else:
        column_slot = width + lanes
        pitch = len(column_slots) * column_slot
        row_slot = positions * pitch
    plane = len(row_slots) * row_slot + SLACK
    taps = np.array([rs * row_slot + r * pitch + cs * column_slot + c for rs, r in row_shifts for cs, c in column_shifts], np.int64)
    channels = min(g.ic, kc // (g.kh * g.kw) + 2 * parts)
    line = 64 // itemsize
    sizes = {
        df.STRIP_AT: 0 if in_place or reads_pixels else _multiple(channels, lanes) * plane + 2 * SLACK,
        df.PANELS_AT: _multiple(block, tile.columns) * kc + SLACK,
        df.TILE_AT: max(tile.rows, _multiple(block, lanes)) * tile.columns + SLACK,
        df.SUMS_AT: _held(block, tile, -(-units // splits), is_pixels=is_pixels, parts=parts),
    }
    fields = np.zeros(df.FIELDS, np.int64)
    at = 0
    for field, size in sizes.items():
        fields[field] = at + (SLACK if field == df.STRIP_AT else 0)
        at += _multiple(size + (SLACK if field == df.STRIP_AT else 0), line)
    numbers = {
        df.SIZE: itemsize, df.GROUPS: g.groups, df.IC: g.ic, df.OC: g.oc, df.OH: g.oh, df.OW: g.ow,
        df.TAPS: g.kh * g.kw, df.IH: g.ih, df.IW: g.iw, df.SH: g.sh, df.SW: g.sw, df.PW_LO: g.pw_lo,
        df.K: depth, df.KC: kc, df.FLAT: int(is_flat), df.BLOCKS: blocks, df.BLOCK: block, df.SPLITS: splits,
        df.IS_PIXELS: int(is_pixels), df.IN_PLACE: int(in_place), df.LANES: lanes, df.NR: tile.columns,
        df.MR: tile.rows, df.PITCH: pitch, df.ROW_SLOT: row_slot, df.COLUMN_SLOT: column_slot,
        df.RUN: g.ow + block if is_one_run else g.ow, df.PLANE: plane,
        df.ROW_SLOTS: len(row_slots), df.COLUMN_SLOTS: len(column_slots), df.SCRATCH: at,
        df.ACTIVATION: activation, df.OC_PADDED: oc_padded, df.TILES: units,
        df.PADDED_ROWS: padded_rows, df.PARTS: parts, df.LEAST_PACKING: tile.high_heights[0], df.READS_PIXELS: int(reads_pixels),
    }  # fmt: skip
    for field, number in numbers.items():
        fields[field] = number
    return DenseLayout(
        fields,
        tiles.astype(np.int64),
        np.array(row_slots + column_slots, np.int64),
        taps,
        is_pixels,
        in_place or reads_pixels,
        pieces * blocks * splits,
        at * itemsize,
    )


def _held(block: int, tile: RegisterTile, units: int, *, is_pixels: bool, parts: int) -> int:
    """Return the elements of results that a task of `units` tiles or panels of channels keeps in scratch memory."""
    if not is_pixels:
        return (units * block + tile.columns) * tile.columns
    return units * tile.rows * block + tile.columns if parts > 1 else 0


def _cut(
    channels: int, segment: int, block: int, units: int, depth: int, tile: RegisterTile, pieces: int, threads: int, *,
    is_pixels: bool, fewest: int,
) -> tuple[int, int]:  # fmt: skip
    """Return (pixels of a block, ranges of output channels) that keep all threads busy to the end at the least cost.

    A range of channels packs the same pixels again; a smaller block reads all weights once more. Panels stay as they
    are, and so do the bits: blocks of the design ``channels``, whose tiles are not, are never cut.
    """
    if threads == 1:
        return block, fewest
    blocks = -(-segment // block)
    sizes = [block]
    if is_pixels:
        sizes += [_multiple(-(-segment // count), tile.columns) for count in range(blocks + 1, blocks + 2 * threads)]
    most = max(fewest, min(units, channels // SPLIT_CHANNELS, 4 * threads))
    cost = pixels_cost if is_pixels else channels_cost
    best = (math.inf, block, fewest)
    for size in dict.fromkeys(sizes):
        whole, rest = divmod(segment, size)
        for splits in range(fewest, most + 1):
            share = -(-channels // splits)
            task = depth * cost(size, share, tile) + TASK_CYCLES
            last = depth * cost(rest, share, tile) + TASK_CYCLES if rest else 0.0
            span = _makespan(task, last, whole, splits, pieces, threads)
            if span < best[0] * 0.99:
                best = (span, size, splits)
    return best[1], best[2]


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


def pack_weights(layout: DenseLayout, functions: Table, w: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return weights (OC, IC/G, KH, KW) as the kernel reads them."""
    source = np.ascontiguousarray(w)
    lanes = int(layout.fields[df.LANES])
    # The last square of the last tile is stored whole.
    overrun = lanes * (lanes + int(max(layout.fields[df.NR], layout.fields[df.MR])))
    elements = dense.packed_elements(layout.fields) + overrun
    # Zeros cost a pass over the memory; they matter only where a last panel has columns to spare.
    out = np.empty(elements, w.dtype) if layout.is_pixels else np.zeros(elements, w.dtype)
    dense.pack_weights(functions, layout.fields, layout.tiles, source.ctypes.data, out.ctypes.data)
    return out


def pack_bias(layout: DenseLayout, bias: npt.NDArray[Any] | None, dtype: Any) -> npt.NDArray[Any]:
    """Return the bias of all groups, zeros where there is none, each group padded like the weights."""
    g = layout.fields
    width = int(g[df.OC] if layout.is_pixels else g[df.OC_PADDED])
    out = np.zeros((int(g[df.GROUPS]), width), dtype)
    if bias is not None:
        out[:, : int(g[df.OC])] = bias.reshape(int(g[df.GROUPS]), -1)
    return np.concatenate((out.ravel(), np.zeros(SLACK, dtype)))
