"""Which tiles: lengths, placement of the lanes and items at once, by a model of cycles and bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastconv.backends.fft.geometry import AxisTiles, Index, Wrap, axis_tiles, worth_looking_at
from fastconv.kernels import fft_lengths
from fastconv.kernels.borders import source_index
from fastconv.kernels.fft_fields import CHANNELS, COLUMNS, DESCRIPTIONS_NBYTES, TILES
from fastconv.kernels.fft_product import MAX_ROWS
from fastconv.kernels.target import host
from fastconv.machine import usable_cores
from fastconv.problem import ConvProblem

# The model, in cycles per element (a complex number of all lanes); a cycle is two FMAs at the machine's measured peak.
# Least squares over 460 measured tilings of 14 layers on Zen 5, vectors of 16 and of 8 lanes: predicted by measured times are
# 0.8 to 1.3 at the median of a layer. The column "model" of bench/fft_layers.py shows it for the tiling that is chosen.
#: A radix-4 stage.
STAGE_CYCLES = 3.0
#: Bringing a slot in or out: copy, transposition, store.
ROW_CYCLES = 2.0
#: A call for one row of a lane (a third of it where one call does a whole slot), for a column or row of a plane.
CALL_CYCLES = 45.0
#: A column of a tile: calls of its transform and for taking it apart.
COLUMN_CYCLES = 45.0
#: A lane of two slots: its place, its borders.
PAIR_CYCLES = 150.0
#: Taking two signals apart or putting them together, with one write or read of a spectrum outside the first caches.
SPECTRUM_CYCLES = 14.0
#: A complex multiply-accumulate: four FMAs, two in a cycle, and what the loop loses.
PRODUCT_CYCLES = 2.4
#: Three parallel regions of a block of items: threads wait for each other.
PASS_CYCLES = 20_000.0
#: Bytes of the weights' spectra that arrive in a cycle from the last-level cache and from memory.
CACHE_BYTES_PER_CYCLE = 12.0
MEMORY_BYTES_PER_CYCLE = 9.0
#: Assumed last-level cache.
LAST_LEVEL_NBYTES = 16 * 2**20
#: Assumed share of the second-level cache for a tile; a larger one pays for its trips.
TILE_NBYTES = 800 * 2**10
LARGE_TILE_FACTOR = 1.6
#: Pages and cache lines, for the distance of the threads' scratch memory.
PAGE_NBYTES, LINE_NBYTES = 4096, 64
#: Spectra of source and result that are in work at once where the items go in blocks: with 13 MB of them, 15x15 over 16 -> 16
#: channels of 256x256 takes a third longer (2.4 instead of 1.7 ms), as what one pass writes is gone when the next one reads it.
BLOCK_NBYTES = 4 * 2**20
#: Largest spectra of all items that are in work at once.
WHOLE_NBYTES = 24 * 2**20


@dataclass(frozen=True)
class AxisPhases:
    """One axis with stride and dilation resolved into dense problems.

    With common = gcd(stride, dilation), s = stride/common and d = dilation/common: outputs i*d + a of phase a form
    a problem of stride s on every d-th position, and that is a dense problem over s times as many channels, tap
    r*s + b going to channel phase b.

    Attributes
    ----------
    outputs : int
        Outputs of the whole axis.
    out_phases, in_phases : int
        How many a (for dilation) and b (for stride) there are.
    taps : int
        Length of the dense kernels.
    index : ndarray of shape (out_phases, in_phases, dense outputs + taps - 1), int64
        Source position of each position of the dense problem, -1 = padding.
    step : int
        Distance of neighbouring source positions.
    """

    outputs: int
    out_phases: int
    in_phases: int
    taps: int
    index: Index
    step: int

    @property
    def dense_outputs(self) -> int:
        """Outputs of the largest dense problem."""
        return -(-self.outputs // self.out_phases)


def axis_phases(n: int, k: int, stride: int, dilation: int, lo: int, hi: int, mode: str, outputs: int) -> AxisPhases:
    """Return the dense problems of an axis; arguments as in `ConvProblem`."""
    source = source_index(n, lo, hi, mode)
    common = math.gcd(stride, dilation) if k > 1 else stride
    s, d = stride // common, (dilation // common if k > 1 else 1)
    out_phases, in_phases = min(d, outputs), min(s, k)
    taps = -(-k // s)
    positions = -(-outputs // out_phases) + taps - 1
    a, b, u = np.ogrid[:out_phases, :in_phases, :positions]
    at = common * (d * (u * s + b) + a * s)
    index = np.where(at < len(source), source[np.minimum(at, len(source) - 1)], -1)
    return AxisPhases(outputs, out_phases, in_phases, taps, index, common * d * s)


@functools.lru_cache(maxsize=256)
def phases_of(p: ConvProblem) -> tuple[AxisPhases, AxisPhases]:
    """Return the dense problems of rows and columns."""
    return (
        axis_phases(p.ih, p.kh, p.sh, p.dh, p.ph_lo, p.ph_hi, p.padding_mode, p.oh),
        axis_phases(p.iw, p.kw, p.sw, p.dw, p.pw_lo, p.pw_hi, p.padding_mode, p.ow),
    )


def phase_tiles(axis: AxisPhases, length: int, wrap: Wrap = Wrap.SAME) -> AxisTiles | None:
    """Return the tiles of `length` that do for all phases of an axis, or None."""
    tiles = [axis_tiles(row, axis.dense_outputs, axis.taps, length, wrap) for row in axis.index.reshape(-1, axis.index.shape[2])]
    fitting = [t for t in tiles if t is not None]
    return max(fitting, key=lambda t: t.count) if len(fitting) == len(tiles) else None


def tilings_of(axis: AxisPhases, multiple: int = 1, parts: int = 1, wrap: Wrap = Wrap.SAME) -> list[AxisTiles]:
    """Return the tilings worth looking at, the price of a tile being that of its transforms; see `worth_looking_at`.

    Tiles are `parts` times as long as their transforms, and those multiples of `multiple`.
    """
    # One tile for all is no longer than what it has to hold, up to a length that the stages can make.
    most = min(fft_lengths.MAX_LENGTH, 1.3 * axis.index.shape[2] + 2 * multiple * parts)
    lengths = [n for n in fft_lengths.lengths() if n % multiple == 0 and axis.taps <= n * parts <= most]
    tilings = ((phase_tiles(axis, n * parts, wrap), n * fft_lengths.stage_cost(n)) for n in lengths)
    return worth_looking_at((tiles, cost) for tiles, cost in tilings if tiles is not None)


@functools.lru_cache(maxsize=256)
def largest_points(p: ConvProblem) -> int:
    """Return the points of the largest tile that any plan for `p` may use."""
    points = 1
    for axis in phases_of(p):
        points *= max((t.length for t in tilings_of(axis)), default=fft_lengths.MAX_LENGTH)
    return points


@dataclass(frozen=True)
class Tiling:
    """A choice for one problem.

    Attributes
    ----------
    rows, cols : AxisTiles
        Tiles of the dense problems.
    place : int
        `CHANNELS`, `TILES` or, for single planes, `COLUMNS` in the lanes.
    items, items_at_once : int
        Tiles over images and phases; how many are in work at a time.
    cycles : float
        Modelled cycles of a call on one core.
    spectra_nbytes : int
        Size of the weights' spectra.
    shared_nbytes, thread_nbytes : int
        Workspace of a call: spectra of source and result, and for each thread.
    height : int
        Rows of the transform of a tile.
    parts : int
        Into how many parts a tile is cut for the threads.
    """

    rows: AxisTiles
    cols: AxisTiles
    place: int
    items: int
    items_at_once: int
    cycles: float
    spectra_nbytes: int
    shared_nbytes: int
    thread_nbytes: int
    height: int
    parts: int = 1

    @property
    def halves(self) -> int:
        """Tell how many halves of a tile share a transform: 2 for single planes."""
        return 2 if self.place == COLUMNS else 1

    @property
    def width(self) -> int:
        """Columns of the transform of a tile."""
        return self.rows.length * self.cols.length // (self.halves * self.height)

    @property
    def is_folded(self) -> bool:
        """Tell whether the transform of a line goes as that of rows."""
        return self.width != self.cols.length

    def __str__(self) -> str:
        rows = self.halves * self.height
        shape = f"{self.cols.length} points, as {rows}x{self.width}" if self.is_folded else f"{rows}x{self.width} points"
        what = {CHANNELS: "channels", TILES: "tiles", COLUMNS: "columns"}[self.place]
        return f"{self.items} tile{'s' * (self.items != 1)} of {shape}, {what} in the vectors, {self.spectra_nbytes} bytes of spectra"


@dataclass(frozen=True)
class Channels:
    """Channel counts of the dense problems: those of the problem times the stride phases."""

    groups: int
    ic_per_group: int
    oc_per_group: int
    is_depthwise: bool

    @property
    def ic(self) -> int:
        """All input channels."""
        return self.groups * self.ic_per_group

    @property
    def oc(self) -> int:
        """All output channels."""
        return self.groups * self.oc_per_group

    def slots(self, place: int, lanes: int) -> tuple[int, int, int]:
        """Return (source slots, result slots, slots of the weights) for one item or vector of items."""
        if place == TILES:
            weights = self.oc * (1 if self.is_depthwise else -(-self.ic_per_group // lanes))
            return self.ic, (self.ic if self.is_depthwise else self.oc), weights
        if self.is_depthwise:
            blocks = -(-self.ic // lanes)
            return blocks, blocks, blocks * self.oc_per_group
        ic_blocks, oc_blocks = -(-self.ic_per_group // lanes), -(-self.oc_per_group // lanes)
        return self.groups * ic_blocks, self.groups * oc_blocks, self.groups * oc_blocks * self.ic_per_group


def channels_of(p: ConvProblem) -> Channels:
    """Return the channels of the dense problems."""
    rows, cols = phases_of(p)
    icg = p.ic // p.g * rows.in_phases * cols.in_phases
    return Channels(p.g, icg, p.oc // p.g, is_depthwise=icg == 1)


def element_nbytes() -> int:
    """Return the bytes of an element: two vectors."""
    return 2 * host().vector_nbytes


def row_nbytes(columns: int) -> int:
    """Return the distance of rows of Z: an odd number of elements, so that columns spread over the cache's sets."""
    return (columns | 1) * element_nbytes()


