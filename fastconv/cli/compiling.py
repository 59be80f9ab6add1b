"""Kernels compiled ahead of a benchmark, on all cores at once: each family of backends in a process of its own.

A process cannot compile two kernels at a time, but compiled kernels are kept on disk, where the others find them.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures import TimeoutError as WaitTimeoutError

import numpy as np

from fastconv.backends import make_plan, named
from fastconv.cli.cases import Case
from fastconv.cli.measure import Effort, within_limit
from fastconv.machine import usable_cores
from fastconv.problem import ConvProblem
from fastconv.settings import Config

#: A family's name, and what to run so that its kernels get compiled.
Job = tuple[str, tuple[tuple[str, ConvProblem], ...]]


def compile_jobs(cases: Sequence[Case], config: Config, backend: str | None, effort: Effort) -> list[Job]:
    """Return one job per family: its variants, each on the first case of a dtype and kernel size that it takes."""
    found: dict[str, dict[tuple[str, str, int, int], tuple[str, ConvProblem]]] = {}
    for case in cases:
        p = case.problem
        for algorithm in within_limit(case, config, backend, effort):
            found.setdefault(algorithm.family, {}).setdefault((algorithm.name, p.dtype, p.kh, p.kw), (algorithm.name, p))
    return [(family, tuple(runs.values())) for family, runs in found.items()]


def compile_ahead(jobs: Sequence[Job], threads: int, seconds: float, tick: Callable[[str], None]) -> set[str]:
    """Run the jobs in processes until all are done or the time is up.

    Parameters
    ----------
    jobs : sequence of Job
    threads : int
        Threads that the benchmark will use: some kernels have a form of their own for one thread.
    seconds : float
        How long to wait.
    tick : callable
        Called with a family's name when it is done.

    Returns
    -------
    set of str
        The families that were not done in time.
    """
    left = {family for family, _ in jobs}
    if usable_cores() == 1 or len(jobs) < 2:
        for family, _ in jobs:
            tick(family)
        return set()
    end = time.monotonic() + seconds
    pool = ProcessPoolExecutor(min(usable_cores(), len(jobs)), mp_context=multiprocessing.get_context("spawn"))
    waiting: dict[Future[str], str] = {pool.submit(run_once, job, threads): job[0] for job in jobs}
    try:
        for done in as_completed(waiting, timeout=max(0.0, end - time.monotonic())):
            left.discard(waiting[done])
            tick(waiting[done])
    except WaitTimeoutError:
        for family in left:
            tick(family)
        for process in list(getattr(pool, "_processes", {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        return left
    pool.shutdown()
    return set()


def run_once(job: Job, threads: int) -> str:
    """Make and run a plan for each entry of a job; what goes wrong will show again in the benchmark itself."""
    family, runs = job
    for name, p in runs:
        (algorithm,) = named(name)
        try:
            make_plan(algorithm, p, np.zeros(p.w_shape, p.dtype), None, threads=threads, max_workspace=None)(np.zeros(p.x_shape, p.dtype))
        except Exception:  # noqa: BLE001, S112  the benchmark meets it again and reports it
            continue
    return family
