"""The planner: which algorithm computes a problem, and why."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from fastconv._typing import Array
from fastconv.backends import TABLE, named, suggestion
from fastconv.backends.base import Algorithm
from fastconv.cost import predicted_s
from fastconv.errors import UnsupportedProblem
from fastconv.machine import nominal_machine
from fastconv.plans import Plan
from fastconv.problem import ConvProblem
from fastconv.settings import Config

_RANK = {"strict": 0, "standard": 1, "fast": 2}


@dataclass(frozen=True)
class Candidate:
    """One row of the table, judged for one problem.

    Attributes
    ----------
    algorithm : Algorithm
    reason : str or None
        Why it cannot, or may not, be chosen; None if it is a candidate.
    predicted_s : float or None
        Predicted seconds; None where it cannot compute the problem.
    """

    algorithm: Algorithm
    reason: str | None
    predicted_s: float | None


@dataclass(frozen=True)
class Decision:
    """What was chosen for a problem.

    Attributes
    ----------
    algorithm : Algorithm
    source : str
        Which source decided: "argument", "config" or "cost model".
    candidates : tuple of Candidate
        The whole table, in its order.
    """

    algorithm: Algorithm
    source: str
    candidates: tuple[Candidate, ...]


def _judge(algorithm: Algorithm, problem: ConvProblem, config: Config, allowed: tuple[Algorithm, ...], *, is_prepared: bool) -> Candidate:
    reason = algorithm.why_not(algorithm.computed(problem))
    if reason is not None:
        return Candidate(algorithm, reason, None)
    machine = nominal_machine()
    computed = algorithm.computed(problem)
    seconds = predicted_s(algorithm.work(computed, machine), computed, machine, config.threads, is_prepared=is_prepared)
    if algorithm not in allowed:
        return Candidate(algorithm, "another backend is asked for", seconds)
    is_named = len(allowed) < len(TABLE)
    if not is_named and _RANK[algorithm.accuracy] > _RANK[config.accuracy]:
        return Candidate(algorithm, f"it needs accuracy={algorithm.accuracy!r}, the setting is {config.accuracy!r}", seconds)
    return Candidate(algorithm, None, seconds)


@functools.lru_cache(maxsize=4096)
def decide(problem: ConvProblem, config: Config, backend: str | None = None, *, is_prepared: bool = False) -> Decision:
    """Choose the algorithm for `problem`: the argument wins over the config, that over the cost model.

    Parameters
    ----------
    problem : ConvProblem
    config : Config
    backend : str, optional
        The argument of the call: "auto", a family or a variant.
    is_prepared : bool
        Whether the weights are packed before, so that packing costs nothing.

    Returns
    -------
    Decision

    Raises
    ------
    ValueError
        If `backend` is not a name of the table.
    UnsupportedProblem
        If the named backend cannot compute the problem.
    """
    if backend is not None and not named(backend):
        raise ValueError(f"backend {suggestion(backend)}")
    name = backend if backend is not None else config.backend
    source = "cost model" if name == "auto" else "argument" if backend is not None else "config"
    allowed = named(name)
    candidates = tuple(_judge(a, problem, config, allowed, is_prepared=is_prepared) for a in TABLE)
    possible = [c for c in candidates if c.reason is None]
    if not possible:
        refusals = [c for c in candidates if c.algorithm in allowed]
        others = [c.algorithm.name for c in candidates if c.predicted_s is not None and c.algorithm not in allowed]
        raise UnsupportedProblem(
            f"backend {name!r} cannot compute {problem}: {refusals[0].reason}. "
            f"Backends that can: {', '.join(others)}. Omit backend= to let fastconv choose."
        )
    # min() keeps the first of equals, so the table's order breaks ties.
    best = min(possible, key=lambda c: c.predicted_s or 0.0)
    return Decision(best.algorithm, source, candidates)


def prepare(decision: Decision, problem: ConvProblem, config: Config, w: Array, bias: Array | None) -> Plan:
    """Return a plan of the decided algorithm; where its workspace does not fit, the next best one's.

    A backend that was named is not replaced: its UnsupportedProblem reaches the caller.
    """
    ranked = sorted((c for c in decision.candidates if c.reason is None), key=lambda c: c.predicted_s or 0.0)
    for index, candidate in enumerate(ranked):
        try:
            return make_plan(candidate.algorithm, problem, w, bias, threads=config.threads, max_workspace=config.max_workspace)
        except UnsupportedProblem:
            if index == len(ranked) - 1:
                raise
    raise AssertionError("decide() returns at least one candidate")


def make_plan(
    algorithm: Algorithm, problem: ConvProblem, w: Array, bias: Array | None, *, threads: int, max_workspace: int | None
) -> Plan:
    """Return a plan of `algorithm`, through float32 where it does not store float16 itself."""
    computed = algorithm.computed(problem)
    if computed is not problem:
        inner = algorithm.make_plan(
            computed,
            w.astype("float32"),
            None if bias is None else bias.astype("float32"),
            threads=threads,
            max_workspace=max_workspace,
        )
        return _HalfPlan(problem, inner)
    return algorithm.make_plan(problem, w, bias, threads=threads, max_workspace=max_workspace)


def plan_by_name(
    name: str, problem: ConvProblem, w: Array, bias: Array | None, *, threads: int, max_workspace: int | None
) -> Plan:
    """Return a plan of the algorithm called `name`: how a pickled plan comes back."""
    (algorithm,) = (row for row in TABLE if row.name == name)
    return make_plan(algorithm, problem, w, bias, threads=threads, max_workspace=max_workspace)


class _HalfPlan(Plan):
    """A float16 problem computed by a float32 plan, on float32 copies of source and result."""

    def __init__(self, problem: ConvProblem, inner: Plan) -> None:
        self._inner = inner
        super().__init__(
            inner.backend,
            problem,
            threads=inner.threads,
            workspace_nbytes=inner.workspace_nbytes + 2 * (problem.x_nbytes + problem.out_nbytes * (2 if problem.has_residual else 1)),
            packed_nbytes=inner.packed_nbytes,
            description=f"through float32; {inner.description}",
        )

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        result = self._inner(x.astype("float32"), None if residual is None else residual.astype("float32"))
        with np.errstate(over="ignore", invalid="ignore"):
            out[...] = result
