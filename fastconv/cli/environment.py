"""What a figure must carry to mean anything: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastconv import __version__
from fastconv.cli.console import memory
from fastconv.kernels.bandwidth import measured_bandwidth
from fastconv.kernels.target import host
from fastconv.machine import usable_cores

_PACKAGES = ("numpy", "scipy", "numba", "llvmlite")
#: Sizes for systems that do not tell theirs.
_USUAL_CACHES = {"L1d": 32 * 2**10, "L2": 512 * 2**10, "L3": 8 * 2**20}
_LEAST_MEMORY_NBYTES = 64 * 2**20


def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        shown = _output("sysctl", "-n", "machdep.cpu.brand_string")
        if shown:
            return shown
    return platform.processor() or platform.machine()


def llvm_cpu() -> str:
    """Return LLVM's name of the processor that Numba compiles for."""
    from llvmlite import binding  # noqa: PLC0415  slow to import: only where it is used
    from numba.core import config  # noqa: PLC0415

    return str(getattr(config, "CPU_NAME", None) or binding.get_host_cpu_name())


def versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Return package -> version of those installed."""
    found = {"fastconv": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # noqa: PERF203  four turns
            continue
    return found


def commit() -> str | None:
    """Return the commit of the source tree that runs, marked if it was edited; None outside a repository."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    found = _output("git", "-C", str(folder), "rev-parse", "--short=12", "HEAD")
    if found and _output("git", "-C", str(folder), "status", "--porcelain", "--", "fastconv"):
        found += "-edited"
    return found or None


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603  fixed words
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> dict[str, object]:
    """Return the description of this machine that result files carry."""
    target = host()
    return {
        "cpu": cpu_name(),
        "llvm_cpu": llvm_cpu(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": usable_cores(),
        "target": target.name,
        "vector_nbytes": target.vector_nbytes,
        "vector_registers": target.registers,
        "has_fma": target.has_fma,
        "caches": caches(),
    }


def cache_nbytes() -> dict[str, int]:
    """Return cache level -> bytes of the first core, as the system tells it (Linux; elsewhere empty)."""
    found: dict[str, int] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError):  # noqa: PERF203  a few turns
            continue
    return found


def caches() -> dict[str, str]:
    """Return cache level -> size in words."""
    return {level: memory(nbytes) for level, nbytes in cache_nbytes().items()}


def working_sets(threads: int) -> dict[str, int]:
    """Return level -> bytes that a thread copies within, so that they stay there: half a cache, and for memory four times the last.

    The last level counts as shared by all threads, the others as a core's own.
    """
    sizes = cache_nbytes() or _USUAL_CACHES
    last = list(sizes)[-1]
    found = {level: nbytes // 2 for level, nbytes in sizes.items()}
    found[last] = max(found[last] // threads, min(found.values()))
    return {**found, "memory": max(4 * sizes[last], _LEAST_MEMORY_NBYTES)}


def bandwidths(threads: int) -> dict[str, float]:
    """Return level -> measured GB/s that `threads` threads together read and write in a copy."""
    return {level: measured_bandwidth(nbytes, threads) / 1e9 for level, nbytes in working_sets(threads).items()}


def kernel_cache_folder() -> str:
    """Return the folder of compiled kernels."""
    from fastconv.kernels import peak  # noqa: PLC0415  any kernel tells; this one is the command line's

    chosen = getattr(getattr(peak.run_chains, "_cache", None), "cache_path", None)
    return str(chosen) if chosen else os.environ.get("NUMBA_CACHE_DIR", "none: kernels are compiled in each process")
