"""The commands: ``fastconv bench | filter | info | explain | tune | warmup | run``. Also ``python -m fastconv``."""

# ruff: noqa: ISC004  a description is several lines of one text

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from fastconv import __version__
from fastconv.cli import bench, explain, info, run, tune, warmup
from fastconv.cli import filter as filter_command
from fastconv.cli.console import CliError, complain
from fastconv.errors import FastconvError

#: Exit statuses: everything right; a check failed; the person asked for something that cannot be.
OK, CHECK_FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130

_COMMANDS: dict[str, tuple[ModuleType, str, str]] = {
    "bench": (
        bench,
        "time and check every backend; write a report",
        "Runs every backend that can do the job on a photograph with the classic kernels and on convolution layers,\n"
        "checks each result against scipy.signal.correlate2d, and writes a table, an HTML report and a JSON file.\n"
        "The exit status is 1 if a check fails.",
    ),
    "filter": (
        filter_command,
        "filter a picture with kernels by name",
        "Filters a picture, grey or colour; transparency stays as it is. Several kernels run one after the other.\n"
        "With '{kernel}' in the name of the output, each kernel makes a picture of its own instead.",
    ),
    "info": (
        info,
        "show version, processor, settings and where they come from",
        "Shows what fastconv found: versions, processor, the folder of compiled kernels, and each setting with its source.",
    ),
    "explain": (
        explain,
        "show which backend a problem gets, and why",
        "Shows each backend with its predicted time, or the reason why it cannot compute the problem, and the choice.",
    ),
    "tune": (
        tune,
        "measure backends on this machine and remember the best",
        "Measures the candidates for each problem and stores the times as wisdom: from then on, calls with such arrays\n"
        "and the same number of threads are decided by measurement. Also shows, exports, merges and forgets wisdom.",
    ),
    "warmup": (
        warmup,
        "compile the kernels into the disk cache",
        "Compiles the kernels that common layers and images need, so that no later process waits for the compiler.",
    ),
    "run": (run, run.SUMMARY, run.DESCRIPTION),
}
_EXAMPLES = {
    "tune": (
        "fastconv tune resnet50 --time-limit 60",
        "fastconv tune model.onnx",
        "fastconv tune --machine",
        "fastconv tune --export wisdom.json",
    ),
    "warmup": ("fastconv warmup", "fastconv warmup --dtypes float32"),
    "bench": (
        "fastconv bench --quick",
        "fastconv bench --layers resnet50 vgg16 --threads 1",
        "fastconv bench --layers photograph --image holiday.jpg",
        "fastconv bench --peers --report all.html",
        "fastconv bench --networks resnet50 mobilenetv2 --peers",
        "fastconv bench compare before.json after.json",
    ),
    "filter": (
        "fastconv filter cat.png --kernel sobel -o edges.png",
        "fastconv filter cat.png -k gaussian5 -k sharpen -o both.png",
        "fastconv filter cat.png -k sobel -k emboss -o 'cat-{kernel}.png'",
        "fastconv filter --list",
    ),
    "info": ("fastconv info", "fastconv info --peaks"),
    "explain": (
        "fastconv explain r50_3x3_64-64@56",
        "fastconv explain g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32 --accuracy strict",
    ),
    "run": run.EXAMPLES,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="fastconv",
        description="Convolution on the CPU, as fast as the hardware allows.",
        epilog="fastconv COMMAND --help tells more about a command.",
    )
    top.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary, description) in _COMMANDS.items():
        examples = "\n".join(f"  {line}" for line in _EXAMPLES[name])
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 1 if a check failed, 2 for a mistake of the caller."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser().parse_args(words)
    except SystemExit as done:  # argparse has said what is to be said
        return int(done.code or 0)
    command: Callable[[argparse.Namespace, list[str]], int] = options.run
    try:
        status = command(options, words)
        sys.stdout.flush()
    except (CliError, FastconvError) as error:
        complain(f"fastconv {options.command}: {error}")
        return USAGE
    except KeyboardInterrupt:
        complain(f"fastconv {options.command}: interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: nothing to complain about, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return status
