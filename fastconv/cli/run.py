"""``fastconv run``: an unchanged script, with scipy.signal and scipy.ndimage served by fastconv."""

from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from pathlib import Path

from fastconv.cli.console import CliError, complain, digits, duration, table
from fastconv.patch import Record, patch_scipy

SUMMARY = "run an unchanged script with SciPy's convolutions done by fastconv"
DESCRIPTION = (
    "Runs a Python script, or a module with -m, in which scipy.signal's and scipy.ndimage's convolution functions are\n"
    "fastconv's. What follows the script's name is handed to it. The exit status is the script's."
)
EXAMPLES = ("fastconv run analysis.py data.npy", "fastconv run --report analysis.py data.npy", "fastconv run -m package.module")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fastconv run``."""
    parser.add_argument(
        "--report", action="store_true", help="at the end, list what was accelerated, how often, and the time against SciPy's"
    )
    parser.add_argument("-m", dest="is_module", action="store_true", help="SCRIPT is the name of a module")
    parser.add_argument("script", metavar="SCRIPT", help="the script, or the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the script's own arguments")


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Run the script and return its exit status."""
    del words
    if not options.is_module and not Path(options.script).exists():
        raise CliError(f"there is no script {options.script}.")
    before = sys.argv, sys.path[:]
    status = 0
    with patch_scipy(record=options.report) as patch:
        try:
            sys.argv = [options.script, *options.arguments]
            if options.is_module:
                sys.path.insert(0, str(Path.cwd()))
                runpy.run_module(options.script, run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(options.script).resolve().parent))
                runpy.run_path(options.script, run_name="__main__")
        except SystemExit as done:
            status = _status(done.code)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  the script's failure, shown as Python shows it
            traceback.print_exc()
            status = 1
        finally:
            sys.argv, sys.path[:] = before
    if options.report:
        complain(report(patch.records))
    return status


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    complain(str(code))
    return 1


def report(records: list[Record]) -> str:
    """Return what was called, how often, and the times, as a table, longest in SciPy first."""
    if not records:
        return "fastconv: the script called none of the functions that fastconv accelerates."
    rows = []
    for r in sorted(records, key=lambda r: -r.scipy_s * r.calls):
        remark = "" if not r.passed_on else "SciPy's" if r.passed_on == r.calls else f"SciPy's {r.passed_on} times"
        rows.append((r.function, r.arguments, str(r.calls), duration(r.call_s), duration(r.scipy_s), f"{digits(r.ratio)}x", remark))
    ours = sum(r.call_s * r.calls for r in records)
    theirs = sum(r.scipy_s * r.calls for r in records)
    first = sum(max(r.first_s - r.call_s, 0) for r in records)
    lines = [
        "fastconv: calls by function and shape; one call of each shape was timed in SciPy too",
        table(("function", "arguments", "calls", "a call", "SciPy's", "ratio", ""), rows, left=(0, 1, 6)),
        f"fastconv: {duration(ours)} where SciPy takes about {duration(theirs)}",
        f"fastconv: first calls took {duration(first)} more, for plans and kernels",
    ]
    return "\n".join(lines)
