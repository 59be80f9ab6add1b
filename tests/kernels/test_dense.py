"""Dense convolution at kernel level: both designs on geometries that bend each of their decisions, exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastconv.backends.direct.dense import Dense
from fastconv.backends.naive import Naive
from fastconv.kernels import dense, dense_fields
from fastconv.kernels.borders import source_index
from fastconv.kernels.dense_cost import SPLIT_CHANNELS, best_regions, channels_cost, cut, images_of_block, pixels_cost, tiles_of_ranges
from fastconv.kernels.dense_functions import functions
from fastconv.kernels.dense_geometry import Geometry, even_blocks, regions
from fastconv.kernels.dense_layout import DenseLayout, can_read_in_place, make_layout, pack_bias, pack_weights
from fastconv.kernels.register_tile import register_tile, row_tiles
from fastconv.kernels.target import AVX2, AVX512, Target
from fastconv.kernels.threads import pool
from fastconv.problem import ConvProblem
from fastconv.scratch import aligned_empty

Array = np.ndarray[Any, Any]

#: (n, groups, ic, oc) per group, (ih, iw), (kh, kw), (sh, sw), (ph, pw) on both sides, (dh, dw).
GEOMETRIES = {
    "3x3, tails everywhere": ((2, 1, 5, 7), (9, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    "1x1 in place, tail of pixels": ((1, 1, 9, 18), (7, 9), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 stride 2": ((1, 1, 10, 20), (12, 13), (1, 1), (2, 2), (0, 0), (1, 1)),
    "unequal strides and dilations": ((1, 2, 3, 4), (17, 15), (3, 2), (3, 2), (2, 1), (2, 3)),
    "rows narrower than a vector": ((3, 1, 6, 5), (4, 3), (2, 2), (1, 1), (1, 1), (1, 1)),
    "one column": ((1, 1, 4, 17), (40, 1), (5, 1), (1, 1), (2, 0), (1, 1)),
    "kernel as large as the image": ((2, 1, 7, 9), (5, 6), (5, 6), (1, 1), (0, 0), (1, 1)),
    "rows longer than a block": ((1, 1, 3, 5), (2, 3500), (1, 9), (1, 1), (0, 4), (1, 1)),
    "k in several blocks": ((1, 1, 60, 8), (8, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    "panels that the first tile packs": ((1, 1, 5, 66), (6, 40), (3, 3), (1, 1), (1, 1), (1, 1)),
    "panels left where they lie, in one row or two": ((2, 1, 5, 20), (6, 40), (3, 3), (1, 1), (1, 1), (1, 1)),
    "panels left where they lie, k in several blocks": ((1, 2, 210, 16), (9, 11), (1, 1), (1, 1), (0, 0), (1, 1)),
    "narrow rows under padding, stride and dilation": ((1, 1, 7, 12), (13, 14), (3, 4), (2, 2), (4, 5), (2, 3)),
    "small images, panels over several": ((17, 1, 3, 16), (12, 9), (5, 5), (1, 1), (1, 0), (1, 1)),
    "images smaller than a vector, panels over several": ((35, 2, 60, 8), (5, 4), (3, 3), (1, 1), (0, 1), (1, 1)),
    "small images, stride 2, panels over several": ((9, 1, 4, 24), (13, 13), (3, 3), (2, 2), (1, 1), (1, 1)),
    "taps in the padding": ((2, 1, 9, 25), (11, 13), (3, 3), (1, 1), (5, 6), (5, 6)),
    "one tap in the image": ((1, 2, 3, 14), (4, 5), (3, 5), (1, 1), (6, 12), (6, 6)),
    "rows and columns that read no pixel": ((1, 1, 5, 14), (5, 6), (2, 2), (2, 2), (9, 9), (2, 3)),
    "last panel of half the channels": ((2, 1, 5, 48), (7, 9), (1, 1), (1, 1), (0, 0), (1, 1)),
    "last panel of a vector and a half, k in several blocks": ((1, 1, 420, 24), (6, 9), (1, 1), (1, 1), (0, 0), (1, 1)),
    "last panel of whole vectors": ((1, 1, 5, 24), (7, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    "more taps than a block of k": ((1, 1, 2, 6), (30, 30), (23, 23), (1, 1), (3, 3), (1, 1)),
}


def geometry(name: str) -> Geometry:
    (n, groups, ic, oc), (ih, iw), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = GEOMETRIES[name]
    oh = (ih + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    ow = (iw + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    return Geometry(n, groups, ic, oc, ih, iw, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw, bool(ph or pw))


def run(g: Geometry, layout: DenseLayout | tuple[DenseLayout, ...], x: Array, w: Array, y: Array, threads: int = 1) -> None:
    """Run the kernel, for the whole result or rectangles of it, on (N, C, H, W) views of any strides that the layout was made for."""
    layouts = layout if isinstance(layout, tuple) else (layout,)
    table = functions(str(x.dtype), is_pixels=layouts[0].is_pixels)
    weights, bias = pack_weights(layouts[0], table, w), pack_bias(layouts[0], None, x.dtype)
    limits = np.array([0, 0, 0], x.dtype)
    strides = [step // x.itemsize for step in x.strides]
    v = np.array([*strides, *(s // y.itemsize for s in y.strides), 0, 0, 0, 0], np.int64)
    rows, columns = source_index(g.ih, g.ph_lo, g.ph_lo, "zeros"), source_index(g.iw, g.pw_lo, g.pw_lo, "zeros")
    arrays: list[Array] = []
    for part in layouts:
        row, column = (0, 0) if part.region is None else (part.region.source_row, part.region.source_column)
        fields = part.fields.copy()
        fields[dense_fields.SCRATCH] = max(other.fields[dense_fields.SCRATCH] for other in layouts)
        arrays += (
            table, fields, v, part.offsets(strides, g), part.tiles, rows[row:], columns[column:], part.slots, part.steps, part.panel_rows, weights,
            bias, limits,
        )  # fmt: skip
    addresses = np.array([array.ctypes.data for array in arrays], np.int64)
    scratch, at = aligned_empty(threads * max(part.workspace_nbytes_per_thread for part in layouts))
    tasks = sum(part.tasks for part in layouts)
    dense.dense(pool.handle(threads), threads, tasks, addresses, x.ctypes.data, y.ctypes.data, 0, at)
    del scratch


def expected(g: Geometry, x: Array, w: Array) -> Array:
    """Return the definition's sum over taps, in double."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (g.ph_lo, g.ph_lo), (g.pw_lo, g.pw_lo)))
    y = np.zeros((g.n, g.groups, g.oc, g.oh, g.ow))
    weights = w.reshape(g.groups, g.oc, g.ic, g.kh, g.kw).astype(np.float64)
    for r, s in np.ndindex(g.kh, g.kw):
        rows = slice(r * g.dh, r * g.dh + (g.oh - 1) * g.sh + 1, g.sh)
        columns = slice(s * g.dw, s * g.dw + (g.ow - 1) * g.sw + 1, g.sw)
        seen = padded[:, :, rows, columns].reshape(g.n, g.groups, g.ic, g.oh, g.ow)
        y += np.einsum("ngchw,goc->ngohw", seen, weights[..., r, s])
    return y.reshape(g.n, g.groups * g.oc, g.oh, g.ow)


