"""FFT: exact order of frequencies, tilings that wrap around, phases of stride and dilation, non-finite tiles, bounded memory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv.backends.fft import ALGORITHMS, tiling
from fastconv.backends.fft.accuracy import integer_reason
from fastconv.backends.fft.geometry import axis_tiles
from fastconv.backends.fft.tiles import TilesPlan, column_pairs, longest_runs, negatives
from fastconv.backends.fft.tiling import axis_phases, channels_of, element_nbytes
from fastconv.backends.fft.whole import smooth_length
from fastconv.errors import UnsupportedProblem
from fastconv.kernels import fft
from fastconv.kernels.borders import PADDING_MODES, source_index
from fastconv.kernels.fft_fields import CHANNELS
from fastconv.kernels.fft_fields import TILES as TILES_IN_LANES
from fastconv.kernels.fft_lengths import factorize, frequencies, lengths, twiddles
from fastconv.kernels.fft_plane import COLLIDING_NBYTES
from fastconv.kernels.fft_stages import stages
from fastconv.kernels.target import host
from fastconv.plans import address
from fastconv.problem import ConvProblem
from oracle import Array, by_definition

BY_NAME = {a.name: a for a in ALGORITHMS}
TILES = ("fft:plane", "fft:tiles")


def reference(p: ConvProblem, x: Array, w: Array) -> Array:
    return by_definition(
        x, w, stride=(p.sh, p.sw), pads=((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), dilation=(p.dh, p.dw), groups=p.g,
        mode=p.padding_mode, value=p.padding_value,
    )  # fmt: skip


def arrays(p: ConvProblem) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    return rng.integers(-3, 4, p.x_shape).astype(p.dtype), rng.integers(-3, 4, p.w_shape).astype(p.dtype)


def aligned(values: Array) -> Array:
    """Return a copy that starts at a cache line."""
    buffer = np.empty(values.nbytes + 64, np.uint8)
    start = -address(buffer) % 64
    out = buffer[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    out[...] = values
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 9, 12, 16, 20, 27, 45, 50, 64, 72, 96, 144, 240, 432, 512, 1280, 2048])
def test_a_transform_has_numpy_s_frequencies_and_comes_back(n: int, dtype: str) -> None:
    lanes = host().lanes(np.dtype(dtype).itemsize)
    rng = np.random.default_rng(n)
    z = rng.standard_normal((n, lanes)) + 1j * rng.standard_normal((n, lanes))
    data = aligned(np.stack([z.real, z.imag], 1).astype(dtype))
    plan, tw = stages(n, dtype), twiddles(n, dtype)
    at, step = address(data), element_nbytes()
    fft.forward(address(plan), address(tw), at, step, at, step, True)
    tolerance = 8 * math.log2(n) * float(np.finfo(dtype).eps)
    expected = np.fft.fft(z, axis=0)[frequencies(n)]
    error = np.abs(data[:, 0] + 1j * data[:, 1] - expected)
    assert np.linalg.norm(error) <= tolerance * np.linalg.norm(expected)
    fft.inverse(address(plan), address(tw), at, step, at, step, True)
    error = np.abs(data[:, 0] + 1j * data[:, 1] - n * z)
    assert np.linalg.norm(error) <= 2 * tolerance * n * np.linalg.norm(z)


def test_every_length_is_the_product_of_its_radices() -> None:
    for n in lengths():
        factors = factorize(n)
        assert factors is not None
        assert math.prod(factors) == n
        assert sorted(frequencies(n)) == list(range(n))


@pytest.mark.parametrize("n", [1, 2, 15, 16, 27, 72])
def test_columns_pair_with_their_negative_frequency(n: int) -> None:
    order = frequencies(n)
    pairs = column_pairs(n)
    assert len(pairs) == n // 2 + 1
    assert ((order[pairs[:, 0]] + order[pairs[:, 1]]) % n == 0).all()
    far = negatives(n) // element_nbytes()
    assert ((order + order[far]) % n == 0).all()


def test_a_circular_border_needs_no_room() -> None:
    index = source_index(32, 2, 2, "circular")
    tiles = axis_tiles(index, outputs=32, span=5, length=32)
    assert tiles is not None
    assert (tiles.length, tiles.count) == (32, 1)


def test_zeros_on_both_sides_share_room() -> None:
    index = source_index(56, 15, 15, "zeros")
    tiles = axis_tiles(index, outputs=56, span=31, length=72)
    assert tiles is not None
    assert tiles.count == 1
    reflected = axis_tiles(source_index(56, 15, 15, "reflect"), outputs=56, span=31, length=72)
    assert reflected is not None
    assert reflected.count > 1


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
def test_phases_read_what_the_definition_reads(stride: int, dilation: int, k: int) -> None:
    n, lo, hi = 23, 3, 4
    outputs = (n + lo + hi - dilation * (k - 1) - 1) // stride + 1
    axis = axis_phases(n, k, stride, dilation, lo, hi, "reflect", outputs)
    source = source_index(n, lo, hi, "reflect")
    s = stride // math.gcd(stride, dilation) if k > 1 else 1
    for i in range(outputs):
        a, dense = i % axis.out_phases, i // axis.out_phases
        for tap in range(k):
            b, r = tap % s, tap // s
            assert axis.index[a, b, dense + r] == source[i * stride + tap * dilation]


def test_runs_are_the_longest_stretch() -> None:
    index = np.array([[[-1, -1, 0, 1, 2, 3, 2, 1]]])
    assert longest_runs(index, 8, 8, 1, 1).tolist() == [[2, 4, 0, 1]]


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("mode", PADDING_MODES)
def test_every_border_and_ragged_tiles(name: str, mode: str) -> None:
    value = 2.0 if mode == "constant" else 0
    p = ConvProblem(3, 2, 3, 61, 47, 3, 9, 6, ph_lo=5, ph_hi=2, pw_lo=1, pw_hi=7, dtype="float64", padding_mode=mode, padding_value=value)
    x, w = arrays(p)
    plan = BY_NAME[name].make_plan(p, w)
    np.testing.assert_array_equal(np.rint(plan(x)), reference(p, x, w))


@pytest.mark.parametrize("name", TILES)
def test_non_finite_values_reach_exactly_the_outputs_that_read_them(name: str) -> None:
    p = ConvProblem(1, 2, 1, 90, 80, 1, 7, 5, ph_lo=3, ph_hi=3, pw_lo=2, pw_hi=2)
    x, w = arrays(p)
    x[0, 0, 40, 33], x[1, 0, 0, 79] = np.nan, np.inf
    w[0, 0, 3, 2] = 0  # 0 * inf
    with np.errstate(invalid="ignore"):
        expected = reference(p, x, w)
    y = BY_NAME[name].make_plan(p, w)(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(y), finite)
    np.testing.assert_array_equal(np.rint(y[finite]), expected[finite])


@pytest.mark.parametrize("name", ["fft:tiles", "fft:whole"])
def test_an_infinite_weight_makes_nan_of_padded_zeros(name: str) -> None:
    p = ConvProblem(1, 1, 2, 20, 20, 3, 3, 3, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1)
    x, w = arrays(p)
    w[1, 0, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        expected = reference(p, x, w)
        y = BY_NAME[name].make_plan(p, w)(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(y[np.isinf(expected)], expected[np.isinf(expected)])


@pytest.mark.parametrize("name", TILES)
def test_overflow_inside_the_transform_is_computed_again(name: str) -> None:
    p = ConvProblem(1, 1, 1, 64, 64, 1, 3, 3)
    x = np.full(p.x_shape, 2e37, np.float32)
    w = np.ones(p.w_shape, np.float32)
    y = BY_NAME[name].make_plan(p, w)(x)
    np.testing.assert_allclose(y, 1.8e38, rtol=1e-6)


@pytest.mark.parametrize("name", TILES)
def test_bits_do_not_depend_on_threads(name: str) -> None:
    p = ConvProblem(4, 3, 4, 70, 66, 4, 11, 8, ph_lo=5, pw_hi=4)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(p.x_shape).astype(p.dtype), rng.standard_normal(p.w_shape).astype(p.dtype)
    one = BY_NAME[name].make_plan(p, w, threads=1)
    two = BY_NAME[name].make_plan(p, w, threads=2)
    assert one.description == two.description
    assert one(x).tobytes() == two(x).tobytes()


def test_threads_share_a_tile_that_is_alone_and_give_the_bits_of_one() -> None:
    p = ConvProblem(1, 1, 1, 90, 80, 1, 25, 45, ph_lo=3, ph_hi=3, pw_lo=2, pw_hi=2)
    x, w = arrays(p)
    x[0, 0, 70, 33] = np.nan
    one, three = (BY_NAME["fft:plane"].make_plan(p, w, threads=threads) for threads in (1, 3))
    assert one.description.startswith("1 tile of")
    assert three.workspace_nbytes < 3 * one.workspace_nbytes
    assert one(x).tobytes() == three(x).tobytes()


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_max_workspace_is_obeyed_or_refused(name: str) -> None:
    p = ConvProblem(1, 1, 8, 100, 100, 8, 15, 15, dtype="float64")
    _, w = arrays(p)
    if BY_NAME[name].why_not(p):
        p = p.replace(ic=1, oc=1)
        _, w = arrays(p)
    for limit in (30_000_000, 3_000_000, 900_000, 500_000):
        try:
            plan = BY_NAME[name].make_plan(p, w, max_workspace=limit)
        except UnsupportedProblem as error:
            assert str(limit) in str(error)  # noqa: PT017
            continue
        assert plan.workspace_nbytes <= limit
        x, _ = arrays(p)
        np.testing.assert_array_equal(np.rint(plan(x)), reference(p, x, w))
    with pytest.raises(UnsupportedProblem):
        BY_NAME[name].make_plan(p, w, max_workspace=1000)


def test_integers_are_refused_where_they_may_be_inexact() -> None:
    p = ConvProblem(1, 1, 1, 64, 64, 1, 5, 5, dtype="int8")
    assert integer_reason(p, 64 * 64) is None
    reason = BY_NAME["fft:whole"].why_not(p.replace(dtype="int64"))
    assert reason is not None
    assert "below 1/2" in reason


@pytest.mark.parametrize("n", [1, 2, 7, 97, 481, 1025])
def test_smooth_lengths_are_the_smallest(n: int) -> None:
    def is_smooth(m: int) -> bool:
        for prime in (2, 3, 5):
            while m % prime == 0:
                m //= prime
        return m == 1

    assert smooth_length(n) == next(m for m in range(n, 2 * n + 1) if is_smooth(m))


@pytest.mark.parametrize("mode", ["zeros", "constant", "circular"])
def test_lines_are_transformed_whole(mode: str) -> None:
    value = 2.0 if mode == "constant" else 0
    p = ConvProblem(2, 2, 2, 1, 5000, 4, 1, 901, pw_lo=30, pw_hi=450, padding_mode=mode, padding_value=value, dtype="float64")
    x, w = arrays(p)
    plan = BY_NAME["fft:plane"].make_plan(p, w)
    assert " as " in plan.description
    np.testing.assert_array_equal(np.rint(plan(x)), reference(p, x, w))
    x[1, 1, 0, 4000] = np.nan
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isnan(plan(x)), np.isnan(reference(p, x, w)))


def test_kernels_beyond_the_tiles_are_left_to_the_whole() -> None:
    p = ConvProblem(1, 1, 1, 2, 5000, 1, 2, 2501)
    assert BY_NAME["fft:tiles"].why_not(p) is not None
    assert BY_NAME["fft:plane"].why_not(p) is not None
    x, w = arrays(p)
    np.testing.assert_array_equal(np.rint(BY_NAME["fft:whole"].make_plan(p, w)(x)), reference(p, x, w))


def test_blocks_of_items_give_whole_pairs_and_the_bits_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    p = ConvProblem(1, 3, 3, 70, 66, 5, 11, 8, ph_lo=5, pw_hi=4, dtype="float64")
    x, w = arrays(p)
    monkeypatch.setattr(tiling, "WHOLE_NBYTES", 0)
    monkeypatch.setattr(tiling, "BLOCK_NBYTES", 1)
    tilings = list(tiling.candidates(p, host().lanes(p.itemsize), 1 << 30, 1 << 30, 1))
    in_blocks = [t for t in tilings if t.items_at_once < t.items]
    assert {t.place for t in in_blocks} == {CHANNELS, TILES_IN_LANES}
    for t in in_blocks[:: len(in_blocks) // 6]:
        one, two = (TilesPlan("fft:tiles", p, w, None, threads, t) for threads in (1, 2))
        y = one(x)
        np.testing.assert_array_equal(np.rint(y), reference(p, x, w))
        assert y.tobytes() == two(x).tobytes()
        slots = channels_of(p).slots(t.place, host().lanes(p.itemsize))
        unit = 1 if t.place == CHANNELS else host().lanes(p.itemsize)
        assert all(t.items_at_once // unit * count % 4 == 0 for count in slots[:2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [3, 12, 40])
def test_rows_that_fall_on_the_same_sets_give_the_bits_of_others(k: int, dtype: str) -> None:
    p = ConvProblem(1, 1, 1, 300, 512, 1, k, k, dtype=dtype)
    x, w = arrays(p)
    apart = np.zeros((1, 1, 300, 520), dtype)[..., :512]
    apart[...] = x
    assert x.strides[2] % COLLIDING_NBYTES == 0
    assert apart.strides[2] % COLLIDING_NBYTES != 0
    plan = BY_NAME["fft:plane"].make_plan(p, w)
    y = plan(x)
    np.testing.assert_array_equal(np.rint(y), reference(p, x, w))
    assert y.tobytes() == plan(apart).tobytes()


def test_an_image_in_memory_is_read_ahead_with_the_same_results() -> None:
    p = ConvProblem(1, 1, 1, 1500, 1500, 1, 3, 3)
    assert p.x_nbytes + p.out_nbytes > tiling.LAST_LEVEL_NBYTES
    x, w = arrays(p)
    np.testing.assert_array_equal(np.rint(BY_NAME["fft:plane"].make_plan(p, w)(x)), reference(p, x, w))
