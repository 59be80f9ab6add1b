"""`patch_scipy`: scipy.signal and scipy.ndimage use fastconv, with no change to the code that calls them."""

from __future__ import annotations

import functools
import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.locks import new_lock
from fastconv.originals import NAMES, originals, passed_on

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class Record:
    """Calls of one function with arrays of the same shapes and dtypes, and the same other arguments.

    Attributes
    ----------
    function, arguments : str
        "signal.correlate2d"; the call's shape in words.
    calls, passed_on : int
        How often it was called; how many of the calls SciPy computed after all.
    seconds : float
        Time in fastconv, all calls but the first: that one may compile kernels.
    first_s : float
        Time of the first call.
    scipy_s : float
        Time of SciPy's function for one such call, measured once.
    """

    function: str
    arguments: str
    calls: int = 0
    passed_on: int = 0
    seconds: float = 0.0
    first_s: float = 0.0
    scipy_s: float = 0.0

    @property
    def call_s(self) -> float:
        """Seconds of one call in fastconv; that of the first if there was no other."""
        return self.seconds / (self.calls - 1) if self.calls > 1 else self.first_s

    @property
    def ratio(self) -> float:
        """SciPy's time over fastconv's, per call."""
        return self.scipy_s / self.call_s if self.call_s else float("inf")


class Patch:
    """What `patch_scipy` returns; as a context manager it takes the patch back at the end of the block.

    Attributes
    ----------
    records : list of Record
        The calls so far, in the order of their first appearance; empty unless asked for.
    """

    def __init__(self, *, was_patched: bool, record: bool) -> None:
        self._was_patched = was_patched
        self._record = record
        self._records: dict[tuple[str, str], Record] = {}
        self._lock = new_lock()

    @property
    def records(self) -> list[Record]:
        """The calls so far, by function and shape."""
        with self._lock:
            return list(self._records.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if not self._was_patched:
            unpatch_scipy()

    def wrap(self, module: str, name: str, ours: Callable[..., Any]) -> Callable[..., Any]:
        """Return `ours` itself, or a function that records its calls."""
        if not self._record:
            return ours
        theirs = originals(module)[name]

        @functools.wraps(ours)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            key = (f"{module}.{name}", _call_words(args, kwargs))
            with self._lock:
                record = self._records.get(key)
                is_new = record is None
                record = self._records.setdefault(key, Record(*key))
            copies = _copied(args, kwargs) if is_new else None
            noted = passed_on()
            start = time.perf_counter()
            result = ours(*args, **kwargs)
            seconds = time.perf_counter() - start
            with self._lock:
                record.calls += 1
                record.passed_on += passed_on() > noted
                if is_new:
                    record.first_s = seconds
                else:
                    record.seconds += seconds
            if copies is not None:
                start = time.perf_counter()
                theirs(*copies[0], **copies[1])
                record.scipy_s = time.perf_counter() - start
            return result

        return recorded


def _call_words(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    parts = [_word(value) for value in args] + [f"{name}={_word(value)}" for name, value in kwargs.items()]
    return ", ".join(parts)


def _word(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{'x'.join(map(str, value.shape))}]"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)[:40]


def _copied(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments with arrays copied, for SciPy's function to work on: outputs and inputs may be the same."""

    def copy(value: Any) -> Any:
        return value.copy() if isinstance(value, np.ndarray) else value

    return [copy(value) for value in args], {name: copy(value) for name, value in kwargs.items()}


_lock = threading.RLock()
_replaced: dict[tuple[str, str], Callable[..., Any]] = {}


def patch_scipy(*, record: bool = False) -> Patch:
    """Make `scipy.signal` and `scipy.ndimage` use fastconv's functions of the same names.

    Parameters
    ----------
    record : bool
        Count and time the calls, and time SciPy's own function once for each distinct call shape; see `Patch.records`.

    Returns
    -------
    Patch
        Use it in a ``with`` statement to patch inside the block only; the patch is process-wide all the same.

    See Also
    --------
    unpatch_scipy : takes it back.

    Notes
    -----
    Names that were imported from SciPy *before* the patch (``from scipy.signal import correlate2d``) keep pointing at
    SciPy's functions: patch first, or use ``python -m fastconv run script.py``. SciPy's own modules that look the names up
    in `scipy.ndimage` are served as well.

    Examples
    --------
    >>> import fastconv, scipy.signal
    >>> with fastconv.patch_scipy():
    ...     scipy.signal.correlate2d.__module__
    'fastconv.signal.images'
    """
    with _lock:
        patch = Patch(was_patched=bool(_replaced), record=record)
        for module, names in NAMES.items():
            originals(module)
            space = importlib.import_module(f"scipy.{module}")
            ours = importlib.import_module(f"fastconv.{module}")
            for name in names:
                if not patch._was_patched:  # noqa: SLF001  its maker
                    _replaced[module, name] = getattr(space, name)
                setattr(space, name, patch.wrap(module, name, getattr(ours, name)))
    return patch


def unpatch_scipy() -> None:
    """Give `scipy.signal` and `scipy.ndimage` their own functions back; does nothing if they have them.

    Examples
    --------
    >>> import fastconv, scipy.signal
    >>> patch = fastconv.patch_scipy()
    >>> fastconv.unpatch_scipy()
    >>> scipy.signal.correlate2d.__module__.partition(".")[0]
    'scipy'
    """
    with _lock:
        for (module, name), function in _replaced.items():
            setattr(importlib.import_module(f"scipy.{module}"), name, function)
        _replaced.clear()
