"""Threads: right for any number of them at any time, and nothing that happens to the process makes them hang."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thread_cases as cases
from fastconv.kernels import region, threads
from fastconv.kernels.atomics import IS_X86
from fastconv.kernels.threads import Pool, native_obstacle

pytestmark = pytest.mark.xdist_group("threads")
needs_workers = pytest.mark.skipif(native_obstacle() is not None, reason=f"no worker threads: {native_obstacle()}")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")


def run_program(*arguments: str, seconds: float = 60.0, **environment: str) -> str:
    """Run a program of thread_cases in a fresh process and return what it printed."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "thread_cases", *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def eight() -> Iterator[Pool]:
    """Return a pool of seven workers, more than most machines have cores."""
    made = Pool(max_workers=7)
    yield made
    assert made.stop(timeout=10)


def word(pool: Pool, offset: int) -> int:
    return int(pool._words[offset // 8])


def regions_joined(pool: Pool, workers: int) -> list[int]:
    return [word(pool, region.FIRST_WORKER + k * region.LINE + region.REGIONS) for k in range(workers)]


@pytest.mark.plain
@pytest.mark.compiler
@pytest.mark.parametrize("nthreads", [1, 2, 3, 8])
def test_same_bits_for_any_number_of_threads(eight: Pool, nthreads: int) -> None:
    for x in cases.INPUTS:
        alone = cases.run_sums(eight, 1, x)
        for _ in range(20):
            assert cases.run_sums(eight, nthreads, x).tobytes() == alone.tobytes()


@needs_workers
def test_workers_take_part(eight: Pool) -> None:
    out = np.zeros((64, 8))
    cases.work_region(eight.handle(3), 3, 20_000, out)
    time.sleep(0.05)
    for _ in range(50):
        cases.work_region(eight.handle(3), 3, 20_000, out)
    assert set(out[:, 1]) <= {0, 1, 2}
    assert min(regions_joined(eight, 2)) > 0
    assert regions_joined(eight, 3)[2] == 0


@pytest.mark.plain
@pytest.mark.compiler
@pytest.mark.parametrize("ntiles", [0, 1, 2, 1000])
def test_each_tile_runs_once_and_no_two_threads_share_a_tid(eight: Pool, ntiles: int) -> None:
    in_use, clashes = np.zeros(8, np.int64), np.zeros(1, np.int64)
    for _ in range(20):
        runs = np.zeros(ntiles, np.int64)
        cases.count_runs(eight.handle(8), 8, in_use, runs, clashes)
        assert (runs == 1).all()
    assert clashes[0] == 0
    assert (in_use == 0).all()


def test_regions_nest(eight: Pool) -> None:
    x = np.stack([cases.INPUTS[3]] * 6)
    out, tids = np.zeros(x.shape[:2], np.float32), np.zeros(x.shape[:2], np.int64)
    cases.nested(eight.handle(8), 8, x, out, tids)
    alone = cases.run_sums(eight, 1, x[0])
    assert all(row.tobytes() == alone.tobytes() for row in out)


@pytest.mark.parametrize("nthreads", [1, 2, 8])
def test_exceptions_reach_the_caller_and_leave_the_pool_usable(eight: Pool, nthreads: int) -> None:
    alone = cases.run_sums(eight, 1, cases.INPUTS[3])
    for fail in range(0, 64, 7):
        with pytest.raises(ValueError, match="tile failed"):
            cases.run_sums(eight, nthreads, cases.INPUTS[3], fail)
        assert cases.run_sums(eight, nthreads, cases.INPUTS[3]).tobytes() == alone.tobytes()


def test_exceptions_keep_their_values(eight: Pool) -> None:
    for _ in range(20):
        with pytest.raises(IndexError) as caught:
            cases.message_region(eight.handle(8), 8, 17)
        assert caught.value.args[0] == "tile"
        assert 17 <= caught.value.args[1] < 50


@needs_workers
def test_concurrent_callers(eight: Pool) -> None:
    total = cases.concurrent_calls(eight, 3.0)
    assert total["wrong"] == total["hung"] == 0
    assert total["calls"] > 100
    assert word(eight, region.OWNER) == 0
    assert word(eight, region.STATE) & region.COUNT_MASK == 0


@needs_workers
def test_stop_and_start_while_callers_run() -> None:
    churned = Pool(max_workers=3)
    total = cases.concurrent_calls(churned, 3.0, lambda: (time.sleep(0.01), churned.stop(timeout=10))[0])
    assert total["wrong"] == total["hung"] == 0
    assert total["meanwhile"] > 10
    assert churned.stop(timeout=10)
    assert not churned._alive


@needs_workers
def test_a_worker_that_does_not_end_in_time_is_left_behind() -> None:
    slow = Pool(max_workers=1)
    out = np.zeros((2, 8))
    done: list[bool] = []
    cases.work_region(slow.handle(2), 2, 1, out)
    _thread.start_new_thread(lambda: (cases.work_region(slow.handle(2), 2, 2 * 10**8, out), done.append(True)), ())
    time.sleep(0.05)
    assert not slow.stop(timeout=0.01)
    cases.work_region(slow.handle(2), 2, 1, np.zeros((2, 8)))
    while not done:
        time.sleep(0.01)
    assert slow.stop(timeout=10)


@needs_workers
def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    alone = cases.run_sums(threads.pool, 1, cases.INPUTS[3])
    starved = Pool(max_workers=3)
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert cases.run_sums(starved, 4, cases.INPUTS[3]).tobytes() == alone.tobytes()
    assert starved._limit == 0


@needs_workers
def test_idle_workers_use_no_cpu(eight: Pool) -> None:
    cases.run_sums(eight, 8, cases.INPUTS[3])
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.02


@needs_workers
@pytest.mark.skipif(not IS_X86, reason="the control word is written as x86 has it")
def test_workers_take_over_rounding_and_flushing(eight: Pool) -> None:
    flush_to_zero, default = 0x9F80, 0x1F80
    x = np.full(64, 2e-38, np.float32)
    for control, expected in ((flush_to_zero, 0.0), (default, 1e-38)):
        for nthreads in (1, 4):
            out = np.zeros_like(x)
            for _ in range(20):
                cases.products_flushed_to_zero(eight.handle(nthreads), nthreads, control, default, x, out)
                assert (out == np.float32(expected)).all()


@needs_workers
@needs_affinity
def test_affinity_set_by_the_user_is_kept(eight: Pool) -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("this process has one CPU")
    out = np.zeros((16, 8))
    cases.work_region(eight.handle(3), 3, 1000, out)
    time.sleep(0.05)
    ids = [word(eight, region.FIRST_WORKER + k * region.LINE + region.THREAD_ID) for k in range(2)]
    one, other = ({cpu} for cpu in sorted(allowed)[:2])

    def run_from_idle() -> None:
        for _ in range(5):
            time.sleep(0.002)
            cases.work_region(eight.handle(3), 3, 1000, out)

    try:
        for mask in (one, other, allowed):  # as `taskset --all-tasks --pid` does
            for thread in (0, *ids):
                os.sched_setaffinity(thread, mask)
            run_from_idle()
            assert all(os.sched_getaffinity(thread) <= mask for thread in ids)
        os.sched_setaffinity(ids[0], one)
        os.sched_setaffinity(0, other)
        run_from_idle()
        assert os.sched_getaffinity(ids[0]) == one
    finally:
        os.sched_setaffinity(0, allowed)


@needs_workers
@needs_fork
def test_forks_while_callers_run() -> None:
    run_program("fork", "3")


@needs_fork
def test_forks_while_another_thread_compiles() -> None:
    run_program("fork-in-compilation")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_to_start_a_process(method: str) -> None:
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    run_program("start-method", method)


@needs_workers
def test_keyboard_interrupts_at_any_time() -> None:
    run_program("interrupt", "3")


@needs_workers
@pytest.mark.parametrize("kind", ["daemon", "joined"])
def test_exit_with_work_in_flight(kind: str) -> None:
    assert run_program("exit", kind, seconds=30).strip() == "leaving"


@needs_workers
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    loaded, compiled = map(int, run_program("cache", NUMBA_CACHE_DIR=str(tmp_path)).split())
    assert loaded == 0
    assert compiled > 0
    loaded, compiled = map(int, run_program("cache", NUMBA_CACHE_DIR=str(tmp_path)).split())
    assert loaded > 0
    assert compiled == 0


@pytest.mark.parametrize("environment", [{"FASTCONV_THREAD_POOL": "serial"}, {"FASTCONV_THREAD_POOL": "many"}, {"NUMBA_DISABLE_JIT": "1"}])
def test_serial_fallback(environment: dict[str, str]) -> None:
    assert run_program("serial", **environment).split() == ["0", "True", "0"]


def test_reasons_for_the_serial_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_THREAD_POOL", "many")
    assert native_obstacle() == "FASTCONV_THREAD_POOL must be 'native' or 'serial'; got 'many'"
    monkeypatch.setenv("FASTCONV_THREAD_POOL", "native")
    if native_obstacle() is None:
        monkeypatch.setattr(threads, "_LOCK_FUNCTIONS", ("PyThread_acquire_lock", "PyThread_of_another_python"))
        assert native_obstacle() == "this Python lacks PyThread_of_another_python"
        bare = Pool(max_workers=3)
        assert bare.handle(4) == 0
        assert cases.run_sums(bare, 4, cases.INPUTS[3]).tobytes() == cases.expected_sums()[3]


@needs_fork
def test_a_forked_child_finds_open_what_another_thread_held() -> None:
    from fastconv import layer, locks, plan_cache, settings

    kept = plan_cache.PlanCache(), layer.Conv2d(np.ones((1, 1, 1, 1))), settings
    held = [owner._lock for owner in kept]
    assert set(held) <= set(locks._locks)
    for lock in held:
        lock.acquire()
    try:
        assert cases.child_of_fork(lambda: all(lock.acquire(timeout=1) for lock in held)) == 0
    finally:
        for lock in held:
            lock.release()
