"""Activations in the three forms of the epilogue, against SciPy's special functions in double or long double."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special

from fastconv.kernels._jit import jit
from fastconv.kernels.activations import CLAMP, GELU, NONE, SIGMOID, SILU, TANH
from fastconv.kernels.epilogue import activate, activation_code, apply_epilogue, finish_columns, finish_rows
from fastconv.kernels.simd import keepalive

DTYPES = ("float32", "float64")
GELU_TAIL = (-2.6104003795084267e-10, -5.507248237212468e-88)
CURVES = {"silu": SILU, "sigmoid": SIGMOID, "tanh": TANH, "gelu": GELU}


@jit
def run_finish(like, by_rows, src, lds, dst, ldd, rows, columns, accumulate, bias, residual, code, limits):  # type: ignore[no-untyped-def]
    added = residual.ctypes.data if residual.size else 0
    if by_rows:
        finish_rows(
            like, src.ctypes.data, lds, dst.ctypes.data, ldd, rows, columns, accumulate, 1, bias.ctypes.data,
            added, ldd, code, limits.ctypes.data,
        )  # fmt: skip
    else:
        finish_columns(
            like, src.ctypes.data, lds, dst.ctypes.data, ldd, rows, columns, accumulate, 1, bias.ctypes.data,
            added, ldd, code, limits.ctypes.data,
        )  # fmt: skip
    keepalive(src)
    keepalive(dst)
    keepalive(bias)
    keepalive(residual)
    keepalive(limits)


def vector_activation(x: np.ndarray[Any, Any], code: int, low: float = 0.0, high: float = 0.0) -> np.ndarray[Any, Any]:
    """Run the generated code over `x` as one row."""
    src = np.concatenate((x, np.zeros(64, x.dtype)))
    out = np.empty_like(x)
    none = np.empty(0, x.dtype)
    run_finish(
        np.empty(1, x.dtype), True, src, src.size, out, out.size, 1, x.size, 0, np.zeros(1, x.dtype), none, code,
        np.array([low, high], x.dtype),
    )  # fmt: skip
    return out


def exact(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    v = x.astype(np.longdouble)
    if name == "tanh":
        return np.tanh(v)
    if name == "gelu":
        return v * special.ndtr(x.astype(np.float64)).astype(np.longdouble)
    scale = 1 / (1 + np.exp(-v))
    return scale if name == "sigmoid" else v * scale


def samples(dtype: str) -> np.ndarray[Any, Any]:
    small = np.geomspace(1e-20, 1, 400)
    wide = np.linspace(0, 12, 4001)
    return np.concatenate((-small, small, -wide, wide)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CURVES)
def test_generated_curves_are_within_a_few_ulp(name: str, dtype: str) -> None:
    x = samples(dtype)
    y = vector_activation(x, CURVES[name])
    expected = exact(name, x)
    ulp = np.spacing(np.abs(expected).astype(dtype))
    if name == "gelu" and dtype == "float64":
        ulp *= 1 + x * x  # the reference rounds x/sqrt(2) before it is squared
    assert np.max(np.abs(y - expected) / ulp) <= 8


def test_gelu_is_accurate_in_the_tail() -> None:
    # 40 digits: x/2 * erfc(-x/sqrt 2) at -6.5 and -20.
    y = vector_activation(np.array([-6.5, -20.0]), GELU)
    np.testing.assert_allclose(y, GELU_TAIL, rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CURVES)
def test_generated_curves_saturate_and_keep_nan(name: str, dtype: str) -> None:
    x = np.array([-1e30, -1000, -100, 100, 1000, 1e30, np.inf, -np.inf, np.nan, 0.0, -0.0], dtype)
    y = vector_activation(x, CURVES[name])
    low = 0.0 if name != "tanh" else -1.0
    high = {"silu": x[3:7], "gelu": x[3:7]}.get(name, np.ones(4, dtype))
    np.testing.assert_allclose(y[:3], low, atol=1e-40)
    np.testing.assert_array_equal(y[3:7], high)
    assert np.isnan(y[8])
    assert np.isnan(y[7]) if name in {"silu", "gelu"} else y[7] == low
    np.testing.assert_array_equal(y[9:], 0.5 if name == "sigmoid" else 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", "sigmoid", "tanh", "gelu", "relu", "relu6", (-1.0, 2.0), None])
def test_the_three_forms_agree(activation: Any, dtype: str) -> None:
    x = np.concatenate((samples(dtype), np.array([np.nan, np.inf], dtype)))
    code, low, high = activation_code(activation)
    generated = vector_activation(x, code, low, high)
    whole = apply_epilogue(x.copy()[None, None, None], None, None, activation).ravel()
    one_by_one = np.array([activate(v, code, x.dtype.type(low), x.dtype.type(high)) for v in x[::37]])
    eps = np.finfo(dtype).eps
    bound = 16 * eps * (1 + x * x if activation == "gelu" else 1) * np.abs(whole) + np.finfo(dtype).tiny
    np.testing.assert_array_equal(np.isnan(generated), np.isnan(whole))
    finite = np.isfinite(whole)
    np.testing.assert_array_equal(generated[~finite], whole[~finite])
    assert np.all(np.abs(generated[finite] - whole[finite]) <= bound[finite])
    some = finite[::37]
    assert np.all(np.abs(generated[::37][some] - one_by_one[some]) <= bound[::37][some])


def test_codes_of_activations() -> None:
    assert activation_code(None)[0] == NONE
    assert activation_code("relu") == (CLAMP, 0.0, math.inf)
    assert activation_code((-1, 5)) == (CLAMP, -1.0, 5.0)
    assert activation_code("gelu")[0] == GELU


def test_apply_epilogue_keeps_integers_exact() -> None:
    y = np.array([2**62 + 1, -5, 7]).reshape(1, 3, 1, 1)
    apply_epilogue(y, np.array([0, 1, 2]), None, "relu6")
    np.testing.assert_array_equal(y.ravel(), [6, 0, 6])
    y = np.array([2**62 + 1, -5, 7]).reshape(1, 3, 1, 1)
    apply_epilogue(y, None, np.ones_like(y), "relu")
    np.testing.assert_array_equal(y.ravel(), [2**62 + 2, 0, 8])


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_partial_tiles_touch_nothing_outside(dtype: str, by_rows: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(0)
    for rows, columns in ((1, 1), (3, 5), (6, 16), (2, 33)):
        src = rng.integers(-9, 9, (rows, columns + 70)).astype(dtype)
        dst = rng.integers(-9, 9, (rows + 1, columns + 3)).astype(dtype)
        residual = rng.integers(-9, 9, dst.shape).astype(dtype)
        bias = rng.integers(-9, 9, rows + columns + 64).astype(dtype)
        old = dst.copy()
        run_finish(
            np.empty(1, dtype), by_rows, src, src.shape[1], dst, dst.shape[1], rows, columns, 1, bias, residual, NONE,
            np.zeros(2, dtype),
        )  # fmt: skip
        added = bias[:rows, None] if by_rows else bias[:columns]
        expected = old.copy()
        expected[:rows, :columns] += src[:, :columns] + added + residual[:rows, :columns]
        np.testing.assert_array_equal(dst, expected)
