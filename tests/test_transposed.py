"""Transposed convolutions and their relation to the forward ones, exactly on integers; against torch where installed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastconv


@pytest.fixture(autouse=True)
def one_backend_for_every_geometry() -> Any:
    """Take the backend that compiles nothing anew for each kernel size; the automatic choice has tests of its own."""
    with fastconv.config(backend="direct:loops"):
        yield


def integers(rng: Any, shape: Any, dtype: Any = "float64") -> Any:
    return rng.integers(-4, 5, shape).astype(dtype)


def by_definition(x: Any, w: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any) -> Any:
    """Scatter every product to its place, in loops."""
    n, ic, h, width = x.shape
    per_group, kh, kw = w.shape[1:]
    shape = [
        (m - 1) * s + d * (k - 1) + 1 + e for m, s, d, k, e in zip((h, width), stride, dilation, (kh, kw), output_padding, strict=True)
    ]
    full = np.zeros((n, per_group * groups, *shape), np.result_type(x, w))
    icg = ic // groups
    for c, o, r, s in np.ndindex(ic, per_group, kh, kw):
        rows = slice(r * dilation[0], r * dilation[0] + (h - 1) * stride[0] + 1, stride[0])
        cols = slice(s * dilation[1], s * dilation[1] + (width - 1) * stride[1] + 1, stride[1])
        full[:, c // icg * per_group + o, rows, cols] += x[:, c] * w[c, o, r, s]
    full = full[:, :, padding[0] : shape[0] - padding[0], padding[1] : shape[1] - padding[1]]
    return full if bias is None else full + bias[:, None, None]


def cases() -> Any:
    rng = np.random.default_rng(1)
    for stride, dilation, kernel in itertools.product(
        ((1, 1), (2, 2), (3, 2), (4, 1)), ((1, 1), (2, 1), (2, 3)), ((1, 1), (3, 3), (4, 2), (2, 5))
    ):
        groups = int(rng.integers(1, 4))
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = tuple(int(rng.integers(0, span + 1)) for span in spans)
        output_padding = tuple(int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True))
        size = tuple(int(rng.integers(max(3, 2 * p), 3 + 2 * p + 1)) for p in padding)
        yield size, kernel, stride, padding, output_padding, groups, dilation


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "output_padding", "groups", "dilation"), list(cases()))
def test_transposed_is_its_definition(
    size: Any, kernel: Any, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any
) -> None:
    rng = np.random.default_rng(2)
    x = integers(rng, (2, 2 * groups, *size))
    w = integers(rng, (2 * groups, 3, *kernel))
    bias = integers(rng, 3 * groups)
    arguments = (stride, padding, output_padding, groups, dilation)
    expected = by_definition(x, w, bias, *arguments)
    np.testing.assert_array_equal(np.rint(fastconv.conv_transpose2d(x, w, bias, *arguments)), expected)
    out = np.empty(expected.shape)
    assert fastconv.conv_transpose2d(x, w, bias, *arguments, out=out, backend="direct:loops") is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int32"])
def test_dtypes_and_one_dimension(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x, w = integers(rng, (2, 3, 9), dtype), integers(rng, (3, 2, 4), dtype)
    expected = by_definition(x[:, :, None], w[:, :, None], None, (1, 3), (0, 1), (0, 2), 1, (1, 2))[:, :, 0]
    y = fastconv.conv_transpose1d(x, w, None, 3, 1, 2, 1, 2)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(fastconv.conv_transpose1d(x[0], w, None, 3, 1, 2, 1, 2), expected[0])


def test_it_is_the_adjoint_of_the_convolution() -> None:
    rng = np.random.default_rng(4)
    x, w = integers(rng, (2, 4, 11, 12)), integers(rng, (6, 2, 3, 4))
    y = fastconv.conv2d(x, w, None, (2, 3), (1, 2), (2, 1), 2, backend="direct:loops")
    g = integers(rng, y.shape)
    back = fastconv.conv_transpose2d(g, w, None, (2, 3), (1, 2), (0, 0), 2, (2, 1))
    full = np.zeros(x.shape)
    full[:, :, : back.shape[2], : back.shape[3]] = back[:, :, : x.shape[2], : x.shape[3]]
    assert (y * g).sum() == (x * full).sum()


def test_nothing_but_zeros_and_bias_where_no_tap_reaches() -> None:
    y = fastconv.conv_transpose2d(np.ones((1, 2, 2)), np.ones((1, 1, 1, 1)), np.array([5.0]), 3, output_padding=1)
    assert y.shape == (1, 5, 5)
    assert y.sum() == 5 * 25 + 4
    assert y[0, 4, 4] == 5
    assert fastconv.conv_transpose2d(np.ones((0, 1, 2, 2)), np.ones((1, 1, 2, 2))).shape == (0, 1, 3, 3)


def test_errors_name_the_numbers() -> None:
    x, w = np.ones((1, 2, 3, 3)), np.ones((2, 1, 2, 2))
    for arguments, error, text in (
        ((x, np.ones((3, 1, 2, 2))), fastconv.ShapeError, "x has 2 channels, w.shape[0] = 3"),
        ((x, w, np.ones(2)), fastconv.ShapeError, r"bias must have the shape (C_out,) = (1,); got (2,)"),
        ((x, w, None, 0), ValueError, "stride must be at least 1; got 0"),
        ((x, w, None, 1, 9), fastconv.ShapeError, "(3-1)*1 - 2*9 + 1*(2-1) + 0 + 1 = -14"),
        ((x, w, None, 2, 0, 2), ValueError, "output_padding must be smaller than stride or dilation; got 2 with 2 and 1"),
        ((x[0, 0], w), fastconv.ShapeError, "x must have the shape (N, C_in, H, W) or (C_in, H, W); got 2 axes"),
        ((x, w[0]), fastconv.ShapeError, "w must have the shape (C_in, C_out/groups, K_h, K_w); got 3 axes"),
        ((x, w, None, "2"), ValueError, "stride must be an integer or 2 integers; got '2'"),
    ):
        with pytest.raises(error) as caught:
            fastconv.conv_transpose2d(*arguments)
        assert text in str(caught.value)
        assert str(caught.value).startswith("conv_transpose2d: ")


def test_out_may_overlap_the_inputs() -> None:
    x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 3, 3))
    expected = fastconv.conv_transpose2d(x, w, padding=1)
    assert fastconv.conv_transpose2d(x, w, padding=1, out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "output_padding", "groups", "dilation"), list(cases())[::5])
def test_torch_gives_the_same(size: Any, kernel: Any, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    x, w = integers(rng, (2, 2 * groups, *size)), integers(rng, (2 * groups, 3, *kernel))
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(w), None, stride, padding, output_padding, groups, dilation
    )
    np.testing.assert_array_equal(
        np.rint(fastconv.conv_transpose2d(x, w, None, stride, padding, output_padding, groups, dilation)), expected.numpy()
    )


@pytest.mark.parametrize("backend", [name for name in fastconv.backends() if name != "naive"])
def test_every_backend_serves_a_common_geometry(backend: Any) -> None:
    rng = np.random.default_rng(6)
    x, w = integers(rng, (1, 16, 12, 12), "float32"), integers(rng, (16, 8, 4, 4), "float32")
    expected = by_definition(x, w, None, (2, 2), (1, 1), (0, 0), 1, (1, 1))
    try:
        y = fastconv.conv_transpose2d(x, w, None, 2, 1, backend=backend)
    except fastconv.UnsupportedProblem:
        assert backend == "winograd"
        return
    np.testing.assert_array_equal(np.rint(y), expected)
