"""Numbers at addresses, in jitted code: a driver with a few addresses compiles several times faster than with as many arrays."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastconv.kernels.simd import I64, PTR


@intrinsic  # type: ignore[untyped-decorator]
def peek(typingctx: Any, like: Any, address: Any) -> Any:  # noqa: ARG001
    """Return the element at an address, in jitted code; `like` picks its type."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[1], PTR)
        return builder.load(pointer, typ=context.get_value_type(signature.return_type), align=like.dtype.bitwidth // 8)

    return like.dtype(like, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def poke(typingctx: Any, like: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    """Store an element of the type of `like` at an address, in jitted code."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        builder.store(values[2], builder.inttoptr(values[1], PTR), align=like.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(like, types.intp, like.dtype), codegen


@intrinsic  # type: ignore[untyped-decorator]
def word(typingctx: Any, address: Any, index: Any) -> Any:  # noqa: ARG001
    """Return the i64 number `index` of the table at an address, in jitted code."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        pointer = builder.gep(builder.inttoptr(values[0], PTR), [values[1]], source_etype=I64)
        return builder.load(pointer, typ=I64, align=8)

    return types.int64(types.intp, types.intp), codegen
