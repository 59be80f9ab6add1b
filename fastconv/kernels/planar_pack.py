"""Packing of a strip of source rows with their borders, split by part and column phase, for `fastconv.kernels.planar`."""

from __future__ import annotations

import functools
from collections.abc import Callable

from fastconv.kernels.planar_spec import GEOMETRY, PAD_ROW, SOURCE, PlanarSpec
from fastconv.kernels.simd import I64, Emitter, Value, i64, new_function

#: Zeroed vectors at the end of each phase of a packed row: lanes that are read but never stored.
SLACK_VECTORS = 3


class _Pack(Emitter):
    """Writes the packing of one row."""

    def __init__(self, module: Value, builder: Value, element: str, spec: PlanarSpec, geometry: Value) -> None:
        super().__init__(module, builder, element)
        self.sw, self.parts = spec.sw, spec.parts
        table = self.ptr(geometry)
        self.g = {name: builder.load(builder.gep(table, [i64(i)], source_etype=I64), typ=I64, align=8) for i, name in enumerate(GEOMETRY)}

    def part_pointer(self, row: Value, part: int) -> Value:
        """Return the pointer to the row of one part: the real or the imaginary numbers."""
        return self.offset_nbytes(row, self.b.mul(self.g["reduction_step"], i64(part))) if part else row

    def phase_pointer(self, row: Value, column: Value) -> Value:
        """Return the pointer to a padded column in the packed row of a part."""
        b = self.b
        if self.sw == 1:
            return self.offset(row, column)
        phase = b.mul(b.urem(column, i64(self.sw)), self.g["phase"])
        return self.offset(self.offset_nbytes(row, phase), b.udiv(column, i64(self.sw)))

    def pack_row(self, packed: Value, source: Value, column_nbytes: Value, fill: Value) -> None:
        """Copy one source row: slack, then whole vectors, then single columns, then the margins."""
        b, g, lanes = self.b, self.g, self.lanes
        parts = [self.part_pointer(packed, part) for part in range(self.parts)]
        for part in parts:
            for phase in range(self.sw):
                start = self.offset_nbytes(part, b.add(g["slack"], b.mul(g["phase"], i64(phase))))
                for k in range(SLACK_VECTORS):
                    self.store(self.zero(), self.offset(start, k * lanes))
        done = i64(0)
        if self.sw <= 2:
            done = self._copy_vectors(parts, source, column_nbytes)

        def column(i: Value, _: list[Value]) -> list[Value]:
            c = b.add(done, i)
            place = self.offset_nbytes(source, b.mul(c, column_nbytes))
            for k, part in enumerate(parts):
                b.store(self.load_scalar(self.offset(place, k)), self.phase_pointer(part, b.add(c, g["shift"])), align=self.nbytes)
            return []

        self.loop(b.sub(g["width"], done), [], column, "column")

        def margin(to: Value, place: Value) -> None:
            for k, part in enumerate(parts):
                b.store(self.load_scalar(self.offset(place, k)), self.offset_nbytes(part, to), align=self.nbytes)

        self._fill_margins(source, column_nbytes, fill, margin)

    def _fill_margins(self, source: Value, column_nbytes: Value, fill: Value, copy: Callable[[Value, Value], None]) -> None:
        """Emit ``copy(bytes from the start of a packed row, source column or `fill`)`` for each position of the margins."""
        b, g = self.b, self.g
        table = self.ptr(g["margins"])

        def margin(i: Value, _: list[Value]) -> list[Value]:
            twice = b.shl(i, i64(1))
            to, origin = (b.load(b.gep(table, [index], source_etype=I64), typ=I64, align=8) for index in (twice, b.add(twice, i64(1))))
            place = self.offset_nbytes(source, b.mul(origin, column_nbytes))
            copy(to, b.select(b.icmp_signed("==", origin, i64(PAD_ROW)), fill, place))
            return []

        self.loop(g["margin_count"], [], margin, "margin")

    def _copy_vectors(self, parts: list[Value], source: Value, column_nbytes: Value) -> Value:
        """Copy what whole vectors cover (the last one overlaps) and return the number of columns done."""
        b, g, lanes = self.b, self.g, self.lanes
        step = self.sw * lanes
        is_unit = b.icmp_signed("==", column_nbytes, i64(self.parts * self.nbytes))
        fits = b.and_(is_unit, b.icmp_signed(">=", g["width"], i64(step)))
        covered = g["width"] if self.sw == 1 else b.and_(g["width"], i64(-2))
        covered = b.select(fits, covered, i64(0))
        last = b.sub(covered, i64(step))
        # Column by column, parts innermost: the order in which they are taken apart.
        places = [self.phase_pointer(part, b.add(g["shift"], i64(phase))) for phase in range(self.sw) for part in parts]

        def vector(i: Value, _: list[Value]) -> list[Value]:
            c = b.mul(i, i64(step))
            c = b.select(b.icmp_signed("<", c, last), c, last)
            start = self.offset(source, c if self.parts == 1 else b.shl(c, i64(1)))
            vectors = self.taken_apart([self.load(self.offset(start, v * lanes)) for v in range(len(places))])
            index = c if self.sw == 1 else b.ashr(c, i64(1))
            for place, value in zip(places, vectors, strict=True):
                self.store(value, self.offset(place, index))
            return []

        self.loop(b.sdiv(b.add(covered, i64(step - 1)), i64(step)), [], vector, "vector")
        return covered

    def pack_pixels(self, packed: Value, source: Value, column_nbytes: Value, fill: Value, channels: Value) -> None:
        """Copy one channels-last source row: slack, then squares of pixels and channels within 128 bits, then the margins."""
        b, g, lanes = self.b, self.g, self.lanes
        step = self.sw * lanes

        def slack(_: Value, rows: list[Value]) -> list[Value]:
            for phase in range(self.sw):
                start = self.offset_nbytes(rows[0], b.add(g["slack"], b.mul(g["phase"], i64(phase))))
                for k in range(SLACK_VECTORS):
                    self.store(self.zero(), self.offset(start, k * lanes))
            return [self.offset_nbytes(rows[0], g["reduction_step"])]

        self.loop(channels, [packed], slack, "slack")
        last = b.sub(g["width"], i64(1))

        def vector(i: Value, _: list[Value]) -> list[Value]:
            for phase in range(self.sw):
                pixels = []
                for k in range(lanes):
                    c = b.add(b.mul(i, i64(step)), i64(phase + k * self.sw))
                    c = b.select(b.icmp_signed("<", c, last), c, last)  # behind the end: the last one again
                    pixels.append(self.offset_nbytes(source, b.mul(c, column_nbytes)))
                to = self.offset(self.phase_pointer(packed, b.add(g["shift"], i64(phase))), b.mul(i, i64(lanes)))
                carried, count = [i64(0), to], self.block
                while count:
                    turns = b.sdiv(channels, i64(count))
                    turns = turns if count == self.block else b.and_(turns, i64(1))
                    carried = self.loop(turns, carried, functools.partial(self._square, pixels, count), "square")
                    count //= 2
            return []

        self.loop(b.sdiv(b.add(g["width"], i64(step - 1)), i64(step)), [], vector, "vector")

        def margin(to: Value, place: Value) -> None:
            def channel(c: Value, rows: list[Value]) -> list[Value]:
                b.store(self.load_scalar(self.offset(place, c)), rows[0], align=self.nbytes)
                return [self.offset_nbytes(rows[0], g["reduction_step"])]

            self.loop(channels, [self.offset_nbytes(packed, to)], channel, "channel")

        self._fill_margins(source, column_nbytes, fill, margin)

    def _square(self, pixels: list[Value], count: int, _: Value, carried: list[Value]) -> list[Value]:
        """Turn `count` channels of a vector of pixels; `carried` are the first channel and the place of its vector."""
        first, place = carried
        values = [self.load_pieces([self.offset(pixel, first) for pixel in pixels[k::count]], count) for k in range(count)]
        for value in self.transpose(values):
            self.store(value, place)
            place = self.offset_nbytes(place, self.g["reduction_step"])
        return [self.b.add(first, i64(count)), place]

    def taken_apart(self, vectors: list[Value]) -> list[Value]:
        """Return every n-th element of n = 1, 2 or 4 neighbouring vectors, from the first, from the second, ..."""
        n = len(vectors)
        if n == 1:
            return vectors
        pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
        even, odd = (
            self.taken_apart([self.shuffle(low, high, range(first, 2 * self.lanes, 2)) for low, high in pairs]) for first in (0, 1)
        )
        return [value for pair in zip(even, odd, strict=True) for value in pair]


