"""``fastconv info``: what fastconv found on this machine."""

from __future__ import annotations

import argparse

from fastconv.backends import TABLE
from fastconv.cli import environment
from fastconv.cli.console import digits, memory, say, table
from fastconv.kernels.peak import measured_peak
from fastconv.kernels.target import host
from fastconv.kernels.threads import native_obstacle
from fastconv.machine import usable_cores
from fastconv.settings import DEFAULTS, ENVIRONMENT, get_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fastconv info``."""
    parser.add_argument("--peaks", action="store_true", help="measure the multiply-add peak (a few seconds the first time)")


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Print the description."""
    del words
    active = get_config()
    target = host()
    obstacle = native_obstacle()
    say("Versions")
    say(_lines([(name, value) for name, value in environment.versions().items()]))
    say("\nMachine")
    fma = "fused multiply-add" if target.has_fma else "no fused multiply-add"
    cores = usable_cores()
    facts = [
        ("processor", f"{environment.cpu_name()} ({environment.llvm_cpu()})"),
        ("target", f"{target.name}: vectors of {target.vector_nbytes} bytes, {target.registers} registers, {fma}"),
        ("cores", str(cores)),
        ("threads", "a pool of native workers" if obstacle is None else f"none but the caller's: {obstacle}"),
    ]
    if caches := environment.caches():
        facts.append(("caches", ", ".join(f"{level} {size}" for level, size in caches.items())))
    facts.append(("compiled kernels", environment.kernel_cache_folder()))
    say(_lines(facts))
    if options.peaks:
        say("\nMultiply-add peak, measured")
        say(_lines([(dtype, _peaks(dtype, cores)) for dtype in ("float32", "float64")]))
    say("\nSettings, strongest source first: argument, with fastconv.config(...), set_config, environment, file, default")
    rows = [(name, _shown(name, getattr(active, name)), active.sources.get(name, "default"), ENVIRONMENT[name]) for name in DEFAULTS]
    say(table(("setting", "value", "source", "environment"), rows, left=(0, 1, 2, 3)))
    say("\nBackends, in order of preference")
    say(table(("name", "accuracy", ""), [(a.name, a.accuracy, a.summary) for a in TABLE], left=(0, 1, 2)))
    return 0


def _lines(facts: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"  {name.ljust(width)}  {value}" for name, value in facts)


def _peaks(dtype: str, cores: int) -> str:
    words = f"{digits(measured_peak(dtype) / 1e9)} GFLOP/s on one core"
    return words if cores == 1 else f"{words}, {digits(measured_peak(dtype, cores) / 1e9)} on {cores}"


def _shown(name: str, value: object) -> str:
    if name == "max_workspace":
        return "auto" if value is None else memory(float(str(value)))
    return str(value)
