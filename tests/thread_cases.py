"""Regions for the tests and benchmarks of the threads, and programs that the tests run in processes of their own.

``python -m thread_cases PROGRAM [ARGUMENT ...]`` runs one of `PROGRAMS`.
"""

# ruff: noqa: S311, T201  the randomness is for variety, and the programs print to the tests
from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from fastconv.kernels import region
from fastconv.kernels._jit import jit
from fastconv.kernels.atomics import fetch_add, write_fp_control
from fastconv.kernels.threads import Pool, parallel_for, pool


@jit
def sum_tile(i: int, tid: int, x: Any, out: Any, tids: Any, fail: int) -> None:
    if i == fail:
        raise ValueError("tile failed")
    total = np.float32(0)
    for k in range(x.shape[1]):
        total += x[i, k] * x[i, k]
    out[i] = total
    tids[i] = tid


@jit
def sum_rows(ctl: int, nthreads: int, x: Any, out: Any, tids: Any, fail: int) -> None:
    """out[i] = sum over k of x[i, k]**2, one tile a row; tile number `fail` raises."""
    parallel_for(ctl, nthreads, x.shape[0], sum_tile, (x, out, tids, fail))


@jit
def count_tile(i: int, tid: int, in_use: Any, runs: Any, clashes: Any) -> None:
    if fetch_add(in_use.ctypes.data + 8 * tid, 1) != 0:
        fetch_add(clashes.ctypes.data, 1)
    total = 0.0
    for k in range(200):
        total += 1.0 / (k + i + 1)
    fetch_add(runs.ctypes.data + 8 * i, 1 if total > 0 else 2)
    fetch_add(in_use.ctypes.data + 8 * tid, -1)


@jit
def count_runs(ctl: int, nthreads: int, in_use: Any, runs: Any, clashes: Any) -> None:
    """Count the runs of each tile, and how often two threads had one tid at the same time."""
    parallel_for(ctl, nthreads, runs.shape[0], count_tile, (in_use, runs, clashes))


@jit
def nested_tile(i: int, tid: int, ctl: int, nthreads: int, x: Any, out: Any, tids: Any) -> None:  # noqa: ARG001
    sum_rows(ctl, nthreads, x[i], out[i], tids[i], -1)


@jit
def nested(ctl: int, nthreads: int, x: Any, out: Any, tids: Any) -> None:
    """Run a region in each tile of a region."""
    parallel_for(ctl, nthreads, x.shape[0], nested_tile, (ctl, nthreads, x, out, tids))


@jit
def work(turns: int) -> float:
    total = 1.0
    for _ in range(turns):
        total = total * 1.0000001 + 1e-9
    return total


@jit
def work_tile(i: int, tid: int, turns: int, out: Any) -> None:
    out[i, 0] = work(turns)
    out[i, 1] = tid


@jit
def work_region(ctl: int, nthreads: int, turns: int, out: Any) -> None:
    """Run len(out) tiles of equal length; each row of `out` is a cache line."""
    parallel_for(ctl, nthreads, out.shape[0], work_tile, (turns, out))


@jit
def message_tile(i: int, tid: int, limit: int) -> None:  # noqa: ARG001
    if i >= limit:
        raise IndexError("tile", i)


@jit
def message_region(ctl: int, nthreads: int, limit: int) -> None:
    parallel_for(ctl, nthreads, 50, message_tile, (limit,))


@jit
def product_tile(i: int, tid: int, x: Any, out: Any, turns: int) -> None:
    out[i] = x[i] * np.float32(0.5)
    if work(turns) > 0:
        out[i] += np.float32(0) * tid


@jit
def products_flushed_to_zero(ctl: int, nthreads: int, control: int, restored: int, x: Any, out: Any) -> None:
    """Halve denormal numbers while the caller's thread, if `control` says so, flushes them to zero."""
    write_fp_control(control)
    parallel_for(ctl, nthreads, len(x), product_tile, (x, out, 2000))
    write_fp_control(restored)


