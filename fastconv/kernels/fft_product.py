"""Complex matrix products at each frequency: C[row][lanes] = sum over k of A[row][k] * B[k][lanes].

One micro-kernel serves both ways to place the lanes (see `fastconv.kernels.fft_lanes`): A is broadcast, number by number,
from elements whose lanes are k; B and C are vectors of elements. Four real products each: three (Gauss) would take
half as many loads again for the same register tile, and more spectrum to read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv.kernels._jit import jit
from fastconv.kernels.fft_butterflies import element_nbytes
from fastconv.kernels.function_pointers import address_intrinsic, call_function, set_word, word
from fastconv.kernels.simd import Emitter, Value, i64, new_function
from fastconv.kernels.spec import spec_array

#: Rows of the register tile: 2 accumulators each, beside two vectors of B and two broadcasts of A, fill 16 registers.
MAX_ROWS = 6
#: Up to this many rows, each of the four products has its own accumulator, to hide the latency of the FMAs.
SPLIT_ROWS = 3


def build_product(module: Value, element: str, rows: int) -> Value:
    """Write the micro-kernel for `rows` rows; return its LLVM function.

    Arguments: a, a_row, b, c, c_row, k; addresses and strides in bytes. A[row][k] is lane ``k % lanes`` of element
    ``k // lanes`` from ``a + row*a_row`` on; B[k] is element k from `b` on; C[row] is the element at ``c + row*c_row``.
    8*rows*lanes*k flops.
    """
    function, b = new_function(module, f"fft_product_{element}_{rows}", 6)
    if b is None:
        return function
    e = Emitter(module, b, element)
    a, a_row, b_at, c, c_row, k = function.args
    nbytes = element_nbytes(e)
    width = e.lanes * e.nbytes
    parts = 4 if rows <= SPLIT_ROWS else 2

    def step(a_here: Value, b_here: Value, sums: list[Value]) -> list[Value]:
        p = e.ptr(b_here)
        ur, ui = e.load(p, width), e.load(e.offset(p, e.lanes), width)
        out = []
        for row in range(rows):
            q = e.ptr(b.add(a_here, b.mul(a_row, i64(row))))
            vr, vi = e.broadcast(q), e.broadcast(e.offset(q, e.lanes))
            own = sums[parts * row : parts * (row + 1)]
            if parts == 4:
                out += [e.fma(vr, ur, own[0]), e.fma(vr, ui, own[1]), e.fma(vi, ui, own[2]), e.fma(vi, ur, own[3])]
            else:
                re, im = e.fma(vr, ur, own[0]), e.fma(vr, ui, own[1])
                out += [e.fnma(vi, ui, re), e.fma(vi, ur, im)]
        return out

    def block(i: Value, carried: list[Value]) -> list[Value]:
        left = b.sub(k, b.mul(i, i64(e.lanes)))
        count = b.select(b.icmp_signed("<", left, i64(e.lanes)), left, i64(e.lanes))
        start = b.add(a, b.mul(i, i64(nbytes)))

        def turn(j: Value, inner: list[Value]) -> list[Value]:
            return [b.add(inner[0], i64(nbytes)), *step(b.add(start, b.mul(j, i64(e.nbytes))), inner[0], inner[1:])]

        return e.loop(count, carried, turn, "k")

    blocks = b.sdiv(b.add(k, i64(e.lanes - 1)), i64(e.lanes))
    _, *sums = e.loop(blocks, [b_at, *[e.zero()] * (parts * rows)], block, "block")
    for row in range(rows):
        own = sums[parts * row : parts * (row + 1)]
        re, im = (b.fsub(own[0], own[2]), b.fadd(own[1], own[3])) if parts == 4 else own
        p = e.ptr(b.add(c, b.mul(c_row, i64(row))))
        e.store(re, p, width)
        e.store(im, e.offset(p, e.lanes), width)
    b.ret_void()
    return function


_address = address_intrinsic(build_product)


@jit
def _product_addresses(one, two, three, four, five, six, out):  # type: ignore[no-untyped-def]
    set_word(out, 1, _address(one))
    set_word(out, 2, _address(two))
    set_word(out, 3, _address(three))
    set_word(out, 4, _address(four))
    set_word(out, 5, _address(five))
    set_word(out, 6, _address(six))


def product_functions(element: str) -> npt.NDArray[np.int64]:
    """Return the addresses of the micro-kernels by number of rows (0 = none)."""
    out = np.zeros(MAX_ROWS + 1, np.int64)
    one, two, three, four, five, six = (spec_array(element, rows) for rows in range(1, MAX_ROWS + 1))
    _product_addresses(one, two, three, four, five, six, out.ctypes.data)
    return out


@jit
def product(functions, rows, a, a_row, b, c, c_row, k):  # type: ignore[no-untyped-def]
    """Compute `rows` rows of C, in register tiles of about equal height; see `build_product`.

    `functions` is the address of the table of `product_functions`.
    """
    tiles = (rows + MAX_ROWS - 1) // MAX_ROWS
    done = 0
    for i in range(tiles):
        height = (rows - done + tiles - i - 1) // (tiles - i)
        call_function(word(functions, height), a + done * a_row, a_row, b, c + done * c_row, c_row, k)
        done += height
