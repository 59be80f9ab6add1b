"""conv3d: a 2-D convolution whose channels are those of all depth taps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fastconv._typing import Activation, Array, Padding, PaddingMode, Pair
from fastconv.api import conv2d
from fastconv.backends.base import DEFAULT_WORKSPACE_NBYTES
from fastconv.errors import ShapeError
from fastconv.kernels.borders import source_index
from fastconv.plans import check_out
from fastconv.requests import Request, as_array, overlaps, requested
from fastconv.settings import get_config

#: With more groups than this, depth taps are added up one after the other instead of becoming channels.
MANY_GROUPS = 4


def conv3d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: complex = 0.0,
    flip_kernel: bool = False,
    activation: Activation = None,
    residual: npt.ArrayLike | None = None,
    backend: str | None = None,
    out: Array | None = None,
) -> Array:
    """Cross-correlate multi-channel volumes with kernels: `conv2d` along three axes.

    Parameters
    ----------
    x : array_like of shape (N, C_in, D, H, W) or (C_in, D, H, W)
        Source volumes.
    w : array_like of shape (C_out, C_in/groups, K_d, K_h, K_w)
        Kernels.
    stride, dilation : int or (int, int, int)
        Along depth, height and width.
    padding : int, (int, int, int), ((front, back), (top, bottom), (left, right)) or str
        As in `conv2d`.
    bias, groups, padding_mode, padding_value, flip_kernel, activation, residual, backend, out
        As in `conv2d`.

    Returns
    -------
    ndarray of shape (N, C_out, OD, OH, OW)
        With OD = floor((D + front + back - dilation*(K_d-1) - 1)/stride) + 1 and the others alike.

    Raises
    ------
    ShapeError, DTypeError, UnsupportedProblem, ValueError
        As in `conv2d`.

    Notes
    -----
    Output slices are a batch of images, and the slices that one of them reads are its channels: K_d*C_in of them. With one input channel
    this is a view of the volume; otherwise a copy with the channels inside the depth is made, a block of slices at a time.
    **Memory** one such block, at most the workspace limit or what one output slice reads.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv3d(np.ones((1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2))).ravel()
    array([8., 8., 8., 8., 8., 8., 8., 8.])
    """
    subject = "conv3d"
    source, weights = as_array(subject, "x", x), as_array(subject, "w", w)
    added = None if bias is None else as_array(subject, "bias", bias)
    rest = None if residual is None else as_array(subject, "residual", residual)
    if source.ndim not in {4, 5}:
        raise ShapeError(
            f"{subject}: x must have the shape (N, C, D, H, W) or (C, D, H, W); got {source.ndim} axes, x.shape = {source.shape}."
        )
    if weights.ndim != 5:
        raise ShapeError(
            f"{subject}: w must have the shape (C_out, C_in/groups, K_d, K_h, K_w); got {weights.ndim} axes, w.shape = {weights.shape}."
        )
    strides, dilations, pads = _triple(stride), _triple(dilation), _padding(padding)
    words = (padding_mode, padding_value, activation, "NCHW")
    volume = source if source.ndim == 5 else source[np.newaxis]
    # Two requests check everything and turn words into numbers: one for height and width, one for depth.
    plane = requested((subject, 2, strides[1:], pads[1:], dilations[1:], groups, *words), volume[:, :, 0], weights[:, :, 0], added, None)
    depth = requested(
        (subject, 1, strides[:1], pads[:1], dilations[:1], groups, *words), volume[:, :, :, 0, 0], weights[..., 0, 0], added, None
    )
    dtype = np.result_type(source, weights, *(a for a in (added, rest) if a is not None))
    p, q = plane.problem, depth.problem
    shape = (p.mb, p.oc, q.ow, p.oh, p.ow)
    user_shape = shape if source.ndim == 5 else shape[1:]
    if rest is not None and rest.shape != user_shape:
        raise ShapeError(f"{subject}: residual must have the shape of the result, {user_shape}; got {rest.shape}.")
    if out is not None:
        check_out(subject, out, user_shape, dtype.name)
    result = np.empty(user_shape, dtype) if out is None or overlaps(out, (source, weights, added, rest)) else out
    if flip_kernel:
        weights = weights[:, :, ::-1, ::-1, ::-1]
    engine = _Engine(plane, depth, weights.astype(dtype, copy=False), added, activation, backend)
    engine.run(
        volume.astype(dtype, copy=False), None if rest is None else rest.reshape(shape).astype(dtype, copy=False), result.reshape(shape)
    )
    if out is not None and result is not out:
        out[...] = result
        return out
    return result


def _triple(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) == 3:
            return tuple(value)
        if len(value) == 1:
            return tuple(value) * 3
        raise ValueError(f"conv3d: stride and dilation must be an int or 3 ints; got {value!r}.")
    return (value,) * 3


def _padding(value: Any) -> Any:
    """Return the padding of each axis in a form that requests of fewer axes can slice."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 3:
            raise ValueError(f"conv3d: padding must be an int, 3 ints, 3 pairs, 'same', 'same_lower', 'full' or 'valid'; got {value!r}.")
        return tuple(value)
    return _Everywhere(value)


