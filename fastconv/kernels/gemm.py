"""The GEMM-shaped micro-kernel: a register tile of accumulators, one operand broadcast, the other in vectors.

Dense convolution, the products of Winograd and those of the FFT all end in the code generated here::

    C[m][n] (+)= sum over k of  A[m][k] * B[k][n]        m < rows,  n < columns = vectors * lanes

A is read one element at a time and broadcast, B in whole vectors from a packed panel, C stays in registers
until the last k. The tile's size comes from the target's registers: 6 x 2 vectors of 8 on AVX2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastconv.kernels.epilogue import EPILOGUE_ARGUMENTS, Along, Epilogue
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.simd import I64, LINE_NBYTES, Emitter, Value, call_by_case, i64, new_function
from fastconv.kernels.target import Target

#: Latency of a fused multiply-add times the pipes that execute it: fewer independent sums than this leave pipes idle.
INDEPENDENT_SUMS = 8
#: Steps of k in one turn of the inner loop; and of large tiles that read A row by row, or pack B, where LLVM moves more loads ahead
#: than there are registers (of 4 steps of 12 x 2 vectors with AVX-512 it spills 66 and 26: tests/kernels/test_targets.py).
UNROLL = 4
LARGE_SUMS = 16
#: Bytes of a word of a table.
WORD_NBYTES = 8

#: Arguments that `repeat` adds to a kernel.
REPEAT_ARGUMENTS = 5

Operand = Literal["packed", "rows"]


def build_microkernel(
    module: Value,
    element: str,
    rows: int,
    vectors: int,
    *,
    panel_vectors: int | None = None,
    a: Operand = "packed",
    complex_values: bool = False,
    prefetch: int = 0,
    locality: int = 2,
    packs: bool = False,
    placed: bool = False,
    epilogue: Along | None = None,
    masked: bool = False,
    repeat: bool = False,
    unroll: int = UNROLL,
    target: Target | None = None,
) -> Value:
    """Write the kernel of one tile size; return its LLVM function.

    Arguments of the function, all i64, strides in elements, in this order::

        a, lda, b, c, ldc, k, accumulate
        [a_imag, c_imag]                        complex_values
        [next_panel, next_step]                 prefetch
        [offsets, panel]                        packs
        [last, bias, residual, ldr, code, limits]   epilogue
        [columns]                                   masked
        [repeats, a_step, b_step, c_step, r_step]   repeat

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
    prefetch : int
        Ask for so many cache lines from byte address ``next_panel + i * next_step`` on at each step i: the next panel of B, spread evenly.
    locality : int
        Of these lines: 3 brings them into the first cache, 2 into the second.
    packs : bool
        B's rows are read where they are, ``B[k][n]`` at ``b + offsets[k] + n`` (a table of i64, in elements), and
        stored to `panel` on the way, for the tiles that follow: a pass over the source is saved, the stores are not.
    placed : bool
        B's rows are read where they are, and left there: at `b` stands a pair of words for each of the tiles, the address
        of the first row's first element and that of the offsets of the rows, as above (`b_step` is not read).
    epilogue : {"rows", "columns"}, optional
        With ``last != 0`` the tile ends with ``activation(C + bias + residual)``; bias has one element per row
        (or per column) of the tile, see `fastconv.kernels.epilogue`.
    masked : bool
        On targets with masks, C and the residual have `columns` columns only: the last vector is read and written under a mask.
    repeat : bool
        Compute `repeats` tiles, each that many elements behind the one before in A, B, C and the residual: saves
        the call of the function where k is small.
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
    flags = (
        ("_z" * complex_values)
        + (f"_pf{prefetch:d}_{locality}" if prefetch else "")
        + ("_packs" * packs)
        + ("_placed" * placed)
        + (f"_by_{epilogue}" if epilogue else "")
        + ("_masked" * masked)
        + ("_again" * repeat)
    )
    name = f"gemm_{element}_{rows}x{vectors}of{panel_vectors}_{a}{flags}_u{unroll}"
    count = 7 + 2 * (complex_values + (prefetch > 0) + packs) + EPILOGUE_ARGUMENTS * bool(epilogue) + masked + REPEAT_ARGUMENTS * repeat
    function, b = new_function(module, name, count)
    if b is None:
        return function
    e = Emitter(module, b, element, target)
    args = list(function.args)
    tile = _Tile(
        e,
        rows,
        vectors,
        panel_vectors,
        parts,
        a,
        unroll,
        prefetch=prefetch,
        locality=locality,
        packs=packs,
        placed=placed,
        epilogue=epilogue,
        masked=masked and e.target.has_masks,
    )
    if not repeat:
        tile.emit(args)
    else:
        args, (repeats, *steps) = args[:-REPEAT_ARGUMENTS], args[-REPEAT_ARGUMENTS:]
        nbytes = [b.mul(step, i64(e.nbytes)) for step in steps]
        if placed:
            nbytes[1] = i64(2 * WORD_NBYTES)

        def again(_: Value, moving: list[Value]) -> list[Value]:
            here = list(args)
            for index, value in zip(moved, moving, strict=True):
                here[index] = value
            tile.emit(here)
            after = [b.add(value, step) for value, step in zip(moving[:3], nbytes[:3], strict=True)]
            if prefetch:
                after.append(b.add(moving[3], b.mul(args[5], args[tile.prefetch_at + 1])))
            if epilogue:
                there = moving[-1]
                after.append(b.select(b.icmp_signed("==", there, i64(0)), there, b.add(there, nbytes[3])))
            return after

        moved = [0, 2, 3]
        if prefetch:
            moved.append(tile.prefetch_at)
        if epilogue:
            moved.append(tile.epilogue_at + 2)
        e.loop(repeats, [args[index] for index in moved], again, "tiles")
    b.ret_void()
    return function


