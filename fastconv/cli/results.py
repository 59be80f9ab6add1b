"""What a benchmark run found, as plain values that become JSON and come back."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.cli.console import CliError, digits

#: Raised when the fields change their meaning.
FORMAT = 2
#: Below this share of the highest peak with several threads, they count as having shared a core.
SHARED = 0.6


@dataclass
class Row:
    """One backend, or one other library, on one case.

    Attributes
    ----------
    name : str
        Full name of the backend, or the library.
    kind : {"backend", "peer"}
    status : {"measured", "skipped", "failed", "unsupported"}
        "failed" if it raised or its result is wrong.
    remark : str
        Why it was skipped or failed; what its plan decided.
    samples_s : list of float
        Seconds per call, in the order measured.
    is_right : bool or None
        The verdict of the check; None if there was none.
    error, bound_share : float or None
        Largest error as a share of the largest result, and of its own bound.
    rounding : str
        Error class of a backend.
    """

    name: str
    kind: str
    status: str
    remark: str = ""
    samples_s: list[float] = field(default_factory=list)
    is_right: bool | None = None
    error: float | None = None
    bound_share: float | None = None
    rounding: str = ""

    @property
    def median_s(self) -> float:
        """Median seconds per call; infinite without samples."""
        return float(np.median(self.samples_s)) if self.samples_s else math.inf

    @property
    def spread_s(self) -> float:
        """Half the interquartile range of the samples."""
        if len(self.samples_s) < 2:
            return 0.0
        low, high = np.percentile(self.samples_s, (25, 75))
        return float(high - low) / 2


@dataclass(frozen=True)
class Considered:
    """What the planner thought of one algorithm, or of a whole family that cannot compute the case.

    Attributes
    ----------
    name : str
    predicted_s, measured_s : float or None
        The cost model's time of a call, and that of wisdom.
    reason : str
        Why it is out, if it is.
    """

    name: str
    predicted_s: float | None
    measured_s: float | None
    reason: str


@dataclass
class CaseResult:
    """All rows of one case with one number of threads.

    Attributes
    ----------
    name, group, title, problem : str
        As in `fastconv.cli.cases.Case`; the problem as its string.
    shape : str
        The problem in words.
    dtype : str
    flops : int
        Floating-point operations of the definition.
    chosen : str
        What backend="auto" chooses.
    scipy_s : float
        Seconds of scipy.signal.correlate2d for the whole case.
    checked_share : float
        Share of the outputs that were compared, and that scipy was timed on.
    rows : list of Row
    count : int
        How often the layer occurs in its network.
    threads : int
        Threads of each call.
    nbytes : int
        Size of source, weights and result: what has to be moved at least.
    decided_by : str
        What chose: the cost model, wisdom, a setting.
    considered : list of Considered
        Every algorithm that could, and the families that could not.
    """

    name: str
    group: str
    title: str
    problem: str
    shape: str
    dtype: str
    flops: int
    chosen: str
    scipy_s: float
    checked_share: float
    rows: list[Row] = field(default_factory=list)
    count: int = 1
    threads: int = 1
    nbytes: int = 0
    decided_by: str = ""
    considered: list[Considered] = field(default_factory=list)

    def measured(self, kind: str = "backend") -> list[Row]:
        """Return the measured rows of a kind, fastest first."""
        return sorted((row for row in self.rows if row.kind == kind and row.status == "measured"), key=lambda row: row.median_s)

    @property
    def best_peer(self) -> Row | None:
        """The fastest other library, None if none was measured."""
        return next(iter(self.measured("peer")), None)

    @property
    def over_best_peer(self) -> float | None:
        """How many times as fast as the best other library the automatic choice is; None if either was not measured."""
        row, peer = self.choice, self.best_peer
        return None if row is None or peer is None else peer.median_s / row.median_s

    @property
    def choice(self) -> Row | None:
        """The row of the automatic choice, None if it was not measured."""
        return next((row for row in self.measured() if row.name == self.chosen), None)

    def gflops(self, row: Row) -> float:
        """Return effective GFLOP/s: the definition's flops by the median time."""
        return self.flops / row.median_s / 1e9

    def speedup(self, row: Row) -> float:
        """Return how many times faster than scipy.signal.correlate2d."""
        return self.scipy_s / row.median_s


