"""The transform of the weights, once per plan: U[xi] = (G_h w G_w^T)[xi] in panels of the micro-kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.function_pointers import call_function
from fastconv.kernels.simd import keepalive
from fastconv.kernels.threads import parallel_for
from fastconv.kernels.winograd_strips import pack_rows

#: Channels whose taps are interleaved at a time, so that they stay in L1: 64 * 9 vectors are 18 KiB.
CHANNELS_AT_ONCE = 64


@jit
def _panel_task(
    i: int, _tid: int, like: Any, transform: int, weights: int, u: int,
    xis: int, xi_step: int, outputs: int, channels: int, taps: int, nr: int, lanes: int,
) -> None:  # fmt: skip
    """Transform one panel of output channels of one group."""
    size = like.itemsize
    panels = (outputs + nr - 1) // nr
    group, panel = divmod(i, panels)
    strip = np.empty((CHANNELS_AT_ONCE * taps + lanes) * lanes, like.dtype)
    per_output = channels * taps
    for first in range(0, channels, CHANNELS_AT_ONCE):
        count = min(CHANNELS_AT_ONCE, channels - first)
        for lane in range(0, nr, lanes):
            oc = panel * nr + lane
            valid = min(lanes, outputs - oc)
            source = weights + ((group * outputs + min(oc, outputs - 1)) * per_output + first * taps) * size
            pack_rows(like, source, per_output, strip.ctypes.data, count * taps, valid)
            target = u + (group * xis * xi_step + (panel * channels + first) * nr + lane) * size
            call_function(transform, strip.ctypes.data, target, xi_step, count)
    keepalive(strip)


@jit
def transform_weights(
    ctl: int, threads: int, like: Any, transform: int, weights: int, u: int,
    groups: int, xis: int, xi_step: int, outputs: int, channels: int, taps: int, nr: int, lanes: int,
) -> None:  # fmt: skip
    """Write U ``[group][xi][panel][channel][nr]``; output channels that fill up the last panel are 0.

    Parameters
    ----------
    ctl, threads : int
        The pool and how many of its threads take part.
    like : array whose dtype is the element type
    transform : int
        Address of the transform, see `fastconv.kernels.winograd_transforms.Transforms`.
    weights, u : int
        Addresses of the weights (OC, IC/G, KH, KW), contiguous, and of U.
    groups, xis, outputs, channels, taps, nr, lanes : int
        Extents; channels and outputs per group, ``taps = KH*KW``.
    xi_step : int
        Elements from one xi to the next: more than the panels take where their size would put all xi on the same cache sets.

    Notes
    -----
    At most 2*(KH + alpha_w)*alpha_h*KW flops per pair of channels. Bytes: the weights once, U once, of which a panel of CHANNELS_AT_ONCE
    channels is in cache while it is transposed. Not checked: the areas hold what the extents say.
    """
    panels = (outputs + nr - 1) // nr
    arguments = (like, transform, weights, u, xis, xi_step, outputs, channels, taps, nr, lanes)
    parallel_for(ctl, threads, groups * panels, _panel_task, arguments)
