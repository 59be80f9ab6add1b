"""Results of dense convolution that leave scratch memory in another order: complex numbers put together, pixels turned into rows."""

from __future__ import annotations

import functools

from fastconv.kernels.epilogue import Epilogue, build_finish
from fastconv.kernels.pack import scaled
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.simd import Emitter, Value, i64, new_function


def build_join_parts(module: Value, element: str) -> Value:
    """Write the kernel that puts the parts of complex results together: rows of parts in, complex pixels out.

    ``dst[c*ldd + p*step + part] = src[(2*c + part)*lds + p] + residual[c*ldr + p*rstep + part]`` for c < channels,
    p < pixels and both parts; strides in elements of a part. Arguments: src, lds, dst, ldd, step, channels, pixels,
    residual (0: none), ldr, rstep. Pixels that are neighbours (steps of 2) go by vectors, others one by one.

    Not checked: whole vectors of `src` can be read. Moves 16 or 32 bytes per complex number.
    """
    function, b = new_function(module, f"join_parts_{element}", 10)
    if b is None:
        return function
    e = Emitter(module, b, element)
    src, lds, dst, ldd, step, channels, pixels, residual, ldr, rstep = function.args
    lanes, half = e.lanes, e.lanes // 2
    mixed = [lane // 2 + lanes * (lane % 2) for lane in range(lanes)]
    are_neighbours = b.icmp_signed("==", step, i64(2))
    has_none = b.icmp_signed("==", residual, i64(0))
    by_vectors = b.and_(are_neighbours, b.or_(has_none, b.icmp_signed("==", rstep, i64(2))))
    squares = b.select(by_vectors, b.sdiv(pixels, i64(lanes)), i64(0))

    def channel(c: Value, _: list[Value]) -> list[Value]:
        parts = [scaled(e, src, b.mul(b.add(b.mul(c, i64(2)), i64(part)), lds)) for part in (0, 1)]
        to = scaled(e, dst, b.mul(c, ldd))
        added = b.select(has_none, i64(0), scaled(e, residual, b.mul(c, ldr)))

        def vector(q: Value, _: list[Value]) -> list[Value]:
            p = b.mul(q, i64(lanes))
            real, imaginary = (e.load(e.ptr(scaled(e, row, p))) for row in parts)
            for number in (0, 1):
                value = e.shuffle(real, imaginary, [lane + number * half for lane in mixed])
                at = b.add(b.mul(p, i64(2)), i64(number * lanes))
                here = functools.partial(_load, e, added, at)
                e.store(e.plus_if(added, value, here), e.ptr(scaled(e, to, at)))
            return []

        def single(i: Value, _: list[Value]) -> list[Value]:
            p = b.add(b.mul(squares, i64(lanes)), i)
            for part, row in enumerate(parts):
                value = e.load_scalar(e.ptr(scaled(e, row, p)))
                there = b.select(has_none, e.ptr(row), e.ptr(scaled(e, added, b.add(b.mul(p, rstep), i64(part)))))
                value = b.select(has_none, value, b.fadd(value, e.load_scalar(there)))
                b.store(value, e.ptr(scaled(e, to, b.add(b.mul(p, step), i64(part)))), align=e.nbytes)
            return []

        e.loop(squares, [], vector, "vector")
        e.loop(b.sub(pixels, b.mul(squares, i64(lanes))), [], single, "single")
        return []

    e.loop(channels, [], channel, "channel")
    b.ret_void()
    return function


def _load(e: Emitter, base: Value, at: Value) -> Value:
    """Return the vector `at` elements behind the address `base`."""
    return e.load(e.ptr(scaled(e, base, at)))


def build_store_turned(module: Value, element: str) -> Value:
    """Write the kernel that stores results [pixel][columns] as rows of pixels, through the epilogue.

    ``dst[j*ldd + p] = activation(src[p*width + j] + bias[j] + residual[j*ldr + p])`` for p < pixels, j < columns;
    `width` is that of a register tile. Squares are transposed in registers. Arguments: src, dst, ldd, pixels,
    columns, bias, residual, ldr, code, limits, scratch.

    Not checked: whole vectors of pixels of `src` can be read; `scratch` holds a square of vectors.
    """
    function, b = new_function(module, f"store_turned_{element}", 11)
    if b is None:
        return function
    e = Emitter(module, b, element)
    src, dst, ldd, pixels, columns, bias, residual, ldr, code, limits, scratch = function.args
    tile = register_tile(e.nbytes)
    lanes = i64(e.lanes)
    finish = build_finish(module, element, "rows")

    def group(q: Value, _: list[Value]) -> list[Value]:
        j = b.mul(q, lanes)
        rows = b.sub(columns, j)
        rows = b.select(b.icmp_signed("<", rows, lanes), rows, lanes)
        added = b.select(b.icmp_signed("==", residual, i64(0)), residual, scaled(e, residual, b.mul(j, ldr)))
        first = scaled(e, dst, b.mul(j, ldd))
        biases = scaled(e, bias, j)

        def turned(p: Value) -> list[Value]:
            return e.transpose(
                [e.load(e.ptr(scaled(e, src, b.add(b.mul(b.add(p, i64(i)), i64(tile.columns)), j)))) for i in range(e.lanes)]
            )

        def whole(s: Value, _: list[Value]) -> list[Value]:
            p = b.mul(s, lanes)
            there = b.select(b.icmp_signed("==", added, i64(0)), added, scaled(e, added, p))
            epilogue = Epilogue(e, (i64(1), biases, there, ldr, code, limits))
            values = epilogue.on_tile(turned(p), e.lanes, 1, along="rows")
            for i, value in enumerate(values):
                e.store(value, e.ptr(scaled(e, first, b.add(b.mul(ldd, i64(i)), p))))
            return []

        squares = b.select(b.icmp_signed("==", rows, lanes), b.sdiv(pixels, lanes), i64(0))
        e.loop(squares, [], whole, "whole")

        def partial(s: Value, _: list[Value]) -> list[Value]:
            p = b.mul(b.add(s, squares), lanes)
            for i, value in enumerate(turned(p)):
                e.store(value, e.ptr(scaled(e, scratch, i64(i * e.lanes))))
            left = b.sub(pixels, p)
            left = b.select(b.icmp_signed("<", left, lanes), left, lanes)
            there = b.select(b.icmp_signed("==", added, i64(0)), added, scaled(e, added, p))
            arguments = (scratch, lanes, scaled(e, first, p), ldd, rows, left, i64(0), i64(1), biases, there, ldr, code, limits)
            b.call(finish, arguments)
            return []

        e.loop(b.sub(b.sdiv(b.add(pixels, i64(e.lanes - 1)), lanes), squares), [], partial, "partial")
        return []

    e.loop(b.sdiv(b.add(columns, i64(e.lanes - 1)), lanes), [], group, "group")
    b.ret_void()
    return function
