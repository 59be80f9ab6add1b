"""Measuring the candidates for a problem: what ``autotune``, ``fastconv tune`` and effort="measure" do."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

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
    The best of the runs counts. A candidate is given up after one run that takes `HOPELESS` times the best so far.
    """
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(map(repr, EFFORTS))}; got {effort!r}.")
    budget, slowest = EFFORTS[effort]
    rng = np.random.default_rng(0)
    problem = core_problem(problem)
    x, w = _random(rng, problem.x_shape, problem.dtype), _random(rng, problem.w_shape, problem.dtype)
    if problem.channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    end = None if time_limit is None else time.monotonic() + time_limit
    found: dict[str, float] = {}
    for algorithm in candidates(problem, config, slowest):
        if end is not None and found and time.monotonic() > end:
            break
        try:
            plan = make_plan(algorithm, problem, w, None, threads=config.threads, max_workspace=config.max_workspace)
        except UnsupportedProblem:
            continue
        found[algorithm.name] = _seconds(plan, x, budget, min(found.values(), default=float("inf")))
        if progress is not None:
            progress(algorithm.name, found[algorithm.name])
    return found


def _seconds(plan: Plan, x: Array, budget: float, best_so_far: float) -> float:
    out = plan(x)  # compiles
    best, end = float("inf"), time.perf_counter() + budget
    for run in range(1_000_000):
        start = time.perf_counter()
        plan(x, out=out)
        now = time.perf_counter()
        best = min(best, now - start)
        if best > HOPELESS * best_so_far or (run >= 2 and now > end):
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
