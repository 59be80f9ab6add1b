"""The lengths of generated FFTs: which stages, in which order, with which twiddles; where each frequency stands."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels.target import host

#: Radices of the stages, with the measured cost of a stage per element relative to radix 4. With 16 registers they spill from 8
#: on; with 32 the cost of 12 is 3.9 cycles an element, 2.6 that of 4 (transforms of 64 to 288 points in the caches, Zen 5).
FEW_REGISTERS: dict[int, float] = {2: 1.0, 3: 1.0, 4: 1.0, 5: 2.1, 6: 1.4, 8: 1.75, 9: 3.0, 12: 2.4, 16: 3.0}
MANY_REGISTERS: dict[int, float] = {2: 1.1, 3: 1.15, 4: 1.0, 5: 1.25, 6: 1.17, 8: 1.31, 9: 1.7, 12: 1.48, 16: 2.4}
RADICES = MANY_REGISTERS if host().registers >= 32 else FEW_REGISTERS
#: Lengths of tiles, the product of at most this many radices.
MAX_STAGES = 5
MAX_LENGTH = 2048
#: Where the stages stand in the table of `stages`, and how many numbers each takes.
FIRST_STAGE, STAGE_FIELDS = 2, 4


@functools.cache
def factorize(n: int) -> tuple[int, ...] | None:
    """Return the radices of the cheapest transform of length `n`, largest first, or None if there is none."""
    best: tuple[float, tuple[int, ...]] | None = None

    def search(rest: int, limit: int, chosen: tuple[int, ...], cost: float) -> None:
        nonlocal best
        if rest == 1:
            if best is None or cost < best[0]:
                best = (cost, chosen)
            return
        if len(chosen) == MAX_STAGES:
            return
        for radix, weight in RADICES.items():
            if radix <= limit and rest % radix == 0:
                search(rest // radix, radix, (*chosen, radix), cost + weight)

    search(n, max(RADICES), (), 0.0)
    return None if best is None else best[1]


@functools.cache
def lengths() -> tuple[int, ...]:
    """Return every length up to `MAX_LENGTH` that the stages can make."""
    return tuple(n for n in range(1, MAX_LENGTH + 1) if factorize(n) is not None)


@functools.cache
def stage_cost(n: int) -> float:
    """Return the cost of a transform of length `n` per element, in radix-4 stages."""
    factors = factorize(n)
    return math.inf if factors is None else sum(RADICES[r] for r in factors)


def frequencies(n: int) -> npt.NDArray[np.int64]:
    """Return the frequency that stands at each position after a forward transform of length `n`."""

    def order(length: int, factors: tuple[int, ...]) -> list[int]:
        if not factors:
            return [0]
        r, inner = factors[0], order(length // factors[0], factors[1:])
        return [q + r * f for q in range(r) for f in inner]

    return np.array(order(n, factorize(n) or ()), np.int64)


def twiddles(n: int, dtype: Any) -> npt.NDArray[Any]:
    """Return (cos, sin) of 2 pi j q / L for the stages of length `n`: [stage][j < L/r][0 < q < r][2], rounded once."""
    out, length = [np.zeros(0)], n
    for r in factorize(n) or ():
        j, q = np.arange(length // r)[:, np.newaxis], np.arange(1, r)
        angle = 2 * np.pi * (j * q % length) / length
        out.append(np.stack([np.cos(angle), np.sin(angle)], -1).ravel())
        length //= r
    return np.concatenate(out).astype(dtype)
