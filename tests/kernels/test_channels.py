"""The kernel of channels-last arrays with few inputs per output against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from cases import by_naive_in_double
from fastconv.backends.base import summation_bound
from fastconv.backends.direct.channels import ChannelsPlan
from fastconv.backends.direct.planar import ALGORITHMS
from fastconv.backends.naive import ALGORITHMS as NAIVE
from fastconv.kernels.target import host
from fastconv.problem import ConvProblem
from guard import guarded

LANES = host().lanes(4)
#: Blocks that overlap, fewer channels than lanes, stride with a border of its own, pixels that are all border, groups, complex numbers;
#: several outputs for an input, with few channels too, groups that grow; one group of 1 and 3 inputs;
#: a loop over kernel rows, one with groups and borders that wrap; groups as wide as a vector.
PROBLEMS = [
    "g20mb2ic20ih9iw11oc20kh3kw3sh1sw1ph1pw1dh1dw1:float32",
    "g3mb1ic3ih9iw11oc3kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias:residual:relu",
    "g5mb1ic5ih12iw17oc5kh5kw3sh2sw2ph2pw1dh1dw1:float64:reflect",
    "g8mb1ic8ih5iw3oc8kh3kw3sh1sw1ph1pw1dh1dw1:float32:constant=1.5",
    "g5mb2ic20ih9iw11oc20kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias",
    "g5mb1ic5ih9iw11oc5kh3kw3sh1sw2ph1pw1dh1dw1:complex64:constant=(1-2j):bias:residual",
    "g40mb1ic40ih19iw21oc80kh3kw3sh2sw1ph1pw1dh1dw2:float32:bias",
    "g3mb1ic3ih9iw11oc6kh3kw3sh1sw1ph1pw1dh2dw1:float32:bias:residual",
    "g6mb1ic12ih9iw11oc24kh3kw3sh2sw1ph1pw1dh1dw1:float32",
    "g1mb1ic3ih19iw21oc40kh7kw7sh2sw2ph3pw3dh1dw1:float32:bias",
    "g1mb2ic1ih19iw21oc18kh5kw5sh1sw1ph0pw0dh1dw1:float32:residual:relu",
    "g1mb1ic3ih19iw21oc16kh3kw3sh2sw2ph1pw1dh1dw1:float64:symmetric",
    "g20mb1ic20ih20iw21oc20kh9kw9sh1sw1ph4pw4dh1dw1:float32:bias",
    "g4mb1ic16ih10iw11oc16kh7kw9sh1sw1ph3pw4dh1dw1:float32:circular",
    f"g3mb1ic{3 * LANES}ih7iw8oc{3 * LANES}kh3kw3sh1sw1ph1pw1dh1dw1:float32",
]


def _last(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("text", PROBLEMS)
def test_equals_the_definition_and_touches_nothing_outside_the_arrays(text: str) -> None:
    p = ConvProblem.parse(text).replace(channels_last=True)
    rng = np.random.default_rng(0)
    kind = 1 + 1j if p.is_complex else 1
    x, w, bias, residual = ((kind * rng.standard_normal(s)).astype(p.dtype) for s in (p.x_shape, p.w_shape, (p.oc,), p.out_shape))
    if p.is_complex:
        x.imag[...] = rng.standard_normal(p.x_shape)
    terms = bias if p.has_bias else None, residual if p.has_residual else None
    plan = next(row for row in ALGORITHMS if row.why_not(p) is None).make_plan(p, w, terms[0], threads=2)
    assert isinstance(plan, ChannelsPlan)
    expected = by_naive_in_double(p, x, w, *terms)
    bound = summation_bound(p, x, w) + 16 * np.finfo(p.dtype).eps * (1 + abs(expected))
    results = []
    for side in ("before", "behind"):
        out = guarded(_last(np.zeros(p.out_shape, p.dtype)), side)
        plan(guarded(_last(x), side), None if terms[1] is None else guarded(_last(residual), side), out=out)
        results.append(out)
    # Other layouts give the same: pixels in reverse order, channels first.
    results.append(plan(_last(x[:, :, :, ::-1])[:, :, :, ::-1], terms[1]))
    results.append(plan(x, terms[1]))
    for result in results:
        assert (abs(result - expected) <= bound).all()
        assert (result == results[0]).all()


def test_infinity_reaches_exactly_the_outputs_that_read_it() -> None:
    p = ConvProblem.parse(PROBLEMS[0]).replace(channels_last=True)
    x, w = np.ones(p.x_shape, p.dtype), np.ones(p.w_shape, p.dtype)
    w[:, :, 0, 0] = np.inf
    x[1, 7, 4, 10] = np.nan
    result = ChannelsPlan("direct:depthwise", p, w, None, 1)(x)
    expected = NAIVE[0].make_plan(p, w)(x)
    assert (np.isnan(result) == np.isnan(expected)).all()
    assert np.isnan(result[0, 0, 0]).all()


@pytest.mark.parametrize("start", [0, 4, 16, 36])
@pytest.mark.parametrize("text", [f"g{c}mb2ic{c}ih5iw6oc{c}kh3kw3sh1sw1ph1pw1dh1dw1:float32" for c in (96, 104, 200)])
def test_a_source_may_start_anywhere_in_a_cache_line(text: str, start: int) -> None:
    p = ConvProblem.parse(text).replace(channels_last=True)
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, shape).astype(p.dtype) for shape in (p.x_shape, p.w_shape))
    room = np.empty(x.nbytes + 128, np.uint8)
    first = -room.ctypes.data % 64 + start
    shifted = room[first : first + x.nbytes].view(p.dtype).reshape(p.mb, p.ih, p.iw, p.ic).transpose(0, 3, 1, 2)
    shifted[...] = x
    assert (ChannelsPlan("direct:depthwise", p, w, None, 1)(shifted) == NAIVE[0].make_plan(p, w)(x)).all()
