"""The register tile of the GEMM-shaped kernels: its size on a target, and how rows are cut into tiles."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from fastconv.kernels.target import Target, host


@dataclass(frozen=True)
class RegisterTile:
    """The largest tile of accumulators that fits the registers.

    Attributes
    ----------
    rows : int
        Elements of A per step: the height of the tile. Any smaller height can be generated too.
    vectors : int
        Vectors of B per step.
    columns : int
        ``vectors * lanes``: the width of a packed panel of B, in elements.
    load_cycles : float
        Of a vector load or a broadcast, see `fastconv.kernels.target.Target`.
    """

    rows: int
    vectors: int
    columns: int
    load_cycles: float = 0.4

    def cost(self, rows: int, vectors: int) -> float:
        """Return the cycles per step of k of a tile of this size, one cycle for two multiply-adds.

        The larger of the multiply-adds and the operand loads, plus the loop's share.
        """
        return max(rows * vectors / 2, (rows + vectors) * self.load_cycles, 1.0) + 0.1

    def cost_of(self, heights: Sequence[int], vectors: int) -> float:
        """Return the cost of tiles of these heights, thousands where pixels are rows."""
        return sum(heights.count(h) * self.cost(h, vectors) for h in set(heights))

    @property
    def heights(self) -> tuple[int, ...]:
        """Heights for which kernels are generated: all, or on large register files the even ones above 4."""
        return tuple(h for h in range(1, self.rows + 1) if self.rows <= 8 or h <= 4 or h % 2 == 0)

    @property
    def high_heights(self) -> tuple[int, ...]:
        """The highest three: of these are all tiles but the last few. Kernels that only save packing exist for them alone."""
        return self.heights[-3:]

    @property
    def widths(self) -> tuple[int, ...]:
        """Vector counts for which kernels are generated: halved down from the full width to one vector."""
        out = [self.vectors]
        while out[-1] > 1:
            out.append(out[-1] // 2)
        return tuple(out)


def register_tile(itemsize: int, target: Target | None = None, *, complex_values: bool = False) -> RegisterTile:
    """Return the register tile for real elements of `itemsize` bytes (complex: re and im planes of such).

    Two vectors of B and as many rows as leave registers for these and one broadcast; with 32 registers of 16
    bytes four vectors, so that a panel row is still one cache line. Complex accumulators come in pairs.
    """
    target = host() if target is None else target
    lanes = target.lanes(itemsize)
    vectors = 4 if target.registers >= 32 and target.vector_nbytes <= 16 else 2
    if complex_values:
        vectors //= 2
    parts = 2 if complex_values else 1
    # Beside B and one broadcast: a product where it is not fused, and room for LLVM's loads ahead where registers abound.
    spare = 4 if not target.has_fma else 2 if target.registers > 16 else 0
    rows = (target.registers - vectors * parts - 1 - spare) // (vectors * parts)
    if rows > 8:
        rows -= rows % 2
    return RegisterTile(rows, vectors, vectors * lanes, target.load_cycles)


@functools.lru_cache(maxsize=1024)
def row_tiles(extent: int, tile: RegisterTile, unit: int = 1) -> tuple[int, ...]:
    """Cut `extent` rows into heights, multiples of `unit`, with the least total `RegisterTile.cost`, higher tiles first.

    Of equally cheap cuts the most even one is taken: a tile of 4 x 2 vectors asks for as much of B in 4 cycles as one of
    8 x 2 in 8, more than the second level of cache gives (16 channels, K = 150: 8 + 8 rows 0.18 ms, 12 + 4 rows 0.24).
    """
    heights = [height for height in tile.heights if height % unit == 0]
    # The highest tile is the cheapest per row; only the last few tiles are worth a search.
    highest = max(heights)
    whole = max(0, extent // highest - len(heights))
    extent -= whole * highest
    best: list[tuple[float, int]] = [(0.0, 0)]
    for m in range(1, extent + 1):
        if m % unit:
            best.append(best[-1])
            continue
        ways = [(best[m - h][0] + tile.cost(h, tile.vectors), h) for h in heights if h <= m]
        cheapest = min(ways)[0]
        even = m / -(-m // highest)
        height = min((abs(h - even), h) for cost, h in ways if cost <= cheapest + 1e-9)[1]
        best.append((cheapest, -height))
    out = [highest] * whole
    while extent:
        out.append(-best[extent][1])
        extent -= out[-1]
    return tuple(sorted(out, reverse=True))
