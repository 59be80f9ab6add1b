"""How a planar kernel reads its source: rows through a table, vectors within a row, what lies outside of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llvmlite import ir

from fastconv.kernels.partial import PartialVectors
from fastconv.kernels.planar_spec import GEOMETRY, INSIDE, MIRRORS, PAD_ROW, Edge, PlanarSpec
from fastconv.kernels.simd import I64, Value, i64
from fastconv.kernels.target import Target

#: Pointers to so many source rows are kept in general registers while a block of rows is computed.
KEPT_ROWS = 10


class Tile(NamedTuple):
    """Where the vectors of a register tile stand: byte offsets in a source row and columns of the result."""

    src: list[Value]
    columns: list[Value]
    edges: tuple[Edge, ...]


class SourceRows(PartialVectors):
    """Emits the loads of one planar kernel.

    Rows are found through a table of byte offsets from a plane's address; entry `PAD_ROW` leads to one shared row of
    padding values. Within a row, vector v of a tile at tap kw starts kw*dw columns behind the vector's own place::

        columns of the source     |0 1 2 3 4 5 6 7|8 9 ...                      a row, VL = 8, left padding 2
        vector 0, tap 0       |0 0 0 1 2 3 4 5|         shifted: load_after     Edge.before = 2
        vector 0, tap 2           |0 1 2 3 4 5 6 7|     as it lies
    """

    def __init__(
        self, module: Value, builder: Value, element: str, spec: PlanarSpec, geometry: Value, rows: Value, target: Target | None = None
    ) -> None:
        super().__init__(module, builder, element, target)
        self.spec = spec
        table = self.ptr(geometry)
        self.g = {name: builder.load(builder.gep(table, [i64(i)], source_etype=I64), typ=I64, align=8) for i, name in enumerate(GEOMETRY)}
        self.row_table = self.ptr(rows)
        self.pad_row = self.ptr(self.g["pad_row"])
        self.kept_rows: dict[int, Value] = {}

    @property
    def takes_apart(self) -> bool:
        """Whether vectors of a stride-2 row are taken apart with their lanes in order: where a shuffle reaches all lanes of two."""
        return self.spec.deinterleaves and self.target.has_masks and self.spec.kw <= self.lanes + 2

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

    def load_src(self, base: Value, offset: int, edge: Edge) -> Value:
        """Load the vector `offset` columns behind a vector's own; what lies outside of the row is not read, but 0 or mirrored.

        A vector that crosses an end of the row is made from the row's first or last whole vector, which other taps
        load anyway: masked loads cost ten cycles each on Zen 1, and on Zen 5 they make a 7x7 depthwise layer 12 % slower. With
        stride 2, where each vector is loaded once for all taps, they are the shorter way.
        """
        before, after = edge.before - offset, edge.after + offset
        if before <= 0 and after <= 0:
            return self.load(self.offset(base, offset))
        if max(before, after) >= self.lanes:
            return self.zero()
        if self.spec.margin:
            return self._load_mirrored(base, offset, edge)
        if self.takes_apart:
            return self.masked_load(self.offset(base, offset), self.lane_mask(max(0, before), self.lanes - max(0, after)))
        if edge.width < self.lanes:
            row = self.load_first(self.offset(base, edge.before), edge.width)
            lanes = range(-before, self.lanes - before)
            return self.shuffle(row, self.zero(), [k if 0 <= k < edge.width else self.lanes for k in lanes])
        return (
            self.load_after(self.offset(base, edge.before), before)
            if before > 0
            else self.load_until(self.offset(base, offset - after), after)
        )

    def _load_mirrored(self, base: Value, offset: int, edge: Edge) -> Value:
        """Load a vector that crosses one end of the row; see `load_src`."""
        before, after = edge.before - offset, edge.after + offset
        outside = [self._mirrored(k) for k in range(max(before, after))]
        if before > 0:
            row, order = self.load(self.offset(base, edge.before)), [*reversed(outside), *range(self.lanes - before)]
        else:
            row, order = self.load(self.offset(base, offset - after)), [*range(after, self.lanes), *(self.lanes - 1 - k for k in outside)]
        return self.shuffle(row, row, order)

    def _mirrored(self, beyond: int) -> int:
        """Return the distance from the end of a row of what stands for the column so many beyond the next one outside."""
        return {"symmetric": beyond, "reflect": beyond + 1, "replicate": 0}[MIRRORS[self.spec.margin]]

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
        raised = self.shuffle(lower, ir.Constant(lower.type, None), [*range(block, 2 * block), *range(block)])
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
        lowered = self.shuffle(upper, ir.Constant(upper.type, None), range(2 * block))
        if shift >= block:
            far = shift - block
            kept = [min(block, j + far) for j in range(block)]
            return self.shuffle(lowered, lowered, [*kept, *range(block, 2 * block)])
        row, lanes = self.load(pointer), []
        for half in (0, block):
            lanes += [self.lanes + half + j - block + shift if j >= block - shift else half + j + shift for j in range(block)]
        return self.shuffle(row, lowered, lanes)

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

    def load_taps(self, row: Value, tile: Tile, kws: range, shift: Value | None) -> Iterator[tuple[int, list[Value]]]:
        """Yield (kw, source vectors) for one source row; `shift` moves it by bytes (loop over column groups)."""
        spec = self.spec
        bases = [self.offset_nbytes(row, position) for position in tile.src]
        if shift is not None:
            bases = [self.offset_nbytes(base, shift) for base in bases]
        if spec.kw > self.lanes and spec.reloads and all(edge == INSIDE for edge in tile.edges):
            # Vector v at tap kw + lanes is vector v + 1 at tap kw: merging those loads would fill the registers.
            bases = bases[:1] + [self.launder(base) for base in bases[1:]]
        if self.takes_apart:
            yield from self._taken_apart(bases, tile.edges, kws)
            return
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

    def _taken_apart(self, bases: list[Value], edges: tuple[Edge, ...], kws: range) -> Iterator[tuple[int, list[Value]]]:
        """Yield (kw, source vectors) for a row of stride 2, whose even and odd columns are taken apart once for all taps.

        Taps beyond the first two move these up: lanes come in from the next vector of the tile, at its end from one more load::

            two loads   |0 1 2 3|4 5 6 7|          one more load, kw = 3, VL = 4   |5 6 7 8|
            tap 0       |0 2 4 6|                  tap 2                           |2 4 6 8|
            tap 1       |1 3 5 7|
        """
        n, behind = self.lanes, self.lanes + len(kws) - 2
        pairs = [(self.load_src(base, 0, edge), self.load_src(base, n, edge)) for base, edge in zip(bases, edges, strict=True)]
        halves = [[self.shuffle(low, high, range(odd, 2 * n, 2)) for low, high in pairs] for odd in (0, 1)]
        # Vectors at the borders have no neighbours in their tile.
        joined = len(bases) - 1 if all(edge == INSIDE for edge in edges) else 0
        ends = [self.load_src(base, behind, edge) for base, edge in zip(bases[joined:], edges[joined:], strict=True)]
        for kw in kws:
            shift, odd = divmod(kw, 2)
            vectors = halves[odd]
            if shift:
                inner = [lane + shift for lane in range(n)]
                at_end = [k if k < n else n + 2 * k + odd - behind for k in inner]
                moved = [self.shuffle(vectors[i], vectors[i + 1], inner) for i in range(joined)]
                moved += [self.shuffle(v, end, at_end) for v, end in zip(vectors[joined:], ends, strict=True)]
                vectors = moved
            yield kw, vectors

    def keep_rows(self, src: Value, first: Value) -> None:
        """Find the pointers of the rows that a block of output rows reads once for all its tiles, if they are few."""
        spec = self.spec
        self.kept_rows = {}
        count = (spec.r - 1) * spec.sh + (spec.kh - 1) * spec.dh + 1
        if not spec.reduces and count <= KEPT_ROWS:
            self.kept_rows = {j: self.row_pointer(src, first, j) for j in range(count)}
