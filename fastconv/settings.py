"""`Config`: the settings, their sources and which source wins."""

from __future__ import annotations

import contextvars
import difflib
import functools
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from fastconv.errors import ConfigError
from fastconv.locks import new_lock
from fastconv.machine import usable_cores

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(|[KMG]i?B|B)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _backend(value: Any) -> str:
    from fastconv.backends import named, suggestion  # noqa: PLC0415  the table imports the kernels; settings must not, at import time

    if not isinstance(value, str) or not named(value):
        raise ValueError(suggestion(str(value)))
    return value


def _threads(value: Any) -> int:
    if value == "auto":
        return usable_cores()
    count = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"must be 'auto' or an integer of at least 1; got {value!r}.")
    return count


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"must be one of {', '.join(map(repr, allowed))}; got {value!r}.{hint}")
        return str(value)

    return check


def _max_workspace(value: Any) -> int | None:
    if value is None or value == "auto":
        return None
    if isinstance(value, str):
        match = _BYTES.fullmatch(value.strip())
        if match:
            return int(float(match[1]) * _UNITS[match[2].lower()])
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"must be 'auto', a number of bytes or a size such as '64MiB'; got {value!r}.")


def _wisdom(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError(f"must be 'auto', 'off' or the path of a file; got {value!r}.")
    return os.fspath(value)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "backend": _backend,
    "threads": _threads,
    "accuracy": _one_of("strict", "standard", "fast"),
    "max_workspace": _max_workspace,
    "effort": _one_of("estimate", "measure"),
    "wisdom": _wisdom,
    "ndimage_precision": _one_of("double", "input"),
    "separable": _one_of("auto", "off"),
}
DEFAULTS: dict[str, Any] = {
    "backend": "auto",
    "threads": "auto",
    "accuracy": "standard",
    "max_workspace": "auto",
    "effort": "estimate",
    "wisdom": "auto",
    "ndimage_precision": "double",
    "separable": "auto",
}
ENVIRONMENT = {name: f"FASTCONV_{name.upper()}" for name in DEFAULTS}


@dataclass(frozen=True)
class Config:
    """The settings in force.

    Attributes
    ----------
    backend : str
        "auto", a backend or a variant.
    threads : int
        Threads that a call may use, at least 1.
    accuracy : {"strict", "standard", "fast"}
        Which algorithms may be chosen without being named: elementwise ones only; also FFT and Winograd
        with an error of a few times that of plain summation; also Winograd F(6x6).
    max_workspace : int or None
        Bytes of scratch memory that a plan may take; None = 64 MiB or a tenth of input and output.
    effort : {"estimate", "measure"}
        Whether a new problem is decided by the cost model or measured.
    wisdom : str
        "auto" (a file in the user's cache folder), "off", or a path.
    ndimage_precision : {"double", "input"}
        Whether `fastconv.ndimage` sums in double, as SciPy does, or sums float32 in float32.
    separable : {"auto", "off"}
        Whether "direct" runs kernels of rank 1, such as a Gaussian, as two one-dimensional passes.
    sources : dict of str to str
        Where each value came from.

    Notes
    -----
    As returned by `config` it is a context manager as well: its settings hold inside the ``with`` block, in
    the thread or task that entered it.
    """

    backend: str
    threads: int
    accuracy: str
    max_workspace: int | None
    effort: str
    wisdom: str
    ndimage_precision: str
    separable: str
    sources: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    _own: tuple[tuple[str, Any], ...] = field(default=(), compare=False, repr=False)
    #: Each call looks a plan up by its settings, so the hash is taken once.
    _hash: int = field(init=False, compare=False, repr=False)

    def __enter__(self) -> Config:  # noqa: PYI034  the settings in force, which lie on top of others
        _contexts.set((*_contexts.get(), self._own))
        return get_config()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        _contexts.set(_contexts.get()[:-1])

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, name) for name in DEFAULTS)))

    def __hash__(self) -> int:
        return self._hash


_Layer = tuple[tuple[str, Any], ...]
_contexts: contextvars.ContextVar[tuple[_Layer, ...]] = contextvars.ContextVar("fastconv_config", default=())
_process: dict[str, Any] = {}
_lock = new_lock()