SHAPES = [(1, 10), (2, 50_000), (7, 300), (64, 1000), (500, 20), (40, 20_000)]
INPUTS = [np.random.default_rng(k).standard_normal(shape).astype(np.float32) for k, shape in enumerate(SHAPES)]


def run_sums(threads: Pool, nthreads: int, x: Any, fail: int = -1, ctl: int | None = None) -> Any:
    out, tids = np.zeros(len(x), np.float32), np.full(len(x), -1)
    sum_rows(threads.handle(nthreads) if ctl is None else ctl, nthreads, x, out, tids, fail)
    assert all(0 <= tid < nthreads for tid in tids)
    return out


def expected_sums() -> list[bytes]:
    return [run_sums(pool, 1, x).tobytes() for x in INPUTS]


def mixed_calls(threads: Pool, expected: list[bytes], seconds: float, seed: int, calls: int = 10**9) -> Counter[str]:
    """Call with random shapes and thread counts, stale handles and failing tiles; count calls and mistakes."""
    rng = random.Random(seed)
    count: Counter[str] = Counter()
    stale = threads.handle(2)
    end = time.monotonic() + seconds
    while time.monotonic() < end and count["calls"] < calls:
        k = rng.randrange(len(INPUTS))
        x = INPUTS[k]
        fail = rng.randrange(len(x)) if rng.random() < 0.05 else -1
        count["calls"] += 1
        try:
            out = run_sums(threads, rng.choice((1, 2, 3, 4, 8)), x, fail, stale if rng.random() < 0.1 else None)
        except ValueError:
            count["exceptions"] += 1
            count["wrong"] += fail < 0
        else:
            count["wrong"] += fail >= 0 or out.tobytes() != expected[k]
    return count


def concurrent_calls(threads: Pool, seconds: float, meanwhile: Callable[[], None] | None = None, callers: int = 8) -> Counter[str]:
    """Run `mixed_calls` in many threads at once, and `meanwhile` over and over in this one."""
    expected = expected_sums()
    total: Counter[str] = Counter()
    counts: list[Counter[str]] = []
    runners = [
        threading.Thread(target=lambda seed=seed: counts.append(mixed_calls(threads, expected, seconds, seed)), daemon=True)
        for seed in range(callers)
    ]
    for runner in runners:
        runner.start()
    end = time.monotonic() + seconds
    while meanwhile is not None and time.monotonic() < end:
        meanwhile()
        total["meanwhile"] += 1
    for runner in runners:
        runner.join(max(0.0, end - time.monotonic()) + 30)
    total["hung"] = sum(runner.is_alive() for runner in runners)
    for count in counts:
        total.update(count)
    return total


def wait_for_child(pid: int, seconds: float = 30.0) -> int:
    """Return the exit status of a forked child, or -1 after killing one that hangs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def child_of_fork(action: Callable[[], bool]) -> int:
    """Fork, and return the status of the child: 0 where `action` was true there."""
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            status = 0 if action() else 1
        finally:
            os._exit(status)
    return wait_for_child(pid)


def fork_program(seconds: str) -> None:
    """Fork while eight threads call; each child calls too, with the parent's handle and its own."""
    threads = Pool(max_workers=3)
    expected = expected_sums()
    statuses: Counter[int] = Counter()

    def child() -> bool:
        count = mixed_calls(threads, expected, 20, os.getpid(), calls=40)
        return count["calls"] == 40 and count["wrong"] == 0

    total = concurrent_calls(threads, float(seconds), lambda: statuses.update([child_of_fork(child)]))
    print(dict(total), dict(statuses))
    assert total["wrong"] == total["hung"] == 0
    assert set(statuses) == {0}


