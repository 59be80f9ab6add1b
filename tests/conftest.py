"""Profiles, the matrix of algorithms, and a summary of what each of them computed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import numba
import pytest
from hypothesis import HealthCheck, settings

import fastconv
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.settings import DEFAULTS, ENVIRONMENT, forget_sources

# Compiling a kernel inside an example takes as long as it takes.
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def algorithm_of(item: pytest.Item) -> Algorithm | None:
    """Return the algorithm that a parametrised test is about."""
    parameters = getattr(item, "callspec", None)
    for value in parameters.params.values() if parameters else ():
        algorithm = getattr(value, "algorithm", value)
        if isinstance(algorithm, Algorithm):
            return algorithm
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of one family on one worker, which then compiles its kernels once."""
    kept, beyond = [], []
    for item in items:
        algorithm = algorithm_of(item)
        if algorithm is not None:
            item.add_marker(pytest.mark.xdist_group(algorithm.family))
        needs_compiler = item.get_closest_marker("compiler") or (algorithm is not None and algorithm.needs_compiler)
        (beyond if numba.config.DISABLE_JIT and needs_compiler else kept).append(item)
    if beyond:
        config.hook.pytest_deselected(items=beyond)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the tests that each algorithm of the table passed."""
    passed: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for algorithm in TABLE:
            if f"[{algorithm.name}" in report.nodeid or f"-{algorithm.name}" in report.nodeid:
                passed[algorithm.name] += 1
    if passed:
        terminalreporter.section("tests passed per algorithm")
        terminalreporter.line(", ".join(f"{algorithm.name} {passed[algorithm.name]}" for algorithm in TABLE))


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run every test with the default settings and no wisdom, whatever the environment says, and leave none behind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    for variable in ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)
    forget_sources()
    yield
    fastconv.set_config(**dict.fromkeys(DEFAULTS))
    forget_sources()
