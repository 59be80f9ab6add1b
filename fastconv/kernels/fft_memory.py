"""Numbers at addresses, in jitted code: a driver with a few addresses compiles several times faster than with as many arrays.

`like` is a number whose type is that of the elements.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastconv.kernels.simd import PTR


@intrinsic  # type: ignore[untyped-decorator]
def peek(typingctx: Any, like: Any, address: Any) -> Any:  # noqa: ARG001
    """Return the element at an address, in jitted code."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[1], PTR)
        return builder.load(pointer, typ=context.get_value_type(signature.return_type), align=like.bitwidth // 8)

    return like(like, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def poke(typingctx: Any, like: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    """Store an element at an address, in jitted code."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        builder.store(values[2], builder.inttoptr(values[1], PTR), align=like.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(like, types.intp, like), codegen


@intrinsic  # type: ignore[untyped-decorator]
def cast(typingctx: Any, like: Any, value: Any) -> Any:  # noqa: ARG001
    """Return `value` as an element, in jitted code."""
    value = types.unliteral(value)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return context.cast(builder, values[1], value, like)

    return like(like, value), codegen
