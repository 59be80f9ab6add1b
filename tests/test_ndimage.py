"""fastconv.ndimage gives what the installed scipy.ndimage gives: values, dtypes, errors, in-place results."""

from __future__ import annotations

import itertools
import platform
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.ndimage as ours
from fastconv.ndimage import operands, windows
from fastconv.originals import passed_on

theirs = pytest.importorskip("scipy.ndimage")

# One worker compiles the kernels of these tests, not each of them.
pytestmark = pytest.mark.xdist_group("ndimage")

MODES = ("reflect", "grid-mirror", "mirror", "nearest", "wrap", "grid-wrap", "constant", "grid-constant")
REAL = ("float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64")
# SciPy's C is compiled without fused multiply-adds there, so that even the last bits are decided.
SAME_BITS = platform.machine().lower() in {"x86_64", "amd64"}


@pytest.fixture(autouse=True)
def _small_arrays_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands, "SMALL_SIZE", 0)


def array(rng: Any, shape: Any, dtype: Any, spread: Any = 50.0) -> Any:
    kind = np.dtype(dtype).kind
    values = rng.standard_normal(shape) * spread
    if kind == "c":
        values = values + 1j * rng.standard_normal(shape) * spread
    return np.abs(values).astype(dtype) if kind == "u" else values.astype(dtype)


def check(mine: Any, reference: Any) -> None:
    assert type(mine) is type(reference)
    assert mine.dtype == reference.dtype
    assert mine.shape == reference.shape
    if SAME_BITS or mine.dtype.kind not in "fc":
        np.testing.assert_array_equal(mine, reference)
    else:
        np.testing.assert_allclose(mine, reference, rtol=1e-6 if mine.dtype.itemsize == 4 else 1e-12, atol=1e-9)


