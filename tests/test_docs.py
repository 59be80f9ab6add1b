"""Examples in docstrings and in README.md run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import fastconv

pytestmark = pytest.mark.plain

README = Path(__file__).parents[1] / "README.md"
#: Modules that do something when they are imported, or need what is not installed.
RUN_BY_HAND = {"fastconv.__main__"}
MODULES = sorted(module.name for module in pkgutil.walk_packages(fastconv.__path__, "fastconv.") if module.name not in RUN_BY_HAND)


@pytest.mark.compiler
@pytest.mark.parametrize("name", ["fastconv", *MODULES])
def test_examples_in_docstrings(name: str) -> None:
    # `fastconv.backends` as an attribute is the function; the module is found by its name.
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        if missing.name is not None and missing.name.partition(".")[0] == "fastconv":
            raise
        pytest.skip(f"{name} needs {missing.name}")
    assert module.__doc__
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_every_public_name_has_a_docstring_with_an_example_or_a_rule() -> None:
    for name in ("conv1d", "conv2d", "Conv2d", "plan", "config", "get_config", "backends"):
        assert ">>>" in getattr(fastconv, name).__doc__


def test_the_example_of_the_readme() -> None:
    if not README.exists():
        pytest.skip("README.md is not here")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        if ">>>" in block:
            parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            assert runner.run(parser.get_doctest(block, {}, "README.md", str(README), 0)).failed == 0
        else:
            exec(compile(block, str(README), "exec"), {})  # noqa: S102  it is the reader who runs it otherwise
