"""Benchmarks share: the layers, the candidates of the table, and settings of pytest-benchmark.

Run them one at a time, without workers: ``python -m pytest bench -n 0 --benchmark-columns=median,iqr,rounds``.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastconv.cli.cases import Case, Layer, builtin_layers, layer_case
from fastconv.machine import usable_cores


def all_layers() -> list[tuple[str, Layer]]:
    """Return (heading, layer) for each layer of bench/layers."""
    return [(heading, layer) for heading, layers in builtin_layers().values() for layer in layers]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "layer" in metafunc.fixturenames:
        metafunc.parametrize("layer", all_layers(), ids=lambda pair: pair[1].name)
    if "threads" in metafunc.fixturenames:
        counts = sorted({1, usable_cores()})
        metafunc.parametrize("threads", counts, ids=lambda count: f"{count}thread{'s' * (count > 1)}")


@pytest.fixture
def case(layer: tuple[str, Layer]) -> Case:
    return layer_case(*layer)


@pytest.fixture
def record(benchmark: Any) -> Any:
    """Return a function that notes the case and its flops beside the times."""

    def note(case: Case, backend: str, threads: int) -> None:
        benchmark.group = f"{case.name}, {threads} thread{'s' * (threads > 1)}"
        benchmark.extra_info.update(problem=str(case.problem), flops=case.problem.flops, backend=backend, threads=threads)

    return note
