"""Errors of the FFT rows, measured and bounded. Prints docs/accuracy_fft.md.

python bench/accuracy_fft.py > docs/accuracy_fft.md
"""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.backends import TABLE
from fastconv.problem import ConvProblem

CASES = (
    ConvProblem(1, 1, 1, 256, 256, 1, 5, 5),
    ConvProblem(1, 1, 1, 256, 256, 1, 15, 15),
    ConvProblem(1, 1, 1, 160, 160, 1, 63, 63),
    ConvProblem(1, 1, 1, 640, 640, 1, 127, 127),
    ConvProblem(1, 1, 1, 1, 30000, 1, 1, 1001),
    ConvProblem(1, 1, 16, 56, 56, 4, 7, 7, ph_lo=3, ph_hi=3, pw_lo=3, pw_hi=3),
    ConvProblem(16, 1, 16, 56, 56, 16, 31, 31, ph_lo=15, ph_hi=15, pw_lo=15, pw_hi=15),
)
#: A row of outputs of the largest kernel, unrolled.
UNROLLED_NBYTES = 2**28
ROWS = ("fft:plane", "fft:tiles", "fft:whole", "im2col")
HEAD = """# Accuracy of the FFT rows

Made by `python bench/accuracy_fft.py`; x and w uniform in (-1, 1). Errors of float32 against a sum in float64,
relative to the largest and to the RMS result;
"bound" is what `error_bound` promises, relative to the largest result. `im2col` is plain summation, for comparison.

An FFT mixes all values of a tile, so its error is bounded by the norm of the tile, not by the products of one output:
small results next to large ones carry the large ones' rounding. The bound adds, for three transforms of t = log2(points)
stages, eta = 2u + sqrt(2) gamma_2 per stage, times the 2-norm of the plane and the 1-norm of the kernel. It is proved for
powers of two; for other lengths, whose stages have other radices, it is a model.

| problem | row | max error / max | RMS error / RMS | bound / max |
|---|---|---|---|---|"""


def exact(p: ConvProblem, x: Array, w: Array) -> Array:
    """Return the result in float64 by `im2col`."""
    wide = p.replace(dtype="float64")
    (row,) = (a for a in TABLE if a.name == "im2col")
    y: Array = row.make_plan(wide, w.astype("float64"), max_workspace=UNROLLED_NBYTES)(x.astype("float64"))
    return y


def main() -> None:
    """Print the page."""
    print(HEAD)
    rng = np.random.default_rng(1)
    for p in CASES:
        x, w = (rng.uniform(-1, 1, shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
        reference = exact(p, x, w)
        largest, rms = np.abs(reference).max(), np.sqrt(np.mean(reference**2))
        for name in ROWS:
            (row,) = (a for a in TABLE if a.name == name)
            if row.why_not(p):
                continue
            limit = UNROLLED_NBYTES if name == "im2col" else None
            error = row.make_plan(p, w, max_workspace=limit)(x) - reference
            bound = row.error_bound(p, x, w).max() / largest
            print(f"| {p} | {name} | {np.abs(error).max() / largest:.1e} | {np.sqrt(np.mean(error**2)) / rms:.1e} | {bound:.1e} |")


if __name__ == "__main__":
    main()
