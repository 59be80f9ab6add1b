"""Gradients without tolerance: a convolution is bilinear, so with integers adjoint identities and differences are exact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import adjoint, grad

MODES = ("zeros", "reflect", "symmetric", "replicate", "circular")
STRIDES, DILATIONS = ((1, 1), (2, 2), (3, 1)), ((1, 1), (2, 3))
PADDINGS = (0, 1, (2, 1), ((0, 2), (1, 0)), "valid", "same", "same_lower", "full")


@pytest.fixture(autouse=True)
def one_backend_for_every_geometry() -> Any:
    """Take the backend that compiles nothing anew for each kernel size; the automatic choice has tests of its own."""
    with fastconv.config(backend="direct:loops"):
        yield


def integers(rng: Any, shape: Any, dtype: Any = "float64") -> Any:
    return rng.integers(-4, 5, shape).astype(dtype)


def cases() -> Any:
    for (stride, dilation), padding, groups in itertools.product(itertools.product(STRIDES, DILATIONS), PADDINGS, (1, 2)):
        yield stride, dilation, padding, groups


@pytest.mark.parametrize(("stride", "dilation", "padding", "groups"), list(cases()))
@pytest.mark.parametrize("mode", MODES)
def test_adjoint_identities_hold_exactly(stride: Any, dilation: Any, padding: Any, groups: Any, mode: Any) -> None:
    """<conv(x, w), g> = <x, input gradient> = <w, weight gradient>, for integers without any rounding."""
    rng = np.random.default_rng(1)
    x, w = integers(rng, (2, 2 * groups, 8, 9)), integers(rng, (3 * groups, 2, 3, 2))
    words = (stride, padding, dilation, groups)
    y = fastconv.conv2d(x, w, None, *words, padding_mode=mode, backend="direct:loops")
    g = integers(rng, y.shape)
    expected = (y * g).sum()
    dx = grad.conv2d_input(x.shape, w, g, *words, padding_mode=mode, backend="direct:loops")
    dw = grad.conv2d_weight(x, w.shape, g, *words, padding_mode=mode)
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    assert (x * dx).sum() == expected
    assert (w * dw).sum() == expected
    # A bilinear form is known by its values: a second pair of arguments, or a wrong place would go unseen.
    x2, w2 = integers(rng, x.shape), integers(rng, w.shape)
    assert (x2 * dx).sum() == (fastconv.conv2d(x2, w, None, *words, padding_mode=mode, backend="direct:loops") * g).sum()
    assert (w2 * dw).sum() == (fastconv.conv2d(x, w2, None, *words, padding_mode=mode, backend="direct:loops") * g).sum()


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_central_differences_with_a_step_of_one_are_exact(mode: Any) -> Any:
    rng = np.random.default_rng(2)
    x, w = integers(rng, (1, 2, 5, 6)), integers(rng, (3, 2, 3, 3))
    words = ((2, 1), 1, (1, 2), 1)

    def loss(x: Any, w: Any) -> Any:
        return (fastconv.conv2d(x, w, None, *words, padding_mode=mode, backend="direct:loops") * g).sum()

    g = integers(rng, fastconv.conv2d(x, w, None, *words, padding_mode=mode).shape)
    dx = grad.conv2d_input(x.shape, w, g, *words, padding_mode=mode, backend="direct:loops")
    dw = grad.conv2d_weight(x, w.shape, g, *words, padding_mode=mode)
    for array, gradient, place in ((x, dx, 0), (w, dw, 1)):
        for index in np.ndindex(array.shape):
            step = np.zeros(array.shape)
            step[index] = 1
            up, down = (loss(x + step, w), loss(x - step, w)) if place == 0 else (loss(x, w + step), loss(x, w - step))
            assert gradient[index] == (up - down) / 2


def test_one_dimension_bias_and_unbatched_arrays() -> None:
    rng = np.random.default_rng(3)
    x, w = integers(rng, (2, 4, 15)), integers(rng, (6, 2, 4))
    words = (2, 3, 2, 2)
    y = fastconv.conv1d(x, w, None, *words, backend="direct:loops")
    g = integers(rng, y.shape)
    dx, dw = grad.conv1d_input(x.shape, w, g, *words, backend="direct:loops"), grad.conv1d_weight(x, w.shape, g, *words)
    assert (x * dx).sum() == (w * dw).sum() == (y * g).sum()
    np.testing.assert_array_equal(grad.conv1d_input(x[0].shape, w, g[0], *words, backend="direct:loops"), dx[0])
    np.testing.assert_array_equal(grad.conv1d_weight(x[0], w.shape, g[0], *words) + grad.conv1d_weight(x[1], w.shape, g[1], *words), dw)
    np.testing.assert_array_equal(grad.conv1d_bias(g), g.sum((0, 2)))
    np.testing.assert_array_equal(grad.conv2d_bias(g[:, :, None]), g.sum((0, 2)))
    np.testing.assert_array_equal(grad.conv2d_bias(g), g.sum((1, 2)))


@pytest.mark.parametrize(
    ("channels", "groups", "kernel", "stride", "dilation"),
    [(20, 1, (3, 3), (1, 1), (1, 1)), (20, 1, (5, 3), (2, 2), (1, 1)), (3, 1, (3, 3), (2, 1), (2, 1)), (24, 24, (3, 3), (1, 1), (1, 1)),
    (40, 2, (2, 2), (1, 3), (3, 1)), (1, 1, (3, 3), (1, 1), (1, 1))],
)  # fmt: skip
def test_weight_gradients_in_blocks_and_by_every_way_of_multiplying(
    channels: Any, groups: Any, kernel: Any, stride: Any, dilation: Any, monkeypatch: Any
) -> None:
    rng = np.random.default_rng(4)
    x, w = integers(rng, (3, channels, 14, 13)), np.zeros((2 * groups, channels // groups, *kernel))
    words = (stride, 1, dilation, groups)
    y = fastconv.conv2d(x, w, None, *words)
    g = integers(rng, y.shape)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.zeros(w.shape)
    for o, c, r, s in np.ndindex(w.shape):
        rows = slice(r * dilation[0], r * dilation[0] + (y.shape[2] - 1) * stride[0] + 1, stride[0])
        cols = slice(s * dilation[1], s * dilation[1] + (y.shape[3] - 1) * stride[1] + 1, stride[1])
        expected[o, c, r, s] = (padded[:, o // 2 * (channels // groups) + c, rows, cols] * g[:, o]).sum()
    for pixels, nbytes in ((448, 2**20), (50, 2**20), (4, 2**20), (448, 1)):
        monkeypatch.setattr(adjoint, "BLOCK_PIXELS", pixels)
        monkeypatch.setattr(adjoint, "BLOCK_NBYTES", nbytes)
        np.testing.assert_array_equal(grad.conv2d_weight(x, w.shape, g, *words), expected)


@pytest.mark.parametrize(("channels", "oc", "kernel", "groups"), [(20, 37, 3, 1), (6, 37, 1, 1), (40, 34, 1, 2)])
def test_weight_gradients_without_a_border_and_on_any_number_of_threads(channels: Any, oc: Any, kernel: Any, groups: Any) -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, channels, 16, 15))
    shape = (oc, channels // groups, kernel, kernel)
    g = rng.standard_normal((3, oc, 17 - kernel, 16 - kernel))
    found = []
    for threads in (1, 2, 5):
        with fastconv.config(threads=threads):
            found.append(grad.conv2d_weight(x, shape, g, groups=groups))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    expected = np.zeros(shape)
    for r, s in np.ndindex(kernel, kernel):
        window = x[:, :, r : r + g.shape[2], s : s + g.shape[3]].reshape(3, groups, -1, *g.shape[2:])
        expected[:, :, r, s] = np.einsum("ngohw,ngchw->goc", g.reshape(3, groups, -1, *g.shape[2:]), window).reshape(shape[:2])
    np.testing.assert_allclose(found[0], expected, rtol=1e-12, atol=1e-12)


def test_nan_reaches_only_the_weights_that_read_it() -> None:
    x, g = np.ones((1, 20, 4, 4)), np.ones((1, 3, 4, 4))
    x[0, 5, 0, 0] = np.nan
    dw = grad.conv2d_weight(x, (3, 20, 3, 3), g, 1, 1)
    read = np.zeros((3, 20, 3, 3), bool)
    read[:, 5, :2, :2] = True
    np.testing.assert_array_equal(np.isnan(dw), read)


@pytest.mark.parametrize("dtype", ["float32", "int64", "float16"])
def test_dtypes(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x, w = integers(rng, (2, 3, 6, 7), dtype), integers(rng, (4, 3, 3, 3), dtype)
    g = integers(rng, (2, 4, 4, 5), dtype)
    dx, dw = grad.conv2d_input(x.shape, w, g), grad.conv2d_weight(x, w.shape, g)
    assert dx.dtype == dw.dtype == ("float32" if dtype == "float16" else dtype)
    assert (np.rint(dx) * x).sum(dtype=float) == (dw * w).sum(dtype=float)


def test_errors_name_the_numbers() -> None:
    with pytest.raises(
        fastconv.ShapeError,
        match=r"conv2d_input: grad_output must have the shape of the convolution's result, \(1, 4, 2, 2\); got \(1, 4, 3, 3\)",
    ):
        grad.conv2d_input((1, 2, 4, 4), np.ones((4, 2, 3, 3)), np.ones((1, 4, 3, 3)))
    with pytest.raises(fastconv.ShapeError, match="conv2d_weight: x has 2 channels but w expects 3"):
        grad.conv2d_weight(np.ones((1, 2, 4, 4)), (4, 3, 3, 3), np.ones((1, 4, 2, 2)))
    with pytest.raises(fastconv.ShapeError, match="conv2d_bias: grad_output must have 3 or 4 axes; got 2"):
        grad.conv2d_bias(np.ones((2, 2)))


@pytest.mark.parametrize(("stride", "dilation", "padding", "groups"), [case for case in cases() if isinstance(case[2], int)][::3])
def test_torch_gives_the_same(stride: Any, dilation: Any, padding: Any, groups: Any) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    x, w = integers(rng, (2, 2 * groups, 9, 9)), integers(rng, (4 * groups, 2, 3, 3))
    words = (stride, padding, dilation, groups)
    g = integers(rng, fastconv.conv2d(x, w, None, *words).shape)
    tx, tw, tg = map(torch.from_numpy, (x, w, g))
    np.testing.assert_array_equal(
        np.rint(grad.conv2d_input(x.shape, w, g, *words)), torch.nn.grad.conv2d_input(tx.shape, tw, tg, *words).numpy()
    )
    np.testing.assert_array_equal(grad.conv2d_weight(x, w.shape, g, *words), torch.nn.grad.conv2d_weight(tx, tw.shape, tg, *words).numpy())


def test_the_automatic_choice_gives_the_same() -> None:
    rng = np.random.default_rng(7)
    x, w = integers(rng, (2, 16, 12, 12), "float32"), integers(rng, (16, 16, 3, 3), "float32")
    g = integers(rng, x.shape, "float32")
    expected = grad.conv2d_input(x.shape, w, g, 1, 1)
    with fastconv.config(backend="auto"):
        np.testing.assert_array_equal(np.rint(grad.conv2d_input(x.shape, w, g, 1, 1)), expected)
