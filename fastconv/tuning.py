"""Measuring the candidates for a problem: what ``autotune``, ``fastconv tune`` and effort="measure" do."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from fastconv._typing import Array
from fastconv.backends import TABLE, make_plan
from fastconv.backends.base import Algorithm
from fastconv.calibration import current_machine
from fastconv.cost import predicted_s
from fastconv.errors import UnsupportedProblem, WisdomError
from fastconv.plans import Plan
from fastconv.problem import ConvProblem
from fastconv.settings import Config
from fastconv.wisdom import opened

#: effort -> (seconds spent on each candidate that is worth it, how many times slower than the best prediction one may be).
EFFORTS: dict[str, tuple[float, float]] = {"measure": (0.05, 12.0), "patient": (0.5, 100.0)}
#: A candidate whose first run takes this many times the best so far is not run again.
HOPELESS = 3.0
#: Candidates within this factor of the best run again in turns, because the clock drifts between two measurements one after the other.
FINAL = 1.25
#: Turns of the final: each candidate gets its share of the budget in so many pieces.
FINAL_TURNS = 5

Progress = Callable[[str, float], None]


def core_problem(problem: ConvProblem) -> ConvProblem:
    """Return `problem` without bias, residual and activation: they cost every algorithm about the same."""
    return problem.replace(has_bias=False, has_residual=False, activation=None)


def candidates(problem: ConvProblem, config: Config, slowest: float) -> list[Algorithm]:
    """Return the algorithms worth measuring, the most promising first: predicted within `slowest` times the best."""
    machine = current_machine(config.wisdom)
    predicted = []
    for algorithm in TABLE:
        computed = algorithm.computed(problem)
        if algorithm.refusal(problem) is None:
            seconds = predicted_s(algorithm.work(computed, machine), computed, machine, config.threads, is_prepared=True)
            predicted.append((seconds, algorithm))
    predicted.sort(key=lambda pair: pair[0])
    return [algorithm for seconds, algorithm in predicted if seconds <= slowest * predicted[0][0]]


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Hold BLAS, which im2col multiplies with, to `count` threads where threadpoolctl is installed."""
    try:
        control = importlib.import_module("threadpoolctl")
    except ImportError:
        yield
        return
    with control.threadpool_limits(count, user_api="blas"):
        yield


def measure(
    problem: ConvProblem, config: Config, *, effort: str = "measure", time_limit: float | None = None, progress: Progress | None = None
) -> dict[str, float]:
    """Return measured seconds by algorithm name, on random data, weights packed before.

    Parameters
    ----------
    problem : ConvProblem
    config : Config
        Threads and workspace as set; the accuracy is not looked at: the choice filters later.
    effort : {"measure", "patient"}
        See `EFFORTS`.
    time_limit : float, optional
        Seconds after which no further candidate is begun; the most promising comes first and is always measured.
    progress : callable, optional
        Called with (name, seconds) after each candidate.

    Notes
    -----
    The best of the runs counts. A candidate is given up after one run that takes `HOPELESS` times the best so far; those within
    `FINAL` times the best are measured once more, in turns, and these times replace the first ones.
    """
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(map(repr, EFFORTS))}; got {effort!r}.")
    budget, slowest = EFFORTS[effort]
    rng = np.random.default_rng(0)
    problem = core_problem(problem)
    x, w = _random(rng, problem.x_shape, problem.dtype), _random(rng, problem.w_shape, problem.dtype)
    out = np.empty(problem.out_shape, problem.dtype)
    if problem.channels_last:
        x, out = (np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for array in (x, out))
    end = None if time_limit is None else time.monotonic() + time_limit
    with blas_threads(config.threads):
        found: dict[str, float] = {}
        plans: dict[str, Plan] = {}
        for algorithm in candidates(problem, config, slowest):
            if end is not None and found and time.monotonic() > end:
                break
            try:
                plan = make_plan(algorithm, problem, w, None, threads=config.threads, max_workspace=config.max_workspace)
            except UnsupportedProblem:
                continue
            plan(x, out=out)  # compiles
            found[algorithm.name] = _seconds(plan, x, out, budget, HOPELESS * min(found.values(), default=float("inf")))
            plans[algorithm.name] = plan
            near = FINAL * min(found.values())
            plans = {name: kept for name, kept in plans.items() if found[name] <= near}
            if progress is not None:
                progress(algorithm.name, found[algorithm.name])
        if len(plans) > 1 and (end is None or time.monotonic() < end):
            found.update(_final(plans, x, out, budget / FINAL_TURNS))
    return found


def _final(plans: dict[str, Plan], x: Array, out: Array, budget: float) -> dict[str, float]:
    """Return the best seconds of each plan over `FINAL_TURNS` turns, each plan once in a turn."""
    turns = [{name: _seconds(plan, x, out, budget) for name, plan in plans.items()} for _ in range(FINAL_TURNS)]
    return {name: min(turn[name] for turn in turns) for name in plans}


def _seconds(plan: Plan, x: Array, out: Array, budget: float, hopeless_s: float = float("inf")) -> float:
    """Return the best of the runs within `budget` seconds; of one run that takes longer than `hopeless_s`."""
    best, end = float("inf"), time.perf_counter() + budget
    for run in range(1_000_000):
        start = time.perf_counter()
        plan(x, out=out)
        now = time.perf_counter()
        best = min(best, now - start)
        if best > hopeless_s or (run >= 2 and now > end):
            break
    return best


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    kind = np.dtype(dtype).kind
    if kind in "iu":
        return rng.integers(0, 4, shape).astype(dtype)
    values = rng.uniform(-1, 1, shape)
    return (values + 1j * rng.uniform(-1, 1, shape) if kind == "c" else values).astype(dtype)


def learn(
    problem: ConvProblem, config: Config, *, effort: str = "measure", time_limit: float | None = None, progress: Progress | None = None
) -> dict[str, float]:
    """Measure as `measure` does, and store the result as wisdom.

    Raises
    ------
    WisdomError
        If the wisdom file cannot be written.
    """
    found = measure(problem, config, effort=effort, time_limit=time_limit, progress=progress)
    known = opened(config.wisdom)
    if known is not None and found:
        known.store(core_problem(problem), config.threads, found)
    return found


def known_seconds(problem: ConvProblem, config: Config) -> dict[str, float]:
    """Return what wisdom holds for `problem`; with effort="measure" a new problem is measured first."""
    known = opened(config.wisdom)
    if known is None:
        return {}
    core = core_problem(problem)
    seconds = known.seconds(core, config.threads)
    if seconds or config.effort == "estimate" or not problem.mb:
        return seconds
    try:
        return learn(problem, config)
    except WisdomError as error:
        warnings.warn(f"fastconv: {error} What was measured holds in this process only.", RuntimeWarning, stacklevel=2)
        return known.seconds(core, config.threads)
