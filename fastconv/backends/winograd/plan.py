"""The plan of a Winograd convolution: transformed weights, one record of geometry, addresses."""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.backends.winograd.layout import Layout
from fastconv.backends.winograd.variants import Variant
from fastconv.errors import UnsupportedProblem
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.threads import pool
from fastconv.kernels.winograd import GEOMETRY, convolve
from fastconv.kernels.winograd_products import height_table
from fastconv.kernels.winograd_transforms import transforms
from fastconv.kernels.winograd_weights import transform_weights
from fastconv.plans import Plan, address, channels_last_copy, element_strides, row_contiguous
from fastconv.problem import ConvProblem
from fastconv.scratch import SCRATCH, aligned_empty, aligned_part


class WinogradPlan(Plan):
    """Transformed weights and the record of geometry that `fastconv.kernels.winograd.convolve` takes."""

    def __init__(self, variant: Variant, p: ConvProblem, w: Array, bias: Array | None, threads: int, limit: int) -> None:
        layout = Layout(p, variant, threads, limit)
        if layout.nbytes > limit:
            raise UnsupportedProblem(
                f"backend {variant.name!r} cannot compute {p}: its smallest block takes {layout.nbytes} bytes of workspace, "
                f"max_workspace is {limit}."
            )
        along_h, along_w = variant.along_height, variant.along_width
        dtype, nr = np.dtype(p.dtype), layout.tile.columns
        u_nbytes = p.g * variant.xis * layout.u_step * p.itemsize
        u, _ = aligned_empty(u_nbytes)
        self._u = aligned_part(u, u_nbytes, dtype)
        self._w = np.require(w, requirements=("C", "A"))  # for tiles that are computed again
        self._like = np.zeros(1, dtype)
        self._bias = np.zeros((p.g, layout.panels * nr), dtype)
        if bias is not None:
            self._bias[:, : layout.outputs] = bias.reshape(p.g, layout.outputs)
        code, low, high = activation_code(p.activation)
        self._limits = np.array([low, high], dtype)
        self._fill = np.array([p.padding_value], dtype)
        self._indices = (
            _extended(p.row_index(), (layout.bands * p.dh * along_h.m - 1) * p.sh + p.dh * along_h.span + 1),
            _extended(p.col_index(), (layout.columns * p.dw * along_w.m - 1) * p.sw + p.dw * along_w.span + 1),
        )
        self._heights = np.array(height_table(layout.tile), np.int64)
        self._scratch_nbytes = layout.scratch_size * p.itemsize
        functions = transforms(p.dtype, *variant.key)
        super().__init__(
            variant.name, p, threads=threads, workspace_nbytes=layout.nbytes, packed_nbytes=u.nbytes + self._w.nbytes,
            description=f"{layout.band_blocks} x {layout.column_blocks} blocks of {layout.block_tiles} tiles, "
            f"threads {'share each' if layout.shares_blocks else 'take whole ones'}",
        )  # fmt: skip
        values = {
            "images": p.mb, "groups": p.g, "channels": layout.channels, "outputs": layout.outputs, "width": p.iw,
            "kh": p.kh, "kw": p.kw, "oh": p.oh, "ow": p.ow, "sh": p.sh, "sw": p.sw, "dh": p.dh, "dw": p.dw, "pw_lo": p.pw_lo,
            "m_h": along_h.m, "m_w": along_w.m, "span_h": along_h.span, "span_w": along_w.span,
            "alpha_h": along_h.alpha, "alpha_w": along_w.alpha,
            "data_columns": functions.data_columns, "data_rows": functions.data_rows, "output": functions.output,
            **{name: getattr(layout, name) for name in ("tall", "bands", "low_bands", "image_bands", "wide", "columns", "low_columns")},
            "band_blocks": layout.band_blocks, "column_blocks": layout.column_blocks,
            "lanes": layout.lanes, "nr": nr, "rows": layout.rows, "panels": layout.panels,
            "panels_at_once": layout.panels_at_once,
            "shares_blocks": layout.shares_blocks, "output_tasks": layout.output_tasks, "data_pieces": layout.data_pieces,
            "channels_per_task": layout.channels_per_task,
            "ldv": layout.ldv, "v_step": layout.v_step, "m_step": layout.m_step, "row_step": layout.row_step,
            "half_step": layout.row_step, "out_step": layout.out_step, "u_step": layout.u_step,
            "v_size": layout.v_size, "private_size": layout.private_size, "half_at": layout.half_at, "m_at": layout.m_at,
            "out_at": layout.out_at, "check_at": layout.check_at,
            "weights": address(self._w), "u": address(self._u), "bias": address(self._bias), "fill": address(self._fill),
            "limits": address(self._limits), "code": code,
        }  # fmt: skip
        self._geometry = np.array([tuple(int(values[name]) for name in GEOMETRY.names or ())], GEOMETRY)
        transform_weights(
            pool.handle(threads), threads, self._like, functions.weights, address(self._w), address(self._u),
            p.g, variant.xis, layout.u_step, layout.outputs, layout.channels, p.kh * p.kw, nr, layout.lanes,
        )  # fmt: skip

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; an output of an odd layout, or a residual of another one than `out`, is copied."""
        x = row_contiguous(x)
        target = out if _has_unit_stride(out) else np.empty(out.shape, out.dtype)
        if residual is not None and not _fits(residual, target):
            residual = _like_layout(residual, target)
        buffer, _ = SCRATCH.take(self._scratch_nbytes)
        convolve(
            pool.handle(self.threads), self.threads, self._like, self._geometry, self._indices, self._heights,
            described(x), described(target), (0, 0, 0, 0, 0) if residual is None else described(residual),
            aligned_part(buffer, self._scratch_nbytes, self._like.dtype),
        )  # fmt: skip
        SCRATCH.give(buffer)
        if target is not out:
            out[...] = target


def _extended(index: Array, length: int) -> Array:
    """Return `index` with -1, the padding value, for positions behind its end."""
    out = np.full(max(length, len(index)), -1, np.int64)
    out[: len(index)] = index
    return out


def _pixel_stride(array: Array) -> int:
    """Return the distance of neighbouring columns in elements; 1 if there are none."""
    return 1 if array.shape[3] == 1 else array.strides[3] // array.itemsize


def _has_unit_stride(array: Array) -> bool:
    return _pixel_stride(array) == 1 or (array.strides[1] == array.itemsize and array.shape[1] > 1)


def _fits(residual: Array, target: Array) -> bool:
    """Tell whether `residual` has its unit stride on the same axis as `target`."""
    if _pixel_stride(target) == 1:
        return _pixel_stride(residual) == 1
    return residual.strides[1] == residual.itemsize


def _like_layout(residual: Array, target: Array) -> Array:
    if _pixel_stride(target) == 1:
        return np.ascontiguousarray(residual)
    return channels_last_copy(residual)


def described(array: Array) -> tuple[int, int, int, int, int]:
    """Return (address, sn, sc, sh, sw), strides in elements."""
    n, c, h, _ = element_strides(array)
    return address(array), n, c, h, _pixel_stride(array)
