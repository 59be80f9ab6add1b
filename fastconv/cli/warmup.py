"""``fastconv warmup``: compile the kernels for this machine into the disk cache, so that no later process waits."""

from __future__ import annotations

import argparse
import time

import numpy as np

from fastconv.backends import TABLE, make_plan
from fastconv.backends.base import Algorithm
from fastconv.cli.cases import builtin_layers
from fastconv.cli.compiling import compile_ahead
from fastconv.cli.console import duration, say
from fastconv.cli.progress import Progress
from fastconv.errors import UnsupportedProblem
from fastconv.kernels.peak import measured_peak
from fastconv.machine import usable_cores
from fastconv.problem import ConvProblem
from fastconv.settings import get_config

#: Kernels are compiled per dtype; integers and complex numbers run through plain loops, one compilation each.
DTYPES = ("float32", "float64")
#: Large images and channel counts need the same kernels as these.
SMALL_CHANNELS, SMALL_SIZE = 64, 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fastconv warmup``."""
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES, metavar="DTYPE", help="float32, float64 (default: both)")


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Run one small problem of each kind through each algorithm, on all cores at once."""
    del words
    jobs = warmup_jobs(tuple(options.dtypes))
    start = time.perf_counter()
    threads = get_config().threads
    with Progress(len(jobs) + len(options.dtypes)) as progress:
        if usable_cores() == 1:
            for algorithm, problem in jobs:
                progress.tick(f"{algorithm.name} {problem.dtype}")
                _compile(algorithm, problem)
        else:
            compile_ahead([(algorithm.name, (problem,)) for algorithm, problem in jobs], threads, float("inf"), progress.tick)
        for dtype in options.dtypes:
            progress.tick(f"peak {dtype}")
            measured_peak(dtype, threads, seconds=0.0)
    say(f"{len(jobs)} kernels ready after {duration(time.perf_counter() - start)}")
    return 0


def warmup_jobs(dtypes: tuple[str, ...]) -> list[tuple[Algorithm, ConvProblem]]:
    """Return (algorithm, problem) pairs that between them compile what the layers of common networks and images need.

    Those of one algorithm stand apart, so that processes that take one after the other seldom compile the same kernel.
    """
    kinds = {_kind(layer.problem, dtype) for _, layers in builtin_layers().values() for layer in layers for dtype in dtypes}
    jobs = []
    for problem in sorted(kinds, key=str):
        jobs += [(row, problem) for row in TABLE if problem.dtype in row.dtypes and row.why_not(problem) is None and row.family != "naive"]
    return jobs


def _kind(p: ConvProblem, dtype: str) -> ConvProblem:
    """Return a small problem that needs the same kernels as `p`."""
    share = max(1, min(p.g, SMALL_CHANNELS))
    icg, ocg = min(p.ic // p.g, SMALL_CHANNELS), min(p.oc // p.g, SMALL_CHANNELS)
    groups = share if p.g > 1 else 1
    size = [min(n, max(SMALL_SIZE, d * (k - 1) + 2 * s)) for n, d, k, s in ((p.ih, p.dh, p.kh, p.sh), (p.iw, p.dw, p.kw, p.sw))]
    return p.replace(g=groups, mb=min(p.mb, 2), ic=icg * groups, oc=ocg * groups, ih=size[0], iw=size[1], dtype=dtype)


def _compile(algorithm: Algorithm, problem: ConvProblem) -> None:
    settings = get_config()
    x, w = np.ones(problem.x_shape, problem.dtype), np.ones(problem.w_shape, problem.dtype)
    try:
        make_plan(algorithm, problem, w, None, threads=settings.threads, max_workspace=settings.max_workspace)(x)
    except UnsupportedProblem:
        return  # it does not fit into the workspace that is set
