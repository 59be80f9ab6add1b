"""Sizes and distances beyond 2**31 elements: offsets are computed in 64 bits everywhere.

The arrays are views of mapped pages that are never touched, or of single elements with a stride of zero: they take address
space, not memory.
"""

from __future__ import annotations

import mmap
import sys

import numpy as np
import pytest

import fastconv
import oracle
from cases import supported
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.problem import ConvProblem
from oracle import Array

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.maxsize < 2**32, reason="it maps 40 GiB of addresses without memory behind them"
)
#: Elements of float32 that are mapped; most of them are never touched.
COUNT = 10 * 2**30
#: Distances in elements, each beyond 2**31, between images, channels and rows.
APART = (2**32 + 2**31 + 3, 2**31 + 17, 2**31 + 1)
SMALL = ConvProblem.parse("g1mb2ic2ih11iw13oc3kh3kw3sh1sw1ph1pw1dh1dw1:float32")


def on(problem: ConvProblem) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("algorithm", [a for a in TABLE if supported(a, problem)], ids=lambda algorithm: algorithm.name)


@pytest.fixture
def mapped() -> Array:
    """Return `COUNT` float32 zeros without memory behind them."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    try:
        pages = mmap.mmap(-1, 4 * COUNT, flags=flags)
    except OSError:
        pytest.skip("the system does not map 40 GiB of addresses")
    return np.frombuffer(pages, np.float32)


def apart(memory: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Return a view whose neighbours along `axis` (0, 1 or 2) lie more than 2**31 elements apart."""
    steps = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1]
    steps[axis] = APART[axis]
    return np.lib.stride_tricks.as_strided(memory, shape, [4 * step for step in steps])


@on(SMALL)
@pytest.mark.parametrize("axis", [0, 1], ids=["images", "channels"])
def test_distances_beyond_two_to_the_31(algorithm: Algorithm, axis: int, mapped: Array) -> None:
    p, rng = SMALL, np.random.default_rng(0)
    w = rng.integers(-2, 3, p.w_shape).astype(np.float32)
    x = apart(mapped, p.x_shape, axis)
    x[...] = rng.integers(-2, 3, p.x_shape)
    out = apart(mapped[x.size + 5000 :], p.out_shape, axis)
    fastconv.conv2d(x, w, padding=1, backend=algorithm.name, out=out)
    np.testing.assert_array_equal(np.rint(out), oracle.correlate(x, w, pads=((1, 1), (1, 1))))


#: A plane of 2.5 * 10**9 pixels of which strides leave few outputs: what packs or transforms all of it is left out.
PLANE = ConvProblem.parse("g1mb1ic1ih50000iw50000oc2kh3kw3sh9000sw9000ph0pw0dh1dw1:float32")
READS_WINDOWS = ("direct:dense", "direct:loops", "im2col")


@pytest.mark.parametrize("name", READS_WINDOWS)
def test_a_plane_of_more_than_two_to_the_31_pixels(name: str, mapped: Array) -> None:
    p = PLANE
    x = mapped[: p.ih * p.iw].reshape(p.x_shape)
    corner = (p.oh - 1) * p.sh
    x[0, 0, :3, :3] = np.arange(9).reshape(3, 3)
    x[0, 0, corner : corner + 3, corner : corner + 3] = np.arange(9, 0, -1).reshape(3, 3)
    w = np.arange(18, dtype=np.float32).reshape(p.w_shape)
    y = fastconv.conv2d(x, w, stride=(p.sh, p.sw), backend=name)
    expected = np.zeros(p.out_shape, np.float32)
    expected[0, :, 0, 0] = (w[:, 0] * x[0, 0, :3, :3]).sum((1, 2))
    expected[0, :, -1, -1] = (w[:, 0] * x[0, 0, corner : corner + 3, corner : corner + 3]).sum((1, 2))
    np.testing.assert_array_equal(y, expected)


def test_a_result_with_more_than_two_to_the_31_products_before_it_is_counted_right() -> None:
    # Sizes alone: counts of elements, bytes and operations are Python's integers.
    p = ConvProblem(1, 2**20, 64, 2**10, 2**10, 64, 3, 3, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1, dtype="complex128")
    assert p.x_nbytes == p.out_nbytes == 2**20 * 64 * 2**20 * 16
    assert p.flops == 8 * 2**40 * 64 * 64 * 9
    assert fastconv.explain(p.x_shape, p.w_shape, padding=1, dtype="complex128").chosen
