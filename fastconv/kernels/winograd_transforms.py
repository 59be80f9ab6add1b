"""The linear transforms of Winograd convolution as generated vector code.

A lane is a channel: every value below is a vector of `lanes` neighbouring channels, so that a transform of a
tile is straight-line code of additions and multiply-adds with constants from exact fractions.

Layouts, in elements (L = lanes, NR = panel width of the micro-kernel, X = alpha_h * alpha_w)::

    strip        [row][col][L]              borders included, one group of L channels
    half         [xi_h][col][L]             after B^T along the height
    V            [xi][tile][C]              data; a stride per xi that is no multiple of the page size
    U            [xi][panel][C][NR]         weights
    M            [panel][xi][tile][NR]      products
    out strip    [row][col][L]

The functions here are compiled once per algorithm, element type and machine and called through their addresses,
so that the drivers in `fastconv.kernels.winograd` are compiled once for all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from fastconv.kernels._jit import jit
from fastconv.kernels.function_pointers import address_intrinsic
from fastconv.kernels.points import Matrix, algorithm
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.simd import Emitter, Value, i64, new_function
from fastconv.kernels.spec import spec_array

# ---- linear maps on vectors


def combine(e: Emitter, terms: Sequence[tuple[Fraction, Value]]) -> Value:
    """Return the sum of coefficient * value in as few instructions as the units among the coefficients allow."""
    terms = [(c, v) for c, v in terms if c]
    if not terms:
        return e.zero()
    first = next((i for i, (c, _) in enumerate(terms) if c == 1), None)
    if first is None:
        first = next((i for i, (c, _) in enumerate(terms) if c != -1), 0)
    coefficient, total = terms[first]
    if coefficient == -1:
        total = e.b.fneg(total)
    elif coefficient != 1:
        total = e.b.fmul(e.splat_const(float(coefficient)), total)
    for i, (c, v) in enumerate(terms):
        if i == first:
            continue
        if c == 1:
            total = e.b.fadd(total, v)
        elif c == -1:
            total = e.b.fsub(total, v)
        else:
            total = e.fma(e.splat_const(float(c)), v, total)
    return total


def _mirror(a: Sequence[Fraction], b: Sequence[Fraction]) -> tuple[list[int], list[int]] | None:
    """Return the positions where two vectors agree and where they are opposite, if that is everywhere and both occur."""
    same = [i for i, (p, q) in enumerate(zip(a, b, strict=True)) if p and p == q]
    opposite = [i for i, (p, q) in enumerate(zip(a, b, strict=True)) if p and p == -q]
    if same and opposite and all(abs(p) == abs(q) for p, q in zip(a, b, strict=True)):
        return same, opposite
    return None


def apply_by_rows(e: Emitter, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """Return matrix @ values; two rows that differ in signs only share an even and an odd part (B^T and G)."""
    out: list[Value] = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if out[i] is not None:
            continue
        for j in range(i + 1, len(matrix)):
            parts = _mirror(row, matrix[j]) if out[j] is None else None
            if parts:
                out[i], out[j] = _sum_and_difference(e, row, values, *parts)
                break
        else:
            out[i] = combine(e, list(zip(row, values, strict=True)))
    return out


def _sum_and_difference(
    e: Emitter, row: Sequence[Fraction], values: Sequence[Value], even: list[int], odd: list[int]
) -> tuple[Value, Value]:
    """Return even + odd and even - odd, with one scale taken out of each part so that it costs no instruction."""
    scales, parts = [], []
    for positions in (even, odd):
        scale = row[positions[-1]]
        scales.append(scale)
        parts.append(combine(e, [(row[i] / scale, values[i]) for i in positions]))
    (a, b), (p, q) = scales, parts
    if a == 1:
        return combine(e, [(a, p), (b, q)]), combine(e, [(a, p), (-b, q)])
    total = combine(e, [(a, p)])
    return combine(e, [(Fraction(1), total), (b, q)]), combine(e, [(Fraction(1), total), (-b, q)])


def apply_by_columns(e: Emitter, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """Return matrix @ values; two columns that differ in signs only share the sum and difference of their values (A^T)."""
    columns = list(zip(*matrix, strict=True))
    rows: list[list[tuple[Fraction, Value]]] = [[] for _ in matrix]
    done = [False] * len(columns)
    for i, column in enumerate(columns):
        if done[i]:
            continue
        for j in range(i + 1, len(columns)):
            parts = None if done[j] else _mirror(column, columns[j])
            if parts:
                total, difference = e.b.fadd(values[i], values[j]), e.b.fsub(values[i], values[j])
                for k in parts[0]:
                    rows[k].append((column[k], total))
                for k in parts[1]:
                    rows[k].append((column[k], difference))
                done[j] = True
                break
        else:
            for k, c in enumerate(column):
                rows[k].append((c, values[i]))
    return [combine(e, row) for row in rows]


# ---- the three transforms


def build_data_columns(module: Value, element: str, m: int, r: int, stride: int, *_: int) -> Value:
    """Write ``f(strip, row_step, half, half_step, cols)``: B^T along the height, column by column.

    ``half[xi][col] = sum_i B^T[xi][i] strip[i][col]`` for `cols` columns; the steps between rows of `strip` and
    between xi of `half` are in elements. A column is shared by the tiles that overlap there.
    """
    bt = algorithm(m, r, stride).bt
    function, b = new_function(module, f"winograd_columns_{element}_{m}_{r}_{stride}", 5)
    if b is None:
        return function
    e = Emitter(module, b, element)
    strip, row_step, half, half_step, cols = function.args
    rows = _spaced(e, e.ptr(strip), row_step, len(bt[0]))
    halves = _spaced(e, e.ptr(half), half_step, len(bt))

    def column(i: Value, _: list[Value]) -> list[Value]:
        at = b.mul(i, i64(e.lanes))
        values = apply_by_rows(e, bt, [e.load(e.offset(p, at)) for p in rows])
        for value, p in zip(values, halves, strict=True):
            e.store(value, e.offset(p, at))
        return []

    e.loop(cols, [], column, "columns")
    b.ret_void()
    return function


def build_data_rows(module: Value, element: str, _m: int, _r: int, _s: int, m: int, r: int, stride: int) -> Value:
    """Write ``f(half, col_step, tile_step, v, xi_step, v_step, tiles)``: B^T along the width, tile by tile.

    ``v[xi][tile] = sum_j B^T[xi][j] half[tile*tile_step + j*col_step]``, steps in elements, for one xi_h.
    """
    bt = algorithm(m, r, stride).bt
    function, b = new_function(module, f"winograd_rows_{element}_{m}_{r}_{stride}", 7)
    if b is None:
        return function
    e = Emitter(module, b, element)
    half, col_step, tile_step, v, xi_step, v_step, tiles = function.args
    sources = _spaced(e, e.ptr(half), col_step, len(bt[0]))
    targets = _spaced(e, e.ptr(v), xi_step, len(bt))

    def tile(i: Value, _: list[Value]) -> list[Value]:
        start, end = b.mul(i, tile_step), b.mul(i, v_step)
        values = apply_by_rows(e, bt, [e.load(e.offset(p, start)) for p in sources])
        for value, p in zip(values, targets, strict=True):
            e.store(value, e.offset(p, end))
        return []

    e.loop(tiles, [], tile, "tiles")
    b.ret_void()
    return function


def build_output(module: Value, element: str, m_h: int, r_h: int, s_h: int, m_w: int, r_w: int, s_w: int) -> Value:
    """Write ``f(m, xi_step, m_step, strip, row_step, col_step, tile_step, tiles, check)``: A^T M A per tile.

    Adds 0 * y over all outputs into the vector at `check`: it becomes NaN exactly if an output is not finite.
    """
    at_h, at_w = algorithm(m_h, r_h, s_h).at, algorithm(m_w, r_w, s_w).at
    name = f"winograd_output_{element}_{m_h}_{r_h}_{s_h}_{m_w}_{r_w}_{s_w}"
    function, b = new_function(module, name, 9)
    if b is None:
        return function
    e = Emitter(module, b, element)
    products, xi_step, m_step, strip, row_step, col_step, tile_step, tiles, check = function.args
    alpha_h, alpha_w = len(at_h[0]), len(at_w[0])
    source, target = e.ptr(products), e.ptr(strip)

    def tile(i: Value, carried: list[Value]) -> list[Value]:
        start, end = e.offset(source, b.mul(i, m_step)), e.offset(target, b.mul(i, tile_step))
        rows = []
        pointer = start
        for _ in range(alpha_h):
            values = []
            for _ in range(alpha_w):
                values.append(e.load(pointer))
                pointer = e.offset(pointer, xi_step)
            rows.append(apply_by_columns(e, at_w, values))
        total = carried[0]
        for j in range(m_w):
            column = e.offset(end, b.mul(col_step, i64(j)))
            for value in apply_by_columns(e, at_h, [row[j] for row in rows]):
                e.store(value, column)
                total = e.fma(value, e.zero(), total)
                column = e.offset(column, row_step)
        return [total]

    total = e.loop(tiles, [e.zero()], tile, "tiles")[0]
    where = e.ptr(check)
    e.store(b.fadd(e.load(where), total), where)
    b.ret_void()
    return function


def build_weights(module: Value, element: str, m_h: int, r_h: int, s_h: int, m_w: int, r_w: int, s_w: int) -> Value:
    """Write ``f(taps, u, xi_step, count)``: ``u[xi] = (G g G^T)[xi]`` for `count` channels of one panel.

    `taps` holds ``[channel][r_h * r_w][L]`` and u[xi] ``[channel][NR]``, of which L lanes from `u` on are written;
    xi are `xi_step` elements apart. Computed in float64 and rounded once, whatever the element.
    """
    g_h, g_w = algorithm(m_h, r_h, s_h).g, algorithm(m_w, r_w, s_w).g
    name = f"winograd_weights_{element}_{m_h}_{r_h}_{s_h}_{m_w}_{r_w}_{s_w}"
    function, b = new_function(module, name, 4)
    if b is None:
        return function
    wide = Emitter(module, b, "float64")
    taps, u, xi_step, count = function.args
    nr = register_tile({"float32": 4, "float64": 8}[element]).columns
    narrow = Emitter(module, b, element, lanes=wide.lanes)
    lanes = Emitter(module, b, element).lanes
    parts = lanes // wide.lanes
    source, target = narrow.ptr(taps), narrow.ptr(u)

    def vector(i: Value, _: list[Value]) -> list[Value]:
        channel, part = b.udiv(i, i64(parts)), b.urem(i, i64(parts))
        lane = b.mul(part, i64(wide.lanes))
        start = narrow.offset(source, b.add(b.mul(channel, i64(r_h * r_w * lanes)), lane))
        grid = []
        for h in range(r_h):
            row = [narrow.load(narrow.offset(start, (h * r_w + w) * lanes)) for w in range(r_w)]
            if element == "float32":
                row = [b.fpext(v, wide.vector) for v in row]
            grid.append(apply_by_rows(wide, g_w, row))
        columns = [apply_by_rows(wide, g_h, [row[x] for row in grid]) for x in range(len(g_w))]
        pointer = narrow.offset(target, b.add(b.mul(channel, i64(nr)), lane))
        for y in range(len(g_h)):
            for column in columns:
                value = column[y]
                narrow.store(b.fptrunc(value, narrow.vector) if element == "float32" else value, pointer)
                pointer = narrow.offset(pointer, xi_step)
        return []

    narrow.loop(b.mul(count, i64(parts)), [], vector, "vectors")
    b.ret_void()
    return function


def _spaced(e: Emitter, pointer: Value, step: Value, count: int) -> list[Value]:
    out = [pointer]
    while len(out) < count:
        out.append(e.offset(out[-1], step))
    return out


# ---- their addresses


class Transforms(NamedTuple):
    """Addresses of the transforms of one algorithm and element type."""

    data_columns: int
    data_rows: int
    output: int
    weights: int


_data_columns = address_intrinsic(build_data_columns)
_data_rows = address_intrinsic(build_data_rows)
_output = address_intrinsic(build_output)
_weights = address_intrinsic(build_weights)


@jit
def _addresses(spec: Any, out: Any) -> None:
    """Write the addresses of the four transforms that `spec` names into `out`."""
    out[0] = _data_columns(spec)
    out[1] = _data_rows(spec)
    out[2] = _output(spec)
    out[3] = _weights(spec)


@functools.cache
def transforms(element: str, m_h: int, r_h: int, s_h: int, m_w: int, r_w: int, s_w: int) -> Transforms:
    """Return the compiled transforms of F(m_h x m_w, r_h x r_w) with strides s_h, s_w; compiles on the first call."""
    out = np.zeros(4, np.int64)
    _addresses(spec_array(element, m_h, r_h, s_h, m_w, r_w, s_w), out)
    return Transforms(*out.tolist())
