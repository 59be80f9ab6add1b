"""The GEMM-shaped micro-kernel: a register tile of accumulators, one operand broadcast, the other in vectors.

Dense convolution, the products of Winograd and those of the FFT all end in the code generated here::

    C[m][n] (+)= sum over k of  A[m][k] * B[k][n]        m < rows,  n < columns = vectors * lanes

A is read one element at a time and broadcast, B in whole vectors from a packed panel, C stays in registers
until the last k. The tile's size comes from the target's registers: 6 x 2 vectors of 8 on AVX2.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from llvmlite import ir

from fastconv.kernels.epilogue import EPILOGUE_ARGUMENTS, Along, Epilogue
from fastconv.kernels.simd import I64, Emitter, Value, i64, new_function
from fastconv.kernels.target import Target, host

#: Latency of a fused multiply-add times the pipes that execute it: fewer independent sums than this leave pipes idle.
INDEPENDENT_SUMS = 8
#: Steps of k in one turn of the inner loop.
UNROLL = 4

Operand = Literal["packed", "rows"]



@dataclass(frozen=True)
class RegisterTile:
    """The largest tile of accumulators that fits the registers.

    Attributes
    ----------
    rows : int
        Elements of A per step: the height of the tile. Any smaller height can be generated too.
    vectors : int
        Vectors of B per step.
    columns : int
        ``vectors * lanes``: the width of a packed panel of B, in elements.
    """

    rows: int
    vectors: int
    columns: int

    @property
    def heights(self) -> tuple[int, ...]:
        """Heights for which kernels are generated: all, or on large register files the even ones above 4."""
        return tuple(h for h in range(1, self.rows + 1) if self.rows <= 8 or h <= 4 or h % 2 == 0)

    @property
    def widths(self) -> tuple[int, ...]:
        """Vector counts for which kernels are generated: halved down from the full width to one vector."""
        out = [self.vectors]
        while out[-1] > 1:
            out.append(out[-1] // 2)
        return tuple(out)


def register_tile(itemsize: int, target: Target | None = None, *, complex_values: bool = False) -> RegisterTile:
    """Return the register tile for real elements of `itemsize` bytes (complex: re and im planes of such).

    Two vectors of B and as many rows as leave registers for these and one broadcast; with 32 registers of 16
    bytes four vectors, so that a panel row is still one cache line. Complex accumulators come in pairs.
    """
    target = host() if target is None else target
    lanes = target.lanes(itemsize)
    vectors = 4 if target.registers >= 32 and target.vector_nbytes <= 16 else 2
    if complex_values:
        vectors //= 2
    parts = 2 if complex_values else 1
    rows = (target.registers - vectors * parts - 1) // (vectors * parts)
    return RegisterTile(rows, vectors, vectors * lanes)


def tile_cost(rows: int, vectors: int) -> float:
    """Return the cycles per step of k of a tile on a core with two FMA pipes and two to three loads a cycle.

    The larger of the multiply-adds over two pipes and the operand loads over 2.5 ports, plus the loop's share.
    """
    return max(rows * vectors / 2, (rows + vectors) / 2.5, 1.0) + 0.15


@functools.lru_cache(maxsize=1024)
def row_tiles(extent: int, heights: tuple[int, ...], vectors: int) -> tuple[int, ...]:
    """Cut `extent` rows into tile heights with the least total of `tile_cost`, higher tiles first."""
    # The highest tile is the cheapest per row; only the last few tiles are worth a search.
    highest = max(heights)
    whole = max(0, extent // highest - len(heights))
    extent -= whole * highest
    best: list[tuple[float, int]] = [(0.0, 0)]
    for m in range(1, extent + 1):
        best.append(min((best[m - h][0] + tile_cost(h, vectors), -h) for h in heights if h <= m))
    out = [highest] * whole
    while extent:
        out.append(-best[extent][1])
        extent -= out[-1]
    return tuple(sorted(out, reverse=True))


def build_microkernel(
    module: Value,
    element: str,
    rows: int,
    vectors: int,
    *,
    panel_vectors: int | None = None,
    a: Operand = "packed",
    complex_values: bool = False,
    prefetch: bool = False,
    epilogue: Along | None = None,
    unroll: int = UNROLL,
    target: Target | None = None,
) -> Value:
    """Write the kernel of one tile size; return its LLVM function.

    Arguments of the function, all i64, strides in elements, in this order::

        a, lda, b, c, ldc, k, accumulate
        [a_imag, c_imag]                        complex_values
        [next_panel, next_step]                 prefetch
        [last, bias, residual, ldr, code, limits]   epilogue

    Parameters
    ----------
    module : llvmlite.ir.Module
    element : str
        "float32" or "float64"; with `complex_values` the type of the real and of the imaginary part.
    rows, vectors : int
        Size of the tile.
    panel_vectors : int, optional
        Vectors in one row of B's panel, if more than the tile uses.
    a : {"packed", "rows"}
        "packed": A[m][k] at ``a + k*rows + m`` (`lda` is not read). "rows": at ``a + m*lda + k``.
    complex_values : bool
        A's imaginary part lies `a_imag` elements behind its real part, C's `c_imag` behind; a row of B's panel
        holds all real parts, then all imaginary parts: ``[k][re | im][panel_vectors * lanes]``.
    prefetch : bool
        Ask for the byte address ``next_panel + i * next_step`` at each step i: the next panel of B, spread evenly.
    epilogue : {"rows", "columns"}, optional
        With ``last != 0`` the tile ends with ``activation(C + bias + residual)``; bias has one element per row
        (or per column) of the tile, see `fastconv.kernels.epilogue`.
    unroll : int
        Steps of k per turn of the loop, a power of two.
    target : Target, optional

    Notes
    -----
    Not checked: `k` >= 0; A holds ``rows x k`` and B ``k`` full panel rows; C can be written for all ``rows x columns``
    (a partial tile goes to scratch memory, see `fastconv.kernels.epilogue.build_finish`). ``accumulate != 0``
    adds to what C holds. The sum of one element of C has a fixed order, which depends on the size of the tile only.

    **Complexity** ``2*rows*columns*k`` flops (times 4 if complex); per step ``rows`` broadcasts and ``vectors`` vector loads.

    Source: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008).
    """
    panel_vectors = vectors if panel_vectors is None else panel_vectors
    parts = 2 if complex_values else 1
    flags = ("_z" * complex_values) + ("_pf" * prefetch) + (f"_by_{epilogue}" if epilogue else "")
    name = f"gemm_{element}_{rows}x{vectors}of{panel_vectors}_{a}{flags}_u{unroll}"
    count = 7 + 2 * complex_values + 2 * prefetch + (EPILOGUE_ARGUMENTS if epilogue else 0)
    function, b = new_function(module, name, count)
    if b is None:
        return function
    e = Emitter(module, b, element, target)
    args = list(function.args)
    arg_a, lda, arg_b, arg_c, ldc, steps, accumulate = args[:7]
    rest = args[7:]
    a_imag = c_imag = i64(0)
    if complex_values:
        a_imag, c_imag, *rest = rest
    next_panel = next_step = i64(0)
    if prefetch:
        next_panel, next_step, *rest = rest

    c_rows = [e.offset(e.ptr(arg_c), b.mul(ldc, i64(m))) for m in range(rows)]
    for pointer in c_rows:
        e.prefetch(pointer, write=True)
        if complex_values:
            e.prefetch(e.offset(pointer, c_imag), write=True)

    sums = rows * vectors * parts
    sets = 1
    while sets * sums < INDEPENDENT_SUMS and sets < unroll and 2 * sets * sums + vectors * parts + 2 <= e.target.registers:
        sets *= 2
    row_width = panel_vectors * e.lanes
    a_pointer, b_pointer = e.ptr(arg_a), e.ptr(arg_b)
    if a == "rows":
        a_rows = [[e.offset(a_pointer, b.add(b.mul(lda, i64(m)), imag)) for m in range(rows)] for imag in (i64(0), a_imag)[:parts]]
    else:
        a_rows = [[e.offset(a_pointer, imag) for _ in range(rows)] for imag in (i64(0), a_imag)[:parts]]

    def element_of_a(k: Value, u: int, m: int, part: int) -> Value:
        if a == "rows":
            return e.broadcast(e.offset(e.offset(a_rows[part][m], k), u))
        return e.broadcast(e.offset(e.offset(a_rows[part][m], b.mul(k, i64(rows))), u * rows + m))

    def step(k: Value, u: int, acc: list[Value]) -> list[Value]:
        row = e.offset(b_pointer, b.mul(k, i64(row_width * parts)))
        panel = [
            [e.load(e.offset(row, (u * parts + part) * row_width + v * e.lanes)) for v in range(vectors)]
            for part in range(parts)
        ]
        if prefetch:
            e.prefetch(e.ptr(b.add(next_panel, b.mul(b.add(k, i64(u)), next_step))), locality=2)
        out = list(acc)
        for m in range(rows):
            at = m * vectors * parts
            real = element_of_a(k, u, m, 0)
            for part in range(parts):
                for v in range(vectors):
                    i = at + part * vectors + v
                    out[i] = e.fma(real, panel[part][v], out[i])
            if complex_values:
                imag = element_of_a(k, u, m, 1)
                for v in range(vectors):
                    out[at + v] = e.fnma(imag, panel[1][v], out[at + v])
                    out[at + vectors + v] = e.fma(imag, panel[0][v], out[at + vectors + v])
        return out

    def turn(width: int, first: Value | None) -> object:
        def body(i: Value, acc: list[Value]) -> list[Value]:
            k = b.mul(i, i64(width)) if first is None else b.add(i, first)
            acc = list(acc)
            for u in range(width):
                at = u % sets * sums
                acc[at : at + sums] = step(k, u, acc[at : at + sums])
            return acc

        return body

    shift = i64(unroll.bit_length() - 1)
    turns = b.ashr(steps, shift)
    acc = e.loop(turns, [e.zero()] * (sums * sets), turn(unroll, None), "steps")
    acc = e.loop(b.and_(steps, i64(unroll - 1)), acc, turn(1, b.shl(turns, shift)), "rest")
    while len(acc) > sums:
        half = len(acc) // 2
        acc = [b.fadd(p, q) for p, q in zip(acc[:half], acc[half:], strict=True)]

    where = [
        e.offset(c_rows[m], v * e.lanes) if part == 0 else e.offset(e.offset(c_rows[m], c_imag), v * e.lanes)
        for m in range(rows)
        for part in range(parts)
        for v in range(vectors)
    ]
    acc = _add_old(e, acc, where, accumulate)
    if epilogue:
        acc = Epilogue(e, rest).on_tile(acc, rows, vectors, along=epilogue)
    for value, pointer in zip(acc, where, strict=True):
        e.store(value, pointer)
    b.ret_void()
    return function


def _add_old(e: Emitter, values: list[Value], where: list[Value], accumulate: Value) -> list[Value]:
    """Return `values`, plus what memory holds `where` if `accumulate` is not 0."""
    b = e.b
    before = b.block
    add, after = b.append_basic_block("accumulate"), b.append_basic_block("accumulated")
    b.cbranch(b.icmp_signed("!=", accumulate, i64(0)), add, after)
    b.position_at_end(add)
    sums = [b.fadd(value, e.load(pointer)) for value, pointer in zip(values, where, strict=True)]
    b.branch(after)
    b.position_at_end(after)
    out = []
    for value, total in zip(values, sums, strict=True):
        phi = b.phi(value.type)
        phi.add_incoming(value, before)
        phi.add_incoming(total, add)
        out.append(phi)
    return out


def build_dispatch(
    module: Value, element: str, a: Operand, epilogue: Along | None, *, prefetch: bool = False, target: Target | None = None
) -> Value:
    """Write ``f(rows, vectors, ...)``, which calls the micro-kernel of that tile size; return the LLVM function.

    All heights and widths of `register_tile` are there; the arguments after `vectors` are those of
    `build_microkernel`. A size that was not generated does nothing.
    """
    tile = register_tile({"float32": 4, "float64": 8}[element], target)
    count = 2 + 7 + 2 * prefetch + (EPILOGUE_ARGUMENTS if epilogue else 0)
    function, b = new_function(module, f"gemm_{element}_any_{a}{'_pf' * prefetch}_by_{epilogue}", count)
    if b is None:
        return function
    rows, vectors, *rest = function.args
    after = b.append_basic_block("done")
    switch = b.switch(b.add(b.mul(rows, i64(64)), vectors), after)
    for height in tile.heights:
        for width in tile.widths:
            kernel = build_microkernel(
                module, element, height, width, panel_vectors=tile.vectors, a=a, prefetch=prefetch, epilogue=epilogue, target=target
            )
            block = b.append_basic_block(f"tile_{height}x{width}")
            switch.add_case(ir.Constant(I64, height * 64 + width), block)
            with b.goto_block(block):
                b.call(kernel, rest)
                b.branch(after)
    b.position_at_end(after)
    b.ret_void()
    return function
