"""Generated functions called through their addresses, so that one compiled driver serves many variants.

A driver that names a generated function is compiled anew for each variant of it. Where the variants share their
argument list, the driver takes the function's address as one more integer: the variants, a few dozen
instructions each, are compiled on their own and the driver once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.kernels.simd import I64, PTR
from fastconv.kernels.spec import spec_values


def address_intrinsic(build: Callable[..., Any]) -> Any:
    """Make an intrinsic ``f(spec) -> intp``: the address of the function that `build` writes.

    `build` is ``build(module, element, *values) -> ir.Function`` with i64 arguments, returning nothing. The
    machine code lives as long as the jitted function that asked for the address: keep that one in a module.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def address(typingctx: Any, spec: Any) -> Any:  # noqa: ARG001
        element, values = spec_values(spec.dtype)

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.ptrtoint(build(builder.module, element, *values), I64)

        return types.intp(spec), codegen

    return address


def _call_function(typingctx: Any, address: Any, *args: Any) -> Any:  # noqa: ARG001
    """Call the function at `address` with integer arguments; it returns nothing."""
    signature = types.void(types.intp, types.StarArgTuple.from_types((types.intp,) * len(args)))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        values = cgutils.unpack_tuple(builder, arguments[1])
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(values))
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return signature, codegen


def _word(typingctx: Any, address: Any, index: Any) -> Any:  # noqa: ARG001
    """Return the 64-bit integer number `index` of the table at `address`.

    Drivers that hand tables on as addresses compile in half the time of ones that hand on arrays.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        base = builder.inttoptr(arguments[0], PTR)
        return builder.load(builder.gep(base, [arguments[1]], source_etype=I64), typ=I64, align=8)

    return types.int64(types.int64, types.int64), codegen


def _set_word(typingctx: Any, address: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
    """Store a 64-bit integer as number `index` of the table at `address`."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        base = builder.inttoptr(arguments[0], PTR)
        builder.store(arguments[2], builder.gep(base, [arguments[1]], source_etype=I64), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


#: ``word(address, index)`` and ``set_word(address, index, value)`` in jitted code.
word: Any = intrinsic(_word)
set_word: Any = intrinsic(_set_word)
#: ``call_function(address, *arguments)`` in jitted code.
call_function: Any = intrinsic(_call_function)
