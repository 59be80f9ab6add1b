"""Programs that use fastconv in processes, threads and workers of others, short of memory, or interrupted.

``python -m process_cases PROGRAM [ARGUMENTS]`` exits with 0 if every result had the bits of a serial call.
"""

# ruff: noqa: S311, T201  the randomness is for variety, and the programs print to the tests
from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np

import fastconv
from fastconv.backends import TABLE
from fastconv.planner import make_plan
from fastconv.problem import ConvProblem
from oracle import Array

#: One shape for each family; shapes that other tests have compiled kernels for.
SHAPES = (
    "g1mb2ic5ih11iw13oc7kh3kw3sh1sw1ph1pw1dh1dw1:float32",
    "g1mb2ic9ih7iw9oc21kh1kw1sh1sw1ph0pw0dh1dw1:float32",
    "g1mb3ic1ih19iw6oc1kh5kw5sh1sw1ph2pw2dh1dw1:float32",
)
PROBLEMS = tuple(map(ConvProblem.parse, SHAPES))
#: Every algorithm on the shapes that it accepts, the reference left out for its time.
CALLS = tuple((row.name, k) for row in TABLE for k, p in enumerate(PROBLEMS) if row.name != "naive" and row.refusal(p) is None)


def arrays(k: int) -> tuple[Array, Array]:
    """Return source and weights of shape `k`, the same in every process."""
    rng = np.random.default_rng(k)
    p = PROBLEMS[k]
    return rng.standard_normal(p.x_shape, np.float32), rng.standard_normal(p.w_shape, np.float32)


INPUTS = tuple(map(arrays, range(len(PROBLEMS))))


def call(which: int, threads: int = 1) -> bytes:
    """Return the bytes of the result of `CALLS[which]`, by the public function."""
    name, k = CALLS[which]
    p = PROBLEMS[k]
    x, w = INPUTS[k]
    with fastconv.config(threads=threads):
        return fastconv.conv2d(x, w, padding=(p.ph_lo, p.pw_lo), backend=name).tobytes()


def expected() -> list[bytes]:
    """Return the bytes of every call, computed one after another on one thread."""
    return [call(which) for which in range(len(CALLS))]


def wrong_in(task: tuple[int, int, list[bytes]]) -> int:
    """Make `count` random calls and count those with other bits than expected: the work of a worker."""
    seed, count, right = task
    rng = random.Random(seed)
    choices = [(rng.randrange(len(CALLS)), rng.choice((1, 2, 3, 8))) for _ in range(count)]
    return sum(call(which, threads) != right[which] for which, threads in choices)


def _tasks(right: list[bytes], count: int = 8, calls: int = 40) -> list[tuple[int, int, list[bytes]]]:
    return [(seed, calls, right) for seed in range(count)]


def threads_program() -> None:
    """Many threads, each with backends, shapes and numbers of threads of its own."""
    right = expected()
    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(wrong_in, _tasks(right, calls=300))) == [0] * 8


def processes_program(method: str) -> None:
    """A pool of processes, made after use while other threads compute."""
    right = expected()
    call(0, threads=2)
    over = threading.Event()

    def compute() -> None:
        for which in itertools.cycle(range(len(CALLS))):
            if over.is_set():
                return
            assert call(which, 2) == right[which]

    others = [threading.Thread(target=compute, daemon=True) for _ in range(2)]
    for other in others:
        other.start()
    context = multiprocessing.get_context(method)
    try:
        with context.Pool(2) as pool:
            assert pool.map_async(wrong_in, _tasks(right)).get(600) == [0] * 8
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            assert list(executor.map(wrong_in, _tasks(right, 2), timeout=600)) == [0, 0]
    finally:
        over.set()
    for other in others:
        other.join(60)
        assert not other.is_alive()
    assert wrong_in((9, 40, right)) == 0


def joblib_program(backend: str) -> None:
    """Workers of joblib."""
    import joblib

    right = expected()
    found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(wrong_in)(task) for task in _tasks(right))
    assert found == [0] * 8


def dask_program(scheduler: str) -> None:
    """Workers of dask's schedulers."""
    import dask

    right = expected()
    assert dask.compute(*(dask.delayed(wrong_in)(task) for task in _tasks(right)), scheduler=scheduler) == (0,) * 8


