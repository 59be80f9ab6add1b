"""``fastconv filter``: a picture through kernels by name."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import fastconv
from fastconv.backends import named, suggestion
from fastconv.cli.console import CliError, duration, say, table
from fastconv.cli.filters import FAMILIES, FILTERS, Filter, named_filter
from fastconv.cli.pictures import Picture, read_picture, write_picture

PLACEHOLDER = "{kernel}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fastconv filter``."""
    parser.add_argument("input", nargs="?", type=Path, metavar="IN", help="the picture: PNG, JPEG or whatever Pillow reads")
    parser.add_argument("-k", "--kernel", action="append", metavar="NAME", help="a kernel by name; may be given several times")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="where the result goes; the suffix names the format")
    parser.add_argument("--backend", default=None, metavar="NAME", help="auto, a backend or a variant (default: the setting)")
    parser.add_argument("--list", action="store_true", help="list the kernels and stop")


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Filter the picture, or list the kernels."""
    del words
    if options.list:
        say(table(("kernel", "size", ""), [(f.name, f.size, f.summary) for f in FILTERS.values()], left=(0, 1, 2)))
        say(table(("", "", ""), [(name, "NxN", summary) for name, summary in FAMILIES], left=(0, 1, 2)).lstrip("\n"))
        return 0
    for value, what in ((options.input, "the picture IN"), (options.kernel, "--kernel NAME"), (options.output, "-o OUT")):
        if not value:
            raise CliError(f"{what} is missing. Example: fastconv filter cat.png --kernel sobel -o edges.png")
    if options.backend is not None and not named(options.backend):
        raise CliError(f"--backend {suggestion(options.backend)}")
    filters = [named_filter(name) for name in options.kernel]
    picture = read_picture(options.input)
    if PLACEHOLDER in str(options.output):
        for item in filters:
            target = Path(str(options.output).replace(PLACEHOLDER, item.name))
            write_picture(target, _filtered(picture, item, options.backend))
            say(f"{target} written.")
        return 0
    for item in filters:
        picture = _filtered(picture, item, options.backend)
    write_picture(options.output, picture)
    say(f"{options.output} written.")
    return 0


def _filtered(picture: Picture, item: Filter, backend: str | None) -> Picture:
    source = np.ascontiguousarray(picture.planes[:, np.newaxis])
    count, _, height, width = source.shape
    plan = fastconv.plan(source.shape, item.kernels.astype(np.float32), padding="same", padding_mode="symmetric", backend=backend)
    responses = plan(source)
    start = time.perf_counter()
    plan(source, out=responses)  # once more: the first call may have compiled kernels
    took = duration(time.perf_counter() - start)
    say(f"{item.name} ({item.size}) on {count} plane{'s' * (count > 1)} of {height}x{width}: {plan.backend}, {took}")
    return picture.with_planes(item.picture(responses))
