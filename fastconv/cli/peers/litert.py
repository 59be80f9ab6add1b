"""LiteRT (TensorFlow Lite) with XNNPACK: a model of one layer, written as a flatbuffer.

Its images are NHWC, so that the turn from NCHW and back is part of each call.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.cli.peers.base import Call, zeros_outside
from fastconv.problem import ConvProblem

#: Version of the schema's file identifier.
IDENTIFIER = b"TFL3"


def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Build the model and an interpreter, which packs the weights."""
    if p.dtype != "float32":
        return None
    module: Any = importlib.import_module("ai_edge_litert.interpreter")
    p, x = zeros_outside(p, x)
    interpreter = module.Interpreter(model_content=_model(p, w), num_threads=threads)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    images = x.transpose(0, 2, 3, 1)

    def call() -> Array:
        np.copyto(interpreter.tensor(source["index"])(), images)
        interpreter.invoke()
        return np.ascontiguousarray(interpreter.tensor(result["index"])().transpose(0, 3, 1, 2))

    return call


def _is_same(p: ConvProblem) -> bool:
    """Return whether the borders are those of TensorFlow's SAME."""
    for n, k, d, s, low, high in ((p.ih, p.kh, p.dh, p.sh, p.ph_lo, p.ph_hi), (p.iw, p.kw, p.dw, p.sw, p.pw_lo, p.pw_hi)):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        if (low, high) != (total // 2, total - total // 2):
            return False
    return True


def _model(p: ConvProblem, w: Array) -> bytes:
    """Return a model: a PAD where the borders are neither VALID's nor SAME's, then the convolution."""
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = importlib.import_module("flatbuffers")
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers, graph.tensors, graph.operators = [schema.BufferT()], [], []

    def tensor(shape: tuple[int, ...], kind: int, content: Array | None = None) -> int:
        one = schema.TensorT()
        one.shape, one.type, one.name = list(shape), kind, f"t{len(graph.tensors)}"
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
            one.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    def operator(code: int, inputs: list[int], output: int, options: Any, kind: int) -> None:
        row = schema.OperatorCodeT()
        row.builtinCode = row.deprecatedBuiltinCode = code
        row.version = 1
        model.operatorCodes.append(row)
        one = schema.OperatorT()
        one.opcodeIndex, one.inputs, one.outputs = len(model.operatorCodes) - 1, inputs, [output]
        one.builtinOptions, one.builtinOptionsType = options, kind
        graph.operators.append(one)

    real, integer = schema.TensorType.FLOAT32, schema.TensorType.INT32
    first = source = tensor((p.mb, p.ih, p.iw, p.ic), real)
    is_valid = p.ph_lo == p.ph_hi == p.pw_lo == p.pw_hi == 0
    if not is_valid and not _is_same(p):
        rings = np.array([[0, 0], [p.ph_lo, p.ph_hi], [p.pw_lo, p.pw_hi], [0, 0]], np.int32)
        padded = tensor((p.mb, p.ih + p.ph_lo + p.ph_hi, p.iw + p.pw_lo + p.pw_hi, p.ic), real)
        amounts = tensor(rings.shape, integer, rings)
        operator(schema.BuiltinOperator.PAD, [first, amounts], padded, schema.PadOptionsT(), schema.BuiltinOptions.PadOptions)
        source, is_valid = padded, True
    is_depthwise = p.g == p.ic > 1
    if is_depthwise:
        options, turned = schema.DepthwiseConv2DOptionsT(), w.transpose(1, 2, 3, 0)
        options.depthMultiplier = p.oc // p.ic
        code, kind = schema.BuiltinOperator.DEPTHWISE_CONV_2D, schema.BuiltinOptions.DepthwiseConv2DOptions
    else:
        options, turned = schema.Conv2DOptionsT(), w.transpose(0, 2, 3, 1)
        code, kind = schema.BuiltinOperator.CONV_2D, schema.BuiltinOptions.Conv2DOptions
    options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor = p.sh, p.sw, p.dh, p.dw
    options.padding = schema.Padding.VALID if is_valid else schema.Padding.SAME
    weights, bias = tensor(turned.shape, real, turned), tensor((p.oc,), real, np.zeros(p.oc, np.float32))
    result = tensor((p.mb, p.oh, p.ow, p.oc), real)
    operator(code, [source, weights, bias], result, options, kind)
    graph.inputs, graph.outputs = [first], [result]
    builder = flatbuffers.Builder(w.nbytes + 1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
