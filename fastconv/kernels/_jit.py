"""The one typed wrapper around ``numba.njit``, with a disk cache that is safe against stale code.

Numba stamps a cached function with the hash of *its own* file only, so an edit (or an upgrade) of another
file that it calls leaves old machine code in use. Here every kernel carries one stamp over the sources of
the whole ``fastconv.kernels`` package, the fastconv version and the compiler switches; the stamp is part of
the file names, so kernels of two versions never share a file. A damaged cache file counts as absent.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, overload

import numba
from numba.core import caching, config

from fastconv._version import __version__

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


class _StampMixin:
    """Replace Numba's per-file stamp by the package's."""

    _lineno: int

    def get_source_stamp(self) -> str:
        return source_stamp()

    def get_disambiguator(self) -> str:
        return f"{self._lineno}-{source_stamp()}"

    def ensure_cache_path(self) -> None:
        path = self.get_cache_path()  # type: ignore[attr-defined]
        if not _is_usable(path):
            raise OSError(f"the kernel cache folder {path} is not writable")


class _UserLocator(_StampMixin, caching.UserProvidedCacheLocator):  # type: ignore[misc]
    pass


class _InTreeLocator(_StampMixin, caching.InTreeCacheLocator):  # type: ignore[misc]
    pass


class _UserWideLocator(_StampMixin, caching.UserWideCacheLocator):  # type: ignore[misc]
    pass


class _KernelCacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_UserLocator, _InTreeLocator, _UserWideLocator]  # noqa: RUF012  (Numba's own spelling)


class KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's function cache with the package stamp; unreadable or unwritable files are survived."""

    _impl_class = _KernelCacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the cached overload, or None where there is none or its file is damaged."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001  a damaged pickle can raise anything; the kernel is compiled anew
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store an overload; a full or vanished disk costs the next process a compilation, no more."""
        try:
            super().save_overload(sig, data)
        except OSError:
            _warn_no_cache()


@overload
def jit(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def jit(
    *, inline: bool = ..., fastmath: bool | set[str] = ..., error_model: Literal["python", "numpy"] = ...
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def jit(
    function: Callable[P, R] | None = None,
    /,
    *,
    inline: bool = False,
    fastmath: bool | set[str] = False,
    error_model: Literal["python", "numpy"] = "numpy",
) -> Any:
    """Compile a kernel: no Python objects, the GIL released, cached on disk.

    Parameters
    ----------
    function : callable
        The kernel, a module-level function (a closure would never hit the cache).
    inline : bool
        Inline at Numba level into each caller.
    fastmath : bool or set of str
        LLVM fast-math flags. Pass a set such as ``{"contract"}``; never "nnan" or "ninf": results with NaN and
        infinity are part of the contract.
    error_model : {"numpy", "python"}
        With "numpy" a division by zero does not raise.
    """

    def wrap(py_func: Callable[P, R]) -> Callable[P, R]:
        dispatcher: Any = numba.njit(
            nogil=True, inline="always" if inline else "never", fastmath=fastmath, error_model=error_model
        )(py_func)
        if not config.DISABLE_JIT:
            try:
                dispatcher._cache = KernelCache(py_func)  # noqa: SLF001  what enable_caching() does
            except RuntimeError:
                _warn_no_cache()
        compiled: Callable[P, R] = dispatcher
        return compiled

    return wrap if function is None else wrap(function)
