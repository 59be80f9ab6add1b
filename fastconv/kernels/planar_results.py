"""How a planar kernel stores its sums: the epilogue, complex numbers put together, channels-last results."""

from __future__ import annotations

from fastconv.kernels.epilogue import emit_epilogue
from fastconv.kernels.planar_source import SourceRows, Tile
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, RESIDUAL, RESULT
from fastconv.kernels.simd import Value, i64


class Results(SourceRows):
    """Emits the stores of one planar kernel."""

    def finish(self, tile: Tile, sums: list[Value], row: Value, pointers: tuple[Value, Value, Value]) -> None:
        """Apply the epilogue and store a tile whose first output row is `row`."""
        spec, b = self.spec, self.b
        dst, bias, residual = pointers
        lines = [(m, b.add(row, i64(r))) for m in range(spec.mo // spec.parts) for r in range(spec.r)]
        values = sums
        if spec.epilogue & BIAS:
            terms = [self.broadcast(self.offset(bias, m)) for m in range(spec.mo)]
            repeat = spec.r * len(tile.columns)
            values = [self.plus(value, terms[i // repeat]) for i, value in enumerate(values)]
        if spec.turns & RESULT:
            self.finish_pixels(tile, values, row, (dst, residual))
            return
        if spec.parts == 2:
            values = self.joined(values, spec.r * len(tile.columns))
        if spec.epilogue & RESIDUAL:
            places = self.places(residual, "residual", lines, tile)
            values = [self.plus(value, self.load_columns(*place)) for value, place in zip(values, places, strict=True)]
        if spec.epilogue & ACTIVATION:
            values = emit_epilogue(self, values, code=self.g["activation"], limits=self.g["limits"])
        for value, place in zip(values, self.places(dst, "dst", lines, tile), strict=True):
            self.store_columns(value, *place)

    def joined(self, values: list[Value], tile: int) -> list[Value]:
        """Interleave the parts, `tile` vectors of one and then of the other, to two vectors of elements each."""
        n, half = self.lanes, self.lanes // 2
        orders = [[k // 2 + n * (k % 2) + start for k in range(n)] for start in (0, half)]
        pairs = [(values[i], values[i + tile]) for first in range(0, len(values), 2 * tile) for i in range(first, first + tile)]
        return [self.shuffle(re, im, order) for re, im in pairs for order in orders]

    def places(self, base: Value, array: str, lines: list[tuple[int, Value]], tile: Tile) -> list[tuple[Value, int]]:
        """Return the pointers of a tile's vectors in an array of the result's shape, and how many of their lanes are columns."""
        b, out, parts = self.b, [], self.spec.parts
        counts = [min(max((self.spec.tail or self.lanes) * parts - k * self.lanes, 0), self.lanes) for k in range(parts)]
        for m, line in lines:
            start = b.add(b.mul(line, self.g[f"{array}_row"]), b.mul(self.g[f"{array}_channel"], i64(m)))
            pointer = self.offset_nbytes(base, start)
            for column in tile.columns:
                first = column if parts == 1 else b.mul(column, i64(parts))
                out += [(self.offset(pointer, first if not k else b.add(first, i64(k * self.lanes))), n) for k, n in enumerate(counts)]
        return out

    def load_columns(self, pointer: Value, count: int) -> Value:
        """Load a vector, or its first `count` lanes."""
        return self.load_first(pointer, count) if count < self.lanes else self.load(pointer)

    def store_columns(self, value: Value, pointer: Value, count: int) -> None:
        """Store a vector, or its first `count` lanes."""
        if count < self.lanes:
            self.store_first(value, pointer, count)
        else:
            self.store(value, pointer)

    # ---- channels-last results

    def finish_pixels(self, tile: Tile, sums: list[Value], row: Value, pointers: tuple[Value, Value]) -> None:
        """Turn the sums [m][r][v] into pixels of neighbouring channels, apply the rest of the epilogue and store them.

        The channels go in pieces of 2**n within 128 bits; of a piece of 4, a vector of 8 lanes holds two pixels.
        """
        spec, vectors, count = self.spec, len(tile.columns), self.spec.tail or self.lanes
        for r in range(spec.r):
            line = self.b.add(row, i64(r))
            for v, column in enumerate(tile.columns):
                stored = self.pixels(pointers[0], "dst", line, column)
                added = self.pixels(pointers[1], "residual", line, column) if spec.epilogue & RESIDUAL else []
                first, piece = 0, self.block
                while piece:
                    if spec.mo - first >= piece:
                        turned = self.transpose([sums[((first + m) * spec.r + r) * vectors + v] for m in range(piece)])
                        for i, value in enumerate(turned):
                            self.finish_piece(value, stored[i:count:piece], added[i:count:piece], first, piece)
                        first += piece
                    else:
                        piece //= 2

    def finish_piece(self, value: Value, stored: list[Value], added: list[Value], first: int, piece: int) -> None:
        """Add the residual to a vector of pixels' channels first .. first + piece - 1, activate and store it."""
        if not stored:
            return
        if added:
            places = [self.offset(pixel, first) for pixel in added]
            # A vector has as many places as it has lanes, also where the row ends before.
            places += places[-1:] * (self.lanes // piece - len(places))
            value = self.plus(value, self.load_pieces(places, piece))
        if self.spec.epilogue & ACTIVATION:
            (value,) = emit_epilogue(self, [value], code=self.g["activation"], limits=self.g["limits"])
        self.store_pieces(value, [self.offset(pixel, first) for pixel in stored], piece)

    def pixels(self, base: Value, array: str, line: Value, column: Value) -> list[Value]:
        """Return the pointers of the pixels of a vector in an array of the result's shape."""
        b, step = self.b, self.g[f"{array}_column"]
        out = [self.offset_nbytes(base, b.add(b.mul(line, self.g[f"{array}_row"]), b.mul(column, step)))]
        while len(out) < self.lanes:
            out.append(self.offset_nbytes(out[-1], step))
        return out
