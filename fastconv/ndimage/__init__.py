"""The linear filters of `scipy.ndimage`, with its signatures, dtypes, errors and results.

Sums are in double whatever the dtype, and go through SciPy's order, so that results have SciPy's bits where SciPy was
compiled without fused multiply-adds. ``fastconv.config(ndimage_precision="input")`` sums float32 in float32.
`correlate` and `convolve` of windows with more than two axes longer than one, output arrays of rare dtypes,
and every call that SciPy refuses are passed on to SciPy.
"""

from __future__ import annotations

from fastconv.ndimage.lines import convolve1d, correlate1d, uniform_filter, uniform_filter1d
from fastconv.ndimage.smooth import gaussian_filter, gaussian_filter1d, gaussian_laplace, laplace, prewitt, sobel
from fastconv.ndimage.windows import convolve, correlate

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_laplace",
    "laplace",
    "prewitt",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]
