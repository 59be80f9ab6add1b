"""Winograd on the layers it is for, against the other libraries: one run, alternating. Prints a Markdown table.

    python bench/winograd_layers.py [--threads 1 2] [--layers WORD ...] [--rounds 5]

Times are best-of in milliseconds, weights prepared, NumPy arrays in and out. Ratios are theirs / ours: for what the
cost model chooses at standard accuracy, and for the fastest of all variants whatever its accuracy. The last columns
split a single-threaded call of the first into data transform, products, and the rest: output transform, epilogue and
store; and tell which share of the FMA peak, measured at that moment, the products reach.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from fastconv import config
from fastconv.backends.winograd import ALGORITHMS
from fastconv.backends.winograd.plan import WinogradPlan, described
from fastconv.cli.cases import Case, builtin_layers, layer_case
from fastconv.cli.peers import PEERS
from fastconv.kernels.peak import measured_peak
from fastconv.kernels.simd import keepalive
from fastconv.kernels.winograd import block_of, tiles_of, transform_data
from fastconv.kernels.winograd_products import multiply_panels
from fastconv.planner import decide

RIVALS = ("ncnn", "onnxruntime", "openvino", "torch")
RATIOS = ("best other / standard", "/ fastest", "torch / standard", "/ fastest")


@numba.njit(nogil=True)
def data_only(like: Any, geometry: Any, indices: Any, src: Any, scratch_size: int) -> None:
    """Run the data transform of every block, as `fastconv.kernels.winograd.convolve` does on one thread."""
    g = geometry[0]
    size = like.itemsize
    buffer = np.empty(scratch_size + 64 // size, like.dtype)
    start = buffer.ctypes.data + -(buffer.ctypes.data // size) % (64 // size) * size
    for i in range(g.groups * g.band_blocks * g.column_blocks):
        transform_data(like, g, indices, src, start, start + g.v_size * size, block_of(g, i), 0, g.channels)
    keepalive(buffer)


@numba.njit(nogil=True)
def products_only(like: Any, geometry: Any, heights: Any, scratch_size: int) -> None:
    """Run the products of every block on whatever lies in V."""
    g = geometry[0]
    size = like.itemsize
    buffer = np.zeros(scratch_size + 64 // size, like.dtype)
    v = buffer.ctypes.data + -(buffer.ctypes.data // size) % (64 // size) * size
    m, xis = v + (g.v_size + g.m_at) * size, g.alpha_h * g.alpha_w
    for i in range(g.groups * g.band_blocks * g.column_blocks):
        block = block_of(g, i)
        group, tiles = block[0], tiles_of(g, block)
        for first in range(0, g.panels, g.panels_at_once):
            for xi in range(xis):
                u = g.u + ((group * xis + xi) * g.u_step + first * g.channels * g.nr) * size
                multiply_panels(
                    like, v + xi * g.v_step * size, g.ldv, u, u + g.u_step * size, m + xi * g.m_step * size, xis * g.m_step,
                    tiles, g.channels, min(g.panels_at_once, g.panels - first), g.nr, g.rows, heights,
                )  # fmt: skip
    keepalive(buffer)


def shares(plan: WinogradPlan, case: Case, total_s: float) -> tuple[float, float, float, float]:
    """Return the shares of data transform, products and the rest in a single-threaded call, and the products' share of the peak."""
    private = vars(plan)
    like, geometry = private["_like"], private["_geometry"]
    size = private["_scratch_nbytes"] // like.itemsize
    data = best_s(lambda: data_only(like, geometry, private["_indices"], described(case.x), size))
    products = best_s(lambda: products_only(like, geometry, private["_heights"], size))
    g = geometry[0]
    tiles = g["images"] * g["image_bands"] * g["low_columns"]
    flops = 2.0 * g["groups"] * g["alpha_h"] * g["alpha_w"] * tiles * g["channels"] * g["outputs"]
    return data / total_s, products / total_s, max(0.0, 1 - (data + products) / total_s), flops / products / measured_peak("float32")


def best_s(call: Callable[[], object], seconds: float = 0.04) -> float:
    """Return the shortest of several timings."""
    call()
    found, start = math.inf, time.perf_counter()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - begin)
    return found


def alternate(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the best time of each call, over rounds in which all take their turn."""
    found = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            found[name] = min(found[name], best_s(call))
    return found


def is_for_winograd(case: Case) -> bool:
    """Tell whether a layer is 3x3, stride 1, dense, one image (ncnn takes no batches), with 16 channels or more."""
    p = case.problem
    return (p.kh, p.kw, p.sh, p.sw, p.dh, p.dw, p.g, p.mb) == (3, 3, 1, 1, 1, 1, 1, 1) and p.ic >= 16 and p.dtype == "float32"


def row(case: Case, threads: int, rounds: int) -> tuple[str, list[float]]:
    """Return the table's row of one layer, and the two ratios to the best other library and to torch."""
    p = case.problem
    plans = {short(a.name): a.make_plan(p, case.w, threads=threads) for a in ALGORITHMS if a.why_not(p) is None}
    out = np.empty(p.out_shape, p.dtype)
    calls: dict[str, Callable[[], object]] = {name: (lambda plan=plan: plan(case.x, out=out)) for name, plan in plans.items()}
    for peer in PEERS:
        if peer.name in RIVALS and peer.is_installed:
            call = peer.prepare(p, case.x, case.w, threads)
            if call is not None:
                calls[peer.name] = call
    times = alternate(calls, rounds)
    with config(threads=threads, wisdom="off") as settings:
        chosen = short(decide(p, settings, is_prepared=True).algorithm.name)
    fast = min(plans, key=times.__getitem__)
    rivals = {name: times[name] for name in RIVALS if name in times}
    other = min(rivals.values())
    ratios = [other / times[chosen], other / times[fast], times["torch"] / times[chosen], times["torch"] / times[fast]]
    cells = [case.name, *(f"{name} {times[name] * 1e3:.3f}" for name in (chosen, fast))]
    cells += [f"{times[name] * 1e3:.3f}" if name in times else "-" for name in RIVALS]
    cells += [f"{ratio:.2f}" for ratio in ratios]
    if threads == 1:
        *parts, efficiency = shares(plans[chosen], case, times[chosen])  # type: ignore[arg-type]
        cells += [f"{share:.0%}" for share in (*parts, efficiency)]
    return f"| {' | '.join(cells)} |", ratios


def short(name: str) -> str:
    """Return the variant of a backend's name."""
    return name.partition(":")[2]


def main() -> None:
    """Print one table per number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--layers", nargs="+", default=[""])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for threads in options.threads:
        columns = ["layer", "standard", "fastest", *RIVALS, *RATIOS]
        columns += ["data", "products", "output", "products / peak"] if threads == 1 else []
        print(f"\n{threads} thread{'s' * (threads > 1)}, ms\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        found = []
        for heading, layers in builtin_layers().values():
            for layer in layers:
                case = layer_case(heading, layer)
                if is_for_winograd(case) and any(word in case.name for word in options.layers):
                    text, ratios = row(case, threads, options.rounds)
                    print(text, flush=True)
                    found.append(ratios)
        means = np.exp(np.log(found).mean(axis=0))
        print("\ngeometric means: " + ", ".join(f"{name} {mean:.2f}" for name, mean in zip(RATIOS, means, strict=True)), flush=True)


if __name__ == "__main__":
    main()