@dataclass(frozen=True)
class Total:
    """All convolution layers of one network.

    Attributes
    ----------
    title : str
    layers : int
        Layers, repeated ones counted as often as they occur.
    flops : int
    seconds : dict of str to float
        "fastconv" (the automatic choice), each library that computed every layer, and "scipy.signal" -> seconds for one picture.
    """

    title: str
    layers: int
    flops: int
    seconds: dict[str, float]


@dataclass
class Run:
    """A whole benchmark run.

    Attributes
    ----------
    command, date : str
        The command line, and the time it started (UTC, ISO 8601).
    is_quick : bool
    threads : int
        Threads that headings speak of: the highest number of the run.
    machine : dict
        See `fastconv.cli.environment.machine`.
    versions : dict of str to str
    commit : str or None
    peak_looks : dict of str to list of float
        "dtype, threads" -> GFLOP/s of the multiply-add peak, measured at the start and after each case: the clock drifts.
    settings : dict
        The settings in force, without the threads.
    seconds : float
        How long the run took.
    cases : list of CaseResult
    networks : list of str
        Titles of the groups that are whole networks.
    """

    command: str
    date: str
    is_quick: bool
    threads: int
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    peak_looks: dict[str, list[float]]
    settings: dict[str, Any]
    seconds: float = 0.0
    cases: list[CaseResult] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the cases, as far as the peak is known."""
        return list(dict.fromkeys(key.partition(",")[0] for key in self.peak_looks))

    def look(self, dtype: str, threads: int, gflops: float) -> None:
        """Put down one measurement of the peak."""
        self.peak_looks.setdefault(f"{dtype}, {threads}", []).append(gflops)

    def looks(self, dtype: str, threads: int | None = None) -> list[float]:
        """Return the measurements of the peak, in GFLOP/s."""
        return self.peak_looks.get(f"{dtype}, {self.threads if threads is None else threads}", [])

    def peak(self, dtype: str, threads: int | None = None) -> float:
        """Return the highest peak that was seen in the run, in GFLOP/s: shares of it are never too high."""
        return max(self.looks(dtype, threads))

    def peak_share(self, case: CaseResult, row: Row) -> float:
        """Return effective GFLOP/s as a share of the peak of the case's dtype and threads."""
        return case.gflops(row) / self.peak(case.dtype, case.threads)

    def scipy_share(self, case: CaseResult) -> float:
        """Return the same of scipy.signal."""
        return case.flops / case.scipy_s / 1e9 / self.peak(case.dtype, case.threads)

    @property
    def counts(self) -> list[int]:
        """The numbers of threads of the run, the lowest first."""
        return sorted({case.threads for case in self.cases}) or [self.threads]

    def at(self, threads: int) -> Run:
        """Return the part of the run with that number of threads."""
        return replace(self, threads=threads, cases=[case for case in self.cases if case.threads == threads])

    def pairs(self, few: int, many: int) -> list[tuple[CaseResult, CaseResult]]:
        """Return each case with few threads beside the same with many."""
        found = {case.problem: case for case in self.cases if case.threads == few}
        return [(found[case.problem], case) for case in self.cases if case.threads == many and case.problem in found]

    @property
    def wrong(self) -> list[tuple[CaseResult, Row]]:
        """Every row that failed."""
        return [(case, row) for case in self.cases for row in case.rows if row.status == "failed"]

    @property
    def checks(self) -> int:
        """Number of backend results that were compared."""
        return sum(row.kind == "backend" and row.is_right is not None for case in self.cases for row in case.rows)

    def groups(self) -> list[tuple[str, list[CaseResult]]]:
        """Return (heading, cases) in the order measured."""
        found: dict[str, list[CaseResult]] = {}
        for case in self.cases:
            found.setdefault(case.title, []).append(case)
        return list(found.items())

    def totals(self) -> list[Total]:
        """Return the totals of the whole networks of the run, with its highest number of threads."""
        found = []
        for title, cases in self.at(self.threads).groups():
            if title not in self.networks:
                continue
            seconds = {"scipy.signal": sum(case.count * case.scipy_s for case in cases)}
            chosen = [case.choice for case in cases]
            if all(chosen):
                seconds["fastconv"] = sum(case.count * row.median_s for case, row in zip(cases, chosen, strict=True) if row)
            for name in dict.fromkeys(row.name for case in cases for row in case.measured("peer")):
                rows = [row for case in cases for row in case.measured("peer") if row.name == name]
                if len(rows) == len(cases):
                    seconds[name] = sum(case.count * row.median_s for case, row in zip(cases, rows, strict=True))
            flops = sum(case.count * case.flops for case in cases)
            found.append(Total(title, sum(case.count for case in cases), flops, dict(sorted(seconds.items(), key=lambda pair: pair[1]))))
        return found

    def _repr_html_(self) -> str:
        """Return the automatic choice on each case, beside the best other library, as a notebook shows it."""
        rows = []
        for case in self.cases:
            row, peer = case.choice, case.best_peer
            cells = [case.name, case.chosen, str(case.threads)]
            if row is None:
                cells += [""] * 4
            else:
                cells += [
                    digits(row.median_s * 1e3),
                    digits(case.gflops(row)),
                    f"{100 * self.peak_share(case, row):.0f}",
                    digits(case.speedup(row)),
                ]
            cells += ["", ""] if row is None or peer is None else [digits(peer.median_s / row.median_s), peer.name]
            rows.append(cells)
        columns = ("case", "chosen", "threads", "ms", "GFLOP/s", "% of peak", "x scipy", "x the best", "other library")
        words = {0, 1, len(columns) - 1}

        def line(tag: str, cells: Iterable[str]) -> str:
            styles = (f'<{tag} style="text-align:{"left" if i in words else "right"}">' for i in range(len(columns)))
            return "<tr>" + "".join(f"{style}{html.escape(cell)}</{tag}>" for style, cell in zip(styles, cells, strict=True)) + "</tr>"

        title = f"fastconv {self.versions['fastconv']} on {self.machine['cpu']}"
        body = "".join(line("td", cells) for cells in rows)
        return f"<p>{html.escape(title)}</p><table><thead>{line('th', columns)}</thead><tbody>{body}</tbody></table>"

    def to_json(self) -> str:
        """Return the run as JSON, with the derived figures beside the raw samples."""
        content = asdict(self)
        content["format"] = FORMAT
        content["peak_gflops"] = {key: max(looks) for key, looks in self.peak_looks.items()}
        for case, shown in zip(self.cases, content["cases"], strict=True):
            for row, cells in zip(case.rows, shown["rows"], strict=True):
                if row.samples_s:
                    cells["median_s"] = row.median_s
                    cells["spread_s"] = row.spread_s
                    cells["gflops"] = case.gflops(row)
                    cells["peak_share"] = self.peak_share(case, row)
                    cells["speedup_over_scipy"] = case.speedup(row)
        text = json.dumps(_finite(content), indent=1, allow_nan=False)
        # A list of numbers on one line, as a person would write it.
        return re.sub(r"\[[-+\d.,eE\s]+\]", lambda match: " ".join(match[0].split()), text) + "\n"

    @classmethod
    def from_json(cls, path: Path) -> Run:
        """Read a result file.

        Raises
        ------
        CliError
            If it cannot be read or is no result file of this format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise CliError(f"{path}: it is a result file of another format than {FORMAT}.")
            del content["peak_gflops"]
            cases = []
            for shown in content.pop("cases"):
                rows = [Row(**{name: cells[name] for name in Row.__dataclass_fields__}) for cells in shown.pop("rows")]
                considered = [Considered(**item) for item in shown.pop("considered")]
                cases.append(CaseResult(**shown, rows=rows, considered=considered))
            return cls(**content, cases=cases)
        except OSError as error:
            raise CliError(f"{path}: cannot be read: {error.strerror}.") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CliError(f"{path}: it is not a result file of fastconv bench.") from None


def _finite(value: Any) -> Any:
    """Return `value` with None for what JSON cannot say."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean, 0 of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0
