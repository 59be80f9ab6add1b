"""The direct backend: the definition's sum, unrolled over nothing but registers and cache."""

from __future__ import annotations

from fastconv.backends.base import Algorithm
from fastconv.backends.direct.dense import Dense
from fastconv.backends.direct.loops import Loops
from fastconv.backends.direct.planar import ALGORITHMS as PLANAR

#: In order of preference.
ALGORITHMS: tuple[Algorithm, ...] = (*PLANAR, Dense(), Loops())
