"""Scratch memory that is kept between calls: taken, given back, bounded, whoever calls at the same time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastconv.backends import TABLE
from fastconv.problem import ConvProblem
from fastconv.scratch import KEPT_NBYTES, SCRATCH, Scratch
from oracle import Array

BY_NAME = {algorithm.name: algorithm for algorithm in TABLE}
#: A problem for each algorithm that keeps its scratch memory.
PROBLEMS = {
    "fft:plane": ConvProblem(2, 1, 2, 60, 70, 2, 9, 9),
    "fft:tiles": ConvProblem(1, 1, 3, 60, 70, 2, 9, 9),
    "winograd:f4x3": ConvProblem(1, 1, 40, 30, 31, 33, 3, 3, ph_lo=1, pw_hi=1),
    "direct:dense": ConvProblem(1, 1, 40, 30, 31, 33, 3, 3, ph_lo=1, pw_hi=1),
}


def arrays(p: ConvProblem) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    return rng.standard_normal(p.x_shape, np.float32), rng.standard_normal(p.w_shape, np.float32)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PROBLEMS)
def test_scratch_memory_is_kept_for_the_next_call(name: str, threads: int) -> None:
    p = PROBLEMS[name]
    x, w = arrays(p)
    plan = BY_NAME[name].make_plan(p, w, threads=threads)
    first = plan(x)
    waiting = SCRATCH.nbytes
    assert 0 < waiting <= KEPT_NBYTES
    assert plan(x).tobytes() == first.tobytes()
    assert SCRATCH.nbytes == waiting


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_scratch_memory_holds_is_not_in_the_result(name: str) -> None:
    p = PROBLEMS[name]
    x, w = arrays(p)
    plan = BY_NAME[name].make_plan(p, w)
    first = plan(x)
    taken = [SCRATCH.take(plan.workspace_nbytes) for _ in range(4)]
    for buffer, _ in taken:
        buffer[...] = 255  # as floats: not a number
        SCRATCH.give(buffer)
    assert plan(x).tobytes() == first.tobytes()


def test_calls_at_the_same_time_have_memory_of_their_own() -> None:
    x, w = arrays(PROBLEMS["winograd:f4x3"])
    plan = BY_NAME["winograd:f4x3"].make_plan(PROBLEMS["winograd:f4x3"], w)
    first = plan(x).tobytes()
    wrong = []

    def calls() -> None:
        wrong.extend(i for i in range(50) if plan(x).tobytes() != first)

    callers = [threading.Thread(target=calls) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_the_last_buffer_goes_first_and_too_many_bytes_are_released() -> None:
    scratch = Scratch(limit_nbytes=1000)
    (one, at), (two, _) = scratch.take(300), scratch.take(400)
    assert at % 64 == 0
    scratch.give(one)
    scratch.give(two)
    assert scratch.nbytes == one.nbytes + two.nbytes
    scratch.give(np.empty(300, np.uint8))
    assert scratch.nbytes == one.nbytes + two.nbytes
    assert scratch.take(350)[0] is two
    assert scratch.take(301)[0] is not one
    assert scratch.nbytes == 0
