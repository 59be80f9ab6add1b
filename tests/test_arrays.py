"""Arrays of any strides in, and the rules of ``out=``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import fastconv
import oracle
from cases import PROBLEMS, supported
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.problem import ConvProblem
from oracle import Array

RNG = np.random.default_rng(0)


def misaligned(array: Array) -> Array:
    """Return a copy whose address is not a multiple of the item size."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    copy = raw[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def inside_a_record(array: Array) -> Array:
    """Return a copy as a field, whose strides are no multiple of the item size."""
    record = np.zeros(array.shape, [("flag", np.uint8), ("value", array.dtype)])
    record["value"] = array
    return record["value"]


def spaced(array: Array) -> Array:
    """Return a copy with gaps along every axis."""
    whole = np.full([2 * n + 1 for n in array.shape], 77, array.dtype)
    whole[1::2, 1::2, 1::2, 1::2] = array
    return whole[1::2, 1::2, 1::2, 1::2]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "channels last": lambda array: np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1),
    "batch last": lambda array: np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0),
    "transposed image": lambda array: np.ascontiguousarray(array.swapaxes(2, 3)).swapaxes(2, 3),
    "rows backwards": lambda array: np.ascontiguousarray(array[:, :, ::-1])[:, :, ::-1],
    "columns backwards": lambda array: np.ascontiguousarray(array[:, :, :, ::-1])[:, :, :, ::-1],
    "everything backwards": lambda array: np.ascontiguousarray(array[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
    "spaced": spaced,
    "cut from a larger image": lambda array: np.pad(array, ((0, 0), (0, 0), (2, 3), (4, 5)), constant_values=99)[:, :, 2:-3, 4:-5],
    "read-only": read_only,
    "misaligned": misaligned,
    "field of a record": inside_a_record,
}
SHAPES = ("dense 3x3, odd everything, batch", "1x1", "depthwise 3x3", "planar 5x5, narrow", "large kernel, channels")


def integer_array(*shape: int) -> Array:
    return RNG.integers(-2, 3, shape).astype(np.float32)


def call(algorithm: Algorithm, name: str, x: Array, w: Array, **words: object) -> Array:
    p = PROBLEMS[name]
    return fastconv.conv2d(x, w, padding=((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), groups=p.g, backend=algorithm.name, **words)  # type: ignore[arg-type]


def reference(name: str, x: Array, w: Array) -> Array:
    p = PROBLEMS[name]
    return oracle.correlate(x, w, pads=((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), groups=p.g)


on_shapes = pytest.mark.parametrize(
    ("algorithm", "name"), [pytest.param(a, name, id=f"{a.name}-{name}") for a in TABLE for name in SHAPES if supported(a, PROBLEMS[name])]
)
#: In place: as many output channels as input channels, same padding.
IN_PLACE = ConvProblem.parse("g1mb1ic3ih9iw11oc3kh3kw3sh1sw1ph1pw1dh1dw1:float32")


def on(problem: ConvProblem) -> pytest.MarkDecorator:
    """Parametrise a test with the algorithms that compute `problem`."""
    return pytest.mark.parametrize("algorithm", [a for a in TABLE if supported(a, problem)], ids=lambda algorithm: algorithm.name)


layouts = pytest.mark.parametrize("layout", LAYOUTS)


@on_shapes
@layouts
def test_a_source_of_any_layout(algorithm: Algorithm, layout: str, name: str) -> None:
    x, w = integer_array(*PROBLEMS[name].x_shape), integer_array(*PROBLEMS[name].w_shape)
    np.testing.assert_array_equal(np.rint(call(algorithm, name, LAYOUTS[layout](x), w)), reference(name, x, w))


@on(PROBLEMS[SHAPES[0]])
@layouts
def test_weights_and_residual_of_any_layout(algorithm: Algorithm, layout: str) -> None:
    name = SHAPES[0]
    p = PROBLEMS[name]
    x, w, residual = integer_array(*p.x_shape), integer_array(*p.w_shape), integer_array(*p.out_shape)
    y = call(algorithm, name, x, LAYOUTS[layout](w), residual=LAYOUTS[layout](residual))
    np.testing.assert_array_equal(np.rint(y), reference(name, x, w) + residual)


@on_shapes
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "read-only"])
def test_a_result_of_any_layout(algorithm: Algorithm, layout: str, name: str) -> None:
    p = PROBLEMS[name]
    x, w = integer_array(*p.x_shape), integer_array(*p.w_shape)
    out = LAYOUTS[layout](np.full(p.out_shape, 55, np.float32))
    around = out.base.copy() if out.base is not None else None
    y = call(algorithm, name, x, w, out=out)
    assert y is out
    np.testing.assert_array_equal(np.rint(y), reference(name, x, w))
    if around is not None and layout in {"spaced", "cut from a larger image"}:
        # Nothing but the elements of `out` was written.
        changed = np.asarray(out.base) != around
        out[...] = 55
        np.testing.assert_array_equal(np.asarray(out.base), around)
        assert changed.sum() <= out.size


@on(PROBLEMS[SHAPES[0]].replace(ih=1, iw=1))
def test_a_residual_of_one_pixel_with_channels_apart(algorithm: Algorithm) -> None:
    # Pixels and channels are neighbours in the result, but not in the residual.
    p = PROBLEMS[SHAPES[0]]
    x, w, residual = integer_array(2, p.ic, 1, 1), integer_array(*p.w_shape), integer_array(2, p.oc, 1, 1)
    apart = np.ascontiguousarray(np.repeat(residual, 3, axis=1)[:, ::-1])[:, ::-3]
    y = fastconv.conv2d(x, w, residual=apart, padding=1, backend=algorithm.name)
    np.testing.assert_array_equal(np.rint(y), reference(SHAPES[0], x, w) + residual)


@on(PROBLEMS[SHAPES[0]])
def test_a_source_with_strides_of_zero(algorithm: Algorithm) -> None:
    name = SHAPES[0]
    p = PROBLEMS[name]
    w = integer_array(*p.w_shape)
    for axis in range(4):
        shape = list(p.x_shape)
        shape[axis] = 1
        x = np.broadcast_to(integer_array(*shape), p.x_shape)
        np.testing.assert_array_equal(np.rint(call(algorithm, name, x, w)), reference(name, x, w))


@on(PROBLEMS[SHAPES[0]])
def test_a_constant_image_without_memory(algorithm: Algorithm) -> None:
    name = SHAPES[0]
    x = np.broadcast_to(np.float32(2), PROBLEMS[name].x_shape)
    w = integer_array(*PROBLEMS[name].w_shape)
    np.testing.assert_array_equal(np.rint(call(algorithm, name, x, w)), reference(name, x, w))


# ---- out=


@on(IN_PLACE)
def test_out_may_be_the_source(algorithm: Algorithm) -> None:
    x, w = integer_array(1, 3, 9, 11), integer_array(3, 3, 3, 3)
    expected = oracle.correlate(x, w, pads=((1, 1), (1, 1)))
    y = fastconv.conv2d(x, w, padding=1, out=x, backend=algorithm.name)
    assert y is x
    np.testing.assert_array_equal(np.rint(x), expected)


@on(IN_PLACE.replace(ic=1, oc=1, ih=15, iw=12))
@pytest.mark.parametrize("shift", [-3, -1, 1, 3])
def test_out_may_overlap_the_source(algorithm: Algorithm, shift: int) -> None:
    memory = integer_array(1, 1, 30, 12)
    x, out = memory[:, :, 5:20], memory[:, :, 5 + shift : 20 + shift]
    w = integer_array(1, 1, 3, 3)
    expected = oracle.correlate(x.copy(), w, pads=((1, 1), (1, 1)))
    fastconv.conv2d(x, w, padding=1, out=out, backend=algorithm.name)
    np.testing.assert_array_equal(np.rint(out), expected)


@pytest.mark.plain
def test_out_may_be_the_residual_the_weights_or_the_bias() -> None:
    x, w = integer_array(1, 4, 4, 4), integer_array(4, 4, 4, 4)
    residual = integer_array(1, 4, 4, 4)
    pads = ((1, 2), (1, 2))
    expected = oracle.convolve(x, w, residual=residual, pads=pads)
    np.testing.assert_array_equal(np.rint(fastconv.conv2d(x, w, padding="same", residual=residual, out=residual)), expected)
    expected = oracle.convolve(x, w, pads=pads)
    w_copy = w.copy()
    np.testing.assert_array_equal(np.rint(fastconv.conv2d(x, w_copy, padding="same", out=w_copy[:1])), expected)
    bias = np.zeros(64, np.float32).reshape(1, 4, 4, 4)
    expected = oracle.convolve(x, w, bias=bias[0, :, 0, 0], pads=pads)
    np.testing.assert_array_equal(np.rint(fastconv.conv2d(x, w, bias[0, :, 0, 0], padding="same", out=bias)), expected)


@pytest.mark.plain
@pytest.mark.parametrize("refused", ["shape", "dtype", "byte order", "read-only", "zero stride", "list"])
@pytest.mark.parametrize("through", ["conv2d", "Conv2d", "plan"])
def test_a_refused_out_is_untouched(refused: str, through: str) -> None:
    x, w = integer_array(1, 2, 5, 6), integer_array(3, 2, 3, 3)
    outs: dict[str, tuple[type[Exception], object]] = {
        "shape": (fastconv.ShapeError, np.full((1, 3, 3, 5), 7, np.float32)),
        "dtype": (fastconv.DTypeError, np.full((1, 3, 3, 4), 7, np.float64)),
        "byte order": (fastconv.DTypeError, np.full((1, 3, 3, 4), 7, np.dtype(np.float32).newbyteorder())),
        "read-only": (ValueError, read_only(np.full((1, 3, 3, 4), 7, np.float32))),
        "zero stride": (ValueError, np.lib.stride_tricks.as_strided(np.full(4, 7, np.float32), (1, 3, 3, 4), (0, 0, 0, 4))),
        "list": (fastconv.DTypeError, [[[[7.0] * 4] * 3] * 3]),
    }
    error, out = outs[refused]
    calls: dict[str, Callable[[], Array]] = {
        "conv2d": lambda: fastconv.conv2d(x, w, out=out),  # type: ignore[arg-type]
        "Conv2d": lambda: fastconv.Conv2d(w)(x, out=out),  # type: ignore[arg-type]
        "plan": lambda: fastconv.plan(x.shape, w)(x, out=out),  # type: ignore[arg-type]
    }
    with pytest.raises(error, match="out "):
        calls[through]()
    assert (np.asarray(out) == 7).all()


@pytest.mark.plain
def test_out_is_untouched_when_anything_else_is_refused() -> None:
    x, w, out = integer_array(1, 2, 5, 6), integer_array(3, 2, 3, 3), np.full((1, 3, 3, 4), 7, np.float32)
    for words in (
        {"backend": "nonsense"},
        {"padding": -1},
        {"stride": 0},
        {"groups": 2},
        {"residual": np.zeros(3)},
        {"activation": "swish"},
    ):
        with pytest.raises(ValueError):
            fastconv.conv2d(x, w, out=out, **words)  # type: ignore[arg-type]
    assert (out == 7).all()


@pytest.mark.plain
def test_an_empty_out_has_strides_of_zero_and_is_taken() -> None:
    out = np.zeros((0, 3, 3, 4), np.float32)
    assert fastconv.conv2d(np.zeros((0, 2, 5, 6), np.float32), np.zeros((3, 2, 3, 3), np.float32), out=out) is out
