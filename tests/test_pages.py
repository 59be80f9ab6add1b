"""The documentation: its examples run, and nothing that it has to cover is missing. `make docs` builds it, strictly."""

from __future__ import annotations

import ast
import doctest
import re
import types
from pathlib import Path

import pytest

import fastconv
from fastconv.backends import TABLE
from fastconv.settings import DEFAULTS, ENVIRONMENT

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(path for path in (*DOCS.glob("*.md"), *DOCS.glob("backends/*.md")) if "_build" not in path.parts)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCRIPTS = sorted(DOCS.glob("gallery/*.py"))


def test_there_are_pages_and_scripts() -> None:
    assert len(PAGES) >= 10
    assert len(SCRIPTS) >= 7


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_of_a_page_give_what_they_show(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    session = "\n".join(block for block in BLOCK.findall(text) if ">>>" in block)
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    said: list[str] = []
    assert doctest.DocTestRunner(optionflags=flags, verbose=False).run(test, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize("family", fastconv.backends())
def test_each_backend_has_a_page_with_formula_cost_error_place_and_sources(family: str) -> None:
    text = (DOCS / "backends" / f"{family}.md").read_text(encoding="utf-8")
    for part in ("\nCost\n", "\nError\n", "\nWins\n", "\nSources\n", "{drawing}", f"{{variants}} {family}"):
        assert part in text, part
    assert f"({family}.md)" in (DOCS / "backends" / "index.md").read_text(encoding="utf-8")
    assert family in {row.family for row in TABLE}


def test_the_reference_names_every_public_function() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"auto(?:function|class|module):: (?:fastconv\.)?(\w+)", text))
    errors = {
        name for name in fastconv.__all__ if isinstance(getattr(fastconv, name), type) and issubclass(getattr(fastconv, name), Exception)
    }
    public = {name for name in fastconv.__all__ if not name.startswith("__")} - errors
    assert public - listed == set()
    for name in public:
        assert getattr(fastconv, name).__doc__
        if isinstance(getattr(fastconv, name), types.ModuleType):
            assert f"automodule:: fastconv.{name}" in text


def test_every_setting_and_variable_is_explained() -> None:
    text = (DOCS / "configuring.md").read_text(encoding="utf-8")
    for name in DEFAULTS:
        assert f"| `{name}` |" in text
        assert f"`{ENVIRONMENT[name]}`" in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_of_the_gallery_say_what_they_show(script: Path) -> None:
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert docstring
    if script.stem.startswith("plot_"):
        assert re.match(r".+\n=+\n", docstring)
        assert f'"{script.name}"' in (DOCS / "conf.py").read_text(encoding="utf-8")


def test_every_page_is_reachable() -> None:
    listed = {DOCS / "index.md"}
    for page in PAGES:
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in tree.splitlines():
                if line and not line.startswith(":"):
                    listed |= set(page.parent.glob(f"{line}.md"))
    assert set(PAGES) - listed == set()
