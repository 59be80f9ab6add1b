"""Winograd: exact matrices, tiles whose borders carry NaN, infinity and overflow, blocks of any shape, bounds that hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastconv.backends.base import unit_roundoff
from fastconv.backends.winograd import ALGORITHMS, Winograd
from fastconv.backends.winograd import layout as layout_module
from fastconv.backends.winograd.layout import Layout
from fastconv.backends.winograd.variants import VARIANTS, Variant
from fastconv.errors import UnsupportedProblem
from fastconv.kernels.points import POINTS, algorithm, cook_toom
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.target import AVX2, AVX512, NEON, SSE2
from fastconv.kernels.winograd_products import height_table, tile_heights
from fastconv.machine import nominal_machine
from fastconv.problem import ConvProblem
from oracle import Array, by_definition

BY_NAME = {a.name: a for a in ALGORITHMS if isinstance(a, Winograd)}
SQUARE = tuple(v.name for v in VARIANTS if v.r == (3, 3) and v.stride == 1)


def problem_for(variant: Variant, **changes: object) -> ConvProblem:
    """Return a problem with overhanging tiles on both axes and channel counts that fill no vector."""
    numbers: dict[str, object] = {"g": 1, "mb": 1, "ic": 5, "ih": 14, "iw": 19, "oc": 11, "ph_lo": 1, "pw_hi": 2}
    numbers.update(changes)
    return ConvProblem(kh=variant.r[0], kw=variant.r[1], sh=variant.stride, sw=variant.stride, **numbers)  # type: ignore[arg-type]


def reference(p: ConvProblem, x: Array, w: Array) -> Array:
    return by_definition(
        x, w, stride=(p.sh, p.sw), pads=((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), dilation=(p.dh, p.dw), groups=p.g,
        mode=p.padding_mode, value=p.padding_value,
    )  # fmt: skip


def arrays(p: ConvProblem, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, p.x_shape).astype(p.dtype), rng.integers(-4, 5, p.w_shape).astype(p.dtype)


# ---- exact arithmetic


def apply_exactly(form: object, data: list[Fraction], taps: list[Fraction]) -> list[Fraction]:
    def times(matrix: object, vector: list[Fraction]) -> list[Fraction]:
        return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]  # type: ignore[attr-defined]

    products = [a * b for a, b in zip(times(form.g, taps), times(form.bt, data), strict=True)]  # type: ignore[attr-defined]
    return times(form.at, products)  # type: ignore[attr-defined]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("m", "r"), sorted({(v.m[i], v.r[i]) for v in VARIANTS for i in (0, 1)} | set(POINTS)))
def test_the_matrices_compute_the_correlation_of_unit_vectors_exactly(m: int, r: int, stride: int) -> None:
    """Both sides are bilinear, so equality on all pairs of unit vectors proves it for all data and taps."""
    if stride == 2 and (m, r) not in {(2, 3), (4, 3)}:
        pytest.skip("only 3 taps come with stride 2")
    form = algorithm(m, r, stride)
    assert (form.m, form.r, form.span) == (m, r, (m - 1) * stride + r)
    for d in range(form.span):
        for t in range(r):
            data = [Fraction(i == d) for i in range(form.span)]
            taps = [Fraction(i == t) for i in range(r)]
            assert apply_exactly(form, data, taps) == [Fraction(i * stride + t == d) for i in range(m)]


def test_an_algorithm_takes_one_multiplication_per_point() -> None:
    assert all(algorithm(m, r).alpha == m + r - 1 == len(points) + 1 for (m, r), points in POINTS.items())


def test_equal_or_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"F\(2, 3\) takes 3 distinct finite points, got \['0', '1', '1'\]"):
        cook_toom(2, 3, (0, 1, 1))


# ---- values that are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_special_values_on_tile_borders_reach_exactly_the_outputs_that_read_them(name: str, value: float) -> None:
    """3e38 overflows inside some transforms, while many outputs that read it, and all others, are finite."""
    variant = BY_NAME[name].variant
    p = problem_for(variant)
    step_h, step_w = (m * variant.stride for m in variant.m)
    for y, x_at in ((0, 0), (step_h, step_w), (step_h - 1, step_w + 1), (p.ih - 1, p.iw - 1), (0, 2 * step_w)):
        x, w = arrays(p, seed=y)
        x[0, y % p.ic, min(y, p.ih - 1), min(x_at, p.iw - 1)] = value
        w[:, :, 0] = np.sign(w[:, :, 0]) * 0.5
        with np.errstate(all="ignore"):
            y_found, expected = BY_NAME[name].make_plan(p, w)(x), reference(p, x, w).astype(p.dtype)
        assert np.array_equal(np.isnan(y_found), np.isnan(expected))
        infinite = np.isinf(expected)
        assert np.array_equal(np.isinf(y_found), infinite)
        assert np.array_equal(y_found[infinite], expected[infinite])
        finite = np.isfinite(expected)
        x64 = np.where(np.isfinite(x), x, 0)
        bound = BY_NAME[name].error_bound(p, x64, w) + unit_roundoff(p.dtype) * np.abs(expected)
        assert (np.abs(y_found[finite].astype(np.float64) - expected[finite]) <= bound[finite]).all()


@pytest.mark.parametrize("name", SQUARE)
def test_an_infinite_weight_makes_nan_of_padded_zeros_and_leaves_other_channels_alone(name: str) -> None:
    p = problem_for(BY_NAME[name].variant, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1)
    x, w = arrays(p)
    w[3, 2, 0, 0] = np.inf
    with np.errstate(all="ignore"):
        found, expected = BY_NAME[name].make_plan(p, w)(x), reference(p, x, w)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found[0, 3, 0]).all()
    others = [o for o in range(p.oc) if o != 3]
    assert np.abs(found[:, others] - expected[:, others]).max() < 1e-3


@pytest.mark.parametrize("name", SQUARE)
def test_denormal_data_stay_within_the_bound(name: str) -> None:
    p = problem_for(BY_NAME[name].variant)
    x, w = arrays(p)
    x *= np.float32(1e-41)
    found, expected = BY_NAME[name].make_plan(p, w)(x), reference(p, x.astype(np.float64), w.astype(np.float64))
    assert (np.abs(found - expected) <= BY_NAME[name].error_bound(p, x, w)).all()


# ---- blocks


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_blocks_of_any_shape_and_any_number_of_threads_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem_for(BY_NAME[name].variant, mb=3, ic=19, oc=37, ih=23, iw=40)
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    first = BY_NAME[name].make_plan(p, w)(x)
    for tiles, threads, cost in ((1, 1, 1), (5, 2, 0), (23, 3, 0), (1000, 3, 0), (1000, 2, np.inf), (7, 2, np.inf), (30, 2, 1)):
        monkeypatch.setattr(layout_module, "BLOCK_TILES", tiles)
        monkeypatch.setattr(layout_module, "SHARING_COST", cost)
        layout_module._cut.cache_clear()
        assert np.array_equal(BY_NAME[name].make_plan(p, w, threads=threads)(x), first)


@pytest.mark.parametrize("dilation", [(1, 3), (2, 1), (3, 2), (4, 5), (12, 12), (25, 31)], ids=str)
@pytest.mark.parametrize("name", SQUARE)
def test_every_phase_of_a_dilated_problem_has_as_many_tiles_as_its_pixels_take(
    name: str, dilation: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 21 x 26 pixels; dilation (25, 31) leaves phases without a pixel."""
    variant, (dh, dw) = BY_NAME[name].variant, dilation
    p = problem_for(
        variant,
        mb=2,
        ic=3,
        oc=4,
        ih=21,
        iw=26,
        dh=dh,
        dw=dw,
        ph_lo=dh,
        ph_hi=dh,
        pw_lo=dw,
        pw_hi=dw,
        padding_mode="constant",
        padding_value=2,
    )
    phases = [[-(-len(range(i, extent, d)) // m) for i in range(d)] for extent, d, m in zip((p.oh, p.ow), dilation, variant.m, strict=True)]
    assert Layout(p, variant, 1, 1 << 26).tiles == p.mb * sum(phases[0]) * sum(phases[1])
    x, w = arrays(p)
    expected = reference(p, x, w)
    for tiles in (1, 7, 1000):
        monkeypatch.setattr(layout_module, "BLOCK_TILES", tiles)
        assert np.array_equal(np.rint(BY_NAME[name].make_plan(p, w, threads=2)(x)), expected)
    x[1, 2, 7, 9] = np.nan
    found = BY_NAME[name].make_plan(p, w)(x)
    assert np.array_equal(np.isnan(found), np.isnan(reference(p, x, w)))


@pytest.mark.parametrize(
    ("channels", "extent", "panels", "threads", "busiest"),
    [
        (64, 16, 1, 2, 1 / 2),  # one panel: as many blocks as threads
        (96, 28, 3, 2, 4 / 7),  # three panels: 4 and 3 bands of 7
        (256, 16, 9, 2, 5 / 9),  # nine panels: 5 and 4
        (256, 56, 8, 2, 1 / 2),  # many tiles: blocks of their own
        (512, 8, 16, 4, 1 / 4),  # few tiles of many channels: panels
    ],
)
def test_threads_end_together(channels: int, extent: int, panels: int, threads: int, busiest: float) -> None:
    columns = register_tile(4).columns
    p = problem_for(
        BY_NAME["winograd:f4x3"].variant, ic=channels, oc=panels * columns, ih=extent, iw=extent, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1
    )
    layout = Layout(p, BY_NAME["winograd:f4x3"].variant, threads, 1 << 30)
    blocks = [h * w for h in pieces(layout.all_bands, layout.band_blocks) for w in pieces(layout.columns, layout.column_blocks)]
    tasks = pieces(layout.panels, layout.output_tasks) if layout.shares_blocks else blocks
    loads = [0] * threads
    for task in tasks:
        loads[loads.index(min(loads))] += task
    assert max(loads) / sum(tasks) == pytest.approx(busiest)


@pytest.mark.parametrize(("channels", "panels", "extent", "parallelism"), [(280, 4, 12, 4), (512, 1, 64, 16), (16, 1, 4, 1)])
def test_the_model_counts_on_threads_that_have_panels_or_bands_to_take(channels: int, panels: int, extent: int, parallelism: int) -> None:
    """One tile of few channels is for one thread."""
    algorithm = BY_NAME["winograd:f4x5"]
    p = problem_for(
        algorithm.variant, ic=channels, oc=panels * register_tile(4).columns, ih=extent, iw=extent, ph_lo=2, ph_hi=2, pw_lo=2, pw_hi=2
    )
    assert algorithm.work(p, nominal_machine()).parallelism == parallelism


def pieces(extent: int, count: int) -> list[int]:
    return [extent // count + (i < extent % count) for i in range(count)]


def test_few_channels_of_a_shared_block_are_transformed_in_several_pieces() -> None:
    p = problem_for(BY_NAME["winograd:f4x3"].variant, ic=4, oc=16 * register_tile(4).columns, ih=28, iw=28)
    layout = Layout(p, BY_NAME["winograd:f4x3"].variant, 2, 1 << 30)
    assert layout.shares_blocks
    assert layout.data_pieces == 4


@pytest.mark.parametrize("name", SQUARE)
def test_a_small_workspace_makes_smaller_blocks_and_the_same_bits_until_none_fits(name: str) -> None:
    variant = BY_NAME[name].variant
    p = problem_for(variant, mb=2, ic=40, oc=48, ih=40, iw=50)
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    plan = BY_NAME[name].make_plan(p, w)
    first, nbytes = plan(x), plan.workspace_nbytes
    least = Layout(p, variant, 1, 0).nbytes
    assert least < nbytes
    for limit in (nbytes - 1, (nbytes + least) // 2, least):
        smaller = BY_NAME[name].make_plan(p, w, max_workspace=limit)
        assert smaller.workspace_nbytes <= limit
        assert np.array_equal(smaller(x), first)
    with pytest.raises(UnsupportedProblem, match=f"smallest block takes {least} bytes of workspace, max_workspace is {least - 1}"):
        BY_NAME[name].make_plan(p, w, max_workspace=least - 1)


@pytest.mark.parametrize("columns", range(1, 81))
def test_products_of_a_block_of_any_number_of_tiles_stay_apart(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem_for(
        BY_NAME["winograd:f2x3"].variant, ic=4, oc=3 * register_tile(4).columns, ih=2, iw=2 * columns, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1
    )
    rng = np.random.default_rng(columns)
    x, w = (rng.integers(-8, 9, shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    monkeypatch.setattr(layout_module, "BLOCK_TILES", 1000)
    assert np.array_equal(BY_NAME["winograd:f2x3"].make_plan(p, w)(x), reference(p, x, w))


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("target", [SSE2, AVX2, AVX512, NEON], ids=lambda target: target.name)
def test_heights_of_products_cover_any_number_of_tiles_with_little_overhang(target: object, itemsize: int) -> None:
    tile = register_tile(itemsize, target)  # type: ignore[arg-type]
    table, least = height_table(tile), tile_heights(tile)[0]
    for tiles in range(1, 200):
        strips = -(-tiles // (len(table) - 1))
        tall = tiles % strips
        rows = tall * table[tiles // strips + (tall > 0)] + (strips - tall) * table[tiles // strips]
        assert tiles <= rows <= tiles + max(least, strips)


# ---- errors


STANDARD = [(v.name, max(v.standard_from, channels)) for v in VARIANTS if v.standard_from for channels in (16, 256)]


@pytest.mark.parametrize(("name", "channels"), sorted(set(STANDARD)))
def test_variants_err_at_most_four_times_as_much_as_plain_summation_where_they_are_standard(name: str, channels: int) -> None:
    variant = BY_NAME[name].variant
    assert variant.accuracy_for(channels) == "standard"
    p = problem_for(variant, ic=channels, oc=16, ih=24, iw=24)
    rng = np.random.default_rng(2)
    x, w = (rng.uniform(-1, 1, shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    exact = reference(p, x.astype(np.float64), w.astype(np.float64))
    plain = plain_sum(p, x, w)
    found = BY_NAME[name].make_plan(p, w)(x)
    assert rms(found - exact) <= 4 * rms(plain - exact)


def plain_sum(p: ConvProblem, x: Array, w: Array) -> Array:
    """Return the convolution summed in float32 one product after another."""
    pads = ((0, 0), (0, 0), (p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi))
    padded, total = np.pad(x, pads), np.zeros(p.out_shape, np.float32)
    for c, r, s in np.ndindex(*p.w_shape[1:]):
        rows, cols = slice(r, r + (p.oh - 1) * p.sh + 1, p.sh), slice(s, s + (p.ow - 1) * p.sw + 1, p.sw)
        total += padded[:, c, rows, cols][:, None] * w[:, c, r, s][:, None, None]
    return total


def rms(error: Array) -> float:
    return float(np.sqrt(np.mean(error.astype(np.float64) ** 2)))


def test_variants_with_larger_errors_are_standard_from_as_many_channels_as_make_up_for_it() -> None:
    """Complex channels count twice: they are two real ones."""
    algorithm = BY_NAME["winograd:f5x3"]
    least = algorithm.variant.standard_from
    assert least is not None
    p = problem_for(algorithm.variant)
    modes = [algorithm.accuracy_for(p.replace(**changes)) for changes in (
        {"ic": least - 1}, {"ic": least}, {"ic": least // 2, "dtype": "complex64"}, {"ic": 2 * least - 2, "g": 2, "oc": 4},
    )]  # fmt: skip
    assert modes == ["fast", "standard", "standard", "fast"]


@pytest.mark.parametrize("name", SQUARE)
def test_the_bound_holds_for_long_sums_and_is_not_vacuous(name: str) -> None:
    p = problem_for(BY_NAME[name].variant, ic=300, oc=9, dh=2, dw=3, ih=30)
    rng = np.random.default_rng(3)
    x, w = (rng.uniform(-1, 1, shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    error = np.abs(BY_NAME[name].make_plan(p, w)(x) - reference(p, x.astype(np.float64), w.astype(np.float64)))
    bound = BY_NAME[name].error_bound(p, x, w)
    assert (error <= bound).all()
    assert bound.max() < 5e4 * error.max()
    assert error.max() > unit_roundoff(p.dtype)
