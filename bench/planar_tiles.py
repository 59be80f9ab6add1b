"""Register tiles of the planar kernels: times every tile that fits the registers, and what the rule in use loses to the best.

    python bench/planar_tiles.py [--layers WORD ...] [--dtype float64] [--threads 1] [--rounds 4] [--top 3]

The layers are those of bench/layers and of the networks that a planar variant computes, each problem once. Tiles are called in
turns, weights prepared, result into the same array; times are the best of all calls. "loss" is the rule's time over the best
tile's. The first run compiles some thirty kernels per layer: run it once with ``--rounds 1`` before a run that counts.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator

import numpy as np

from fastconv.backends.direct import channels
from fastconv.backends.direct.dense_plan import parts_of
from fastconv.backends.direct.planar import ALGORITHMS
from fastconv.backends.direct.planar_plan import PlanarLayout, PlanarPlan
from fastconv.backends.direct.separable import separable_plan
from fastconv.cli.cases import builtin_layers, layer_case, network_layers
from fastconv.kernels.planar_layout import RegisterTile
from fastconv.kernels.target import host
from fastconv.problem import ConvProblem

ROWS, VECTORS, CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 10), (1, 2, 3, 4, 6, 8), (1, 2, 3, 4, 5, 6, 8)
#: Calls of one tile per turn take about this long.
TURN_S = 0.004


def candidates(problem: ConvProblem, rule: RegisterTile) -> Iterator[RegisterTile]:
    """Yield the tiles whose sums, source vectors and weight fit the registers, each kind of loading weights once."""
    p, registers = problem, host().registers
    parts = parts_of(p)
    outputs, vectors = parts * p.oc // p.g, -(-p.ow * p.itemsize // parts // host().vector_nbytes)
    for mo, r, v in itertools.product(CHANNELS, ROWS, VECTORS):
        if outputs % mo or mo % parts or v > vectors or r > p.oh or not registers // 6 <= mo * r * v + v <= registers - 1:
            continue
        if outputs > 1 and (mo == 1 or (mo != rule.mo and r > 4)):
            continue
        for reloads in (False, True):
            yield RegisterTile(mo, r, v, reloads)


def main() -> None:
    """Print one row per layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", default=["dw", "img", "resnext", "lenet_5x5_1", "2_3-32"])
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--top", type=int, default=3)
    options = parser.parse_args()
    print(f"{host().name}, best ms\n\n| layer | rule | ms | loss | best tiles |\n|---|---|---|---|---|")
    losses = []
    named = [(heading, layer) for heading, layers in builtin_layers().values() for layer in layers] + network_layers([])
    seen: set[str] = set()
    for heading, layer in named:
        if not any(word in layer.name for word in options.layers) or str(layer.problem) in seen:
            continue
        seen.add(str(layer.problem))
        case = layer_case(heading, layer)
        p = case.problem if options.dtype is None else case.problem.replace(dtype=options.dtype)
        x, w = case.x.astype(p.dtype), case.w.astype(p.dtype)
        names = [a.name for a in ALGORITHMS if a.why_not(p) is None]
        if not names or channels.computes(p) or separable_plan(names[0], p, w, None, 1) is not None or p.kh * p.kw > 400:
            continue
        layout = PlanarLayout(p)
        out = np.empty(p.out_shape, p.dtype)
        tiles = {layout.tile, *candidates(p, layout.tile)}
        plans = {_name(tile): PlanarPlan(names[0], p, w, None, options.threads, tile) for tile in tiles}
        rule = _name(layout.tile)
        if layout.small is not None:
            rule = "whole planes"
            plans[rule] = PlanarPlan(names[0], p, w, None, options.threads)
        best = dict.fromkeys(plans, float("inf"))
        for _ in range(options.rounds):
            for name, plan in plans.items():
                plan(x, out=out)
                end = time.perf_counter() + TURN_S
                while (start := time.perf_counter()) < end:
                    plan(x, out=out)
                    best[name] = min(best[name], time.perf_counter() - start)
        ranked = sorted(best, key=best.__getitem__)
        losses.append(best[rule] / best[ranked[0]])
        cells = [f"{t} {best[t] * 1e3:.4f}" for t in ranked[: options.top]]
        print(f"| {case.name} | {rule} | {best[rule] * 1e3:.4f} | {losses[-1]:.2f} | {', '.join(cells)} |", flush=True)
    print(f"\nloss of the rule: geometric mean {np.exp(np.log(losses).mean()):.3f}, most {max(losses):.2f}")


def _name(tile: RegisterTile) -> str:
    return f"{tile.mo}x{tile.r}x{tile.v}{'r' * tile.reloads}"


if __name__ == "__main__":
    main()