def build_pack(module: Value, element: str, *values: int) -> Value:
    """Write the packing for the kernel of ``PlanarSpec(*values)``; an empty function if it reads in place.

    Arguments of the function, all i64: address of the geometry, of the scratch, of the source (at column 0), of
    the row table's first entry, number of rows, number of channels, step from channel to channel in bytes.

    Notes
    -----
    A packed row holds the padded columns j = 0 .. split by phase j % sw, so that a tap of a strided kernel reads
    neighbouring elements, of each part of each channel; rows follow one another::

        channel 0, part 0, phase 0: columns 0, sw, 2*sw, ... | zeros to a whole vector
                           phase 1: columns 1, sw + 1, ...   | zeros to a whole vector
        channel 0, part 1 (imaginary numbers), phase 0: ...
        channel 1, part 0, ...

    Parts are `reduction_step` apart, as are the channels of channels-last sources, among which parts count. Each element is read
    once and written once.
    """
    function, builder = new_function(module, "planar_pack_" + "_".join(map(str, (element, *values))), 7)
    if builder is None:
        return function
    spec = PlanarSpec(*values)
    if not spec.split:
        builder.ret_void()
        return function
    geometry, scratch, src, rows, row_count, channels, channel_step = function.args
    e = _Pack(module, builder, element, spec, geometry)
    table, g = e.ptr(rows), e.g
    pad_row, unit = e.ptr(g["pad_row"]), i64(spec.parts * e.nbytes)

    def origin(base: Value, j: Value) -> tuple[Value, Value]:
        """Return the pointer to source row j and the distance of its columns."""
        offset = builder.load(builder.gep(table, [j], source_etype=I64), typ=I64, align=8)
        is_padding = builder.icmp_signed("==", offset, i64(PAD_ROW))
        return builder.select(is_padding, pad_row, e.offset_nbytes(base, offset)), builder.select(is_padding, unit, g["src_column"])

    def pixels(j: Value, packed: list[Value]) -> list[Value]:
        e.pack_pixels(packed[0], *origin(e.ptr(src), j), pad_row, channels)
        return [e.offset_nbytes(packed[0], g["packed_row"])]

    def channel(_: Value, carried: list[Value]) -> list[Value]:
        def row(j: Value, packed: list[Value]) -> list[Value]:
            e.pack_row(packed[0], *origin(carried[0], j), pad_row)
            return [e.offset_nbytes(packed[0], g["packed_row"])]

        e.loop(row_count, [carried[1]], row, "row")
        step = builder.mul(g["reduction_step"], i64(spec.parts))
        return [e.offset_nbytes(carried[0], channel_step), e.offset_nbytes(carried[1], step)]

    if spec.turns & SOURCE:
        e.loop(row_count, [e.ptr(scratch)], pixels, "row")
    else:
        e.loop(channels, [e.ptr(src), e.ptr(scratch)], channel, "channel")
    builder.ret_void()
    return function
