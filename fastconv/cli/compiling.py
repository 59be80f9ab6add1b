"""Kernels compiled ahead of use, on all cores at once: each job in one of several processes.

A process cannot compile two kernels at a time, but compiled kernels are kept on disk, where the others find them.
"""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.backends import make_plan, named
from fastconv.cli.cases import Case
from fastconv.cli.measure import Effort, within_limit
from fastconv.machine import usable_cores
from fastconv.planner import decide
from fastconv.problem import ConvProblem
from fastconv.settings import Config

#: What to run so that an algorithm's kernels get compiled: its name, and problems with kernels of their own.
Job = tuple[str, tuple[ConvProblem, ...]]
#: How often the processes are looked after.
LOOK_S = 0.5


def compile_jobs(cases: Sequence[Case], config: Config, backend: str | None, effort: Effort) -> list[Job]:
    """Return jobs on the first case of each dtype and kernel size: what would be chosen comes first, then the rest of each algorithm.

    Of the rest, families with few variants come first, which are done soon.
    """
    chosen: dict[str, dict[tuple[str, int, int], ConvProblem]] = {}
    others: dict[str, dict[tuple[str, int, int], ConvProblem]] = {}
    for case in cases:
        p = case.problem
        choice = decide(p, config, is_prepared=True).algorithm
        for algorithm in within_limit(case, config, backend, effort):
            found = chosen if algorithm is choice else others
            found.setdefault(algorithm.name, {}).setdefault((p.dtype, p.kh, p.kw), p)
    families = [name.partition(":")[0] for name in others]
    jobs = [(name, tuple(problems.values())) for name, problems in chosen.items()]
    for name in sorted(others, key=lambda name: families.count(name.partition(":")[0])):
        rest = tuple(p for key, p in others[name].items() if key not in chosen.get(name, {}))
        if rest:
            jobs.append((name, rest))
    return jobs


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
        Called with the name of the algorithm of each job that is done.

    Returns
    -------
    set of str
        The algorithms that were not done in time.
    """
    left = Counter(name for name, _ in jobs)
    if usable_cores() == 1 or len(jobs) < 2:
        for name, _ in jobs:
            tick(name)
        return set()
    context = multiprocessing.get_context("spawn")
    work, done = context.Queue(), context.Queue()
    for job in jobs:
        work.put(job)
    workers = [context.Process(target=run_jobs, args=(work, done, threads), daemon=True) for _ in range(usable_cores())]
    for worker in workers:
        worker.start()
    end = time.monotonic() + seconds
    while left.total() and time.monotonic() < end and any(worker.is_alive() for worker in workers):
        try:
            name = done.get(timeout=LOOK_S)
        except queue.Empty:
            continue
        left[name] -= 1
        tick(name)
    missing = list(left.elements())
    for name in missing:
        tick(name)
    # A worker that died compiled something that breaks: let the benchmark meet it.
    late = set(missing) if time.monotonic() >= end else set()
    for worker in workers:
        worker.terminate()
        worker.join()
    return late


def run_jobs(work: Any, done: Any, threads: int) -> None:
    """Take jobs from one queue until it is empty, and put the names of what is compiled on the other.

    What goes wrong here goes wrong again in the benchmark itself, which reports it.
    """
    while True:
        try:
            name, problems = work.get(timeout=LOOK_S)
        except queue.Empty:
            return
        (algorithm,) = (row for row in named(name) if row.name == name)
        for p in problems:
            try:
                plan = make_plan(algorithm, p, np.zeros(p.w_shape, p.dtype), None, threads=threads, max_workspace=None)
                plan(np.zeros(p.x_shape, p.dtype))
            except Exception:  # noqa: BLE001, PERF203, S112
                continue
        done.put(name)
