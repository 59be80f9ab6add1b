"""Plans of one-shot calls, kept for the next call with the same weights; equal by content, never by identity alone."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from fastconv._typing import Array
from fastconv.kernels.compare import same_bytes
from fastconv.locks import new_lock
from fastconv.plans import Plan, address

#: Makes a plan from weights and bias.
Making = Callable[[Array, Array | None], Plan]
#: Packed weights and copies of weights that the cache may hold altogether.
CACHE_NBYTES = 64 * 2**20
#: Requests remembered at most, those without a plan included.
MAX_ENTRIES = 1024
#: Up to this size, bytes made for the comparison cost less than looking up two addresses.
SMALL_NBYTES = 2048


class Snapshot:
    """The bytes of an array as they were, in C order, to compare others of the same shape and dtype with."""

    __slots__ = ("_at", "_bytes", "array", "nbytes")

    def __init__(self, array: Array) -> None:
        self.nbytes = array.nbytes
        self.array = array.copy(order="C")
        self._at = address(self.array)
        self._bytes = self.array.tobytes() if array.nbytes <= SMALL_NBYTES else None

    def is_still(self, array: Array) -> bool:
        """Tell whether `array` has these bytes (so that NaN equals itself, and 0.0 is not -0.0)."""
        if self._bytes is not None:
            return array.tobytes() == self._bytes
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        return same_bytes(self._at, address(array), self.nbytes)


@dataclass
class _Entry:
    """A plan with the copies of the weights that it was made from; None until the same array comes a second time."""

    seen: weakref.ref[Array]
    w: Snapshot | None = None
    bias: Snapshot | None = None
    plan: Plan | None = None

    @property
    def nbytes(self) -> int:
        if self.plan is None or self.w is None:
            return 0
        return self.plan.packed_nbytes + self.w.nbytes + (0 if self.bias is None else self.bias.nbytes)


class PlanCache:
    """Least recently used plans by request, bounded in bytes; safe with many threads.

    A plan is kept from the second call with the same array object on. It is then made from a copy of the weights, which
    stays with it, and used again only where the weights given now have the same bytes as that copy. So a mutated array
    gives new results, and a caller whose weights change with each call pays a weak reference, not a copy.
    """

    def __init__(self, limit_nbytes: int = CACHE_NBYTES) -> None:
        self.limit_nbytes = limit_nbytes
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._nbytes = 0
        self._lock = new_lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._nbytes

    def find(self, key: Hashable, w: Array, bias: Array | None) -> Plan | None:
        """Return the plan kept for `key` if it was made from weights and bias with the same bytes.

        Shapes and dtypes of both are a part of what `key` stands for; they are not compared here.
        """
        # Without the lock: each step on the table is one operation of the interpreter.
        entry = self._entries.get(key)
        if entry is None or entry.w is None or not entry.w.is_still(w):
            return None
        if entry.bias is not None and bias is not None and not entry.bias.is_still(bias):
            return None
        try:  # noqa: SIM105  contextlib.suppress costs a microsecond
            self._entries.move_to_end(key)
        except KeyError:  # another thread has just dropped it
            pass
        return entry.plan

    def made(self, key: Hashable, w: Array, bias: Array | None, make: Making, *, owner: Array | None = None) -> Plan:
        """Return a new plan for `key`, and keep it if the array `w`, or its `owner` where one is named, came for `key` before.

        Parameters
        ----------
        key : hashable
            The request, shapes and dtypes of weights and bias included.
        w : ndarray
        bias : ndarray, optional
        make : callable
            Called once as ``make(w, bias)``, with copies where the plan is kept: it may hold them.
        owner : ndarray, optional
            The array that stays the same over calls where `w` is a new view each time.
        """
        owner = owner if isinstance(owner, np.ndarray) else w
        new, entry = _Entry(weakref.ref(owner)), self._entries.get(key)
        if entry is not None and entry.plan is None and entry.seen() is owner:
            new.w, new.bias = Snapshot(w), None if bias is None else Snapshot(bias)
            plan = new.plan = make(new.w.array, None if new.bias is None else new.bias.array)
            if new.nbytes > self.limit_nbytes:
                new = _Entry(weakref.ref(owner))
        else:
            plan = make(w, bias)
        self._keep(key, new)
        return plan

    def _keep(self, key: Hashable, new: _Entry) -> None:
        """Put `new` in the place of what is there, and drop the least recently used beyond the limits."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._nbytes -= entry.nbytes
            self._entries[key] = new
            self._nbytes += new.nbytes
            while self._nbytes > self.limit_nbytes or len(self._entries) > MAX_ENTRIES:
                _, oldest = self._entries.popitem(last=False)
                self._nbytes -= oldest.nbytes

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0
