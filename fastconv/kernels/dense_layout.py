"""How a dense convolution is cut: design, blocks of k, blocks of pixels, register tiles, strips and scratch memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels import dense
from fastconv.kernels import dense_fields as df
from fastconv.kernels.dense_cost import (
    PANEL_NBYTES,
    WEIGHT_NBYTES,
    are_placed,
    channels_cost,
    cut,
    images_of_block,
    pixels_cost,
    tiles_of_ranges,
)
from fastconv.kernels.dense_geometry import REGION_PIXELS, Geometry, Region, Step, even_blocks, k_order, multiple
from fastconv.kernels.gemm import WORD_NBYTES
from fastconv.kernels.pack import SLACK
from fastconv.kernels.register_tile import RegisterTile, register_tile, row_tiles
from fastconv.kernels.target import Target, host

#: Cache of one core that a kernel may count on for the panels of one block of pixels: under half of the second level.
BLOCK_NBYTES = 224 * 2**10
#: Fewest pixels of a block, where the image has them: each block reads all weights once. Most: the longer the runs that
#: a task writes into each channel's plane the better, up to about a page of each (measured with two threads: 64 to 256
#: channels at 56x56 with blocks of 448 pixels 1.46 ms, of 784 1.42).
BLOCK_PIXELS, MOST_PIXELS = 128, 2048
#: Whole images are cut where their rows are not longer than this; longer rows are cut themselves.
ROW_PIXELS = 512
#: Fewest tasks of a thread where images are put together in blocks.
TASKS_OF_THREAD = 4
#: Complex results of a task that wait in scratch memory for their last block of k.
HELD_NBYTES = 256 * 2**10

#: Cycles to copy a vector of a row into a strip, for each column of the stride; to pack a vector of pixels that
#: lie in two rows, beside what one of a single row takes; to gather a pixel of a panel whose pixels lie in more.
ROW_COPY_CYCLES = 2.5
SPLIT_PACK_CYCLES = 2.5
GATHER_CYCLES = 1.5

Table = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DenseLayout:
    """All decisions for one geometry, dtype and form of the result; tables as the kernel reads them.

    Attributes
    ----------
    fields : ndarray of int64
        `g` of `fastconv.kernels.dense.dense`.
    tiles, slots : ndarray of int64
        Register tiles; residues modulo the stride that taps read, with the rows (columns) beyond the block's.
    steps : ndarray of int64, shape (pieces of k, 6)
        What a task does one after the other, see `fastconv.kernels.dense_geometry.Step`.
    taps : ndarray of int64, shape (KH*KW,)
        Offset of each tap in a strip's plane.
    panel_rows : ndarray of int64
        Offset of each row in a packed panel.
    is_pixels, in_place : bool
        The design; whether panels are packed from the source itself, without a strip.
    tasks : int
    workspace_nbytes_per_thread : int
    fill_cycles : float
        Modelled cycles that fill the strips of an image's group for one range of output channels.
    region : Region, optional
        The rectangle of the result that it computes, if not the whole.
    """

    fields: Table
    tiles: Table
    slots: Table
    steps: Table
    taps: Table
    panel_rows: Table
    is_pixels: bool
    in_place: bool
    tasks: int
    workspace_nbytes_per_thread: int
    fill_cycles: float
    region: Region | None = None

    def offsets(self, x_strides: Sequence[int], geometry: Geometry) -> Table:
        """Return the offset of each k = (c, kh, kw) in a strip, or in a source of these element strides; of rectangles in their order."""
        plane = int(self.fields[df.PLANE])
        if self.region is not None:
            return self.region.offsets(plane, self.taps)
        if not self.in_place:
            return (np.arange(geometry.ic)[:, None] * plane + self.taps).ravel()
        _, sc, sh, sw = x_strides
        rows = np.arange(geometry.kh) * geometry.dh * sh
        columns = np.arange(geometry.kw) * geometry.dw * sw
        return (np.arange(geometry.ic)[:, None, None] * sc + rows[:, None] + columns).ravel().astype(np.int64)


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
    region: Region | None = None,
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
    region : Region, optional
        Compute this rectangle of the result alone, with pixels in vectors: they are numbered row by row, and their sums
        wait in scratch memory.
    """
    g = geometry if region is None else region.geometry
    target = host() if target is None else target
    tile = register_tile(itemsize, target)
    lanes = target.lanes(itemsize)
    depth = g.ic * g.kh * g.kw
    is_flat = is_flat or region is not None
    segment = g.oh * g.ow if is_flat else g.ow
    if is_flat and g.ow > ROW_PIXELS and g.oh > 1 and region is None:
        is_flat, segment = False, g.ow
    most = PANEL_NBYTES // (tile.columns * itemsize)
    kc = even_blocks(depth if g.kh * g.kw <= most else g.kh * g.kw, most, 4) if region is None else region.channels * g.kw
    limit = max(BLOCK_PIXELS, min(MOST_PIXELS, BLOCK_NBYTES // (kc * itemsize)))
    if design is None:
        design = pixels_cost(segment, g.oc, tile) <= channels_cost(segment, g.oc, tile) * 1.02
    holds = parts > 1 or region is not None
    is_pixels = holds or (design and not is_channels_last)
    if holds:
        limit = min(limit, REGION_PIXELS)
    block = even_blocks(segment, limit, tile.columns if is_pixels else tile.rows)
    segments = 1 if is_flat else g.oh
    in_place = parts == 1 and reads_rows and can_read_in_place(g, is_flat=is_flat, has_row_gaps=has_row_gaps)
    oc_padded = multiple(g.oc, tile.columns)
    pieces = g.n * g.groups * segments
    reads_pixels = is_placed = False
    if is_pixels:
        # The weights are packed by them: the same for all forms of the arrays, and all rectangles.
        heights = tiles_of_ranges(g.oc, threads, tile, parts)
        tiles = np.concatenate(([0], np.cumsum(heights)))
        units = len(heights)
        is_placed = are_placed(heights, tile)
    else:
        last = segment - (-(-segment // block) - 1) * block
        sizes_of_blocks = [row_tiles(size, tile) for size in (min(block, segment), last)]
        tiles = np.concatenate([np.concatenate(([len(part), 0], np.cumsum(part))) for part in sizes_of_blocks])
        units = oc_padded // tile.columns
        # Pixels with their channels next to each other are the broadcast side as they are.
        are_high = min(min(part) for part in sizes_of_blocks) >= tile.high_heights[0]
        reads_pixels = reads_channels and are_high and can_read_in_place(g, is_flat=is_flat, has_row_gaps=has_row_gaps) and g.kh * g.kw == 1
    fewest = -(-g.oc * block * itemsize // HELD_NBYTES) if holds else 1
    steps = _steps(depth, kc, g.kh * g.kw, parts) if region is None else region.steps()
    padded_rows = (g.oh - 1) * g.sh + (g.kh - 1) * g.dh + 1
    row_slots, row_shifts = _slots(g.kh, g.dh, g.sh)
    unrolls = is_flat and _pays_to_unroll(g, tile.columns if is_pixels else tile.rows, lanes)
    column_slots, column_shifts = _slots(g.kw, g.dw, g.sw)
    if unrolls:
        column_slots, column_shifts = [(t * g.dw, 0) for t in range(g.kw)], [(t, 0) for t in range(g.kw)]
    filled = 0 if in_place or reads_pixels else parts * sum(step[5] for step in steps)

    def rows_of(pixels: int) -> int:
        return min(g.oh, (pixels + g.ow - 2) // g.ow + 1) if is_flat else 1

    def fill_cycles(pixels: int) -> float:
        rows = sum(rows_of(pixels) + extra for _, extra in row_slots)
        vectors = sum(-(-((g.ow if is_flat else pixels) + extra) // lanes) for _, extra in column_slots)
        return filled * rows * vectors * ROW_COPY_CYCLES * (g.sw if g.sw <= 2 else lanes)

    # Pixels of a whole block lie next to each other where a strip's rows are as long as the output's.
    is_one_run = is_flat and max(extra for _, extra in column_slots) == 0 and (unrolls or len(column_slots) == 1)
    images = 1
    if is_one_run and is_placed and not holds and not in_place and block >= segment:
        images = images_of_block(g.n // (TASKS_OF_THREAD * threads), segment, g.oc, depth, tile)
    block, splits = (images * segment, 1) if images > 1 else cut(
        g.oc, segment, block, units, depth, tile, pieces, threads, is_pixels=is_pixels, fewest=min(units, fewest),
        read_cycles=g.oc * depth * itemsize / WEIGHT_NBYTES, fill_cycles=fill_cycles,
    )  # fmt: skip
    blocks = -(-segment // block)
    pieces = -(-g.n // images) * g.groups * segments
    height = rows_of(block)
    width = (g.ow if is_flat else block) + max(extra for _, extra in column_slots)
    positions = height + max(extra for _, extra in row_slots)
    if is_one_run:
        pitch, column_slot = width, positions * width + SLACK
        row_slot = len(column_slots) * column_slot
    else:
        column_slot = width + lanes
        pitch = len(column_slots) * column_slot
        row_slot = positions * pitch
    plane = len(row_slots) * row_slot + SLACK
    taps = np.array([rs * row_slot + r * pitch + cs * column_slot + c for rs, r in row_shifts for cs, c in column_shifts], np.int64)
    channels = min(g.ic, kc // (g.kh * g.kw) + 2 * parts if region is None else region.channels)
    line = 64 // itemsize
    image = multiple(channels, lanes) * plane + SLACK
    sizes = {
        df.STRIP_AT: 0 if in_place or reads_pixels else images * image + SLACK,
        df.PANELS_AT: multiple(block, tile.columns) * kc + SLACK,
        df.TILE_AT: max(tile.rows, multiple(block, lanes)) * tile.columns + SLACK,
        df.PLACES_AT: 2 * WORD_NBYTES // itemsize * -(-block // tile.columns) if is_placed else 0,
        df.SUMS_AT: _held(block, tile, -(-units // splits), is_pixels=is_pixels, holds=holds),
    }
    fields = np.zeros(df.FIELDS, np.int64)
    at = 0
    for field, size in sizes.items():
        fields[field] = at + (SLACK if field == df.STRIP_AT else 0)
        at += multiple(size + (SLACK if field == df.STRIP_AT else 0), line)
    tasks = pieces * blocks * splits
    numbers = {
        df.SIZE: itemsize, df.GROUPS: g.groups, df.IC: g.ic, df.OC: g.oc, df.OH: g.oh, df.OW: g.ow,
        df.IH: g.ih, df.IW: g.iw, df.SH: g.sh, df.SW: g.sw, df.PW_LO: g.pw_lo,
        df.K: geometry.ic * geometry.kh * geometry.kw, df.STEPS: len(steps), df.FLAT: int(is_flat),
        df.BLOCKS: blocks, df.BLOCK: block, df.SPLITS: splits,
        df.IS_PIXELS: int(is_pixels), df.IN_PLACE: int(in_place), df.LANES: lanes, df.NR: tile.columns,
        df.MR: tile.rows, df.PITCH: pitch, df.ROW_SLOT: row_slot, df.COLUMN_SLOT: column_slot,
        df.RUN: segment if images > 1 else g.ow + block if is_one_run else g.ow, df.PLANE: plane,
        df.BATCH: g.n, df.IMAGES: images, df.IMAGE: image, df.PANEL_PITCH: image if images > 1 else pitch,
        df.ROW_SLOTS: len(row_slots), df.COLUMN_SLOTS: len(column_slots), df.SCRATCH: at,
        df.ACTIVATION: activation, df.OC_PADDED: oc_padded, df.TILES: units,
        df.PADDED_ROWS: padded_rows, df.PARTS: parts, df.LEAST_PACKING: tile.high_heights[0], df.READS_PIXELS: int(reads_pixels),
        df.HAS_MASKS: int(target.has_masks), df.IS_PLACED: int(is_placed), df.TASKS: tasks, df.IS_REGION: int(region is not None),
        df.ROW: 0 if region is None else region.row, df.COLUMN: 0 if region is None else region.column,
    }  # fmt: skip
    for field, number in numbers.items():
        fields[field] = number
    return DenseLayout(
        fields,
        tiles.astype(np.int64),
        np.array(row_slots + column_slots, np.int64),
        np.array(steps, np.int64),
        taps,
        np.arange(kc, dtype=np.int64) * tile.columns,
        is_pixels,
        in_place or reads_pixels,
        tasks,
        at * itemsize + df.WHERE_WORDS * WORD_NBYTES,
        segments * blocks * fill_cycles(block),
        region,
    )


def _steps(depth: int, kc: int, taps: int, parts: int) -> list[Step]:
    """Return the blocks of k = (c, kh, kw), each with the channels that it reads, in pairs where they are the parts of complex ones.

    Blocks smaller than a channel's taps end where these do, so that the strip is filled once for a channel.
    """
    out: list[Step] = []
    filled = (-1, -1)
    whole = taps if taps > kc else depth
    for start in range(0, depth, whole):
        for k in range(start, start + whole, kc):
            count = min(kc, start + whole - k)
            channels = k // taps // parts, ((k + count - 1) // taps + parts) // parts
            out.append((k, count, 0, count, channels[0], 0 if channels == filled else channels[1] - channels[0]))
            filled = channels
    return out


def _held(block: int, tile: RegisterTile, units: int, *, is_pixels: bool, holds: bool) -> int:
    """Return the elements of results that a task of `units` tiles or panels of channels keeps in scratch memory."""
    if not is_pixels:
        return (units * block + tile.columns) * tile.columns
    return units * tile.rows * block + tile.columns if holds else 0


def pack_weights(layout: DenseLayout, functions: Table, w: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return weights (OC, IC/G, KH, KW) as the kernel reads them; the layout of any rectangle stands for all."""
    source = np.ascontiguousarray(w) if layout.region is None else k_order(w, layout.region.channels)
    lanes = int(layout.fields[df.LANES])
    # The last square of the last tile is stored whole.
    overrun = lanes * (lanes + int(max(layout.fields[df.NR], layout.fields[df.MR])))
    elements = dense.packed_elements(layout.fields) + overrun
    # Zeros cost a pass over the memory; they matter only where a last panel has columns to spare.
    out = np.empty(elements, w.dtype) if layout.is_pixels else np.zeros(elements, w.dtype)
    starts = np.unique(layout.steps[:, 0], return_index=True)[1]
    blocks = np.ascontiguousarray(layout.steps[starts, 1])
    dense.pack_weights(functions, layout.fields, layout.tiles, blocks, source.ctypes.data, out.ctypes.data)
    return out


def pack_bias(layout: DenseLayout, bias: npt.NDArray[Any] | None, dtype: Any) -> npt.NDArray[Any]:
    """Return the bias of all groups, zeros where there is none, each group padded like the weights."""
    g = layout.fields
    width = int(g[df.OC] if layout.is_pixels else g[df.OC_PADDED])
    out = np.zeros((int(g[df.GROUPS]), width), dtype)
    if bias is not None:
        out[:, : int(g[df.OC])] = bias.reshape(int(g[df.GROUPS]), -1)
    return np.concatenate((out.ravel(), np.zeros(SLACK, dtype)))
