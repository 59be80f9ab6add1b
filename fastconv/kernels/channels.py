"""Depthwise and grouped convolution of channels-last arrays: the lanes of a vector are neighbouring channels of one pixel.

One LLVM function computes whole rows of the result for blocks of VL channels. A register tile holds R rows of P pixels; each
source vector that is loaded serves all the rows of the tile that read it, each vector of weights its P pixels::

    source, one row         |c0 .. c7|c8 ..     |c0 .. c7|c8 ..     |c0 .. c7|..       pixels are `src_column` bytes apart
    register tile           |acc 00  |acc 01  |acc 02  |acc 03  |                      R = 2 rows, P = 4 pixels
                            |acc 10  |acc 11  |acc 12  |acc 13  |
    weights                 [block][kh][kw][input of the group][VL]

Groups of 2, 4, ... channels stand in a vector side by side; a source vector is multiplied once for each input of a group, with that
input in all lanes of its group, which is a shuffle where a group takes at most 128 bits. The parts of complex numbers are two inputs.

Nothing is packed and no lane is wasted, whatever the stride, the dilation and the width. Rows outside of the source point at one
shared row of padding values; tiles of pixels whose window crosses the left or right border look each column up in a table,
which serves every padding mode.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.kernels.epilogue import emit_epilogue
from fastconv.kernels.gemm import INDEPENDENT_SUMS
from fastconv.kernels.planar_source import SourceRows
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, PAD_ROW, RESIDUAL
from fastconv.kernels.simd import I64, Value, i64, new_function
from fastconv.kernels.target import Target


class ChannelsSpec(NamedTuple):
    """What a kernel is compiled for.

    Attributes
    ----------
    r, p, edge : int
        Register tile: rows, pixels, pixels of a tile at the border.
    kh, kw, sh, sw, dh, dw : int
        Kernel, strides, dilations.
    inputs : int
        Inputs and outputs of a group: a power of two that divides a vector.
    tail : int
        Number of channels if there are fewer than lanes; 0 otherwise.
    epilogue : int
        Sum of `BIAS`, `RESIDUAL` and `ACTIVATION`.
    """

    r: int
    p: int
    edge: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    inputs: int
    tail: int
    epilogue: int

    @property
    def split(self) -> int:
        """Rows are read in place."""
        return 0


class _Channels(SourceRows):
    """Writes the body of one kernel."""

    spec: Any

    def __init__(
        self, module: Value, builder: Value, element: str, spec: ChannelsSpec, arguments: tuple[Value, ...], target: Target | None
    ) -> None:
        geometry, *starts, rows, self.rows, self.blocks = arguments
        super().__init__(module, builder, element, spec, geometry, rows, target)  # type: ignore[arg-type]
        self.starts = [self.ptr(a) for a in starts]

    def load_lanes(self, pointer: Value) -> Value:
        """Load a vector of channels."""
        return self.load_first(pointer, self.spec.tail) if self.spec.tail else self.load(pointer)

    def add_pixels(self, src: Value, weights: Value, first: Value, pixel: Value, pixels: int, *, is_inside: bool) -> list[Value]:
        """Return the sums [r][p] of `pixels` pixels; `first` is the tile's first entry of the row table."""
        spec, b, g = self.spec, self.b, self.g
        served: dict[int, list[tuple[int, int]]] = {}
        for r in range(spec.r):
            for kh in range(spec.kh):
                served.setdefault(r * spec.sh + kh * spec.dh, []).append((r, kh))
        column = b.mul(pixel, i64(spec.sw))
        start = b.mul(b.sub(column, g["shift"]), g["src_column"])
        # Few sums wait for one another: then there are two of each, for every other source row.
        sets = 1 if spec.r * pixels >= INDEPENDENT_SUMS else 2
        sums: list[Any] = [None] * (sets * spec.r * pixels)
        for turn, (j, pairs) in enumerate(sorted(served.items())):
            row = self.row_pointer(src, first, j)
            for channel in range(spec.inputs):
                taps = self.launder(weights)
                # Vectors are loaded anew for each input: to keep them all would fill the registers.
                row = self.launder(row) if channel else row
                loaded: dict[int, Value] = {}
                for kw in range(spec.kw):
                    for p in range(pixels):
                        q = p * spec.sw + kw * spec.dw
                        if q not in loaded:
                            value = self.load_lanes(self._inside(row, start, q) if is_inside else self._looked_up(row, column, q))
                            loaded[q] = self._spread(value, channel)
                    for r, kh in pairs:
                        weight = self.load(self.offset(taps, ((kh * spec.kw + kw) * spec.inputs + channel) * self.lanes))
                        for p in range(pixels):
                            x, i = loaded[p * spec.sw + kw * spec.dw], (turn % sets * spec.r + r) * pixels + p
                            sums[i] = b.fmul(weight, x) if sums[i] is None else self.fma(weight, x, sums[i])
        first_set, *others = (sums[i : i + spec.r * pixels] for i in range(0, len(sums), spec.r * pixels))
        for other in others:
            first_set = [a if c is None else c if a is None else b.fadd(a, c) for a, c in zip(first_set, other, strict=True)]
        return first_set

    def _spread(self, value: Value, channel: int) -> Value:
        """Return the vector with one input of each group in all lanes of the group."""
        n = self.spec.inputs
        return value if n == 1 else self.shuffle(value, value, [lane // n * n + channel for lane in range(self.lanes)])

    def _inside(self, row: Value, start: Value, q: int) -> Value:
        return self.offset_nbytes(row, self.b.add(start, self.b.mul(self.g["src_column"], i64(q))))

    def _looked_up(self, row: Value, column: Value, q: int) -> Value:
        """Return the pointer to padded column `column` + q of a row, or to the padding values."""
        b = self.b
        table = self.ptr(self.g["column_table"])
        offset = b.load(b.gep(table, [b.add(column, i64(q))], source_etype=I64), typ=I64, align=8)
        return b.select(b.icmp_signed("==", offset, i64(PAD_ROW)), self.pad_row, self.offset_nbytes(row, offset))

    def finish(self, sums: list[Value], row: Value, pixel: Value, pixels: int, outputs: list[Value]) -> None:
        """Apply the epilogue and store a tile."""
        spec, b = self.spec, self.b
        dst, bias, residual = outputs
        values = sums
        if spec.epilogue & BIAS:
            term = self.load_lanes(bias)
            values = [b.fadd(value, term) for value in values]
        if spec.epilogue & RESIDUAL:
            places = self.places(residual, "residual", row, pixel, pixels)
            values = [b.fadd(value, self.load_lanes(place)) for value, place in zip(values, places, strict=True)]
        if spec.epilogue & ACTIVATION:
            values = emit_epilogue(self, values, code=self.g["activation"], limits=self.g["limits"])
        for value, place in zip(values, self.places(dst, "dst", row, pixel, pixels), strict=True):
            self.store_first(value, place, spec.tail or self.lanes)

    def places(self, base: Value, array: str, row: Value, pixel: Value, pixels: int) -> list[Value]:
        """Return the pointers [r][p] of a tile's vectors in an array of the result's shape."""
        b, g = self.b, self.g
        out = []
        for r in range(self.spec.r):
            line = self.offset_nbytes(base, b.mul(b.add(row, i64(r)), g[f"{array}_row"]))
            out += [self.offset_nbytes(line, b.mul(b.add(pixel, i64(p)), g[f"{array}_column"])) for p in range(pixels)]
        return out

    def write(self) -> None:
        """Write the whole function."""
        spec, b, g = self.spec, self.b, self.g
        steps = [g[step] for step in ("src_step", "weights_step", "dst_step", "bias_step", "residual_step")]

        def rows(block: Value, _: list[Value]) -> list[Value]:
            row = b.mul(block, i64(spec.r))
            highest = b.sub(self.rows, i64(spec.r))
            row = b.select(b.icmp_signed("<", row, highest), row, highest)
            first = b.mul(row, i64(spec.sh))

            def run(pixel: Value, pixels: int, *, is_inside: bool) -> list[Value]:
                # All blocks of a tile before the next tile: memory is read in order, which the prefetchers follow.
                def channels(_: Value, pointers: list[Value]) -> list[Value]:
                    sums = self.add_pixels(pointers[0], pointers[1], first, pixel, pixels, is_inside=is_inside)
                    self.finish(sums, row, pixel, pixels, pointers[2:])
                    return [self.offset_nbytes(p, step) for p, step in zip(pointers, steps, strict=True)]

                self.loop(self.blocks, self.starts, channels, "channels")
                return []

            def tile(t: Value, _: list[Value]) -> list[Value]:
                pixel = b.add(g["first"], b.mul(t, i64(spec.p)))
                return run(b.select(b.icmp_signed("<", pixel, g["last"]), pixel, g["last"]), spec.p, is_inside=True)

            def border(i: Value, _: list[Value]) -> list[Value]:
                # Pixels 0 .. first - 1, then those from `right` on.
                left = b.sdiv(b.add(g["first"], i64(spec.edge - 1)), i64(spec.edge))
                behind = b.add(g["right"], b.mul(b.sub(i, left), i64(spec.edge)))
                pixel = b.select(b.icmp_signed("<", i, left), b.mul(i, i64(spec.edge)), behind)
                return run(b.select(b.icmp_signed("<", pixel, g["border_last"]), pixel, g["border_last"]), spec.edge, is_inside=False)

            self.loop(g["tiles"], [], tile, "tile")
            self.loop(g["border_tiles"], [], border, "border")
            return []

        self.loop(b.sdiv(b.add(self.rows, i64(spec.r - 1)), i64(spec.r)), [], rows, "rows")
        b.ret_void()


def build_channels(module: Value, element: str, *values: int, target: Target | None = None) -> Value:
    """Write the kernel of ``ChannelsSpec(*values)``.

    Arguments of the function, all i64, as those of `fastconv.kernels.planar.build_planar`: address of the geometry, addresses
    of source, weights, result, bias and residual at the first channel of a block, address of the row table's entry for the
    first row, number of output rows (at least R), number of blocks of channels.

    Notes
    -----
    dst[i, j, c] = sum over r, s, k of src[row(i*sh + r*dh), column(j*sw + s*dw), first(c) + k] * weights[block][r, s, k, c], where
    first(c) is the first channel of the group, then the epilogue. 2*rows*OW*VL*KH*KW*inputs flops per block; reads each source
    vector inputs*(R + KH - 1)/R times from the first-level cache and the source once from memory, writes the result once. Not
    checked here: that the channels of an array are neighbours, and that the columns ``first .. last + P - 1`` of the geometry read
    inside the row.
    """
    function, builder = new_function(module, "channels_" + "_".join(map(str, (element, *values))), 9)
    if builder is not None:
        _Channels(module, builder, element, ChannelsSpec(*values), function.args, target).write()
    return function
