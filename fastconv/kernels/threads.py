"""The worker threads behind `parallel_for`: when they start, how many there are, what a fork leaves of them.

The workers are daemon threads of Python that spend their lives inside one jitted function without the GIL; see
`fastconv.kernels.region` for what they do there. In jitted code::

    parallel_for(ctl, nthreads, ntiles, tile, args)      runs tile(i, tid, *args) for i in range(ntiles)

and from Python ``ctl = pool.handle(nthreads)``. The environment variable FASTCONV_THREAD_POOL=serial makes every region run
on the caller's thread alone; so does the absence of what the pool needs (see `native_obstacle`).
"""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
import threading
import time
from typing import Any

import numpy as np
from numba.core import config

from fastconv.kernels import region
from fastconv.kernels.region import LINE, parallel_for

__all__ = ["Pool", "native_obstacle", "parallel_for", "pool"]

# Measured by `python bench/test_threads.py` on two cores of a virtual machine.
#: How long a worker spins for the next region before it sleeps: 10 us cost 0.6 us more back to back and 40 us more
#: after 2 ms of idleness. A call that packs its weights anew leaves 40 to 70 us between two regions: with 30 us here such
#: calls of small layers took a fifth longer, with 200 us as long.
WORKER_SPIN_S = 100e-6
#: How long a caller spins for the last workers of its region before it sleeps: with 20 us it took 70 to 90 us longer from
#: idle, where the worker begins late and ends late.
CALLER_SPIN_S = 100e-6
#: More workers than this never make sense in one convolution.
MAX_WORKERS = 255

_LOCK_FUNCTIONS = ("PyThread_allocate_lock", "PyThread_acquire_lock", "PyThread_release_lock", "PyMem_RawCalloc")


def native_obstacle() -> str | None:
    """Return why worker threads cannot be used in this process, or None if they can."""
    mode = os.environ.get("FASTCONV_THREAD_POOL", "native")
    if mode not in {"native", "serial"}:
        return f"FASTCONV_THREAD_POOL must be 'native' or 'serial'; got {mode!r}"
    if mode == "serial":
        return "FASTCONV_THREAD_POOL is 'serial'"
    if config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set"
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "addresses are not 64 bits wide"
    api = getattr(ctypes, "pythonapi", None)
    missing = [name for name in _LOCK_FUNCTIONS if not hasattr(api, name)]
    return f"this Python lacks {', '.join(missing)}" if missing else None


def _address(library: Any, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _locked_lock() -> int:
    """Return a new lock of CPython's, taken; it is never freed, because a thread may always be asleep on it."""
    allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
    acquire = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(("PyThread_acquire_lock", ctypes.pythonapi))
    lock: int | None = allocate()
    if not lock:
        raise MemoryError("no memory for a lock")
    acquire(lock, 1)
    return lock


def _turn_s() -> float:
    """Return how long one turn of a spinning loop takes."""
    region.spin(10)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        region.spin(300)
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9) / 300