def fork_in_compilation_program() -> None:
    """Fork while another thread compiles; the child compiles something too."""
    statuses: Counter[int] = Counter()
    compiled = 0

    def fresh() -> bool:
        source = "def fresh(a):\n    total = 0\n    for i in range(a):\n        total += i * a\n    return total"
        namespace: dict[str, Any] = {}
        exec(source, namespace)  # noqa: S102  a function that no cache can have
        return bool(numba.njit(namespace["fresh"])(3) == 9)

    done = threading.Event()

    def compile_on() -> None:
        nonlocal compiled
        while not done.is_set():
            compiled += fresh()

    thread = threading.Thread(target=compile_on, daemon=True)
    thread.start()
    while compiled < 1:
        time.sleep(0.01)
    for _ in range(4):
        time.sleep(random.random() * 0.1)
        statuses.update([child_of_fork(fresh)])
    done.set()
    thread.join(30)
    print(compiled, dict(statuses))
    assert set(statuses) == {0}


def _sums_in_process(queue: Any, expected: list[bytes]) -> None:
    queue.put(mixed_calls(pool, expected, 20, 1, calls=50)["wrong"])


def start_method_program(method: str) -> None:
    """Call in a process that was started by this method after use here."""
    expected = expected_sums()
    run_sums(pool, 2, INPUTS[3])
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_sums_in_process, args=(queue, expected))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert queue.get() == 0
    assert run_sums(pool, 2, INPUTS[3]).tobytes() == expected[3]


def interrupt_program(seconds: str) -> None:
    """Send SIGINT at random moments to a main thread that calls, stops and starts threads."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a shell started the tests in the background
    threads = Pool(max_workers=3)
    expected = expected_sums()
    total: Counter[str] = Counter()
    armed, over = threading.Event(), threading.Event()

    def interrupt() -> None:
        rng = random.Random(0)
        while not over.is_set():
            time.sleep(0.002 + 0.01 * rng.random())
            if armed.is_set():
                os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    end = time.monotonic() + float(seconds)
    seed = 0
    while time.monotonic() < end:
        seed += 1
        try:
            try:
                armed.set()
                if seed % 7 == 0:
                    threads.stop()
                total.update(mixed_calls(threads, expected, 0.02, seed))
            finally:
                armed.clear()
        except KeyboardInterrupt:
            total["interrupts"] += 1
    over.set()
    with contextlib.suppress(KeyboardInterrupt):  # one that was sent while `armed` was cleared
        time.sleep(0.1)
    after = mixed_calls(threads, expected, 5, seed, calls=500)
    print(dict(total), dict(after))
    assert total["interrupts"] > 5
    assert total["wrong"] == after["wrong"] == 0
    assert after["calls"] == 500


def exit_program(kind: str) -> None:
    """Leave the interpreter while other threads call."""
    threads = Pool(max_workers=3)
    expected = expected_sums()
    for seed in range(4):
        threading.Thread(
            target=mixed_calls, args=(threads, expected, 0.3 if kind == "joined" else 1e9, seed), daemon=kind == "daemon"
        ).start()
    mixed_calls(threads, expected, 0.1, 9)
    print("leaving")


def cache_program() -> None:
    """Print the compilations and the loads from disk that a first region took."""
    run_sums(pool, 2, INPUTS[3])
    functions: list[Any] = [region.serve, region.wake, region.spin, sum_rows, sum_tile]
    functions += [function.called() for function in functions]
    hits = sum(sum(function.stats.cache_hits.values()) for function in functions)
    misses = sum(sum(function.stats.cache_misses.values()) for function in functions)
    print(hits, misses)


def serial_program() -> None:
    """Print the handle and whether the sums are right, without any worker."""
    before = threading.active_count()
    right = run_sums(pool, 8, INPUTS[3]).tobytes() == expected_sums()[3]
    print(pool.handle(8), right, threading.active_count() - before)


PROGRAMS: dict[str, Callable[..., None]] = {
    "fork": fork_program,
    "fork-in-compilation": fork_in_compilation_program,
    "start-method": start_method_program,
    "interrupt": interrupt_program,
    "exit": exit_program,
    "cache": cache_program,
    "serial": serial_program,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
