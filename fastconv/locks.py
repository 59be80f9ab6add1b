"""Locks that a forked child finds open, whichever thread of its parent held them at the fork."""

from __future__ import annotations

import os
import threading
import weakref

_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()


def new_lock() -> threading.Lock:
    """Return a lock; in a forked child, where the thread that held it does not live, it is open.

    What it guards must make sense after every single step, as the child may find it between two.
    """
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def _open_all() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001  what the standard library does to its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
