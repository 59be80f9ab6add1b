"""``fastconv explain``: which backend a problem gets, and why."""

from __future__ import annotations

import argparse

from fastconv.backends import named, suggestion
from fastconv.cli.cases import builtin_layers, problem_of
from fastconv.cli.console import CliError, flops, say
from fastconv.cli.measure import shape_words
from fastconv.explanation import explained
from fastconv.settings import config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fastconv explain``."""
    parser.add_argument("problem", nargs="?", metavar="PROBLEM", help="a problem string, or the name of a layer of the benchmark")
    parser.add_argument("--backend", metavar="NAME", help="as the argument backend= of conv2d")
    parser.add_argument("--accuracy", choices=("strict", "standard", "fast"), help="as the setting (default: the setting)")
    parser.add_argument("--threads", type=int, metavar="N", help="as the setting")
    parser.add_argument("--one-shot", action="store_true", help="with the weights packed in the call, as conv2d does")
    parser.add_argument("--list", action="store_true", help="list the layers of the benchmark with their problem strings and stop")


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Print the explanation."""
    del words
    if options.list:
        for heading, layers in builtin_layers().values():
            say(f"{heading} ({layers[0].group})")
            width = max(len(layer.name) for layer in layers)
            for layer in layers:
                say(f"  {layer.name.ljust(width)}  {layer.problem}")
        return 0
    if not options.problem:
        raise CliError("PROBLEM is missing. Example: fastconv explain r50_3x3_64-64@56; fastconv explain --list shows the layers.")
    if options.backend is not None and not named(options.backend):
        raise CliError(f"--backend {suggestion(options.backend)}")
    problem = problem_of(options.problem)
    chosen = {name: getattr(options, name) for name in ("accuracy", "threads") if getattr(options, name) is not None}
    explanation = explained(problem, config(**chosen), options.backend, is_prepared=not options.one_shot)
    say(f"{shape_words(problem)}; {flops(problem.flops)}, {problem.dtype}")
    say(str(explanation))
    return 0
