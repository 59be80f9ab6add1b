"""Byte-wise comparison of two memory blocks: whether weights changed since they were packed."""

from __future__ import annotations

import ctypes

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels._jit import jit
from fastconv.kernels.simd import I1, I8, I64, PTR, Value, i64

#: Words compared between two looks at the result; a multiple of any vector, so that LLVM vectorises the loop.
BLOCK_WORDS = 64


def _differs(module: Value) -> Value:
    """Write ``i1 f(a, b, words)``: whether any of `words` 64-bit words at two addresses differ, without early exit."""
    name = "fastconv_words_differ"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(I1, [I64, I64, I64]), name)
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block("entry"))
    first, second = (b.inttoptr(argument, PTR) for argument in function.args[:2])
    words = function.args[2]
    total = cgutils.alloca_once_value(b, i64(0))
    with cgutils.for_range(b, words) as turn:
        x, y = (b.load(b.gep(p, [turn.index], source_etype=I64), typ=I64, align=1) for p in (first, second))
        b.store(b.or_(b.load(total, typ=I64), b.xor(x, y)), total)
    b.ret(b.icmp_unsigned("!=", b.load(total, typ=I64), i64(0)))
    return function


@intrinsic
def words_differ(typingctx, a, b, words):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001
    """Return whether two runs of 64-bit words at the addresses `a` and `b` differ."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG001
        return builder.call(_differs(builder.module), values)

    return types.boolean(types.intp, types.intp, types.intp), codegen


@intrinsic
def byte_at(typingctx, address):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001
    """Return the byte at `address`."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG001
        return builder.load(builder.inttoptr(values[0], PTR), typ=I8, align=1)

    return types.uint8(types.intp), codegen


def same_bytes(a: int, b: int, nbytes: int) -> bool:
    """Tell whether `nbytes` bytes at the addresses `a` and `b` are equal."""
    if config.DISABLE_JIT:
        return ctypes.string_at(a, nbytes) == ctypes.string_at(b, nbytes)
    return _same_bytes(a, b, nbytes)


@jit
def _same_bytes(a: int, b: int, nbytes: int) -> bool:
    """Tell whether `nbytes` bytes at the addresses `a` and `b` are equal.

    Notes
    -----
    Preconditions are not checked here: both blocks hold `nbytes` bytes. Stops after the first block of 512 bytes
    that differs; reads 2*nbytes bytes otherwise.
    """
    words = nbytes // 8
    done = 0
    while done < words:
        step = min(BLOCK_WORDS, words - done)
        if words_differ(a + done * 8, b + done * 8, step):
            return False
        done += step
    for i in range(words * 8, nbytes):  # noqa: SIM110  Numba compiles no generator expression here
        if byte_at(a + i) != byte_at(b + i):
            return False
    return True
