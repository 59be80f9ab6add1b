"""fastconv.signal gives what the installed scipy.signal gives: values, dtypes, shapes, errors."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.signal as ours
from fastconv.signal import dense, images

theirs = pytest.importorskip("scipy.signal")

DTYPES = ("float32", "float64", "complex64", "complex128", "int8", "uint8", "int16", "int32", "int64", "uint64")
BORDERS = ("fill", "pad", "wrap", "circular", "symm", "symmetric")
SHAPES = (((9, 11), (3, 3)), ((8, 9), (4, 2)), ((1, 7), (1, 4)), ((5, 6), (5, 6)), ((4, 5), (7, 9)), ((3, 9), (5, 4)), ((6, 1), (1, 1)))
#: Tests of the automatic choice.
AUTOMATIC = (
    "test_long_lines_agree",
    "test_choose_conv_method_follows_its_own_model_and_scipys_exceptions",
    "test_nan_reaches_only_the_outputs_that_read_it",
)


@pytest.fixture(autouse=True)
def nothing_is_too_small(monkeypatch: Any) -> None:
    """Compute tiny calls here as well, so that tests reach the code that larger ones take."""
    for module, name in ((images, "SMALL_MACS"), (dense, "SMALL_LINE_MACS"), (dense, "SMALL_PLANE_MACS")):
        monkeypatch.setattr(module, name, 0)


@pytest.fixture(autouse=True)
def one_backend_for_every_geometry(request: Any) -> Any:
    """Take the backend that compiles nothing anew for each kernel size, but in the tests of the automatic choice."""
    with fastconv.config(backend="auto" if request.node.originalname in AUTOMATIC else "direct:loops"):
        yield


def array(rng: Any, shape: Any, dtype: Any) -> Any:
    limits = (0, 7) if dtype.startswith("u") else (-6, 7)
    values = rng.integers(*limits, shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.integers(*limits, shape)
    return values.astype(dtype)


def check(mine: Any, reference: Any, dtypes: Any = ()) -> None:
    assert type(mine) is type(reference)
    assert mine.dtype == reference.dtype
    assert mine.shape == reference.shape
    if mine.dtype.kind in "iub":
        np.testing.assert_array_equal(mine, reference)
    else:
        scale = np.abs(reference).max(initial=1.0)
        eps = max(np.finfo(mine.dtype).eps, *(np.finfo(dtype).eps for dtype in dtypes if np.dtype(dtype).kind in "fc"), 0)
        np.testing.assert_allclose(mine, reference, rtol=0, atol=64 * eps * scale)


def both(name: Any, *args: Any, **kwargs: Any) -> None:
    """Call both functions; either both give equal results, or both raise the same class."""
    try:
        reference = getattr(theirs, name)(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  whatever SciPy raises is the contract
        with pytest.raises(type(error)):
            getattr(ours, name)(*args, **kwargs)
        return
    # SciPy transforms each input in its own precision.
    check(getattr(ours, name)(*args, **kwargs), reference, [np.asarray(a).dtype for a in args[:2]])


@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_2d_agrees_for_every_mode_border_and_shape(name: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    for (x_shape, w_shape), mode, border in itertools.product(SHAPES, ("full", "same", "valid"), BORDERS[::2]):
        both(name, array(rng, x_shape, dtype), array(rng, w_shape, dtype), mode, border)


@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
def test_2d_fill_value_and_mixed_dtypes(name: Any) -> None:
    rng = np.random.default_rng(2)
    for first, second in itertools.product(("float32", "complex64", "int8", "uint16", "int64"), repeat=2):
        x, w = array(rng, (7, 8), first), array(rng, (3, 2), second)
        for fill in (0, 2, -1, 1.5, np.float32(3), 1j, [4], np.array(2.0), [1, 2], "a", None):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SciPy's about complex fill values
                both(name, x, w, "full", "fill", fill)


def test_2d_integers_wrap_in_their_own_type() -> None:
    rng = np.random.default_rng(3)
    for dtype in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        limits = np.iinfo(dtype)
        x = rng.integers(limits.min, limits.max, (9, 10), dtype, endpoint=True)
        w = rng.integers(limits.min, limits.max, (4, 3), dtype, endpoint=True)
        for mode in ("full", "same", "valid"):
            both("correlate2d", x, w, mode)
            both("convolve2d", x, w, mode, "wrap")


@pytest.mark.parametrize("layout", ["fortran", "reversed", "sliced", "read-only", "byte-swapped", "list"])
def test_2d_takes_any_layout(layout: Any) -> None:
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((12, 14)), rng.standard_normal((3, 4))
    change = {
        "fortran": np.asfortranarray, "reversed": lambda a: a[::-1, ::-1], "sliced": lambda a: a[:, ::2],
        "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape), "byte-swapped": lambda a: a.astype(">f8"),
        "list": np.ndarray.tolist,
    }[layout]  # fmt: skip
    both("correlate2d", change(x), change(w), "same", "symm")
    both("convolve", change(x), change(w), "same")


@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
def test_2d_errors_are_scipys(name: Any) -> None:
    x, w = np.ones((4, 5)), np.ones((2, 2))
    for args in (
        (x, np.ones((5, 2)), "valid"), (x, w, "SAME"), (x, w, "full", "reflect"), (x, w, "full", "mirror"), (x[0], w[0]), (x[None],
        w[None]),
        (x.astype(bool), w.astype(bool)), (x.astype("f2"), w.astype("f2")), (x.astype(object), w), (x, w, 1), (x, w, "full", 0),
        (np.ones((0, 3)), w), (3, 4),
    ):  # fmt: skip
        both(name, *args)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_1d_and_2d_agree_for_every_mode_and_method(name: Any, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    shapes = [*SHAPES, ((12,), (5,)), ((12,), (4,)), ((5,), (12,)), ((7,), (7,)), ((9,), (1,))]
    for (x_shape, w_shape), mode, method in itertools.product(shapes, ("full", "same", "valid"), ("auto", "direct", "fft")):
        both(name, array(rng, x_shape, dtype), array(rng, w_shape, dtype), mode, method)


@pytest.mark.parametrize("name", ["correlate", "convolve", "fftconvolve", "oaconvolve"])
def test_mixed_dtypes_promote_as_in_scipy(name: Any) -> None:
    rng = np.random.default_rng(6)
    kinds = ("float32", "float64", "complex64", "int8", "uint16", "int64", "bool", "float16", "longdouble")
    for first, second in itertools.product(kinds, repeat=2):
        for shapes in (((11,), (4,)), ((7, 8), (3, 2))):
            both(name, array(rng, shapes[0], first), array(rng, shapes[1], second), "same")


@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
def test_axes_broadcast_and_empty_inputs_agree(name: Any) -> None:
    rng = np.random.default_rng(7)
    x, row, column = rng.standard_normal((12, 15)), rng.standard_normal((1, 4)), rng.standard_normal((5, 1))
    for kernel, axes, mode in itertools.product(
        (row, column, x[:5, :4]), (None, 0, 1, -1, (0, 1), [1, 1], [2], [], "a"), ("full", "same", "valid")
    ):
        both(name, x, kernel, mode, axes)
        both(name, kernel, x, mode, axes)
    for args in (([], [1.0]), (x[:0], x), (2.0, 3.0), (x, x[0]), (x[None], x[None, :3, :3])):
        both(name, *args)


@pytest.mark.parametrize("name", ["correlate", "convolve", "fftconvolve", "oaconvolve"])
@pytest.mark.parametrize(("n", "k"), [(20_000, 31), (70_000, 300), (50_000, 5_000), (40_000, 39_999), (65_536, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_long_lines_agree(name: Any, n: Any, k: Any, dtype: Any) -> None:
    rng = np.random.default_rng(8)
    x, w = rng.standard_normal(n).astype(dtype), rng.standard_normal(k).astype(dtype)
    for mode in ("full", "same", "valid"):
        reference = getattr(theirs, "oaconvolve" if "oa" in name else "fftconvolve")(x, w if name != "correlate" else w[::-1].conj(), mode)
        mine = getattr(ours, name)(x, w, mode)
        assert mine.dtype == reference.dtype
        assert mine.shape == reference.shape
        # Norm-wise: both may go by FFT.
        bound = 64 * np.finfo(dtype).eps * np.linalg.norm(x[: 4 * k]) * np.linalg.norm(w)
        np.testing.assert_allclose(mine, reference, rtol=0, atol=bound)


def test_a_long_line_with_a_stride_is_not_copied_wrongly() -> None:
    x = np.random.default_rng(9).standard_normal(90_000)
    w = np.arange(1.0, 12.0)
    for view in (x[::2], x[::-1], np.lib.stride_tricks.as_strided(x, (40_000,), (0,))):
        check(ours.convolve(view, w, "same"), np.convolve(view, w, "same"))


def test_a_kept_plan_sees_that_its_long_kernel_changed() -> None:
    rng = np.random.default_rng(11)
    x, w = rng.standard_normal(50_000), rng.standard_normal(5_000)
    for _ in range(4):
        check(ours.convolve(x, w, "same"), theirs.fftconvolve(x, w, "same"))
    w[7] += 1
    check(ours.convolve(x, w, "same"), theirs.fftconvolve(x, w, "same"))


@pytest.mark.parametrize("backend", fastconv.backends())
def test_every_backend_serves_every_border(backend: Any) -> None:
    rng = np.random.default_rng(10)
    x, w = rng.standard_normal((17, 19)), rng.standard_normal((3, 3))
    for border in BORDERS[::2]:
        reference = theirs.correlate2d(x, w, "same", border)
        try:
            with fastconv.config(backend=backend):
                check(ours.correlate2d(x, w, "same", border), reference)
        except fastconv.UnsupportedProblem:
            assert backend not in {"naive", "direct", "fft"}


def test_choose_conv_method_follows_its_own_model_and_scipys_exceptions() -> None:
    assert ours.choose_conv_method(np.ones((512, 512)), np.ones((3, 3))) == "direct"
    assert ours.choose_conv_method(np.ones((512, 512)), np.ones((129, 129)), "same") == "fft"
    assert ours.choose_conv_method(np.ones(100, bool), np.ones(100, bool)) == "direct"
    assert ours.choose_conv_method(np.full(10**5, 2**40), np.full(10**4, 2**20)) == "direct"
    assert ours.choose_conv_method(np.ones(10, object), np.ones(5)) == "direct"
    chosen, times = ours.choose_conv_method(np.ones(50), np.ones(5), measure=True)
    assert chosen in times
    with pytest.raises(ValueError, match="Acceptable mode flags"):
        ours.choose_conv_method(np.ones(50), np.ones(5), "all")


def test_nan_reaches_only_the_outputs_that_read_it() -> None:
    x = np.zeros(30_000)
    x[15_000] = np.nan
    y = ours.convolve(x, np.ones(400), "same")
    assert np.flatnonzero(np.isnan(y)).tolist() == list(range(14_801, 15_201))
    with pytest.warns(RuntimeWarning, match="Use of fft convolution"):
        ours.convolve(x, np.ones(400), "same", "fft")


def test_importing_fastconv_imports_neither_of_scipys_modules() -> None:
    import subprocess
    import sys

    code = "import sys, fastconv, fastconv.signal, fastconv.ndimage; print('scipy.signal' in sys.modules or 'scipy.ndimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
