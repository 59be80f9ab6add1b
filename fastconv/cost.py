"""The cost model: counted work and rates of the machine give a predicted time."""

from __future__ import annotations

from fastconv.backends.base import Work
from fastconv.machine import Machine
from fastconv.problem import ConvProblem


def predicted_s(work: Work, problem: ConvProblem, machine: Machine, threads: int, *, is_prepared: bool) -> float:
    """Return the predicted seconds of one call.

    Arithmetic and memory traffic beyond what hides behind it add up; both divide over the threads that the
    work can use. The traffic runs at the bandwidth of arrays as large as source, weights and result together, met
    again and again. A one-shot call also packs or transforms the weights, on one thread.
    """
    bandwidth = machine.bandwidth_within(problem.x_nbytes + problem.w_nbytes + problem.out_nbytes)
    share = max(1, min(threads, machine.cores, work.parallelism))
    seconds = (work.flops / machine.peak(problem.dtype) + work.nbytes / bandwidth) / share + work.calls * machine.call_s
    if not is_prepared:
        seconds += work.setup_flops / machine.peak(problem.dtype) + work.setup_nbytes / machine.bandwidth_within(2 * work.setup_nbytes)
    return seconds
