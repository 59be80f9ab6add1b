"""What does not shrink with the problem: a tiny call, planning, importing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastconv

X = np.ones((1, 1, 8, 8), np.float32)
W = np.ones((1, 1, 3, 3), np.float32)


def test_tiny_call(benchmark: Any) -> None:
    assert benchmark(fastconv.conv2d, X, W)[0, 0, 0, 0] == 9


def test_tiny_layer(benchmark: Any) -> None:
    assert benchmark(fastconv.Conv2d(W), X)[0, 0, 0, 0] == 9


def test_tiny_plan(benchmark: Any) -> None:
    assert benchmark(fastconv.plan(X.shape, W), X)[0, 0, 0, 0] == 9


def test_making_a_plan(benchmark: Any) -> None:
    w = np.ones((64, 64, 3, 3), np.float32)
    assert benchmark(fastconv.plan, (1, 64, 56, 56), w, padding=1).problem.oc == 64


@pytest.mark.parametrize("module", ["numpy", "numba", "fastconv"])
def test_import(benchmark: Any, module: str) -> None:
    # With byte code kept, as an installed package has it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", f"import {module}"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "env": environment}, rounds=5, warmup_rounds=1)
