"""Packing for dense convolution: source rows into a padded strip, strip or source into panels.

A *strip* holds what a block of output pixels reads of some channels, with padding, stride and dilation resolved, a row
slot for each residue of the padded row modulo the stride (only residues that some tap reads), in one of two forms::

    wide        strip[c][row slot][row][column slot][column]    a column slot for each residue modulo the stride
    unrolled    strip[c][row slot][column slot][row][column]    a column slot for each column of the kernel

so that the pixels of an output row lie next to each other for every tap: pixel (r, q) under tap (kh, kw) of channel c is
at ``c*plane + r*pitch + q`` plus an offset that depends on the tap only. Unrolled, a row of the strip is as long as one of
the output (the same where the kernel has one column), and all pixels of the block lie next to each other: narrow images
fill panels like wide ones, for as many copies as the kernel has columns. A *panel* is then filled by whole vector loads at
a table of offsets, one for each k = (c, kh, kw)::

    panel[k][step]        step = pixels of the panel

Vectors may be stored over the end of what they mean to fill: memory is written in ascending order, so the next
store repairs it, and each buffer ends with `SLACK` elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.simd import I64, Emitter, Value, i64, new_function

#: Elements that may be read or written beyond a strip plane, a panel or a tile of results.
SLACK = 64
#: Whether a panel holds the vectors' side of the product (pixels as columns) or the broadcast side (as rows).
COLUMNS, ROWS = 0, 1

Source = Literal["one", "two", "masked"]


def panel_vectors(element: str, side: int) -> int:
    """Return how many vectors are stored for one k of a panel."""
    itemsize = {"float32": 4, "float64": 8}[element]
    tile = register_tile(itemsize)
    lanes = tile.columns // tile.vectors
    return tile.vectors if side == COLUMNS else -(-tile.rows // lanes)


def scaled(e: Emitter, base: Value, elements: Value) -> Value:
    """Return the address `base` plus a number of elements."""
    return e.b.add(base, e.b.mul(elements, i64(e.nbytes)))


def _word(e: Emitter, address: Value, index: Value | int) -> Value:
    """Load the i64 number `index` of the table at `address`."""
    index = i64(index) if isinstance(index, int) else index
    return e.b.load(e.b.gep(e.ptr(address), [index], source_etype=I64), typ=I64, align=8)


def build_pack(module: Value, element: str, side: int, source: Source) -> Value:
    """Write the kernel that fills one panel: ``dst[k*step + lane] = src[offsets[k] + place(lane)]`` for k < count.

    Arguments: dst, step, src, offsets, count, where. `where` is the address of three i64 per vector:
    "one": (first, -, -), all lanes from ``first`` on; "two": (first, second, lanes of the first), the rest of the
    lanes at ``second + lane``; "masked": (first, valid lanes, -), the others become 0 and are not read.
    """
    function, b = new_function(module, f"pack_{element}_{side}_{source}", 6)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, step, src, offsets, count, where = function.args
    vectors = panel_vectors(element, side)
    first = [e.offset(e.ptr(src), _word(e, where, 3 * v)) for v in range(vectors)]
    second, masks = [], []
    if source == "two":
        second = [e.offset(e.ptr(src), _word(e, where, 3 * v + 1)) for v in range(vectors)]
        masks = [e.range_mask(i64(0), _word(e, where, 3 * v + 2)) for v in range(vectors)]
    elif source == "masked":
        masks = [e.range_mask(i64(0), _word(e, where, 3 * v + 1)) for v in range(vectors)]

    def body(k: Value, carried: list[Value]) -> list[Value]:
        [out] = carried
        offset = _word(e, offsets, k)
        if source == "one":
            # The panel after next: rows of the source lie too far apart for the hardware to see a stream.
            e.prefetch_row(e.offset(e.offset(first[0], offset), 2 * vectors * e.lanes), vectors)
        for v in range(vectors):
            if source == "masked":
                value = e.masked_load(e.offset(first[v], offset), e.as_mask(masks[v]))
            else:
                value = e.load(e.offset(first[v], offset))
            if source == "two":
                value = b.select(e.as_mask(masks[v]), value, e.load(e.offset(second[v], offset)))
            e.store(value, e.offset(out, v * e.lanes))
        return [e.offset(out, step)]

    e.loop(count, [e.ptr(dst)], body, "pack")
    b.ret_void()
    return function


def build_gather(module: Value, element: str) -> Value:
    """Write the kernel that fills a panel of which each lane has a place of its own (narrow images).

    Arguments: dst, step, src, offsets, count, places, lanes: ``dst[k*step + i] = src[offsets[k] + places[i]]``.
    """
    function, b = new_function(module, f"gather_{element}", 7)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, step, src, offsets, count, places, lanes = function.args

    def body(k: Value, carried: list[Value]) -> list[Value]:
        [out] = carried
        origin = e.offset(e.ptr(src), _word(e, offsets, k))

        def lane(i: Value, _: list[Value]) -> list[Value]:
            b.store(e.load_scalar(e.offset(origin, _word(e, places, i))), e.offset(out, i), align=e.nbytes)
            return []

        e.loop(lanes, [], lane, "lane")
        return [e.offset(out, step)]

    e.loop(count, [e.ptr(dst)], body, "gather")
    b.ret_void()
    return function


def build_copy(module: Value, element: str, stride: int) -> Value:
    """Write the kernel that copies rows of each channel: ``dst[c*plane + r*pitch + j] = src[c*gap + r*step + j*stride]`` for j < n.

    Arguments: dst, plane, pitch, src, gap, step, n, rows, channels[, stride]; a `stride` of 1 or 2 is fixed, 0 means an
    argument. Reads nothing but these elements; may write up to a vector beyond the n of a row, before the next row's.
    """
    function, b = new_function(module, f"copy_rows_{element}_{stride}", 10 if stride == 0 else 9)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, plane, pitch, src, gap, step, n, rows, channels = function.args[:9]
    lanes = e.lanes
    # A whole vector of stride 2 reads 2*lanes elements, of which the last is not one of the row's.
    whole = b.sdiv(n if stride != 2 else b.sub(n, i64(1)), i64(lanes))
    done = b.mul(whole, i64(lanes))
    left = b.sub(n, done)
    tails = b.select(b.icmp_signed(">", left, i64(0)), i64(1), i64(0))
    masks: list[Value] = []
    if stride == 1:
        masks = [e.range_mask(i64(0), left)]
    elif stride == 2:
        # Two vectors of which the even lanes are kept; the last element read is number 2n - 2.
        masks = [e.range_mask(i64(0), b.sub(b.mul(left, i64(2)), i64(1 + half * lanes))) for half in (0, 1)]

    def move(to: Value, origin: Value, j: Value, load: Callable[[int, Value], Value]) -> list[Value]:
        values = [load(k, e.offset(origin, b.add(b.mul(j, i64(stride)), i64(k * lanes)))) for k in range(stride)]
        value = values[0] if stride == 1 else e.shuffle(values[0], values[1], [2 * lane for lane in range(lanes)])
        e.store(value, e.offset(to, j))
        return []

    def row(_: Value, carried: list[Value]) -> list[Value]:
        to, origin = carried
        if stride == 0:

            def single(j: Value, _: list[Value]) -> list[Value]:
                b.store(e.load_scalar(e.offset(origin, b.mul(j, function.args[9]))), e.offset(to, j), align=e.nbytes)
                return []

            e.loop(n, [], single, "element")
        else:
            e.loop(whole, [], lambda v, _: move(to, origin, b.mul(v, i64(lanes)), lambda _k, p: e.load(p)), "whole")
            e.loop(tails, [], lambda _i, _: move(to, origin, done, lambda k, p: e.masked_load(p, e.as_mask(masks[k]))), "tail")
        return [e.offset(to, pitch), e.offset(origin, step)]

    def channel(_: Value, carried: list[Value]) -> list[Value]:
        to, origin = carried
        e.loop(rows, [to, origin], row, "row")
        return [e.offset(to, plane), e.offset(origin, gap)]

    e.loop(channels, [e.ptr(dst), e.ptr(src)], channel, "channel")
    b.ret_void()
    return function


def build_turn(module: Value, element: str) -> Value:
    """Write the kernel that copies a row of pixels whose channels lie next to each other into one row per channel.

    ``dst[c*plane + j] = src[j*gap + c]`` for j < n, c < channels, by squares transposed in registers.
    Arguments: dst, plane, src, gap, n, channels. Reads nothing but these elements; may write up to a vector
    beyond the n of each of the channels rounded up to whole vectors.
    """
    function, b = new_function(module, f"turn_rows_{element}", 6)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, plane, src, gap, n, channels = function.args
    lanes = i64(e.lanes)

    groups = b.sdiv(b.add(n, b.sub(lanes, i64(1))), lanes)

    def columns(v: Value, _: list[Value]) -> list[Value]:
        # From the last group to the first: where rows follow one another closely, a group's overrun is repaired.
        j = b.mul(b.sub(b.sub(groups, i64(1)), v), lanes)
        last = b.sub(n, i64(1))
        pixels = []
        for i in range(e.lanes):
            pixel = b.add(j, i64(i))
            pixel = b.select(b.icmp_signed("<", pixel, last), pixel, last)  # past the end: the last one again
            pixels.append(b.mul(pixel, gap))

        def square(c: Value, loads: Any) -> list[Value]:
            turned = e.transpose([loads(b.add(pixel, c)) for pixel in pixels])
            for i, value in enumerate(turned):
                e.store(value, e.ptr(scaled(e, dst, b.add(b.mul(b.add(c, i64(i)), plane), j))))
            return []

        whole = b.sdiv(channels, lanes)
        e.loop(whole, [], lambda q, _: square(b.mul(q, lanes), lambda o: e.load(e.ptr(scaled(e, src, o)))), "square")
        c = b.mul(whole, lanes)
        mask = e.range_mask(i64(0), b.sub(channels, c))
        e.loop(
            b.select(b.icmp_signed("<", c, channels), i64(1), i64(0)), [],
            lambda _i, _: square(c, lambda o: e.masked_load(e.ptr(scaled(e, src, o)), e.as_mask(mask))), "rest",
        )  # fmt: skip
        return []

    e.loop(groups, [], columns, "columns")
    b.ret_void()
    return function


def build_border(module: Value, element: str) -> Value:
    """Write the kernel that fills padded columns, or any columns one by one, through an index table.

    ``dst[c*plane + r*pitch + j] = src[c*gap + r*row_step + index[j*stride]*step]`` for j < n, r < rows, c < channels; an index
    below 0 takes the padding value. Arguments: dst, plane, pitch, src, gap, row_step, step, index, stride, n, rows, channels, padding.
    """
    function, b = new_function(module, f"border_{element}", 13)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, plane, pitch, src, gap, row_step, step, index, stride, n, rows, channels, padding = function.args
    value = e.load_scalar(e.ptr(padding))

    def column(j: Value, _: list[Value]) -> list[Value]:
        column_read = _word(e, index, b.mul(j, stride))
        is_inside = b.icmp_signed(">=", column_read, i64(0))
        first = e.offset(e.ptr(src), b.mul(column_read, step))

        def row(to: Value, origin: Value) -> list[Value]:
            address = b.select(is_inside, origin, e.ptr(padding))
            b.store(b.select(is_inside, e.load_scalar(address), value), to, align=e.nbytes)
            return [e.offset(to, pitch), e.offset(origin, row_step)]

        def channel(_: Value, carried: list[Value]) -> list[Value]:
            to, origin = carried
            e.loop(rows, [to, origin], lambda _i, here: row(*here), "row")
            return [e.offset(to, plane), e.offset(origin, gap)]

        e.loop(channels, [e.offset(e.ptr(dst), j), first], channel, "channel")
        return []

    e.loop(n, [], column, "column")
    b.ret_void()
    return function


def build_fill(module: Value, element: str) -> Value:
    """Write the kernel that fills rows of the padding value: ``dst[c*plane + r*pitch + j] = padding`` for j < n and a little more.

    Arguments: dst, plane, pitch, n, rows, channels, padding (address of the value).
    """
    function, b = new_function(module, f"fill_{element}", 7)
    if b is None:
        return function
    e = Emitter(module, b, element)
    dst, plane, pitch, n, rows, channels, padding = function.args
    value = e.broadcast(e.ptr(padding))
    vectors = b.sdiv(b.add(n, i64(e.lanes - 1)), i64(e.lanes))

    def row(_: Value, carried: list[Value]) -> list[Value]:
        [to] = carried

        def vector(v: Value, _: list[Value]) -> list[Value]:
            e.store(value, e.offset(to, b.mul(v, i64(e.lanes))))
            return []

        e.loop(vectors, [], vector, "vector")
        return [e.offset(to, pitch)]

    def channel(_: Value, carried: list[Value]) -> list[Value]:
        [to] = carried
        e.loop(rows, [to], row, "row")
        return [e.offset(to, plane)]

    e.loop(channels, [e.ptr(dst)], channel, "channel")
    b.ret_void()
    return function
