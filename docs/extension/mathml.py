"""Formulas as MathML, which browsers draw themselves: no script, and nothing is fetched."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

#: Sizes of brackets: MathML stretches them by itself.
_SIZES = re.compile(r"\\[Bb]igg?[lr]?(?![A-Za-z])")


def _mathml(node: nodes.math | nodes.math_block, *, is_block: bool = False) -> str:
    return str(latex2mathml.tex2mathml(_SIZES.sub("", node.astext().strip()), as_block=is_block))


def _formula(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_mathml(node, is_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer; `html_math_renderer = "mathml"` chooses it."""
    app.add_html_math_renderer("mathml", (_formula, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True}
