"""The cost model: counted work and rates of the machine give a predicted time."""

from __future__ import annotations

from fastconv.backends.base import Work
from fastconv.machine import COPY_NBYTES, Machine
from fastconv.problem import ConvProblem

#: Sizes at which the bandwidth is measured that lie beyond a core's own caches.
SHARED_NBYTES = [COPY_NBYTES[name] for name in ("cache_bandwidth", "far_bandwidth", "bandwidth")]
#: Share of a stream that is waited for however long the arithmetic takes. Measured: bench/winograd_layers.py.
STREAM_SHOWN = 0.25


def predicted_s(work: Work, problem: ConvProblem, machine: Machine, threads: int, *, is_prepared: bool) -> float:
    """Return the predicted seconds of one call.

    Arithmetic and memory traffic beyond what hides behind it add up; both divide over the threads that the
    work can use, traffic as far as the cores do not share what it comes from. It runs at the bandwidth of arrays as large as
    source, weights and result together, met again and again. A one-shot call also packs or transforms the weights, on one thread.
    """
    share = max(1, min(threads, machine.cores, work.parallelism))
    bandwidth = machine.bandwidth_within(problem.x_nbytes + problem.w_nbytes + problem.out_nbytes, share)
    computing = work.flops / machine.peak(problem.dtype) / share
    seconds = computing + work.nbytes / bandwidth + work.calls * machine.call_s
    if work.streamed_nbytes:
        # A stream read once a call throws itself out of a cache that it exceeds: there is no rate between.
        level = next((size for size in SHARED_NBYTES if work.streamed_nbytes <= size), SHARED_NBYTES[-1])
        reading = work.streamed_nbytes / machine.bandwidth_within(level, share)
        seconds += max(STREAM_SHOWN * reading, reading - computing)
    if not is_prepared:
        seconds += work.setup_flops / machine.peak(problem.dtype) + work.setup_nbytes / machine.bandwidth_within(2 * work.setup_nbytes)
    return seconds
