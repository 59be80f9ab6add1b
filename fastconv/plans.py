"""`Plan`: one prepared convolution of fixed shape. Weights are packed, workspace is known, nothing changes any more."""

from __future__ import annotations

import ctypes
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from fastconv._typing import Array
from fastconv.errors import DTypeError, ShapeError
from fastconv.problem import ConvProblem


@dataclass(frozen=True)
class Form:
    """How a user's arrays map to the canonical (N, C, H, W) view: spatial axes, batch axis, place of the channels."""

    spatial: int = 2
    is_batched: bool = True
    channels_last: bool = False

    def canonical(self, array: Array) -> Array:
        """Return the (N, C, H, W) view of a user's array; no data moves."""
        if not self.is_batched:
            array = array[np.newaxis]
        if self.channels_last:
            array = np.moveaxis(array, -1, 1)
        if self.spatial == 1:
            array = array[:, :, np.newaxis, :]
        return array

    def user_shape(self, shape: tuple[int, int, int, int]) -> tuple[int, ...]:
        """Return the shape of a user's array from the canonical one."""
        n, c, h, w = shape
        spatial = (w,) if self.spatial == 1 else (h, w)
        inner = (*spatial, c) if self.channels_last else (c, *spatial)
        return (n, *inner) if self.is_batched else inner


CANONICAL = Form()


