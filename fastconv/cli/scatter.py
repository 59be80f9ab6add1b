"""Charts with two axes, as SVG that flows: across in percent, downwards in pixels; letters keep their size on a phone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from fastconv.cli.charts import Mark, Scale, symbol

HEIGHT, MARGIN = 300, 22
#: Percent of the width at the left that the words of the upward ticks have for themselves.
GUTTER = 10.0
#: Pixels below the top, and percent of the width, within which a tick gets no words of its own.
NEAR_TOP, NEAR = 12, 8.0


@dataclass(frozen=True)
class Point:
    """A mark at two values; the mark's own value is the upward one."""

    x: float
    mark: Mark


@dataclass(frozen=True)
class Line:
    """A straight line between two points, with words at its end.

    Attributes
    ----------
    start, end : tuple of float
        (x, y) in values.
    words : str
    colour : str
        A class of the style sheet.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    words: str
    colour: str


def scatter(
    points: Sequence[Point], across: Scale, up: Scale, *, labels: tuple[Sequence[str], Sequence[str]], names: tuple[str, str], title: str,
    lines: Sequence[Line] = (),
) -> str:  # fmt: skip
    """Return a chart of points on two logarithmic axes.

    Parameters
    ----------
    points : sequence of Point
    across, up : Scale
    labels : pair of sequence of str
        Of the ticks of both.
    names : pair of str
        What the axes show.
    title : str
        For people who do not see the picture.
    lines : sequence of Line
    """

    def height(value: float) -> float:
        return MARGIN + (HEIGHT - MARGIN) * (1 - up(value) / 100)

    def place(value: float) -> float:
        return GUTTER + (100 - GUTTER) * across(value) / 100

    parts = [f'<text class="t-soft" x="0" y="11">{html.escape(names[1])}</text>']
    for tick, label in zip(up.ticks, labels[1], strict=True):
        y = height(tick)
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        if y > MARGIN + NEAR_TOP:
            parts.append(f'<text class="t-soft" x="0" y="{y - 3:.1f}">{html.escape(label)}</text>')
    last = -NEAR
    for tick, label in zip(across.ticks, labels[0], strict=True):
        x = place(tick)
        anchor = "end" if x > 97 else "middle"
        parts.append(f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="{MARGIN}" y2="{HEIGHT}"/>')
        if x - last >= NEAR:
            parts.append(f'<text class="t-soft" x="{x:.2f}%" y="{HEIGHT + 15}" text-anchor="{anchor}">{html.escape(label)}</text>')
            last = x
    for line in lines:
        (x1, y1), (x2, y2) = ((f"{place(x):.1f}%", height(y)) for x, y in (line.start, line.end))
        parts.append(f'<line class="{line.colour}" x1="{x1}" y1="{y1:.1f}" x2="{x2}" y2="{y2:.1f}"/>')
        y = y2 + 14 if y1 == y2 else y2 - 5  # the words of a flat line stand below, those of a slope above its end
        parts.append(f'<text class="t-{line.colour}" x="{x2}" y="{y:.1f}" text-anchor="end">{html.escape(line.words)}</text>')
    parts += [symbol(point.mark, f"{place(point.x):.1f}%", round(height(point.mark.value), 1)) for point in points]
    parts.append(f'<text class="t-soft" x="100%" y="{HEIGHT + 32}" text-anchor="end">{html.escape(names[0])}</text>')
    return f'<svg height="{HEIGHT + 38}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
