"""The generator for convolutions with few channels per output: depthwise, grouped, single-channel images, first layers.

One LLVM function computes whole rows of one or many output planes. A register tile holds MO output channels of
R output rows of V vectors along the row; every source vector that is loaded serves all the rows and channels of
the tile that read it::

    source rows (through a table of row offsets)     register tile, MO = 1
    row 0   |xxxxxxxx|xxxxxxxx|..                     output row 0   |acc 00|acc 01|
    row 1   |xxxxxxxx|xxxxxxxx|..   -- KH x KW -->    output row 1   |acc 10|acc 11|   R = 3 rows
    ...                                               output row 2   |acc 20|acc 21|   V = 2 vectors
    row R-1+KH-1

No padded copy is made for zero padding: rows outside the source point at one shared row of zeros, and the vectors
at the left and right border are shifted in registers (the lanes outside become 0 and *are* multiplied, so that an
infinite weight makes NaN there, as the definition says), or lanes that mirror them. Other borders, strides and narrow rows read a packed
strip (`fastconv.kernels.planar_pack`) whose rows carry their borders with them and are split by column phase.

Complex numbers are taken apart while a strip is packed, are two real channels to the sums (four real products each), and are put
together again in the registers of the tile that is stored. Channels-last arrays are turned in the same two places.
Integers wrap as NumPy's do, in their own width: the same bits in any order.
"""

from __future__ import annotations

from typing import Any

from fastconv.kernels.planar_results import Results
from fastconv.kernels.planar_source import Tile
from fastconv.kernels.planar_spec import INSIDE, Edge, PlanarSpec
from fastconv.kernels.simd import Value, i64, new_function
from fastconv.kernels.target import Target

#: More products than this per tile are not written out; loops over kernel rows take their place.
UNROLLED_FMAS = 800
#: Kernels wider than this get a loop over groups of columns.
UNROLLED_COLS = 32

#: One source row of a tile: its pointer, and the (output row, kernel row) pairs that it serves. The kernel row is
#: an int, or the pointer to that row of the weights.
_Row = tuple[Value, list[tuple[int, Any]]]


