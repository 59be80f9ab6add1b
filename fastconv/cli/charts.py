"""Charts as SVG that flows: positions across are percentages, so that a phone shows the same letters as a screen."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastconv.cli.console import digits

LINE_HEIGHT = 16
TRACK_HEIGHT = 12


@dataclass(frozen=True)
class Mark:
    """A point in a row of a dot plot.

    Attributes
    ----------
    value : float
    colour : str
        A class of the style sheet: c0 to c5, "cp" for other libraries, "cs" for scipy.
    words : str
        Shown when the pointer rests on it.
    shape : {"dot", "square", "cross"}
    is_hollow : bool
        Whether it stands for fewer multiplications than the definition's.
    is_chosen : bool
        Whether it gets a ring.
    """

    value: float
    colour: str
    words: str
    shape: str = "dot"
    is_hollow: bool = False
    is_chosen: bool = False


@dataclass(frozen=True)
class Track:
    """A row of a chart: words on the left and right above, marks or a bar below."""

    left: str
    right: str
    marks: tuple[Mark, ...]


class Scale:
    """A logarithmic axis from 0 to 100 percent of the width.

    Parameters
    ----------
    low, high : float
        Values at the ends.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low, self._span = math.log(low), math.log(high) - math.log(low)
        self.ticks = [10.0**k for k in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]

    def __call__(self, value: float) -> float:
        """Return the percentage of the width, held inside."""
        return min(100.0, max(0.0, 100 * (math.log(value) - self._low) / self._span))


def _escaped(text: str) -> str:
    return html.escape(text)


def symbol(mark: Mark, x: str, y: float) -> str:
    """Return one mark centred at (x, y)."""
    look = f"{mark.colour} {'hollow' if mark.is_hollow else 'full'}"
    title = f"<title>{_escaped(mark.words)}</title>" if mark.words else ""
    if mark.shape == "square":
        body = f'<svg x="{x}" y="{y}" overflow="visible"><rect class="{look}" x="-4.5" y="-4.5" width="9" height="9">{title}</rect></svg>'
    elif mark.shape == "cross":
        body = (
            f'<svg x="{x}" y="{y}" overflow="visible"><path class="{mark.colour}" d="M-4-4L4 4M-4 4L4-4" fill="none" '
            f'stroke="var(--c)" stroke-width="2">{title}</path></svg>'
        )
    else:
        body = f'<circle class="{look}" cx="{x}" cy="{y}" r="5">{title}</circle>'
    if mark.is_chosen:
        body = f'<circle class="ring" cx="{x}" cy="{y}" r="8.5"/>' + body
    return body


def _grid(scale: Scale, labels: Sequence[str], top: float, bottom: float) -> list[str]:
    parts = []
    for tick, label in zip(scale.ticks, labels, strict=True):
        x = scale(tick)
        anchor = "start" if x < 3 else "end" if x > 97 else "middle"
        parts.append(f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="t-soft" x="{x:.2f}%" y="{bottom + 14}" text-anchor="{anchor}">{_escaped(label)}</text>')
    return parts


def dot_plot(tracks: Sequence[Track], scale: Scale, *, peak: float, title: str) -> str:
    """Return a dot plot of shares of the peak: one track per case, the peak as a dashed line.

    Parameters
    ----------
    tracks : sequence of Track
    scale : Scale
        Of shares, 1 = the peak.
    peak : float
        Where the line stands.
    title : str
        For people who do not see the picture.
    """
    step = LINE_HEIGHT + TRACK_HEIGHT + 14
    height = step * len(tracks)
    parts = _grid(scale, [f"{100 * tick:g} %" for tick in scale.ticks], 14, height + 18)
    x = scale(peak)
    parts.append(f'<text class="t-peak" x="{x:.2f}%" y="9" text-anchor="{"end" if x > 80 else "middle"}">measured peak</text>')
    for index, track in enumerate(tracks):
        y = 18 + step * index
        middle = y + LINE_HEIGHT + 8
        parts.append(f'<text x="0" y="{y + 12}">{_escaped(track.left)}</text>')
        parts.append(f'<text class="t-soft" x="100%" y="{y + 12}" text-anchor="end">{_escaped(track.right)}</text>')
        parts.append(f'<rect class="track" x="0" width="100%" y="{middle - 2}" height="4" rx="2"/>')
        parts.append(f'<line class="peak" x1="{x:.2f}%" x2="{x:.2f}%" y1="{middle - 9}" y2="{middle + 9}"/>')
        for mark in sorted(track.marks, key=lambda mark: (mark.is_chosen, mark.value)):
            parts.append(symbol(mark, f"{scale(mark.value):.2f}%", middle))
    return f'<svg height="{height + 38}" role="img" aria-label="{_escaped(title)}">{"".join(parts)}</svg>'


def bars(tracks: Sequence[Track], scale: Scale, *, unit: str, title: str) -> str:
    """Return horizontal bars on a logarithmic scale: the first mark of each track is its length."""
    step = LINE_HEIGHT + TRACK_HEIGHT + 10
    height = step * len(tracks)
    parts = _grid(scale, [f"{tick:,.0f}{unit}" for tick in scale.ticks], 0, height)
    for index, track in enumerate(tracks):
        y = step * index
        mark = track.marks[0]
        parts.append(f'<text x="0" y="{y + 12}">{_escaped(track.left)}</text>')
        parts.append(f'<text class="t-soft" x="100%" y="{y + 12}" text-anchor="end">{_escaped(track.right)}</text>')
        parts.append(f'<rect class="track" x="0" width="100%" y="{y + LINE_HEIGHT + 2}" height="{TRACK_HEIGHT}" rx="3"/>')
        parts.append(
            f'<rect class="{mark.colour} full" x="0" width="{scale(mark.value):.2f}%" y="{y + LINE_HEIGHT + 2}" height="{TRACK_HEIGHT}" rx="3">'
            f"<title>{_escaped(mark.words)}</title></rect>"
        )
    return f'<svg height="{height + 20}" role="img" aria-label="{_escaped(title)}">{"".join(parts)}</svg>'


def legend(entries: Sequence[tuple[Mark, str]]) -> str:
    """Return a list of marks and what they mean."""
    items = "".join(f'<li><svg viewBox="-9 -9 18 18" aria-hidden="true">{symbol(mark, "0", 0)}</svg>{_escaped(words)}</li>' for mark, words in entries)
    return f'<ul class="legend">{items}</ul>'


def share_scale(shares: Sequence[float]) -> Scale:
    """Return the axis of shares of the peak: whole decades below, from 0.1 % at least, up to the next 1, 2 or 5 above."""
    low = 10.0 ** math.floor(math.log10(max(min([*shares, 0.1]), 1e-3)) + 1e-9)
    high = max([*shares, 1.0]) * 1.05
    power = 10.0 ** math.floor(math.log10(high))
    return Scale(low, next(power * step for step in (1, 2, 5, 10) if power * step >= high))


def ratio(value: float) -> str:
    """Return a speed-up as "80x" or "1,230x", below ten with one decimal."""
    return f"{value:,.0f}x" if value >= 10 else f"{digits(value, 2)}x"
