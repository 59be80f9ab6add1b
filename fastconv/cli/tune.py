"""``fastconv tune``: measure backends on this machine and keep the result as wisdom."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

from fastconv.calibration import calibrate
from fastconv.cli.cases import chosen_layers, problem_of
from fastconv.cli.console import CliError, duration, say
from fastconv.cli.progress import Progress
from fastconv.errors import FastconvError
from fastconv.machine import RATES
from fastconv.problem import ConvProblem
from fastconv.settings import Config, config
from fastconv.tuning import EFFORTS, learn
from fastconv.wisdom import Wisdom, opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fastconv tune``."""
    parser.add_argument(
        "layers",
        nargs="*",
        metavar="LAYERS",
        help="problem strings, layers or groups of the benchmark, 'all', a JSON file of layers, or an ONNX file",
    )
    parser.add_argument(
        "--effort", choices=tuple(EFFORTS), default="measure", help="how long to measure each candidate (default: %(default)s)"
    )
    parser.add_argument("--time-limit", type=float, metavar="S", help="begin no further problem after so many seconds")
    parser.add_argument("--threads", type=int, metavar="N", help="threads to tune for (default: the setting)")
    parser.add_argument("--machine", action="store_true", help="measure the machine's rates anew: FMA peak, bandwidth, overhead")
    parser.add_argument("--wisdom", metavar="FILE", help="the wisdom file (default: the setting)")
    parser.add_argument("--list", action="store_true", help="show what is known on this machine")
    parser.add_argument("--export", metavar="FILE", help="write this machine's wisdom to a file")
    parser.add_argument("--merge", metavar="FILE", action="append", default=[], help="add the wisdom of a file; may be repeated")
    parser.add_argument("--forget", metavar="PROBLEM", nargs="?", const="all", help="drop what is known of a problem, or everything")


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Do what the options ask for, in the order: merge, forget, machine, layers, list, export."""
    del words
    chosen = {name: getattr(options, name) for name in ("threads", "wisdom") if getattr(options, name) is not None}
    settings = config(**chosen)
    known = opened(settings.wisdom)
    if known is None:
        raise CliError("wisdom is 'off'. Give a file: fastconv tune --wisdom FILE ...")
    actions = (options.layers, options.machine, options.list, options.export, options.merge, options.forget)
    if not any(actions):
        raise CliError("there is nothing to do. Example: fastconv tune resnet50; fastconv tune --machine; fastconv tune --list.")
    for path in options.merge:
        say(f"{path}: {known.merge(path)} problems merged into {known.path}")
    if options.forget:
        problem = None if options.forget == "all" else problem_of(options.forget)
        say(f"{known.forget(problem)} measurements forgotten")
    if options.machine:
        _show_rates(calibrate(settings.wisdom))
    if options.layers:
        _tune(options, settings, known)
    if options.list:
        _show(known)
    if options.export:
        known.export(options.export)
        say(f"wisdom of this machine written to {options.export}")
    return 0


def _tune(options: argparse.Namespace, settings: Config, known: Wisdom) -> None:
    problems = _problems(options.layers)
    end = None if options.time_limit is None else time.monotonic() + options.time_limit
    width = max(len(name) for name, _ in problems)
    with Progress(len(problems)) as progress:
        for name, problem in problems:
            if end is not None and time.monotonic() > end:
                progress.say(f"{name.ljust(width)}  not begun: the time limit is over")
                continue
            remaining = None if end is None else end - time.monotonic()
            seconds = learn(problem, settings, effort=options.effort, time_limit=remaining)
            best = sorted(seconds, key=lambda row: seconds[row])[:3]
            progress.say(f"{name.ljust(width)}  " + ", ".join(f"{row} {duration(seconds[row])}" for row in best))
            progress.tick(name)
    say(f"stored in {known.path}")


def _problems(words: list[str]) -> list[tuple[str, ConvProblem]]:
    found: list[tuple[str, ConvProblem]] = []
    for word in words:
        if word.endswith(".onnx"):
            found += onnx_problems(Path(word))
        else:
            found += [(layer.name, layer.problem) for _, layer in chosen_layers([word])]
    return list(dict.fromkeys(found))


def onnx_problems(path: Path) -> list[tuple[str, ConvProblem]]:
    """Return (node name, problem) for each Conv node of an ONNX model whose shapes are known; needs the package onnx.

    A batch size that is left open counts as 1.

    Raises
    ------
    CliError
        If onnx is not installed or the file is not a model.
    """
    try:
        onnx: Any = importlib.import_module("onnx")
    except ImportError:
        raise CliError("reading ONNX files needs the package onnx. Install it with: pip install onnx") from None
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    except Exception as error:  # noqa: BLE001  onnx raises protobuf's and its own errors
        raise CliError(f"{path} cannot be read as an ONNX model: {error}") from None
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    shapes.update({tensor.name: list(tensor.dims) for tensor in graph.initializer})
    found = []
    for index, node in enumerate(graph.node):
        if node.op_type != "Conv" or len(shapes.get(node.input[0], ())) != 4 or node.input[1] not in shapes:
            continue
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        try:
            found.append((node.name or f"conv{index}", _onnx_problem(shapes[node.input[0]], shapes[node.input[1]], attributes)))
        except FastconvError:
            continue  # a shape that inference left open
    if not found:
        raise CliError(f"{path} holds no two-dimensional Conv node with known shapes.")
    return found


def _onnx_problem(x: list[int], w: list[int], attributes: dict[str, Any]) -> ConvProblem:
    sh, sw = attributes.get("strides", [1, 1])
    dh, dw = attributes.get("dilations", [1, 1])
    pads = attributes.get("pads", [0, 0, 0, 0])
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if auto.startswith("SAME"):
        totals = [max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n) for n, s, d, k in zip(x[2:], (sh, sw), (dh, dw), w[2:], strict=True)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
    return ConvProblem(
        attributes.get("group", 1), x[0], x[1], x[2], x[3], w[0], w[2], w[3], sh, sw,
        ph_lo=pads[0], pw_lo=pads[1], ph_hi=pads[2], pw_hi=pads[3], dh=dh, dw=dw,
    )  # fmt: skip


def _show_rates(rates: dict[str, float]) -> None:
    units = {name: 1e-6 if name.endswith("_s") else 1e9 for name in RATES}
    words = {
        "peak_float32": "FMA peak of a core, float32: {:.1f} GFLOP/s",
        "peak_float64": "FMA peak of a core, float64: {:.1f} GFLOP/s",
        "blas_float32": "BLAS on a core, float32: {:.1f} GFLOP/s",
        "blas_float64": "BLAS on a core, float64: {:.1f} GFLOP/s",
        "bandwidth": "memory bandwidth of a core: {:.1f} GB/s",
        "shared_bandwidth": "memory bandwidth of all cores: {:.1f} GB/s",
        "far_bandwidth": "bandwidth of a core on 32 MiB: {:.1f} GB/s",
        "shared_far_bandwidth": "bandwidth of all cores on 32 MiB: {:.1f} GB/s",
        "cache_bandwidth": "last-level cache bandwidth of a core: {:.1f} GB/s",
        "l2_bandwidth": "second-level cache bandwidth: {:.1f} GB/s",
        "l1_bandwidth": "first-level cache bandwidth: {:.1f} GB/s",
        "call_s": "one call: {:.1f} us",
    }
    for name in RATES:
        say(words[name].format(rates[name] / units[name]))


def _show(known: Wisdom) -> None:
    problems = known.problems()
    say(f"{known.path}: {len(problems)} problems on this machine")
    for key, seconds in sorted(problems.items()):
        best = min(seconds, key=lambda row: seconds[row])
        say(f"  {key}: {best} {duration(seconds[best])}")
