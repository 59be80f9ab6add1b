"""A sheet to draw on: grids of numbers, boxes and arrows in data units, in the colours of light or dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle


@dataclass(frozen=True)
class Theme:
    """Colours of one kind of page."""

    ink: str
    faint: str
    cell: str
    border: str
    kernel: str
    result: str
    window: str
    third: str

    def fill(self, role: str | None) -> str:
        """Return the colour of cells with a role: "kernel", "result", "window", "third", "border" or None."""
        return self.cell if role is None else str(getattr(self, role))


THEMES = {
    "light": Theme("#1f2328", "#656d76", "#eef1f5", "#ffffff", "#bcd7ff", "#bfe8cd", "#ffd79a", "#e3cdf5"),
    "dark": Theme("#e8eaed", "#a0a7b0", "#2a2f37", "#15181c", "#234f86", "#1f6238", "#7d5310", "#56397a"),
}


class Sheet:
    """Axes in units of one cell, y downwards.

    Parameters
    ----------
    width, height : float
        Extent in cells.
    theme : Theme
    scale : float
        Inches per cell.
    """

    def __init__(self, width: float, height: float, theme: Theme, scale: float = 0.42) -> None:
        self.theme = theme
        self.scale = scale
        self.figure = Figure(figsize=(width * scale, height * scale))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")

    def grid(
        self,
        values: npt.ArrayLike,
        at: tuple[float, float],
        *,
        role: str | None = None,
        roles: dict[tuple[int, int], str | None] | None = None,
        title: str = "",
        form: str = "{:g}",
        size: float = 11.0,
        cell: float = 1.0,
        order: int = 1,
    ) -> None:
        """Draw a matrix with its top left corner at (x, y); NaN stays empty; `roles` colours single cells; larger `order` lies on top."""
        matrix = np.atleast_2d(np.asarray(values))
        x, y = at
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                own = (roles or {}).get((i, j), role)
                self.axes.add_patch(
                    Rectangle(
                        (x + j * cell, y + i * cell),
                        cell,
                        cell,
                        facecolor=self.theme.fill(own),
                        edgecolor=self.theme.faint,
                        linewidth=0.8,
                        zorder=order,
                    )
                )
                text = value if isinstance(value, str) else "" if np.isnan(value) else form.format(value)
                color = self.theme.faint if own == "border" else self.theme.ink
                self.axes.text(
                    x + (j + 0.5) * cell, y + (i + 0.53) * cell, text, ha="center", va="center", fontsize=size, color=color, zorder=order
                )
        if title:
            self.text(title, (x + matrix.shape[1] * cell / 2, y - 0.35), size=10)

    def text(
        self,
        words: str,
        at: tuple[float, float],
        *,
        size: float = 11.0,
        align: str = "center",
        is_faint: bool = False,
        is_code: bool = False,
    ) -> None:
        """Write words centred on a point, or beginning there with align="left"."""
        self.axes.text(
            *at, words, ha=align, va="center", fontsize=size, color=self.theme.faint if is_faint else self.theme.ink,
            family="monospace" if is_code else None, linespacing=1.35,
        )  # fmt: skip

    def frame(self, at: tuple[float, float], extent: tuple[float, float], *, color: str = "#d97706", width: float = 2.4) -> None:
        """Draw a thick frame: height and width in cells."""
        height, across = extent
        self.axes.add_patch(Rectangle(at, across, height, fill=False, edgecolor=color, linewidth=width, zorder=4))

    def box(self, words: str, at: tuple[float, float], extent: tuple[float, float], *, role: str | None = None, size: float = 10.0) -> None:
        """Draw a rounded box of (width, height) with words in it."""
        (x, y), (width, height) = at, extent
        self.axes.add_patch(
            FancyBboxPatch(
                (x + 0.1, y + 0.1), width - 0.2, height - 0.2, boxstyle="round,pad=0,rounding_size=0.2", facecolor=self.theme.fill(role),
                edgecolor=self.theme.faint, linewidth=0.8,
            )
        )  # fmt: skip
        self.text(words, (x + width / 2, y + height / 2), size=size)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], words: str = "") -> None:
        """Draw an arrow, with words above its middle."""
        self.axes.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=self.theme.faint, linewidth=1.2, shrinkA=0, shrinkB=0)
        )
        if words:
            self.text(words, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 0.35), size=9, is_faint=True)

    def save(self, path: Path) -> None:
        """Write the sheet as SVG, the same bytes each time, or as PNG on white."""
        with mpl.rc_context({"svg.hashsalt": "fastconv", "font.family": "DejaVu Sans"}):
            self.figure.savefig(path, transparent=path.suffix == ".svg", metadata={"Date": None} if path.suffix == ".svg" else None)


def cells(top: int, left: int, height: int, width: int, role: str) -> dict[tuple[int, int], str | None]:
    """Return the roles of a rectangle of cells."""
    return {(i, j): role for i in range(top, top + height) for j in range(left, left + width)}
