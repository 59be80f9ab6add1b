"""An array stays alive while a kernel works on its address."""

from __future__ import annotations

import ast
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding as llvm
from numba.core import config

import fastconv
import memory_cases as cases

needs_compiler = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="without the compiler Python keeps the arrays alive")


def runs_after_release(code: str) -> bool:
    """Tell whether optimised LLVM code can come from a release of some array to the kernel."""
    module = llvm.parse_assembly(code)
    (function,) = (f for f in module.functions if not f.is_declaration and f.name.startswith("_ZN12memory_cases"))
    blocks = {block.name: [str(instruction) for instruction in block.instructions] for block in function.blocks}
    following = {name: set(re.findall(r"label %\"?([^\s,\"]+)", lines[-1])) for name, lines in blocks.items()}

    for name, lines in blocks.items():
        releases = [k for k, line in enumerate(lines) if "@NRT_decref(" in line]
        if releases:
            reached, waiting = set[str](), list(following[name])
            while waiting:
                successor = waiting.pop()
                if successor not in reached:
                    reached.add(successor)
                    waiting += following[successor]
            behind = lines[releases[0] :] + [line for successor in reached for line in blocks[successor]]
            if any(f"@{cases.KERNEL}(" in line for line in behind):
                return True
    return False


@needs_compiler
def test_keepalive_moves_the_release_behind_the_kernel() -> None:
    released = []
    for function in cases.FUNCTIONS:
        function(np.zeros(1), 1)
        (code,) = function.inspect_llvm().values()
        released.append(runs_after_release(code))
    # The function without keepalive shows that this test sees the fault.
    assert released == [False, True]


@needs_compiler
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="MALLOC_PERTURB_ is glibc's")
def test_freed_memory_is_noticed() -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, "-m", "memory_cases"], env={**os.environ, "PYTHONPATH": path, "MALLOC_PERTURB_": "165"},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert result.stdout.split() == ["True", "False"]


ALLOCATORS = {"empty", "zeros", "ones", "full", "arange", "empty_like", "zeros_like", "ones_like", "full_like", "copy", "ascontiguousarray"}


def names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def allocates(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in ALLOCATORS


def assignments(function: ast.FunctionDef) -> Iterator[tuple[set[str], ast.expr]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if not isinstance(target, ast.Subscript):
                    yield names_in(target), node.value
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)) and node.value is not None:
            yield names_in(node.target), node.value


def grow(names: set[str], function: ast.FunctionDef) -> set[str]:
    """Return `names` and those computed from them, step by step."""
    grown = set(names)
    while True:
        before = len(grown)
        for targets, value in assignments(function):
            if names_in(value) & grown:
                grown |= targets
        if len(grown) == before:
            return grown


def arrays_not_kept_alive(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the arrays that a function allocates and whose address it uses after the last `keepalive` of it."""
    for targets, value in assignments(function):
        if not allocates(value) or len(targets) != 1:
            continue
        (array,) = targets
        attributes = (node for node in ast.walk(function) if isinstance(node, ast.Attribute))
        with_address = [node for node in attributes if node.attr == "ctypes" and names_in(node) == {array}]
        if not with_address:
            continue
        addresses: set[str] = set()
        for names, expression in assignments(function):
            if any(node in with_address for node in ast.walk(expression)):
                addresses |= names
        addresses = grow(addresses, function) - {array}
        uses = [node.lineno for node in with_address]
        uses += [node.lineno for node in ast.walk(function) if isinstance(node, ast.Name) and node.id in addresses]
        kept = [
            node.lineno for node in ast.walk(function)
            if isinstance(node, ast.Call) and ast.unparse(node) == f"keepalive({array})"
        ]  # fmt: skip
        if not kept or max(kept) < max(uses):
            yield array


def jitted_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(decorator) for decorator in node.decorator_list):
            yield node


@pytest.mark.plain
def test_every_kernel_driver_keeps_its_arrays_alive() -> None:
    found, seen = [], 0
    for path in sorted(Path(fastconv.__file__).parent.rglob("*.py")):
        for function in jitted_functions(ast.parse(path.read_text(encoding="utf-8"))):
            seen += 1
            found += [f"{path.name}:{function.name}: {array}" for array in arrays_not_kept_alive(function)]
    assert seen > 50
    assert found == []


@pytest.mark.plain
def test_the_check_of_the_drivers_sees_what_is_missing() -> None:
    def missing(source: str) -> list[str]:
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef)
        return list(arrays_not_kept_alive(function))

    head = "def f(dst, n):\n    buffer = np.empty(n)\n"
    assert missing(head + "    kernel(buffer.ctypes.data)") == ["buffer"]
    assert missing(head + "    kernel(buffer.ctypes.data)\n    keepalive(buffer)") == []
    assert missing(head + "    base = buffer.ctypes.data\n    at = base + 8\n    keepalive(buffer)\n    kernel(at)") == ["buffer"]
    assert missing(head + "    base = buffer.ctypes.data\n    at = base + 8\n    kernel(at)\n    keepalive(buffer)") == []
    assert missing("def f(dst, n):\n    kernel(dst.ctypes.data)") == []
