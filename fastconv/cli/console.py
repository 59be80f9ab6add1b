"""Words, numbers and tables for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence


class CliError(Exception):
    """A mistake of the person at the keyboard: shown as one sentence, exit status 2."""


def say(text: str = "") -> None:
    """Write a line to standard output."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(text + "\n")


def duration(seconds: float) -> str:
    """Return `seconds` with three digits and a fitting unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds / 1e-6)} us"


def digits(value: float, count: int = 3) -> str:
    """Return `value` with `count` significant digits and no exponent; all digits of large whole numbers."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    decimals = count - 1
    while magnitude >= 10 and decimals > 0:
        magnitude /= 10
        decimals -= 1
    while 0 < magnitude < 1:
        magnitude *= 10
        decimals += 1
    return f"{value:,.{decimals}f}"


def flops(count: float) -> str:
    """Return a number of floating-point operations, as "231 MFLOP"."""
    for unit, scale in (("GFLOP", 1e9), ("MFLOP", 1e6)):
        if count >= scale:
            return f"{digits(count / scale)} {unit}"
    return f"{digits(count / 1e3)} kFLOP"


def thread_words(count: int) -> str:
    """Return "1 thread", "2 threads"."""
    return "1 thread" if count == 1 else f"{count} threads"


def memory(nbytes: float) -> str:
    """Return a number of bytes, as "64 MiB"."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if nbytes >= scale:
            return f"{nbytes / scale:.3g} {unit}"
    return f"{nbytes:.0f} bytes"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), indent: str = "  ") -> str:
    """Return aligned columns: those in `left` to the left, the others to the right."""
    widths = [max((len(row[i]) for row in (columns, *rows)), default=0) for i in range(len(columns))]
    lines = []
    for row in (columns, *rows):
        cells = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)
