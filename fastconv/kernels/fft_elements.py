"""Vector kernels around the FFT stages: rows in and out, two real signals apart and together, products.

Elements as in `fastconv.kernels.fft`: [re of the lanes][im of the lanes]. Addresses in bytes; element and row
addresses are aligned to vectors, nothing is checked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv.kernels._jit import jit
from fastconv.kernels.epilogue import Epilogue
from fastconv.kernels.fft_butterflies import Butterflies, Complex, element_nbytes, load_element, store_element
from fastconv.kernels.function_pointers import address_intrinsic, set_word
from fastconv.kernels.simd import I64, Emitter, Value, i64, new_function
from fastconv.kernels.spec import spec_array


def _start(module: Value, element: str, name: str, arguments: int) -> tuple[Value, Emitter | None]:
    function, b = new_function(module, f"fft_{name}_{element}", arguments)
    return function, None if b is None else Emitter(module, b, element)


def _word(e: Emitter, table: Value, index: Value) -> Value:
    """Load the i64 number `index` of the table at address `table`."""
    return e.b.load(e.b.gep(e.ptr(table), [index], source_etype=I64), typ=I64, align=8)


def build_transpose_in(module: Value, element: str, _: int) -> Value:
    """Write ``dst[column][lane] = rows[lane][column]``, a vector of rows into halves of elements.

    Arguments: rows, row_nbytes, dst, blocks. Whole blocks of `lanes` columns are read and written; `dst` points at
    the half (re or im) of the first element.
    """
    function, e = _start(module, element, "transpose_in", 4)
    if e is None:
        return function
    b = e.b
    rows, row_nbytes, dst, blocks = function.args
    width = e.lanes * e.nbytes

    def block(i: Value, _: list[Value]) -> list[Value]:
        at = b.add(rows, b.mul(i, i64(width)))
        lines = []
        for _lane in range(e.lanes):
            lines.append(e.load(e.ptr(at), width))
            at = b.add(at, row_nbytes)
        to = b.add(dst, b.mul(i, i64(e.lanes * element_nbytes(e))))
        for column, vector in enumerate(e.transpose(lines)):
            e.store(vector, e.ptr(b.add(to, i64(column * element_nbytes(e)))), width)
        return []

    e.loop(blocks, [], block, "block")
    b.ret_void()
    return function


def build_transpose_out(module: Value, element: str, _: int) -> Value:
    """Write ``rows[lane][column] = src[column][lane]`` and, at `flags`, a vector: 0 for a lane of finite values, else NaN.

    Arguments: src, rows, row_nbytes, blocks, flags. As `build_transpose_in`, the other way round.
    """
    function, e = _start(module, element, "transpose_out", 5)
    if e is None:
        return function
    b = e.b
    src, rows, row_nbytes, blocks, flags = function.args
    width = e.lanes * e.nbytes

    def block(i: Value, carried: list[Value]) -> list[Value]:
        flag = carried[0]
        at = b.add(src, b.mul(i, i64(e.lanes * element_nbytes(e))))
        columns = [e.load(e.ptr(b.add(at, i64(c * element_nbytes(e)))), width) for c in range(e.lanes)]
        for column in columns:
            flag = e.fma(column, e.zero(), flag)
        to = b.add(rows, b.mul(i, i64(width)))
        for line in e.transpose(columns):
            e.store(line, e.ptr(to), width)
            to = b.add(to, row_nbytes)
        return [flag]

    [flag] = e.loop(blocks, [e.zero()], block, "block")
    e.store(flag, e.ptr(flags))
    b.ret_void()
    return function


def build_turn(module: Value, element: str, _: int) -> Value:
    """Transpose squares of elements: lanes become positions and positions lanes.

    Arguments: src, src_step, src_block, dst, dst_step, dst_block, blocks. In block i, `lanes` elements from
    ``src + i*src_block`` on, `src_step` apart, become `lanes` elements from ``dst + i*dst_block`` on, `dst_step` apart.
    """
    function, e = _start(module, element, "turn", 7)
    if e is None:
        return function
    b = e.b
    src, src_step, src_block, dst, dst_step, dst_block, blocks = function.args
    width = e.lanes * e.nbytes

    def block(i: Value, carried: list[Value]) -> list[Value]:  # noqa: ARG001
        for half in (0, width):
            at, to = (b.add(address, i64(half)) for address in carried)
            lines = []
            for _lane in range(e.lanes):
                lines.append(e.load(e.ptr(at), width))
                at = b.add(at, src_step)
            for line in e.transpose(lines):
                e.store(line, e.ptr(to), width)
                to = b.add(to, dst_step)
        return [b.add(carried[0], src_block), b.add(carried[1], dst_block)]

    e.loop(blocks, [src, dst], block, "block")
    b.ret_void()
    return function


def build_put(module: Value, element: str, _: int) -> Value:
    """Write columns: elements times numbers, re to one place and im to another, their first `columns` lanes only.

    Arguments: src, roots, n, m, dst, far, dst_step, columns, flags. Of element i times number i at `roots`, (cos, sin)
    each, re goes to ``dst + i*dst_step`` for i < n, im `far` bytes behind for i < m <= n. At `flags`, 0 is written to
    each lane of finite values, else NaN.
    """
    function, e = _start(module, element, "put", 9)
    if e is None:
        return function
    b, f = e.b, Butterflies(e)
    src, roots, n, m, dst, far, dst_step, columns, flags = function.args
    mask = e.as_mask(e.range_mask(i64(0), columns))

    def rows(masked: bool) -> Value:  # noqa: FBT001
        def store(value: Value, to: Value) -> None:
            if masked:
                e.masked_store(value, e.ptr(to), mask)
            else:
                e.store(value, e.ptr(to))

        def row(carried: list[Value], parts: int) -> list[Value]:
            at, root, to, flag = carried
            p = e.ptr(root)
            # Swapped numbers are i times their conjugates.
            im, re = f.twiddle(load_element(e, at, swapped=True), e.broadcast(p), e.broadcast(e.offset(p, 1)))
            for value, place in ((re, to), (im, b.add(to, far)))[:parts]:
                store(value, place)
                flag = e.fma(value, e.zero(), flag)
            return [b.add(at, i64(element_nbytes(e))), b.add(root, i64(2 * e.nbytes)), b.add(to, dst_step), flag]

        word = "masked" if masked else "whole"
        carried = e.loop(m, [src, roots, dst, e.zero()], lambda _, now: row(now, 2), f"{word}.both")
        return e.loop(b.sub(n, m), carried, lambda _, now: row(now, 1), word)[3]

    with b.if_else(b.icmp_signed("<", columns, i64(e.lanes))) as (narrow, whole):
        with narrow:
            e.store(rows(masked=True), e.ptr(flags))
        with whole:
            e.store(rows(masked=False), e.ptr(flags))
    b.ret_void()
    return function


def build_copy(module: Value, element: str, _: int) -> Value:
    """Write ``dst[r][:n] = src[r][:n]`` for r < rows, any alignment, nothing touched outside.

    Arguments: dst, dst_step, src, src_step, n, rows; steps in bytes.
    """
    function, e = _start(module, element, "copy", 6)
    if e is None:
        return function
    b = e.b
    dst, dst_step, src, src_step, n, rows = function.args
    width = i64(e.lanes * e.nbytes)
    whole = b.sdiv(n, i64(e.lanes))
    done = b.mul(whole, i64(e.lanes))
    tail = b.mul(done, i64(e.nbytes))
    words = e.range_mask(i64(0), b.sub(n, done))

    def row(i: Value, carried: list[Value]) -> list[Value]:  # noqa: ARG001
        to, at = carried

        def block(j: Value, _: list[Value]) -> list[Value]:
            offset = b.mul(j, width)
            e.store(e.load(e.ptr(b.add(at, offset))), e.ptr(b.add(to, offset)))
            return []

        e.loop(whole, [], block, "block")
        mask = e.as_mask(words)
        e.masked_store(e.masked_load(e.ptr(b.add(at, tail)), mask), e.ptr(b.add(to, tail)), mask)
        return [b.add(to, dst_step), b.add(at, src_step)]

    e.loop(rows, [dst, src], row, "row")
    b.ret_void()
    return function


def build_finish(module: Value, element: str, _: int) -> Value:
    """Write ``dst[:n] = activation(src[:n] + bias + residual[:n])``, nothing touched outside.

    Arguments: dst, src, n, then the addresses of one bias, of the residual (or 0), the activation's code and the
    address of its limits.
    """
    function, e = _start(module, element, "finish", 7)
    if e is None:
        return function
    b = e.b
    dst, src, n, bias, residual, code, limits = function.args

    def block(i: Value, _: list[Value]) -> list[Value]:
        done = b.mul(i, i64(e.lanes))
        offset = b.mul(done, i64(e.nbytes))
        mask = e.as_mask(e.range_mask(i64(0), b.sub(n, done)))
        value = e.masked_load(e.ptr(b.add(src, offset)), mask)
        here = b.select(b.icmp_signed("!=", residual, i64(0)), b.add(residual, offset), i64(0))
        epilogue = Epilogue(e, (i64(1), bias, here, i64(0), code, limits))
        [value] = epilogue.on_tile([value], 1, 1, along="rows", mask=mask)
        e.masked_store(value, e.ptr(b.add(dst, offset)), mask)
        return []

    e.loop(b.sdiv(b.add(n, i64(e.lanes - 1)), i64(e.lanes)), [], block, "block")
    b.ret_void()
    return function


def build_clear(module: Value, element: str, _: int) -> Value:
    """Write zeros over `count` vectors. Arguments: dst, count."""
    function, e = _start(module, element, "clear", 2)
    if e is None:
        return function
    dst, count = function.args

    def block(i: Value, _: list[Value]) -> list[Value]:
        width = e.lanes * e.nbytes
        e.store(e.zero(), e.ptr(e.b.add(dst, e.b.mul(i, i64(width)))), width)
        return []

    e.loop(count, [], block, "block")
    e.b.ret_void()
    return function


def _apart(f: Butterflies, z: Complex, mirror: Complex) -> tuple[Complex, Complex]:
    """Return twice the spectra of a and b from that of a + i b at a frequency and its negative."""
    b = f.b
    (zr, zi), (mr, mi) = z, mirror
    return (b.fadd(zr, mr), b.fsub(zi, mi)), (b.fadd(zi, mi), b.fsub(mr, zr))


def _together(f: Butterflies, x: Complex, y: Complex) -> tuple[Complex, Complex]:
    """Return x + i y and conj(x) + i conj(y): the spectrum of a + i b at a frequency and its negative."""
    b = f.b
    return (b.fsub(x[0], y[1]), b.fadd(x[1], y[0])), (b.fadd(x[0], y[1]), b.fsub(y[0], x[1]))


def _product(f: Butterflies, x: Complex, u: Complex) -> Complex:
    e, b = f.e, f.b
    return e.fnma(x[1], u[1], b.fmul(x[0], u[0])), e.fma(x[0], u[1], b.fmul(x[1], u[0]))


def build_separate(module: Value, element: str, _: int) -> Value:
    """Take two real signals that share a transform apart: dst[t] = (spectrum of a, spectrum of b), both doubled.

    Arguments: one, two, negative, n, dst, dst_step, second. The spectrum of b goes `second` bytes behind that of a; with
    0 it is dropped. `one` and `two` hold a column of the spectrum of a + i b and the
    column of the negative frequency; ``negative[t]`` is the offset in bytes of the negative of row t in `two`.
    """
    function, e = _start(module, element, "separate", 7)
    if e is None:
        return function
    b, f = e.b, Butterflies(e)
    one, two, negative, n, dst, dst_step, second = function.args
    nbytes = element_nbytes(e)

    def row(t: Value, carried: list[Value]) -> list[Value]:
        at, to = carried
        x, y = _apart(f, load_element(e, at), load_element(e, b.add(two, _word(e, negative, t))))
        store_element(e, y, b.add(to, second))
        store_element(e, x, to)
        return [b.add(at, i64(nbytes)), b.add(to, dst_step)]

    e.loop(n, [one, dst], row, "row")
    b.ret_void()
    return function


def build_combine(module: Value, element: str, _: int) -> Value:
    """Undo `build_separate` without the factor 2: the spectrum of a + i b from those of a and b.

    Arguments: src, src_step, second, one, two, negative, n; `second` as there. Where a column is its own negative, `one` is `two`.
    """
    function, e = _start(module, element, "combine", 7)
    if e is None:
        return function
    b, f = e.b, Butterflies(e)
    src, src_step, second, one, two, negative, n = function.args
    nbytes = element_nbytes(e)

    def row(t: Value, carried: list[Value]) -> list[Value]:
        at, to = carried
        z, mirror = _together(f, load_element(e, at), load_element(e, b.add(at, second)))
        store_element(e, mirror, b.add(two, _word(e, negative, t)))
        store_element(e, z, to)
        return [b.add(at, src_step), b.add(to, i64(nbytes))]

    e.loop(n, [src, one], row, "row")
    b.ret_void()
    return function


def build_multiply(module: Value, element: str, _: int) -> Value:
    """Multiply two real signals that share a transform with a spectrum each.

    Arguments: one, two, negative, n, to_one, to_two, u, u_step, u_second. Separate, multiply a by ``u[t]`` and b by
    the element `u_second` bytes behind, combine. In place, except where a column is its own negative
    (``one == two``): then `to_one` and `to_two` are one other column.
    """
    function, e = _start(module, element, "multiply", 9)
    if e is None:
        return function
    b, f = e.b, Butterflies(e)
    one, two, negative, n, to_one, to_two, u, u_step, u_second = function.args
    nbytes = element_nbytes(e)

    def row(t: Value, carried: list[Value]) -> list[Value]:
        at, to, spectrum = carried
        far = _word(e, negative, t)
        x, y = _apart(f, load_element(e, at), load_element(e, b.add(two, far)))
        x = _product(f, x, load_element(e, spectrum))
        y = _product(f, y, load_element(e, b.add(spectrum, u_second)))
        z, mirror = _together(f, x, y)
        store_element(e, mirror, b.add(to_two, far))
        store_element(e, z, to)
        return [b.add(at, i64(nbytes)), b.add(to, i64(nbytes)), b.add(spectrum, u_step)]

    e.loop(n, [one, to_one, u], row, "row")
    b.ret_void()
    return function


def build_twist(module: Value, element: str, back: int) -> Value:
    """Multiply elements with those of a table, or with their conjugates. Arguments: at, table, n."""
    function, e = _start(module, element, f"twist{back}", 3)
    if e is None:
        return function
    b, f = e.b, Butterflies(e)
    at, table, n = function.args
    nbytes = element_nbytes(e)

    def step(i: Value, carried: list[Value]) -> list[Value]:  # noqa: ARG001
        x, (ur, ui) = load_element(e, carried[0], swapped=bool(back)), load_element(e, carried[1])
        store_element(e, _product(f, x, (ur, ui)), carried[0], swapped=bool(back))
        return [b.add(address, i64(nbytes)) for address in carried]

    e.loop(n, [at, table], step, "step")
    b.ret_void()
    return function


(COPY, CLEAR, FINISH, TRANSPOSE_IN, TRANSPOSE_OUT, SEPARATE, COMBINE, MULTIPLY, TURN, PUT, TWIST, UNTWIST, FUNCTIONS) = range(13)

_copy = address_intrinsic(build_copy)
_clear = address_intrinsic(build_clear)
_finish = address_intrinsic(build_finish)
_transpose_in = address_intrinsic(build_transpose_in)
_transpose_out = address_intrinsic(build_transpose_out)
_separate = address_intrinsic(build_separate)
_combine = address_intrinsic(build_combine)
_multiply = address_intrinsic(build_multiply)
_turn = address_intrinsic(build_turn)
_put = address_intrinsic(build_put)
_twist = address_intrinsic(build_twist)


@jit
def _common_addresses(spec, out):  # type: ignore[no-untyped-def]
    set_word(out, COPY, _copy(spec))
    set_word(out, CLEAR, _clear(spec))
    set_word(out, FINISH, _finish(spec))


@jit
def _lane_addresses(spec, out):  # type: ignore[no-untyped-def]
    set_word(out, TRANSPOSE_IN, _transpose_in(spec))
    set_word(out, TRANSPOSE_OUT, _transpose_out(spec))
    set_word(out, SEPARATE, _separate(spec))
    set_word(out, COMBINE, _combine(spec))
    set_word(out, MULTIPLY, _multiply(spec))


@jit
def _plane_addresses(spec, back, out):  # type: ignore[no-untyped-def]
    set_word(out, TURN, _turn(spec))
    set_word(out, PUT, _put(spec))
    set_word(out, TWIST, _twist(spec))
    set_word(out, UNTWIST, _twist(back))


def element_functions(element: str, *, are_planes: bool) -> npt.NDArray[np.int64]:
    """Return the addresses of this module's functions, by the constants above: those for planes, or those for lanes."""
    out = np.zeros(FUNCTIONS, np.int64)
    at, spec = out.ctypes.data, spec_array(element, 0)
    _common_addresses(spec, at)
    if are_planes:
        _plane_addresses(spec, spec_array(element, 1), at)
    else:
        _lane_addresses(spec, at)
    return out