def _checked(name: str, value: Any, where: str) -> Any:
    if name not in _CHECKS:
        near = difflib.get_close_matches(name, _CHECKS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{where}: unknown setting {name!r}; the settings are {', '.join(_CHECKS)}.{hint}")
    try:
        return _CHECKS[name](value)
    except ValueError as error:
        raise ConfigError(f"{where}: {name} {error}") from None


def _file_settings(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the settings of the nearest fastconv.toml or pyproject.toml with [tool.fastconv], and its path."""
    for place in (folder, *folder.parents):
        for name in ("fastconv.toml", "pyproject.toml"):
            path = place / name
            if not path.is_file():
                continue
            try:
                content = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                if name == "pyproject.toml":
                    continue  # not ours to complain about: other tools own this file
                raise ConfigError(f"{path}: cannot be read as TOML: {error}") from None
            if name == "pyproject.toml":
                if "fastconv" not in content.get("tool", {}):
                    continue
                content = content["tool"]["fastconv"]
            return content, str(path)
    return {}, ""


@functools.cache
def _base_layers() -> dict[str, tuple[Any, str]]:
    """Return name -> (checked value, source) of defaults, file and environment: read once per process."""
    found = {name: (_checked(name, value, "default"), "default") for name, value in DEFAULTS.items()}
    try:
        settings, path = _file_settings(Path.cwd())
    except OSError:  # the working folder is gone
        settings, path = {}, ""
    for name, value in settings.items():
        found[name] = (_checked(name, value, path), path)
    for name, variable in ENVIRONMENT.items():
        if variable in os.environ:
            where = f"environment variable {variable}"
            found[name] = (_checked(name, os.environ[variable], where), where)
    return found


@functools.lru_cache(maxsize=256)
def _resolve(process: _Layer, contexts: tuple[_Layer, ...], own: _Layer) -> Config:
    found = dict(_base_layers())
    found.update({name: (value, "set_config") for name, value in process})
    for layer in contexts:
        found.update({name: (value, "with fastconv.config") for name, value in layer})
    found.update({name: (value, "argument") for name, value in own})
    values = {name: value for name, (value, _) in found.items()}
    return Config(**values, sources={name: source for name, (_, source) in found.items()}, _own=own)


def get_config() -> Config:
    """Return the settings in force in this thread or task.

    Raises
    ------
    ConfigError
        If the environment or a file holds an unknown setting or value.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.config(threads=1):
    ...     fastconv.get_config().threads
    1
    """
    global _last  # noqa: PLW0603  one tuple, exchanged as a whole
    process, contexts, last = _process_layer, _contexts.get(), _last
    if last[0] is not process or last[1] is not contexts:
        last = _last = (process, contexts, _resolve(process, contexts, ()))
    found: Config = last[2]
    return found


_process_layer: _Layer = ()
#: The two layers of the last call with what they gave: most calls meet the same.
_last: Any = (None, None, None)


def set_config(**settings: Any) -> None:
    """Set settings for the whole process; a value of None takes the setting back to environment, file or default.

    Parameters
    ----------
    **settings
        backend, threads, accuracy, max_workspace, effort, wisdom, ndimage_precision, separable: see `Config`.

    Raises
    ------
    ConfigError
        If a name or value is unknown; nothing is set then.
    """
    global _process_layer  # noqa: PLW0603  the one process-wide layer
    checked = {name: None if value is None and name in _CHECKS else _checked(name, value, "set_config") for name, value in settings.items()}
    with _lock:
        for name, value in checked.items():
            _process.pop(name, None)
            if settings[name] is not None:
                _process[name] = value
        _process_layer = tuple(_process.items())


def config(**settings: Any) -> Config:
    """Return the active settings with `settings` on top; in a ``with`` statement, they hold inside the block.

    Parameters
    ----------
    **settings
        backend, threads, accuracy, max_workspace, effort, wisdom, ndimage_precision, separable: see `Config`. Without any, the active
        settings are returned.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        If a name or value is unknown.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.config(backend="naive").backend
    'naive'
    """
    own = tuple((name, _checked(name, value, "config")) for name, value in settings.items())
    return _resolve(_process_layer, _contexts.get(), own)


def forget_sources() -> None:
    """Read environment and files anew at the next use."""
    global _last  # noqa: PLW0603
    _base_layers.cache_clear()
    _resolve.cache_clear()
    _last = (None, None, None)
