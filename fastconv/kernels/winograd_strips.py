"""Between images and channel-interleaved strips: ``strip[row][col][L]`` with L = lanes channels side by side.

Full blocks go through register transposes; borders and odd layouts, element by element, through index maps.
Lanes of channels that do not exist are 0 (in strips) and never stored (in images).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from fastconv.kernels.epilogue import EPILOGUE_ARGUMENTS, Along, Epilogue, build_finish
from fastconv.kernels.simd import I64, Emitter, Value, i64, kernel_intrinsic, new_function


def build_pack_rows(module: Value, element: str) -> Value:
    """Write ``f(src, sc, strip, pixels, valid)``: neighbouring pixels of `valid` <= L channels, `sc` apart, into a strip.

    Writes whole blocks: up to L - 1 pixels more than asked for.
    """
    function, b = new_function(module, f"strip_pack_rows_{element}", 5)
    if b is None:
        return function
    e = Emitter(module, b, element)
    src, sc, strip, pixels, valid = function.args
    zeros = b.alloca(e.vector)
    b.store(e.zero(), zeros)
    source, target = e.ptr(src), e.ptr(strip)
    rows, widths = [], []
    for i in range(e.lanes):
        exists = b.icmp_signed("<", i64(i), valid)
        rows.append(b.select(exists, e.offset(source, b.mul(sc, i64(i))), zeros))
        widths.append(b.select(exists, i64(-1), i64(0)))

    def store(first: Value, values: list[Value]) -> None:
        for i, value in enumerate(e.transpose(values)):
            e.store(value, e.offset(e.offset(target, b.mul(first, i64(e.lanes))), i * e.lanes))

    def block(i: Value, _: list[Value]) -> list[Value]:
        first = b.mul(i, i64(e.lanes))
        store(first, [e.load(e.offset(row, b.and_(first, width))) for row, width in zip(rows, widths, strict=True)])
        return []

    blocks = b.sdiv(pixels, i64(e.lanes))
    e.loop(blocks, [], block, "blocks")
    first = b.mul(blocks, i64(e.lanes))
    left = b.sub(pixels, first)
    with b.if_then(b.icmp_signed(">", left, i64(0))):
        mask = e.as_mask(e.range_mask(i64(0), left))
        store(first, [e.masked_load(e.offset(row, b.and_(first, width)), mask) for row, width in zip(rows, widths, strict=True)])
    b.ret_void()
    return function


def build_pack_pixels(module: Value, element: str) -> Value:
    """Write ``f(src, sw, strip, pixels, valid)``: the same for a channels-last source, pixels `sw` apart."""
    function, b = new_function(module, f"strip_pack_pixels_{element}", 5)
    if b is None:
        return function
    e = Emitter(module, b, element)
    src, sw, strip, pixels, valid = function.args
    source, target = e.ptr(src), e.ptr(strip)
    is_full = b.icmp_signed("==", valid, i64(e.lanes))

    def whole(i: Value, _: list[Value]) -> list[Value]:
        e.store(e.load(e.offset(source, b.mul(i, sw))), e.offset(target, b.mul(i, i64(e.lanes))))
        return []

    mask = e.range_mask(i64(0), valid)

    def partial(i: Value, _: list[Value]) -> list[Value]:
        e.store(e.masked_load(e.offset(source, b.mul(i, sw)), e.as_mask(mask)), e.offset(target, b.mul(i, i64(e.lanes))))
        return []

    e.loop(b.select(is_full, pixels, i64(0)), [], whole, "whole")
    e.loop(b.select(is_full, i64(0), pixels), [], partial, "partial")
    b.ret_void()
    return function


def build_pack_mapped(module: Value, element: str) -> Value:
    """Write ``f(src, sc, sw, cols, strip, pixels, valid, fill)``: pixel i of the strip is column cols[i] of the source.

    `cols` is the address of 64-bit integers; -1 (in all channels) means the element at address `fill`.
    """
    function, b = new_function(module, f"strip_pack_mapped_{element}", 8)
    if b is None:
        return function
    e = Emitter(module, b, element)
    src, sc, sw, cols, strip, pixels, valid, fill = function.args
    source, target, columns = e.ptr(src), e.ptr(strip), e.ptr(cols)
    value = e.broadcast(e.ptr(fill))

    def pixel(i: Value, _: list[Value]) -> list[Value]:
        col = b.load(b.gep(columns, [i], source_etype=I64), typ=I64, align=8)
        here = e.offset(target, b.mul(i, i64(e.lanes)))
        outside = b.icmp_signed("<", col, i64(0))
        e.store(b.select(outside, value, e.zero()), here)
        start = e.offset(source, b.mul(col, sw))

        def channel(c: Value, _: list[Value]) -> list[Value]:
            b.store(e.load_scalar(e.offset(start, b.mul(c, sc))), e.offset(here, c), align=e.nbytes)
            return []

        e.loop(b.select(outside, i64(0), valid), [], channel, "channels")
        return []

    e.loop(pixels, [], pixel, "pixels")
    b.ret_void()
    return function


def build_fill_pixels(module: Value, element: str) -> Value:
    """Write ``f(strip, pixels, fill)``: the element at address `fill` into all channels of `pixels` pixels."""
    function, b = new_function(module, f"strip_fill_{element}", 3)
    if b is None:
        return function
    e = Emitter(module, b, element)
    strip, pixels, fill = function.args
    target, value = e.ptr(strip), e.broadcast(e.ptr(fill))

    def pixel(i: Value, _: list[Value]) -> list[Value]:
        e.store(value, e.offset(target, b.mul(i, i64(e.lanes))))
        return []

    e.loop(pixels, [], pixel, "pixels")
    b.ret_void()
    return function


def build_unpack_rows(module: Value, element: str) -> Value:
    """Write ``f(strip, dst, sc, pixels, last, bias, residual, ldr, code, limits)``: a strip into L planes, `sc` apart.

    Ends with the epilogue; `ldr` is the distance of the residual's planes. At least L pixels: the last block
    overlaps the one before, which is harmless because `dst` shares no memory with `residual`.
    """
    function, b = new_function(module, f"strip_unpack_rows_{element}", 4 + EPILOGUE_ARGUMENTS)
    if b is None:
        return function
    e = Emitter(module, b, element)
    strip, dst, sc, pixels, last, bias, residual, ldr, code, limits = function.args
    source, target = e.ptr(strip), e.ptr(dst)
    rows = [e.offset(target, b.mul(sc, i64(i))) for i in range(e.lanes)]
    has_residual = b.icmp_signed("!=", residual, i64(0))

    def block(i: Value, _: list[Value]) -> list[Value]:
        first = _minimum(b, b.mul(i, i64(e.lanes)), b.sub(pixels, i64(e.lanes)))
        start = e.offset(source, b.mul(first, i64(e.lanes)))
        values = e.transpose([e.load(e.offset(start, j * e.lanes)) for j in range(e.lanes)])
        here = b.select(has_residual, b.add(residual, b.mul(first, i64(e.nbytes))), i64(0))
        values = Epilogue(e, (last, bias, here, ldr, code, limits)).on_tile(values, e.lanes, 1, along="rows")
        for value, row in zip(values, rows, strict=True):
            e.store(value, e.offset(row, first))
        return []

    e.loop(b.sdiv(b.add(pixels, i64(e.lanes - 1)), i64(e.lanes)), [], block, "blocks")
    b.ret_void()
    return function


def build_unpack_pixels(module: Value, element: str) -> Value:
    """Write ``f(strip, dst, sw, pixels, last, bias, residual, ldr, code, limits)``: into channels-last pixels `sw` apart."""
    function, b = new_function(module, f"strip_unpack_pixels_{element}", 4 + EPILOGUE_ARGUMENTS)
    if b is None:
        return function
    e = Emitter(module, b, element)
    strip, dst, sw, pixels, last, bias, residual, ldr, code, limits = function.args
    source, target = e.ptr(strip), e.ptr(dst)
    has_residual = b.icmp_signed("!=", residual, i64(0))

    def pixel(i: Value, _: list[Value]) -> list[Value]:
        value = e.load(e.offset(source, b.mul(i, i64(e.lanes))))
        here = b.select(has_residual, b.add(residual, b.mul(b.mul(i, ldr), i64(e.nbytes))), i64(0))
        [value] = Epilogue(e, (last, bias, here, ldr, code, limits)).on_tile([value], 1, 1, along="columns")
        e.store(value, e.offset(target, b.mul(i, sw)))
        return []

    e.loop(pixels, [], pixel, "pixels")
    b.ret_void()
    return function


def build_transpose_block(module: Value, element: str) -> Value:
    """Write ``f(strip, planes)``: L pixels of a strip into ``planes[channel][L]``, for blocks that are stored in part."""
    function, b = new_function(module, f"strip_transpose_{element}", 2)
    if b is None:
        return function
    e = Emitter(module, b, element)
    source, target = (e.ptr(a) for a in function.args)
    for i, value in enumerate(e.transpose([e.load(e.offset(source, j * e.lanes)) for j in range(e.lanes)])):
        e.store(value, e.offset(target, i * e.lanes))
    b.ret_void()
    return function


def build_direct_sum(module: Value, element: str) -> Value:
    """Write ``f(src, sc, sh, sw, rows, row_step, cols, col_step, fill, weights, channels, kh, kw, out)``: one output by the definition.

    ``out[0] = sum over c, r, s of src[c][rows[r*row_step]][cols[s*col_step]] * weights[c][r][s]``; an index of -1 in
    `rows` or `cols` (addresses of 64-bit integers) reads the element at `fill`. Used for outputs of tiles that came out non-finite.
    """
    function, b = new_function(module, f"strip_direct_sum_{element}", 14)
    if b is None:
        return function
    e = Emitter(module, b, element)
    src, sc, sh, sw, rows, row_step, cols, col_step, fill, weights, channels, kh, kw, out = function.args
    source, taps, outside = e.ptr(src), e.ptr(weights), e.ptr(fill)

    def index(base: Value, i: Value, step: Value) -> Value:
        return b.load(b.gep(e.ptr(base), [b.mul(i, step)], source_etype=I64), typ=I64, align=8)

    def channel(c: Value, sums: list[Value]) -> list[Value]:
        def row(r: Value, sums: list[Value]) -> list[Value]:
            y = index(rows, r, row_step)
            line = e.offset(source, b.add(b.mul(c, sc), b.mul(y, sh)))
            tap_row = e.offset(taps, b.mul(b.add(b.mul(c, kh), r), kw))

            def tap(s: Value, sums: list[Value]) -> list[Value]:
                x = index(cols, s, col_step)
                inside = b.icmp_signed(">=", b.or_(x, y), i64(0))
                datum = e.load_scalar(b.select(inside, e.offset(line, b.mul(x, sw)), outside))
                return [b.fadd(sums[0], b.fmul(datum, e.load_scalar(e.offset(tap_row, s))))]

            return e.loop(kw, sums, tap, "taps")

        return e.loop(kh, sums, row, "rows")

    total = e.loop(channels, [ir.Constant(e.scalar, 0.0)], channel, "channels")[0]
    b.store(total, e.ptr(out), align=e.nbytes)
    b.ret_void()
    return function


def _minimum(b: Value, x: Value, y: Value) -> Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _finish_along(along: Along) -> Any:
    def build(module: Value, element: str) -> Value:
        return build_finish(module, element, along)

    return kernel_intrinsic(build)


pack_rows = kernel_intrinsic(build_pack_rows)
pack_pixels = kernel_intrinsic(build_pack_pixels)
pack_mapped = kernel_intrinsic(build_pack_mapped)
fill_pixels = kernel_intrinsic(build_fill_pixels)
unpack_rows = kernel_intrinsic(build_unpack_rows)
unpack_pixels = kernel_intrinsic(build_unpack_pixels)
transpose_block = kernel_intrinsic(build_transpose_block)
finish_rows = _finish_along("rows")
finish_columns = _finish_along("columns")
direct_sum = kernel_intrinsic(build_direct_sum)
