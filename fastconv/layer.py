"""`Conv2d`: a convolution layer that packs its weights once per shape that it meets."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import wisdom
from fastconv._typing import Activation, Array, DataFormat, Padding, PaddingMode, Pair
from fastconv.api import made_plan
from fastconv.errors import ShapeError
from fastconv.locks import new_lock
from fastconv.plans import Plan, check_out
from fastconv.requests import Request, as_array, fixed_request, promise, requested
from fastconv.settings import get_config

#: Plans that a `Conv2d` keeps, one per shape, dtype and setting that it met last, and the bytes of their packed
#: weights together; one is always kept.
PLANS_PER_LAYER = 16
PLANS_NBYTES = 256 * 2**20


class Conv2d:
    """A convolution layer: weights packed once, called on arrays of any size. Immutable, usable by many threads.

    Parameters
    ----------
    w : array_like of shape (C_out, C_in/groups, K_h, K_w)
        Kernels; copied.
    bias, stride, padding, dilation, groups, padding_mode, padding_value, flip_kernel, activation, data_format, backend
        As in `conv2d`.

    Notes
    -----
    **Memory** it keeps a plan, with packed weights, for each of the last 16 combinations of shape, dtype and
    settings that it met, or fewer, so that the packed weights together stay below 256 MiB.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> blur = fastconv.Conv2d(np.full((1, 1, 3, 3), 1 / 9), padding="same", padding_mode="symmetric")
    >>> blur(np.ones((1, 5, 5))).shape
    (1, 5, 5)
    """

    # No other attribute can be set: a layer whose `stride` was assigned would go on as before.
    __slots__ = ("__weakref__", "_backend", "_bias", "_flip_kernel", "_lock", "_plans", "_w", "_words")

    def __init__(
        self,
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
        data_format: DataFormat = "NCHW",
        backend: str | None = None,
    ) -> None:
        self._w = as_array("Conv2d", "w", w).copy(order="C")
        self._bias = None if bias is None else as_array("Conv2d", "bias", bias).copy()
        self._words = ("Conv2d", 2, stride, padding, dilation, groups, padding_mode, padding_value, activation, data_format)
        self._flip_kernel = flip_kernel
        self._backend = backend
        self._check_weights()
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        self._lock = new_lock()

    def _check_weights(self) -> None:
        """Refuse now what no input could make right, by asking for an input that is large enough for the kernel."""
        shape = self._w.shape
        if len(shape) != 4:
            raise ShapeError(f"Conv2d: w must have the shape (C_out, C_in/groups, K_h, K_w); got {len(shape)} axes, w.shape = {shape}.")
        groups, dilation, data_format = self._words[5], self._words[4], self._words[9]
        channels = shape[1] * groups if isinstance(groups, int) else shape[1]
        reach = max(dilation) if isinstance(dilation, tuple | list) and dilation else dilation
        size = [1 + k * reach if isinstance(reach, int) else 1 + k for k in shape[2:]]
        # A floating source promotes integer weights, and may then have any activation; a complex one, a complex border.
        dtype = np.result_type(self._w, np.complex64 if isinstance(self._words[7], complex) else np.float32)
        self._requested(promise((*size, channels) if data_format == "NHWC" else (channels, *size), dtype), None)

    def _requested(self, x: Array, residual: Array | None) -> Request:
        return requested(self._words, x, self._w, self._bias, residual)

    def plan_for(self, x_shape: tuple[int, ...], dtype: npt.DTypeLike | None = None, *, has_residual: bool = False) -> Plan:
        """Return the plan that a call on an array of this shape and dtype uses, making it if need be."""
        return self._plan(fixed_request(self._words, tuple(x_shape), self._w, self._bias, dtype, has_residual=has_residual))

    def _plan(self, asked: Request) -> Plan:
        config = get_config()
        key = (asked, config, wisdom.changes)
        found = self._plans.get(key)
        if found is not None:
            try:  # noqa: SIM105  contextlib.suppress costs a microsecond
                self._plans.move_to_end(key)
            except KeyError:  # another thread has just dropped it
                pass
            return found
        # Made outside the lock: other threads go on, and two that make the same plan make equal ones.
        made = made_plan(asked, config, self._backend, self._w, self._bias, flip_kernel=self._flip_kernel).in_form(asked.form, "Conv2d")
        with self._lock:
            self._plans[asked, config, wisdom.changes] = made  # it may be the making that opened the wisdom
            while len(self._plans) > 1 and (
                len(self._plans) > PLANS_PER_LAYER or sum(plan.packed_nbytes for plan in self._plans.values()) > PLANS_NBYTES
            ):
                self._plans.popitem(last=False)
        return made

    def __call__(self, x: npt.ArrayLike, residual: npt.ArrayLike | None = None, *, out: Array | None = None) -> Array:
        """Convolve `x` of shape (N, C_in, H, W) or (C_in, H, W); see `conv2d` for result and errors."""
        source = x if type(x) is np.ndarray else as_array("Conv2d", "x", x)
        added = None if residual is None else as_array("Conv2d", "residual", residual)
        asked = self._requested(source, added)
        dtype = asked.dtype
        if out is not None:
            check_out("Conv2d", out, asked.form.user_shape(asked.problem.out_shape), asked.problem.dtype)
        made = self._plan(asked)
        if source.dtype is not dtype:
            source = source.astype(dtype, copy=False)
        return made(source, None if added is None else added.astype(dtype, copy=False), out=out)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_backend", "_bias", "_flip_kernel", "_w", "_words")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._plans = OrderedDict()
        self._lock = new_lock()

    def __repr__(self) -> str:
        return f"<fastconv.Conv2d {self._w.shape} {self._w.dtype}>"
