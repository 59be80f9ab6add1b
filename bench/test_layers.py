"""Every backend of the table on every layer, weights packed outside the timer."""

from __future__ import annotations

from typing import Any

import pytest

from fastconv.backends import TABLE, make_plan
from fastconv.backends.base import Algorithm
from fastconv.cli.cases import Case
from fastconv.cli.oracle import judge, reference
from fastconv.planner import decide
from fastconv.settings import config

#: A candidate is skipped if the cost model predicts more than this for one call.
SLOWEST_CALL_S = 0.5


@pytest.mark.parametrize("algorithm", TABLE, ids=lambda algorithm: algorithm.name)
def test_layer(benchmark: Any, record: Any, case: Case, algorithm: Algorithm, threads: int) -> None:
    decision = decide(case.problem, config(threads=threads), is_prepared=True)
    predicted = next(c.predicted_s for c in decision.candidates if c.algorithm is algorithm)
    if predicted is None:
        pytest.skip("the backend does not compute this problem")
    if predicted > SLOWEST_CALL_S:
        pytest.skip(f"the cost model predicts {predicted:.2g} s a call")
    plan = make_plan(algorithm, case.problem, case.w, None, threads=threads, max_workspace=None)
    record(case, algorithm.name, threads)
    y = benchmark(plan, case.x)
    assert judge(reference(case.problem, case.x, case.w, 0.5), algorithm, case.x, case.w, y).is_right
