"""Checking and timing the candidates of one case, alternately."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from fastconv._typing import Array
from fastconv.backends import make_plan
from fastconv.backends.base import Algorithm
from fastconv.cli.cases import Case
from fastconv.cli.console import duration
from fastconv.cli.oracle import Reference, judge
from fastconv.cli.peers.base import Peer
from fastconv.cli.results import CaseResult, Considered, Row
from fastconv.errors import FastconvError
from fastconv.planner import Decision, decide
from fastconv.problem import ConvProblem
from fastconv.settings import Config

#: A sample covers at least this time: calls that are shorter are repeated within one.
SHORTEST_SAMPLE_S = 50e-6
#: The candidates take turns so often, so that a drift of the clock meets them all alike.
ROUNDS = 5
LEAST_SAMPLES = 3
#: Before a contender's turn: idle threads of BLAS, OpenMP and other libraries' pools spin for a while after a call and would take the
#: core that it needs. The turn begins when the process used less than this share of a core for so long, at last after so many looks.
SETTLE_S, SETTLED_SHARE, MOST_LOOKS = 0.004, 0.1, 100
#: Calls that wake a contender's own threads and fill the caches before the clock counts.
WAKING_CALLS = 3
MOST_SAMPLES = 200
#: Digits of a sample that are kept: more than the clock is worth.
SAMPLE_DIGITS = 4
#: A library whose largest error is above this share of the largest result did not compute this convolution.
LARGEST_PEER_ERROR = 1e-2


@dataclass(frozen=True)
class Effort:
    """How long to take.

    Attributes
    ----------
    timing_s : float
        Time for the samples of one candidate on one case.
    scipy_s : float
        Time that scipy.signal may take to check one case; more than that is checked in part.
    slowest_call_s : float
        A backend that is not the automatic choice is skipped if the cost model predicts more than this for one call.
    compiling_s : float
        A backend is skipped if its kernels are not compiled after this time (all cores compile at once).
    """

    timing_s: float
    scipy_s: float
    slowest_call_s: float
    compiling_s: float


QUICK = Effort(timing_s=0.08, scipy_s=0.2, slowest_call_s=0.1, compiling_s=27.0)
FULL = Effort(timing_s=0.6, scipy_s=3.0, slowest_call_s=2.0, compiling_s=600.0)


def shape_words(p: ConvProblem) -> str:
    """Return a problem in words: "64 -> 64 channels, 3x3 on 56x56"."""
    words = "" if p.mb == 1 else f"{p.mb} x "
    if p.ic == p.oc == 1:
        words += f"1 plane of {p.ih}x{p.iw}, {p.kh}x{p.kw}"
    else:
        words += f"{p.ic} to {p.oc} channels of {p.ih}x{p.iw}, {p.kh}x{p.kw}"
    if p.is_depthwise:
        words += ", depthwise"
    elif p.g > 1:
        words += f", {p.g} groups"
    if (p.sh, p.sw) != (1, 1):
        words += f", stride {p.sh}" if p.sh == p.sw else f", stride {p.sh}x{p.sw}"
    if (p.dh, p.dw) != (1, 1):
        words += f", dilation {p.dh}" if p.dh == p.dw else f", dilation {p.dh}x{p.dw}"
    return words


def wanted(decision: Decision, backend: str | None) -> list[Algorithm]:
    """Return the algorithms of the table that can compute the problem: all, those of a name, or with "auto" the choice."""
    if backend == "auto":
        return [decision.algorithm]
    able = [c.algorithm for c in decision.candidates if c.predicted_s is not None]
    return able if backend is None else [a for a in able if backend in {a.name, a.family}]


def considered(decision: Decision) -> list[Considered]:
    """Return what the planner thought of each algorithm that could, and of each family that could not, in words of its first."""
    able = {c.algorithm.family for c in decision.candidates if c.predicted_s is not None}
    found: dict[str, Considered] = {}
    for c in decision.candidates:
        if c.predicted_s is not None:
            found[c.algorithm.name] = Considered(c.algorithm.name, c.predicted_s, c.measured_s, c.reason or "")
        elif c.algorithm.family not in able:
            found.setdefault(c.algorithm.family, Considered(c.algorithm.family, None, None, c.reason or ""))
    return list(found.values())


@dataclass
class Contender:
    """Something that convolves: called again and again on the same input."""

    row: Row
    call: Callable[[], Array]


def measure_case(
    case: Case,
    found: Reference,
    config: Config,
    backend: str | None,
    peers: list[Peer],
    effort: Effort,
    tick: Callable[[str], None],
    uncompiled: Collection[str] = (),
) -> tuple[CaseResult, Array | None]:
    """Check and time every candidate on one case.

    Parameters
    ----------
    case : Case
    found : Reference
        What scipy.signal makes of it.
    config : Config
        With the threads of each call.
    backend : str or None
        Only this family or variant; "auto": only what would be chosen.
    peers : list of Peer
        Other libraries to run beside the backends.
    effort : Effort
    tick : callable
        Called with a word before each of ``steps(...)`` steps.
    uncompiled : collection of str
        Algorithms whose kernels took too long to compile: they are skipped, but for the automatic choice.

    Returns
    -------
    CaseResult
    ndarray or None
        The result of the automatic choice if it was computed, else of the first candidate.
    """
    p = case.problem
    decision = decide(p, config, is_prepared=True)
    predicted = {c.algorithm: c.predicted_s or 0.0 for c in decision.candidates}
    result = CaseResult(
        case.name, case.group, case.title, str(p), shape_words(p), p.dtype, p.flops,
        decision.algorithm.name, found.scipy_s, found.selection.share, count=case.count, threads=config.threads,
        nbytes=sum(math.prod(shape) for shape in (p.x_shape, p.w_shape, p.out_shape)) * case.x.itemsize,
        decided_by=decision.source, considered=considered(decision),
    )  # fmt: skip
    contenders, picture = [], None
    for algorithm in wanted(decision, backend):
        tick(algorithm.name)
        row = Row(algorithm.name, "backend", "measured", rounding=algorithm.rounding)
        result.rows.append(row)
        if predicted[algorithm] > effort.slowest_call_s and algorithm is not decision.algorithm:
            row.status = "skipped"
            row.remark = f"a call would take {duration(predicted[algorithm])}, more than the limit of {duration(effort.slowest_call_s)}"
            continue
        if algorithm.name in uncompiled and algorithm is not decision.algorithm:
            row.status, row.remark = (
                "skipped",
                f"not compiled within {effort.compiling_s:.0f} s; the next run finds more",
            )
            continue
        contender, y = _prepared(case, algorithm, row, config, found)
        if y is not None and (picture is None or algorithm is decision.algorithm):
            picture = y
        if contender is not None:
            contenders.append(contender)
    for peer in peers:
        tick(peer.name)
        peer_row = Row(peer.name, "peer", "measured", remark=peer.version)
        contender = _prepared_peer(case, peer, peer_row, config.threads, found)
        if contender is not None or peer_row.status == "skipped":
            result.rows.append(peer_row)
        if contender is not None:
            contenders.append(contender)
    _take_turns(contenders, effort.timing_s, tick)
    return result, picture


def within_limit(case: Case, config: Config, backend: str | None, effort: Effort) -> list[Algorithm]:
    """Return the automatic choice, and the algorithms that are not too slow to wait for."""
    decision = decide(case.problem, config, is_prepared=True)
    predicted = {c.algorithm: c.predicted_s or 0.0 for c in decision.candidates}
    return [a for a in wanted(decision, backend) if a is decision.algorithm or predicted[a] <= effort.slowest_call_s]


def steps(case: Case, config: Config, backend: str | None, peers: list[Peer]) -> int:
    """Return how many times `measure_case` ticks."""
    decision = decide(case.problem, config, is_prepared=True)
    return len(wanted(decision, backend)) + len(peers) + ROUNDS


def _prepared(case: Case, algorithm: Algorithm, row: Row, config: Config, found: Reference) -> tuple[Contender | None, Array | None]:
    """Make the plan, run it once and check what comes out. What goes wrong is put down in the row."""
    try:
        plan = make_plan(algorithm, case.problem, case.w, None, threads=config.threads, max_workspace=config.max_workspace)
        y = plan(case.x)
    except FastconvError as error:
        row.status, row.remark = "skipped", str(error)
        return None, None
    except Exception as error:  # noqa: BLE001  a backend that breaks is a finding, which the run reports
        row.status, row.is_right, row.remark = "failed", False, f"{type(error).__name__}: {error}"
        return None, None
    verdict = judge(found, algorithm, case.x, case.w, y)
    row.is_right, row.error, row.bound_share = verdict.is_right, verdict.error, verdict.bound_share
    row.remark = plan.description
    if not verdict.is_right:
        row.status = "failed"
        row.remark = f"wrong result: the largest error is {verdict.bound_share:.3g} times what rounding can explain"
        return None, y
    return Contender(row, lambda: plan(case.x)), y


def _prepared_peer(case: Case, peer: Peer, row: Row, threads: int, found: Reference) -> Contender | None:
    """Return the contender of another library, None where it does not compute the case."""
    try:
        call = peer.prepare(case.problem, case.x, case.w, threads)
        if call is None:
            return None
        y = call()
    except Exception as error:  # noqa: BLE001  whatever another library raises, it is out of this case
        row.status, row.remark = "skipped", f"{type(error).__name__}: {error}"
        return None
    row.error = share = judge(found, None, case.x, case.w, y).error
    if not share <= LARGEST_PEER_ERROR:
        row.status, row.remark = "skipped", f"{row.remark}: its result is not this convolution (error {share:.2g})"
        return None
    return Contender(row, call)


def _take_turns(contenders: list[Contender], seconds: float, tick: Callable[[str], None]) -> None:
    """Fill the samples of all contenders in ROUNDS rounds; a slow one sits out once it has had its time."""
    spent = [0.0] * len(contenders)
    for turn in range(ROUNDS):
        tick(f"timing {turn + 1}/{ROUNDS}")
        for index, contender in enumerate(contenders):
            samples = contender.row.samples_s
            if spent[index] > seconds * (1 if len(samples) >= LEAST_SAMPLES else LEAST_SAMPLES):
                continue
            settle()
            started = time.perf_counter()
            waking = [_timed(contender.call, 1)]
            if waking[0] < seconds:
                waking += [_timed(contender.call, 1) for _ in range(WAKING_CALLS - 1)]
            first = min(waking)
            repeats = max(1, int(SHORTEST_SAMPLE_S / max(first, 1e-9)))
            count = min(int(seconds / ROUNDS / max(first * repeats, 1e-9)), MOST_SAMPLES // ROUNDS)
            # Waking calls count only where there is no time for others.
            samples += [_timed(contender.call, repeats) for _ in range(count)] or [first]
            spent[index] += time.perf_counter() - started


def settle() -> None:
    """Wait until the process is quiet: threads of earlier calls sleep."""
    for _ in range(MOST_LOOKS):
        used = time.process_time()
        time.sleep(SETTLE_S)
        if time.process_time() - used < SETTLED_SHARE * SETTLE_S:
            return


def _timed(call: Callable[[], Array], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return float(f"{(time.perf_counter() - start) / repeats:.{SAMPLE_DIGITS}g}")
