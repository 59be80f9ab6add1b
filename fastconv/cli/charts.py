"""Charts as SVG that flows: positions across are percentages, so that a phone shows the same letters as a screen."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastconv.cli.console import digits

LINE_HEIGHT = 16
TRACK_HEIGHT = 12
#: Highest by lowest value of an axis up to which it has more than one tick per decade.
SHORT_AXIS = 150


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


#: What marks refer to, once for a document: a report has thousands of them.
SHAPES = (
    '<defs><circle id="dot" r="5"/><rect id="square" x="-4.5" y="-4.5" width="9" height="9"/><circle id="ring" r="8.5"/>'
    '<path id="cross" d="M-4-4L4 4M-4 4L4-4" fill="none" stroke="var(--c)" stroke-width="2"/></defs>'
)


class Scale:
    """A logarithmic axis from 0 to 100 percent of the width.

    Parameters
    ----------
    low, high : float
        Values at the ends.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low, self._span = math.log(low), math.log(high) - math.log(low)
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high) + 1e-9) + 1)
        # A short axis has ticks at 1, 2 and 5, a long one at 1 only.
        steps = (1, 2, 5) if high / low < SHORT_AXIS else (1,)
        self.ticks = [step * 10.0**k for k in decades for step in steps if low * (1 - 1e-9) <= step * 10.0**k <= high * (1 + 1e-9)]

    @property
    def ends(self) -> tuple[float, float]:
        """The values at both ends."""
        return math.exp(self._low), math.exp(self._low + self._span)

    def __call__(self, value: float) -> float:
        """Return the percentage of the width, held inside."""
        return min(100.0, max(0.0, 100 * (math.log(value) - self._low) / self._span))


def _escaped(text: str) -> str:
    return html.escape(text)


def symbol(mark: Mark, x: str, y: float) -> str:
    """Return one mark centred at (x, y); SHAPES stands somewhere in the same document."""
    look = mark.colour if mark.shape == "cross" else f"{mark.colour} {'hollow' if mark.is_hollow else 'full'}"
    title = f"<title>{_escaped(mark.words)}</title>" if mark.words else ""
    body = f'<use href="#{mark.shape}" class="{look}" x="{x}" y="{y:g}">{title}</use>'
    return f'<use href="#ring" class="ring" x="{x}" y="{y:g}"/>{body}' if mark.is_chosen else body


def _grid(scale: Scale, labels: Sequence[str], top: float, bottom: float) -> list[str]:
    parts = []
    for tick, label in zip(scale.ticks, labels, strict=True):
        x = scale(tick)
        anchor = "start" if x < 3 else "end" if x > 97 else "middle"
        parts.append(f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="t-soft" x="{x:.2f}%" y="{bottom + 14}" text-anchor="{anchor}">{_escaped(label)}</text>')
    return parts


def dot_plot(tracks: Sequence[Track], scale: Scale, labels: Sequence[str], line: tuple[float, str], *, title: str) -> str:
    """Return a dot plot: one track per case, and a line across all of them.

    Parameters
    ----------
    tracks : sequence of Track
    scale : Scale
    labels : sequence of str
        Of the ticks.
    line : (float, str)
        Where the line stands, and what it is.
    title : str
        For people who do not see the picture.
    """
    step = LINE_HEIGHT + TRACK_HEIGHT + 16
    height = step * len(tracks)
    parts = _grid(scale, labels, 14, height + 18)
    x = scale(line[0])
    anchor = "end" if x > 80 else "start" if x < 20 else "middle"
    parts.append(f'<text class="t-peak" x="{x:.2f}%" y="9" text-anchor="{anchor}">{_escaped(line[1])}</text>')
    for index, track in enumerate(tracks):
        y = 18 + step * index
        middle = y + LINE_HEIGHT + 10
        parts.append(f'<text x="0" y="{y + 12}">{_escaped(track.left)}</text>')
        parts.append(f'<text class="t-soft" x="100%" y="{y + 12}" text-anchor="end">{_escaped(track.right)}</text>')
        parts.append(f'<rect class="track" x="0" width="100%" y="{middle - 2}" height="4" rx="2"/>')
        parts.append(f'<line class="peak" x1="{x:.2f}%" x2="{x:.2f}%" y1="{middle - 9}" y2="{middle + 9}"/>')
        for mark in sorted(track.marks, key=lambda mark: (mark.is_chosen, mark.value)):
            parts.append(symbol(mark, f"{scale(mark.value):.1f}%", middle))
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
            f'<rect class="{mark.colour} full" x="0" width="{scale(mark.value):.2f}%" '
            f'y="{y + LINE_HEIGHT + 2}" height="{TRACK_HEIGHT}" rx="3">'
            f"<title>{_escaped(mark.words)}</title></rect>"
        )
    return f'<svg height="{height + 20}" role="img" aria-label="{_escaped(title)}">{"".join(parts)}</svg>'


