"""What is done to a sum before it is stored: ``y = activation(sum + bias + residual)``, for every backend.

Three forms of one thing: LLVM code for generated kernels (`emit_epilogue`, `Epilogue`, `build_finish`), a scalar
for jitted loops (`activate`), and NumPy for whole arrays (`apply_epilogue`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from fastconv.kernels._jit import jit
from fastconv.kernels.activations import CLAMP, GELU, NONE, SIGMOID, SILU, TANH, build_activation
from fastconv.kernels.simd import I64, Emitter, Value, i64, kernel_intrinsic, new_function
from fastconv.kernels.target import Target

Activation = str | tuple[float, float] | None
Along = Literal["rows", "columns"]

#: Activations by name: (code, low, high). The last two matter for clamps only.
ACTIVATIONS: dict[str, tuple[int, float, float]] = {
    "relu": (CLAMP, 0.0, math.inf),
    "relu6": (CLAMP, 0.0, 6.0),
    "silu": (SILU, 0.0, 0.0),
    "sigmoid": (SIGMOID, 0.0, 0.0),
    "tanh": (TANH, 0.0, 0.0),
    "gelu": (GELU, 0.0, 0.0),
}
#: Arguments of a kernel function that `Epilogue` reads: last, bias, residual, ldr, code, limits.
EPILOGUE_ARGUMENTS = 6


def activation_code(activation: Activation) -> tuple[int, float, float]:
    """Return (code, low, high) for an activation: None, a name of `ACTIVATIONS`, or a clamp (low, high)."""
    if activation is None:
        return NONE, -math.inf, math.inf
    if isinstance(activation, str):
        return ACTIVATIONS[activation]
    low, high = activation
    return CLAMP, float(low), float(high)


def emit_epilogue(
    e: Emitter,
    values: Sequence[Value],
    *,
    code: Value,
    limits: Value,
    bias: Sequence[Value] | None = None,
    residual: Sequence[Value] | None = None,
) -> list[Value]:
    """Emit ``activation(value + bias + residual)`` on vectors; return the new ones.

    Parameters
    ----------
    e : Emitter
    values : sequence of vectors
        Pass all vectors of a tile at once: the activation is branched on once.
    code : i64 value
        A code of `fastconv.kernels.activations`, known at run time.
    limits : i64 value
        Address of (low, high), two elements; read for `CLAMP` only.
    bias, residual : sequences of vectors, optional
        One for each value.
    """
    b = e.b
    out = list(values)
    for term in (bias, residual):
        if term is not None:
            out = [b.fadd(value, other) for value, other in zip(out, term, strict=True)]
    start = b.block
    clamp, curve, done = (b.append_basic_block(name) for name in ("clamp", "curve", "activated"))
    switch = b.switch(code, curve)
    switch.add_case(ir.Constant(I64, NONE), done)
    switch.add_case(ir.Constant(I64, CLAMP), clamp)
    b.position_at_end(clamp)
    pointer = e.ptr(limits)
    low, high = e.broadcast(pointer), e.broadcast(e.offset(pointer, 1))
    clamped = [e.minimum(e.maximum(value, low), high) for value in out]
    b.branch(done)
    b.position_at_end(curve)
    function = build_activation(e.module, e)
    curved = [b.call(function, [value, code]) for value in out]
    b.branch(done)
    b.position_at_end(done)
    merged = []
    for values_by_block in zip(out, clamped, curved, strict=True):
        phi = b.phi(e.vector)
        for value, block in zip(values_by_block, (start, clamp, curve), strict=True):
            phi.add_incoming(value, block)
        merged.append(phi)
    return merged


class Epilogue:
    """The epilogue of a register tile, from the kernel's arguments ``last, bias, residual, ldr, code, limits``.

    ``last == 0`` leaves the tile as it is (more blocks of k follow). `bias` is the address of one element per row
    or column, never 0; `residual` the address of the tile's first element in an array with row stride `ldr`, or 0.
    """

    def __init__(self, e: Emitter, arguments: Sequence[Value]) -> None:
        self.e = e
        self.last, self.bias, self.residual, self.ldr, self.code, self.limits = arguments

    def on_tile(self, values: Sequence[Value], rows: int, vectors: int, *, along: Along, mask: Any = None) -> list[Value]:
        """Emit it on ``rows x vectors`` values; of the residual's last vector, the lanes of `mask` are read if there is one."""
        e, b = self.e, self.e.b
        start = b.block
        finish, done = b.append_basic_block("finish"), b.append_basic_block("finished")
        b.cbranch(b.icmp_signed("!=", self.last, i64(0)), finish, done)
        b.position_at_end(finish)
        pointer = e.ptr(self.bias)
        if along == "rows":
            bias = [value for m in range(rows) for value in [e.broadcast(e.offset(pointer, m))] * vectors]
        else:
            bias = [e.load(e.offset(pointer, v * e.lanes)) for v in range(vectors)] * rows
        biased = [b.fadd(value, other) for value, other in zip(values, bias, strict=True)]
        summed = self._add_residual(biased, rows, vectors, mask)
        out = emit_epilogue(e, summed, code=self.code, limits=self.limits)
        end = b.block
        b.branch(done)
        b.position_at_end(done)
        merged = []
        for before, after in zip(values, out, strict=True):
            phi = b.phi(e.vector)
            phi.add_incoming(before, start)
            phi.add_incoming(after, end)
            merged.append(phi)
        return merged

    def _add_residual(self, values: list[Value], rows: int, vectors: int, mask: Any) -> list[Value]:
        e, b = self.e, self.e.b
        start = b.block
        add, done = b.append_basic_block("residual"), b.append_basic_block("summed")
        b.cbranch(b.icmp_signed("!=", self.residual, i64(0)), add, done)
        b.position_at_end(add)
        pointer = e.ptr(self.residual)
        out = []
        for m in range(rows):
            for v in range(vectors):
                where = e.offset(e.offset(pointer, b.mul(self.ldr, i64(m))), v * e.lanes)
                term = e.load(where) if mask is None or v < vectors - 1 else e.masked_load(where, mask)
                out.append(b.fadd(values[m * vectors + v], term))
        b.branch(done)
        b.position_at_end(done)
        merged = []
        for before, after in zip(values, out, strict=True):
            phi = b.phi(e.vector)
            phi.add_incoming(before, start)
            phi.add_incoming(after, add)
            merged.append(phi)
        return merged


