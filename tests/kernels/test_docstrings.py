"""What the kernels' docstrings tell: each that Python calls names its costs and what it takes for granted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastconv

FOLDER = Path(fastconv.__file__).parent / "kernels"


def drivers() -> Iterator[tuple[str, str, str]]:
    """Yield (name, docstring, docstring of its module) of each kernel that takes a pool of threads from Python."""
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem in {"region", "bandwidth", "peak"}:  # the pool itself, and what measures the machine
            continue
        module = ast.parse(path.read_text())
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "ctl" and node.decorator_list:
                yield f"{path.stem}.{node.name}", ast.get_docstring(node) or "", ast.get_docstring(module) or ""


@pytest.mark.parametrize(("name", "own", "of_module"), list(drivers()), ids=[name for name, _, _ in drivers()])
def test_a_kernel_tells_its_flops_its_bytes_and_what_it_does_not_check(name: str, own: str, of_module: str) -> None:
    assert "flop" in own, name
    assert "byte" in own.lower(), name
    assert "ot checked" in own, name
    assert own.count("=") or "::" in of_module, f"{name}: neither a formula nor a drawing of the layout"
