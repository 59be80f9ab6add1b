"""How a dense convolution is cut: design, blocks of k, blocks of pixels, register tiles, strips and scratch memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels import dense
from fastconv.kernels.gemm import RegisterTile, register_tile, row_tiles, tile_cost
from fastconv.kernels.pack import SLACK
from fastconv.kernels.target import Target, host

#: Cache of one core that a kernel may count on: three quarters of the first level for one panel of k,
#: under half of the second for the panels of one block of pixels.
PANEL_NBYTES = 24 * 2**10
BLOCK_NBYTES = 192 * 2**10
#: Fewest pixels of a block, where the image has them: each block reads all weights once.
BLOCK_PIXELS = 128
#: Fewest output channels of a task: each range of channels packs the same pixels again.
SPLIT_CHANNELS = 32

#: Cycles to pack one k of a panel of pixels, and of a tile of pixels (one store instead of two).
PANEL_PACK_CYCLES = 3.5
TILE_PACK_CYCLES = 2.5

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
            plane = int(self.fields[dense.PLANE])
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
    heights = row_tiles(channels, tile.heights, tile.vectors)
    panels = whole * sum(tile_cost(h, tile.vectors) for h in heights)
    rest_panel = sum(tile_cost(h, used) for h in heights) if used else 0.0
    return panels + rest_panel + PANEL_PACK_CYCLES * -(-pixels // tile.columns)


@functools.lru_cache(maxsize=1024)
def channels_cost(pixels: int, channels: int, tile: RegisterTile) -> float:
    """Return the model's cycles per step of k of the design with output channels in vectors, packing included."""
    heights = row_tiles(pixels, tile.heights, tile.vectors)
    product = -(-channels // tile.columns) * sum(tile_cost(h, tile.vectors) for h in heights)
    return product + TILE_PACK_CYCLES * len(heights)


def _slots(taps: int, dilation: int, stride: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return [(residue, extra positions)] and, for each tap, (its slot, its shift in positions)."""
    residues = sorted({t * dilation % stride for t in range(taps)})
    shifts = [(residues.index(t * dilation % stride), t * dilation // stride) for t in range(taps)]
    return [(r, max(s for i, s in shifts if residues[i] == r)) for r in residues], shifts


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
    threads: int = 1,
    activation: int = 0,
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
    threads : int
        Decides the number of tasks, nothing else.
    activation : int
        Code of the activation.
    design : bool, optional
        True takes ``pixels``, False ``channels``, None what the model finds faster.
    """
    g = geometry
    target = host() if target is None else target
    tile = register_tile(itemsize, target)
    lanes = target.lanes(itemsize)
    depth = g.ic * g.kh * g.kw
    segment = g.oh * g.ow if is_flat else g.ow
    if is_flat and g.ow > 4 * BLOCK_PIXELS and g.oh > 1:
        is_flat, segment = False, g.ow
    kc = even_blocks(depth, PANEL_NBYTES // (tile.columns * itemsize), 4)
    limit = max(BLOCK_PIXELS, min(4 * BLOCK_PIXELS, BLOCK_NBYTES // (kc * itemsize)))
    if design is None:
        design = pixels_cost(segment, g.oc, tile) <= channels_cost(segment, g.oc, tile) * 1.02
    is_pixels = design and not is_channels_last
    block = even_blocks(segment, limit, tile.columns if is_pixels else 1)
    segments = 1 if is_flat else g.oh
    if is_pixels:
        block = _block_for_threads(block, segment, max(1, g.n) * g.groups * segments, tile.columns, threads)
    blocks = -(-segment // block)
    in_place = reads_rows and can_read_in_place(g, is_flat=is_flat, has_row_gaps=has_row_gaps)
    oc_padded = _multiple(g.oc, tile.columns)
    if is_pixels:
        heights = row_tiles(g.oc, tile.heights, tile.vectors)
        tiles = np.concatenate(([0], np.cumsum(heights)))
        units = len(heights)
    else:
        last = segment - (blocks - 1) * block
        parts = [row_tiles(size, tile.heights, tile.vectors) for size in (min(block, segment), last)]
        tiles = np.concatenate([np.concatenate(([len(part), 0], np.cumsum(part))) for part in parts])
        units = oc_padded // tile.columns
    pieces = g.n * g.groups * segments * blocks
    splits = _splits(pieces, units, g.oc, threads)

    padded_rows = (g.oh - 1) * g.sh + (g.kh - 1) * g.dh + 1
    row_slots, row_shifts = _slots(g.kh, g.dh, g.sh)
    column_slots, column_shifts = _slots(g.kw, g.dw, g.sw)
    height = min(g.oh, (block + g.ow - 2) // g.ow + 1) if is_flat else 1
    width = (g.ow if is_flat else block) + max(extra for _, extra in column_slots)
    positions = height + max(extra for _, extra in row_slots)
    pitch = len(column_slots) * width
    plane = len(row_slots) * positions * pitch + SLACK
    taps = np.array([(rs * positions + r) * pitch + cs * width + c for rs, r in row_shifts for cs, c in column_shifts], np.int64)
    channels = min(g.ic, kc // (g.kh * g.kw) + 2)
    line = 64 // itemsize
    sizes = {
        dense.STRIP_AT: 0 if in_place else _multiple(channels, lanes) * plane + 2 * SLACK,
        dense.PANELS_AT: _multiple(block, tile.columns) * kc + SLACK,
        dense.TILE_AT: max(tile.rows, _multiple(block, lanes)) * tile.columns + SLACK,
        dense.SUMS_AT: 0 if is_pixels else -(-units // splits) * block * tile.columns + lanes * tile.columns,
    }
    fields = np.zeros(dense.FIELDS, np.int64)
    at = 0
    for field, size in sizes.items():
        fields[field] = at + (SLACK if field == dense.STRIP_AT else 0)
        at += _multiple(size + (SLACK if field == dense.STRIP_AT else 0), line)
    numbers = {
        dense.SIZE: itemsize, dense.GROUPS: g.groups, dense.IC: g.ic, dense.OC: g.oc, dense.OH: g.oh, dense.OW: g.ow,
        dense.TAPS: g.kh * g.kw, dense.IH: g.ih, dense.IW: g.iw, dense.SH: g.sh, dense.SW: g.sw, dense.PW_LO: g.pw_lo,
        dense.K: depth, dense.KC: kc, dense.FLAT: int(is_flat), dense.BLOCKS: blocks, dense.BLOCK: block, dense.SPLITS: splits,
        dense.IS_PIXELS: int(is_pixels), dense.IN_PLACE: int(in_place), dense.LANES: lanes, dense.NR: tile.columns,
        dense.MR: tile.rows, dense.PITCH: pitch, dense.ROW_POSITIONS: positions, dense.WIDTH: width, dense.PLANE: plane,
        dense.ROW_SLOTS: len(row_slots), dense.COLUMN_SLOTS: len(column_slots), dense.SCRATCH: at,
        dense.ACTIVATION: activation, dense.OC_PADDED: oc_padded, dense.TILES: units,
        dense.PADDED_ROWS: padded_rows,
    }  # fmt: skip
    for field, number in numbers.items():
        fields[field] = number
    return DenseLayout(
        fields,
        tiles.astype(np.int64),
        np.array(row_slots + column_slots, np.int64),
        taps,
        is_pixels,
        in_place,
        pieces * splits,
        at * itemsize,
    )


def _block_for_threads(block: int, segment: int, segments: int, unit: int, threads: int) -> int:
    """Return a block somewhat smaller than `block` if that gives each thread the same number; panels stay as they are."""
    blocks = -(-segment // block)
    wanted = _multiple(blocks, threads)
    smaller = _multiple(-(-segment // wanted), unit)
    divides = segments * -(-segment // smaller) % threads == 0
    return smaller if divides and 2 * blocks >= threads else block


def _splits(pieces: int, units: int, channels: int, threads: int) -> int:
    """Return into how many ranges of output channels to cut, so that tasks keep all threads busy to the end."""
    most = max(1, min(units, channels // SPLIT_CHANNELS))
    for splits in range(1, most + 1):
        tasks = max(1, pieces) * splits
        if tasks / threads / -(-tasks // threads) >= 0.95:
            return splits
    return most


def pack_weights(layout: DenseLayout, functions: Table, w: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return weights (OC, IC/G, KH, KW) as the kernel reads them."""
    source = np.ascontiguousarray(w)
    lanes = int(layout.fields[dense.LANES])
    # The last square of the last tile is stored whole.
    overrun = lanes * (lanes + int(max(layout.fields[dense.NR], layout.fields[dense.MR])))
    elements = dense.packed_elements(layout.fields) + overrun
    # Zeros cost a pass over the memory; they matter only where a last panel has columns to spare.
    out = np.empty(elements, w.dtype) if layout.is_pixels else np.zeros(elements, w.dtype)
    dense.pack_weights(functions, layout.fields, layout.tiles, source.ctypes.data, out.ctypes.data)
    return out


def pack_bias(layout: DenseLayout, bias: npt.NDArray[Any] | None, dtype: Any) -> npt.NDArray[Any]:
    """Return the bias of all groups, zeros where there is none, each group padded like the weights."""
    g = layout.fields
    width = int(g[dense.OC] if layout.is_pixels else g[dense.OC_PADDED])
    out = np.zeros((int(g[dense.GROUPS]), width), dtype)
    if bias is not None:
        out[:, : int(g[dense.OC])] = bias.reshape(int(g[dense.GROUPS]), -1)
    return np.concatenate((out.ravel(), np.zeros(SLACK, dtype)))
