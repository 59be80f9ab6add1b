"""Search for the interpolation points of F(m, r): the reproducible origin of fastconv.kernels.points.POINTS.

    python bench/search_points.py 4 3          all symmetric sets of small fractions for F(4x4, 3x3), the best ten printed
    python bench/search_points.py 4 7 --line   the same for the 1-D form
    python bench/search_points.py --table      the errors of the points in use

Each candidate is tried on the same data in float32: transforms term by term in float32, U rounded once from exact
fractions, products summed in float32 over the channels. The figure is the RMS error over that of plain float32
summation of the same sums, so that it says how many times less accurate the variant is.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fastconv.kernels.points import POINTS, Bilinear, Matrix, algorithm, cook_toom

Array = npt.NDArray[np.float32]
CHANNELS, OUTPUTS, TILES, SEED = 64, 16, 96, 20261122


def fractions_up_to(most: int) -> list[Fraction]:
    """Return the positive fractions with numerator and denominator up to `most`, between 1/4 and 4."""
    found = {Fraction(a, b) for a in range(1, most + 1) for b in range(1, most + 1)}
    return sorted(v for v in found if Fraction(1, 4) <= v <= 4)


def symmetric_sets(count: int, most: int) -> Iterator[tuple[Fraction, ...]]:
    """Yield sets of `count` points: 0 and pairs of opposite ones, plus a lone one where `count` is even."""
    values = fractions_up_to(most)
    for pairs in itertools.combinations(values, (count - 1) // 2):
        base = (Fraction(0), *(sign * v for v in pairs for sign in (1, -1)))
        if count % 2:
            yield base
        else:
            yield from ((*base, sign * v) for v in values if v not in pairs for sign in (1, -1))


def apply(matrix: Matrix, array: Array, axis: int) -> Array:
    """Return matrix @ array along `axis`, each product and sum rounded to float32."""
    rows = np.moveaxis(array, axis, 0)
    out = []
    for row in matrix:
        total = np.zeros(rows.shape[1:], np.float32)
        for coefficient, values in zip(row, rows, strict=True):
            if coefficient:
                total = total + np.float32(float(coefficient)) * values
        out.append(total)
    return np.moveaxis(np.stack(out), 0, axis)


def exact(matrix: Matrix) -> npt.NDArray[np.float64]:
    """Return a matrix of fractions in float64."""
    return np.array([[float(v) for v in row] for row in matrix])


def relative_rms(form: Bilinear, *, is_line: bool, channels: int = CHANNELS, tiles: int = TILES) -> tuple[float, float]:
    """Return RMS error and largest error of a variant, both over those of plain float32 summation."""
    rng = np.random.default_rng(SEED)
    width, r = form.span, form.r
    height, rows = (1, 1) if is_line else (width, r)
    x = rng.uniform(-1, 1, (tiles, channels, height, width)).astype(np.float32)
    w = rng.uniform(-1, 1, (OUTPUTS, channels, rows, r)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, r), axis=(2, 3))
    truth = np.einsum("tcijrs,ocrs->toij", windows.astype(np.float64), w.astype(np.float64), optimize=True)
    columns = np.ascontiguousarray(windows.transpose(0, 2, 3, 4, 5, 1)).reshape(-1, rows * r * channels)
    taps = np.ascontiguousarray(w.transpose(2, 3, 1, 0)).reshape(-1, OUTPUTS)
    plain = np.zeros((len(columns), OUTPUTS), np.float32)
    for k in range(columns.shape[1]):
        plain += columns[:, k : k + 1] * taps[k]
    plain = plain.reshape(tiles, *truth.shape[2:], OUTPUTS).transpose(0, 3, 1, 2)
    u = np.einsum("js,ocrs->ocrj", exact(form.g), w.astype(np.float64))
    v = apply(form.bt, x, 3)
    if not is_line:
        u = np.einsum("ir,ocrj->ocij", exact(form.g), u)
        v = apply(form.bt, v, 2)
    rounded = u.astype(np.float32)
    products = np.zeros((tiles, OUTPUTS, *v.shape[2:]), np.float32)
    for c in range(channels):
        products += v[:, None, c] * rounded[None, :, c]
    y = apply(form.at, products, 3)
    if not is_line:
        y = apply(form.at, y, 2)
    error, reference = y - truth, plain - truth
    return float(np.sqrt((error**2).mean() / (reference**2).mean())), float(abs(error).max() / abs(reference).max())


def named(points: Sequence[Fraction]) -> str:
    """Return points as text."""
    return ", ".join(map(str, points))


def search(m: int, r: int, most: int, *, is_line: bool) -> None:
    """Print the best ten sets of points for F(m, r)."""
    trial = {"is_line": is_line, "channels": 8, "tiles": 48}
    found = sorted((*relative_rms(cook_toom(m, r, points), **trial), points) for points in symmetric_sets(m + r - 2, most))
    print(f"F({m}, {r}), {'line' if is_line else 'square'}: {len(found)} sets of fractions up to {most}")
    for rms, largest, points in found[:10]:
        print(f"  RMS {rms:6.2f}  max {largest:6.2f}  {named(points)}")


def table() -> None:
    """Print the errors of the points in use."""
    for m, r in POINTS:
        square, line = (relative_rms(algorithm(m, r), is_line=is_line) for is_line in (False, True))
        texts = (f"{kind} RMS {rms:6.2f} max {largest:6.2f}" for kind, (rms, largest) in (("square", square), ("line", line)))
        print(f"F({m}, {r}): {', '.join(texts)}; {named(POINTS[m, r])}")


def main() -> None:
    """Run a search, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("m", type=int, nargs="?")
    parser.add_argument("r", type=int, nargs="?")
    parser.add_argument("--line", action="store_true")
    parser.add_argument("--most", type=int, default=4, help="largest numerator and denominator")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table or options.r is None:
        table()
    else:
        search(options.m, options.r, options.most, is_line=options.line)


if __name__ == "__main__":
    main()
