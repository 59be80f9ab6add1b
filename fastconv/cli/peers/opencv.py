"""OpenCV: `cv2.filter2D`, plane by plane."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import pad
from fastconv.cli.peers.base import Call, is_one_plane
from fastconv.problem import ConvProblem


def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Take `filter2D` with borders of its own where they are those of the problem."""
    if not is_one_plane(p):
        return None
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(threads)
    kernel = np.ascontiguousarray(w[0, 0])
    depth = cv2.CV_32F if p.dtype == "float32" else cv2.CV_64F
    top, left = (p.kh - 1) // 2, (p.kw - 1) // 2
    # With borders of its own only where they are those that are asked for; else the picture is padded before.
    if p.padding_mode == "symmetric" and (p.ph_lo, p.pw_lo, p.oh, p.ow) == (top, left, p.ih, p.iw):
        planes, crop = [np.ascontiguousarray(plane) for plane in x[:, 0]], (slice(None), slice(None))
    else:
        padded = pad(p, x)
        planes, crop = [np.ascontiguousarray(plane) for plane in padded[:, 0]], (slice(top, top + p.oh), slice(left, left + p.ow))

    def call() -> Array:
        y = np.empty(p.out_shape, p.dtype)
        for n, plane in enumerate(planes):
            y[n, 0] = cv2.filter2D(plane, depth, kernel, anchor=(left, top), borderType=cv2.BORDER_REFLECT)[crop]
        return y

    return call
