"""``fastconv bench compare A.json B.json``: what became slower or faster between two runs, beyond noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fastconv.cli.console import digits, say, table, thread_words
from fastconv.cli.results import Row, Run, geometric_mean

#: A change below this share is never reported: machines drift that much between two runs.
SMALLEST_CHANGE = 0.05
#: Standard deviations of the samples of both runs, together, that a change has to exceed.
DEVIATIONS = 3.0
#: Half an interquartile range of a normal distribution, in standard deviations.
HALF_RANGE = 0.6745


@dataclass(frozen=True)
class Change:
    """One backend or library on one case in both runs.

    Attributes
    ----------
    case : str
    threads : int
    name : str
    before_s, after_s : float
        Median seconds per call.
    noise : float
        Share by which the times may differ for no reason.
    """

    case: str
    threads: int
    name: str
    before_s: float
    after_s: float
    noise: float

    @property
    def ratio(self) -> float:
        """Time after by time before: above 1 is slower."""
        return self.after_s / self.before_s

    @property
    def is_beyond_noise(self) -> bool:
        """Whether the times differ by more than the noise, in either direction."""
        return abs(math.log(self.ratio)) > math.log1p(self.noise)


def changes(before: Run, after: Run) -> list[Change]:
    """Return what was measured in both runs, the most slowed down first."""
    earlier = {(case.problem, case.threads, row.name): row for case in before.cases for row in case.rows if row.status == "measured"}
    found = []
    for case in after.cases:
        for row in case.rows:
            old = earlier.get((case.problem, case.threads, row.name))
            if old is not None and row.status == "measured":
                found.append(Change(case.name, case.threads, row.name, old.median_s, row.median_s, _noise(old, row)))
    return sorted(found, key=lambda change: -change.ratio)


def _noise(*rows: Row) -> float:
    deviation = math.hypot(*(row.spread_s / HALF_RANGE / row.median_s for row in rows))
    return max(SMALLEST_CHANGE, DEVIATIONS * deviation)


def differences(before: Run, after: Run) -> list[str]:
    """Return in words why the two runs may not be comparable."""
    found = [
        f"{what}: {old} before, {new} after"
        for what, old, new in (
            ("processor", before.machine.get("cpu"), after.machine.get("cpu")),
            ("threads", before.counts, after.counts),
            *((name, before.settings.get(name), after.settings.get(name)) for name in sorted({*before.settings, *after.settings})),
        )
        if old != new
    ]
    for key in sorted(before.peak_looks.keys() & after.peak_looks.keys()):
        old, new = max(before.peak_looks[key]), max(after.peak_looks[key])
        if abs(math.log(new / old)) > math.log1p(SMALLEST_CHANGE):
            dtype, _, count = key.partition(", ")
            words = f"its {dtype} peak with {thread_words(int(count))} was {digits(old)} GFLOP/s before, {digits(new)} after"
            found.append(f"the machine itself: {words}")
    return found


def new_choices(before: Run, after: Run) -> list[str]:
    """Return the cases whose automatic choice is another one."""
    earlier = {(case.problem, case.threads): case.chosen for case in before.cases}
    return [
        f"{case.name}, {thread_words(case.threads)}: {earlier[case.problem, case.threads]} -> {case.chosen}"
        for case in after.cases
        if earlier.get((case.problem, case.threads), case.chosen) != case.chosen
    ]


def compare(before_path: Path, after_path: Path) -> int:
    """Print what changed; return 1 if a backend became slower beyond noise, or wrong, else 0."""
    before, after = Run.from_json(before_path), Run.from_json(after_path)
    found = changes(before, after)
    for line in differences(before, after):
        say(f"not the same in both runs: {line}")
    beyond = [change for change in found if change.is_beyond_noise]
    if beyond:
        rows = [
            (
                c.case,
                c.name,
                str(c.threads),
                digits(c.before_s * 1e3),
                digits(c.after_s * 1e3),
                f"{100 * (c.ratio - 1):+.0f} %",
                f"{100 * c.noise:.0f} %",
            )
            for c in beyond
        ]
        say(table(("case", "", "threads", "ms before", "ms after", "time", "noise"), rows, left=(0, 1)))
    for line in new_choices(before, after):
        say(f"chosen now: {line}")
    for case, row in after.wrong:
        say(f"FAILED: {row.name} on {case.name}: {row.remark}")
    peers = {row.name for case in after.cases for row in case.rows if row.kind == "peer"}
    slower = [change for change in beyond if change.ratio > 1 and change.name not in peers]
    if found:
        mean = geometric_mean(change.ratio for change in found if change.name not in peers)
        faster = sum(change.ratio < 1 for change in beyond)
        say(
            f"{len(found)} times compared: {sum(change.ratio > 1 for change in beyond)} slower and {faster} faster beyond noise; "
            f"fastconv takes {digits(mean)} of the time (geometric mean)."
        )
    else:
        say("the two runs have no measurement in common.")
    return 1 if slower or after.wrong else 0
