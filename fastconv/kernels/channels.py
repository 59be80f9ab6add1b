"""Convolution of channels-last arrays with few inputs per output: the lanes of a vector are neighbouring output channels of one pixel.

One LLVM function computes whole rows of the result for blocks of VL channels. A register tile holds R rows of P pixels; each
source vector that is loaded serves all the sums of the tile that read it, each vector of weights its P pixels::

    source, one row         |c0 .. c7|c8 ..     |c0 .. c7|c8 ..     |c0 .. c7|..       pixels are `src_column` bytes apart
    register tile           |acc 00  |acc 01  |acc 02  |acc 03  |                      R = 2 rows, P = 4 pixels
                            |acc 10  |acc 11  |acc 12  |acc 13  |
    weights                 [block][kh][kw][input of the group][VL]

What the lanes are multiplied with depends on how the channels are grouped::

    one input, one output   |c0 c1 c2 c3 c4 c5 c6 c7|     depthwise: the source vector as it is
    groups of four, input 1 |c1 c1 c1 c1|c5 c5 c5 c5|     spread in registers, once for each input of a group
    one input, two outputs  |c0 c0|c1 c1|c2 c2|c3 c3|     half as many channels are loaded and spread
    three inputs, 64 outputs, input 1 |c1 ..     c1|      a broadcast: all lanes belong to one group

The parts of complex numbers are two inputs and two outputs. Nothing is packed and no lane is wasted, whatever the stride, the dilation
and the width; channels beyond the last whole block belong to a block that overlaps the one before. Where pixels are whole vectors
apart but start beside a boundary of vectors, the first block overlaps the second, so that the others cross no cache line (`lead`).
Rows outside of the source point at one shared row of padding values; tiles whose windows cross the left or right border look each
column up in a table, which serves every padding mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv.kernels.epilogue import emit_epilogue
from fastconv.kernels.partial import PartialVectors
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, PAD_ROW, RESIDUAL
from fastconv.kernels.simd import I64, Value, i64, new_function
from fastconv.kernels.target import Target

#: Runtime parameters in one array of int64, in this order. Strides and steps are in bytes.
CHANNELS_GEOMETRY = (
    "src_step", "weights_step", "dst_step",  # from block to block of channels
    "lead",  # bytes by which the blocks behind the first start earlier than whole steps
    "src_last", "dst_last",  # the last block in a pixel
    "src_column", "dst_row", "dst_column", "residual_row", "residual_column",
    "pad_row",  # address of a row of padding values
    "shift",  # columns of left padding
    "column_table",  # address of the byte offsets of padded columns, `PAD_ROW` = padding
    "tiles", "last",  # number of tiles in a row, first pixel of the last
    "inside_first", "inside_last",  # tiles that start at these pixels or between them read inside the row
    "activation", "limits",  # code, address of (low, high), see `fastconv.kernels.epilogue`
    # tasks (`fastconv.kernels.channels_run`)
    "kernel",  # address of the function
    "tasks", "strips", "chunks",  # tasks = images * chunks * strips
    "all_rows", "all_blocks",
    "src_image", "dst_image", "residual_image",
    "row_table",  # address of the byte offsets of padded rows, `PAD_ROW` = padding
    "tile_rows",  # R
    "row_stride",  # source rows from output row to output row
)  # fmt: skip
#: More products than this per tile are not written out: a loop over kernel rows takes their place.
UNROLLED_FMAS = 800
#: Cycles of a source vector's load beside the products that hide most of it, and of a tile, so that the fastest tiles of 3x3 to 7x7
#: kernels come first (AVX-512; ``python bench/direct_layers.py --model --nhwc --alone --layers dw resnext`` shows the sums).
LOAD_CYCLES, TILE_CYCLES = 0.35, 8.0


def channels_words(**values: int) -> npt.NDArray[np.int64]:
    """Return the array of `CHANNELS_GEOMETRY` with these words."""
    return np.array([values[name] for name in CHANNELS_GEOMETRY], np.int64)


def is_unrolled(sums: int, taps: int) -> bool:
    """Tell whether all products of a tile are written out."""
    return sums * taps <= UNROLLED_FMAS


def tile_cycles(tile: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], inputs: int) -> float:
    """Return the modelled cycles of a register tile for one vector of channels.

    Notes
    -----
    A sum takes a product for each tap and input, half a cycle each; loads are shared between neighbouring sums, and each tile has
    addresses to find. A row of the kernel is P independent chains of products; where the kernel's rows are a loop, no other row
    fills the gaps of fewer than eight.
    """
    (r, p), (kh, kw), (sh, sw) = tile, kernel, stride
    taps = kh * kw * inputs
    products = r * p * taps / 2
    if not is_unrolled(r * p, taps):
        products *= max(1.0, 8 / p)
    return products + LOAD_CYCLES * inputs * ((r - 1) * sh + kh) * ((p - 1) * sw + kw) + TILE_CYCLES


def choose_tile(kernel: tuple[int, int], stride: tuple[int, int], extent: tuple[int, int], inputs: int, target: Target) -> tuple[int, int]:
    """Return rows and pixels of the register tile: the least `tile_cycles` for all tiles that cover `extent`, (rows, pixels).

    Sums, the P source vectors that are multiplied next and one of weights fit the registers; where no operand comes from memory, LLVM
    wants some more.
    """
    most, (oh, ow) = target.registers // 2 - (0 if target.folds_loads else 4), extent
    tiles = [(r, p) for r in range(1, min(oh, most) + 1) for p in range(1, min(ow, most // r) + 1) if (r + 1) * p < target.registers]
    return min(tiles, key=lambda tile: -(-oh // tile[0]) * -(-ow // tile[1]) * tile_cycles(tile, kernel, stride, inputs))


class ChannelsSpec(NamedTuple):
    """What a kernel is compiled for.

    Attributes
    ----------
    r, p : int
        Register tile: rows, pixels.
    kh, kw, sh, sw, dh, dw : int
        Kernel, strides, dilations.
    inputs, outputs : int
        Real inputs and outputs of a group: the outputs are a multiple of the inputs and divide a vector, or are at least
        as many as a vector has lanes.
    tail : int
        Number of output channels if there are fewer than lanes; 0 otherwise.
    epilogue : int
        Sum of `BIAS`, `RESIDUAL` and `ACTIVATION`.
    """

    r: int
    p: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    inputs: int
    outputs: int
    tail: int
    epilogue: int


#: ``at(j, line, q)``: the pointer to padded column q of a tile in the row at `line`, the tile's row j if they are unrolled, else -1.
_Columns = Callable[[int, Value, int], Value]
#: A source row of a tile: j, its pointer, and the (output row, address of a row of weights) pairs that it serves.
_Served = tuple[int, Value, list[tuple[int, Value]]]


class _Channels(PartialVectors):
    """Writes the body of one kernel."""

    def __init__(
        self, module: Value, builder: Value, element: str, spec: ChannelsSpec, arguments: tuple[Value, ...], target: Target | None
    ) -> None:
        super().__init__(module, builder, element, target)
        geometry, *starts, rows, self.rows, self.first_block, self.stop_block = arguments
        self.spec = spec
        table = self.ptr(geometry)
        self.g = {
            name: builder.load(builder.gep(table, [i64(i)], source_etype=I64), typ=I64, align=8) for i, name in enumerate(CHANNELS_GEOMETRY)
        }
        self.src, self.weights, *self.outputs = [self.ptr(a) for a in starts]
        self.row_table, self.pad_row = self.ptr(rows), self.ptr(self.g["pad_row"])
        taps = spec.kh * spec.kw * spec.inputs
        self.keeps_weights = spec.r * spec.p + taps + spec.kw + spec.p <= self.target.registers
        self.is_unrolled = is_unrolled(spec.r * spec.p, taps)

    # ---- source

    def line(self, index: Value) -> Value:
        """Return the pointer to the row that entry `index` of the row table names."""
        b = self.b
        offset = b.load(b.gep(self.row_table, [index], source_etype=I64), typ=I64, align=8)
        return b.select(b.icmp_signed("==", offset, i64(PAD_ROW)), self.pad_row, self.offset_nbytes(self.src, offset))

    def load_inputs(self, pointer: Value, channel: int) -> Value:
        """Load the inputs of a block's channels and return that number `channel` of each group in all its lanes."""
        n, m = self.spec.inputs, self.spec.outputs
        if m >= self.lanes:
            return self.broadcast(self.offset(pointer, channel))
        count = (self.spec.tail or self.lanes) * n // m
        if count == self.lanes:
            value = self.load(pointer)
        elif n == m or count & (count - 1):
            value = self.load_first(pointer, count)
        else:
            value = self.load_pieces([pointer], count)
        last = value.type.count - 1
        return value if n == m == 1 else self.shuffle(value, value, [min(lane // m * n + channel, last) for lane in range(self.lanes)])

    # ---- sums

    def add_rows(self, sums: list[Value | None], served: list[_Served], at: _Columns) -> list[Value | None]:
        """Add the products of some source rows to the sums [r][p]."""
        spec, out = self.spec, list(sums)
        for j, row, pairs in served:
            for channel in range(spec.inputs):
                # Vectors are loaded anew for each input, weights for each row where they are many: to keep all would fill the registers.
                line, loaded = self.launder(row) if channel else row, dict[int, Value]()
                weights = [(r, taps if self.keeps_weights else self.launder(taps)) for r, taps in pairs]
                for kw in range(spec.kw):
                    for p in range(spec.p):
                        q = p * spec.sw + kw * spec.dw
                        if q not in loaded:
                            loaded[q] = self.load_inputs(at(j, line, q), channel)
                    for r, taps in weights:
                        weight = self.load(self.offset(taps, (kw * spec.inputs + channel) * self.lanes))
                        for p in range(spec.p):
                            i, x = r * spec.p + p, loaded[p * spec.sw + kw * spec.dw]
                            before = out[i]
                            out[i] = self.times(weight, x) if before is None else self.fma(weight, x, before)
                if not self.is_unrolled:
                    # LLVM would load the next row ahead and spill.
                    self.fence()
        return out

    def tap_row(self, weights: Value, kh: Value | int) -> Value:
        """Return the address of the weights of a kernel row."""
        step = self.spec.kw * self.spec.inputs * self.lanes
        return self.offset(weights, kh * step if isinstance(kh, int) else self.b.mul(kh, i64(step)))

    def add_tile(self, weights: Value, first: Value, lines: dict[int, Value], at: _Columns) -> list[Value]:
        """Return the sums [r][p] of a tile; `first` is its first entry of the row table, `lines` are its rows if it is unrolled."""
        spec, b = self.spec, self.b
        sums: list[Value | None] = [None] * (spec.r * spec.p)
        if self.is_unrolled:
            for j, line in lines.items():
                kernel_rows = [(r, (j - r * spec.sh) // spec.dh) for r in range(spec.r) if (j - r * spec.sh) % spec.dh == 0]
                pairs = [(r, self.tap_row(weights, kh)) for r, kh in kernel_rows if 0 <= kh < spec.kh]
                sums = self.add_rows(sums, [(j, line, pairs)], at)
            return sums

        def turn(kh: Value, carried: list[Value]) -> list[Value]:
            index, taps = b.add(first, b.mul(kh, i64(spec.dh))), self.tap_row(weights, kh)
            served: list[_Served] = [(-1, self.line(b.add(index, i64(r * spec.sh))), [(r, taps)]) for r in range(spec.r)]
            return self.add_rows(list(carried), served, at)

        return self.loop(i64(spec.kh), [self.zero()] * len(sums), turn, "kh")

    # ---- results

    def finish(self, sums: list[Value], row: Value, pixel: Value, channel: Value) -> None:
        """Apply the epilogue and store a tile; `channel` is the byte offset of its channels."""
        spec, b = self.spec, self.b
        dst, bias, residual = (self.offset_nbytes(pointer, channel) for pointer in self.outputs)
        values = sums
        if spec.epilogue & BIAS:
            term = self.load_channels(bias)
            values = [b.fadd(value, term) for value in values]
        if spec.epilogue & RESIDUAL:
            places = self.places(residual, "residual", row, pixel)
            values = [b.fadd(value, self.load_channels(place)) for value, place in zip(values, places, strict=True)]
        if spec.epilogue & ACTIVATION:
            values = emit_epilogue(self, values, code=self.g["activation"], limits=self.g["limits"])
        for value, place in zip(values, self.places(dst, "dst", row, pixel), strict=True):
            if spec.tail:
                self.store_first(value, place, spec.tail)
            else:
                self.store(value, place)

    def load_channels(self, pointer: Value) -> Value:
        """Load a vector of output channels."""
        return self.load_first(pointer, self.spec.tail) if self.spec.tail else self.load(pointer)

    def places(self, base: Value, array: str, row: Value, pixel: Value) -> list[Value]:
        """Return the pointers [r][p] of a tile's vectors in an array of the result's shape."""
        b, g = self.b, self.g
        line, out = self.offset_nbytes(base, b.add(b.mul(row, g[f"{array}_row"]), b.mul(pixel, g[f"{array}_column"]))), []
        for _ in range(self.spec.r):
            place = line
            for _ in range(self.spec.p):
                out.append(place)
                place = self.offset_nbytes(place, g[f"{array}_column"])
            line = self.offset_nbytes(line, g[f"{array}_row"])
        return out

    # ---- loops

    def channel(self, block: Value, array: str) -> Value:
        """Return the byte offset of a block's first channel in a pixel of an array."""
        b, g = self.b, self.g
        start = b.sub(b.mul(block, g[f"{array}_step"]), g["lead"])
        start = b.select(b.icmp_signed("<", start, g[f"{array}_last"]), start, g[f"{array}_last"])
        return b.select(b.icmp_signed(">", start, i64(0)), start, i64(0))

    def blocks(self, row: Value, pixel: Value, first: Value, lines: dict[int, Value], columns: Callable[[Value], _Columns]) -> None:
        """Compute all blocks of channels of a tile; ``columns(channel)`` finds the columns at a byte offset of channels."""
        b, g = self.b, self.g

        def block(i: Value, _: list[Value]) -> list[Value]:
            number = b.add(self.first_block, i)
            source, result = (self.channel(number, array) for array in ("src", "dst"))
            weights = self.offset_nbytes(self.weights, b.mul(number, g["weights_step"]))
            self.finish(self.add_tile(weights, first, lines, columns(source)), row, pixel, result)
            return []

        self.loop(b.sub(self.stop_block, self.first_block), [], block, "block")

    def tile(self, row: Value, pixel: Value, first: Value, lines: dict[int, Value]) -> None:
        """Compute a tile, by one of two pieces of code: read inside the row, or with each column looked up."""
        spec, b, g = self.spec, self.b, self.g
        inside, border, done = (b.append_basic_block(name) for name in ("inside", "border", "done"))
        is_inside = b.and_(b.icmp_signed(">=", pixel, g["inside_first"]), b.icmp_signed("<=", pixel, g["inside_last"]))
        b.cbranch(is_inside, inside, border)
        b.position_at_end(inside)
        column = b.mul(pixel, i64(spec.sw))
        start = b.mul(b.sub(column, g["shift"]), g["src_column"])

        def in_row(channel: Value) -> _Columns:
            here = b.add(start, channel)
            return lambda _, line, q: self.offset_nbytes(line, b.add(here, b.mul(g["src_column"], i64(q))))

        self.blocks(row, pixel, first, lines, in_row)
        b.branch(done)
        b.position_at_end(border)
        column = b.mul(pixel, i64(spec.sw))
        table = self.ptr(g["column_table"])
        needed = sorted({p * spec.sw + kw * spec.dw for p in range(spec.p) for kw in range(spec.kw)})
        offsets = {q: b.load(b.gep(table, [b.add(column, i64(q))], source_etype=I64), typ=I64, align=8) for q in needed}
        is_padding = {q: b.icmp_signed("==", offset, i64(PAD_ROW)) for q, offset in offsets.items()}

        def looked_up(line: Value, q: int) -> Value:
            return b.select(is_padding[q], self.pad_row, self.offset_nbytes(line, offsets[q]))

        known = {(j, q): looked_up(line, q) for j, line in lines.items() for q in needed}

        def at_border(channel: Value) -> _Columns:
            def at(j: int, line: Value, q: int) -> Value:
                if not known:
                    return self.offset_nbytes(looked_up(line, q), channel)
                return self.offset_nbytes(self.launder(known[j, q]) if spec.inputs > 1 else known[j, q], channel)

            return at

        self.blocks(row, pixel, first, lines, at_border)
        b.branch(done)
        b.position_at_end(done)

    def write(self) -> None:
        """Write the whole function."""
        spec, b, g = self.spec, self.b, self.g

        def rows(block: Value, _: list[Value]) -> list[Value]:
            row, highest = b.mul(block, i64(spec.r)), b.sub(self.rows, i64(spec.r))
            row = b.select(b.icmp_signed("<", row, highest), row, highest)
            first = b.mul(row, i64(spec.sh))
            needed = sorted({r * spec.sh + kh * spec.dh for r in range(spec.r) for kh in range(spec.kh)}) if self.is_unrolled else []
            lines = {j: self.line(b.add(first, i64(j))) for j in needed}

            def tile(t: Value, _: list[Value]) -> list[Value]:
                pixel = b.mul(t, i64(spec.p))
                self.tile(row, b.select(b.icmp_signed("<", pixel, g["last"]), pixel, g["last"]), first, lines)
                return []

            self.loop(g["tiles"], [], tile, "tile")
            return []

        self.loop(b.sdiv(b.add(self.rows, i64(spec.r - 1)), i64(spec.r)), [], rows, "rows")
        b.ret_void()


def build_channels(module: Value, element: str, *values: int, target: Target | None = None) -> Value:
    """Write the kernel of ``ChannelsSpec(*values)``, for another target than the host's if one is given.

    Arguments of the function, all i64: address of the geometry (`CHANNELS_GEOMETRY`), addresses of source, weights, result, bias
    and residual at their first channel, address of the row table's entry for the first row, number of output rows (at least R),
    first block of channels, and the one behind the last.

    Notes
    -----
    dst[i, j, c] = sum over r, s, k of src[row(i*sh + r*dh), column(j*sw + s*dw), first(c) + k] * weights[block][r, s, k, c], where
    first(c) is the first channel of the group, then the epilogue. 2*rows*OW*VL*KH*KW*inputs flops per block; reads each source
    vector inputs*(1 + (KH - 1)/R)*(1 + (KW - 1)/P) times from the caches (unit strides) and the source once from memory, writes the
    result once. Not checked here: that the channels of an array are neighbours, that OW is at least P, and that the tiles between
    `inside_first` and `inside_last` read inside the row.
    """
    function, builder = new_function(module, "channels_" + "_".join(map(str, (element, *values))), 10)
    if builder is not None:
        _Channels(module, builder, element, ChannelsSpec(*values), function.args, target).write()
    return function