def arrays(g: Geometry, dtype: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    x = rng.integers(-4, 5, (g.n, g.groups * g.ic, g.ih, g.iw)).astype(dtype)
    return x, rng.integers(-4, 5, (g.groups * g.oc, g.ic, g.kh, g.kw)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("design", [True, False], ids=["pixels", "channels"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_both_designs_are_exact(name: str, design: bool, dtype: str) -> None:  # noqa: FBT001
    g = geometry(name)
    x, w = arrays(g, dtype)
    bits = []
    for threads in (1, 2):
        layout = make_layout(g, x.itemsize, is_flat=True, is_channels_last=False, reads_rows=True, threads=threads, design=design)
        y = np.full((g.n, g.groups * g.oc, g.oh, g.ow), np.nan, dtype)
        run(g, layout, x, w, y, threads)
        np.testing.assert_array_equal(y, expected(g, x, w))
        bits.append(y)
    np.testing.assert_array_equal(bits[0], bits[1])


@pytest.mark.parametrize("target", [AVX2, AVX512], ids=["avx2", "avx512"])
def test_panels_stay_where_they_lie_for_few_channels_that_make_high_tiles(target: Target) -> None:
    def is_placed(channels: int) -> bool:
        g = replace(geometry("1x1 in place, tail of pixels"), oc=channels)
        layout = make_layout(g, 4, is_flat=True, is_channels_last=False, reads_rows=True, design=True, target=target)
        return bool(layout.fields[dense_fields.IS_PLACED])

    assert is_placed(16)
    assert is_placed(24)
    assert not is_placed(3)
    assert not is_placed(96)


@pytest.mark.parametrize("target", [AVX2, AVX512], ids=["avx2", "avx512"])
@pytest.mark.parametrize("unit", [1, 2])
def test_ranges_of_channels_have_as_many_tiles_and_nearly_as_many_channels_each(unit: int, target: Target) -> None:
    tile = register_tile(4, target)
    for channels in range(unit, 300, unit):
        for threads in (1, 2, 3, 4):
            tiles = tiles_of_ranges(channels, threads, tile, unit)
            assert sum(tiles) == channels
            assert set(tiles) <= set(tile.heights)
            if tiles != row_tiles(channels, tile, unit):
                ranges = min(threads, channels // SPLIT_CHANNELS)
                count = len(tiles) // ranges
                sizes = [sum(tiles[i * count : (i + 1) * count]) for i in range(ranges)]
                assert len(tiles) % ranges == 0
                assert max(sizes) - min(sizes) <= 2 + channels % 2
    assert tiles_of_ranges(128, 2, tile, unit)[: len(tiles_of_ranges(64, 1, tile, unit))] == tiles_of_ranges(64, 1, tile, unit)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tiles_by_which_weights_are_packed_are_the_same_for_all_forms_of_arrays_and_rectangles(threads: int) -> None:
    for channels in (30, 64, 100, 128, 200):
        g = replace(geometry("taps in the padding"), n=1, ic=64, oc=channels, ih=28, iw=28, oh=28, ow=28, ph_lo=5, pw_lo=5, dh=5, dw=5)
        forms = [{"is_flat": flat, "reads_rows": rows, "region": None} for flat in (True, False) for rows in (True, False)]
        forms += [{"is_flat": True, "reads_rows": True, "region": part} for part in regions(g, 40, 4000, by_rows=True, by_columns=True)]
        tiles = [make_layout(g, 4, is_channels_last=False, threads=threads, design=True, **form).tiles.tolist() for form in forms]
        assert all(other == tiles[0] for other in tiles)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in GEOMETRIES if "over several" in name])
def test_an_image_has_the_same_bits_in_a_batch_whose_panels_run_on(name: str, dtype: str) -> None:
    g = geometry(name)
    x, w = (a * np.random.default_rng(5).random(a.shape).astype(dtype) for a in arrays(g, dtype))
    results = []
    for count in (g.n, 1):
        y = np.full((g.n, g.groups * g.oc, g.oh, g.ow), np.nan, dtype)
        part = replace(g, n=count)
        layout = make_layout(part, x.itemsize, is_flat=True, is_channels_last=False, reads_rows=True, design=True)
        assert count > 1 or layout.fields[dense_fields.IMAGES] == 1
        for n in range(0, g.n, count):
            run(part, layout, x[n : n + count], w, y[n : n + count])
        results.append(y)
    np.testing.assert_array_equal(*results)


def test_images_are_put_together_where_their_panels_would_be_half_empty() -> None:
    tile = register_tile(4, AVX512)
    assert images_of_block(16, 100, 16, 150, tile) == 4
    assert images_of_block(16, 128, 16, 150, tile) == 1
    assert images_of_block(1, 100, 16, 150, tile) == 1
    assert images_of_block(16, 100, 16, 9, tile) == 1
    # Tiles of 6 rows and one vector add up in another order than those of two vectors.
    assert images_of_block(16, 100, 6, 150, tile) == 1


def test_channels_are_cut_into_ranges_where_filling_strips_once_more_costs_less_than_an_idle_thread() -> None:
    tile = register_tile(4, AVX512)

    def splits(fill_cycles: float) -> int:
        return cut(
            128, 784, 288, 11, 1152, tile, 1, 2, is_pixels=True, fewest=1, read_cycles=0.0, fill_cycles=lambda pixels: fill_cycles * pixels
        )[1]

    assert splits(0.0) == 2
    assert splits(1000.0) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axes", [(True, False), (False, True), (True, True)], ids=["rows", "columns", "both"])
@pytest.mark.parametrize("name", [name for name in GEOMETRIES if geometry(name).is_padded])
def test_rectangles_without_taps_in_the_padding_are_exact(name: str, axes: tuple[bool, bool], dtype: str) -> None:
    g = geometry(name)
    x, w = arrays(g, dtype)
    parts = regions(g, 40, 4000, by_rows=axes[0], by_columns=axes[1])
    for threads in (1, 2):
        layouts = tuple(
            make_layout(g, x.itemsize, is_flat=True, is_channels_last=False, reads_rows=True, threads=threads, design=True, region=part)
            for part in parts
        )
        y = np.full((g.n, g.groups * g.oc, g.oh, g.ow), np.nan, dtype)
        run(g, layouts, x, w, y, threads)
        np.testing.assert_array_equal(y, expected(g, x, w))


def test_rectangles_cover_the_result_once_and_leave_no_tap_out_that_reads_the_image() -> None:
    for name in GEOMETRIES:
        g = geometry(name)
        for by_rows, by_columns in ((True, True), (True, False)):
            covered = np.zeros((g.oh, g.ow, g.kh, g.kw), int)
            seen = np.zeros((g.oh, g.ow), int)
            for part in regions(g, 40, 4000, by_rows=by_rows, by_columns=by_columns):
                p = part.geometry
                here = slice(part.row, part.row + p.oh), slice(part.column, part.column + p.ow)
                seen[here] += 1
                covered[(*here, slice(part.kh, part.kh + p.kh), slice(part.kw, part.kw + p.kw))] += 1
            assert (seen == 1).all()
            rows = np.arange(g.oh)[:, None] * g.sh + np.arange(g.kh) * g.dh - g.ph_lo
            columns = np.arange(g.ow)[:, None] * g.sw + np.arange(g.kw) * g.dw - g.pw_lo
            reads = ((rows >= 0) & (rows < g.ih))[:, None, :, None] & ((columns >= 0) & (columns < g.iw))[None, :, None, :]
            assert (covered[reads] == 1).all()


def test_the_model_leaves_taps_out_where_padding_reaches_far() -> None:
    def saved(dilation: int, size: int) -> float:
        g = Geometry(1, 1, 64, 64, size, size, size, size, 3, 3, 1, 1, dilation, dilation, dilation, dilation, is_padded=True)
        parts = best_regions(g, 4, register_tile(4))
        done = sum(p.geometry.oh * p.geometry.ow * p.geometry.kh * p.geometry.kw for p in parts)
        return 1 - done / (9 * size**2) if parts else 0

    assert saved(12, 33) > 0.4
    assert saved(40, 33) == 1 - 1 / 9
    assert saved(1, 56) == 0


@pytest.mark.parametrize(
    "name",
    [
        "3x3, tails everywhere", "1x1 in place, tail of pixels", "unequal strides and dilations", "last panel of half the channels",
        "last panel of whole vectors", "last panel of a vector and a half, k in several blocks",
    ],
)  # fmt: skip
def test_channels_last_and_gaps_are_exact(name: str) -> None:
    g = geometry(name)
    x, w = arrays(g, "float32")
    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = np.zeros((g.n, g.oh, g.ow, g.groups * g.oc), "float32").transpose(0, 3, 1, 2)
    for reads_channels in (False, True):
        layout = make_layout(g, 4, is_flat=True, is_channels_last=True, reads_rows=False, reads_channels=reads_channels)
        run(g, layout, turned, w, y)
        np.testing.assert_array_equal(y, expected(g, x, w))
        y.fill(0)
    wide = np.full((g.n, g.groups * g.oc, g.oh, g.ow + 3), -7, "float32")
    run(g, make_layout(g, 4, is_flat=False, is_channels_last=False, reads_rows=True), x, w, wide[..., : g.ow])
    np.testing.assert_array_equal(wide[..., : g.ow], expected(g, x, w))
    assert np.all(wide[..., g.ow :] == -7)


@pytest.mark.parametrize("step", [1, 2], ids=["pixels together", "pixels apart"])
def test_complex_numbers_with_complex_padding_are_exact(step: int) -> None:
    p = ConvProblem(
        1, 1, 5, 9, 11, 7, 3, 3, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1, dtype="complex64", padding_mode="constant", padding_value=2 - 3j,
        has_bias=True, has_residual=True,
    )  # fmt: skip
    rng = np.random.default_rng(4)
    x, w, bias, residual = (
        (rng.integers(-4, 5, shape) + 1j * rng.integers(-4, 5, shape)).astype(p.dtype)
        for shape in (p.x_shape, p.w_shape, (7,), p.out_shape)
    )
    wanted = Naive().make_plan(p, w, bias)(x, residual)
    for threads in (1, 2):
        out = np.zeros((*p.out_shape[:3], step * p.ow), p.dtype)[..., ::step]
        Dense().make_plan(p, w, bias, threads=threads)(x, residual, out=out)
        np.testing.assert_array_equal(out, wanted)


def test_the_model_puts_few_pixels_on_the_broadcast_side() -> None:
    tile = register_tile(4)
    assert channels_cost(49, 512, tile) < pixels_cost(49, 512, tile)
    assert pixels_cost(3136, 64, tile) <= channels_cost(3136, 64, tile) * 1.02


@pytest.mark.parametrize("target", [AVX2, AVX512], ids=lambda target: target.name)
def test_strips_of_narrow_rows_are_unrolled_and_those_of_rows_that_panels_divide_are_not(target: Target) -> None:
    for width, is_unrolled in ((10, True), (224, False)):
        g = Geometry(1, 1, 6, 16, width, width, width, width, 5, 5, 1, 1, 2, 2, 1, 1, is_padded=True)
        layout = make_layout(g, 4, is_flat=True, is_channels_last=False, reads_rows=True, design=True, target=target)
        assert (int(layout.fields[dense_fields.RUN]) > width) == is_unrolled
        assert int(layout.fields[dense_fields.COLUMN_SLOTS]) == (5 if is_unrolled else 1)


def test_blocks_are_even_and_within_the_limit() -> None:
    for extent in (1, 7, 100, 1152, 4608):
        for limit in (4, 100, 384):
            size = even_blocks(extent, limit, 4)
            assert size % 4 == 0
            assert size <= limit
            assert -(-extent // size) == -(-extent // (limit // 4 * 4))


@pytest.mark.parametrize("parts", [1, 2])
def test_strips_are_filled_once_for_a_channel_of_more_taps_than_a_block_of_k(parts: int) -> None:
    g = Geometry(1, 1, 4, 6, 40, 40, 10, 10, 31, 31, 1, 1, 0, 0, 1, 1, is_padded=False)
    layout = make_layout(g, 4, is_flat=True, is_channels_last=False, reads_rows=False, parts=parts)
    assert layout.steps[:, dense_fields.STEP_CHANNELS].sum() == 4 // parts
    assert layout.steps[:, dense_fields.STEP_COUNT].sum() == 4 * 31 * 31


@pytest.mark.parametrize("target", [AVX2, AVX512], ids=lambda target: target.name)
@pytest.mark.parametrize("channels", [24, 40, 64])
def test_pixels_of_channels_last_1x1_layers_are_cut_so_that_none_is_packed(channels: int, target: Target) -> None:
    for extent in (56, 112):
        g = Geometry(1, 1, 96, channels, extent, extent, extent, extent, 1, 1, 1, 1, 0, 0, 1, 1, is_padded=False)
        layout = make_layout(g, 4, is_flat=True, is_channels_last=True, reads_rows=False, reads_channels=True, target=target)
        assert layout.fields[dense_fields.READS_PIXELS]


def test_only_equally_spaced_pixels_are_read_in_place() -> None:
    assert can_read_in_place(geometry("1x1 in place, tail of pixels"), is_flat=True)
    assert not can_read_in_place(geometry("1x1 in place, tail of pixels"), is_flat=True, has_row_gaps=True)
    assert not can_read_in_place(geometry("1x1 stride 2"), is_flat=True)
    assert not can_read_in_place(geometry("3x3, tails everywhere"), is_flat=False)
