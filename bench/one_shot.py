"""`fastconv.conv2d(x, w)` against torch's `F.conv2d` over the float32 layers of the CNNs: weights packed in each call, on both sides.

    python bench/one_shot.py [--threads N] [--seconds S] [--layers WORDS ...] [--json FILE]

"fresh": each call gets weights that the last call did not see, so that both libraries choose, pack and transform
them anew. "repeated": the same array in each call, where fastconv compares its bytes with those that it packed before.
NumPy arrays in and out, bias-free, some calls of each in turns, best of all. The first call of each is not counted (kernels are
compiled and, in fastconv, the algorithm of the shape is chosen).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastconv
from fastconv.cli.cases import chosen_layers, layer_case
from fastconv.cli.results import geometric_mean

#: Groups of layers that are images, not layers of a CNN.
IMAGES = ("image_f32", "image_f64", "multich_large")
#: Different weights that the fresh calls take turns with.
FRESH = 3
#: Turns of each function, and the pause before each: OpenMP's threads spin for milliseconds after a call.
TURNS, PAUSE_S = 5, 0.02


def best_s(functions: dict[str, Callable[[int], object]], seconds: float) -> dict[str, float]:
    """Return the best seconds of each function, run in `TURNS` turns, about `seconds` altogether each.

    A turn begins with a pause, because another library's threads go on spinning for a while on a core that these calls need,
    and with a call that does not count.
    """
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(TURNS):
        for name, function in functions.items():
            time.sleep(PAUSE_S)
            function(0)
            end, call = time.perf_counter() + seconds / TURNS, 1
            while call == 1 or time.perf_counter() < end:
                start = time.perf_counter()
                function(call)
                best[name] = min(best[name], time.perf_counter() - start)
                call += 1
    return best


def measured(x: Any, w: Any, words: dict[str, Any], seconds: float) -> dict[str, float]:
    """Return the best seconds of both libraries, with fresh and with repeated weights."""
    fresh = [w * np.float32(i + 1) for i in range(FRESH)]

    def by_torch(weights: Any) -> Any:
        return torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weights), **words).numpy()

    functions: dict[str, Callable[[int], object]] = {
        "fastconv fresh": lambda call: fastconv.conv2d(x, fresh[call % FRESH], **words),
        "torch fresh": lambda call: by_torch(fresh[call % FRESH]),
    }
    with torch.no_grad():
        np.testing.assert_allclose(fastconv.conv2d(x, w, **words), by_torch(w), rtol=1e-2, atol=1e-3 * float(np.abs(by_torch(w)).max()))
        best = best_s(functions, seconds)
        repeated: dict[str, Callable[[int], object]] = {
            "fastconv repeated": lambda call: fastconv.conv2d(x, w, **words),  # noqa: ARG005
            "torch repeated": lambda call: by_torch(w),  # noqa: ARG005
        }
        for function in repeated.values():
            function(0)
            function(1)
        return best | best_s(repeated, seconds)


def main() -> None:
    """Measure, print a row per layer and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.15, help="for each library, kind of weights and layer")
    parser.add_argument("--layers", nargs="*", default=["all"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fastconv.set_config(threads=options.threads)
    rows = []
    for heading, layer in chosen_layers(options.layers):
        p = layer.problem
        if layer.group in IMAGES or p.dtype != "float32":
            continue
        case = layer_case(heading, layer)
        words = {"stride": (p.sh, p.sw), "padding": (p.ph_lo, p.pw_lo), "dilation": (p.dh, p.dw), "groups": p.g}
        best = measured(case.x, case.w, words, options.seconds)
        ratios = {kind: best[f"torch {kind}"] / best[f"fastconv {kind}"] for kind in ("fresh", "repeated")}
        rows.append({"name": layer.name, **best, **ratios})
        times = "  ".join(f"{name} {1e3 * value:.3f}" for name, value in best.items())
        sys.stdout.write(f"{layer.name:28s} fresh {ratios['fresh']:5.2f}  repeated {ratios['repeated']:5.2f}   ms: {times}\n")
        sys.stdout.flush()
    for kind in ("fresh", "repeated"):
        values = [float(row[kind]) for row in rows]
        sys.stdout.write(
            f"{len(values)} layers, {options.threads} threads, {kind} weights: torch / fastconv, "
            f"geometric mean {geometric_mean(values):.3f}, least {min(values):.2f}\n"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
