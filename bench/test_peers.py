"""Other libraries, and fastconv's automatic choice beside them, on every layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv import planner
from fastconv.cli.cases import Case
from fastconv.cli.peers import PEERS, Peer
from fastconv.settings import config


@pytest.mark.parametrize("peer", [None, *PEERS], ids=lambda peer: "fastconv" if peer is None else peer.name)
def test_peer(benchmark: Any, record: Any, case: Case, peer: Peer | None, threads: int) -> None:
    settings = config(threads=threads)
    plan = planner.prepare(planner.decide(case.problem, settings, is_prepared=True), case.problem, settings, case.w, None)
    if peer is None:
        record(case, plan.backend, threads)
        benchmark(plan, case.x)
        return
    if not peer.is_installed:
        pytest.skip(f"{peer.package} is not installed")
    call = peer.prepare(case.problem, case.x, case.w, threads)
    if call is None:
        pytest.skip(f"{peer.name} does not compute this problem")
    record(case, f"{peer.name} {peer.version}", threads)
    y = benchmark(call)
    np.testing.assert_allclose(y, plan(case.x), rtol=0, atol=1e-3 * float(np.abs(y).max()))