class _Planar(Results):
    """Writes the body of one planar kernel."""

    def __init__(
        self, module: Value, builder: Value, element: str, spec: PlanarSpec, arguments: tuple[Value, ...], target: Target | None
    ) -> None:
        geometry, self.src, self.weights, self.dst, self.bias, self.residual, rows, self.rows, self.planes = arguments
        super().__init__(module, builder, element, spec, geometry, rows, target)
        self.taps = spec.kh * spec.kw
        accumulators = spec.mo * spec.r * spec.v
        self.keeps_weights = not spec.reduces and not spec.reloads and spec.mo * self.taps + accumulators + 1 <= self.target.registers
        self.kept: dict[tuple[int, int, int], Value] = {}

    # ---- one row of the kernel

    def add_rows(self, accs: list[Value | None], group: list[_Row], weights: Value, tile: Tile) -> list[Value]:
        """Add the products of some source rows, which are walked together, to the accumulators."""
        spec = self.spec
        if spec.kw <= UNROLLED_COLS:
            return self._add_taps(accs, group, weights, tile, range(spec.kw), None)
        step = spec.sw * -(-8 // spec.sw)
        turns = spec.kw // step

        def turn(i: Value, values: list[Value]) -> list[Value]:
            shift = self.b.mul(i, i64(step * spec.dw // spec.sw * self.nbytes)), self.b.mul(i, i64(step * spec.mo))
            return self._add_taps(values, group, weights, tile, range(step), shift)

        zero = self.zero()
        out = self.loop(i64(turns), [zero if a is None else a for a in accs], turn, "kw")
        return self._add_taps(out, group, weights, tile, range(turns * step, spec.kw), None)

    def _add_taps(
        self, accs: list[Value | None], group: list[_Row], weights: Value, tile: Tile, kws: range, shift: tuple[Value, Value] | None
    ) -> list[Any]:
        spec, vectors = self.spec, len(tile.src)
        out = list(accs)
        walks = [(self.load_taps(row, tile, kws, shift[0] if shift else None), served) for row, served in group]
        for _ in kws:
            for walk, served in walks:
                kw, xs = next(walk)
                for r, kh in served:
                    for m in range(spec.mo):
                        weight = self.load_weight(weights, m, kh, kw, shift[1] if shift else None)
                        for v in range(vectors):
                            i = (m * spec.r + r) * vectors + v
                            before = out[i]
                            out[i] = self.times(weight, xs[v]) if before is None else self.fma(weight, xs[v], before)
        return out

    def load_weight(self, weights: Value, m: int, kh: Any, kw: int, shift: Value | None) -> Value:
        """Return one weight in all lanes."""
        spec = self.spec
        if isinstance(kh, int):
            if self.keeps_weights:
                return self.kept[m, kh, kw]
            pointer = self.offset(weights, (kh * spec.kw + kw) * spec.mo + m)
        else:
            pointer = self.offset(kh, kw * spec.mo + m)
        return self.broadcast(pointer if shift is None else self.offset(pointer, shift))

    def keep_weights(self, weights: Value) -> None:
        """Load all weights of a plane into registers, if they fit."""
        spec = self.spec
        if self.keeps_weights:
            for kh in range(spec.kh):
                for kw in range(spec.kw):
                    for m in range(spec.mo):
                        self.kept[m, kh, kw] = self.broadcast(self.offset(weights, (kh * spec.kw + kw) * spec.mo + m))

    # ---- the sum over a kernel's rows

    def add_plane(self, accs: list[Value | None], src: Value, weights: Value, first: Value, tile: Tile) -> list[Any]:
        """Add one input channel's products; `first` is the tile's first entry of the row table."""
        spec = self.spec
        products = spec.mo * spec.r * len(tile.src) * self.taps
        if products <= UNROLLED_FMAS or spec.kh == 1:
            return self._add_unrolled(accs, src, weights, first, tile)
        zero = self.zero()
        if spec.sh == spec.dh == 1 and spec.r <= spec.kh:
            return self._add_shared_rows(accs, src, weights, first, tile)

        def turn(kh: Value, values: list[Value]) -> list[Value]:
            row_weights = self.offset(weights, self.b.mul(kh, i64(spec.kw * spec.mo)))
            group: list[_Row] = []
            for r in range(spec.r):
                j = self.b.add(self.b.mul(kh, i64(spec.dh)), i64(r * spec.sh))
                group.append((self.row_pointer(src, first, j), [(r, row_weights)]))
            return self.add_rows(list(values), group, weights, tile)

        return self.loop(i64(spec.kh), [zero if a is None else a for a in accs], turn, "kh")

    def _add_unrolled(self, accs: list[Value | None], src: Value, weights: Value, first: Value, tile: Tile) -> list[Any]:
        spec = self.spec
        served: dict[int, list[tuple[int, Any]]] = {}
        for r in range(spec.r):
            for kh in range(spec.kh):
                served.setdefault(r * spec.sh + kh * spec.dh, []).append((r, kh))
        out = accs
        for group in _walk_together(served):
            rows = [(self.row_pointer(src, first, j), served[j]) for j in group]
            out = self.add_rows(out, rows, self.launder(weights) if spec.reloads else weights, tile)
        return out

    def _add_shared_rows(self, accs: list[Value | None], src: Value, weights: Value, first: Value, tile: Tile) -> list[Any]:
        """Loop over the source rows that all R output rows read; the rows before and after them go in pairs."""
        spec = self.spec
        out = accs
        for i in range(spec.r - 1):
            pair: list[_Row] = [
                (self.row_pointer(src, first, i), [(r, i - r) for r in range(i + 1)]),
                (self.row_pointer(src, first, i + spec.kh), [(r, i + spec.kh - r) for r in range(i + 1, spec.r)]),
            ]
            out = self.add_rows(out, pair, self.launder(weights) if spec.reloads else weights, tile)
        zero = self.zero()

        def turn(i: Value, values: list[Value]) -> list[Value]:
            row = self.row_pointer(src, first, self.b.add(i, i64(spec.r - 1)))
            nbytes = i64(spec.kw * spec.mo)
            served = [(r, self.offset(weights, self.b.mul(self.b.add(i, i64(spec.r - 1 - r)), nbytes))) for r in range(spec.r)]
            return self.add_rows(list(values), [(row, served)], weights, tile)

        return self.loop(i64(spec.kh - spec.r + 1), [zero if a is None else a for a in out], turn, "kh")

    # ---- tiles

    def compute(self, tile: Tile, src: Value, weights: Value, first: Value) -> list[Value]:
        """Return the finished sums of a tile, [m][r][v]."""
        spec = self.spec
        count = spec.mo * spec.r * len(tile.src)
        if spec.reduces:

            def channel(_: Value, carried: list[Value]) -> list[Value]:
                sums = self.add_plane(list(carried[2:]), carried[0], carried[1], first, tile)
                return [self.offset_nbytes(carried[0], self.g["reduction_step"]), self.offset(carried[1], spec.mo * self.taps), *sums]

            sums = self.loop(self.g["reduction"], [src, weights, *[self.zero()] * count], channel, "ic")[2:]
        else:
            sums = self.add_plane([None] * count, src, weights, first, tile)
        if spec.deinterleaves and not self.takes_apart:
            order = self._unpick()
            sums = [self.shuffle(value, value, order) for value in sums]
        return sums

    def tile_at(self, columns: list[Value], edges: tuple[Edge, ...] | None = None) -> Tile:
        """Return the tile whose vectors start at `columns`."""
        step = self.nbytes if self.spec.split else self.spec.sw * self.nbytes
        return Tile([self.b.mul(c, i64(step)) for c in columns], columns, edges or (INSIDE,) * len(columns))

    def row_block(self, block: Value, pointers: tuple[Value, ...]) -> None:
        """Compute R rows over their whole width; the last block of rows overlaps the one before."""
        spec, b, g = self.spec, self.b, self.g
        src, weights, *outputs = pointers
        row = b.mul(block, i64(spec.r))
        highest = b.sub(self.rows, i64(spec.r))
        row = b.select(b.icmp_signed("<", row, highest), row, highest)
        first = b.mul(row, i64(spec.sh))

        self.keep_rows(src, first)

        def run(tile: Tile) -> None:
            self.finish(tile, self.compute(tile, src, weights, first), row, tuple(outputs))

        if spec.border == 1:
            run(self.tile_at([i64(0)], spec.edges(self.lanes)[:1]))
            return
        if spec.border == 2:
            left, right = zip((i64(0), g["right"]), spec.edges(self.lanes), strict=True)
            is_crowded = self.keeps_weights and spec.mo * (self.taps + 2 * spec.r) + 1 > self.target.registers
            for vectors in [[left], [right]] if is_crowded else [[left, right]]:
                columns, edges = zip(*vectors, strict=True)
                run(self.tile_at(list(columns), edges))

        def interior(t: Value, _: list[Value]) -> list[Value]:
            column = b.add(g["first"], b.mul(t, i64(spec.v * self.lanes)))
            column = b.select(b.icmp_signed("<", column, g["last"]), column, g["last"])
            run(self.tile_at([b.add(column, i64(v * self.lanes)) for v in range(spec.v)]))
            return []

        self.loop(g["tiles"], [], interior, "column")
        if spec.rest:
            run(self.tile_at([b.add(g["rest"], i64(v * self.lanes)) for v in range(spec.rest)]))

    def write(self) -> None:
        """Write the whole function."""
        b, g = self.b, self.g
        blocks = b.sdiv(b.add(self.rows, i64(self.spec.r - 1)), i64(self.spec.r))
        steps = ("src_step", "weights_step", "dst_step", "bias_step", "residual_step")

        def plane(_: Value, pointers: list[Value]) -> list[Value]:
            self.keep_weights(pointers[1])

            def rows(block: Value, _: list[Value]) -> list[Value]:
                self.row_block(block, tuple(pointers))
                return []

            self.loop(blocks, [], rows, "rows")
            return [self.offset_nbytes(p, g[step]) for p, step in zip(pointers, steps, strict=True)]

        starts = [self.ptr(a) for a in (self.src, self.weights, self.dst, self.bias, self.residual)]
        self.loop(self.planes, starts, plane, "plane")
        b.ret_void()


def _walk_together(served: dict[int, list[tuple[int, Any]]]) -> list[list[int]]:
    """Pair source rows that serve different output rows, so that each step has as many independent sums as possible."""
    left = sorted(served)
    groups = []
    while left:
        j = left.pop(0)
        mine = {r for r, _ in served[j]}
        partner = next((k for k in left if mine.isdisjoint(r for r, _ in served[k])), None)
        if partner is None:
            groups.append([j])
        else:
            left.remove(partner)
            groups.append([j, partner])
    return groups


def build_planar(module: Value, element: str, *values: int, target: Target | None = None) -> Value:
    """Write the kernel of ``PlanarSpec(*values)``, for another target than the host's if one is given.

    Arguments of the function, all i64: address of the geometry (`GEOMETRY`), addresses of source (at padded
    column 0), weights, result, bias and residual, address of the row table's entry for the first row, number
    of output rows (at least R), number of planes.

    Notes
    -----
    dst[p, m, i, j] = sum over c, r, s of src[p, c, row(i*sh + r*dh), j*sw + s*dw] * weights[p, c, r, s, m],
    then the epilogue. The row table holds byte offsets from the plane, `PAD_ROW` = the row of padding values.
    2*planes*MO*rows*OW*KH*KW*reduction flops. Not checked here: that OW is at least one vector unless
    `border` is 1, and that the columns of the geometry keep unmasked loads inside the row.
    """
    function, builder = new_function(module, "planar_" + "_".join(map(str, (element, *values))), 9)
    if builder is not None:
        _Planar(module, builder, element, PlanarSpec(*values), function.args, target).write()
    return function
