"""Rows of any real dtype into the dtype of sums, and sums into any real dtype as C casts them.

The dtypes are told apart when the code runs, row by row, so that the loops around these functions are compiled once
and not once for each pair of dtypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import config

from fastconv.kernels.simd import I64, Emitter, Value, i64, kernel_intrinsic, new_function

#: The dtypes; their positions are the `kind` that the functions take.
KINDS = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


def _type(kind: str) -> Value:
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return ir.FloatType() if dtype.itemsize == 4 else ir.DoubleType()
    return ir.IntType(8 * dtype.itemsize)


def _to_sum(e: Emitter, value: Value, kind: str) -> Value:
    if kind[0] == "i":
        return e.b.sitofp(value, e.scalar)
    if kind[0] == "u":
        return e.b.uitofp(value, e.scalar)
    return _resized(e, value, np.dtype(kind).itemsize, e.nbytes, e.scalar)


def _from_sum(e: Emitter, value: Value, kind: str) -> Value:
    if kind[0] == "f":
        return _resized(e, value, e.nbytes, np.dtype(kind).itemsize, _type(kind))
    # C casts through int, or through the next wider type where int is too small.
    wide = ir.IntType(64 if kind in {"uint32", "int64"} else 32)
    whole = e.b.fptosi(value, wide)
    return whole if _type(kind) == wide else e.b.trunc(whole, _type(kind))


def _resized(e: Emitter, value: Value, old: int, new: int, scalar: Value) -> Value:
    if old == new:
        return value
    return e.b.fpext(value, scalar) if old < new else e.b.fptrunc(value, scalar)


def _for_each_kind(module: Value, element: str, name: str, arguments: int, body: Callable[[Emitter, str, Value], None]) -> Value:
    """Write a function whose first argument picks what `body` writes for that kind."""
    function, b = new_function(module, f"rows_{name}_{element}", arguments)
    if b is None:
        return function
    e = Emitter(module, b, element)
    done = b.append_basic_block("done")
    choice = b.switch(function.args[0], done)
    for number, kind in enumerate(KINDS):
        case = b.append_basic_block(kind)
        choice.add_case(i64(number), case)
        b.position_at_end(case)
        body(e, kind, function)
        b.branch(done)
    b.position_at_end(done)
    b.ret_void()
    return function


def build_load(module: Value, element: str) -> Value:
    """Write ``dst[j] = src[j]``. Arguments: kind of src, src, dst, count."""

    def body(e: Emitter, kind: str, function: Value) -> None:
        _, src, dst, count = function.args

        def convert(j: Value, _: list[Value]) -> list[Value]:
            e.b.store(_to_sum(e, _element(e, src, j, kind), kind), e.offset(e.ptr(dst), j), align=e.nbytes)
            return []

        e.loop(count, [], convert, kind)

    return _for_each_kind(module, element, "load", 4, body)


def build_gather(module: Value, element: str) -> Value:
    """Write ``dst[j] = src[max(places[j], 0)]``. Arguments: kind of src, src, places (int64), dst, count."""

    def body(e: Emitter, kind: str, function: Value) -> None:
        _, src, places, dst, count = function.args

        def convert(j: Value, _: list[Value]) -> list[Value]:
            place = e.b.load(e.b.gep(e.ptr(places), [j], source_etype=I64), typ=I64, align=8)
            place = e.b.select(e.b.icmp_signed("<", place, i64(0)), i64(0), place)
            e.b.store(_to_sum(e, _element(e, src, place, kind), kind), e.offset(e.ptr(dst), j), align=e.nbytes)
            return []

        e.loop(count, [], convert, kind)

    return _for_each_kind(module, element, "gather", 5, body)


def build_store(module: Value, element: str) -> Value:
    """Write ``dst[j] = src[j]`` from sums. Arguments: kind of dst, src, dst, count."""

    def body(e: Emitter, kind: str, function: Value) -> None:
        _, src, dst, count = function.args

        def convert(j: Value, _: list[Value]) -> list[Value]:
            value = _from_sum(e, e.load_scalar(e.offset(e.ptr(src), j)), kind)
            e.b.store(value, e.b.gep(e.ptr(dst), [j], source_etype=_type(kind)), align=np.dtype(kind).itemsize)
            return []

        e.loop(count, [], convert, kind)

    return _for_each_kind(module, element, "store", 4, body)


def _element(e: Emitter, src: Value, j: Value, kind: str) -> Value:
    return e.b.load(e.b.gep(e.ptr(src), [j], source_etype=_type(kind)), typ=_type(kind), align=np.dtype(kind).itemsize)


def memory(address: int, count: int, dtype: Any) -> Any:
    """Return `count` elements at an address as an array, for code that runs without the compiler."""
    nbytes = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * nbytes).from_address(int(address)), dtype) if nbytes else np.empty(0, dtype)


def _plain_load(like: Any, kind: int, src: int, dst: int, count: int) -> None:
    memory(dst, count, like.dtype)[:] = memory(src, count, KINDS[kind])


def _plain_gather(like: Any, kind: int, src: int, places: int, dst: int, count: int) -> None:
    chosen = np.maximum(memory(places, count, np.int64), 0)
    memory(dst, count, like.dtype)[:] = memory(src, int(chosen.max(initial=-1)) + 1, KINDS[kind])[chosen]


def _plain_store(like: Any, kind: int, src: int, dst: int, count: int) -> None:
    name = KINDS[kind]
    wide = name if name[0] == "f" else "int64" if name in {"uint32", "int64"} else "int32"
    with np.errstate(all="ignore"):
        memory(dst, count, name)[:] = memory(src, count, like.dtype).astype(wide).astype(name)


#: In jitted code ``load(like, kind, src, dst, count)`` and so on: `like` is any array of the sums' dtype, the rest integers.
load: Any = _plain_load if config.DISABLE_JIT else kernel_intrinsic(build_load)
gather: Any = _plain_gather if config.DISABLE_JIT else kernel_intrinsic(build_gather)
store: Any = _plain_store if config.DISABLE_JIT else kernel_intrinsic(build_store)
