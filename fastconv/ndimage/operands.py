"""Arguments of the filters in SciPy's words: what is computed here, and as what."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fastconv._typing import Array
from fastconv.kernels.borders import source_index
from fastconv.originals import is_loaded, original

P = ParamSpec("P")
R = TypeVar("R")

#: SciPy's border modes in the words of `source_index`; "constant" reads `cval`.
MODES = {
    "reflect": "symmetric", "grid-mirror": "symmetric", "mirror": "reflect", "nearest": "replicate", "wrap": "circular",
    "grid-wrap": "circular", "constant": "constant", "grid-constant": "constant",
}  # fmt: skip
INPUTS = frozenset(map(np.dtype, ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4")))
OUTPUTS = INPUTS
COMPLEX = frozenset(map(np.dtype, ("c8", "c16")))
#: Sums of the smallest double or less than this are no weights to SciPy.
EPSILON = float(np.finfo(np.float64).eps)
#: Arrays of fewer elements are passed on to SciPy if it is imported: it is done before a plan is found.
SMALL_SIZE = 512


class PassOn(Exception):  # noqa: N818  no error: SciPy does this call, or refuses it in its own words
    """Raised before anything is written."""


def or_scipys(native: Callable[P, R]) -> Callable[P, R]:
    """Let SciPy's function of the same name do what `native` passes on."""

    @functools.wraps(native)
    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return native(*args, **kwargs)
        except PassOn:
            result: R = original("ndimage", native.__name__)(*args, **kwargs)
            return result

    return function


def source(value: Any, *, takes_complex: bool = False, may_pass_on: bool = True) -> Array:
    """Return `value` as the array to filter; small ones are SciPy's where that `may_pass_on`."""
    if type(value) is not np.ndarray:
        if not isinstance(value, list | tuple):
            raise PassOn
        try:
            value = np.asarray(value)
        except ValueError:
            raise PassOn from None
    array: Array = value
    if not array.dtype.isnative or (array.dtype not in INPUTS and not (takes_complex and array.dtype in COMPLEX)):
        raise PassOn
    if array.ndim == 0 or not array.size or (may_pass_on and array.size < SMALL_SIZE and is_loaded("ndimage")):
        raise PassOn
    return array


def destination(output: Any, x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """Return the array that SciPy's `output` argument means: a given one, or a new one of a dtype."""
    if isinstance(output, np.ndarray):
        if type(output) is not np.ndarray or output.shape != x.shape or not output.flags.writeable or not output.dtype.isnative:
            raise PassOn
        target = output
    else:
        if output is None:
            kind = x.dtype if dtype is None else dtype
        elif isinstance(output, type | np.dtype | str):
            try:
                kind = np.dtype(output)
            except TypeError:
                raise PassOn from None
        else:
            raise PassOn
        if kind not in OUTPUTS and kind not in COMPLEX:
            raise PassOn
        target = np.empty(x.shape, kind)
    if (target.dtype not in OUTPUTS and target.dtype not in COMPLEX) or (target.dtype in COMPLEX) != ((dtype or x.dtype) in COMPLEX):
        raise PassOn
    return target


def real_weights(weights: Any, ndim: int | None = None) -> Array:
    """Return real weights as a contiguous float64 array."""
    try:
        array = np.asarray(weights)
    except ValueError:
        raise PassOn from None
    if array.dtype.kind not in "biuf" or not array.size or (ndim is not None and array.ndim != ndim):
        raise PassOn
    return np.ascontiguousarray(array, np.float64)


def border(mode: Any) -> str:
    """Return the word of `source_index` for one of SciPy's modes."""
    if not isinstance(mode, str) or mode not in MODES:
        raise PassOn
    return MODES[mode]


def real_cval(cval: Any) -> float:
    """Return `cval` as the double that SciPy makes of it."""
    if not isinstance(cval, int | float | np.integer | np.floating):
        raise PassOn
    return float(cval)


def axis_of(axis: Any, ndim: int) -> int:
    """Return `axis` counted from the front."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise PassOn from None
    if not -ndim <= number < ndim:
        raise PassOn
    return number % ndim


def axes_of(axes: Any, ndim: int) -> tuple[int, ...]:
    """Return SciPy's `axes` argument as axes counted from the front."""
    if axes is None:
        return tuple(range(ndim))
    if not isinstance(axes, Iterable):
        number = axis_of(axes, ndim)
        if axes < 0:  # SciPy does not count a single axis from the end everywhere
            raise PassOn
        return (number,)
    chosen = tuple(axis_of(a, ndim) for a in axes)
    if len(set(chosen)) != len(chosen):
        raise PassOn
    return chosen


def sequence(value: Any, count: int) -> list[Any]:
    """Return one value per axis from a scalar or a sequence."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise PassOn
    return values


def before(length: int, origin: Any) -> int:
    """Return how many positions of a window of `length` lie before its output: length//2 + origin."""
    try:
        shift = operator.index(origin)
    except TypeError:
        raise PassOn from None
    if not -(length // 2) <= shift <= (length - 1) // 2:
        raise PassOn
    return length // 2 + shift


def index_map(n: int, lo: int, hi: int, mode: str, step: int = 1) -> Any:
    """Return `source_index` for positions of `step` elements each, element by element; -1 stays -1."""
    index = source_index(n, lo, hi, mode)
    if step == 1:
        return index
    spread = index[:, np.newaxis] * step + np.arange(step)
    return np.where(index[:, np.newaxis] < 0, -1, spread).reshape(-1)
