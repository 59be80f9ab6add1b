"""conv3d against its definition, exactly on integers; against torch where installed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastconv

NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}


@pytest.fixture(autouse=True)
def one_backend_for_every_geometry() -> Any:
    """Take the backend that compiles nothing anew for each kernel size; the automatic choice has tests of its own."""
    with fastconv.config(backend="direct:loops"):
        yield


def integers(rng: Any, shape: Any, dtype: Any = "float64") -> Any:
    return rng.integers(-4, 5, shape).astype(dtype)


def by_definition(x: Any, w: Any, stride: Any, pads: Any, dilation: Any, groups: Any, mode: Any) -> Any:
    padded = np.pad(x, ((0, 0), (0, 0), *pads), NUMPY_MODES[mode])
    n, oc = x.shape[0], w.shape[0]
    sizes = [(m - d * (k - 1) - 1) // s + 1 for m, d, k, s in zip(padded.shape[2:], dilation, w.shape[2:], stride, strict=True)]
    y = np.zeros((n, oc, *sizes), np.result_type(x, w))
    icg = w.shape[1]
    for o, c, *taps in np.ndindex(w.shape):
        window = tuple(slice(t * d, t * d + (m - 1) * s + 1, s) for t, d, m, s in zip(taps, dilation, sizes, stride, strict=True))
        y[:, o] += padded[(slice(None), o // (oc // groups) * icg + c, *window)] * w[(o, c, *taps)]
    return y


@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, (3, 1, 2)), (1, 2, (3, 2, 1)))))
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_it_is_its_definition(stride: Any, dilation: Any, groups: Any) -> None:
    rng = np.random.default_rng(1)
    for channels, mode in ((1, "zeros"), (2, "zeros"), (2, "reflect"), (1, "circular"), (1, "replicate")):
        x = integers(rng, (2, channels * groups, 8, 7, 9))
        w = integers(rng, (2 * groups, channels, 3, 2, 3))
        pads = ((2, 1), (1, 0), (2, 2))
        triple = [v if isinstance(v, tuple) else (v,) * 3 for v in (stride, dilation)]
        expected = by_definition(x, w, triple[0], pads, triple[1], groups, mode)
        y = fastconv.conv3d(x, w, None, stride, pads, dilation, groups, padding_mode=mode)
        np.testing.assert_array_equal(np.rint(y), expected)


@pytest.mark.parametrize("groups", [1, 6])
def test_epilogue_words_and_small_workspaces(groups: Any) -> None:
    rng = np.random.default_rng(2)
    x, w, bias = integers(rng, (2, 6, 9, 8, 8)), integers(rng, (6, 6 // groups, 3, 3, 3)), integers(rng, 6)
    plain = by_definition(x, w, (1, 1, 1), ((1, 1),) * 3, (1, 1, 1), groups, "zeros")
    residual = integers(rng, plain.shape)
    expected = np.maximum(plain + bias[:, None, None, None] + residual, 0)
    for workspace in (None, 2**20):
        with fastconv.config(max_workspace="auto" if workspace is None else workspace):
            for padding in (1, "same", (1, 1, 1)):
                y = fastconv.conv3d(x, w, bias, padding=padding, groups=groups, activation="relu", residual=residual)
                np.testing.assert_array_equal(np.rint(y), expected)
    out = np.empty(expected.shape)
    assert fastconv.conv3d(x, w, bias, padding=1, groups=groups, activation="relu", residual=residual, out=out) is out
    np.testing.assert_array_equal(np.rint(out), expected)
    np.testing.assert_array_equal(np.rint(fastconv.conv3d(x[0], w, padding=1, groups=groups)), plain[0])
    flipped = by_definition(x, w[:, :, ::-1, ::-1, ::-1], (1, 1, 1), ((1, 1),) * 3, (1, 1, 1), groups, "zeros")
    np.testing.assert_array_equal(np.rint(fastconv.conv3d(x, w, padding=1, groups=groups, flip_kernel=True)), flipped)


def test_constant_padding_full_and_layouts() -> None:
    rng = np.random.default_rng(3)
    x, w = integers(rng, (1, 2, 5, 6, 7)), integers(rng, (3, 2, 2, 3, 3))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (1, 1)), constant_values=2)
    expected = by_definition(padded, w, (1, 1, 1), ((0, 0),) * 3, (1, 1, 1), 1, "zeros")
    y = fastconv.conv3d(np.asfortranarray(x), w, padding=1, padding_mode="constant", padding_value=2)
    np.testing.assert_array_equal(np.rint(y), expected)
    full = by_definition(x, w, (1, 1, 1), ((1, 1), (2, 2), (2, 2)), (1, 1, 1), 1, "zeros")
    np.testing.assert_array_equal(np.rint(fastconv.conv3d(x[:, :, ::-1], w[:, :, ::-1], padding="full"))[:, :, ::-1], full)


def test_errors_name_the_numbers() -> None:
    x, w = np.ones((1, 2, 5, 5, 5)), np.ones((3, 2, 3, 3, 3))
    for arguments, text in (
        ((x[0, 0], w), "conv3d: x must have the shape (N, C, D, H, W) or (C, D, H, W); got 3 axes"),
        ((x, w[0]), "conv3d: w must have the shape (C_out, C_in/groups, K_d, K_h, K_w); got 4 axes"),
        ((x, w[:, :1]), "conv3d: x has 2 channels but w expects 1"),
        ((x, w, None, (1, 2)), "conv3d: stride and dilation must be an int or 3 ints; got (1, 2)"),
        ((x, w, None, 1, (1, 2)), "conv3d: padding must be an int, 3 ints, 3 pairs"),
    ):
        with pytest.raises(ValueError) as caught:
            fastconv.conv3d(*arguments)
        assert text in str(caught.value)


def test_torch_gives_the_same() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    x, w, bias = integers(rng, (2, 4, 8, 9, 10)), integers(rng, (6, 2, 3, 3, 2)), integers(rng, 6)
    expected = torch.nn.functional.conv3d(
        torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(bias), (2, 1, 2), (1, 2, 0), (1, 2, 1), 2
    )
    np.testing.assert_array_equal(np.rint(fastconv.conv3d(x, w, bias, (2, 1, 2), (1, 2, 0), (1, 2, 1), 2)), expected.numpy())


def test_the_automatic_choice_gives_the_same() -> None:
    rng = np.random.default_rng(5)
    x, w = integers(rng, (1, 4, 6, 12, 12), "float32"), integers(rng, (8, 4, 3, 3, 3), "float32")
    expected = fastconv.conv3d(x, w, padding=1)
    with fastconv.config(backend="auto"):
        np.testing.assert_array_equal(np.rint(fastconv.conv3d(x, w, padding=1)), expected)