def both(name: Any, *args: Any, **kwargs: Any) -> None:
    """Call both functions; either both give equal results, or both raise the same class."""
    try:
        reference = getattr(theirs, name)(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  whatever SciPy raises is the contract
        with pytest.raises(type(error)):
            getattr(ours, name)(*args, **kwargs)
        return
    check(getattr(ours, name)(*args, **kwargs), reference)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
@pytest.mark.parametrize("dtype", REAL)
def test_windows_agree_bit_for_bit(name: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    for shape, window in (((9, 11), (3, 3)), ((7, 8), (4, 2)), ((4, 5), (9, 6)), ((13,), (5,)), ((13,), (4,)), ((1, 6), (1, 1))):
        x, w = array(rng, shape, dtype), rng.standard_normal(window)
        for mode in MODES:
            both(name, x, w, mode=mode, cval=1.5)
        both(name, x, (w * 3).astype(int))
        for output in ("float64", np.float32, "uint8", np.int16):
            both(name, np.abs(x) % 100 if output == "uint8" else x, np.abs(w), output)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_windows_larger_images_in_many_tasks(name: Any) -> None:
    rng = np.random.default_rng(2)
    for dtype, shape, window in (("float64", (301, 1500), (5, 7)), ("uint8", (700, 333), (7, 7)), ("float32", (3000, 20), (9, 1))):
        both(name, array(rng, shape, dtype), rng.standard_normal(window))


@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_origins_and_axes_agree(name: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((8, 9))
    for window in ((3, 3), (4, 2), (1, 5)):
        w = rng.standard_normal(window)
        for origin in (*itertools.product((-3, -2, -1, 0, 1, 2), repeat=2), 0, 1, -1, 2, (1,), 1.5):
            both(name, x, w, origin=origin)
    stack, w = rng.standard_normal((3, 8, 9)), rng.standard_normal((3, 2))
    for axes in ((1, 2), (0, 1), (2, 1), (-2, -1), (1, 1), (1, 3), 1, None, (0, 1, 2)):
        both(name, stack, w, axes=axes)
        both(name, stack, w, axes=axes, origin=(1, 0))
    both(name, stack, w[np.newaxis])
    both(name, stack, rng.standard_normal((2, 3, 2)))
    both(name, stack, w[0], axes=1)
    both(name, stack, w[0], axes=-1)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_small_weights_are_left_out_and_large_windows_go_by_fft(name: Any) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((200, 210))
    w = rng.standard_normal((33, 35))
    w[::3] = 0
    w[1, 1] = 1e-17
    reference = getattr(theirs, name)(x, w)
    np.testing.assert_allclose(getattr(ours, name)(x, w), reference, rtol=0, atol=1e-11)
    x[100, 100] = np.nan
    reference = getattr(theirs, name)(x, w)
    mine = getattr(ours, name)(x, w)
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(reference))
    np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-11)
    with fastconv.config(accuracy="strict"):
        check(getattr(ours, name)(x[:40, :40], w), getattr(theirs, name)(x[:40, :40], w))


@pytest.mark.parametrize("name", ["correlate1d", "convolve1d"])
@pytest.mark.parametrize("dtype", REAL)
def test_lines_agree_bit_for_bit(name: Any, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x = array(rng, (7, 6, 130), dtype)
    for k in (1, 2, 3, 4, 9, 20, 21):
        w = rng.standard_normal(k)
        for weights in (w, w + w[::-1], w - w[::-1]):
            for axis in (0, 1, -1):
                both(name, x, weights, axis, mode=MODES[k % len(MODES)], cval=-2.0)
    w = rng.standard_normal(4)
    for origin in (-3, -2, -1, 0, 1, 2, 0.5):
        both(name, x, w, 1, origin=origin)
    both(name, x[:, :, :3], rng.standard_normal(3), 1)


@pytest.mark.parametrize("name", ["correlate", "convolve", "correlate1d", "convolve1d"])
def test_complex_arrays_and_weights_agree(name: Any) -> None:
    rng = np.random.default_rng(6)
    ndim = 1 if "1d" in name else 2
    for x_dtype, w_dtype in itertools.product(
        ("complex64", "complex128", "float32", "float64", "int16"), ("complex64", "complex128", "float64")
    ):
        x, w = array(rng, (12, 13), x_dtype), array(rng, (3, 4)[:ndim], w_dtype)
        for mode, cval in (("reflect", 0.0), ("constant", 2.0), ("constant", 1 + 2j)):
            both(name, x, w, mode=mode, cval=cval)
        for output in (np.empty(x.shape, complex), "complex64", np.complex128, "float64"):
            both(name, x, w, output=output)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16", "complex64"])
def test_gaussians_agree_bit_for_bit(dtype: Any) -> None:
    rng = np.random.default_rng(7)
    x = array(rng, (40, 70), dtype)
    for mode in MODES:
        both("gaussian_filter", x, 2, mode=mode, cval=1.0)
    for kwargs in (
        {"sigma": (1, 3)}, {"sigma": 1, "order": (1, 0)}, {"sigma": 2, "order": 2}, {"sigma": 1.5, "truncate": 2.0}, {"sigma": 2,
        "radius": 3},
        {"sigma": 2, "radius": (3, None)}, {"sigma": (0, 1)}, {"sigma": 0}, {"sigma": 1, "axes": 1}, {"sigma": 1, "axes": ()},
        {"sigma": (1, 2), "axes": (-1, 0)},
        {"sigma": 1, "mode": ("wrap", "mirror")}, {"sigma": 1, "output": np.float64}, {"sigma": 1, "order": -1}, {"sigma": 1, "radius": -1},
        {"sigma": (1, 2, 3)}, {"sigma": 1, "mode": "symm"}, {"sigma": 1, "order": 3},
    ):  # fmt: skip
        both("gaussian_filter", x, **kwargs)
    for axis in (0, 1, -1, 2):
        both("gaussian_filter1d", x, 1.7, axis, 1)
    both("gaussian_filter", array(rng, (5, 6, 7), dtype), (1, 2, 0.5))


@pytest.mark.parametrize("dtype", REAL)
def test_uniform_filters_agree_bit_for_bit(dtype: Any) -> None:
    rng = np.random.default_rng(8)
    x = array(rng, (23, 31), dtype)
    for size, mode in itertools.product((1, 2, 3, 8, 40), MODES):
        both("uniform_filter", x, size, mode=mode, cval=3.0)
    for axis, origin in itertools.product((0, 1), (-2, -1, 0, 1, 2, 5)):
        both("uniform_filter1d", x, 4, axis, origin=origin)
    both("uniform_filter", x, (3, 5), origin=(1, -1), mode=("wrap", "nearest"))
    both("uniform_filter", x, 3, output=np.float64, axes=1)
    both("uniform_filter", array(rng, (5, 6, 7), dtype), 3)
    both("uniform_filter1d", x, 0)
    both("uniform_filter1d", x, 3, output=np.float32)


@pytest.mark.parametrize("name", ["sobel", "prewitt", "laplace", "gaussian_laplace"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32", "complex128"])
def test_derivatives_agree_bit_for_bit(name: Any, dtype: Any) -> None:
    rng = np.random.default_rng(9)
    for shape in ((17,), (20, 33), (6, 7, 8)):
        x = array(rng, shape, dtype, 9.0)
        first = (1.5,) if name == "gaussian_laplace" else ()
        for mode in MODES[::2]:
            both(name, x, *first, mode=mode, cval=1.0)
        both(name, x, *first, output=np.float64)
        both(name, x, *first, mode=["wrap"] * len(shape))
        both(name, x, *first, mode=["wrap"] * 5)
        if name in {"sobel", "prewitt"}:
            both(name, x, 0)
            both(name, x, 7)
        else:
            both(name, x, *first, axes=0)
            both(name, x, *first, axes=())


CALLS = {
    "correlate": (np.arange(9.0).reshape(3, 3),), "convolve": (np.arange(12.0).reshape(4, 3),), "correlate1d": ([1, 2, 4],),
    "convolve1d": ([1, 2],),
    "gaussian_filter": (1.3,), "gaussian_filter1d": (1.3,), "uniform_filter": (4,), "uniform_filter1d": (5,), "sobel": (), "prewitt": (),
    "laplace": (),
    "gaussian_laplace": (1.1,),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_input_and_output_may_be_one_array_or_overlap(name: Any) -> None:
    rng = np.random.default_rng(10)
    x = rng.standard_normal((30, 40))
    mine, reference = x.copy(), x.copy()
    assert getattr(ours, name)(mine, *CALLS[name], output=mine) is mine
    if name.endswith("laplace"):  # SciPy's reads the other axes' derivatives from what the first has overwritten.
        reference = getattr(theirs, name)(x, *CALLS[name])
    else:
        getattr(theirs, name)(reference, *CALLS[name], output=reference)
    check(mine, reference)
    strided = np.zeros((60, 40))[::2]
    assert getattr(ours, name)(x, *CALLS[name], output=strided) is strided
    check(strided, getattr(theirs, name)(x, *CALLS[name]))


@pytest.mark.parametrize("name", CALLS)
def test_layouts_rare_dtypes_and_errors_are_scipys(name: Any) -> None:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((20, 24))
    read_only = x.copy()
    read_only.flags.writeable = False
    for view in (
        x.T,
        x[::-1, ::2],
        read_only,
        x.astype(">f8"),
        x.tolist(),
        x > 0,
        x.astype("f2"),
        x.astype("g"),
        (x * 9).astype("u8"),
        x[:0],
        3.0,
    ):
        both(name, view, *CALLS[name])
    for kwargs in (
        {"mode": "symmetric"}, {"mode": 3}, {"output": np.empty((3, 3))}, {"output": "nonsense"}, {"output": bool}, {"output": "f2"},
        {"cval": 1j},
        {"mode": "constant", "cval": np.float32(2)},
    ):  # fmt: skip
        both(name, x, *CALLS[name], **kwargs)


def test_small_arrays_are_scipys_but_for_the_laplacian_of_an_array_into_itself(monkeypatch: Any) -> None:
    monkeypatch.undo()
    x = np.random.default_rng(14).standard_normal((16, 16))
    for name, args in CALLS.items():
        count = passed_on()
        check(getattr(ours, name)(x, *args), getattr(theirs, name)(x, *args))
        assert passed_on() == count + 1, name
    count, y = passed_on(), x.copy()
    check(ours.laplace(y, y), theirs.laplace(x))
    assert passed_on() == count


def test_float32_may_be_summed_in_its_own_precision() -> None:
    rng = np.random.default_rng(12)
    x = rng.standard_normal((200, 220)).astype("f4")
    w = rng.standard_normal((3, 3))
    with fastconv.config(ndimage_precision="input"):
        for name, args in (("correlate", (w,)), ("gaussian_filter", (2,)), ("uniform_filter1d", (5,)), ("correlate1d", (w[0],))):
            mine, reference = getattr(ours, name)(x, *args), getattr(theirs, name)(x, *args)
            assert mine.dtype == np.float32
            np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-4)
            assert (mine != reference).any()
    with pytest.raises(fastconv.ConfigError, match="ndimage_precision must be one of 'double', 'input'"):
        fastconv.config(ndimage_precision="half")


def test_one_and_more_threads_give_the_same_bits(monkeypatch: Any) -> None:
    monkeypatch.setattr(windows, "SMALL_WINDOW", 10**9)
    x = np.random.default_rng(13).standard_normal((300, 400))
    results = []
    for threads in (1, 2, 3):
        with fastconv.config(threads=threads):
            results.append((ours.gaussian_filter(x, 2), ours.correlate(x, x[:9, :9]), ours.uniform_filter(x, 5)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
