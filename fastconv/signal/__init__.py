"""The convolution functions of `scipy.signal`, with its signatures, dtypes, errors and results, on fastconv's backends.

One and two dimensions are computed here; more dimensions, float16, long double, object arrays, other array types and
every call that SciPy refuses are passed on to SciPy, which gives its own result or its own error.
"""

from __future__ import annotations

from fastconv.signal.dense import choose_conv_method, convolve, correlate, fftconvolve, oaconvolve
from fastconv.signal.images import convolve2d, correlate2d

__all__ = ["choose_conv_method", "convolve", "convolve2d", "correlate", "correlate2d", "fftconvolve", "oaconvolve"]
