"""Wisdom: what was measured on this machine, as JSON; read with suspicion, written atomically, merged under a lock."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastconv._version import __version__
from fastconv.errors import WisdomError
from fastconv.locks import new_lock
from fastconv.problem import ConvProblem

FORMAT = "fastconv wisdom"
FORMAT_VERSION = 1
#: How long a writer waits for another one to finish before it gives up.
LOCK_TIMEOUT_S = 10.0
#: A lock file older than this was left by a process that died.
LOCK_STALE_S = 60.0
#: Grows whenever any wisdom of this process changes, so that plans chosen before can be told from those after.
changes = 0
#: A larger file is not wisdom.
LARGEST_NBYTES = 64 * 2**20


def cache_folder() -> Path:
    """Return the user's cache folder for fastconv (not created)."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home())
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "fastconv"


def wisdom_path(setting: str) -> Path | None:
    """Return the file that the setting "wisdom" means, None for "off"."""
    if setting == "off":
        return None
    if setting == "auto":
        try:
            return cache_folder() / "wisdom.json"
        except RuntimeError:  # no home folder
            return None
    return Path(setting)


@functools.cache
def machine_key() -> str:
    """Return what tells machines apart for timings: CPU model, instruction set, cores, and the versions of what makes the code."""
    from fastconv.kernels.target import host  # noqa: PLC0415  starts LLVM
    from fastconv.machine import usable_cores  # noqa: PLC0415

    versions = f"fastconv {__version__}, numba {numba.__version__}, numpy {np.__version__}"
    return f"{_cpu_name()} | {host().name} | {usable_cores()} cores | {versions}"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def problem_key(problem: ConvProblem, threads: int) -> str:
    """Return the key of a measurement."""
    return f"{problem} threads={threads}"


class Wisdom:
    """The measurements of one file. Loaded at the first look-up, again when the file changes.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Grows whenever the content changes, so that decisions made before can be dropped.
        self.generation = 0
        self._stamp: tuple[int, int] | None = None
        self._content: dict[str, Any] = {}
        self._lock = new_lock()
        self._complained: str | None = None

    # ---- reading

    def seconds(self, problem: ConvProblem, threads: int) -> dict[str, float]:
        """Return measured seconds by algorithm name for this machine; empty if nothing is known."""
        entry = self._machine().get("problems", {}).get(problem_key(problem, threads), {})
        return dict(entry.get("seconds", {}))

    def rates(self) -> dict[str, float]:
        """Return the calibration of this machine; empty if there is none."""
        return dict(self._machine().get("rates", {}))

    def problems(self) -> dict[str, dict[str, float]]:
        """Return problem key -> seconds by algorithm, for this machine."""
        return {key: dict(entry["seconds"]) for key, entry in self._machine().get("problems", {}).items()}

    def refresh(self) -> int:
        """Look whether the file has changed; return the generation."""
        global changes  # noqa: PLW0603  one count over all files
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = None
        with self._lock:
            if stamp != self._stamp or self.generation == 0:
                self._stamp = stamp
                self.generation += 1
                changes += 1
                self._content = {} if stamp is None else self._read_or_complain()
        return self.generation

    def _machine(self) -> dict[str, Any]:
        if self.generation == 0:
            self.refresh()
        machine: dict[str, Any] = self._content.get("machines", {}).get(machine_key(), {})
        return machine

    def _read_or_complain(self) -> dict[str, Any]:
        try:
            return read(self.path)
        except WisdomError as error:
            if str(error) != self._complained:
                self._complained = str(error)
                warnings.warn(f"fastconv: {error} It is ignored.", RuntimeWarning, stacklevel=5)
            return {}

    # ---- writing

    def store(self, problem: ConvProblem, threads: int, seconds: dict[str, float]) -> None:
        """Add measured seconds by algorithm name.

        Raises
        ------
        WisdomError
            If the file cannot be written, or holds something that is not wisdom.
        """
        entry = {"seconds": seconds, "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self._update({"problems": {problem_key(problem, threads): entry}})

    def store_rates(self, rates: dict[str, float]) -> None:
        """Store the calibration of this machine; WisdomError as for `store`."""
        self._update({"rates": rates})

    def _update(self, changes: dict[str, Any]) -> None:
        with changing(self.path) as content:
            machine = content["machines"].setdefault(machine_key(), {})
            for section, values in changes.items():
                machine.setdefault(section, {}).update(values)
        self.refresh()

    def merge(self, other: str | os.PathLike[str]) -> int:
        """Add the measurements of another wisdom file, its own winning; return how many problems it held.

        Raises
        ------
        WisdomError
            If either file is not wisdom, or this one cannot be written.
        """
        theirs = read(Path(other))
        count = 0
        with changing(self.path) as content:
            for key, machine in theirs["machines"].items():
                mine = content["machines"].setdefault(key, {})
                for section in ("rates", "problems"):
                    mine.setdefault(section, {}).update(machine.get(section, {}))
                count += len(machine.get("problems", {}))
        self.refresh()
        return count

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write this machine's wisdom to `path`; WisdomError if that fails."""
        write(Path(path), {"format": FORMAT, "version": FORMAT_VERSION, "machines": {machine_key(): self._machine()}})

    def forget(self, problem: ConvProblem | None = None) -> int:
        """Drop what is known of `problem` on this machine, for any number of threads, or everything; return how many."""
        with changing(self.path) as content:
            known = content["machines"].get(machine_key(), {}).get("problems", {})
            gone = [key for key in known if problem is None or key.startswith(f"{problem} ")]
            for key in gone:
                del known[key]
        self.refresh()
        return len(gone)


