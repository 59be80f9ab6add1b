"""The micro-kernel against NumPy, exactly: small integers in floating point have no rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.kernels._jit import jit
from fastconv.kernels.gemm import build_dispatch, build_microkernel
from fastconv.kernels.register_tile import register_tile, row_tiles
from fastconv.kernels.simd import keepalive, kernel_intrinsic
from fastconv.kernels.target import AVX2, AVX512, NEON, SSE2

DTYPES = ("float32", "float64")


def _any_packed(module: Any, element: str) -> Any:
    return build_dispatch(module, element, "packed", "rows")


any_packed = kernel_intrinsic(_any_packed)


@jit
def run_packed(like, rows, vectors, a, b, c, ldc, k, accumulate, last, bias, residual, code, limits):  # type: ignore[no-untyped-def]
    any_packed(
        like, rows, vectors, a.ctypes.data, 0, b.ctypes.data, c.ctypes.data, ldc, k, accumulate,
        last, bias.ctypes.data, residual.ctypes.data, ldc, code, limits.ctypes.data,
    )  # fmt: skip
    keepalive(a)
    keepalive(b)
    keepalive(c)
    keepalive(bias)
    keepalive(residual)
    keepalive(limits)


def _rows_prefetch(module: Any, element: str, rows: int) -> Any:
    return build_microkernel(module, element, rows, register_tile(4).vectors, a="rows", prefetch=1)


rows_prefetch = kernel_intrinsic(_rows_prefetch, literals=1)


@jit
def run_rows(like, a, lda, b, c, ldc, k):  # type: ignore[no-untyped-def]
    rows_prefetch(like, 5, a.ctypes.data, lda, b.ctypes.data, c.ctypes.data, ldc, k, 0, b.ctypes.data, 64)
    keepalive(a)
    keepalive(b)
    keepalive(c)


def _complex(module: Any, element: str, rows: int) -> Any:
    return build_microkernel(module, element, rows, register_tile(4, complex_values=True).vectors, a="rows", complex_values=True)


complex_rows = kernel_intrinsic(_complex, literals=1)


@jit
def run_complex(like, a, lda, b, c, ldc, k, a_imag, c_imag):  # type: ignore[no-untyped-def]
    complex_rows(like, 3, a.ctypes.data, lda, b.ctypes.data, c.ctypes.data, ldc, k, 1, a_imag, c_imag)
    keepalive(a)
    keepalive(b)
    keepalive(c)


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    return rng.integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [0, 1, 3, 4, 9, 64])
def test_every_tile_size_is_exact(dtype: str, k: int) -> None:
    rng = np.random.default_rng(k)
    tile = register_tile(np.dtype(dtype).itemsize)
    like = np.empty(1, dtype)
    limits = np.array([-20, 30], dtype)
    for rows in tile.heights:
        for vectors in tile.widths:
            width = vectors * tile.columns // tile.vectors
            a = integers(rng, (k, rows), dtype)
            b = integers(rng, (k, tile.columns), dtype)
            bias, old = integers(rng, (rows,), dtype), integers(rng, (rows, width + 3), dtype)
            residual = integers(rng, (rows, width + 3), dtype)
            for accumulate, last, code in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1)):
                c = old.copy()
                run_packed(like, rows, vectors, a, b, c, c.shape[1], k, accumulate, last, bias, residual, code, limits)
                expected = a.T @ b[:, :width] + (old[:, :width] if accumulate else 0)
                if last:
                    expected = expected + bias[:, None] + residual[:, :width]
                if code:
                    expected = np.clip(expected, -20, 30)
                np.testing.assert_array_equal(c[:, :width], expected)
                np.testing.assert_array_equal(c[:, width:], old[:, width:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_operand_with_prefetch_is_exact(dtype: str) -> None:
    rng = np.random.default_rng(1)
    width = register_tile(4).vectors * register_tile(np.dtype(dtype).itemsize).columns // register_tile(np.dtype(dtype).itemsize).vectors
    a, b = integers(rng, (5, 40), dtype), integers(rng, (37, width), dtype)
    c = np.empty((5, width), dtype)
    run_rows(np.empty(1, dtype), a, 40, b, c, width, 37)
    np.testing.assert_array_equal(c, a[:, :37] @ b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_complex_operand_is_exact(dtype: str) -> None:
    rng = np.random.default_rng(2)
    tile = register_tile(np.dtype(dtype).itemsize, complex_values=True)
    k = 11
    a, b = integers(rng, (2, 3, k), dtype), integers(rng, (k, 2, tile.columns), dtype)
    old = integers(rng, (2, 3, tile.columns), dtype)
    c = old.copy()
    run_complex(np.empty(1, dtype), a, k, b, c, tile.columns, k, 3 * k, 3 * tile.columns)
    expected = (a[0] + 1j * a[1]) @ (b[:, 0] + 1j * b[:, 1]) + old[0] + 1j * old[1]
    np.testing.assert_array_equal(c[0] + 1j * c[1], expected)


def test_tiles_fit_the_registers() -> None:
    for target in (SSE2, AVX2, AVX512, NEON):
        for itemsize in (4, 8):
            tile = register_tile(itemsize, target)
            assert tile.rows * tile.vectors + tile.vectors + 1 <= target.registers
    assert register_tile(4, AVX2) == register_tile(4, AVX2)
    assert (register_tile(4, AVX2).rows, register_tile(4, AVX2).columns) == (6, 16)
    assert (register_tile(8, AVX512).rows, register_tile(8, AVX512).columns) == (12, 16)


def test_of_equally_cheap_cuts_the_even_one_is_taken() -> None:
    assert row_tiles(16, register_tile(4, AVX512)) == (8, 8)
    assert row_tiles(24, register_tile(4, AVX512)) == (12, 12)
    assert row_tiles(20, register_tile(4, AVX2)) == (5, 5, 5, 5)


@pytest.mark.parametrize("extent", [1, 2, 3, 5, 6, 7, 13, 16, 49, 64, 196, 1000])
def test_row_tiles_cover_the_extent_with_little_waste(extent: int) -> None:
    tile = register_tile(4, AVX2)
    tiles = row_tiles(extent, tile)
    assert sum(tiles) == extent
    ideal = extent * tile.cost(tile.rows, tile.vectors) / tile.rows
    assert sum(tile.cost(h, tile.vectors) for h in tiles) <= ideal * (1.05 if extent > 12 else 2.5) + 1
