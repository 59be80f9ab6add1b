"""Print this machine's measured peaks: multiply-adds per second, and bytes per second from each level of memory.

python bench/peaks.py             every second, --seconds N times: how far the clock drifts
"""

from __future__ import annotations

import argparse
import time

from fastconv.cli.console import digits, memory, table
from fastconv.cli.environment import bandwidths, working_sets
from fastconv.kernels.peak import measured_peak
from fastconv.machine import usable_cores


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="how long to watch the clock (default: 5)")
    options = parser.parse_args()
    counts = sorted({1, usable_cores()})
    looks: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.seconds):
        for dtype in ("float32", "float64"):
            for threads in counts:
                looks.setdefault((dtype, threads), []).append(measured_peak(dtype, threads) / 1e9)
        time.sleep(1 - 0.05 * 2 * len(counts))
    rows = [(dtype, str(threads), digits(max(found)), digits(min(found))) for (dtype, threads), found in looks.items()]
    print("multiply-add peak, GFLOP/s")
    print(table(("", "threads", f"highest of {options.seconds}", "lowest"), rows))
    print("bytes read and written by a copy, GB/s")
    found = {threads: bandwidths(threads) for threads in counts}
    rows = [(level, memory(nbytes), *(digits(found[threads][level]) for threads in counts)) for level, nbytes in working_sets(1).items()]
    print(table(("", "within", *(f"{threads} thread{'s' * (threads > 1)}" for threads in counts)), rows))


if __name__ == "__main__":
    main()