def _work(ctl: int, words: Any, alive: set[int], worker: int) -> None:
    """Be worker number `worker`: the body of its thread."""
    words[(region.FIRST_WORKER + worker * LINE + region.THREAD_ID) // 8] = threading.get_native_id()
    region.serve(ctl, worker)
    alive.discard(worker)


class Pool:
    """Worker threads that join parallel regions; a process needs one, `pool`.

    Parameters
    ----------
    max_workers : int, optional
        Most workers ever started; the number of CPUs less one by default.

    Notes
    -----
    All methods may be called from any thread at any time. A forked child begins with an empty pool.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers = min((os.cpu_count() or 1) - 1 if max_workers is None else max_workers, MAX_WORKERS)
        self._lock = threading.Lock()
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _begin(self) -> None:
        """Begin without a block and without workers."""
        self._ctl = 0
        self._words: Any = None
        self._started = 0
        self._alive: set[int] = set()
        self._limit = self.max_workers

    def stop(self, timeout: float = 1.0) -> bool:
        """End the workers; the next `handle` starts new ones. Return whether all ended within `timeout` seconds.

        Regions that run go on: a worker ends after the tiles that it has taken.
        """
        if not self._lock.acquire(timeout=timeout):
            return False
        try:
            if self._ctl:
                self._set(region.WORKERS, 0)
                self._set(region.STOPPING, 1)
                region.wake(self._ctl, self._started)
                deadline = time.monotonic() + timeout
                while self._alive and time.monotonic() < deadline:
                    time.sleep(0.0005)
        finally:
            ended = not self._alive
            if self._ctl and ended:
                self._set(region.STOPPING, 0)
                self._started, self._limit = 0, self.max_workers
            else:  # leave the block to those still in it: on a second use two workers could share one index
                self._begin()
            self._lock.release()
        return ended

    def _after_fork(self) -> None:
        """Begin anew in a forked child, where no worker lives; old handles become serial."""
        if self._words is not None:
            self._set(region.WORKERS, 0)
        self._lock = threading.Lock()
        self._begin()

    def _set(self, offset: int, value: int) -> None:
        self._words[offset // 8] = value

    def handle(self, nthreads: int) -> int:
        """Return what `parallel_for` needs to run on `nthreads` threads, starting workers that are missing.

        It is 0, which means "alone", for one thread and where there can be no workers.
        """
        if nthreads <= 1:
            return 0
        if nthreads - 1 > self._started < self._limit:
            self._grow(nthreads - 1)
        return self._ctl

    def _grow(self, workers: int) -> None:
        """Start workers up to a number; do nothing if another thread is at it."""
        # Not waiting means that an interrupt between taking and guarding the lock costs workers, never a hang.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._ctl:
                if native_obstacle() is not None:
                    self._limit = 0
                    return
                self._create()
            while self._started < min(workers, self._limit):
                worker = self._started
                # Claimed first: an interrupt must never give two threads one index, hence one tid.
                self._started += 1
                self._prepare(worker)
                self._alive.add(worker)
                try:
                    _thread.start_new_thread(_work, (self._ctl, self._words, self._alive, worker))
                except RuntimeError:  # no more threads are allowed; go on with what there is
                    self._alive.discard(worker)
                    self._limit = worker
                    break
                self._set(region.WORKERS, self._started)
        finally:
            self._lock.release()

    def _create(self) -> None:
        """Allocate and fill the control block; it is never freed, because some thread may always look at it."""
        region.serve.compile(region.SERVE_TYPES)  # type: ignore[attr-defined]
        count = (region.FIRST_WORKER + MAX_WORKERS * LINE) // 8
        allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(("PyMem_RawCalloc", ctypes.pythonapi))
        start: int | None = allocate(count + LINE // 8, 8)
        if not start:
            raise MemoryError("no memory for the control block of the threads")
        ctl = -(-start // LINE) * LINE
        self._words = np.ctypeslib.as_array((ctypes.c_int64 * count).from_address(ctl))
        turn_s = _turn_s()
        self._set(region.ACQUIRE, _address(ctypes.pythonapi, "PyThread_acquire_lock"))
        self._set(region.RELEASE, _address(ctypes.pythonapi, "PyThread_release_lock"))
        self._set(region.DONE_LOCK, _locked_lock())
        self._set(region.WORKER_TURNS, max(1, round(WORKER_SPIN_S / turn_s)))
        self._set(region.CALLER_TURNS, max(1, round(CALLER_SPIN_S / turn_s)))
        if sys.platform == "linux":
            self._allow_affinity()
        self._ctl = ctl

    def _allow_affinity(self) -> None:
        """Enter the functions by which `region.avoid_own_cpu` works, if the C library has all."""
        library = ctypes.CDLL(None)
        try:
            addresses = [_address(library, f"sched_{name}") for name in ("getcpu", "getaffinity", "setaffinity")]
        except AttributeError:
            return
        for offset, address in zip((region.GETCPU, region.GETAFFINITY, region.SETAFFINITY), addresses, strict=True):
            self._set(offset, address)

    def _prepare(self, worker: int) -> None:
        """Fill the line of a worker that starts."""
        line = region.FIRST_WORKER + worker * LINE
        if not self._words[(line + region.LOCK) // 8]:
            self._set(line + region.LOCK, _locked_lock())
        self._set(line + region.THREAD_ID, 0)
        self._set(line + region.CPU_AVOIDED, -1)


pool = Pool()
