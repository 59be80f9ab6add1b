"""Directive ``drawing``: a figure that a function of `figures` draws during the build, once for light pages and once for dark ones.

```{drawing} sliding
:alt: what a reader who cannot see it has to know

The caption.
```
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx

HERE = Path(__file__).parent
FOLDER = HERE.parent / "_figures"
#: Grey that reads on white and on dark grey alike: axes of the gallery's pictures, which exist once.
MIDDLE = "#7a8089"


def reset_style(gallery_conf: dict[str, Any], fname: str) -> None:
    """Set matplotlib's style before each script of the gallery."""
    del gallery_conf, fname
    mpl.rcParams.update(
        {
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.transparent": True,
            "savefig.bbox": "tight",
            "font.size": 11.0,
            "image.cmap": "gray",
            "axes.spines.top": False,
            "axes.spines.right": False,
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"), MIDDLE),
        }
    )


def draw(name: str) -> None:
    """Draw both forms of figure `name`, unless that was done by the same code."""
    import figures  # noqa: PLC0415  needs matplotlib's backend chosen first

    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))).hexdigest()
    done = FOLDER / f"{name}.stamp"
    if done.exists() and done.read_text() == stamp:
        return
    FOLDER.mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        figures.save(name, theme, FOLDER / f"{name}-{theme}.svg")
    done.write_text(stamp)


def thumbnail() -> str:
    """Draw the thumbnail of the gallery's page that has no picture of its own, and return its path."""
    import figures  # noqa: PLC0415

    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "thumbnail.png"
    figures.FIGURES["network"](figures.THEMES["light"]).save(path)
    return str(path)


class Drawing(Directive):
    """A figure by name, with a caption."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required, "broad": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Draw it, and return one figure with an image for each kind of page."""
        name = self.arguments[0]
        draw(name)
        classes = ["drawing", "broad"] if "broad" in self.options else ["drawing"]
        figure = nodes.figure(classes=classes)
        for theme in ("light", "dark"):
            figure += nodes.image(uri=f"/_figures/{name}-{theme}.svg", alt=self.options["alt"], classes=[f"only-{theme}"])
        if self.content:
            caption = nodes.caption()
            inner = nodes.Element()
            self.state.nested_parse(self.content, self.content_offset, inner)
            for child in inner.children:
                caption += child.children
            figure += caption
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    mpl.use("agg")
    app.add_directive("drawing", Drawing)
    return {"version": "1", "parallel_read_safe": False}