class _Tile:
    """The code of one register tile; see `build_microkernel` for the meaning of everything."""

    def __init__(
        self,
        e: Emitter,
        rows: int,
        vectors: int,
        panel_vectors: int,
        parts: int,
        a: Operand,
        unroll: int,
        *,
        prefetch: int,
        locality: int,
        packs: bool,
        placed: bool,
        epilogue: Along | None,
        masked: bool,
    ) -> None:
        self.e, self.rows, self.vectors, self.panel_vectors, self.parts = e, rows, vectors, panel_vectors, parts
        self.a, self.unroll, self.prefetch, self.packs, self.epilogue = a, unroll, prefetch, packs, epilogue
        self.locality, self.placed, self.masked = locality, placed, masked
        self.prefetch_at = 7 + 2 * (parts - 1)
        self.packs_at = self.prefetch_at + 2 * (prefetch > 0)
        self.epilogue_at = self.packs_at + 2 * packs
        self.sums = rows * vectors * parts
        self.sets = 1
        while self.sets * self.sums < INDEPENDENT_SUMS and self.sets < unroll and self._fits(2 * self.sets):
            self.sets *= 2

    def _fits(self, sets: int) -> bool:
        return sets * self.sums + self.vectors * self.parts + 2 <= self.e.target.registers

    def emit(self, args: list[Value]) -> None:
        """Emit the whole tile for these arguments of the function."""
        e, b = self.e, self.e.b
        self.arguments = args
        c, ldc, accumulate = args[3], args[4], args[6]
        if self.placed:
            pair = e.ptr(args[2])
            self.places = [b.load(b.gep(pair, [i64(i)], source_etype=I64), typ=I64, align=WORD_NBYTES) for i in (0, 1)]
        c_imag = args[8] if self.parts > 1 else i64(0)
        c_rows = [e.offset(e.ptr(c), b.mul(ldc, i64(m))) for m in range(self.rows)]
        where = []
        for row in c_rows:
            for start in (row, e.offset(row, c_imag))[: self.parts]:
                e.prefetch_row(start, self.vectors, write=True)
                where += [e.offset(start, v * e.lanes) for v in range(self.vectors)]
        sums, mask = self._multiply(), None
        if self.masked:
            columns = args[self.epilogue_at + EPILOGUE_ARGUMENTS * bool(self.epilogue)]
            mask = e.as_mask(e.range_mask(i64(0), b.sub(columns, i64((self.vectors - 1) * e.lanes))))
        masks = [mask if i % self.vectors == self.vectors - 1 else None for i in range(len(where))]
        acc = _add_old(e, sums, where, masks, accumulate)
        if self.epilogue:
            epilogue = Epilogue(e, args[self.epilogue_at : self.epilogue_at + EPILOGUE_ARGUMENTS])
            acc = epilogue.on_tile(acc, self.rows, self.vectors, along=self.epilogue, mask=mask)
        for value, pointer, lanes in zip(acc, where, masks, strict=True):
            if lanes is None:
                e.store(value, pointer)
            else:
                e.masked_store(value, pointer, lanes)

    def _multiply(self) -> list[Value]:
        """Emit the loop over k; return the sums, row by row, real parts before imaginary ones."""
        e, b, sums = self.e, self.e.b, self.sums
        steps = self.arguments[5]
        rows_of_a = self._rows_of_a()

        def turn(width: int, first: Value | None) -> Callable[[Value, list[Value]], list[Value]]:
            def body(i: Value, acc: list[Value]) -> list[Value]:
                k = b.mul(i, i64(width)) if first is None else b.add(i, first)
                for u in range(width):
                    at = u % self.sets * sums
                    acc[at : at + sums] = self._step(rows_of_a, k, u, acc[at : at + sums])
                return acc

            return body

        shift = i64(self.unroll.bit_length() - 1)
        turns = b.ashr(steps, shift)
        acc = e.loop(turns, [e.zero()] * (sums * self.sets), turn(self.unroll, None), "steps")
        acc = e.loop(b.and_(steps, i64(self.unroll - 1)), acc, turn(1, b.shl(turns, shift)), "rest")
        while len(acc) > sums:
            half = len(acc) // 2
            acc = [b.fadd(p, q) for p, q in zip(acc[:half], acc[half:], strict=True)]
        return acc

    def _rows_of_a(self) -> list[list[Value]]:
        """Return pointers to the first element of each row of A, for each part."""
        e, b = self.e, self.e.b
        base, lda = self.arguments[0], self.arguments[1]
        imaginary = self.arguments[7] if self.parts > 1 else i64(0)
        step = lda if self.a == "rows" else i64(1)
        return [
            [e.offset(e.ptr(base), b.add(b.mul(step, i64(m)), part)) for m in range(self.rows)]
            for part in (i64(0), imaginary)[: self.parts]
        ]

    def _row_of_b(self, k: Value, u: int) -> list[list[Value]]:
        """Emit the loads of row ``k + u`` of B; return its vectors, for each part."""
        e, b = self.e, self.e.b
        width = self.panel_vectors * e.lanes
        first = b.mul(k, i64(width * self.parts))
        if not self.packs and not self.placed:
            row = e.offset(e.ptr(self.arguments[2]), first)
            return [
                [e.load(e.offset(row, (u * self.parts + p) * width + v * e.lanes)) for v in range(self.vectors)] for p in range(self.parts)
            ]
        source, offsets = self.places if self.placed else (self.arguments[2], self.arguments[self.packs_at])
        place = b.load(b.gep(e.ptr(offsets), [b.add(k, i64(u))], source_etype=I64), typ=I64, align=WORD_NBYTES)
        row = e.offset(e.ptr(source), place)
        # The panel after next: rows of the source lie too far apart for the hardware to see a stream.
        e.prefetch_row(e.offset(row, 2 * width), self.vectors)
        out = [e.load(e.offset(row, v * e.lanes)) for v in range(self.vectors)]
        for v, value in enumerate(out if self.packs else []):
            e.store(value, e.offset(e.offset(e.ptr(self.arguments[self.packs_at + 1]), first), u * width + v * e.lanes))
        return [out]

    def _step(self, rows_of_a: list[list[Value]], k: Value, u: int, acc: list[Value]) -> list[Value]:
        """Emit step ``k + u``."""
        e, b, vectors = self.e, self.e.b, self.vectors
        if self.a == "rows":
            e.fence()  # else LLVM unrolls further, loads many rows ahead and spills
        panel = self._row_of_b(k, u)
        if self.prefetch:
            first, step = self.arguments[self.prefetch_at : self.prefetch_at + 2]
            start = e.ptr(b.add(first, b.mul(b.add(k, i64(u)), step)))
            for line in range(self.prefetch):
                e.prefetch(e.offset_nbytes(start, line * LINE_NBYTES), locality=self.locality)
        a_step = 1 if self.a == "rows" else self.rows
        a_first = b.mul(k, i64(a_step))
        out = list(acc)
        for m in range(self.rows):
            at = m * vectors * self.parts
            real = e.broadcast(e.offset(e.offset(rows_of_a[0][m], a_first), u * a_step))
            for i in range(vectors * self.parts):
                out[at + i] = e.fma(real, panel[i // vectors][i % vectors], out[at + i])
            if self.parts > 1:
                imag = e.broadcast(e.offset(e.offset(rows_of_a[1][m], a_first), u * a_step))
                for v in range(vectors):
                    out[at + v] = e.fnma(imag, panel[1][v], out[at + v])
                    out[at + vectors + v] = e.fma(imag, panel[0][v], out[at + vectors + v])
        return out


def _add_old(e: Emitter, values: list[Value], where: list[Value], masks: list[Any], accumulate: Value) -> list[Value]:
    """Return `values`, plus what memory holds `where`, in the lanes of a mask if there is one, if `accumulate` is not 0."""
    b = e.b
    before = b.block
    add, after = b.append_basic_block("accumulate"), b.append_basic_block("accumulated")
    b.cbranch(b.icmp_signed("!=", accumulate, i64(0)), add, after)
    b.position_at_end(add)
    old = [e.load(pointer) if mask is None else e.masked_load(pointer, mask) for pointer, mask in zip(where, masks, strict=True)]
    sums = [b.fadd(value, term) for value, term in zip(values, old, strict=True)]
    b.branch(after)
    b.position_at_end(after)
    out = []
    for value, total in zip(values, sums, strict=True):
        phi = b.phi(value.type)
        phi.add_incoming(value, before)
        phi.add_incoming(total, add)
        out.append(phi)
    return out


def steps_per_turn(sums: int, a: Operand, *, has_offsets: bool) -> int:
    """Return the steps of k in one turn of the inner loop for a tile of so many accumulators; B's rows may have offsets each."""
    if a == "rows":
        return 1 if sums > LARGE_SUMS else 2
    return 2 if has_offsets and sums > LARGE_SUMS else UNROLL


def build_dispatch(
    module: Value,
    element: str,
    a: Operand,
    epilogue: Along | None,
    *,
    prefetch: bool = False,
    packs: bool = False,
    placed: bool = False,
    masked: bool = False,
    repeat: bool = False,
    target: Target | None = None,
) -> Value:
    """Write ``f(rows, vectors, ...)``, which calls the micro-kernel of that tile size; return the LLVM function.

    All heights and widths of `register_tile` are there; of those that save packing (`packs`, `placed`, rows of A) the high
    heights, with `packs` and `placed` in full width. The arguments after `vectors` are those of `build_microkernel`. A size
    that was not generated does nothing.
    """
    tile = register_tile({"float32": 4, "float64": 8}[element], target)
    count = 2 + 7 + 2 * (prefetch + packs) + EPILOGUE_ARGUMENTS * bool(epilogue) + masked + REPEAT_ARGUMENTS * repeat
    name = f"gemm_{element}_any_{a}{'_pf' * prefetch}{'_packs' * packs}{'_placed' * placed}_by_{epilogue}"
    name += "_masked" * masked + "_again" * repeat
    function, b = new_function(module, name, count)
    if b is None:
        return function
    rows, vectors, *rest = function.args
    kernels = {
        height * 64 + width: build_microkernel(
            module,
            element,
            height,
            width,
            panel_vectors=tile.vectors,
            a=a,
            prefetch=prefetch,
            packs=packs,
            placed=placed,
            epilogue=epilogue,
            masked=masked,
            repeat=repeat,
            unroll=steps_per_turn(height * width, a, has_offsets=packs or placed),
            target=target,
        )
        for height in (tile.high_heights if packs or placed or a == "rows" else tile.heights)
        for width in (tile.widths[:1] if packs or placed else tile.widths)
    }
    call_by_case(b, b.add(b.mul(rows, i64(64)), vectors), kernels, rest)
    return function