def read(path: Path) -> dict[str, Any]:
    """Return the content of a wisdom file, checked.

    Raises
    ------
    WisdomError
        If it cannot be read, is damaged, or is something else.
    """
    try:
        if path.stat().st_size > LARGEST_NBYTES:
            raise WisdomError(f"{path} is larger than {LARGEST_NBYTES} bytes and cannot be wisdom.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WisdomError(f"the wisdom file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise WisdomError(f"the wisdom file {path} is damaged: it is not JSON. Delete it to start anew.") from None
    reason = _why_not_wisdom(content)
    if reason:
        raise WisdomError(f"{path} is not wisdom of this version: {reason}.")
    found: dict[str, Any] = content
    return found


def _why_not_wisdom(content: Any) -> str | None:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return f"it does not say 'format': {FORMAT!r}"
    if content.get("version") != FORMAT_VERSION:
        return f"it has the version {content.get('version')!r}, this fastconv reads {FORMAT_VERSION}"
    machines = content.get("machines")
    if not isinstance(machines, dict) or not all(isinstance(machine, dict) for machine in machines.values()):
        return "'machines' is not a table"
    for machine in machines.values():
        rates, problems = machine.get("rates", {}), machine.get("problems", {})
        tables = (
            [rates, *(entry.get("seconds") if isinstance(entry, dict) else None for entry in problems.values())]
            if isinstance(problems, dict)
            else [None]
        )
        for table in tables:
            if not isinstance(table, dict) or not all(_is_positive(value) for value in table.values()):
                return "a measurement is not a table of positive numbers"
    return None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def write(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` in one step: a reader sees the old file or the new one, never a part.

    Raises
    ------
    WisdomError
        If that fails; the old file is untouched.
    """
    name = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        if name is not None:
            with contextlib.suppress(OSError):
                os.unlink(name)
        raise _unwritable(path, error) from None


@contextlib.contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """Give the content of `path` for change, alone among all processes, and write it back.

    Raises
    ------
    WisdomError
        If the file is not wisdom (it is left alone), is locked for too long, or cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    _acquire(lock, path)
    try:
        content = read(path) if path.exists() else {"format": FORMAT, "version": FORMAT_VERSION, "machines": {}}
        yield content
        write(path, content)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock)


def _acquire(lock: Path, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:  # noqa: PERF203  another writer is at work: wait
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > LOCK_STALE_S:
                    os.unlink(lock)
                    continue
            if time.monotonic() > deadline:
                raise WisdomError(f"the wisdom file {path} is locked by {lock}. Delete that file if no other process is tuning.") from None
            time.sleep(0.01)
        except OSError as error:
            raise _unwritable(path, error) from None
        else:
            return


def _unwritable(path: Path, error: OSError) -> WisdomError:
    return WisdomError(f"the wisdom file {path} cannot be written: {error.strerror}. Set FASTCONV_WISDOM to another path, or to 'off'.")


@functools.lru_cache(maxsize=16)
def _opened(path: Path) -> Wisdom:
    return Wisdom(path)


def opened(setting: str) -> Wisdom | None:
    """Return the wisdom that the setting means, one object per file in a process; None for "off"."""
    path = wisdom_path(setting)
    return None if path is None else _opened(path)
