"""Channels-last arrays against channels-first ones: one run, alternating. Prints a Markdown table.

    python bench/channels_last.py [--threads 1 2] [--layers WORD ...] [--seconds 0.4]

Times are medians in milliseconds of prepared layers (`Conv2d`), weights packed, the automatic choice for each layout. The
last column is channels-last / channels-first; results are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import fastconv
from fastconv.cli.cases import builtin_layers, layer_case


def main() -> None:
    """Time the layers that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--layers", nargs="*", default=["dw"], help="words in the names of layers")
    parser.add_argument("--seconds", type=float, default=0.4, help="per layer")
    arguments = parser.parse_args()
    print("| layer | threads | channels first | ms | channels last | ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for heading, layers in builtin_layers().values():
        for layer in layers:
            if any(word in layer.name for word in arguments.layers):
                case = layer_case(heading, layer)
                for threads in arguments.threads:
                    print(row(case.name, case.problem, case.x, case.w, threads, arguments.seconds))


def row(name: str, p: fastconv.problem.ConvProblem, x: np.ndarray, w: np.ndarray, threads: int, seconds: float) -> str:
    """Return one line of the table."""
    words = {"stride": (p.sh, p.sw), "padding": ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), "dilation": (p.dh, p.dw), "groups": p.g}
    with fastconv.config(threads=threads):
        first = fastconv.plan(x.shape, w, dtype=p.dtype, **words)
        last_x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        last = fastconv.plan(last_x.shape, w, dtype=p.dtype, data_format="NHWC", **words)
    np.testing.assert_allclose(last(last_x).transpose(0, 3, 1, 2), first(x), rtol=0, atol=1e-3)
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for plan, source, found in ((first, x, times[0]), (last, last_x, times[1])):
            begin = time.perf_counter()
            plan(source)
            found.append(time.perf_counter() - begin)
    one, other = (1e3 * statistics.median(found) for found in times)
    return f"| {name} | {threads} | {first.backend} | {one:.3f} | {last.backend} | {other:.3f} | {other / one:.2f} |"


if __name__ == "__main__":
    main()