def build_finish(module: Value, element: str, along: Along, target: Target | None = None) -> Value:
    """Write the kernel that moves a partial tile from scratch memory to its place; return its LLVM function.

    ``dst[m][n] (+)= src[m][n]``, then the epilogue, for m < rows and n < columns, any numbers; never touches
    memory outside.

    Arguments of the function, all i64, strides in elements::

        src, lds, dst, ldd, rows, columns, accumulate, last, bias, residual, ldr, code, limits

    `src` and, along columns, `bias` must be readable for whole vectors.
    """
    function, b = new_function(module, f"finish_{element}_by_{along}", 7 + EPILOGUE_ARGUMENTS)
    if b is None:
        return function
    e = Emitter(module, b, element, target)
    src, lds, dst, ldd, rows, columns, accumulate, last, bias, residual, ldr, code, limits = function.args
    size = i64(e.nbytes)

    def address(base: Value, element_offset: Value) -> Value:
        return b.add(base, b.mul(element_offset, size))

    def row(m: Value, _: list[Value]) -> list[Value]:
        def vector(v: Value, _: list[Value]) -> list[Value]:
            n = b.mul(v, i64(e.lanes))
            mask = e.as_mask(e.range_mask(i64(0), b.sub(columns, n)))
            value = e.load(e.ptr(address(src, b.add(b.mul(m, lds), n))))
            where = e.ptr(address(dst, b.add(b.mul(m, ldd), n)))
            value = e.plus_if(accumulate, value, functools.partial(e.masked_load, where, mask))
            here = b.select(b.icmp_signed("!=", residual, i64(0)), address(residual, b.add(b.mul(m, ldr), n)), i64(0))
            bias_here = address(bias, m if along == "rows" else n)
            [value] = Epilogue(e, (last, bias_here, here, ldr, code, limits)).on_tile([value], 1, 1, along=along, mask=mask)
            e.masked_store(value, where, mask)
            return []

        vectors = b.sdiv(b.add(columns, i64(e.lanes - 1)), i64(e.lanes))
        e.loop(vectors, [], vector, "vectors")
        return []

    e.loop(rows, [], row, "rows")
    b.ret_void()
    return function


def _finish_rows(module: Value, element: str) -> Value:
    return build_finish(module, element, "rows")


def _finish_columns(module: Value, element: str) -> Value:
    return build_finish(module, element, "columns")


#: `build_finish` in jitted code: ``finish_rows(like, src, lds, dst, ldd, rows, columns, accumulate, last, bias, residual,
#: ldr, code, limits)``, bias along the rows.
finish_rows = kernel_intrinsic(_finish_rows)
#: The same with the bias along the columns.
finish_columns = kernel_intrinsic(_finish_columns)


@jit
def activate(value: Any, code: int, low: Any, high: Any) -> Any:
    """Return the activation of one number, in jitted code; `low` and `high` matter for `CLAMP` only."""
    if code == NONE:
        return value
    if code == CLAMP:
        if value < low:
            return low
        if value > high:
            return high
        return value
    if code == SILU:
        return value / (1 + math.exp(-value))
    if code == SIGMOID:
        return 1 / (1 + math.exp(-value))
    if code == TANH:
        return math.tanh(value)
    return value * (0.5 * math.erfc(-value * math.sqrt(0.5)))


def apply_epilogue(
    y: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None = None,
    residual: npt.NDArray[Any] | None = None,
    activation: Activation = None,
) -> npt.NDArray[Any]:
    """Replace `y` by ``activation(y + bias + residual)`` in place, with NumPy; return it.

    Parameters
    ----------
    y : ndarray of shape (N, OC, OH, OW)
        Real or complex floating point, or integers (these with None, "relu", "relu6" or a clamp only).
    bias : ndarray of shape (OC,), optional
    residual : ndarray of shape (N, OC, OH, OW), optional
    activation : None, str or (low, high)
        As in `activation_code`.

    Returns
    -------
    ndarray
        `y` itself.
    """
    if bias is not None:
        y += bias[:, None, None]
    if residual is not None:
        y += residual
    code, low, high = activation_code(activation)
    if code == NONE:
        return y
    if code == CLAMP:
        # Not np.clip: integers have no infinity, and an absent limit must not change their type.
        if low != -math.inf:
            np.maximum(y, y.dtype.type(low), out=y)
        if high != math.inf:
            np.minimum(y, y.dtype.type(high), out=y)
        return y
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if code == TANH:
            np.tanh(y, out=y)
        elif code == GELU:
            y *= _normal_cdf(y)
        else:
            scale = 1 + np.exp(-y)
            np.divide(y if code == SILU else 1, scale, out=y)
    return y


@jit
def _normal_cdf_flat(x: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    for i in range(x.size):
        out[i] = 0.5 * math.erfc(-x[i] * math.sqrt(0.5))


def _normal_cdf(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the distribution function of the normal law, element by element (NumPy has no erf)."""
    flat = np.ascontiguousarray(x).ravel()
    out = np.empty_like(flat)
    _normal_cdf_flat(flat, out)
    return out.reshape(x.shape)
