"""All drawings by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import backend_figures
import house_figures
import tutorial_figures
from sheet import THEMES, Sheet, Theme

FIGURES: dict[str, Callable[[Theme], Sheet]] = {**tutorial_figures.FIGURES, **backend_figures.FIGURES, **house_figures.FIGURES}


def save(name: str, theme: str, path: Path) -> None:
    """Draw figure `name` in the colours of `theme` into an SVG file."""
    FIGURES[name](THEMES[theme]).save(path)
