"""Planar kernels against the definition: every way a row is cut, packed or read in place."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from cases import by_naive_in_double
from fastconv.backends.base import summation_bound
from fastconv.backends.direct.planar import Depthwise, Grouped, Planar
from fastconv.backends.direct.planar_plan import PlanarLayout, PlanarPlan
from fastconv.backends.naive import ALGORITHMS as NAIVE
from fastconv.kernels.planar_layout import choose_tile, cut_in_place, load_offsets
from fastconv.kernels.target import AVX2, AVX512, NEON, SSE2
from fastconv.plans import channels_last_copy
from fastconv.problem import ConvProblem
from guard import guarded

PROBLEMS = [
    "g3mb2ic3ih14iw14oc3kh3kw3sh1sw1ph1pw1dh1dw1:float32",
    "g3mb1ic3ih7iw7oc3kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias:residual:relu",
    "g3mb1ic3ih9iw41oc3kh3kw3sh2sw2ph1pw1dh1dw1:float32:bias:silu",
    "g2mb1ic2ih20iw50oc4kh5kw5sh1sw1ph2pw2dh1dw1:float64",
    "g2mb1ic8ih9iw30oc8kh3kw3sh1sw1ph1pw1dh1dw1:float32:residual",
    "g1mb1ic1ih30iw70oc1kh7kw7sh1sw1ph3pw3dh1dw1:float32:reflect",
    "g1mb1ic1ih40iw70oc1kh11kw11sh1sw1ph0pw0dh1dw1:float32",
    "g1mb1ic1ih9iw33oc1kh3kw3sh3sw3ph1pw1dh1dw1:float64:circular",
    "g1mb1ic1ih1iw300oc1kh1kw70sh1sw1ph0pw35dh1dw1:float32",
    "g1mb1ic3ih30iw30oc8kh7kw7sh2sw2ph3pw3dh1dw1:float32:bias",
    "g1mb2ic3ih11iw12oc1kh3kw2sh1sw1ph1_0pw0_1dh2dw3:float32:constant=1.5",
    "g1mb1ic1ih3iw2oc5kh3kw2sh1sw1ph1pw1dh1dw1:float64:bias",
    "g3mb2ic3ih14iw21oc3kh3kw3sh1sw1ph1pw1dh1dw1:complex64",
    "g2mb1ic4ih9iw41oc6kh3kw3sh2sw2ph1pw1dh1dw1:complex64:bias:residual",
    "g1mb1ic2ih11iw5oc1kh3kw2sh1sw3ph1_0pw0_1dh2dw1:complex128:constant=(1.5-2j):residual",
    "g2mb1ic6ih14iw9oc10kh3kw3sh2sw2ph1pw1dh1dw1:float32:bias:residual:relu:NHWC",
    "g2mb1ic4ih9iw41oc6kh3kw3sh1sw1ph1pw1dh1dw1:complex64:residual:NHWC",
    "g1mb1ic1ih9iw33oc5kh2kw3sh1sw1ph1pw1dh1dw1:float32:NHWC",
    "g5mb1ic65ih7iw11oc5kh2kw2sh1sw3ph1pw1dh1dw2:float64:constant=2:NHWC",
    "g1mb1ic1ih12iw17oc1kh5kw5sh1sw1ph2pw2dh1dw1:float64:symmetric:bias",
    "g3mb1ic3ih9iw70oc3kh3kw3sh2sw2ph1pw1dh1dw1:float32:replicate:residual",
    "g1mb1ic1ih9iw64oc1kh3kw4sh1sw1ph1_0pw3_0dh1dw1:float32:reflect",
    "g1mb1ic1ih12iw40oc1kh9kw3sh1sw1ph4pw0dh1dw1:float32:constant=2",
    "g2mb1ic2ih31iw97oc2kh5kw5sh2sw2ph2pw2dh1dw1:float32:residual",
    "g1mb1ic1ih60iw90oc1kh3kw11sh2sw2ph1pw5dh1dw1:float64",
    "g1mb1ic1ih40iw90oc1kh4kw6sh2sw2ph1_2pw2_3dh1dw1:float64:bias",
    "g2mb1ic2ih200iw20oc2kh5kw5sh2sw2ph2pw2dh1dw1:float32",
    "g1mb1ic1ih20iw120oc1kh3kw4sh2sw2ph1pw1_2dh1dw1:float32:reflect",
]


def _arrays(p: ConvProblem, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shapes = p.x_shape, p.w_shape, (p.oc,), p.out_shape
    kinds = (1, 1j) if p.is_complex else (1,)
    x, w, bias, residual = (sum(kind * rng.standard_normal(shape) for kind in kinds).astype(p.dtype) for shape in shapes)
    return _laid_out(p, x), w, bias, _laid_out(p, residual)


def _laid_out(p: ConvProblem, array: np.ndarray) -> np.ndarray:
    return channels_last_copy(array) if p.channels_last else array


@pytest.mark.parametrize("text", PROBLEMS)
def test_equals_the_definition(text: str) -> None:
    p = ConvProblem.parse(text)
    x, w, bias, residual = _arrays(p)
    terms = bias if p.has_bias else None, residual if p.has_residual else None
    result = PlanarPlan("direct:planar", p, w, terms[0], 1)(x, terms[1])
    bound = summation_bound(p, x, w) + 16 * np.finfo(p.dtype).eps * (1 + abs(result))
    assert (abs(result - by_naive_in_double(p, x, w, *terms)) <= bound).all()


@pytest.mark.parametrize("side", ["before", "behind"])
@pytest.mark.parametrize("text", PROBLEMS)
def test_touches_nothing_outside_the_arrays(text: str, side: str) -> None:
    p = ConvProblem.parse(text)
    x, w, bias, residual = _arrays(p)
    terms = bias if p.has_bias else None, residual if p.has_residual else None
    plan = PlanarPlan("direct:planar", p, w, terms[0], 1)
    out = guarded(_laid_out(p, np.zeros(p.out_shape, p.dtype)), side)
    added = None if terms[1] is None else guarded(terms[1], side)
    plan(guarded(x, side), added, out=out)
    assert (out == plan(x, terms[1])).all()


def test_threads_do_not_change_bits() -> None:
    p = ConvProblem.parse("g1mb1ic1ih90iw200oc1kh5kw5sh1sw1ph2pw2dh1dw1:float32")
    x, w, *_ = _arrays(p)
    assert PlanarLayout(p).strips > 1
    one, two = (PlanarPlan("direct:planar", p, w, None, threads)(x) for threads in (1, 2))
    assert (one == two).all()


@pytest.mark.parametrize("text", [*PROBLEMS[:3], PROBLEMS[12]])
def test_nan_and_infinity_reach_exactly_the_outputs_that_read_them(text: str) -> None:
    p = ConvProblem.parse(text).replace(has_bias=False, has_residual=False, activation=None)
    x, w, *_ = _arrays(p)
    x[0, 1, p.ih // 2, p.iw - 1] = np.nan
    x.real[0, 2, 1, 2] = np.inf
    result, reference = PlanarPlan("direct:planar", p, w, None, 1)(x), by_naive_in_double(p, x, w, None, None)
    for found, expected in ((result.real, reference.real), (result.imag, reference.imag)):
        assert (np.isnan(found) == np.isnan(expected)).all()
        assert (np.isinf(found) == np.isinf(expected)).all()


def test_padding_is_multiplied() -> None:
    p = ConvProblem.parse("g2mb1ic2ih5iw20oc2kh3kw3sh1sw1ph1pw1dh1dw1:float32")
    w = np.ones(p.w_shape, p.dtype)
    w[:, :, 0, 0] = np.inf
    result = PlanarPlan("direct:depthwise", p, w, None, 1)(np.ones(p.x_shape, p.dtype))
    expected = np.zeros((5, 20), bool)
    expected[0, :] = expected[:, 0] = True
    assert (np.isnan(result[0, 0]) == expected).all()


def test_rows_outside_a_wider_array_are_untouched() -> None:
    p = ConvProblem.parse("g1mb1ic1ih6iw5oc1kh3kw3sh1sw1ph1pw1dh1dw1:float32")
    x, w, *_ = _arrays(p)
    whole = np.full((1, 1, 8, 12), 7, np.float32)
    PlanarPlan("direct:planar", p, w, None, 1)(x, out=whole[:, :, 1:7, 3:8])
    inside = whole[:, :, 1:7, 3:8].copy()
    whole[:, :, 1:7, 3:8] = 7
    assert (whole == 7).all()
    assert np.allclose(inside, by_naive_in_double(p, x, w, None, None), atol=1e-5)


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
@pytest.mark.parametrize("ow", range(1, 70, 3))
@pytest.mark.parametrize("pad", [0, 1, 3])
def test_a_cut_row_is_covered_and_stays_inside(lanes: int, ow: int, pad: int) -> None:
    kw = 2 * pad + 1
    offsets = load_offsets(kw, 1, lanes, deinterleaves=False)
    cut = cut_in_place(ow, ow, pad, 1, offsets, lanes, 3)
    if cut is None:
        return
    if cut.tail:
        assert cut.tail == ow < lanes
        return
    starts = [min(cut.first + t * cut.v * lanes, cut.last) + k * lanes for t in range(cut.tiles) for k in range(cut.v)]
    starts += [cut.rest_column + k * lanes for k in range(cut.rest)]
    assert all(c + o - pad >= 0 and c + o - pad + lanes <= ow for c in starts for o in offsets)
    starts += [0, cut.right] if cut.border else []
    assert {c + lane for c in starts for lane in range(lanes)} == set(range(ow))


def test_tiles_fit_the_registers() -> None:
    for kernel in ((1, 3), (3, 3), (5, 5), (7, 7), (15, 15)):
        for channels in ((1, 1), (3, 64), (4, 4), (1, 6), (8, 1)):
            for target in (SSE2, AVX2, AVX512, NEON):
                tile = choose_tile(kernel, (1, 1), channels, (100, 10, 8), target)
                assert tile.mo * tile.r * tile.v < target.registers
                assert channels[1] % tile.mo == 0


def test_rows_say_why_not() -> None:
    dense = ConvProblem.parse("g1mb1ic64ih9iw9oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32")
    assert "several groups" in str(Depthwise().why_not(dense))
    assert "2 to 16" in str(Grouped().why_not(dense))
    assert "64 -> 64" in str(Planar().why_not(dense))
    assert Planar().why_not(dense.replace(dtype="int32")) is None
    assert "float16" in str(Planar().why_not(ConvProblem.parse(PROBLEMS[6]).replace(dtype="float16")))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64"])
@pytest.mark.parametrize(
    "text",
    [
        "g3mb2ic3ih14iw37oc3kh3kw3sh1sw1ph1pw1dh1dw1:bias:residual:relu",
        "g3mb1ic3ih9iw150oc3kh3kw3sh2sw2ph1pw1dh1dw1",
        "g1mb1ic1ih9iw70oc1kh5kw40sh1sw1ph2pw0dh1dw1:reflect",
        "g1mb1ic24ih7iw7oc20kh3kw3sh1sw1ph1pw1dh1dw1:bias",
        "g2mb1ic40ih5iw19oc6kh1kw3sh1sw3ph0pw1dh1dw2:constant=2:residual:NHWC",
    ],
)
def test_integers_wrap_to_the_bits_of_any_order(text: str, dtype: str) -> None:
    head, _, tail = text.partition(":")
    p = ConvProblem.parse(f"{head}:{dtype}" + f":{tail}" * bool(tail))
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    shapes = p.x_shape, p.w_shape, (p.oc,), p.out_shape
    x, w, bias, residual = (rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True) for shape in shapes)
    x, residual = _laid_out(p, x), _laid_out(p, residual) if p.has_residual else None
    bias = bias if p.has_bias else None
    expected = NAIVE[0].make_plan(p, w, bias)(x, residual)
    (result,) = [a.make_plan(p, w, bias)(x, residual) for a in (Depthwise(), Grouped(), Planar()) if a.why_not(p) is None]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("text", [
    "g1mb1ic1ih60iw90oc1kh9kw9sh1sw1ph4pw4dh1dw1:float32",
    "g2mb2ic2ih31iw40oc2kh5kw7sh2sw1ph2pw3dh1dw1:float64:bias:residual:relu",
])  # fmt: skip
def test_separable_kernels_run_as_two_passes(text: str) -> None:
    p = ConvProblem.parse(text)
    x, w, bias, residual = _arrays(p)
    w[:] = np.exp(-(np.arange(-(p.kh // 2), p.kh // 2 + 1)[:, None] ** 2) / 8 - np.arange(-(p.kw // 2), p.kw // 2 + 1) ** 2 / 6)
    terms = bias if p.has_bias else None, residual if p.has_residual else None
    row = Depthwise() if p.g > 1 else Planar()
    plan = row.make_plan(p, w, terms[0])
    assert "separable" in plan.description
    result = plan(x, terms[1])
    bound = row.error_bound(p, x, w) + 16 * np.finfo(p.dtype).eps * (1 + abs(result))
    assert (abs(result - by_naive_in_double(p, x, w, *terms)) <= bound).all()
    w[0, 0, 1, 1] *= 1.001
    assert "separable" not in row.make_plan(p, w, terms[0]).description


def test_separable_kernels_are_left_whole_on_request() -> None:
    p = ConvProblem.parse("g1mb1ic1ih60iw90oc1kh9kw9sh1sw1ph4pw4dh1dw1:float32")
    w = np.ones(p.w_shape, p.dtype)
    assert "separable" in Planar().make_plan(p, w).description
    with fastconv.config(separable="off"):
        assert "separable" not in Planar().make_plan(p, w).description
