"""Vectors of which only the first lanes are read or written."""

from __future__ import annotations

from llvmlite import ir

from fastconv.kernels.simd import Emitter, Value


class PartialVectors(Emitter):
    """An emitter whose loads and stores may leave lanes out."""

    def load_first(self, pointer: Value, count: int) -> Value:
        """Load `count` elements, fewer than a vector, by a mask or in pieces of 2**n; the other lanes are 0."""
        if self.target.has_masks:
            return self.masked_load(pointer, self.lane_mask(0, count))
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

    def store_first(self, value: Value, pointer: Value, count: int) -> None:
        """Store the first `count` lanes by a mask or in pieces of 2**n: nothing behind them is touched."""
        if self.target.has_masks:
            self.masked_store(value, pointer, self.lane_mask(0, count))
            return
        done, piece = 0, self.lanes
        while piece:
            if count & piece:
                part = self.shuffle(value, value, range(done, done + piece))
                self.b.store(part, self.offset(pointer, done), align=self.nbytes)
                done += piece
            piece //= 2
