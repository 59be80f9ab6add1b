"""The products of Winograd convolution: for each xi, M[xi] = V[xi] U[xi] on the engine's micro-kernel."""

from __future__ import annotations

from typing import Any

from fastconv.kernels._jit import jit
from fastconv.kernels.gemm import INDEPENDENT_SUMS, REPEAT_ARGUMENTS, build_microkernel
from fastconv.kernels.register_tile import RegisterTile, register_tile
from fastconv.kernels.simd import LINE_NBYTES, Value, call_by_case, kernel_intrinsic, new_function
from fastconv.kernels.target import Target

#: Channels that are summed in registers; sums over more add up such partial sums in M. That costs about 1 % (64: 4 %) and
#: makes errors of long sums smaller: at 512 channels half of those of one chain, at 256 three quarters.
SUM_CHANNELS = 128

#: Rows of V in one tile. Of more, LLVM keeps elements of V in memory for want of registers: on AVX-512 products of 48 tiles
#: reach 94 % of the peak in tiles of 8 x 2 vectors, 77 % in tiles of 10 x 2.
MOST_ROWS = 8

_ITEMSIZE = {"float32": 4, "float64": 8}


def tile_heights(tile: RegisterTile) -> tuple[int, ...]:
    """Return the heights of micro-kernels that sum each element in one chain over k, `MOST_ROWS` at most.

    Lower ones keep several partial sums per element to fill the pipes, so their bits differ; without them an
    output has the same bits however its tiles are grouped, hence for any block shape and number of threads.
    """
    return tuple(h for h in tile.heights if h * tile.vectors >= INDEPENDENT_SUMS and h <= MOST_ROWS)


def height_table(tile: RegisterTile) -> list[int]:
    """Return, for a wish of rows from 0 to the greatest height, the smallest height generated that holds them."""
    heights = tile_heights(tile)
    return [min(h for h in heights if h >= rows) for rows in range(heights[-1] + 1)]


def build_tile_product(module: Value, element: str, target: Target | None = None) -> Value:
    """Write ``f(case, a, lda, b, c, ldc, k, accumulate, next_panel, next_step, repeats, a_step, b_step, c_step, 0)``.

    The micro-kernel of height ``case // 2``, `repeats` times: arguments as in `fastconv.kernels.gemm.build_microkernel` with
    ``a="rows"``, prefetch of the next panel and `repeat`. An odd case is for a tile that passes alone over a panel: it asks for
    a row of the next one at each step, which may be several lines, where tiles that follow each other share that. Half of the
    lines on AVX-512 left 512 -> 512 channels on 7 x 7 pixels by f4x2x3x3 at 0.65 ms, all of them 0.48.
    """
    function, b = new_function(module, f"winograd_product_{element}", 10 + REPEAT_ARGUMENTS)
    if b is None:
        return function
    tile = register_tile(_ITEMSIZE[element], target)
    case, *rest = function.args
    row_lines = -(-tile.columns * _ITEMSIZE[element] // LINE_NBYTES)
    kernels = {
        2 * rows + is_alone: build_microkernel(
            module, element, rows, tile.vectors, a="rows", prefetch=row_lines if is_alone else 1, locality=3, repeat=True, target=target
        )
        for rows in tile_heights(tile)
        for is_alone in (0, 1)
    }
    call_by_case(b, case, kernels, rest)
    return function


_tile_product = kernel_intrinsic(build_tile_product)


@jit
def multiply_panels(
    like: Any, v: int, ldv: int, u: int, after: int, m: int, m_step: int, tiles: int, channels: int, panels: int, nr: int,
    rows: int, heights: Any,
) -> None:  # fmt: skip
    """Compute M = V U for one xi and some panels of output channels.

    Parameters
    ----------
    like : array whose dtype is the element type
    v, ldv : int
        Address of V[xi] and its row stride in elements; rows up to the next height can be read.
    u : int
        Address of the first panel ``[channel][nr]`` of U[xi]; the others follow without gaps.
    after : int
        Address of the panel that is read next, after the last of these: each is asked for while the one before is multiplied.
    m, m_step : int
        Address of the first panel ``[tile][nr]`` of M and the distance of panels in elements.
    tiles, channels, panels, nr : int
        Extents. `SUM_CHANNELS` at a time: what is read of a panel of U stays in L1 while all tiles pass over it.
    rows, heights : int, array
        The greatest of `tile_heights`, and `height_table`.
    """
    size = like.itemsize
    strips = (tiles + rows - 1) // rows
    tall_height = heights[(tiles + strips - 1) // strips]
    low_height = tall_height - 1
    while low_height > 0 and heights[low_height] != low_height:
        low_height -= 1
    # As few rows more than tiles as the two heights allow.
    tall = strips if low_height == 0 else max(0, -((strips * low_height - tiles) // (tall_height - low_height)))
    line = nr * size // strips
    for panel in range(panels):
        for first in range(0, channels, SUM_CHANNELS):
            steps = min(SUM_CHANNELS, channels - first)
            b = u + (panel * channels + first) * nr * size
            ahead = after if panel == panels - 1 and first + steps == channels else b + steps * nr * size
            a = v + first * size
            c = m + panel * m_step * size
            for height, count in ((tall_height, tall), (low_height, strips - tall)):
                if count > 0:
                    case, next_a, next_c = 2 * height + (strips == 1), height * ldv, height * nr
                    _tile_product(like, case, a, ldv, b, c, nr, steps, first, ahead, line, count, next_a, 0, next_c, 0)
                    a += count * next_a * size
                    c += count * next_c * size
                    ahead += count * steps * line