class Plan(ABC):
    """A convolution of fixed shape, ready to run; immutable and usable by many threads at once.

    Attributes
    ----------
    problem : ConvProblem
        What it computes.
    backend : str
        Full name of the algorithm, such as "direct:dense".
    threads : int
        Threads it runs on. The result has the same bits for any number.
    workspace_nbytes : int
        Scratch memory that a call takes at most, over all threads.
    packed_nbytes : int
        Memory of the packed weights, held by the plan.
    description : str
        What the algorithm decided for this problem, in a few words.
    """

    def __init__(
        self,
        backend: str,
        problem: ConvProblem,
        *,
        threads: int = 1,
        workspace_nbytes: int = 0,
        packed_nbytes: int = 0,
        description: str = "",
    ) -> None:
        self.backend = backend
        self.problem = problem
        self.threads = threads
        self.workspace_nbytes = workspace_nbytes
        self.packed_nbytes = packed_nbytes
        self.description = description
        self._subject = "plan"
        self._dtype = np.dtype(problem.dtype)
        self._has_residual, self._is_empty = problem.has_residual, not problem.mb
        self._set_form(CANONICAL)
        self._origin: tuple[Callable[..., Plan], tuple[Any, ...], dict[str, Any]] | None = None

    @abstractmethod
    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; nothing is checked.

        Parameters
        ----------
        x : ndarray of shape (N, IC, IH, IW)
            Any strides, aligned, of the problem's dtype.
        residual : ndarray of shape (N, OC, OH, OW) or None
            Any strides; given exactly if ``problem.has_residual``.
        out : ndarray of shape (N, OC, OH, OW)
            Any strides; shares no memory with the inputs.
        """

    def in_form(self, form: Form, subject: str = "plan") -> Plan:
        """Return this plan for arrays of another form, speaking of itself as `subject`; packed weights are shared."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._subject = subject
        other._set_form(form)
        return other

    def _set_form(self, form: Form) -> None:
        self._form, self._is_canonical = form, form == CANONICAL
        self._x_shape = form.user_shape(self.problem.x_shape)
        self._out_shape = form.user_shape(self.problem.out_shape)

    def __call__(self, x: Array, residual: Array | None = None, *, out: Array | None = None) -> Array:
        """Convolve `x`.

        Parameters
        ----------
        x : ndarray
            Of the shape and dtype that the plan was made for.
        residual : ndarray, optional
            Of the result's shape; required exactly if the plan was made with one.
        out : ndarray, optional
            Where the result goes; untouched when the call is refused.

        Returns
        -------
        ndarray
            The result, `out` if given.

        Raises
        ------
        ShapeError, DTypeError
            If an array does not fit the plan.
        """
        if type(x) is not np.ndarray:
            x = np.asarray(x)
        if x.shape != self._x_shape or (x.dtype is not self._dtype and x.dtype != self._dtype):
            self._refuse("x", x, self._x_shape)
        if residual is not None or self._has_residual:
            residual = self._checked_residual(residual)
        if out is None:
            target = result = np.empty(self._out_shape, self._dtype)
        else:
            check_out(self._subject, out, self._out_shape, self.problem.dtype)
            result = out
            overlaps = np.may_share_memory(out, x) or (residual is not None and np.may_share_memory(out, residual))
            target = np.empty(self._out_shape, self._dtype) if overlaps or not out.flags.aligned else out
        if self._is_empty:
            return result
        if not x.flags.aligned:
            x = x.copy()
        if self._is_canonical:
            self.execute(x, residual, target)
        else:
            form = self._form
            self.execute(form.canonical(x), None if residual is None else form.canonical(residual), form.canonical(target))
        if target is not result:
            result[...] = target
        return result

    def _checked_residual(self, residual: Array | None) -> Array:
        """Return the residual as an aligned array; raise unless there is one exactly if the plan was made for it."""
        if residual is None or not self._has_residual:
            raise ShapeError(
                f"{self._subject}: it was made {'with' if self._has_residual else 'without'} a residual, but the call gives "
                f"{'none' if residual is None else 'one'}."
            )
        residual = np.asarray(residual)
        if residual.shape != self._out_shape or residual.dtype != self._dtype:
            self._refuse("residual", residual, self._out_shape)
        return residual if residual.flags.aligned else residual.copy()

    def _refuse(self, name: str, array: Array, shape: tuple[int, ...]) -> NoReturn:
        if array.shape != shape:
            raise ShapeError(
                f"{self._subject}: {name} must have the shape {shape}; got {array.shape}. "
                "A plan has a fixed shape: use Conv2d for any size."
            )
        raise DTypeError(f"{self._subject}: {name} must be {self.problem.dtype}; got {array.dtype}. Convert it with astype.")

    def remember_origin(self, remake: Callable[..., Plan], *args: Any, **kwargs: Any) -> None:
        """Keep the call that makes this plan again in another process: what pickling stores."""
        self._origin = (remake, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise TypeError(f"{type(self).__name__} does not know how it was made and cannot be pickled. Pickle the plan of fastconv.plan.")
        return (_remake, (*self._origin, self._form, self._subject))

    def __repr__(self) -> str:
        return f"<fastconv.Plan {self.backend} {self.problem}>"


def _remake(remake: Callable[..., Plan], args: tuple[Any, ...], kwargs: dict[str, Any], form: Form, subject: str) -> Plan:
    plan = remake(*args, **kwargs)
    plan.remember_origin(remake, *args, **kwargs)
    return plan.in_form(form, subject)


def check_out(subject: str, out: Array, shape: tuple[int, ...], dtype: str) -> None:
    """Raise unless `out` is a writable ndarray of exactly `shape` and `dtype`."""
    if not isinstance(out, np.ndarray):
        raise DTypeError(f"{subject}: out must be a NumPy array; got {type(out).__name__}.")
    if out.shape != shape:
        raise ShapeError(f"{subject}: out must have the shape of the result, {shape}; got {out.shape}.")
    if out.dtype != dtype or not out.dtype.isnative:
        raise DTypeError(f"{subject}: out must have the dtype of the result, {dtype}; got {out.dtype}.")
    if not out.flags.writeable:
        raise ValueError(f"{subject}: out is read-only. Pass a writable array.")
    if out.size and any(step == 0 and length > 1 for step, length in zip(out.strides, out.shape, strict=True)):
        raise ValueError(f"{subject}: out has a stride of 0, so its elements share memory. Pass an array with elements of its own.")


def row_contiguous(array: Array) -> Array:
    """Return `array` (N, C, H, W) with neighbouring columns or neighbouring channels next to each other, copied if need be.

    Kernels read sources whose last axis has a stride of one element (rows, at any distance, may run backwards),
    or whose channels do (channels-last). Other layouts are rare enough to be copied.
    """
    if array.strides[3] == array.itemsize or array.shape[3] == 1:
        return array
    if array.strides[1] == array.itemsize and array.shape[1] > 1:
        return array
    return np.ascontiguousarray(array)


def channels_last_copy(array: Array) -> Array:
    """Return a copy of `array` (N, C, H, W) with neighbouring channels next to each other in memory, also where there is one."""
    return array.transpose(0, 2, 3, 1).copy(order="C").transpose(0, 3, 1, 2)


def element_strides(array: Array) -> tuple[int, ...]:
    """Return the strides of `array` in elements; they must be multiples of the item size."""
    return tuple(step // array.itemsize for step in array.strides)


def _address_by_interface(array: Array) -> int:
    pointer: int = array.ctypes.data
    return pointer


_HEADER_NBYTES = object.__basicsize__


def _address_by_header(array: Array, _word_at: Any = ctypes.c_size_t.from_address, _offset: int = _HEADER_NBYTES) -> int:
    """Read the data pointer, which NumPy's C ABI puts first behind the object header: 0.5 us against 3.3 us."""
    pointer: int = _word_at(id(array) + _offset).value
    return pointer


_probe = np.zeros(3)[1:]
_header_holds_address = sys.implementation.name == "cpython" and _address_by_header(_probe) == _address_by_interface(_probe)

#: Return the address of an array's first element; the caller keeps the array alive while kernels use it.
address: Callable[[Array], int] = _address_by_header if _header_holds_address else _address_by_interface
