"""The planner: which algorithm computes a problem, and why."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from fastconv._typing import Array
from fastconv.backends import TABLE, make_plan, named, suggestion, workspace_nbytes
from fastconv.backends.base import Algorithm
from fastconv.calibration import current_machine
from fastconv.cost import predicted_s
from fastconv.errors import UnsupportedProblem
from fastconv.plans import Plan
from fastconv.problem import ConvProblem
from fastconv.settings import Config
from fastconv.tuning import known_seconds
from fastconv.wisdom import opened

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
    measured_s : float or None
        Seconds by wisdom, setup added for a one-shot call; None if unknown.
    """

    algorithm: Algorithm
    reason: str | None
    predicted_s: float | None = None
    measured_s: float | None = None


@dataclass(frozen=True)
class Decision:
    """What was chosen for a problem.

    Attributes
    ----------
    algorithm : Algorithm
    source : str
        Which source decided: "argument", "config", "wisdom" or "cost model"; for a family with several variants,
        which variant is decided by wisdom or cost model.
    candidates : tuple of Candidate
        The whole table, in its order.
    ranked : tuple of Algorithm
        Those that may be chosen: the best that fits into the workspace, then the others, the best first.
    """

    algorithm: Algorithm
    source: str
    candidates: tuple[Candidate, ...]
    ranked: tuple[Algorithm, ...]


def decide(problem: ConvProblem, config: Config, backend: str | None = None, *, is_prepared: bool = False) -> Decision:
    """Choose the algorithm for `problem`: the argument wins over the config, that over wisdom, that over the cost model.

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
    known = opened(config.wisdom)
    return _decide(problem, config, backend, is_prepared, 0 if known is None else known.refresh())


@functools.lru_cache(maxsize=4096)
def _decide(problem: ConvProblem, config: Config, backend: str | None, is_prepared: bool, generation: int) -> Decision:  # noqa: ARG001, FBT001
    """Decide; `generation` of the wisdom is part of the cache's key only."""
    if backend is not None and not named(backend):
        raise ValueError(f"backend {suggestion(backend)}")
    name = backend if backend is not None else config.backend
    allowed = named(name)
    refusals = {row: row.refusal(problem) for row in TABLE}
    if all(refusals[row] is not None for row in allowed):
        raise UnsupportedProblem(
            f"backend {name!r} cannot compute {problem}: {refusals[allowed[0]]}. "
            f"Backends that can: {', '.join(row.name for row, reason in refusals.items() if reason is None)}. "
            "Omit backend= to let fastconv choose."
        )
    seconds = known_seconds(problem, config) if len(allowed) > 1 else {}
    candidates = []
    for row in TABLE:
        if refusals[row] is not None:
            candidates.append(Candidate(row, refusals[row]))
            continue
        reason = None if row in allowed else "another backend is asked for"
        # A variant that is named may be as inaccurate as it is; anything else keeps to the setting.
        if reason is None and row.name != name and _RANK[row.accuracy_for(problem)] > _RANK[config.accuracy]:
            reason = f"it needs accuracy={row.accuracy_for(problem)!r}, the setting is {config.accuracy!r}"
        candidates.append(_timed(row, reason, problem, config, seconds.get(row.name), is_prepared=is_prepared))
    possible = [candidate for candidate in candidates if candidate.reason is None]
    if not possible:  # a family all of whose variants need a laxer setting: it was named, so the first that can is taken
        possible = [candidate for candidate in candidates if candidate.algorithm in allowed and candidate.predicted_s is not None]
    ranked = sorted(possible, key=_rank)
    # Where nothing fits, the best is taken for its making to say what it needs.
    best = next((candidate for candidate in ranked if _fits(candidate, problem, config)), ranked[0])
    ranked = [best, *(candidate for candidate in ranked if candidate is not best)]
    how = "cost model" if best.measured_s is None else "wisdom"
    source = how if name == "auto" else "argument" if backend is not None else "config"
    return Decision(best.algorithm, source, tuple(candidates), tuple(candidate.algorithm for candidate in ranked))


def _fits(candidate: Candidate, problem: ConvProblem, config: Config) -> bool:
    return workspace_nbytes(candidate.algorithm, problem, config.threads, config.max_workspace) is not None


def _rank(candidate: Candidate) -> tuple[bool, bool, float]:
    """Order candidates: measured ones first, by time; sorting is stable, so the table's order breaks ties.

    The reference comes last whatever is predicted: only a measurement, or that nothing else can, makes it the choice.
    """
    if candidate.measured_s is not None:
        return (False, False, candidate.measured_s)
    return (True, candidate.algorithm is TABLE[-1], candidate.predicted_s or 0.0)


def _timed(
    row: Algorithm, reason: str | None, problem: ConvProblem, config: Config, measured: float | None, *, is_prepared: bool
) -> Candidate:
    machine = current_machine(config.wisdom)
    computed = row.computed(problem)
    work = row.work(computed, machine)
    predicted = predicted_s(work, computed, machine, config.threads, is_prepared=is_prepared)
    if measured is not None and not is_prepared:
        measured += predicted - predicted_s(work, computed, machine, config.threads, is_prepared=True)
    return Candidate(row, reason, predicted, measured)


def prepare(decision: Decision, problem: ConvProblem, config: Config, w: Array, bias: Array | None) -> Plan:
    """Return a plan of the decided algorithm.

    Raises
    ------
    UnsupportedProblem
        If no allowed algorithm can work within the workspace; a backend that was named is not replaced.
    """
    return make_plan(decision.algorithm, problem, w, bias, threads=config.threads, max_workspace=config.max_workspace)
