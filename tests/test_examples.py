"""The worked examples of the documentation, digit for digit, on every algorithm that computes them."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from cases import PROBLEMS, supported
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.problem import ConvProblem
from oracle import Array

pytestmark = pytest.mark.plain

X = np.arange(9.0).reshape(1, 1, 3, 3)
W = np.arange(4.0).reshape(1, 1, 2, 2)


def conv2d(algorithm: Algorithm, x: Array, w: Array, **words: object) -> Array:
    return fastconv.conv2d(x, w, backend=algorithm.name, **words)  # type: ignore[arg-type]


#: Algorithms that compute a 2x2 kernel, padded and with steps of three and two.
GENERAL = [a for a in TABLE if all(supported(a, PROBLEMS[name]) for name in ("worked example", "worked example, padded"))]


@pytest.fixture(params=GENERAL, ids=lambda algorithm: algorithm.name)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    found: Algorithm = request.param
    return found


def rounded(y: Array) -> Array:
    """Return the integers next to `y`, which all results here are within rounding errors of."""
    np.testing.assert_allclose(y, np.rint(y), atol=1e-4)
    return np.rint(y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_example(algorithm: Algorithm, dtype: str) -> None:
    y = conv2d(algorithm, X.astype(dtype), W.astype(dtype))
    assert y.dtype == dtype
    np.testing.assert_array_equal(rounded(y), [[[[19, 25], [37, 43]]]])


def test_padding_with_one_ring_of_zeros(algorithm: Algorithm) -> None:
    y = rounded(conv2d(algorithm, X, W, padding=1))
    assert y.shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(y[0, 0], [[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]])


def test_stride_three_and_two(algorithm: Algorithm) -> None:
    np.testing.assert_array_equal(rounded(conv2d(algorithm, X, W, stride=(3, 2), padding=1)), [[[[0, 8], [6, 8]]]])


def test_three_input_channels_are_summed(algorithm: Algorithm) -> None:
    x = np.concatenate([X, X + 1, 2 * X], axis=1)
    w = np.concatenate([W, W + 1, W[:, :, ::-1]], axis=1)
    apart = sum(conv2d(algorithm, x[:, c : c + 1], w[:, c : c + 1]) for c in range(3))
    np.testing.assert_array_equal(rounded(conv2d(algorithm, x, w)), rounded(np.asarray(apart)))
    np.testing.assert_array_equal(rounded(conv2d(algorithm, x[:, :2], w[:, :2])), [[[[19 + 37, 25 + 47], [37 + 67, 43 + 77]]]])


def test_each_output_channel_uses_its_own_kernel_on_the_whole_input(algorithm: Algorithm) -> None:
    x = np.concatenate([X, X + 1], axis=1)
    w = np.concatenate([np.concatenate([W, W + 1], axis=1), np.concatenate([W + 2, W[:, :, ::-1]], axis=1)])
    y = rounded(conv2d(algorithm, x, w))
    assert y.shape == (1, 2, 2, 2)
    for o in range(2):
        np.testing.assert_array_equal(y[:, o : o + 1], rounded(conv2d(algorithm, x, w[o : o + 1])))


def test_flip_kernel_gives_the_mathematical_convolution(algorithm: Algorithm) -> None:
    # (x * w)[i, j] = sum over r, s of x[i - r, j - s] w[r, s]
    np.testing.assert_array_equal(rounded(conv2d(algorithm, X, W, flip_kernel=True)), [[[[5, 11], [23, 29]]]])


@pytest.mark.parametrize("any_algorithm", TABLE, ids=lambda algorithm: algorithm.name)
def test_the_identity_kernel_returns_the_image(any_algorithm: Algorithm) -> None:
    for kh, kw in ((3, 3), (5, 5), (7, 7), (1, 3), (3, 1), (1, 5), (5, 1), (1, 7), (7, 1), (15, 15)):
        for ic, groups, stride in ((1, 1, 1), (4, 1, 1), (4, 1, 2), (4, 4, 1), (4, 2, 1)):
            problem = ConvProblem(groups, 1, ic, 12, 13, ic, kh, kw, stride, stride, kh // 2, kh // 2, kw // 2, kw // 2)
            if not supported(any_algorithm, problem):
                continue
            x = np.arange(ic * 12 * 13, dtype=np.float32).reshape(1, ic, 12, 13)
            identity = np.zeros(problem.w_shape, np.float32)
            identity[range(ic), [c % (ic // groups) for c in range(ic)], kh // 2, kw // 2] = 1
            y = conv2d(any_algorithm, x, identity, stride=stride, padding=((kh // 2, kh // 2), (kw // 2, kw // 2)), groups=groups)
            np.testing.assert_allclose(y, x[:, :, ::stride, ::stride], rtol=1e-5, atol=2e-3)
            return
    pytest.fail("an algorithm that computes none of these needs an example of its own")
