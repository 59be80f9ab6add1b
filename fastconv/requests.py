"""User words to numbers: what `conv1d`, `conv2d`, `plan`, `explain` and `Conv2d` were asked for, as a `ConvProblem`."""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv._typing import Array
from fastconv.errors import DTypeError, ShapeError
from fastconv.kernels.borders import PADDING_MODES
from fastconv.plans import Form
from fastconv.problem import DTYPES, ConvProblem

_PADDING_WORDS = ("valid", "same", "same_upper", "same_lower", "full")
_AXES = {1: ("width",), 2: ("height", "width")}
_SHAPE_WORDS = {1: ("(N, C, L)", "(C, L)"), 2: ("(N, C, H, W)", "(C, H, W)")}
_SHAPE_WORDS_LAST = {1: ("(N, L, C)", "(L, C)"), 2: ("(N, H, W, C)", "(H, W, C)")}


@dataclass(frozen=True, eq=False)
class Request:
    """A validated request: the problem, and how the user's arrays map to it. Equal calls share one object."""

    subject: str
    problem: ConvProblem
    form: Form
    dtype: np.dtype[Any]


class Words(NamedTuple):
    """The words of a call besides its arrays, in the spelling of the API and hashable."""

    subject: str
    spatial: int
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: Any = 1
    padding_mode: str = "zeros"
    padding_value: Any = 0.0
    activation: Any = None
    data_format: str = "NCHW"


def requested(words: tuple[Any, ...], x: Array, w: Array, bias: Array | None, residual: Array | None) -> Request:
    """Return the request that the arrays make with `words`, a tuple in the order of `Words`; cached by value.

    Raises
    ------
    ShapeError, DTypeError, ValueError
        As the public functions say.
    """
    _, _, stride, padding, dilation, groups, *_ = words
    # Equal words are equally right, but for these four: 1.0 is wrong where 1 is right.
    is_plain = type(stride) is type(dilation) is type(groups) is int and (type(padding) is int or type(padding) is str)
    kinds = None if is_plain else _kinds(words[2:6])
    extra = () if bias is None and residual is None else (_meta(bias), _meta(residual))
    try:
        return _request(kinds, words, x.shape, w.shape, x.dtype, w.dtype, *extra)
    except TypeError as error:
        if isinstance(error, DTypeError):
            raise
    # A list is not hashable; the same numbers in a tuple are.
    return _request(_kinds(words[2:6]), _frozen(words), x.shape, w.shape, x.dtype, w.dtype, *extra)


_Meta = tuple[tuple[int, ...], np.dtype[Any]]


def _meta(array: Array | None) -> _Meta | None:
    return None if array is None else (array.shape, array.dtype)


def _kinds(value: Any) -> Any:
    """Return the types of everything inside a tuple."""
    return tuple(map(_kinds, value)) if isinstance(value, tuple | list) else type(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_frozen(item) for item in value)
    return value


@functools.lru_cache(maxsize=4096)
def _request(
    kinds: Any,  # noqa: ARG001  a part of the key
    words: tuple[Any, ...],
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    x_dtype: np.dtype[Any],
    w_dtype: np.dtype[Any],
    bias: _Meta | None = None,
    residual: _Meta | None = None,
) -> Request:
    dtypes = (x_dtype, w_dtype, *(meta[1] for meta in (bias, residual) if meta is not None))
    return _validated(Words(*words), x_shape, w_shape, dtypes, None if bias is None else bias[0], None if residual is None else residual[0])


