"""`Explanation`: the planner's decision as a table that people read."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastconv.backends import workspace_nbytes
from fastconv.backends.base import Algorithm, workspace_limit
from fastconv.calibration import current_machine
from fastconv.planner import Decision, decide
from fastconv.problem import ConvProblem
from fastconv.settings import Config

_COLUMNS = ("backend", "", "predicted", "measured", "GFLOP", "MB moved", "MB workspace", "error bound", "errors", "remark")
_NUMBERS = range(2, 8)
#: Outputs along each axis that `typical_bound` looks at: a tile of Winograd's has at most 6.
FEW_OUTPUTS = 7


@dataclass(frozen=True)
class Explanation:
    """What was chosen for a problem, and why; prints as a table, in a notebook as HTML.

    Attributes
    ----------
    problem : ConvProblem
    decision : Decision
        The chosen algorithm, the source that decided, and every candidate.
    rows : tuple of tuple of str
        The table's cells: backend, mark, predicted and measured time, flops, bytes moved, workspace, the bound on the error
        relative to ``sum |x||w|`` (see `typical_bound`), error class, remark.
    """

    problem: ConvProblem
    decision: Decision
    rows: tuple[tuple[str, ...], ...]

    @property
    def chosen(self) -> str:
        """Name of the chosen algorithm."""
        return self.decision.algorithm.name

    def __str__(self) -> str:
        widths = [max(len(row[i]) for row in (_COLUMNS, *self.rows)) for i in range(len(_COLUMNS))]
        lines = [f"{self.problem}", f"chosen: {self.chosen} (by {self.decision.source})", ""]
        for row in (_COLUMNS, *self.rows):
            padded = zip(range(len(widths)), row, widths, strict=True)
            cells = [cell.rjust(width) if i in _NUMBERS else cell.ljust(width) for i, cell, width in padded]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = ""
        for row in self.rows:
            style = ' style="font-weight:bold"' if row[0] == self.chosen else ' style="opacity:0.6"' if row[-1].startswith("no: ") else ""
            body += f"<tr{style}>{_cells('td', row)}</tr>"
        title = f"<p><code>{html.escape(str(self.problem))}</code><br>chosen: <b>{self.chosen}</b> (by {self.decision.source})</p>"
        return f"{title}<table><thead><tr>{_cells('th', _COLUMNS)}</tr></thead><tbody>{body}</tbody></table>"


def _cells(tag: str, cells: Sequence[str]) -> str:
    sides = ("right" if column in _NUMBERS else "left" for column in range(len(cells)))
    return "".join(f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>' for side, cell in zip(sides, cells, strict=True))


def explained(problem: ConvProblem, config: Config, backend: str | None = None, *, is_prepared: bool = True) -> Explanation:
    """Return the explanation of `decide` for the same arguments."""
    decision = decide(problem, config, backend, is_prepared=is_prepared)
    machine = current_machine(config.wisdom)
    rows = []
    for candidate in decision.candidates:
        algorithm = candidate.algorithm
        mark = "<-" if algorithm is decision.algorithm else ""
        if candidate.predicted_s is None:
            rows.append((algorithm.name, mark, "", "", "", "", "", "", algorithm.rounding, f"no: {candidate.reason}"))
            continue
        work = algorithm.work(algorithm.computed(problem), machine)
        workspace = workspace_nbytes(algorithm, problem, config.threads, config.max_workspace)
        reason = candidate.reason
        if reason is None and workspace is None:
            reason = f"it does not fit into the workspace, {workspace_limit(problem, config.max_workspace)} bytes"
        numbers = (
            _duration(candidate.predicted_s), _duration(candidate.measured_s), f"{work.flops / 1e9:.3g}", f"{work.nbytes / 1e6:.3g}",
            "" if workspace is None else f"{workspace / 1e6:.3g}", f"{typical_bound(algorithm, problem):.1e}",
        )  # fmt: skip
        rows.append(
            (
                algorithm.name,
                mark,
                *numbers,
                algorithm.rounding,
                f"no: {reason}" if reason else algorithm.remark(algorithm.computed(problem)),
            )
        )
    return Explanation(problem, decision, tuple(rows))


@functools.lru_cache(maxsize=1024)
def typical_bound(algorithm: Algorithm, problem: ConvProblem) -> float:
    """Return the bound on the error relative to sum |x||w|, for x and w uniform in (-1, 1).

    It is the largest of `Algorithm.error_bound` over one output channel; of an image cut down to a few tiles, unless
    the error depends on the norm of the whole image. The sum is taken as its mean, a quarter of the number of products.
    """
    p = algorithm.computed(problem)
    if p.is_integer:
        return 0.0
    p = p.replace(
        mb=1, g=1, ic=p.ic // p.g, oc=1, ph_lo=0, ph_hi=0, pw_lo=0, pw_hi=0, padding_mode="zeros", padding_value=0,
        ih=max(p.ih, p.dh * (p.kh - 1) + 1), iw=max(p.iw, p.dw * (p.kw - 1) + 1),
        has_bias=False, has_residual=False, activation=None,
    )  # fmt: skip
    if algorithm.rounding != "normwise":
        p = p.replace(ih=min(p.ih, p.dh * (p.kh - 1) + 1 + FEW_OUTPUTS * p.sh), iw=min(p.iw, p.dw * (p.kw - 1) + 1 + FEW_OUTPUTS * p.sw))
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(-1, 1, shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    return float(algorithm.error_bound(p, x, w).max()) / (p.reduction / 4)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
