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
infinite weight makes NaN there, as the definition says). Other borders, strides and narrow rows read a packed
strip (`fastconv.kernels.planar_pack`) whose rows carry their borders with them and are split by column phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from llvmlite import ir

from fastconv.kernels.epilogue import emit_epilogue
from fastconv.kernels.planar_layout import load_offsets
from fastconv.kernels.simd import I64, Emitter, Value, i64, new_function

#: Row offset that means: the row of padding values.
PAD_ROW = -(1 << 62)
#: More products than this per tile are not written out; loops over kernel rows take their place.
UNROLLED_FMAS = 800
#: Kernels wider than this get a loop over groups of columns.
UNROLLED_COLS = 32

#: Pointers to so many source rows are kept in general registers while a block of rows is computed.
KEPT_ROWS = 10

#: Runtime parameters in one array of int64, in this order. Strides and steps are in bytes.
GEOMETRY = (
    "reduction",  # input channels summed per output, and
    "reduction_step",  # the distance between them
    "src_step", "weights_step", "dst_step", "bias_step", "residual_step",  # from plane to plane
    "dst_row", "dst_channel",  # rows of the result; the MO channels of a tile
    "residual_row", "residual_channel",
    "pad_row",  # address of a row of padding values
    "right",  # first column of the vector at the right border
    "first", "tiles", "last",  # first column, number and last column of the tiles of V vectors between the borders
    "rest",  # first column of the tile of `rest` vectors
    "phase",  # distance between the column phases of a split row
    "activation", "limits",  # code, address of (low, high), see `fastconv.kernels.epilogue`
    # packing (`fastconv.kernels.planar_pack`)
    "packed_row",  # bytes of a packed row
    "width", "src_column",  # columns of the source and the distance between them
    "shift",  # columns of left padding
    "margins", "margin_count",  # pairs (byte offset in the packed row, in the source row or PAD_ROW)
    "slack",  # byte offset in a phase of the vectors that are zeroed first
    # tasks (`fastconv.kernels.planar_run`)
    "kernel", "pack",  # addresses of the two functions
    "tasks", "strips", "chunks",  # tasks = images * chunks * strips
    "all_rows", "all_planes", "blocks",  # output rows; output planes, of which `blocks` share a group's source
    "src_image", "src_group", "src_channel", "dst_image", "residual_image",
    "row_table", "packed_rows",  # address of the row table; address of the table of packed rows
    "packed_nbytes",  # scratch of a task, 0 = the source is read in place
    "tile_rows",  # R
    "row_stride",  # source rows from output row to output row
    "row_span",  # padded source rows that one output row reads
    "packed_planes",  # 1 if each plane of a task has a source of its own
)  # fmt: skip

#: Parts of an epilogue, see `PlanarSpec.epilogue`.
BIAS, RESIDUAL, ACTIVATION = 1, 2, 4


class _Edge(NamedTuple):
    """A vector at the end of a row: columns by which the load of the first tap begins before the row, and ends behind it."""

    before: int
    after: int
    width: int  # columns of the row, or a vector's if that is less


#: A vector all of whose loads lie inside the row.
_INSIDE = _Edge(0, -(1 << 30), 1 << 30)


class PlanarSpec(NamedTuple):
    """What a planar kernel is compiled for.

    Attributes
    ----------
    mo, r, v : int
        Register tile: output channels, rows, vectors.
    rest : int
        Vectors of the one narrower tile of a row, 0 = none.
    kh, kw, sh, sw, dh, dw : int
        Kernel, strides, dilations.
    reduces : int
        1 if it loops over several input channels.
    border : int
        0 = no vector leaves the row, 1 = the row is one vector of `tail` columns, 2 = the first and the last vector
        of a row reach beyond its ends.
    left_before, right_before : int
        Columns by which the first (last) vector's load of the first tap begins before the row.
    left_after, right_after : int
        Columns by which the first (last) vector's load of the last tap ends behind the row.
    tail : int
        Columns of a row that is narrower than a vector; 0 otherwise.
    split : int
        1 if rows are split by column phase (j % sw) and packed; 0 if they are read in place.
    reloads : int
        1 if weights are loaded anew for each row of the kernel instead of being kept in registers.
    epilogue : int
        Sum of `BIAS`, `RESIDUAL` and `ACTIVATION`.
    """

    mo: int
    r: int
    v: int
    rest: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    reduces: int
    border: int
    left_before: int
    right_before: int
    left_after: int
    right_after: int
    tail: int
    split: int
    reloads: int
    epilogue: int

    @property
    def deinterleaves(self) -> bool:
        """Whether vectors of a stride-2 row are taken apart in registers."""
        return self.sw == 2 and not self.split

    def edges(self, lanes: int) -> tuple[_Edge, _Edge]:
        """Return how the first and the last vector of a row reach beyond its ends."""
        farthest = max(load_offsets(self.kw, self.dw, lanes, deinterleaves=self.deinterleaves))
        left, right = self.left_after - farthest, self.right_after - farthest
        width = lanes - self.left_before - left if self.border == 1 and self.left_after else lanes
        return _Edge(self.left_before, left, min(width, lanes)), _Edge(self.right_before, right, lanes)


