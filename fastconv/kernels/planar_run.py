"""Tasks of a planar convolution: strips of rows of some planes, packed first where the source is not read in place."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.function_pointers import address_intrinsic, call_function
from fastconv.kernels.planar import build_planar
from fastconv.kernels.planar_pack import build_pack
from fastconv.kernels.planar_spec import GEOMETRY
from fastconv.kernels.planes import build_planes
from fastconv.kernels.simd import keepalive
from fastconv.kernels.spec import spec_array
from fastconv.kernels.threads import parallel_for

WEIGHTS_STEP, DST_STEP, BIAS_STEP, RESIDUAL_STEP = map(GEOMETRY.index, ("weights_step", "dst_step", "bias_step", "residual_step"))
DST_ROW, RESIDUAL_ROW, TASKS, STRIPS, CHUNKS = map(GEOMETRY.index, ("dst_row", "residual_row", "tasks", "strips", "chunks"))
ALL_ROWS, ALL_PLANES, BLOCKS = map(GEOMETRY.index, ("all_rows", "all_planes", "blocks"))
SRC_IMAGE, SRC_GROUP, SRC_CHANNEL, DST_IMAGE, RESIDUAL_IMAGE = map(
    GEOMETRY.index, ("src_image", "src_group", "src_channel", "dst_image", "residual_image")
)
ROW_TABLE, PACKED_ROWS, PACKED_NBYTES = map(GEOMETRY.index, ("row_table", "packed_rows", "packed_nbytes"))
TILE_ROWS, ROW_STRIDE, ROW_SPAN = map(GEOMETRY.index, ("tile_rows", "row_stride", "row_span"))
PACKED_CHANNELS, PACKED_GROUPS, PACKED_GROUP = map(GEOMETRY.index, ("packed_channels", "packed_groups", "packed_group"))
KERNEL, PACK = map(GEOMETRY.index, ("kernel", "pack"))
#: Packed rows start on a cache line.
ALIGNMENT = 64

_kernel_address = address_intrinsic(build_planar)
_pack_address = address_intrinsic(build_pack)
_planes_address = address_intrinsic(build_planes)


@jit
def _store_addresses(spec: Any, out: Any) -> None:
    out[0] = _kernel_address(spec)
    out[1] = _pack_address(spec)


@functools.cache
def planar_functions(element: str, *values: int) -> tuple[int, int]:
    """Return the addresses of the kernel and of the packing for a spec; compiled on first use, kept for the process."""
    out = np.zeros(2, np.int64)
    _store_addresses(spec_array(element, *values), out)
    return int(out[0]), int(out[1])


@jit
def _store_planes_address(spec: Any, out: Any) -> None:
    out[0] = _planes_address(spec)


@functools.cache
def planes_function(element: str, *values: int) -> int:
    """Return the address of the kernel of small planes for a spec; compiled on first use, kept for the process."""
    out = np.zeros(1, np.int64)
    _store_planes_address(spec_array(element, *values), out)
    return int(out[0])


@jit
def planar_task(i: int, _tid: int, geometry: Any, src: int, weights: int, dst: int, bias: int, residual: int) -> None:
    """Compute task i: image n, chunk of planes c, strip of rows s, with i = (n*chunks + c)*strips + s."""
    g = geometry
    s, rest = i % g[STRIPS], i // g[STRIPS]
    chunk, n = rest % g[CHUNKS], rest // g[CHUNKS]
    row_blocks = (g[ALL_ROWS] + g[TILE_ROWS] - 1) // g[TILE_ROWS]
    top = row_blocks * s // g[STRIPS] * g[TILE_ROWS]
    bottom = min(row_blocks * (s + 1) // g[STRIPS] * g[TILE_ROWS], g[ALL_ROWS])
    groups = g[ALL_PLANES] // g[BLOCKS]
    group, last = groups * chunk // g[CHUNKS], groups * (chunk + 1) // g[CHUNKS]
    p, end = group * g[BLOCKS], last * g[BLOCKS]
    source = src + n * g[SRC_IMAGE] + group * g[SRC_GROUP]
    rows = g[ROW_TABLE] + 8 * top * g[ROW_STRIDE]
    taps = weights + p * g[WEIGHTS_STEP]
    target = dst + n * g[DST_IMAGE] + p * g[DST_STEP] + top * g[DST_ROW]
    added = residual + n * g[RESIDUAL_IMAGE] + p * g[RESIDUAL_STEP] + top * g[RESIDUAL_ROW]
    offsets = bias + p * g[BIAS_STEP]
    address = g.ctypes.data
    if g[PACKED_NBYTES] == 0:
        call_function(g[KERNEL], address, source, taps, target, offsets, added, rows, bottom - top, end - p)
    else:
        scratch = np.empty(g[PACKED_NBYTES] + ALIGNMENT, np.uint8)
        packed = (scratch.ctypes.data + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        count = (bottom - top - 1) * g[ROW_STRIDE] + g[ROW_SPAN]
        for k in range(last - group):
            # Few groups at a time, which the kernel finds in a cache near by.
            place = k % g[PACKED_GROUPS]
            if place == 0:
                channels = min(g[PACKED_GROUPS], last - group - k) * g[PACKED_CHANNELS]
                call_function(g[PACK], address, packed, source + k * g[SRC_GROUP], rows, count, channels, g[SRC_CHANNEL])
            before = k * g[BLOCKS]
            call_function(
                g[KERNEL], address, packed + place * g[PACKED_GROUP], taps + before * g[WEIGHTS_STEP], target + before * g[DST_STEP],
                offsets + before * g[BIAS_STEP], added + before * g[RESIDUAL_STEP], g[PACKED_ROWS], bottom - top, g[BLOCKS],
            )  # fmt: skip
        keepalive(scratch)
    keepalive(geometry)


@jit
def planar_run(ctl: int, threads: int, geometry: Any, src: int, weights: int, dst: int, bias: int, residual: int) -> None:
    """Compute all tasks of a planar convolution, ``dst[n, o] = sum over c of src[n, c] * w[o, c]``, planes as `build_planar` has them.

    Parameters
    ----------
    ctl, threads : int
        Pool and number of threads, see `fastconv.kernels.threads`.
    geometry : ndarray of int64
        Values in the order of `GEOMETRY`.
    src, weights, dst, bias, residual : int
        Addresses; the last two are not read unless the kernel's epilogue says so.

    Notes
    -----
    ``2*N*OC*OH*OW*IC/G*KH*KW`` flops, as `build_planar` does them. Bytes: a strip's rows of the source once, and its upper
    neighbour's last rows again; those of a packed group into cache and back; the result once.
    The same bits for any number of threads: the split into tasks does not depend on it. Not checked here: that
    each strip has at least R rows, and that chunks are groups where several blocks share a source that is read in place.
    """
    parallel_for(ctl, threads, geometry[TASKS], planar_task, (geometry, src, weights, dst, bias, residual))
    keepalive(geometry)
