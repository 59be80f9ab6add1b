"""onnxruntime: a model of one layer, arrays bound to its input and output."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.cli.peers.base import Call, zeros_outside
from fastconv.problem import ConvProblem


def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Make a session of one `Conv` node and bind arrays to it."""
    if p.dtype != "float32":
        return None
    runtime: Any = importlib.import_module("onnxruntime")
    onnx: Any = importlib.import_module("onnx")
    p, x = zeros_outside(p, x)
    make, element = onnx.helper, onnx.TensorProto.FLOAT
    node = make.make_node(
        "Conv", ["x", "w"], ["y"], strides=[p.sh, p.sw], dilations=[p.dh, p.dw], group=p.g,
        pads=[p.ph_lo, p.pw_lo, p.ph_hi, p.pw_hi], kernel_shape=[p.kh, p.kw],
    )  # fmt: skip
    graph = make.make_graph(
        [node], "conv", [make.make_tensor_value_info("x", element, p.x_shape)], [make.make_tensor_value_info("y", element, p.out_shape)],
        [onnx.numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    y = np.empty(p.out_shape, np.float32)
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, p.out_shape, y.ctypes.data)

    def call() -> Array:
        session.run_with_iobinding(binding)
        return y

    return call
