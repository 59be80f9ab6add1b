"""ncnn: a network of one layer; its Winograd forms are among the fastest 3x3 convolutions there are."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.cli.peers.base import Call, zeros_outside
from fastconv.problem import ConvProblem


def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Load a network of one layer from its text and binary forms."""
    if p.dtype != "float32" or p.mb != 1:
        return None
    ncnn: Any = importlib.import_module("ncnn")
    p, x = zeros_outside(p, x)
    x = np.ascontiguousarray(x)
    # A network of one layer, in ncnn's text and binary forms; the keys are those of its documentation.
    kind, more = ("ConvolutionDepthWise", f" 7={p.g}") if p.g > 1 else ("Convolution", "")
    keys = {0: p.oc, 1: p.kw, 11: p.kh, 2: p.dw, 12: p.dh, 3: p.sw, 13: p.sh, 4: p.pw_lo, 15: p.pw_hi, 14: p.ph_lo, 16: p.ph_hi, 6: w.size}
    words = " ".join(f"{key}={value}" for key, value in keys.items()) + more
    net = ncnn.Net()
    net.opt.num_threads = threads
    for flag in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, flag, False)
    net.load_param_mem(f"7767517\n2 2\nInput in 0 1 in\n{kind} conv 1 1 in out {words}\n")
    stored = np.zeros(4, np.uint8).tobytes() + np.ascontiguousarray(w).tobytes()  # a tag of 0: plain float32
    net.load_model_mem(stored)

    def call() -> Array:
        extractor = net.create_extractor()
        extractor.input("in", ncnn.Mat(x[0]))
        return np.array(extractor.extract("out")[1])[np.newaxis]

    return call