class _Tile(NamedTuple):
    """Where the vectors of a register tile stand: byte offsets in a source row and columns of the result."""

    src: list[Value]
    columns: list[Value]
    edges: tuple[_Edge, ...]


#: One source row of a tile: its pointer, and the (output row, kernel row) pairs that it serves. The kernel row is
#: an int, or the pointer to that row of the weights.
_Row = tuple[Value, list[tuple[int, Any]]]


class _Planar(Emitter):
    """Writes the body of one planar kernel."""

    def __init__(self, module: Value, builder: Value, element: str, spec: PlanarSpec, arguments: tuple[Value, ...]) -> None:
        super().__init__(module, builder, element)
        self.spec = spec
        self.taps = spec.kh * spec.kw
        geometry, self.src, self.weights, self.dst, self.bias, self.residual, rows, self.rows, self.planes = arguments
        table = self.ptr(geometry)
        words = {name: builder.load(builder.gep(table, [i64(i)], source_etype=I64), typ=I64, align=8) for i, name in enumerate(GEOMETRY)}
        self.g = words
        self.row_table = self.ptr(rows)
        self.pad_row = self.ptr(words["pad_row"])
        self.block = max(1, 16 // self.nbytes)  # lanes of 128 bits
        accumulators = spec.mo * spec.r * spec.v
        self.keeps_weights = not spec.reduces and spec.mo * self.taps + accumulators + 1 <= self.target.registers
        self.kept: dict[tuple[int, int, int], Value] = {}
        self.kept_rows: dict[int, Value] = {}

    # ---- addresses

    def row_pointer(self, base: Value, first: Value, j: Value | int) -> Value:
        """Return the pointer to padded source row `first` + j (table entries), shifted by the left padding."""
        b = self.b
        if isinstance(j, int) and j in self.kept_rows:
            return self.kept_rows[j]
        index = b.add(first, i64(j) if isinstance(j, int) else j)
        offset = b.load(b.gep(self.row_table, [index], source_etype=I64), typ=I64, align=8)
        if self.spec.split:
            return self.offset_nbytes(base, offset)
        is_padding = b.icmp_signed("==", offset, i64(PAD_ROW))
        return b.select(is_padding, self.pad_row, self.offset_nbytes(base, offset))

    def load_src(self, base: Value, offset: int, edge: _Edge) -> Value:
        """Load the vector `offset` columns behind a vector's own; what lies outside of the row becomes 0 and is not read.

        A vector that crosses an end of the row is made from the row's first or last whole vector, which other taps
        load anyway: masked loads cost ten cycles each on Zen 1 (and no fewer instructions elsewhere).
        """
        before, after = edge.before - offset, edge.after + offset
        if before <= 0 and after <= 0:
            return self.load(self.offset(base, offset))
        if max(before, after) >= self.lanes:
            return self.zero()
        if edge.width < self.lanes:
            row = self.load_first(self.offset(base, edge.before), edge.width)
            lanes = range(-before, self.lanes - before)
            return self.shuffle(row, self.zero(), [k if 0 <= k < edge.width else self.lanes for k in lanes])
        return (
            self.load_after(self.offset(base, edge.before), before)
            if before > 0
            else self.load_until(self.offset(base, offset - after), after)
        )

    def load_after(self, pointer: Value, shift: int) -> Value:
        """Load the vector at `pointer`, the row's first, moved up by `shift` lanes behind zeros.

        Where a vector has two blocks of 128 bits, the lower one is loaded into the upper as well, so that what is left to do
        stays within blocks: one instruction on x86, where lanes that change their block cost up to four.
        """
        block = self.block
        if self.lanes != 2 * block:
            row = self.load(pointer)
            return self.shuffle(row, self.zero(), [self.lanes + k if k < shift else k - shift for k in range(self.lanes)])
        lower = self.b.load(pointer, typ=ir.VectorType(self.scalar, block), align=self.nbytes)
        raised = self.shuffle(lower, ir.Constant(lower.type, [0.0] * block), [*range(block, 2 * block), *range(block)])
        if shift >= block:
            far = shift - block
            kept = [block + j - far if j >= far else 0 for j in range(block)]
            return self.shuffle(raised, raised, [*range(block), *kept])
        row, lanes = self.load(pointer), []
        for half in (0, block):
            lanes += [half + block - shift + j if j < shift else self.lanes + half + j - shift for j in range(block)]
        return self.shuffle(raised, row, lanes)

    def load_until(self, pointer: Value, shift: int) -> Value:
        """Load the vector at `pointer`, the row's last, moved down by `shift` lanes before zeros; see `load_after`."""
        block = self.block
        if self.lanes != 2 * block:
            row = self.load(pointer)
            return self.shuffle(row, self.zero(), [k + shift for k in range(self.lanes)])
        upper = self.b.load(self.offset(pointer, block), typ=ir.VectorType(self.scalar, block), align=self.nbytes)
        lowered = self.shuffle(upper, ir.Constant(upper.type, [0.0] * block), range(2 * block))
        if shift >= block:
            far = shift - block
            kept = [j + far if j + far < block else block for j in range(block)]
            return self.shuffle(lowered, lowered, [*kept, *range(block, 2 * block)])
        row, lanes = self.load(pointer), []
        for half in (0, block):
            lanes += [self.lanes + half + j - block + shift if j >= block - shift else half + j + shift for j in range(block)]
        return self.shuffle(row, lowered, lanes)

    def load_first(self, pointer: Value, count: int) -> Value:
        """Load `count` elements, fewer than a vector, in pieces of 2**n; the other lanes are 0."""
        value, done, piece = self.zero(), 0, self.lanes
        while piece:
            if count & piece:
                kind = ir.VectorType(self.scalar, piece)
                part = self.b.load(self.offset(pointer, done), typ=kind, align=self.nbytes)
                wide = self.shuffle(part, part, [min(k, piece - 1) for k in range(self.lanes)]) if piece < self.lanes else part
                value = self.shuffle(value, wide, [self.lanes + k - done if done <= k < done + piece else k for k in range(self.lanes)])
                done += piece
            piece //= 2
        return value

    # ---- lane order of de-interleaved vectors

    def _pick(self, odd: int) -> list[int]:
        """Even (odd) elements of two vectors, 128-bit block by block: one in-lane shuffle on x86."""
        block, lanes = self.block, []
        for start in range(0, self.lanes, block):
            lanes += [start + k for k in range(odd, block, 2)] + [self.lanes + start + k for k in range(odd, block, 2)]
        return lanes

    def _unpick(self) -> list[int]:
        """Return the permutation that puts lanes taken by `_pick` in order."""
        half = max(1, 8 // self.nbytes)
        order = [2 * start + k for start in range(0, self.lanes // 2, half) for k in range(half)]
        return order + [lane + half for lane in order]

    # ---- one row of the kernel

    def load_taps(self, row: Value, tile: _Tile, kws: range, shift: Value | None) -> Iterator[tuple[int, list[Value]]]:
        """Yield (kw, source vectors) for one source row; `shift` moves it by bytes (loop over column groups)."""
        spec = self.spec
        bases = [self.offset_nbytes(row, position) for position in tile.src]
        if shift is not None:
            bases = [self.offset_nbytes(base, shift) for base in bases]
        if spec.kw > self.lanes and spec.reloads and all(edge == _INSIDE for edge in tile.edges):
            # Vector v at tap kw + lanes is vector v + 1 at tap kw: merging those loads would fill the registers.
            bases = bases[:1] + [self.launder(base) for base in bases[1:]]
        if spec.deinterleaves:
            even, odd = self._pick(0), self._pick(1)
            for kw in kws[::2]:
                pairs = []
                for edge, base in zip(tile.edges, bases, strict=True):
                    pairs.append((self.load_src(base, kw, edge), self.load_src(base, kw + self.lanes, edge)))
                yield kw, [self.shuffle(low, high, even) for low, high in pairs]
                if kw + 1 in kws:
                    yield kw + 1, [self.shuffle(low, high, odd) for low, high in pairs]
            return
        for kw in kws:
            phase, column = kw * spec.dw % spec.sw, kw * spec.dw // spec.sw
            vectors = []
            for edge, base in zip(tile.edges, bases, strict=True):
                start = self.offset_nbytes(base, self.b.mul(self.g["phase"], i64(phase))) if phase else base
                vectors.append(self.load_src(start, column, edge))
            yield kw, vectors

    def add_rows(self, accs: list[Value | None], group: list[_Row], weights: Value, tile: _Tile) -> list[Value]:
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
        self, accs: list[Value | None], group: list[_Row], weights: Value, tile: _Tile, kws: range, shift: tuple[Value, Value] | None
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
                            out[i] = self.b.fmul(weight, xs[v]) if before is None else self.fma(weight, xs[v], before)
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

    def keep_rows(self, src: Value, first: Value) -> None:
        """Find the pointers of the rows that a block of output rows reads once for all its tiles, if they are few."""
        spec = self.spec
        self.kept_rows = {}
        count = (spec.r - 1) * spec.sh + (spec.kh - 1) * spec.dh + 1
        if not spec.reduces and count <= KEPT_ROWS:
            self.kept_rows = {j: self.row_pointer(src, first, j) for j in range(count)}

    # ---- the sum over a kernel's rows

    def add_plane(self, accs: list[Value | None], src: Value, weights: Value, first: Value, tile: _Tile) -> list[Any]:
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

    def _add_unrolled(self, accs: list[Value | None], src: Value, weights: Value, first: Value, tile: _Tile) -> list[Any]:
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

    def _add_shared_rows(self, accs: list[Value | None], src: Value, weights: Value, first: Value, tile: _Tile) -> list[Any]:
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

    def compute(self, tile: _Tile, src: Value, weights: Value, first: Value) -> list[Value]:
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
        if spec.deinterleaves:
            order = self._unpick()
            sums = [self.shuffle(value, value, order) for value in sums]
        return sums

    def finish(self, tile: _Tile, sums: list[Value], row: Value, pointers: tuple[Value, Value, Value]) -> None:
        """Apply the epilogue and store a tile whose first output row is `row`."""
        spec, b = self.spec, self.b
        dst, bias, residual = pointers
        lines = [(m, b.add(row, i64(r))) for m in range(spec.mo) for r in range(spec.r)]
        values = sums
        if spec.epilogue & BIAS:
            terms = [self.broadcast(self.offset(bias, m)) for m in range(spec.mo)]
            repeat = spec.r * len(tile.columns)
            values = [b.fadd(value, terms[i // repeat]) for i, value in enumerate(values)]
        if spec.epilogue & RESIDUAL:
            places = self.places(residual, "residual", lines, tile)
            values = [b.fadd(value, self.load_columns(place)) for value, place in zip(values, places, strict=True)]
        if spec.epilogue & ACTIVATION:
            values = emit_epilogue(self, values, code=self.g["activation"], limits=self.g["limits"])
        for value, place in zip(values, self.places(dst, "dst", lines, tile), strict=True):
            self.store_columns(value, place)

    def places(self, base: Value, array: str, lines: list[tuple[int, Value]], tile: _Tile) -> list[Value]:
        """Return the pointers of a tile's vectors in an array of the result's shape."""
        b, out = self.b, []
        for m, line in lines:
            start = b.add(b.mul(line, self.g[f"{array}_row"]), b.mul(self.g[f"{array}_channel"], i64(m)))
            pointer = self.offset_nbytes(base, start)
            out += [self.offset(pointer, column) for column in tile.columns]
        return out

    def load_columns(self, pointer: Value) -> Value:
        """Load a vector, or the first `tail` lanes."""
        return self.load_first(pointer, self.spec.tail) if self.spec.tail else self.load(pointer)

    def store_columns(self, value: Value, pointer: Value) -> None:
        """Store a vector, or its first `tail` lanes in pieces of 2**n lanes: nothing behind the row is touched."""
        if not self.spec.tail:
            self.store(value, pointer)
            return
        done, piece = 0, self.lanes
        while piece:
            if self.spec.tail & piece:
                part = self.shuffle(value, value, range(done, done + piece))
                self.b.store(part, self.offset(pointer, done), align=self.nbytes)
                done += piece
            piece //= 2

    def tile_at(self, columns: list[Value], edges: tuple[_Edge, ...] | None = None) -> _Tile:
        """Return the tile whose vectors start at `columns`."""
        step = self.nbytes if self.spec.split else self.spec.sw * self.nbytes
        return _Tile([self.b.mul(c, i64(step)) for c in columns], columns, edges or (_INSIDE,) * len(columns))

    def row_block(self, block: Value, pointers: tuple[Value, ...]) -> None:
        """Compute R rows over their whole width; the last block of rows overlaps the one before."""
        spec, b, g = self.spec, self.b, self.g
        src, weights, *outputs = pointers
        row = b.mul(block, i64(spec.r))
        highest = b.sub(self.rows, i64(spec.r))
        row = b.select(b.icmp_signed("<", row, highest), row, highest)
        first = b.mul(row, i64(spec.sh))

        self.keep_rows(src, first)

        def run(tile: _Tile) -> None:
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


def build_planar(module: Value, element: str, *values: int) -> Value:
    """Write the kernel of ``PlanarSpec(*values)``.

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
        _Planar(module, builder, element, PlanarSpec(*values), function.args).write()
    return function
