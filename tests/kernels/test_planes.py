"""Kernels of small planes against the definition: several rows in a vector, strides, parts of a plane, padding left out."""

from __future__ import annotations

import numpy as np
import pytest

from cases import by_naive_in_double
from fastconv.backends.base import summation_bound
from fastconv.backends.direct.planar_plan import PlanarLayout, PlanarPlan
from fastconv.backends.naive import ALGORITHMS as NAIVE
from fastconv.kernels.planes import PlanesSpec, fitted, parts_of_plane
from fastconv.kernels.target import AVX2, AVX512, SSE2, host
from fastconv.problem import ConvProblem
from guard import guarded

PROBLEMS = [
    "g3mb2ic3ih7iw7oc3kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias:residual:relu",
    "g3mb1ic3ih7iw7oc3kh7kw7sh1sw1ph3pw3dh1dw1:float32",
    "g3mb1ic3ih14iw14oc3kh7kw7sh1sw1ph3pw3dh1dw1:float32:residual",
    "g3mb1ic3ih14iw14oc3kh5kw5sh2sw2ph2pw2dh1dw1:float32:bias:silu",
    "g3mb1ic3ih28iw28oc3kh3kw3sh2sw2ph1pw1dh1dw1:float32",
    "g3mb1ic3ih9iw20oc3kh3kw5sh1sw1ph1pw0dh2dw2:float64:bias",
    "g2mb1ic2ih4iw4oc2kh3kw3sh1sw1ph1pw1dh1dw1:float32",
    "g2mb1ic2ih5iw3oc2kh3kw2sh1sw1ph2_0pw0_1dh1dw1:float64",
    "g2mb1ic2ih9iw9oc2kh3kw3sh1sw1ph0pw0dh1dw1:float32:residual",
    "g2mb1ic2ih10iw10oc2kh3kw4sh3sw3ph1pw2dh1dw1:float32",
    "g1mb2ic1ih6iw1oc1kh3kw1sh1sw1ph1pw0dh1dw1:float32",
    "g1mb1ic1ih1iw12oc1kh1kw3sh1sw1ph0pw1dh1dw1:float32",
    "g2mb1ic2ih6iw6oc2kh9kw9sh1sw1ph4pw4dh1dw1:float32:relu",
]


def _arrays(p: ConvProblem) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape, (p.oc,), p.out_shape))


@pytest.mark.parametrize("text", PROBLEMS)
def test_equals_the_definition(text: str) -> None:
    p = ConvProblem.parse(text)
    x, w, bias, residual = _arrays(p)
    terms = bias if p.has_bias else None, residual if p.has_residual else None
    plan = PlanarPlan("direct:planar", p, w, terms[0], 1)
    assert plan.layout.small is not None or not host().has_masks
    result = plan(x, terms[1])
    bound = summation_bound(p, x, w) + 16 * np.finfo(p.dtype).eps * (1 + abs(result))
    assert (abs(result - by_naive_in_double(p, x, w, *terms)) <= bound).all()


@pytest.mark.parametrize("side", ["before", "behind"])
@pytest.mark.parametrize("text", PROBLEMS)
def test_touches_nothing_outside_the_arrays(text: str, side: str) -> None:
    p = ConvProblem.parse(text)
    x, w, bias, residual = _arrays(p)
    plan = PlanarPlan("direct:planar", p, guarded(w, side), bias if p.has_bias else None, 1)
    out = guarded(np.zeros(p.out_shape, p.dtype), side)
    added = guarded(residual, side) if p.has_residual else None
    plan(guarded(x, side), added, out=out)
    assert (out == plan(x, residual if p.has_residual else None)).all()


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64"])
@pytest.mark.parametrize("text", PROBLEMS[:6])
def test_integers_wrap(text: str, dtype: str) -> None:
    p = ConvProblem.parse(text).replace(dtype=dtype, activation=None)
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    shapes = p.x_shape, p.w_shape, (p.oc,), p.out_shape
    x, w, bias, residual = (rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True) for shape in shapes)
    bias, residual = bias if p.has_bias else None, residual if p.has_residual else None
    expected = NAIVE[0].make_plan(p, w, bias)(x, residual)
    np.testing.assert_array_equal(PlanarPlan("direct:planar", p, w, bias, 1)(x, residual), expected)


@pytest.mark.parametrize("text", PROBLEMS[1:5])
def test_nan_and_infinity_reach_exactly_the_outputs_that_read_them(text: str) -> None:
    p = ConvProblem.parse(text).replace(has_bias=False, has_residual=False, activation=None)
    x, w, *_ = _arrays(p)
    x[0, 1, p.ih // 2, p.iw - 1], x[0, 2, 1, 2], w[0, 0, 0, 0], w[0, 0, -1, 1] = np.nan, np.inf, np.inf, np.nan
    result, expected = PlanarPlan("direct:planar", p, w, None, 1)(x), by_naive_in_double(p, x, w, None, None)
    assert (np.isnan(result) == np.isnan(expected)).all()
    assert (np.isinf(result) == np.isinf(expected)).all()


def test_arrays_with_gaps_between_rows() -> None:
    p = ConvProblem.parse(PROBLEMS[0])
    x, w, bias, residual = _arrays(p)
    expected = PlanarPlan("direct:planar", p, w, bias, 1)(x, residual)
    wide = [np.full((2, 3, 9, 11), 7, p.dtype) for _ in range(3)]
    views = [a[:, :, 1:8, 2:9] for a in wide]
    views[0][...], views[1][...] = x, residual
    PlanarPlan("direct:planar", p, w, bias, 1)(views[0], views[1], out=views[2])
    assert (views[2] == expected).all()
    views[2][...] = 7
    assert (wide[2] == 7).all()


def test_parts_cover_a_plane_and_fit_the_registers() -> None:
    for n, stride in ((4, 1), (7, 1), (14, 1), (14, 2), (20, 1), (28, 2)):
        for itemsize in (4, 8) if (n, stride) != (28, 2) else (4,):
            out = -(-n // stride)
            asked = PlanesSpec(n, n, out, out, 3, 3, stride, stride, 1, 1, 1, 1, 1, 1, 0)
            for target in (AVX512, AVX2):
                spec, lanes = fitted(asked, itemsize, target), target.lanes(itemsize)
                if spec is None:
                    assert target == AVX2
                    assert out > lanes // 2
                    continue
                parts = parts_of_plane(spec, lanes, target)
                covered = {
                    (v.row + lane // v.width, v.column + lane % v.width)
                    for part in parts for v in part for lane in range(lanes) if lane // v.width < v.rows
                }  # fmt: skip
                assert covered == {(i, j) for i in range(out) for j in range(out)}
                assert all(spec.sets(part, target.registers) * len(part) + spec.sources(part) <= target.registers for part in parts)
    assert fitted(PlanesSpec(7, 7, 7, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0), 4, AVX2) is not None
    assert fitted(PlanesSpec(7, 7, 7, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0), 4, SSE2) is None


def test_other_problems_keep_tiles() -> None:
    for text in (
        "g3mb1ic3ih56iw56oc3kh7kw7sh1sw1ph3pw3dh1dw1:float32", "g3mb1ic3ih7iw7oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32",
        "g3mb1ic3ih7iw7oc3kh3kw3sh1sw1ph1pw1dh1dw1:float32:reflect", "g1mb1ic2ih7iw7oc1kh3kw3sh1sw1ph1pw1dh1dw1:float32",
    ):  # fmt: skip
        assert PlanarLayout(ConvProblem.parse(text), target=AVX512).small is None