def _validated(
    words: Words,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtypes: tuple[np.dtype[Any], ...],
    bias_shape: tuple[int, ...] | None = None,
    residual_shape: tuple[int, ...] | None = None,
) -> Request:
    """Return the request that shapes, dtypes and words make.

    Parameters
    ----------
    words : Words
    x_shape, w_shape : tuple of int
        As the user gave them.
    dtypes : tuple of dtype
        Those of all arrays; they are promoted as by `numpy.result_type`.
    bias_shape, residual_shape : tuple of int, optional

    Raises
    ------
    ShapeError, DTypeError, ValueError
        As the public functions say.
    """
    subject, spatial = words.subject, words.spatial
    if words.data_format not in {"NCHW", "NHWC"}:
        raise ValueError(f"{subject}: data_format must be 'NCHW' or 'NHWC'; got {words.data_format!r}.")
    if words.padding_mode not in PADDING_MODES:
        near = difflib.get_close_matches(str(words.padding_mode), PADDING_MODES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{subject}: padding_mode must be one of {', '.join(map(repr, PADDING_MODES))}; got {words.padding_mode!r}.{hint}")
    last = words.data_format == "NHWC"
    names = (_SHAPE_WORDS_LAST if last else _SHAPE_WORDS)[spatial]
    if len(x_shape) not in {spatial + 1, spatial + 2}:
        raise ShapeError(f"{subject}: x must have the shape {names[0]} or {names[1]}; got {len(x_shape)} axes, x.shape = {x_shape}.")
    if len(w_shape) != spatial + 2:
        expected = "(C_out, C_in/groups, K_h, K_w)" if spatial == 2 else "(C_out, C_in/groups, K)"
        raise ShapeError(f"{subject}: w must have the shape {expected}; got {len(w_shape)} axes, w.shape = {w_shape}.")
    form = Form(spatial, len(x_shape) == spatial + 2, last)
    batch = x_shape[0] if form.is_batched else 1
    inner = x_shape[1:] if form.is_batched else x_shape
    channels, size = (inner[-1], inner[:-1]) if last else (inner[0], inner[1:])
    groups = _integer(subject, "groups", words.groups, least=1)
    oc = w_shape[0]
    if w_shape[1] * groups != channels:
        raise ShapeError(
            f"{subject}: x has {channels} channels but w expects {w_shape[1] * groups} (w.shape[1] = {w_shape[1]}, groups = {groups}); "
            f"x.shape = {x_shape}, w.shape = {w_shape}."
        )
    if oc % groups:
        raise ShapeError(f"{subject}: groups must divide the output channels; got groups = {groups} with w.shape[0] = {oc}.")
    kernel = w_shape[2:]
    strides = _axes(subject, "stride", words.stride, spatial, least=1)
    dilations = _axes(subject, "dilation", words.dilation, spatial, least=1)
    pads = _pads(subject, words.padding, spatial, size, kernel, strides, dilations)
    if spatial == 1:
        size, kernel, strides, dilations = (1, *size), (1, *kernel), (1, *strides), (1, *dilations)
        pads = ((0, 0), *pads)
    if bias_shape is not None and bias_shape != (oc,):
        raise ShapeError(f"{subject}: bias must have the shape (C_out,) = ({oc},); got {bias_shape}.")
    problem = _problem(
        subject, spatial,
        g=groups, mb=batch, ic=channels, ih=size[0], iw=size[1], oc=oc, kh=kernel[0], kw=kernel[1], sh=strides[0], sw=strides[1],
        ph_lo=pads[0][0], ph_hi=pads[0][1], pw_lo=pads[1][0], pw_hi=pads[1][1], dh=dilations[0], dw=dilations[1],
        dtype=_result_dtype(subject, dtypes), padding_mode=words.padding_mode,
        padding_value=words.padding_value if words.padding_mode == "constant" else _zero(subject, words),
        has_bias=bias_shape is not None, has_residual=residual_shape is not None,
        activation=words.activation, channels_last=last,
    )  # fmt: skip
    shape = form.user_shape(problem.out_shape)
    if residual_shape is not None and residual_shape != shape:
        raise ShapeError(f"{subject}: residual must have the shape of the result, {shape}; got {residual_shape}.")
    return Request(subject, problem, form, np.dtype(problem.dtype))


def _problem(subject: str, spatial: int, **attributes: Any) -> ConvProblem:
    """Make the problem; its short errors get the function's name, and the axis' name where there is only one."""
    try:
        return ConvProblem(**attributes)
    except (ShapeError, DTypeError, ValueError) as error:
        text = str(error) if spatial == 2 else str(error).replace("along width", "along the axis")
        raise type(error)(f"{subject}: {text}") from None


def _zero(subject: str, words: Words) -> int:
    if words.padding_value != 0:
        raise ValueError(
            f"{subject}: padding_value is used with padding_mode='constant' only; got padding_value = {words.padding_value} "
            f"with padding_mode={words.padding_mode!r}."
        )
    return 0


def _result_dtype(subject: str, dtypes: tuple[np.dtype[Any], ...]) -> str:
    try:
        name = np.result_type(*dtypes).name
    except TypeError:
        name = "no common dtype"
    if name not in DTYPES:
        given = ", ".join(map(str, dtypes))
        raise DTypeError(
            f"{subject}: the arrays promote to {name} (from {given}), but fastconv computes in {', '.join(DTYPES)}. Convert with astype."
        )
    return name


def _integer(subject: str, name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{subject}: {name} must be an integer; got {value!r}.") from None
    if number < least:
        raise ValueError(f"{subject}: {name} must be at least {least}; got {number}.")
    return number


def _axes(subject: str, name: str, value: Any, spatial: int, least: int) -> tuple[int, ...]:
    """Return one integer per spatial axis from an integer or a sequence."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) == 1 or len(value) == spatial:
            numbers = tuple(_integer(subject, name, item, least) for item in value)
            return numbers * spatial if len(numbers) == 1 else numbers
        raise ValueError(f"{subject}: {name} must be {'an int' if spatial == 1 else f'an int or {spatial} ints'}; got {value!r}.")
    return (_integer(subject, name, value, least),) * spatial


def _pads(
    subject: str,
    padding: Any,
    spatial: int,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Return (before, after) per spatial axis from any form of the padding argument."""
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    if padding == "valid":
        return ((0, 0),) * spatial
    if padding == "full":
        return tuple((span - 1, span - 1) for span in spans)
    if isinstance(padding, str) and padding in _PADDING_WORDS:
        totals = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(size, strides, spans, strict=True)]
        if padding == "same_lower":
            return tuple((total - total // 2, total // 2) for total in totals)
        return tuple((total // 2, total - total // 2) for total in totals)
    try:
        if isinstance(padding, str):
            raise TypeError  # noqa: TRY301  one place makes the message
        if not isinstance(padding, Sequence):
            return ((_integer(subject, "padding", padding, 0),) * 2,) * spatial
        if len(padding) not in {1, spatial}:
            raise TypeError  # noqa: TRY301
        items = list(padding) * (spatial if len(padding) == 1 else 1)
        if all(isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2 for item in items):
            return tuple((_integer(subject, "padding", lo, 0), _integer(subject, "padding", hi, 0)) for lo, hi in items)
        if any(isinstance(item, Sequence) for item in items):
            raise TypeError  # noqa: TRY301
        return tuple((_integer(subject, "padding", item, 0),) * 2 for item in items)
    except TypeError:
        pass
    words = padding.lower() if isinstance(padding, str) else ""
    near = difflib.get_close_matches(words, _PADDING_WORDS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    pairs = "a pair of ints, ((top, bottom), (left, right))" if spatial == 2 else "((left, right),)"
    raise ValueError(f"{subject}: padding must be an int, {pairs}, 'same', 'same_lower', 'full' or 'valid'; got {padding!r}.{hint}")


def spatial_axes(subject: str, w_shape: tuple[int, ...]) -> int:
    """Return the number of spatial axes that weights of this shape have, 1 or 2."""
    if len(w_shape) not in {3, 4}:
        raise ShapeError(f"{subject}: w must have 4 axes (C_out, C_in/groups, K_h, K_w), or 3 for one dimension; got the shape {w_shape}.")
    return len(w_shape) - 2


def fixed_request(
    words: tuple[Any, ...], x_shape: tuple[int, ...], w: Array, bias: Array | None, dtype: npt.DTypeLike | None, *, has_residual: bool
) -> Request:
    """Return the request for arrays that are yet to come."""
    x = promise(x_shape, w.dtype if dtype is None else dtype)
    asked = requested(words, x, w, bias, None)
    if not has_residual:
        return asked
    return requested(words, x, w, bias, promise(asked.form.user_shape(asked.problem.out_shape), asked.dtype))


def promise(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return an array of `shape` that takes no memory, for a request whose array is yet to come."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def shaped_problem(
    words: tuple[Any, ...], x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: npt.DTypeLike, *, has_bias: bool, has_residual: bool
) -> ConvProblem:
    """Return the problem that shapes alone make."""
    w = promise(w_shape, dtype)
    b = promise((w_shape[0],), dtype) if has_bias else None
    return fixed_request(words, x_shape, w, b, dtype, has_residual=has_residual).problem


def as_array(subject: str, name: str, value: Any) -> Array:
    """Return `value` as an array; ragged sequences and objects are refused by name."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{subject}: {name} is not an array: {error}") from None
    return array


def overlaps(out: Array, arrays: Sequence[Array | None]) -> bool:
    """Tell whether `out` may share memory with one of `arrays`."""
    return any(array is not None and np.may_share_memory(out, array) for array in arrays)
