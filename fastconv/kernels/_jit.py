"""The one typed wrapper around ``numba.njit``, with a disk cache that is safe against stale code.

Numba stamps a cached function with the hash of *its own* file only, so an edit (or an upgrade) of another
file that it calls leaves old machine code in use. Here every kernel carries one stamp over the sources of
the whole ``fastconv.kernels`` package, the fastconv version and the compiler switches; the stamp is part of
the file names, so kernels of two versions never share a file. A damaged cache file counts as absent, and so
does one that another process wrote for another kernel in a race. The name and the features of the CPU are in
Numba's key. Forks wait for running compilations, and so do interrupts (Ctrl-C).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import pickle
import signal
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, overload

import numba
from numba import types
from numba.core import caching, config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys

from fastconv._version import __version__
from fastconv.kernels._linked import LinkedCacheImpl, LinkedCompiler, LinkingCompiler

P = ParamSpec("P")
R = TypeVar("R")

_KERNEL_FOLDER = Path(__file__).parent


@functools.cache
def source_stamp() -> str:
    """Return the hash of everything that decides what a kernel compiles to, besides the CPU.

    It covers each source file of ``fastconv.kernels`` by content, the package version, the versions of
    Numba and Python, and the switches that Numba leaves out of its own key.
    """
    digest = hashlib.sha256()
    for path in sorted(_KERNEL_FOLDER.rglob("*.py")):
        digest.update(path.relative_to(_KERNEL_FOLDER).as_posix().encode())
        digest.update(path.read_bytes())
    switches = (
        __version__, numba.__version__, sys.version_info[:2],
        config.BOUNDSCHECK, str(config.OPT), config.ENABLE_AVX, config.DISABLE_INTEL_SVML,
    )  # fmt: skip
    digest.update(repr(switches).encode())
    return digest.hexdigest()[:16]


def _is_own(path: str) -> bool:
    return _KERNEL_FOLDER in Path(path).parents


@functools.cache
def _stamp_for(path: str) -> str:
    """Return the stamp of kernels defined in the file `path`: outside the package its content counts too."""
    if _is_own(path):
        return source_stamp()
    return hashlib.sha256(source_stamp().encode() + Path(path).read_bytes()).hexdigest()[:16]


@functools.cache
def _is_usable(folder: str) -> bool:
    """Tell whether files can be created in `folder` (made if missing); asked once per folder."""
    probe = os.path.join(folder, f".fastconv-probe-{os.getpid()}")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(probe, "wb"):
            pass
        os.unlink(probe)
    except OSError:
        return False
    return True


@functools.cache
def _warn_no_cache() -> None:
    warnings.warn(
        "fastconv: no folder for compiled kernels is writable, so they are compiled anew in each process. "
        "Set NUMBA_CACHE_DIR to a writable folder.",
        RuntimeWarning,
        stacklevel=2,
    )


class _ProbedOnce:
    """Ask once per folder, not once per kernel, whether it can be written."""

    def ensure_cache_path(self) -> None:
        path = self.get_cache_path()  # type: ignore[attr-defined]
        if not _is_usable(path):
            raise OSError(f"the kernel cache folder {path} is not writable")


class _UserLocator(_ProbedOnce, caching.UserProvidedCacheLocator):  # type: ignore[misc]
    pass


class _InTreeLocator(_ProbedOnce, caching.InTreeCacheLocator):  # type: ignore[misc]
    pass


class _UserWideLocator(_ProbedOnce, caching.UserWideCacheLocator):  # type: ignore[misc]
    pass


class _KernelCacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_UserLocator, _InTreeLocator, _UserWideLocator]  # noqa: RUF012  (Numba's own spelling)


class _CheckedFiles(caching.IndexDataCacheFile):  # type: ignore[misc]
    """Cache files that are believed only if they are whole and hold the kernel that was asked for.

    Two processes that save at the same time can leave an index that names the other's file; and a damaged file
    of machine code may well unpickle. So each file holds its key and a checksum over all.
    """

    def save(self, key: Any, data: Any) -> None:
        payload: bytes = self._dump((key, data))
        try:
            super().save(key, zlib.crc32(payload).to_bytes(4, "little") + payload)
        except OSError:
            raise
        except Exception:  # noqa: BLE001  the index that is to be extended is damaged: begin a new one
            self.flush()
            super().save(key, zlib.crc32(payload).to_bytes(4, "little") + payload)

    def load(self, key: Any) -> Any:
        stored = super().load(key)
        if stored is None or zlib.crc32(stored[4:]) != int.from_bytes(stored[:4], "little"):
            return None
        found, data = pickle.loads(stored[4:])  # noqa: S301  as trusted as the machine code that it holds
        return data if found == key else None


class _LinkedCacheImpl(LinkedCacheImpl):
    _locator_classes = _KernelCacheImpl._locator_classes  # noqa: SLF001


class KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's function cache with the package stamp; unreadable or unwritable files are survived.

    Numba prepares for compiling before it looks for a stored kernel: it imports its implementations of Python and
    NumPy, and with them ``scipy.linalg``, 0.2 s in which a first call would wait for nothing.
    """

    _impl_class: type = _KernelCacheImpl
    _kind = ""

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        path = inspect.getfile(py_func)
        self._needs_numba = not _is_own(path)  # other people's kernels may call what only these imports bring
        stamp = _stamp_for(path) + self._kind
        self._cache_file = _CheckedFiles(self.cache_path, f"{self._impl.filename_base}-{stamp}", stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the cached overload, or None where there is none or its file is damaged."""
        try:
            if self._needs_numba:
                return super().load_overload(sig, target_context)
            rtsys.initialize(target_context)
            return self._load_overload(sig, target_context)
        except Exception:  # noqa: BLE001  a damaged pickle can raise anything; the kernel is compiled anew
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store an overload; a full or vanished disk costs the next process a compilation, no more."""
        try:
            super().save_overload(sig, data)
        except OSError:
            _warn_no_cache()


class _LinkedCache(KernelCache):
    _impl_class = _LinkedCacheImpl
    _kind = "-linked"


#: A child forked while another thread compiles would inherit a locked compiler, and hang when it compiles.
#: The fork waits for the compilation to end; bounded, because a fork must never hang here.
_FORK_WAIT_S = 60.0
_fork = threading.local()


def _hold_compiler() -> None:
    _fork.held = global_compiler_lock._lock.acquire(timeout=_FORK_WAIT_S)  # noqa: SLF001  the public one has no timeout


def _release_compiler() -> None:
    if _fork.held:
        global_compiler_lock._lock.release()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_compiler, after_in_parent=_release_compiler, after_in_child=_release_compiler)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait until the block ends: one that falls into the release of an LLVM object has it freed twice, an abort.

    Python handles signals in the main thread alone, so only there is anything to do.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[Any] = []
    signal.signal(signal.SIGINT, lambda *received: came.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])


