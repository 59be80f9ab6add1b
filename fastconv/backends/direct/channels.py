"""The plan of depthwise and grouped layers on channels-last arrays: nothing is transposed, packed or padded."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.direct.dense_plan import parts_of, real_dtype, real_weights
from fastconv.kernels.channels import ChannelsSpec
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.planar_run import channels_function, planar_run
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, PAD_ROW, RESIDUAL, geometry_words
from fastconv.kernels.target import Target, host
from fastconv.kernels.threads import pool
from fastconv.plans import Plan, address, channels_last_copy
from fastconv.problem import ConvProblem

#: More products per output are not written out in one function.
MOST_TAPS = 81
#: A task takes about this many products; a problem is cut into so many tasks at least, as long as each has so many products.
TASK_MACS, LEAST_TASKS, LEAST_TASK_MACS = 400_000, 8, 60_000
#: The weights of a task's channels take at most about this much of the first-level cache.
WEIGHTS_NBYTES = 12 * 2**10
#: Sources whose pixels lie further apart than this many times their channels are copied.
MOST_SPREAD = 4
#: Geometries kept by a plan, one per set of strides of source, result and residual.
KEPT_GEOMETRIES = 8


def computes(problem: ConvProblem) -> bool:
    """Tell whether a problem is for this plan."""
    p, inputs = problem, inputs_of(problem)
    lanes = host().lanes(p.itemsize // parts_of(p))
    return p.channels_last and not p.is_integer and p.ic == p.oc and p.g > 1 and lanes % inputs == 0 and inputs * p.kh * p.kw <= MOST_TAPS


def inputs_of(problem: ConvProblem) -> int:
    """Return how many real numbers of a pixel meet in an output."""
    return parts_of(problem) * problem.ic // problem.g


class ChannelsLayout:
    """What is decided for a problem before any array is seen; immutable.

    Attributes
    ----------
    spec : ChannelsSpec
    first, last, tiles : int
        First and last place of a tile of pixels inside a row, and number of tiles.
    right, border_tiles : int
        First pixel of the right border, and number of tiles of both.
    strips : int
        Tasks per image and chunk of channels.
    """

    def __init__(self, problem: ConvProblem, target: Target | None = None) -> None:
        p, target = problem, target or host()
        self.channels, self.inputs = parts_of(p) * p.ic, inputs_of(p)
        self.lanes = target.lanes(p.itemsize // parts_of(p))
        low = min(-(-p.pw_lo // p.sw), p.ow)
        high = min((p.iw - 1 - (p.kw - 1) * p.dw + p.pw_lo) // p.sw, p.ow - 1)
        # R*P sums, P source vectors and a weight.
        r = min(p.oh, 3 if target.registers >= 32 else 2)
        pixels = min(4 if r > 1 else 6, p.ow)
        inside = high - low + 1 if high - low + 1 >= pixels else 0
        self.first, self.right = (low, high + 1) if inside else (p.ow, p.ow)
        self.last, self.tiles = self.right - pixels, -(-inside // pixels)
        edge = max(1, min(pixels, max(self.first, p.ow - self.right)))
        self.border_tiles = -(-self.first // edge) - (self.right - p.ow) // edge
        epilogue = BIAS * p.has_bias + RESIDUAL * p.has_residual + ACTIVATION * (p.activation is not None)
        tail = self.channels if self.channels < self.lanes else 0
        self.spec = ChannelsSpec(r, pixels, edge, p.kh, p.kw, p.sh, p.sw, p.dh, p.dw, self.inputs, tail, epilogue)
        macs = self.channels * p.oh * p.ow * p.kh * p.kw * self.inputs
        self.wanted = max(1, min(max(LEAST_TASKS, macs * p.mb // TASK_MACS), macs * p.mb // LEAST_TASK_MACS) // max(1, p.mb))
        self.strips = max(1, min(self.wanted, -(-p.oh // r) // 2))


class ChannelsPlan(Plan):
    """Depthwise and grouped convolutions of channels-last arrays on `fastconv.kernels.channels`."""

    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int) -> None:
        p = problem
        self.layout = layout = ChannelsLayout(p)
        lanes, spec, channels, real = layout.lanes, layout.spec, layout.channels, real_dtype(p)
        # Whole blocks of channels, and one that overlaps them where they do not cover all.
        blocks = max(1, channels // lanes)
        self._parts = [(0, blocks)] + ([(channels - lanes, 1)] if channels > lanes and channels % lanes else [])
        taps = np.zeros((p.kh, p.kw, layout.inputs, max(channels, lanes)), real)
        taps[..., :channels] = (real_weights(w) if p.is_complex else w).transpose(2, 3, 1, 0)
        self._weights = [
            np.ascontiguousarray(taps[..., c : c + n * lanes].reshape(*taps.shape[:3], n, lanes).transpose(3, 0, 1, 2, 4))
            for c, n in self._parts
        ]
        super().__init__(
            backend, p, threads=threads, packed_nbytes=sum(part.nbytes for part in self._weights),
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
        key = x.strides, target.strides, added.strides
        geometries, _ = self._geometries.get(key) or self._keep(key)
        ctl = pool.handle(self.threads)
        for (c, _), geometry, weights in zip(self._parts, geometries, self._weights, strict=True):
            shift = c * (item // parts_of(p))
            bias = 0 if self._bias is None else address(self._bias) + shift
            planar_run(
                ctl, self.threads, geometry, address(x) + shift, address(weights), address(target) + shift, bias, address(added) + shift
            )
        if target is not out:
            out[...] = target

    def _channels_last(self, array: Array) -> Array:
        item = self.problem.itemsize
        if array.strides[1] == item and abs(array.strides[3]) <= MOST_SPREAD * max(array.shape[1], self.layout.lanes) * item:
            return array
        return channels_last_copy(array)

    def _keep(self, key: tuple[tuple[int, ...], ...]) -> tuple[Any, ...]:
        made = self._make_geometries(*key)
        with self._lock:
            if len(self._geometries) >= KEPT_GEOMETRIES:
                self._geometries = {}
            self._geometries[key] = made
        return made

    def _make_geometries(self, src: tuple[int, ...], dst: tuple[int, ...], residual: tuple[int, ...]) -> tuple[Any, ...]:
        """Return the geometry of each part, and the arrays whose addresses they hold."""
        p, layout, item = self.problem, self.layout, self.problem.itemsize
        taps = p.kh * p.kw * layout.inputs
        rows, cols = p.row_index(), p.col_index()
        row_table = np.where(rows < 0, PAD_ROW, rows * src[2])
        column_table = np.where(cols < 0, PAD_ROW, cols * src[3])
        # Read at any column of a row, which may run backwards.
        extent = (p.iw - 1) * src[3]
        pad_row = np.full(abs(extent) // item + layout.lanes, p.padding_value, p.dtype)
        step = layout.lanes * item // parts_of(p)
        geometries = []
        for _, blocks in self._parts:
            fitting = -(-blocks * taps * step // WEIGHTS_NBYTES)
            chunks = min(blocks, max(fitting, -(-layout.wanted // layout.strips)))
            values = {
                "src_step": step, "weights_step": taps * step, "dst_step": step, "bias_step": step, "residual_step": step,
                "dst_row": dst[2], "residual_row": residual[2], "dst_column": dst[3], "residual_column": residual[3],
                "pad_row": address(pad_row) + max(0, -extent), "right": layout.right, "first": layout.first, "tiles": layout.tiles,
                "last": layout.last, "border_tiles": layout.border_tiles, "border_last": p.ow - layout.spec.edge,
                "activation": self._activation,
                "limits": address(self._limits), "src_column": src[3], "shift": p.pw_lo, "column_table": address(column_table),
                "kernel": self._kernel, "tasks": p.mb * chunks * layout.strips, "strips": layout.strips, "chunks": chunks,
                "all_rows": p.oh, "all_planes": blocks, "blocks": 1, "src_image": src[0], "src_group": step, "dst_image": dst[0],
                "residual_image": residual[0], "row_table": address(row_table), "tile_rows": layout.spec.r, "row_stride": p.sh,
            }  # fmt: skip
            geometries.append(geometry_words(**values))
        return geometries, (row_table, column_table, pad_row)