class _Everywhere:
    """One padding for all axes: any slice of it is itself."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getitem__(self, axes: slice) -> Any:
        return self._value


class _Engine:
    """The 2-D convolutions of a 3-D one."""

    def __init__(self, plane: Request, depth: Request, w: Array, bias: Array | None, activation: Activation, backend: str | None) -> None:
        self._p, self._q = plane.problem, depth.problem
        self._w, self._bias, self._activation, self._backend = w, bias, activation, backend

    def run(self, x: Array, residual: Array | None, out: Array) -> None:
        """Convolve `x` (N, C, D, H, W) into `out` (N, OC, OD, OH, OW)."""
        q = self._q
        index = source_index(q.iw, q.pw_lo, q.pw_hi, q.padding_mode)
        many = q.g > MANY_GROUPS
        for n in range(out.shape[0]):
            rest = None if residual is None else residual[n]
            if many:
                self._taps_one_by_one(x[n], index, rest, out[n])
            else:
                ocg, icg = q.oc // q.g, q.ic // q.g
                for g in range(q.g):
                    outputs = slice(g * ocg, (g + 1) * ocg)
                    self._taps_as_channels(
                        x[n, g * icg : (g + 1) * icg], index, outputs, None if rest is None else rest[outputs], out[n, outputs]
                    )

    def _conv(
        self, x: Array, w: Array, bias: Array | None, residual: Array | None, activation: Activation, groups: int, out: Array
    ) -> None:
        p = self._p
        pads, mode = ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), cast(PaddingMode, p.padding_mode)
        conv2d(
            x, w, bias, (p.sh, p.sw), pads, (p.dh, p.dw), groups, padding_mode=mode, padding_value=p.padding_value,
            activation=activation, residual=residual, backend=self._backend, out=out,
        )  # fmt: skip

    def _taps_as_channels(self, x: Array, index: Any, outputs: slice, residual: Array | None, out: Array) -> None:
        """Convolve one group's (IC, D, H, W); output slices whose taps lie in the same depths modulo the dilation go together."""
        q = self._q
        kd, ic = q.kw, x.shape[0]
        w = self._w[outputs].transpose(0, 2, 1, 3, 4).reshape(out.shape[0], kd * ic, *self._w.shape[3:])
        bias = None if self._bias is None else self._bias[outputs]
        slice_nbytes = ic * x.shape[2] * x.shape[3] * x.itemsize
        limit = get_config().max_workspace
        limit = DEFAULT_WORKSPACE_NBYTES if limit is None else limit
        for residue in range(min(q.dw, q.ow)):
            # Outputs od with od*stride % dilation equal: every (dilation/gcd)-th.
            chosen = [od for od in range(q.ow) if od * q.sw % q.dw == residue * q.sw % q.dw and od >= residue]
            if chosen[0] != residue:
                continue
            step = chosen[1] - chosen[0] if len(chosen) > 1 else 1
            apart = step * q.sw // q.dw if len(chosen) > 1 else 1
            most = max(1, int(limit // slice_nbytes - kd) // max(1, apart) + 1)
            for first in range(0, len(chosen), most):
                block = chosen[first : first + most]
                start = block[0] * q.sw
                depths = index[start : start + ((len(block) - 1) * apart + kd - 1) * q.dw + 1 : q.dw]
                stack = self._stack(x, depths)
                stride_d = stack.strides[0]
                windows = np.lib.stride_tricks.as_strided(
                    stack, (len(block), kd * ic, *stack.shape[2:]),
                    (apart * stride_d, stack.strides[1] if ic > 1 else stride_d, *stack.strides[2:]), writeable=False,
                )  # fmt: skip
                target = out[:, block[0] : block[-1] + 1 : step].swapaxes(0, 1)
                rest = None if residual is None else residual[:, block[0] : block[-1] + 1 : step].swapaxes(0, 1)
                self._conv(windows, w, bias, rest, self._activation, 1, target)

    def _stack(self, x: Array, depths: Any) -> Array:
        """Return the slices `depths` of (IC, D, H, W) as (depths, IC, H, W); a view for one channel and depths in a row."""
        if x.shape[0] == 1 and depths[0] >= 0 and (depths.size == 1 or (np.diff(depths) == depths[1] - depths[0]).all()):
            step = int(depths[1] - depths[0]) if depths.size > 1 else 1
            if step > 0:
                return x[:, depths[0] : depths[-1] + 1 : step].swapaxes(0, 1)
        stack = np.empty((depths.size, x.shape[0], *x.shape[2:]), x.dtype)
        for position, depth in enumerate(depths):
            stack[position] = self._q.padding_value if depth < 0 else x[:, depth]
        return stack

    def _taps_one_by_one(self, x: Array, index: Any, residual: Array | None, out: Array) -> None:
        """Add one depth tap after the other: a grouped 2-D convolution each, of all output slices at once, on top of the last."""
        q = self._q
        stacked = x.swapaxes(0, 1)
        target = out.swapaxes(0, 1)
        total = None if residual is None else np.ascontiguousarray(residual.swapaxes(0, 1))
        for tap in range(q.kw):
            depths = index[tap * q.dw : tap * q.dw + (q.ow - 1) * q.sw + 1 : q.sw]
            planes = stacked[np.maximum(depths, 0)]
            planes[depths < 0] = q.padding_value
            is_last = tap == q.kw - 1
            partial = target if is_last else np.empty(target.shape, out.dtype)
            self._conv(
                planes, self._w[:, :, tap], self._bias if is_last else None, total, self._activation if is_last else None, q.g, partial
            )
            total = partial