def interrupt_program(seconds: str) -> None:
    """SIGINT at random moments, also during the first calls, with plans being made and kept."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a shell started the tests in the background
    over, armed = threading.Event(), threading.Event()

    def interrupt() -> None:
        rng = random.Random(0)
        while not over.is_set():
            time.sleep(0.001 + 0.02 * rng.random())
            if armed.is_set():
                os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    count: Counter[str] = Counter()
    seen: dict[int, set[bytes]] = {}
    start, rng = time.monotonic(), random.Random(1)
    # Longer where the first calls compile, during which interrupts wait.
    while time.monotonic() - start < (float(seconds) if count["interrupts"] > 5 else 600):
        which = rng.randrange(len(CALLS))
        try:
            try:
                armed.set()
                result = call(which, rng.choice((1, 2, 3)))
            finally:
                armed.clear()
        except KeyboardInterrupt:
            count["interrupts"] += 1
        else:
            seen.setdefault(which, set()).add(result)
            count["calls"] += 1
    over.set()
    with contextlib.suppress(KeyboardInterrupt):  # one that was sent while `armed` was cleared
        time.sleep(0.1)
    right = expected()
    print(dict(count))
    assert count["interrupts"] > 5
    assert all(results == {right[which]} for which, results in seen.items())
    assert wrong_in((1, 200, right)) == 0


def exit_program() -> None:
    """Leave the interpreter while daemon threads, and threads of an executor that nobody waits for, compute."""
    right = expected()
    for seed in range(3):
        threading.Thread(target=wrong_in, args=((seed, 10**9, right),), daemon=True).start()
    executor = ThreadPoolExecutor(2)
    for seed in range(2):
        executor.submit(wrong_in, (seed, 60, right))
    assert wrong_in((7, 50, right)) == 0
    print("leaving")


def resident_nbytes() -> int:
    """Return the memory that the process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def leak_program(calls: str, plans: str) -> None:
    """Print how much memory grew over so many calls, plans, layers and refused calls."""
    right = expected()
    w = [INPUTS[k][1] for k in range(len(PROBLEMS))]

    def make_calls(count: int) -> None:
        for number in range(count):
            which = number % len(CALLS)
            assert call(which, 1 + number % 2) == right[which]

    def make_plans(count: int) -> None:
        for number in range(count):
            name, k = CALLS[number % len(CALLS)]
            # New weights each time, so that nothing that was kept can serve again.
            fastconv.plan(PROBLEMS[k].x_shape, w[k] + number, padding=(PROBLEMS[k].ph_lo, PROBLEMS[k].pw_lo), backend=name)(INPUTS[k][0])
            fastconv.conv2d(INPUTS[0][0], w[0] + number, padding=1, backend=CALLS[0][0])
            fastconv.Conv2d(w[0] + number, padding=1, backend=CALLS[0][0])(INPUTS[0][0])
            with contextlib.suppress(fastconv.ShapeError):
                fastconv.conv2d(INPUTS[0][0], w[1])

    def rounds(make: Any, count: int) -> list[int]:
        sizes = []
        for _ in range(5):
            make(count // 5)
            gc.collect()
            sizes.append(resident_nbytes() // 1024)
        return sizes

    # The first rounds fill the caches, which are bounded.
    make_calls(1000)
    make_plans(1200)
    print(*(f"{sizes[-1] - sizes[0]}" for sizes in (rounds(make_calls, int(calls)), rounds(make_plans, int(plans)))))


def memory_program() -> None:
    """Refuse memory at every size: a call ends with the right result or with MemoryError, and the next one is right."""
    import resource

    room = [bytearray(2**15) for _ in range(2**9)]  # for small objects, once freed
    del room
    count: Counter[str] = Counter()
    shapes = (
        "g1mb1ic9ih260iw300oc21kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias",
        "g1mb1ic2ih300iw320oc3kh13kw11sh1sw1ph6pw5dh1dw1:float32",
    )
    for text in shapes:
        p = ConvProblem.parse(text)
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal(p.x_shape, np.float32), rng.standard_normal(p.w_shape, np.float32)
        bias = rng.standard_normal(p.oc, np.float32) if p.has_bias else None
        for row in TABLE:
            # OpenBLAS, behind im2col, leaves the process when it gets no memory.
            if row.name in {"naive", "direct:planar", "im2col"} or row.refusal(p) is not None:
                continue

            def run(row: Any = row, p: Any = p, x: Any = x, w: Any = w, bias: Any = bias) -> Array:
                return make_plan(row, p, w, bias, threads=2, max_workspace=None)(x)

            right = run().tobytes()
            used = int(open("/proc/self/statm", encoding="ascii").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")  # noqa: SIM115
            for spare in (2**16, 2**20, 2**21, 2**22, 5 * 2**20, 2**23, 12 * 2**20, 2**24, 2**25, 2**26):
                resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
                try:
                    result = run().tobytes()
                except MemoryError:
                    result = None
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                count["refused" if result is None else "right" if result == right else "wrong"] += 1
            assert run().tobytes() == right, row.name
    print(dict(count))
    assert count["wrong"] == 0
    assert count["refused"] > 20


def torch_program(order: str) -> None:
    """Load torch, with its OpenMP runtime, before or after fastconv's threads start; each computes after the other."""
    right = expected() if order == "after" else None
    if order == "after":
        call(0, threads=2)
    import torch

    x, w = INPUTS[0]
    for _ in range(3):
        theirs = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1).numpy()
        ours = fastconv.conv2d(x, w, padding=1)
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        found = [call(which, threads=2) for which in range(len(CALLS))]
        assert right is None or found == right
        right = found


PROGRAMS: dict[str, Any] = {
    "threads": threads_program,
    "processes": processes_program,
    "joblib": joblib_program,
    "dask": dask_program,
    "interrupt": interrupt_program,
    "exit": exit_program,
    "leak": leak_program,
    "memory": memory_program,
    "torch": torch_program,
}

if __name__ == "__main__":
    if sys.argv[1] in {"processes", "joblib", "dask"}:
        # Workers find the functions under their own name, not under `__main__`.
        import process_cases

        process_cases.PROGRAMS[sys.argv[1]](*sys.argv[2:])
    else:
        PROGRAMS[sys.argv[1]](*sys.argv[2:])
