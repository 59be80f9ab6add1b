"""FFT convolution: generated tile transforms, and scipy.fft for what is larger than the tiles."""

from __future__ import annotations

from fastconv.backends.base import Algorithm
from fastconv.backends.fft.planes import PlaneFFT
from fastconv.backends.fft.tiles import TilesFFT
from fastconv.backends.fft.whole import WholeFFT

ALGORITHMS: tuple[Algorithm, ...] = (PlaneFFT(), TilesFFT(), WholeFFT())
