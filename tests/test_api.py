"""The public functions: names, positional order, forms of arguments, layouts, dtypes."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import fastconv
import oracle
from oracle import Array

pytestmark = pytest.mark.plain

CONV = ["x", "w", "bias", "stride", "padding", "dilation", "groups"]
WORDS = ["padding_mode", "padding_value", "flip_kernel", "activation", "residual", "data_format", "backend", "out"]
SIGNATURES = {
    "conv1d": (CONV, WORDS),
    "conv2d": (CONV, WORDS),
    "Conv2d": (["w", *CONV[2:]], [word for word in WORDS if word not in {"residual", "out"}]),
    "plan": (["x_shape", *CONV[1:]], ["padding_mode", "padding_value", "flip_kernel", "activation", "has_residual", "data_format", "dtype", "backend"]),
    "explain": (["x_shape", "w_shape", *CONV[2:]], ["padding_mode", "padding_value", "activation", "has_residual", "data_format", "dtype", "backend"]),
}  # fmt: skip
DEFAULTS = {
    "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", "padding_value": 0.0, "flip_kernel": False,
    "activation": None, "residual": None, "data_format": "NCHW", "backend": None, "out": None,
}  # fmt: skip
RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, (2, 4, 9, 11)).astype(np.float32)
W = RNG.integers(-3, 4, (6, 4, 3, 4)).astype(np.float32)


def check(y: Array, reference: Array) -> None:
    np.testing.assert_array_equal(np.rint(y), reference)


# ---- names and order


def test_the_public_names() -> None:
    assert {
        "Conv2d", "ConfigError", "DTypeError", "ShapeError", "UnsupportedProblem", "WisdomError", "__version__", "backends", "config", "conv1d",
        "conv2d", "explain", "get_config", "plan", "set_config",
    } <= set(fastconv.__all__)  # fmt: skip
    assert all(hasattr(fastconv, name) for name in fastconv.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_positional_order_is_that_of_torch_and_the_rest_is_by_name(name: str) -> None:
    positional, words = SIGNATURES[name]
    parameters = inspect.signature(getattr(fastconv, name)).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert {*words} <= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert not [p for p in parameters if p.kind in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "Conv2d"])
def test_defaults(name: str) -> None:
    parameters = inspect.signature(getattr(fastconv, name)).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == {
        p.name: DEFAULTS[p.name] for p in parameters if p.name in DEFAULTS
    }


def test_the_errors_are_of_the_expected_kinds() -> None:
    assert issubclass(fastconv.ShapeError, ValueError)
    assert issubclass(fastconv.DTypeError, TypeError)
    assert issubclass(fastconv.UnsupportedProblem, ValueError)
    assert issubclass(fastconv.ConfigError, ValueError)
    assert not issubclass(fastconv.UnsupportedProblem, fastconv.ShapeError)


@pytest.mark.compiler
def test_every_backend_is_a_name_that_the_argument_takes() -> None:
    names = fastconv.backends()
    assert isinstance(names, tuple)
    assert names[-1] == "naive"
    assert "auto" not in names
    assert len(set(names)) == len(names)
    for name in names:
        assert fastconv.explain((1, 4, 40, 40), (8, 4, 3, 3), padding=1, backend=name).chosen.partition(":")[0] == name


# ---- padding, stride, dilation, groups


@pytest.mark.parametrize(
    ("padding", "pads"),
    [
        (0, ((0, 0), (0, 0))), (2, ((2, 2), (2, 2))), ((1, 3), ((1, 1), (3, 3))), ([1, 3], ((1, 1), (3, 3))), (((0, 1), (2, 3)), ((0, 1), (2, 3))),
        (np.array([[0, 1], [2, 3]]), ((0, 1), (2, 3))), (np.int64(1), ((1, 1), (1, 1))), ("valid", ((0, 0), (0, 0))), ("full", ((2, 2), (3, 3))),
        ("same", ((1, 1), (1, 2))), ("same_upper", ((1, 1), (1, 2))), ("same_lower", ((1, 1), (2, 1))), ((1,), ((1, 1), (1, 1))),
    ],
    ids=str,
)  # fmt: skip
def test_every_form_of_padding(padding: Any, pads: oracle.Pads) -> None:
    check(fastconv.conv2d(X, W, padding=padding), oracle.correlate(X, W, pads=pads))


@pytest.mark.parametrize("n", range(4, 13))
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_gives_ceil_n_over_stride_outputs_with_the_odd_one_at_the_end(n: int, k: int, stride: int, dilation: int) -> None:
    x, w = X[:1, :1, :, :1].repeat(2, axis=2)[:, :, :n], W[:1, :1, :1, :1].repeat(k, axis=2)
    span = dilation * (k - 1) + 1
    total = max(0, (-(-n // stride) - 1) * stride + span - n)
    for word, before in (("same", total // 2), ("same_upper", total // 2), ("same_lower", total - total // 2)):
        y = fastconv.conv2d(x, w, stride=(stride, 1), padding=word, dilation=(dilation, 1))
        assert y.shape == (1, 1, -(-n // stride), 1)
        pads = ((before, total - before), (0, 0))
        check(y, oracle.correlate(x, w, pads=pads, stride=(stride, 1), dilation=(dilation, 1)))


@pytest.mark.parametrize("mode", oracle.NUMPY_MODES)
@pytest.mark.parametrize("padding", [1, ((0, 3), (2, 1)), 13, "same"], ids=str)
def test_every_padding_mode(mode: str, padding: Any) -> None:
    pads = {1: ((1, 1), (1, 1)), 13: ((13, 13), (13, 13)), "same": ((1, 1), (1, 2))}.get(padding, padding)
    value = -2 if mode == "constant" else 0
    y = fastconv.conv2d(X, W, padding=padding, padding_mode=mode, padding_value=value)  # type: ignore[arg-type]
    check(y, oracle.correlate(X, W, pads=pads, mode=mode, value=value))


@pytest.mark.parametrize("stride", [1, 3, (2, 1), [1, 4], np.array([2, 3]), np.int32(2)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2, (2, 1), [1, 3]], ids=str)
def test_every_form_of_stride_and_dilation(stride: Any, dilation: Any) -> None:
    pairs = [(int(value),) * 2 if np.ndim(value) == 0 else tuple(value) for value in (stride, dilation)]
    check(fastconv.conv2d(X, W, None, stride, 0, dilation), oracle.correlate(X, W, stride=pairs[0], dilation=pairs[1]))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups(groups: int) -> None:
    w = np.concatenate([W, W[:2]])[:, : 4 // groups]
    check(fastconv.conv2d(X, w, groups=groups), oracle.correlate(X, w, groups=groups))


def test_all_words_together_by_position() -> None:
    bias = np.arange(6, dtype=np.float32)
    y = fastconv.conv2d(X, W[:, :2], bias, (2, 1), ((1, 0), (2, 2)), (1, 2), 2)
    geometry: dict[str, Any] = {"stride": (2, 1), "pads": ((1, 0), (2, 2)), "dilation": (1, 2), "groups": 2}
    check(y, oracle.convolve(X, W[:, :2], bias, **geometry))


def test_flip_kernel() -> None:
    check(fastconv.conv2d(X, W, flip_kernel=True), oracle.correlate(X, W[:, :, ::-1, ::-1]))


# ---- layouts


def test_an_unbatched_image_gives_an_unbatched_result() -> None:
    y = fastconv.conv2d(X[0], W, residual=np.ones((6, 7, 8), np.float32))
    assert y.shape == (6, 7, 8)
    check(y, oracle.correlate(X[:1], W)[0] + 1)


@pytest.mark.parametrize("shape", [(0, 4, 9, 11), (0, 9, 11, 4)])
def test_an_empty_batch_gives_an_empty_result(shape: tuple[int, ...]) -> None:
    nhwc = shape[-1] == 4
    y = fastconv.conv2d(np.zeros(shape, np.float32), W, data_format="NHWC" if nhwc else "NCHW")
    assert y.shape == ((0, 7, 8, 6) if nhwc else (0, 6, 7, 8))
    assert y.dtype == np.float32


def test_channels_last_takes_and_returns_channels_last() -> None:
    x = np.ascontiguousarray(np.moveaxis(X, 1, -1))
    bias, residual = np.arange(6, dtype=np.float32), RNG.integers(-3, 4, (2, 7, 8, 6)).astype(np.float32)
    y = fastconv.conv2d(x, W, bias, data_format="NHWC", residual=residual, activation="relu")
    assert y.shape == (2, 7, 8, 6)
    assert y.flags.c_contiguous
    reference = oracle.convolve(X, W, bias, np.moveaxis(residual, -1, 1), "relu")
    check(y, np.moveaxis(reference, 1, -1))
    check(fastconv.conv2d(x[0], W, bias, data_format="NHWC", residual=residual[0], activation="relu"), np.moveaxis(reference[0], 0, -1))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_conv1d_is_conv2d_along_one_axis(channels_last: bool, batched: bool) -> None:  # noqa: FBT001  parameters of the matrix
    x, w, bias = X[:, :, 0], W[:, :2, 0], np.arange(6, dtype=np.float32)
    reference = oracle.convolve(
        x[:, :, np.newaxis], w[:, :, np.newaxis], bias, stride=(1, 2), pads=((0, 0), (1, 3)), dilation=(1, 2), groups=2, mode="reflect"
    )[:, :, 0]
    given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if channels_last else x
    y = fastconv.conv1d(
        given if batched else given[1], w, bias, 2, ((1, 3),), 2, 2, padding_mode="reflect", data_format="NHWC" if channels_last else "NCHW"
    )
    reference = np.moveaxis(reference, 1, -1) if channels_last else reference
    check(y, reference if batched else reference[1])


@pytest.mark.parametrize("padding", [0, 1, (2,), ((1, 2),), "same", "same_lower", "full", "valid"], ids=str)
def test_every_form_of_padding_in_one_dimension(padding: Any) -> None:
    pads = {0: (0, 0), 1: (1, 1), (2,): (2, 2), ((1, 2),): (1, 2), "same": (1, 2), "same_lower": (2, 1), "full": (3, 3), "valid": (0, 0)}[
        padding
    ]
    x, w = X[:, :, :1], W[:, :, :1]
    check(fastconv.conv1d(x[:, :, 0], w[:, :, 0], padding=padding), oracle.correlate(x, w, pads=((0, 0), pads))[:, :, 0])


def test_lists_are_arrays() -> None:
    y = fastconv.conv2d([[[0, 1, 2], [3, 4, 5], [6, 7, 8]]], [[[[0, 1], [2, 3]]]], [10])
    assert y.dtype == np.int64 or y.dtype == np.dtype("long")
    np.testing.assert_array_equal(y, [[[29, 35], [47, 53]]])


# ---- dtypes


@pytest.mark.parametrize(
    "dtypes",
    [("float16", "float16"), ("float16", "float32"), ("float32", "float64"), ("float32", "complex64"), ("float64", "complex64"), ("complex128", "float32"),
     ("int8", "int8"), ("int16", "uint8"), ("int32", "float32"), ("uint8", "float32"), ("int64", "uint64"), ("uint8", "uint8"), ("bool", "float32")],
    ids=str,
)  # fmt: skip
def test_mixed_dtypes_follow_numpy(dtypes: tuple[str, str]) -> None:
    x, w = np.abs(X).astype(dtypes[0]), np.abs(W).astype(dtypes[1])
    y = fastconv.conv2d(x, w)
    assert y.dtype == np.result_type(*dtypes)
    assert y.dtype.isnative
    np.testing.assert_array_equal(np.rint(y), oracle.correlate(x, w).astype(y.dtype))


def test_bias_and_residual_take_part_in_the_promotion() -> None:
    assert fastconv.conv2d(X, W, np.zeros(6)).dtype == np.float64
    assert fastconv.conv2d(X, W, residual=np.zeros((2, 6, 7, 8), np.complex64)).dtype == np.complex64


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int32"])
def test_big_endian_arrays_are_converted(dtype: str) -> None:
    swapped = np.dtype(dtype).newbyteorder()
    y = fastconv.conv2d(X.astype(swapped), W.astype(swapped), np.ones(6, swapped))
    assert y.dtype == dtype
    assert y.dtype.isnative
    check(y, oracle.convolve(X, W, np.ones(6)))


def test_complex_numbers_are_not_conjugated() -> None:
    x, w = np.array([[[[1j, 2]]]]), np.array([[[[1j, 1]]]])
    np.testing.assert_array_equal(np.rint(fastconv.conv2d(x, w)), [[[[1]]]])


def test_float16_is_summed_in_float32() -> None:
    x = np.full((1, 1, 64, 64), 1.0, np.float16)
    w = np.full((1, 1, 60, 60), 1.0, np.float16)
    y = fastconv.conv2d(x, w, backend="direct")
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.full((1, 1, 5, 5), 3600, np.float16))  # a float16 sum would stop at 2048


def test_float16_overflows_to_infinity_without_a_warning() -> None:
    y = fastconv.conv2d(np.full((1, 1, 3, 3), 6e4, np.float16), np.ones((1, 1, 2, 2), np.float16))
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), np.inf, np.float16))


# ---- what is kept between calls


def test_weights_changed_in_place_count_at_once() -> None:
    w = W.copy()
    for step in range(4):
        w[0, 0, 0, 0] = step
        check(fastconv.conv2d(X, w), oracle.correlate(X, w))
        check(fastconv.conv2d(X, w), oracle.correlate(X, w))


def test_a_bias_changed_in_place_counts_at_once() -> None:
    bias = np.zeros(6, np.float32)
    for step in range(4):
        bias[2] = step
        check(fastconv.conv2d(X, W, bias), oracle.convolve(X, W, bias))
        check(fastconv.conv2d(X, W, bias), oracle.convolve(X, W, bias))


def test_a_call_with_and_without_bias_or_flip_does_not_meet_the_other() -> None:
    bias = np.arange(6, dtype=np.float32)
    for _ in range(3):
        check(fastconv.conv2d(X, W), oracle.correlate(X, W))
        check(fastconv.conv2d(X, W, bias), oracle.convolve(X, W, bias))
        check(fastconv.conv2d(X, W, flip_kernel=True), oracle.correlate(X, W[:, :, ::-1, ::-1]))


def test_the_inputs_are_not_changed() -> None:
    x, w, bias, residual = X.copy(), W.copy(), np.arange(6, dtype=np.float32), np.ones((2, 6, 7, 8), np.float32)
    fastconv.conv2d(x, w, bias, residual=residual, activation="relu")
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(w, W)
    np.testing.assert_array_equal(bias, np.arange(6))
    np.testing.assert_array_equal(residual, np.ones((2, 6, 7, 8)))
