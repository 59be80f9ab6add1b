"""The plan of channels-last layers with few inputs per output: nothing is transposed, packed or padded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.direct.dense_plan import parts_of, real_dtype, real_weights
from fastconv.kernels.channels import ChannelsSpec, channels_words, choose_tile, tile_cycles
from fastconv.kernels.channels_run import channels_function, channels_run
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, PAD_ROW, RESIDUAL
from fastconv.kernels.simd import LINE_NBYTES
from fastconv.kernels.target import Target, host
from fastconv.kernels.threads import pool
from fastconv.locks import new_lock
from fastconv.plans import Plan, address, channels_last_copy
from fastconv.problem import ConvProblem
from fastconv.scratch import aligned_empty, aligned_part

#: Products per output and row of the kernel that are written out in one function; larger kernels than so many taps are turned: the
#: rows of a 31x31 kernel, in a loop, take 1.1 times as long here.
MOST_ROW_TAPS, MOST_TAPS = 49, 81
#: Most inputs of a layer of one group.
MOST_INPUTS = 16
#: A task takes about this many products; a problem is cut into so many tasks at least, as long as each has so many products.
TASK_MACS, LEAST_TASKS, LEAST_TASK_MACS = 400_000, 16, 100_000
#: Tasks that share rows have at least so many blocks of channels.
LEAST_CHUNK = 4
#: What a source vector that crosses cache lines takes more than one that does not. A 3x3 layer of 144 channels in the second-level
#: cache takes 7.5 cycles a vector instead of 6.0, of 36 loads for 16.
CROSSING_CYCLES = 0.67
#: Sources whose pixels lie further apart than this many times their channels are copied.
MOST_SPREAD = 4
#: Geometries kept by a plan, one per set of strides of source, result and residual and place of the source in a cache line.
KEPT_GEOMETRIES = 8


def computes(problem: ConvProblem) -> bool:
    """Tell whether a problem is for this plan."""
    p = problem
    if not p.channels_last or p.is_integer:
        return False
    inputs, outputs = _per_group(p)
    lanes = host().lanes(p.itemsize // parts_of(p))
    if p.kw * inputs > MOST_ROW_TAPS or p.kh * p.kw > MOST_TAPS:
        return False
    if p.g == 1:
        return parts_of(p) == 1 and inputs <= MOST_INPUTS and outputs >= lanes
    return outputs == lanes or outputs % inputs == 0 == lanes % outputs


def _per_group(problem: ConvProblem) -> tuple[int, int]:
    """Return the real inputs and outputs of a group."""
    p, parts = problem, parts_of(problem)
    return parts * p.ic // p.g, parts * p.oc // p.g


class ChannelsLayout:
    """What is decided for a problem before any array is seen; immutable.

    Attributes
    ----------
    spec : ChannelsSpec
    starts : list of int
        First output channel of each block of lanes.
    tiles, inside : int, (int, int)
        Tiles in a row; first and last pixel at which one reads inside the row.
    tile_cycles : float
        Of a tile and a block of channels.
    chunks, strips : int
        Tasks per image: chunks of blocks, strips of rows.
    """

    def __init__(self, problem: ConvProblem, target: Target | None = None) -> None:
        p, target = problem, target or host()
        inputs, outputs = _per_group(p)
        self.channels, self.item = outputs * p.g, p.itemsize // parts_of(p)
        self.lanes = lanes = target.lanes(self.item)
        r, pixels = choose_tile((p.kh, p.kw), (p.sh, p.sw), (p.oh, p.ow), inputs, target)
        low = -(-p.pw_lo // p.sw)
        high = (p.iw - 1 - (p.kw - 1) * p.dw + p.pw_lo) // p.sw - pixels + 1
        self.inside = low, high
        self.tiles = -(-p.ow // pixels)
        epilogue = BIAS * p.has_bias + RESIDUAL * p.has_residual + ACTIVATION * (p.activation is not None)
        tail = self.channels if self.channels < lanes else 0
        self.spec = ChannelsSpec(
            r, pixels, p.kh, p.kw, p.sh, p.sw, p.dh, p.dw, inputs, max(outputs, lanes) if p.g == 1 else outputs, tail, epilogue
        )
        self.starts = self.block_starts(0)
        self.tile_cycles = tile_cycles((r, pixels), (p.kh, p.kw), (p.sh, p.sw), inputs)
        macs = self.channels * p.oh * p.ow * p.kh * p.kw * inputs
        wanted = max(1, min(max(LEAST_TASKS, macs * p.mb // TASK_MACS), macs * p.mb // LEAST_TASK_MACS) // max(1, p.mb))
        self.strips = max(1, min(wanted, p.oh // r))
        # Pixels are read whole where there are rows enough.
        self.chunks = max(1, min(len(self.starts) // LEAST_CHUNK, min(wanted, LEAST_TASKS) // self.strips))

    def block_starts(self, lead: int) -> list[int]:
        """Return the first output channel of each block; those behind the first start `lead` channels before whole steps."""
        blocks, last = -(-(self.channels + lead) // self.lanes), max(0, self.channels - self.lanes)
        return [max(0, min(b * self.lanes - lead, last)) for b in range(blocks)]

    def lead(self, start: int, steps: tuple[int, ...]) -> int:
        """Return the lead with which fewest vectors of a source at address `start` cross cache lines; 0 where more blocks do not pay."""
        spec, vector = self.spec, self.lanes * self.item
        unit = math.gcd(vector, self.channels * self.item, *steps)
        lead = start % unit // self.item
        if not lead or spec.inputs != spec.outputs or lead % spec.outputs:
            return 0
        loads = ((spec.r - 1) * spec.sh + spec.kh) * ((spec.p - 1) * spec.sw + spec.kw)
        led = len(self.block_starts(lead)) * (self.tile_cycles + CROSSING_CYCLES * loads * (1 - unit / vector))
        return lead if led < len(self.starts) * (self.tile_cycles + CROSSING_CYCLES * loads) else 0


class ChannelsPlan(Plan):
    """Convolutions of channels-last arrays with few inputs per output on `fastconv.kernels.channels`."""

    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int) -> None:
        p = problem
        self.layout = layout = ChannelsLayout(p)
        lanes, spec, real = layout.lanes, layout.spec, real_dtype(p)
        self._taps = np.zeros((p.kh, p.kw, spec.inputs, max(layout.channels, lanes)), real)
        self._taps[..., : layout.channels] = (real_weights(w) if p.is_complex else w).transpose(2, 3, 1, 0)
        super().__init__(
            backend, p, threads=threads, packed_nbytes=2 * self._taps.nbytes,
            description=f"channels in lanes, tiles of {spec.r} rows x {spec.p} pixels, read in place",
        )  # fmt: skip
        self._bias = None if bias is None else bias.copy()
        self._bias_address = 0 if self._bias is None else address(self._bias)
        self._item, self._has_single = p.itemsize, p.ic == 1
        self._farthest = MOST_SPREAD * max(p.ic, p.oc, lanes) * p.itemsize
        self._activation, low, high = activation_code(p.activation)
        self._limits = np.array([low, high], real)
        self._kernel = channels_function(real, *spec)
        #: The packed weights by lead.
        self._blocks: dict[int, Array] = {}
        self._geometries: dict[Any, tuple[Any, ...]] = {}
        self._lock = new_lock()

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; sources, residuals and results whose channels are not neighbours are copied."""
        if not self._is_fit(x.strides, is_single=self._has_single):
            x = channels_last_copy(x)
        target = out if self._is_fit(out.strides) else channels_last_copy(out)
        added = target
        if residual is not None:
            added = residual if self._is_fit(residual.strides) else channels_last_copy(residual)
        source, result = address(x), address(target)
        key = x.strides, target.strides, added.strides, source % LINE_NBYTES
        geometry, weights, _ = self._geometries.get(key) or self._keep(key)
        channels_run(pool.handle(self.threads), self.threads, geometry, source, weights, result, self._bias_address, address(added))
        if target is not out:
            out[...] = target

    def _is_fit(self, strides: tuple[int, ...], *, is_single: bool = False) -> bool:
        """Tell whether channels are neighbours, or there is a single one, and pixels not far apart."""
        return (is_single or strides[1] == self._item) and -self._farthest <= strides[3] <= self._farthest

    def _keep(self, key: Any) -> tuple[Any, ...]:
        made = self._make_geometry(*key)
        with self._lock:
            if len(self._geometries) >= KEPT_GEOMETRIES:
                self._geometries = {}
            self._geometries[key] = made
        return made

    def _packed(self, lead: int) -> Array:
        """Return the weights, block by block from a cache line on; kept, for geometries differ in more than the lead."""
        kept = self._blocks.get(lead)
        if kept is not None:
            return kept
        lanes, starts = self.layout.lanes, self.layout.block_starts(lead)
        nbytes = len(starts) * self._taps[..., :lanes].nbytes
        buffer, _ = aligned_empty(nbytes)
        blocks = aligned_part(buffer, nbytes, self._taps.dtype).reshape(-1, *self._taps.shape[:3], lanes)
        for block, start in zip(blocks, starts, strict=True):
            block[...] = self._taps[..., start : start + lanes]
        return self._blocks.setdefault(lead, blocks)

    def _make_geometry(self, src: tuple[int, ...], dst: tuple[int, ...], residual: tuple[int, ...], start: int) -> tuple[Any, ...]:
        """Return the geometry of a source `start` bytes behind a cache line, the weights' address, and the arrays that these point at."""
        p, layout, spec, item = self.problem, self.layout, self.layout.spec, self.problem.itemsize
        lead = layout.lead(start, src[2:] + src[:1])
        rows, cols = p.row_index(), p.col_index()
        row_table = np.where(rows < 0, PAD_ROW, rows * src[2])
        column_table = np.where(cols < 0, PAD_ROW, cols * src[3])
        # Read at any column of a row, which may run backwards, and at any channel.
        extent = (p.iw - 1) * src[3]
        pad_row = np.full(abs(extent) // item + p.ic + layout.lanes, p.padding_value, p.dtype)
        step, last = layout.lanes * layout.item, layout.starts[-1] * layout.item
        # All lanes of one group: the same inputs for each block of one, the next inputs for each block of several.
        per_output = 0 if p.g == 1 else spec.inputs / spec.outputs
        geometry = channels_words(
            src_step=int(step * per_output), weights_step=step * p.kh * p.kw * spec.inputs, dst_step=step,
            lead=lead * layout.item,
            src_last=int(last * per_output), dst_last=last,
            src_column=src[3], dst_row=dst[2], dst_column=dst[3], residual_row=residual[2], residual_column=residual[3],
            pad_row=address(pad_row) + max(0, -extent), shift=p.pw_lo, column_table=address(column_table), tiles=layout.tiles,
            last=p.ow - spec.p, inside_first=layout.inside[0], inside_last=layout.inside[1], activation=self._activation,
            limits=address(self._limits), kernel=self._kernel, tasks=p.mb * layout.chunks * layout.strips, strips=layout.strips,
            chunks=layout.chunks, all_rows=p.oh, all_blocks=len(layout.block_starts(lead)), src_image=src[0], dst_image=dst[0],
            residual_image=residual[0], row_table=address(row_table), tile_rows=spec.r, row_stride=p.sh,
        )  # fmt: skip
        weights = self._packed(lead)
        return geometry, address(weights), (weights, row_table, column_table, pad_row)
