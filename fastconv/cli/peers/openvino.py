"""OpenVINO: a model of one layer on its CPU device, arrays shared with its input and output."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.cli.peers.base import Call, zeros_outside
from fastconv.problem import ConvProblem


def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Compile the layer for one stream of `threads` threads, in float32 throughout."""
    if p.dtype != "float32":
        return None
    openvino: Any = importlib.import_module("openvino")
    ops: Any = importlib.import_module("openvino.opset8")
    p, x = zeros_outside(p, x)
    source = ops.parameter(list(p.x_shape), np.float32)
    geometry = ([p.sh, p.sw], [p.ph_lo, p.pw_lo], [p.ph_hi, p.pw_hi], [p.dh, p.dw])
    if p.g == 1:
        node = ops.convolution(source, np.ascontiguousarray(w), *geometry)
    else:
        grouped = np.ascontiguousarray(w).reshape(p.g, p.oc // p.g, *w.shape[1:])
        node = ops.group_convolution(source, grouped, *geometry)
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    compiled = openvino.Core().compile_model(openvino.Model([node], [source], "conv"), "CPU", settings)
    request = compiled.create_infer_request()
    held = np.ascontiguousarray(x)
    y = np.empty(p.out_shape, np.float32)
    request.set_input_tensor(openvino.Tensor(held, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(y, shared_memory=True))

    def call(_source: Array = held) -> Array:  # kept here, as the request keeps its address only
        request.infer()
        return y

    return call