@overload
def jit(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def jit(
    *, fastmath: bool | set[str] = ..., error_model: Literal["python", "numpy"] = ...
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def jit(
    function: Callable[P, R] | None = None,
    /,
    *,
    fastmath: bool | set[str] = False,
    error_model: Literal["python", "numpy"] = "numpy",
) -> Any:
    """Compile a kernel: no Python objects, the GIL released, cached on disk.

    Parameters
    ----------
    function : callable
        The kernel, a module-level function (a closure would never hit the cache).
    fastmath : bool or set of str
        LLVM fast-math flags. Pass a set such as ``{"contract"}``; never "nnan" or "ninf": results with NaN and
        infinity are part of the contract.
    error_model : {"numpy", "python"}
        With "numpy" a division by zero does not raise.
    """

    def wrap(py_func: Callable[P, R]) -> Callable[P, R]:
        options = {"nogil": True, "fastmath": fastmath, "error_model": error_model, "pipeline_class": LinkingCompiler}
        dispatcher: Any = _dispatcher(py_func, KernelCache, options)
        if not config.DISABLE_JIT:
            _link_into_callers(dispatcher, options)
        compiled: Callable[P, R] = dispatcher
        return compiled

    return wrap if function is None else wrap(function)


def _dispatcher(py_func: Callable[P, R], cache: type[KernelCache], options: dict[str, Any]) -> Any:
    """Return Numba's dispatcher of `py_func`, cached in files of one kind."""
    dispatcher: Any = numba.njit(**options)(py_func)
    if not config.DISABLE_JIT:
        dispatcher.compile = _interrupts_wait()(dispatcher.compile)
        try:
            dispatcher._cache = cache(py_func)  # noqa: SLF001  what enable_caching() does
        except RuntimeError:
            _warn_no_cache()
    return dispatcher


def _link_into_callers(dispatcher: Any, options: dict[str, Any]) -> None:
    """Let kernels that call `dispatcher` use its twin without entry points and machine code: a third of the compiler's work."""

    @functools.cache
    def called() -> Any:
        """Return the twin; made when a kernel first asks for it."""
        words = {**options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": LinkedCompiler}
        return _dispatcher(dispatcher.py_func, _LinkedCache, words)

    def template(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        """Return the typing of a call; one compilation serves constants and variables, LLVM sees constants anyway."""
        return called().get_call_template([types.unliteral(kind) for kind in args], {name: types.unliteral(kws[name]) for name in kws})

    dispatcher.get_call_template = template
    dispatcher.get_overload = lambda sig: called().get_overload(sig)
    dispatcher.called = called
