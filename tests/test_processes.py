"""Threads, processes, interrupts, memory: whatever happens around a call, its bits are those of a serial one."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

pytestmark = [
    pytest.mark.xdist_group("processes"),
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the programs run every algorithm"),
]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it asks Linux for the process's memory, or limits it")


def run_program(*arguments: str, seconds: float = 900.0, **environment: str) -> str:
    """Run a program of process_cases in a fresh process and return what it printed."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "process_cases", *arguments],
        env={**os.environ, "PYTHONPATH": path, "FASTCONV_WISDOM": "off", **environment},
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def test_many_threads_with_different_backends_and_numbers_of_threads() -> None:
    run_program("threads")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes_made_while_other_threads_compute(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    run_program("processes", method)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_workers_of_joblib(backend: str) -> None:
    needs("joblib")
    run_program("joblib", backend)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_workers_of_dask(scheduler: str) -> None:
    needs("dask")
    run_program("dask", scheduler)


def test_keyboard_interrupts_at_any_time() -> None:
    run_program("interrupt", "4")


def test_exit_with_work_in_flight() -> None:
    assert run_program("exit").strip() == "leaving"


@on_linux
def test_memory_stays_flat_over_ten_thousand_calls_and_a_thousand_plans() -> None:
    # One block of 64 KiB more or less is the allocator's; a leak of 100 bytes per call would be 1000 KiB.
    grown = list(map(int, run_program("leak", "10000", "1000").split()))
    assert max(grown) < 600, f"KiB grown over calls and over plans: {grown}"


@on_linux
def test_a_failing_allocation_raises_and_leaves_it_usable() -> None:
    # Blocks from 64 KiB on come from the system and go back to it, so that what was freed before cannot serve. Smaller ones
    # find room in what the program keeps: this test is of arrays, not of what NumPy and Python do without a few bytes.
    run_program("memory", MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_=str(2**30), MALLOC_ARENA_MAX="1", PYTHONMALLOC="malloc")


@pytest.mark.parametrize("order", ["before", "after"])
def test_torch_with_its_own_threads(order: str) -> None:
    needs("torch")
    run_program("torch", order)
