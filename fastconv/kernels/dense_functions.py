"""The generated functions behind dense convolution, as a table of addresses for its driver.

The driver (`fastconv.kernels.dense`) calls them through their addresses: a function named in jitted code would be
compiled again in each function that calls it, directly or not, and the driver once for each element type.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels import dense_results, pack
from fastconv.kernels._jit import jit
from fastconv.kernels.epilogue import Along, build_finish
from fastconv.kernels.gemm import build_dispatch
from fastconv.kernels.simd import I64, PTR, Value, i64, keepalive, kernel_intrinsic, new_function

Array = npt.NDArray[Any]

# Numbers in the table.
(
    GEMM, FINISH_ROWS, FINISH_COLUMNS, PACK_ONE, PACK_TWO, PACK_MASKED, GATHER, COPY_1, COPY_2, COPY_ANY, TURN, BORDER, FILL,
    STORE_TURNED, GEMM_PACKS, JOIN_PARTS, GEMM_ROWS, GEMM_PLACED, FUNCTIONS,
) = range(19)  # fmt: skip


def _build_table(module: Value, element: str, side: int) -> Value:
    """Write ``f(out)``, which stores the addresses; `side` is where the pixels stand, see `fastconv.kernels.pack`."""
    function, b = new_function(module, f"dense_table_{element}_{side}", 1)
    if b is None:
        return function
    along: Along = "rows" if side == pack.COLUMNS else "columns"
    functions = {
        GEMM: build_dispatch(module, element, "packed", along, prefetch=side == pack.ROWS, masked=side == pack.ROWS, repeat=True),
        FINISH_ROWS: build_finish(module, element, "rows"),
        FINISH_COLUMNS: build_finish(module, element, "columns"),
        PACK_ONE: pack.build_pack(module, element, side, "one"),
        PACK_TWO: pack.build_pack(module, element, side, "two"),
        PACK_MASKED: pack.build_pack(module, element, side, "masked"),
        GATHER: pack.build_gather(module, element),
        COPY_1: pack.build_copy(module, element, 1),
        COPY_2: pack.build_copy(module, element, 2),
        COPY_ANY: pack.build_copy(module, element, 0),
        TURN: pack.build_turn(module, element),
        BORDER: pack.build_border(module, element),
        FILL: pack.build_fill(module, element),
        STORE_TURNED: dense_results.build_store_turned(module, element),
    }
    if side == pack.COLUMNS:
        functions[GEMM_PACKS] = build_dispatch(module, element, "packed", along, packs=True)
        functions[GEMM_PLACED] = build_dispatch(module, element, "packed", along, placed=True, repeat=True)
        functions[JOIN_PARTS] = dense_results.build_join_parts(module, element)
    else:
        functions[GEMM_ROWS] = build_dispatch(module, element, "rows", along, prefetch=True, masked=True, repeat=True)
    out = b.inttoptr(function.args[0], PTR)
    for number, target in functions.items():
        b.store(b.ptrtoint(target, I64), b.gep(out, [i64(number)], source_etype=I64), align=8)
    b.ret_void()
    return function


_store_addresses = kernel_intrinsic(_build_table, literals=1)


@jit
def _pixels_table(like: Array, out: Array) -> None:
    _store_addresses(like, 0, out.ctypes.data)
    keepalive(out)


@jit
def _channels_table(like: Array, out: Array) -> None:
    _store_addresses(like, 1, out.ctypes.data)
    keepalive(out)


@functools.cache
def functions(dtype: str, *, is_pixels: bool) -> npt.NDArray[Any]:
    """Return the table for an element type and a design; compiles on first use. The code lives as long as the process."""
    out = np.zeros(FUNCTIONS, np.int64)
    (_pixels_table if is_pixels else _channels_table)(np.empty(1, dtype), out)
    return out
