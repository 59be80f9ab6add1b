"""Tasks of a convolution with channels in lanes: strips of rows of some blocks of channels of an image."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.channels import CHANNELS_GEOMETRY, build_channels
from fastconv.kernels.function_pointers import address_intrinsic, call_function
from fastconv.kernels.simd import keepalive
from fastconv.kernels.spec import spec_array
from fastconv.kernels.threads import parallel_for

KERNEL, TASKS, STRIPS, CHUNKS = map(CHANNELS_GEOMETRY.index, ("kernel", "tasks", "strips", "chunks"))
ALL_ROWS, ALL_BLOCKS, TILE_ROWS, ROW_STRIDE = map(CHANNELS_GEOMETRY.index, ("all_rows", "all_blocks", "tile_rows", "row_stride"))
SRC_IMAGE, DST_IMAGE, RESIDUAL_IMAGE, ROW_TABLE = map(CHANNELS_GEOMETRY.index, ("src_image", "dst_image", "residual_image", "row_table"))
DST_ROW, RESIDUAL_ROW = map(CHANNELS_GEOMETRY.index, ("dst_row", "residual_row"))

_channels_address = address_intrinsic(build_channels)


@jit
def _store_address(spec: Any, out: Any) -> None:
    out[0] = _channels_address(spec)


@functools.cache
def channels_function(element: str, *values: int) -> int:
    """Return the address of the kernel for a spec; compiled on first use, kept for the process."""
    out = np.zeros(1, np.int64)
    _store_address(spec_array(element, *values), out)
    return int(out[0])


@jit
def channels_task(i: int, _tid: int, geometry: Any, src: int, weights: int, dst: int, bias: int, residual: int) -> None:
    """Compute task i: image n, chunk of blocks c, strip of rows s, with i = (n*chunks + c)*strips + s."""
    g = geometry
    s, rest = i % g[STRIPS], i // g[STRIPS]
    chunk, n = rest % g[CHUNKS], rest // g[CHUNKS]
    row_blocks = g[ALL_ROWS] // g[TILE_ROWS]
    top = row_blocks * s // g[STRIPS] * g[TILE_ROWS]
    bottom = g[ALL_ROWS] if s == g[STRIPS] - 1 else row_blocks * (s + 1) // g[STRIPS] * g[TILE_ROWS]
    call_function(
        g[KERNEL], g.ctypes.data, src + n * g[SRC_IMAGE], weights, dst + n * g[DST_IMAGE] + top * g[DST_ROW], bias,
        residual + n * g[RESIDUAL_IMAGE] + top * g[RESIDUAL_ROW], g[ROW_TABLE] + 8 * top * g[ROW_STRIDE], bottom - top,
        g[ALL_BLOCKS] * chunk // g[CHUNKS], g[ALL_BLOCKS] * (chunk + 1) // g[CHUNKS],
    )  # fmt: skip
    keepalive(geometry)


@jit
def channels_run(ctl: int, threads: int, geometry: Any, src: int, weights: int, dst: int, bias: int, residual: int) -> None:
    """Compute all tasks of a convolution with channels in lanes, ``dst[n, :, :, o] = sum over c of src[n, :, :, c] * w[o, c]``.

    Parameters
    ----------
    ctl, threads : int
        Pool and number of threads, see `fastconv.kernels.threads`.
    geometry : ndarray of int64
        Values in the order of `CHANNELS_GEOMETRY`.
    src, weights, dst, bias, residual : int
        Addresses; the last two are not read unless the kernel's epilogue says so.

    Notes
    -----
    ``2*N*OC*OH*OW*IC/G*KH*KW`` flops, as `build_channels` does them. Bytes: a strip's pixels of the source once, with all their
    channels, and its upper neighbour's last rows again; the weights once per strip; the result once.
    The same bits for any number of threads: the split into tasks does not depend on it. Not checked here: that the result has at
    least R rows for each strip.
    """
    parallel_for(ctl, threads, geometry[TASKS], channels_task, (geometry, src, weights, dst, bias, residual))
    keepalive(geometry)
