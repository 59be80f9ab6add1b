"""How long the idle threads of each library spin after a call: ``python bench/spinning.py``.

What `fastconv.cli.measure.settle` waits for before each turn, so that no library's idle threads take a core from the next.
"""

from __future__ import annotations

import time

import numpy as np

from fastconv.backends import make_plan
from fastconv.cli.cases import find_layer, layer_case
from fastconv.cli.console import table
from fastconv.cli.measure import settle
from fastconv.cli.peers import installed_peers
from fastconv.machine import usable_cores
from fastconv.planner import decide
from fastconv.settings import config

LAYERS = ("r50_3x3_64-64@56", "img512_5x5_f32")
WATCHED_S = 0.25


def main() -> None:
    """Print, per library and layer, the processor time that the process uses while it should be idle, and how long `settle` waits."""
    threads = usable_cores()
    rows = []
    for name in LAYERS:
        layer = find_layer(name)
        if layer is None:
            raise ValueError(name)
        case = layer_case("", layer)
        decision = decide(case.problem, config(threads=threads), is_prepared=True)
        plan = make_plan(decision.algorithm, case.problem, case.w, None, threads=threads, max_workspace=None)
        calls = [("fastconv", lambda plan=plan, x=case.x: plan(x))]
        calls += [(peer.name, peer.prepare(case.problem, case.x, case.w, threads)) for peer in installed_peers()]
        for label, call in calls:
            if call is None:
                continue
            used, waited = [], []
            for _ in range(5):
                for _ in range(5):
                    call()
                before = time.process_time()
                time.sleep(WATCHED_S)
                used.append(time.process_time() - before)
                call()
                before = time.perf_counter()
                settle()
                waited.append(time.perf_counter() - before)
            rows.append((label, name, f"{1e3 * np.median(used):.1f}", f"{1e3 * np.median(waited):.0f}"))
    print(table(("", "after", f"processor ms in {1e3 * WATCHED_S:.0f} idle ms", "ms until settled"), rows, left=(0, 1)))


if __name__ == "__main__":
    main()
