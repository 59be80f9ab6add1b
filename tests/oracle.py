"""The oracle: `scipy.signal.correlate2d` plane by plane, on inputs padded by `numpy.pad`. Imports nothing of fastconv."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import correlate2d
from scipy.special import erf

Array = npt.NDArray[Any]
Pads = tuple[tuple[int, int], tuple[int, int]]

#: The padding modes in the words of `numpy.pad`.
NUMPY_MODES = {
    "zeros": "constant",
    "constant": "constant",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
}


def wide(array: Array) -> Array:
    """Return the array in the widest type of its kind; integers as int64, whose sums wrap to those of any integer type."""
    kind = np.asarray(array).dtype.kind
    return np.asarray(array).astype({"f": np.float64, "c": np.complex128}.get(kind, np.int64))


def padded(x: Array, pads: Pads, mode: str = "zeros", value: complex = 0) -> Array:
    """Return `x` (N, C, H, W) with its borders."""
    widths = ((0, 0), (0, 0), *pads)
    if mode in {"zeros", "constant"}:
        return np.pad(x, widths, mode="constant", constant_values=value)
    return np.pad(x, widths, mode=NUMPY_MODES[mode])  # type: ignore[call-overload]


def spread(w: Array, dilation: tuple[int, int]) -> Array:
    """Return the kernels with zeros between their taps."""
    dh, dw = dilation
    wide_kernel = np.zeros((*w.shape[:2], dh * (w.shape[2] - 1) + 1, dw * (w.shape[3] - 1) + 1), w.dtype)
    wide_kernel[:, :, ::dh, ::dw] = w
    return wide_kernel


def correlate(
    x: Array,
    w: Array,
    *,
    stride: tuple[int, int] = (1, 1),
    pads: Pads = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    mode: str = "zeros",
    value: complex = 0,
) -> Array:
    """Return the sum over channels, groups and taps in float64, complex128 or int64, without bias."""
    source = padded(wide(x), pads, mode, value)
    kernels = spread(wide(w), dilation)
    per_group_in, per_group_out = w.shape[1], w.shape[0] // groups
    assert x.shape[1] == per_group_in * groups
    # mode='valid' would swap its arguments where the kernel does not fit.
    assert kernels.shape[2] <= source.shape[2]
    assert kernels.shape[3] <= source.shape[3]
    planes = np.zeros(
        (x.shape[0], w.shape[0], source.shape[2] - kernels.shape[2] + 1, source.shape[3] - kernels.shape[3] + 1),
        np.result_type(source, kernels),
    )
    for n, o in np.ndindex(x.shape[0], w.shape[0]):
        for c in range(per_group_in):
            plane = source[n, o // per_group_out * per_group_in + c]
            planes[n, o] += correlate2d(plane, kernels[o, c].conj(), mode="valid")  # it conjugates its second argument
    return planes[:, :, :: stride[0], :: stride[1]]


def by_definition(
    x: Array,
    w: Array,
    *,
    stride: tuple[int, int] = (1, 1),
    pads: Pads = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    mode: str = "zeros",
    value: complex = 0,
) -> Array:
    """Return the same, product by product: no zeros between taps, which an infinite source would turn into NaN."""
    source, kernels = padded(wide(x), pads, mode, value), wide(w)
    per_group_in, per_group_out = w.shape[1], w.shape[0] // groups
    kh, kw = w.shape[2:]
    oh, ow = ((source.shape[2 + i] - dilation[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in range(2))
    y = np.zeros((x.shape[0], w.shape[0], oh, ow), np.result_type(source, kernels))
    with np.errstate(all="ignore"):
        for o, c, r, s in np.ndindex(w.shape[0], per_group_in, kh, kw):
            window = source[:, o // per_group_out * per_group_in + c, r * dilation[0] :, s * dilation[1] :]
            y[:, o] += window[:, : (oh - 1) * stride[0] + 1 : stride[0], : (ow - 1) * stride[1] + 1 : stride[1]] * kernels[o, c, r, s]
    return y


def activated(y: Array, activation: Any) -> Array:
    """Return the activation of `y`."""
    if activation is None:
        return y
    if not isinstance(activation, str):
        return np.clip(y, *activation)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-np.asarray(y, float)))
    curves = {
        "relu": lambda: np.maximum(y, 0),
        "relu6": lambda: np.clip(y, 0, 6),
        "sigmoid": lambda: sigmoid,
        "silu": lambda: y * sigmoid,
        "tanh": lambda: np.tanh(y),
        "gelu": lambda: 0.5 * y * (1 + erf(y / np.sqrt(2))),
    }
    return curves[activation]()


def convolve(
    x: Array, w: Array, bias: Array | None = None, residual: Array | None = None, activation: Any = None, **geometry: Any
) -> Array:
    """Return activation(correlation + bias + residual), in the wide type."""
    y = correlate(x, w, **geometry)
    if bias is not None:
        y = y + wide(bias)[:, np.newaxis, np.newaxis]
    if residual is not None:
        y = y + wide(residual)
    return activated(y, activation)