def legend(entries: Sequence[tuple[Mark, str]]) -> str:
    """Return a list of marks and what they mean."""
    items = "".join(
        f'<li><svg viewBox="-9 -9 18 18" aria-hidden="true">{symbol(mark, "0", 0)}</svg>{_escaped(words)}</li>' for mark, words in entries
    )
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


_STANDALONE_STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
 --ink: #1b1f24; --soft: #5c6570; --grid: #e6e8e5; --card: #fff; --peak: #b4413c;
 --pf: #0b6e99; --p0: #c77700; --p1: #8a4fd0; --p2: #0f8a5f; --p3: #b5467e; --p4: #7d8790; --p5: #6b7f00; --p6: #c4281c; --p7: #7a5230; }
@media (prefers-color-scheme: dark) { svg { --ink: #e8eaec; --soft: #9aa4ae; --grid: #30363c; --card: #0d1117; --peak: #ff9a8f;
 --pf: #5cc2ee; --p0: #f2b04b; --p1: #b992f5; --p2: #4fd1a0; --p3: #f08fbd; --p4: #9aa4ae; --p5: #c9d957; --p6: #ff8a7a; --p7: #c9a27a; } }
text { fill: var(--ink); } .t-soft { fill: var(--soft); } .t-peak { fill: var(--peak); }
.page { fill: var(--card); }
.grid { stroke: var(--grid); } .peak { stroke: var(--peak); stroke-width: 2; } .track { fill: var(--grid); }
.pf { --c: var(--pf); } .ps { --c: var(--soft); }
.p0 { --c: var(--p0); } .p1 { --c: var(--p1); } .p2 { --c: var(--p2); } .p3 { --c: var(--p3); }
.p4 { --c: var(--p4); } .p5 { --c: var(--p5); } .p6 { --c: var(--p6); } .p7 { --c: var(--p7); }
.full { fill: var(--c); stroke: var(--card); stroke-width: 1; } .ring { fill: none; stroke: var(--pf); stroke-width: 1.6; }
"""


def standalone_dot_plot(
    rows: Sequence[tuple[str, Sequence[Mark]]], scale: Scale, entries: Sequence[tuple[Mark, str]], labels: Sequence[str], line: str,
    *, width: int, heading: str,
) -> str:  # fmt: skip
    """Return a dot plot as an SVG file of its own, light or dark as the reader's screen is.

    Parameters
    ----------
    rows : sequence of (words, marks)
    scale : Scale
    entries : sequence of (mark, words)
        The legend.
    labels : sequence of str
        Of the ticks.
    line : str
        What the line at 1 is.
    width : int
    heading : str
    """
    left, step, top = 330, 30, 74
    across, bottom = width - left - 30, top + step * len(rows)

    def place(value: float) -> float:
        return left + scale(value) * across / 100

    parts = [f'<text x="0" y="16" font-weight="600">{_escaped(heading)}</text>']
    x = 10.0
    for mark, words in entries:
        parts += [symbol(mark, f"{x:.0f}", 38), f'<text class="t-soft" x="{x + 13:.0f}" y="42">{_escaped(words)}</text>']
        x += 33 + 7.2 * len(words)
    for tick, label in zip(scale.ticks, labels, strict=True):
        parts.append(f'<line class="grid" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{top - 8}" y2="{bottom - 4}"/>')
        parts.append(f'<text class="t-soft" x="{place(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{_escaped(label)}</text>')
    parts.append(f'<line class="peak" x1="{place(1):.1f}" x2="{place(1):.1f}" y1="{top - 8}" y2="{bottom - 4}"/>')
    parts.append(f'<text class="t-peak" x="{place(1):.1f}" y="{top - 12}" text-anchor="middle">{_escaped(line)}</text>')
    for index, (words, marks) in enumerate(rows):
        y = top + step * index + step / 2 - 4
        parts.append(f'<text x="0" y="{y + 4:.0f}">{_escaped(words)}</text>')
        parts.append(f'<rect class="track" x="{left}" width="{across}" y="{y - 1.5:.1f}" height="3" rx="1.5"/>')
        parts += [symbol(mark, f"{place(mark.value):.1f}", y) for mark in marks]
    height = bottom + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -4 {width + 24} {height + 8}" width="{width}" height="{height}" role="img" '
        f'aria-label="{_escaped(heading)}">\n<style>{_STANDALONE_STYLE}</style>\n{SHAPES}\n'
        '<rect class="page" x="-12" y="-4" width="100%" height="100%" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
