"""The plan behind the planar rows of the table (depthwise, grouped, few channels): layout, tasks, row tables."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._typing import Array
from fastconv.backends.direct.dense_plan import parts_of, real_dtype, real_weights
from fastconv.kernels.epilogue import activation_code, apply_epilogue
from fastconv.kernels.planar_layout import Columns, RegisterTile, choose_tile, cut_in_place, cut_packed, load_offsets
from fastconv.kernels.planar_pack import SLACK_VECTORS
from fastconv.kernels.planar_run import ALIGNMENT, planar_functions, planar_run, planes_function
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, MIRRORS, PAD_ROW, RESIDUAL, RESULT, SOURCE, PlanarSpec, geometry_words
from fastconv.kernels.planes import PlanesSpec, fitted
from fastconv.kernels.target import Target, host
from fastconv.kernels.threads import pool
from fastconv.locks import new_lock
from fastconv.plans import Plan, address, channels_last_copy
from fastconv.problem import ConvProblem

#: A task takes about this many products, so that the cost of starting it does not show.
TASK_MACS = 400_000
#: A problem is cut into this many tasks at least, as long as each has so many products.
LEAST_TASKS, LEAST_TASK_MACS = 8, 60_000
#: Source rows of a strip that is read once per block of output channels: they stay in a core's first-level cache.
STRIP_NBYTES = 24 * 2**10
#: Of the channels-last pixels that are turned at a time: two cache lines; one takes 5 to 8 % longer.
TURNED_NBYTES = 128
#: Geometries kept by a plan, one per set of strides of source, result and residual.
KEPT_GEOMETRIES = 8


class PlanarLayout:
    """What is decided for a problem before any array is seen; immutable.

    Attributes
    ----------
    tile : RegisterTile
    columns : Columns
        How a row is cut into vectors.
    is_in_place : bool
        Whether the source is read in place; otherwise strips of it are packed.
    spec : PlanarSpec
    small : PlanesSpec or None
        Of the kernel of small planes, which then takes the place of the one of `spec`, unless a tile is asked for.
    strips, chunks : int
        Tasks per image: strips of rows, chunks of output planes.
    packed_groups : int
        Groups that are packed at a time: of a channels-last source as many as fill whole cache lines.
    """

    def __init__(self, problem: ConvProblem, tile: RegisterTile | None = None, target: Target | None = None) -> None:
        p, target = problem, target or host()
        self.problem = p
        self.parts = parts = parts_of(p)
        self.item = p.itemsize // parts
        self.lanes = lanes = target.lanes(self.item)
        self.inputs, outputs = parts * p.ic // p.g, parts * p.oc // p.g
        is_free = tile is None
        if tile is None:
            vectors = -(-p.ow // lanes)
            inner = max(1, vectors - 2) if p.pw_lo + p.pw_hi and (p.pads_with_zeros or p.padding_mode in MIRRORS) else vectors
            tile = choose_tile((p.kh, p.kw), (p.sh, p.sw), (self.inputs, outputs), (p.oh, vectors, inner), target, parts)
        self.tile = tile
        self.turns = (SOURCE * (p.ic > 1) + RESULT * (p.oc > 1)) * p.channels_last
        self.packed_groups = min(p.g, -(-TURNED_NBYTES // (self.inputs * self.item))) if self.turns & SOURCE else 1
        epilogue = BIAS * p.has_bias + RESIDUAL * p.has_residual + ACTIVATION * (p.activation is not None and not p.is_integer)
        self.small = self._small_planes(epilogue, target) if is_free else None
        columns = self._columns_in_place()
        self.is_in_place = columns is not None or self.small is not None
        self.columns: Columns = cut_packed(p.ow, lanes, tile.v) if columns is None else columns
        c = self.columns
        self.spec = PlanarSpec(
            tile.mo, tile.r, c.v, c.rest, p.kh, p.kw, p.sh, p.sw, p.dh, p.dw, int(self.inputs > 1), c.border, *c.before, *c.after,
            c.tail, int(not self.is_in_place), int(tile.reloads), epilogue, parts, self.turns, self._margin,
        )  # fmt: skip
        self.planes, self.blocks = parts * p.oc // tile.mo, outputs // tile.mo
        self.row_span = (p.kh - 1) * p.dh + 1
        self._set_packed_row()
        self._set_tasks()

    def _columns_in_place(self) -> Columns | None:
        p = self.problem
        deinterleaves = p.sw == 2 and p.dw == 1 and self.tile.mo == 1
        self._margin = 0
        if self.parts > 1 or self.turns & SOURCE or (p.sw != 1 and not deinterleaves) or p.kw > 32:
            return None
        offsets = load_offsets(p.kw, p.dw, self.lanes, deinterleaves=deinterleaves)
        cut = cut_in_place(p.ow, p.iw, p.pw_lo, p.sw, offsets, self.lanes, self.tile.v)
        if cut is None or p.pads_with_zeros or cut.border == 0:
            return cut
        # The first and the last whole vector of a row hold what is mirrored beyond its ends.
        if p.padding_mode not in MIRRORS or cut.border == 1 or max(*cut.before, *cut.after) >= self.lanes:
            return None
        self._margin = MIRRORS.index(p.padding_mode)
        return cut

    def _small_planes(self, epilogue: int, target: Target) -> PlanesSpec | None:
        """Return what the kernel of small planes is compiled for, if it computes the problem."""
        p = self.problem
        if self.parts * self.inputs * p.oc != p.g or not p.pads_with_zeros or self.turns:
            return None
        spec = PlanesSpec(p.ih, p.iw, p.oh, p.ow, p.kh, p.kw, p.sh, p.sw, p.dh, p.dw, p.ph_lo, p.pw_lo, 1, 1, epilogue)
        return fitted(spec, self.item, target)

    def _set_packed_row(self) -> None:
        """Find the form of a packed row: bytes of a phase, of a part and of all channels, start of the slack, margins."""
        p, lanes = self.problem, self.lanes
        width = p.pw_lo + p.iw + p.pw_hi
        read = max(p.ow, lanes) + (p.kw - 1) * p.dw // p.sw
        columns = max((-(-max(-(-width // p.sw), read) // lanes) + 1), SLACK_VECTORS) * lanes
        self.phase = columns * self.item
        # Rows a multiple of a page apart would share cache sets.
        self.packed_part = _off_page(p.sw * self.phase)
        self.packed_row = _off_page(self.packed_groups * self.inputs * self.packed_part)
        self.slack = (columns - SLACK_VECTORS * lanes) * self.item
        index = p.col_index()
        margins = [
            (j % p.sw * self.phase + j // p.sw * self.item, PAD_ROW if index[j] < 0 else index[j])
            for j in range(width)
            if not p.pw_lo <= j < p.pw_lo + p.iw
        ]
        self.margins = np.array(margins, np.int64).reshape(-1, 2)

    def _set_tasks(self) -> None:
        """Cut an image into tasks; independent of the number of threads, so that results are too."""
        p, tile = self.problem, self.tile
        macs = self.parts**2 * p.oc * p.oh * p.ow * p.reduction
        row_blocks = -(-p.oh // tile.r)
        wanted = max(1, min(max(LEAST_TASKS, macs * p.mb // TASK_MACS), macs * p.mb // LEAST_TASK_MACS) // max(1, p.mb))
        if self.turns:
            self.chunks = -(-p.g // self.packed_groups)
            per_plane = -(-wanted // self.chunks)
        elif self.blocks == 1:
            per_plane = -(-wanted // self.planes)
            self.chunks = min(self.planes, wanted)
        else:
            row_nbytes = self.packed_row if not self.is_in_place else self.inputs * p.iw * p.itemsize
            rows = max(STRIP_NBYTES // row_nbytes - self.row_span, 2 * self.row_span) // p.sh
            per_plane = max(-(-wanted // p.g), -(-p.oh // max(rows, 1)))
            self.chunks = p.g
        if not self.is_in_place:
            # Neighbouring strips both pack the rows they share: let that be a small part of the packing or, at the cost of
            # four products for a packed number, of the products.
            products = p.oh * self.blocks * tile.mo * p.kh * p.kw
            per_plane = min(per_plane, max(1, p.oh * p.sh // (4 * self.row_span), products // (64 * self.row_span)))
        self.strips = 1 if self.small else max(1, min(per_plane, row_blocks // 2))
        strip_rows = -(-row_blocks // self.strips) * tile.r
        self.strip_rows = (strip_rows - 1) * p.sh + self.row_span
        self.packed_nbytes = 0 if self.is_in_place else self.strip_rows * self.packed_row

    @property
    def description(self) -> str:
        """The decisions in a few words."""
        where = "read in place" if self.is_in_place else "packed strips"
        where += ", turned" if self.turns else ""
        if self.small is not None:
            return "sums of a whole plane in registers, read in place"
        parts = "re and im as channels, " if self.parts > 1 else ""
        return f"{parts}tiles of {self.tile.mo} channels x {self.tile.r} rows x {self.columns.v} vectors, {where}"


def _off_page(nbytes: int) -> int:
    """Return `nbytes`, or a cache line more where it is a multiple of a page."""
    return nbytes if nbytes % 4096 else nbytes + ALIGNMENT


@functools.lru_cache(maxsize=512)
def planar_layout(problem: ConvProblem) -> PlanarLayout:
    """Return the layout with the tile chosen for it, kept for the next weights of the same shape."""
    return PlanarLayout(problem)


class PlanarPlan(Plan):
    """Depthwise, grouped and few-channel convolutions on `fastconv.kernels.planar`."""

    def __init__(
        self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int, tile: RegisterTile | None = None
    ) -> None:
        p = problem
        self.layout = layout = PlanarLayout(p, tile) if tile is not None else planar_layout(p)
        mo, real = layout.tile.mo, real_dtype(p)
        # A copy even where the order stays as it is: the caller may change the weights.
        taps = real_weights(w) if p.is_complex else w
        self._weights = taps.reshape(layout.planes, mo, layout.inputs, p.kh, p.kw).transpose(0, 2, 3, 4, 1).copy(order="C")
        super().__init__(
            backend, p, threads=threads, workspace_nbytes=threads * layout.packed_nbytes, packed_nbytes=self._weights.nbytes,
            description=layout.description,
        )  # fmt: skip
        self._bias = None if bias is None else bias.copy()
        self._activation, low, high = activation_code(p.activation)
        self._limits = np.array([low, high], "float64" if p.is_integer else real)
        # Of a channels-last source, neighbouring values stand for channels.
        length = p.iw + p.pw_lo + p.pw_hi + 4 * layout.lanes + layout.packed_groups * p.ic // p.g
        self._pad_row = np.full(length, p.padding_value, p.dtype)
        self._packed_rows = np.arange(layout.strip_rows, dtype=np.int64) * layout.packed_row
        # Integers wrap to the same bits with and without a sign.
        element, small = real.removeprefix("u"), layout.small
        if small is None:
            self._functions = planar_functions(element, *layout.spec)
        else:
            # A weight that is not finite makes NaN of the zeros beyond the border.
            skips = int(p.is_integer or bool(np.isfinite(w).all()))
            self._functions = planes_function(element, *small._replace(skips=skips)), 0
        self._geometries: dict[Any, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
        self._lock = new_lock()
        #: Addresses of the packed weights and of the bias, 0 if there is none.
        self.weights_address = address(self._weights)
        self.bias_address = 0 if self._bias is None else address(self._bias)
        self._item = p.itemsize
        # The axes whose elements must be neighbours; 0 = none.
        self._source_axis = 1 if layout.turns & SOURCE else 3 if layout.is_in_place else 0
        self._result_axis = 1 if layout.turns & RESULT else 3
        # Bytes from row to row of source and result of small planes, whose rows must be neighbours; 0 = any.
        is_small = layout.small is not None
        self._source_row, self._result_row = is_small * (p.ih > 1) * p.iw * p.itemsize, is_small * (p.oh > 1) * p.ow * p.itemsize
        self._is_one_task = p.mb * layout.chunks * layout.strips <= 1

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; arrays without contiguous rows are copied.

        So are those with gaps between the rows of small planes, and those of a channels-last problem those without contiguous channels.
        """
        x_strides, strides, item = x.strides, out.strides, self._item
        target, row = out, self._result_row
        if (self._source_axis and x_strides[self._source_axis] != item and x.shape[self._source_axis] > 1) or (
            self._source_row and x_strides[2] != self._source_row
        ):
            x = np.ascontiguousarray(x) if self._source_axis == 3 else channels_last_copy(x)
            x_strides = x.strides
        along = self._result_axis
        if (strides[along] != item and out.shape[along] > 1) or (row and strides[2] != row):
            target = np.empty(self.problem.out_shape, self.problem.dtype)
            target = target if along == 3 else channels_last_copy(target)
            strides = target.strides
        at = added = address(target)
        added_strides = strides
        if residual is not None:
            if residual.strides[along] != item or (row and residual.strides[2] != row):
                residual = np.ascontiguousarray(residual) if along == 3 else channels_last_copy(residual)
            added, added_strides = address(residual), residual.strides
        found = self._geometries.get((x_strides, strides, added_strides))
        geometry, _ = self.geometry(x_strides, strides, added_strides) if found is None else found
        ctl = 0 if self._is_one_task else pool.handle(self.threads)
        planar_run(ctl, self.threads, geometry, address(x), self.weights_address, at, self.bias_address, added)
        if target is not out:
            out[...] = target
        if self.problem.is_integer:
            apply_epilogue(out, activation=self.problem.activation)

    def geometry(self, *strides: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (geometry, row table) for the strides of source, result and residual, kept for the next call."""
        found = self._geometries.get(strides)
        if found is None:
            found = self._make_geometry(*strides)
            with self._lock:
                if len(self._geometries) >= KEPT_GEOMETRIES:
                    self._geometries = {}
                self._geometries[strides] = found
        return found

    def _make_geometry(
        self, src: tuple[int, ...], dst: tuple[int, ...], residual: tuple[int, ...]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        p, layout, outputs = self.problem, self.layout, self.layout.tile.mo // self.layout.parts
        c = layout.columns
        index = p.row_index()
        row_table = np.where(index < 0, PAD_ROW, index * src[2])
        group = p.ic // p.g * src[1]
        if layout.is_in_place:
            row_table = np.where(index < 0, PAD_ROW, row_table - p.pw_lo * p.itemsize)
            reduction_step, src_step = src[1], group if layout.blocks == 1 else 0
        else:
            reduction_step, src_step = layout.packed_part, 0
        values = {
            "reduction": layout.inputs, "reduction_step": reduction_step, "src_step": src_step,
            "weights_step": self._weights[0].nbytes, "dst_step": outputs * dst[1], "bias_step": outputs * p.itemsize,
            "residual_step": outputs * residual[1], "dst_row": dst[2], "dst_channel": dst[1], "residual_row": residual[2],
            "residual_channel": residual[1], "pad_row": address(self._pad_row),
            "right": c.right, "first": c.first, "tiles": c.tiles, "last": c.last, "rest": c.rest_column, "phase": layout.phase,
            "activation": self._activation, "limits": address(self._limits),
            "packed_row": layout.packed_row, "width": p.iw, "src_column": src[3], "shift": p.pw_lo,
            "margins": address(layout.margins), "margin_count": len(layout.margins), "slack": layout.slack,
            "kernel": self._functions[0], "pack": self._functions[1],
            "tasks": p.mb * layout.chunks * layout.strips, "strips": layout.strips, "chunks": layout.chunks,
            "all_rows": p.oh, "all_planes": layout.planes, "blocks": layout.blocks,
            "src_image": src[0], "src_group": group, "src_channel": src[1], "dst_image": dst[0], "residual_image": residual[0],
            "row_table": address(row_table), "packed_rows": address(self._packed_rows), "packed_nbytes": layout.packed_nbytes,
            "tile_rows": layout.tile.r, "row_stride": p.sh, "row_span": layout.row_span, "packed_groups": layout.packed_groups,
            "packed_group": layout.inputs * layout.packed_part, "dst_column": dst[3], "residual_column": residual[3],
            "packed_channels": layout.inputs if layout.turns & SOURCE else p.ic // p.g,
        }  # fmt: skip
        return geometry_words(**values), row_table
