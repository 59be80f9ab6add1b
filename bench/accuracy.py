"""Measure the rounding errors of the algorithms that transform, and write the Winograd part of docs/accuracy.md.

    python bench/accuracy.py                  print the tables
    python bench/accuracy.py --write          put them between the markers in docs/accuracy.md, and the chart beside it

Data are uniform in (-1, 1). Errors are against sums in a wider type; the yardstick is plain summation in the same dtype, one
product after another.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastconv._typing import Array
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm, pad
from fastconv.backends.winograd import ALGORITHMS, Winograd
from fastconv.backends.winograd.variants import VARIANTS, Variant
from fastconv.problem import ConvProblem

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
CHART = PAGE.parent / "_static" / "winograd_error_time.svg"
BEGIN, END = "<!-- begin winograd (bench/accuracy.py) -->", "<!-- end winograd -->"
CHANNELS, OUTPUTS, EXTENT, SEED = (16, 64, 192, 256, 512), 8, 20, 20261122
#: Pixels between two lines of words in the chart, and of a letter in the mean.
LINE_HEIGHT, LETTER_WIDTH = 14, 6.2
#: What the reference is summed in: at least 11 bits more, which leaves the errors three right digits.
WIDER = {"float32": "float64", "float64": "longdouble"}
BY_NAME = {a.name: a for a in ALGORITHMS if isinstance(a, Winograd)}


def problem_for(kernel: tuple[int, int], s: int, channels: int, dtype: str) -> ConvProblem:
    """Return a problem of several tiles."""
    kh, kw = kernel
    return ConvProblem(1, 1, channels, EXTENT * s + kh - 1, EXTENT * s + kw - 1, OUTPUTS, kh, kw, s, s, dtype=dtype)


def data(p: ConvProblem) -> tuple[Array, Array]:
    """Return source and weights, uniform in (-1, 1)."""
    rng = np.random.default_rng(SEED)
    x, w = (rng.uniform(-1, 1, shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    return x, w


def sums(p: ConvProblem, x: Array, w: Array, dtype: str) -> Array:
    """Return the convolution, summed product after product in `dtype`."""
    return sums_of(p, x.astype(dtype), w.astype(dtype), np.zeros(p.out_shape, dtype))


def sums_of(p: ConvProblem, x: Array, w: Array, total: Array) -> Array:
    """Add the products to `total` one after another."""
    padded = pad(p, x)
    for c, r, s in np.ndindex(*p.w_shape[1:]):
        rows, cols = slice(r, r + (p.oh - 1) * p.sh + 1, p.sh), slice(s, s + (p.ow - 1) * p.sw + 1, p.sw)
        total += padded[:, c, rows, cols][:, None] * w[:, c, r, s][:, None, None]
    return total


def errors(algorithm: Algorithm, kernel: tuple[int, int], channels: int, dtype: str, stride: int = 1) -> tuple[float, float, float, float]:
    """Return RMS and largest error over those of the result, then both over those of plain summation."""
    p = problem_for(kernel, stride, channels, dtype)
    x, w = data(p)
    exact = sums(p, x, w, WIDER[dtype])
    found = (algorithm.make_plan(p, w)(x) - exact).astype(np.float64)
    plain = (sums(p, x, w, dtype) - exact).astype(np.float64)
    size = exact.astype(np.float64)
    return (
        rms(found) / rms(size), float(abs(found).max() / abs(size).max()),
        rms(found) / rms(plain), float(abs(found).max() / abs(plain).max()),
    )  # fmt: skip


def standard_from(variant: Variant) -> str:
    """Return the channels from which a variant belongs to the mode "standard"."""
    return "never" if variant.standard_from is None else str(variant.standard_from)


def rms(array: Array) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt((array**2).mean()))


def table(dtype: str) -> str:
    """Return the Markdown table of one dtype."""
    head = "| variant | standard from C | " + " | ".join(f"C = {c}: RMS | max | RMS / plain | max / plain" for c in CHANNELS) + " |"
    lines = [head, "|---|---|" + "---|" * (4 * len(CHANNELS))]
    for variant in VARIANTS:
        cells = [
            f"{rms_:.1e} | {most:.1e} | {r:.2f} | {m:.2f}"
            for rms_, most, r, m in (errors(BY_NAME[variant.name], variant.r, c, dtype, variant.stride) for c in CHANNELS)
        ]
        lines.append(f"| `{variant.name}` | {standard_from(variant)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def best_s(call: Callable[[], object]) -> float:
    """Return the shortest of several timings."""
    call()
    found, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < 0.3:
        begin = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - begin)
    return found


def chart() -> str:
    """Return the chart error against time of the 3x3 variants and of `direct` on 64 -> 64 channels at 56 x 56, as SVG."""
    p = ConvProblem(1, 1, 64, 56, 56, 64, 3, 3, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1)
    x, w = data(p)
    points = []
    for algorithm in (*(a for a in ALGORITHMS if a.why_not(p) is None), next(row for row in TABLE if row.name == "direct:dense")):
        plan = algorithm.make_plan(p, w)
        points.append((algorithm.name, best_s(lambda plan=plan: plan(x)) * 1e3, errors(algorithm, (3, 3), 64, "float32")[2]))
    longest, largest = max(t for _, t, _ in points) * 1.2, max(e for *_, e in points) * 1.2
    marks, line, right = [], 0.0, 0.0
    for name, ms, error in sorted(points, key=lambda point: -point[2]):
        cx, cy = 60 + 480 * ms / longest, 295 - 255 * error / largest
        words = f"{name}: {ms:.2f} ms, {error:.1f}"
        line = max(cy + 4, line + LINE_HEIGHT) if cx < right else cy + 4  # words keep apart where the points do not
        right = cx + 9 + LETTER_WIDTH * len(words)
        marks.append(f'<circle cx="{cx:.0f}" cy="{cy:.0f}" r="5" fill="none" stroke="var(--mark)" stroke-width="2"/>')
        marks.append(f'<text x="{cx + 9:.0f}" y="{line:.0f}">{words}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 345" font-family="sans-serif" font-size="13">\n'
        "<style>svg { --ink: #1b1f24; --card: #fff; --mark: #06c; }\n@media (prefers-color-scheme: dark) "
        "{ svg { --ink: #e8eaec; --card: #0d1117; --mark: #5cc2ee; } } text { fill: var(--ink); }</style>\n"
        '<rect width="720" height="345" rx="8" fill="var(--card)"/>\n<path d="M60 20V295H600" fill="none" stroke="var(--ink)"/>\n'
        '<text x="60" y="14">RMS error / that of plain summation</text><text x="470" y="320">ms, one thread (from 0)</text>\n'
        + "\n".join(marks) + "\n</svg>\n"
    )  # fmt: skip


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    parts = [f"### {dtype}\n\n{table(dtype)}" for dtype in ("float32", "float64")]
    text = "\n\n".join(parts)
    if not options.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    CHART.parent.mkdir(exist_ok=True)
    CHART.write_text(chart(), encoding="utf-8")


if __name__ == "__main__":
    main()
