"""How a problem is cut into blocks for Winograd convolution, and what scratch memory a block takes."""

from __future__ import annotations

from fastconv.backends.winograd.variants import Variant
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.target import host
from fastconv.kernels.winograd_products import tile_heights
from fastconv.problem import ConvProblem

#: Tiles of a block: the rows of each product. Enough to read a panel of weights from L3 behind the arithmetic.
BLOCK_TILES = 48
#: Panels of output channels whose products are held at once.
PANELS_AT_ONCE = 4
#: From this many panels on, threads share a block's V and split its output channels, so that each streams its
#: own part of U only; below, U is small and each thread takes blocks of its own.
PANELS_TO_SHARE = 8


class Layout:
    """How one problem is cut into blocks, and what scratch memory a block takes; nothing here depends on values."""

    def __init__(self, problem: ConvProblem, variant: Variant, threads: int, limit: int) -> None:
        p, along_h, along_w = problem, variant.along_height, variant.along_width
        self.itemsize = p.itemsize
        self.lanes = host().lanes(self.itemsize)
        self.tile = register_tile(self.itemsize)
        self.rows = tile_heights(self.tile)[-1]
        self.along_h, self.along_w = along_h, along_w
        self.channels, self.outputs = p.ic // p.g, p.oc // p.g
        self.dh, self.dw, self.sh, self.sw = p.dh, p.dw, p.sh, p.sw
        self.bands = -(-p.oh // (p.dh * along_h.m))
        self.columns = -(-p.ow // (p.dw * along_w.m))
        self.panels = -(-self.outputs // self.tile.columns)
        self.all_bands = p.mb * self.bands
        self._cut(p.g, threads, limit)

    @property
    def nbytes(self) -> int:
        """Bytes of scratch memory over all threads."""
        return self.scratch_size * self.itemsize

    @property
    def tiles(self) -> int:
        """Tiles of all images, overhanging ones included."""
        return self.all_bands * self.columns * self.dh * self.dw

    def _cut(self, groups: int, threads: int, limit: int) -> None:
        """Choose the numbers of pieces and who shares what; halve blocks until the scratch memory is below `limit`."""
        per_band = self.dh * self.dw * self.columns
        column_blocks = min(self.columns, max(1, round(per_band / BLOCK_TILES)))
        band_blocks = max(1, min(self.all_bands, round(self.all_bands * per_band / column_blocks / BLOCK_TILES)))
        self.shares_blocks = threads > 1 and (self.panels >= PANELS_TO_SHARE or groups * band_blocks * column_blocks < threads)
        if not self.shares_blocks:
            band_blocks = max(1, min(self.all_bands, -(-band_blocks // threads) * threads))
        while True:
            self._measure(band_blocks, column_blocks, threads)
            if self.nbytes <= limit or (band_blocks >= self.all_bands and column_blocks >= self.columns):
                return
            if band_blocks < self.all_bands:
                band_blocks = min(self.all_bands, band_blocks * 2)
            else:
                column_blocks = min(self.columns, column_blocks * 2)

    def _measure(self, band_blocks: int, column_blocks: int, threads: int) -> None:
        """Compute strides and sizes, in elements, for blocks of this many pieces."""
        line = 64 // self.itemsize
        bands, columns = max(1, -(-self.all_bands // band_blocks)), -(-self.columns // column_blocks)

        def step(elements: int) -> int:
            """Return a stride that is a whole, odd number of lines, so that planes do not fall on the same cache sets."""
            return (-(-elements // line) | 1) * line

        self.block_tiles = bands * self.dh * self.dw * columns
        # A strip is filled up to the next height there is: by a row where heights are even, a single low one by more.
        tiles = self.block_tiles + max(tile_heights(self.tile)[0], -(-self.block_tiles // self.rows))
        xis = self.along_h.alpha * self.along_w.alpha
        self.band_blocks, self.column_blocks = band_blocks, column_blocks
        self.ldv = -(-self.channels // self.lanes) * self.lanes
        self.u_step = step(self.panels * self.channels * self.tile.columns)
        self.v_step, self.m_step = step(tiles * self.ldv), step(tiles * self.tile.columns)
        self.panels_at_once = min(PANELS_AT_ONCE, self.panels)
        cols = self.dw * ((columns - 1) * self.along_w.m * self.sw + self.along_w.span)
        run = min(bands, self.bands)
        rows = self.dh * ((run - 1) * self.along_h.m * self.sh + self.along_h.span)
        self.row_step = step(cols * self.lanes)
        self.out_step = self.dw * columns * self.along_w.m * self.lanes
        slack = self.lanes * self.lanes
        self.half_at = step(rows * self.row_step + slack)
        self.m_at = step(self.half_at + self.along_h.alpha * self.row_step)
        self.out_at = step(self.m_at + self.panels_at_once * xis * self.m_step)
        self.check_at = step(self.out_at + self.dh * self.along_h.m * self.out_step + slack)
        self.private_size = step(self.check_at + self.lanes + slack)
        self.v_size = step(xis * self.v_step)
        tasks = threads * -(-self.panels // (self.panels_at_once * threads))  # as many for each thread
        self.panels_per_task = -(-self.panels // tasks)
        self.channels_per_task = self.lanes * max(1, self.channels // self.lanes // (4 * threads))
        self.scratch_size = (1 if self.shares_blocks else threads) * self.v_size + threads * self.private_size + line
