"""The plan of channels-last layers with few inputs per output: nothing is transposed, packed or padded."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.direct.dense_plan import parts_of, real_dtype, real_weights
from fastconv.kernels.channels import ChannelsSpec, channels_words, choose_tile
from fastconv.kernels.channels_run import channels_function, channels_run
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, PAD_ROW, RESIDUAL
from fastconv.kernels.simd import LINE_NBYTES
from fastconv.kernels.target import Target, host
from fastconv.kernels.threads import pool
from fastconv.plans import Plan, address, channels_last_copy
from fastconv.problem import ConvProblem

#: Products per output and row of the kernel that are written out in one function; larger kernels than so many taps are turned: the
#: rows of a 31x31 kernel, in a loop, take 1.1 times as long here.
MOST_ROW_TAPS, MOST_TAPS = 49, 81
#: Most inputs of a layer of one group.
MOST_INPUTS = 4
#: A task takes about this many products; a problem is cut into so many tasks at least, as long as each has so many products.
TASK_MACS, LEAST_TASKS, LEAST_TASK_MACS = 400_000, 16, 100_000
#: Tasks that share rows have at least so many blocks of channels.
LEAST_CHUNK = 4
#: Reading whole cache lines takes a block more; pixels of fewer blocks are read as they lie. A 3x3 layer reads 1.2 to 1.3 times
#: as fast where vectors do not cross lines: ``python bench/direct_layers.py --nhwc --alone --layers dw``.
LEAST_LED_BLOCKS = 6
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
        """Return the lead with which blocks of a source at address `start` lie in cache lines; 0 where one more block does not pay."""
        vector, spec = self.lanes * self.item, self.spec
        is_whole = spec.inputs == spec.outputs < self.lanes and len(self.starts) >= LEAST_LED_BLOCKS
        if not is_whole or any(step % vector for step in (self.channels * self.item, *steps)):
            return 0
        lead = start % vector // self.item
        return 0 if lead % spec.outputs else lead


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
        self._activation, low, high = activation_code(p.activation)
        self._limits = np.array([low, high], real)
        self._kernel = channels_function(real, *spec)
        self._geometries: dict[Any, tuple[Any, ...]] = {}
        self._lock = threading.Lock()

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; sources, residuals and results whose channels are not neighbours are copied."""
        p, item = self.problem, self.problem.itemsize
        x = self._channels_last(x)
        residual = None if residual is None else self._channels_last(residual)
        target = out if out.strides[1] == item else self._channels_last(np.empty(p.out_shape, p.dtype))
        added = target if residual is None else residual
        key = x.strides, target.strides, added.strides, self.layout.lead(address(x), x.strides[2:] + x.strides[:1])
        geometry, weights, _ = self._geometries.get(key) or self._keep(key)
        channels_run(
            pool.handle(self.threads), self.threads, geometry, address(x), weights, address(target),
            0 if self._bias is None else address(self._bias), address(added),
        )  # fmt: skip
        if target is not out:
            out[...] = target

    def _channels_last(self, array: Array) -> Array:
        item = self.problem.itemsize
        farthest = MOST_SPREAD * max(array.shape[1], self.layout.lanes) * item
        is_fit = (array.strides[1] == item or array.shape[1] == 1) and abs(array.strides[3]) <= farthest
        return array if is_fit else channels_last_copy(array)

    def _keep(self, key: Any) -> tuple[Any, ...]:
        made = self._make_geometry(*key)
        with self._lock:
            if len(self._geometries) >= KEPT_GEOMETRIES:
                self._geometries = {}
            self._geometries[key] = made
        return made

    def _packed(self, lead: int) -> tuple[int, Array]:
        """Return the address of the weights, block by block from a cache line on, and the array that holds them."""
        lanes, starts = self.layout.lanes, self.layout.block_starts(lead)
        raw = np.empty(len(starts) * self._taps[..., :lanes].nbytes + LINE_NBYTES, np.uint8)
        begin = -address(raw) % LINE_NBYTES
        blocks = raw[begin : begin + raw.size - LINE_NBYTES].view(self._taps.dtype).reshape(-1, *self._taps.shape[:3], lanes)
        for block, start in zip(blocks, starts, strict=True):
            block[...] = self._taps[..., start : start + lanes]
        return address(blocks), blocks

    def _make_geometry(self, src: tuple[int, ...], dst: tuple[int, ...], residual: tuple[int, ...], lead: int) -> tuple[Any, ...]:
        """Return the geometry, the address of the weights, and the arrays whose addresses these hold."""
        p, layout, spec, item = self.problem, self.layout, self.layout.spec, self.problem.itemsize
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
        at, weights = self._packed(lead)
        return geometry, at, (weights, row_table, column_table, pad_row)
