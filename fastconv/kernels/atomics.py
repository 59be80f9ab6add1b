"""Atomic operations on 64-bit words at raw addresses, and calls of native functions, for jitted code.

No C compiler and no run-time library: LLVM turns each into the instructions of the CPU. Addresses are int64
values; each word must be 8-byte aligned (not checked here). Orderings are those of C++11; every shared word is
read and written by an atomic operation, because a plain load may be moved or repeated by the compiler.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I32, I64 = ir.IntType(32), ir.IntType(64)
PTR = ir.PointerType()
VOID = ir.VoidType()

IS_X86 = platform.machine().lower() in {"x86_64", "amd64", "i686", "i386"}
IS_ARM64 = platform.machine().lower() in {"aarch64", "arm64"}
#: The bits of x86's MXCSR that are sticky flags, not control.
_MXCSR_FLAGS = 0x3F

Value = Any  # llvmlite has no type stubs


def _word_intrinsic(arguments: int, emit: Callable[..., Value], *, returns: bool = True) -> Any:
    """Make an intrinsic of `arguments` int64 arguments from ``emit(builder, *values) -> value``."""
    result = types.int64 if returns else types.void

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typingctx: Any, *args: Any) -> Any:  # noqa: ARG001
        if len(args) != arguments:
            return None
        packed = types.StarArgTuple.from_types((types.int64,) * arguments)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            words = [builder.extract_value(values[0], k) for k in range(arguments)]
            value = emit(builder, *words)
            return value if returns else context.get_dummy_value()

        return result(packed), codegen

    return operation


def _word(b: Value, address: Value) -> Value:
    return b.inttoptr(address, I64.as_pointer())


def _load(ordering: str) -> Any:
    return _word_intrinsic(1, lambda b, address: b.load_atomic(_word(b, address), ordering, 8))


def _store(ordering: str) -> Any:
    return _word_intrinsic(2, lambda b, address, value: b.store_atomic(value, _word(b, address), ordering, 8), returns=False)


def _update(operation: str) -> Any:
    return _word_intrinsic(2, lambda b, address, value: b.atomic_rmw(operation, _word(b, address), value, "seq_cst"))


#: ``load_*(address) -> word``.
load_relaxed, load_acquire, load_seq_cst = _load("monotonic"), _load("acquire"), _load("seq_cst")
#: ``store_*(address, word)``.
store_relaxed, store_release = _store("monotonic"), _store("release")
#: ``exchange(address, word) -> old word`` and the like, sequentially consistent.
exchange, fetch_add, fetch_and, fetch_or = _update("xchg"), _update("add"), _update("and"), _update("or")


def _emit_compare_and_swap(b: Value, address: Value, expected: Value, new: Value) -> Value:
    pair = b.cmpxchg(_word(b, address), expected, new, "seq_cst", "seq_cst")
    return b.zext(b.extract_value(pair, 1), I64)


#: ``compare_and_swap(address, expected, new) -> 1`` where swapped, else 0; sequentially consistent.
compare_and_swap = _word_intrinsic(3, _emit_compare_and_swap)


def _declare(b: Value, name: str, result: Value, arguments: Sequence[Value]) -> Value:
    function = b.module.globals.get(name)
    return function or ir.Function(b.module, ir.FunctionType(result, list(arguments)), name)


def _emit_spin_hint(b: Value) -> None:
    if IS_X86:
        b.call(_declare(b, "llvm.x86.sse2.pause", VOID, []), [])
    elif IS_ARM64:
        b.call(_declare(b, "llvm.aarch64.hint", VOID, [I32]), [ir.Constant(I32, 1)])


#: ``spin_hint()`` tells the CPU that this is a waiting loop; nothing on CPUs without such a hint.
spin_hint = _word_intrinsic(0, _emit_spin_hint, returns=False)


def _emit_read_fp_control(b: Value) -> Value:
    if IS_X86:
        slot = b.alloca(I32)
        b.call(_declare(b, "llvm.x86.sse.stmxcsr", VOID, [PTR]), [slot])
        return b.and_(b.zext(b.load(slot, typ=I32), I64), ir.Constant(I64, ~_MXCSR_FLAGS))
    if IS_ARM64:
        return b.call(_declare(b, "llvm.aarch64.get.fpcr", I64, []), [])
    return ir.Constant(I64, 0)


def _emit_write_fp_control(b: Value, word: Value) -> None:
    if IS_X86:
        slot = b.alloca(I32)
        b.store(b.trunc(word, I32), slot)
        b.call(_declare(b, "llvm.x86.sse.ldmxcsr", VOID, [PTR]), [slot])
    elif IS_ARM64:
        b.call(_declare(b, "llvm.aarch64.set.fpcr", VOID, [I64]), [word])


#: ``read_fp_control() -> word`` and ``write_fp_control(word)``: rounding mode and flush-to-zero of this thread.
read_fp_control = _word_intrinsic(0, _emit_read_fp_control)
write_fp_control = _word_intrinsic(1, _emit_write_fp_control, returns=False)


def native_call(result: Value, parameters: Sequence[Value]) -> Any:
    """Make an intrinsic ``f(function_address, *int64 arguments) -> int64`` that calls a native function.

    Parameters
    ----------
    result : llvmlite.ir.Type
        What it returns: an integer type, or void (the intrinsic then returns 0).
    parameters : sequence of llvmlite.ir.Type
        Integer types or PTR.
    """

    def emit(b: Value, address: Value, *words: Value) -> Value:
        function = b.inttoptr(address, ir.FunctionType(result, list(parameters)).as_pointer())
        arguments = []
        for kind, word in zip(parameters, words, strict=True):
            if kind == PTR:
                arguments.append(b.inttoptr(word, PTR))
            else:
                arguments.append(b.trunc(word, kind) if kind.width < 64 else word)
        value = b.call(function, arguments)
        if result == VOID:
            return ir.Constant(I64, 0)
        return b.sext(value, I64) if result.width < 64 else value

    return _word_intrinsic(1 + len(parameters), emit)