def spectrum_step(slots: int) -> int:
    """Return the bytes from one frequency to the next."""
    return slots * element_nbytes()


def frequencies_kept(th: int, tw: int) -> int:
    """Return how many frequencies of a real tile are kept."""
    return th * (tw // 2 + 1)


def thread_nbytes(th: int, tw: int, lanes: int) -> int:
    """Return the bytes of the descriptions, Z, two columns, and the rows of the lanes.

    Whole pages and a line, so that threads fall on different sets.
    """
    longest = max(th, tw) + lanes
    rows = 2 * lanes * (-(-tw // lanes) * lanes) * (element_nbytes() // (2 * lanes))
    nbytes = DESCRIPTIONS_NBYTES + th * row_nbytes(tw) + (lanes + 2 * longest) * element_nbytes() + rows
    return -(-nbytes // PAGE_NBYTES) * PAGE_NBYTES + LINE_NBYTES


def candidates(p: ConvProblem, lanes: int, limit: int, spectra_limit: int, threads: int) -> Iterator[Tiling]:
    """Yield the tilings that fit into `limit` bytes of workspace and `spectra_limit` of packed weights."""
    axes = phases_of(p)
    channels = channels_of(p)
    for rows in tilings_of(axes[0]):
        for cols in tilings_of(axes[1]):
            for place in (CHANNELS, TILES):
                tiling = _fit(p, channels, axes, rows, cols, place, lanes, limit, spectra_limit, threads)
                if tiling is not None:
                    yield tiling


def _fit(
    p: ConvProblem, channels: Channels, axes: tuple[AxisPhases, AxisPhases], rows: AxisTiles, cols: AxisTiles, place: int, lanes: int,
    limit: int, spectra_limit: int, threads: int,
) -> Tiling | None:  # fmt: skip
    th, tw = rows.length, cols.length
    items = max(p.mb, 1) * axes[0].out_phases * axes[1].out_phases * rows.count * cols.count
    in_slots, out_slots, weight_slots = channels.slots(place, lanes)
    points = frequencies_kept(th, tw)
    spectra = points * spectrum_step(weight_slots)
    if spectra > spectra_limit:
        return None
    per_thread = thread_nbytes(th, tw, lanes)
    room = limit - threads * per_thread
    if room < 0:
        return None
    unit = 1 if place == CHANNELS else lanes
    vectors = -(-items // unit)
    work = _transforms(channels, axes, rows, cols, place, lanes, items, vectors, spectra, per_thread)
    if channels.is_depthwise:
        return Tiling(rows, cols, place, items, items, work, spectra, 0, per_thread, th)
    unit_nbytes = points * (spectrum_step(in_slots) + spectrum_step(out_slots)) + 2 * element_nbytes()
    best: Tiling | None = None
    for at_once in _blocks(vectors, in_slots, out_slots, unit_nbytes, room):
        shared = at_once * unit_nbytes
        # The more is in work, the less of it is still in the last-level cache; spectra of weights are read during the products.
        from_memory = min(1.0, ((shared + spectra) / LAST_LEVEL_NBYTES) ** 6)
        passes = -(-vectors // at_once)
        reading = passes * spectra * (from_memory / MEMORY_BYTES_PER_CYCLE + (1 - from_memory) / CACHE_BYTES_PER_CYCLE)
        products = points * _products(channels, place, items, vectors, out_slots, at_once)
        cycles = work + passes * PASS_CYCLES + max(products, reading) + 2 * vectors * unit_nbytes * from_memory / MEMORY_BYTES_PER_CYCLE
        if best is None or cycles < best.cycles:
            best = Tiling(rows, cols, place, items, min(at_once * unit, items), cycles, spectra, shared, per_thread, th)
    return best


def _blocks(units: int, in_slots: int, out_slots: int, unit_nbytes: int, room: int) -> Iterator[int]:
    """Yield numbers of units to have in work at once: all, and as many as stay in the caches.

    These are pairs of slots for all cores: no core waits, and slots share their transforms as they do without blocks.
    """
    most = room // unit_nbytes
    if units <= min(most, WHOLE_NBYTES // unit_nbytes):
        yield units
    pairs = 2 * max(2, usable_cores())
    multiple = math.lcm(*(pairs // math.gcd(pairs, slots) for slots in (in_slots, out_slots)))
    some = max(multiple, min(BLOCK_NBYTES // unit_nbytes, most) // multiple * multiple)
    # Passes of equal work, as far as the multiple allows.
    some = -(-units // (-(-units // some) * multiple)) * multiple
    if 0 < min(some, most) < units:
        yield min(some, most)


def _transforms(
    channels: Channels, axes: tuple[AxisPhases, AxisPhases], rows: AxisTiles, cols: AxisTiles, place: int, lanes: int, items: int,
    vectors: int, spectra: int, tile: int,
) -> float:  # fmt: skip
    """Return the cycles of a call, but for what moves spectra between the passes of dense layers."""
    th, tw = rows.length, cols.length
    in_slots, out_slots, _ = channels.slots(place, lanes)
    large = LARGE_TILE_FACTOR if tile > TILE_NBYTES else 1.0
    used = min(1.0, axes[0].index.shape[2] / th)
    wanted = min(1.0, rows.step / th)
    column = tw * (th * fft_lengths.stage_cost(th) * STAGE_CYCLES + COLUMN_CYCLES)
    row = th * tw * (fft_lengths.stage_cost(tw) * STAGE_CYCLES + 2 * ROW_CYCLES)
    column *= large
    row *= large
    each_row = 2 * lanes * (CALL_CYCLES if place == TILES else CALL_CYCLES / 3)
    column += PAIR_CYCLES * lanes
    pairs_in, pairs_out = -(-vectors * in_slots // 2), -(-vectors * out_slots // 2)
    kept = frequencies_kept(th, tw)
    if channels.is_depthwise:
        pairs = pairs_in * channels.oc_per_group
        work: float = pairs * (2 * column + (row + each_row * th) * (used + wanted) + th * tw * SPECTRUM_CYCLES)
        return work + spectra * (vectors if place == TILES else items) / CACHE_BYTES_PER_CYCLE
    cycles: float = pairs_in * (column + (row + each_row * th) * used) + pairs_out * (column + (row + each_row * th) * wanted)
    return cycles + 2 * kept * SPECTRUM_CYCLES * (pairs_in + pairs_out)


def _products(channels: Channels, place: int, items: int, vectors: int, out_slots: int, at_once: int) -> float:
    """Return the cycles of the products at a frequency."""
    if place == CHANNELS:
        macs, rows = items * out_slots * channels.ic_per_group, at_once
    else:
        macs, rows = vectors * channels.oc * channels.ic_per_group, channels.oc_per_group
    # Low register tiles wait for loads: two vectors and two broadcasts for each four FMAs of a row.
    height = min(rows, MAX_ROWS)
    return macs * PRODUCT_CYCLES * max(1.0, (1.0 + 2.0 / height) * 0.8)


@functools.lru_cache(maxsize=512)
def best_tiling(p: ConvProblem, limit: int, spectra_limit: int, threads: int) -> Tiling | None:
    """Return the tiling of fewest modelled cycles, or None if none fits."""
    lanes = host().lanes(np.dtype(p.dtype).itemsize)
    return min(candidates(p, lanes, limit, spectra_limit, threads), key=lambda t: t.cycles, default=None)
