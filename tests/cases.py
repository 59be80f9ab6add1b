"""The geometries that every test of results runs over, named by problem strings, and arrays to fill them with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

import oracle
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.planner import make_plan
from fastconv.plans import Plan
from fastconv.problem import ConvProblem
from oracle import Array

#: Name of the law or the shape class -> geometry. Small, odd, and each with something that another lacks.
GEOMETRIES = {
    "worked example": "g1mb1ic1ih3iw3oc1kh2kw2sh1sw1ph0pw0dh1dw1",
    "worked example, padded": "g1mb1ic1ih3iw3oc1kh2kw2sh3sw2ph1pw1dh1dw1",
    "dense 3x3": "g1mb1ic16ih14iw14oc32kh3kw3sh1sw1ph1pw1dh1dw1",
    "dense 3x3, odd everything, batch": "g1mb2ic5ih11iw13oc7kh3kw3sh1sw1ph1pw1dh1dw1",
    "dense 3x3, no padding": "g1mb1ic4ih12iw19oc9kh3kw3sh1sw1ph0pw0dh1dw1",
    "dense 3x3, few pixels": "g1mb1ic40ih7iw7oc35kh3kw3sh1sw1ph1pw1dh1dw1",
    "dense 3x3, long sums": "g1mb1ic70ih5iw6oc37kh3kw3sh1sw1ph0pw0dh1dw1",
    "dense 3x3, stride 2": "g1mb1ic6ih16iw33oc10kh3kw3sh2sw2ph1pw1dh1dw1",
    "dense 3x3, dilated": "g1mb1ic4ih20iw22oc6kh3kw3sh1sw1ph2pw2dh2dw2",
    "dense 3x3, taps in padding": "g1mb1ic40ih20iw22oc36kh3kw3sh1sw1ph10pw10dh10dw10",
    "dense 3x3, one tap in the image": "g2mb2ic18ih5iw6oc28kh3kw3sh1sw1ph8pw7dh8dw7:float32:bias:residual:relu",
    "dense 5x3, taps in padding, stride 2": "g1mb2ic18ih40iw19oc30kh5kw3sh2sw1ph16pw7dh8dw6:float32:bias:residual:clamp=-90,90",
    "dense 3x3, batch of small images": "g1mb17ic5ih9iw10oc16kh3kw3sh1sw1ph0pw0dh1dw1:float32:bias:residual:relu",
    "dense 5x5": "g1mb1ic6ih15iw18oc8kh5kw5sh1sw1ph2pw2dh1dw1",
    "1x1": "g1mb2ic9ih7iw9oc21kh1kw1sh1sw1ph0pw0dh1dw1",
    "1x1, stride 2": "g1mb1ic8ih15iw17oc12kh1kw1sh2sw2ph0pw0dh1dw1",
    "1x1, padded": "g1mb1ic3ih6iw5oc4kh1kw1sh1sw1ph1_2pw0_3dh1dw1",
    "1x3": "g1mb1ic5ih9iw24oc6kh1kw3sh1sw1ph0pw1dh1dw1",
    "3x1": "g1mb1ic5ih24iw9oc6kh3kw1sh1sw1ph1pw0dh1dw1",
    "1x5": "g1mb1ic3ih9iw26oc5kh1kw5sh1sw1ph0pw2dh1dw1",
    "5x1": "g1mb1ic3ih26iw9oc5kh5kw1sh1sw1ph2pw0dh1dw1",
    "1x7": "g1mb1ic2ih9iw20oc3kh1kw7sh1sw1ph0pw3dh1dw1",
    "7x1": "g1mb1ic2ih20iw9oc3kh7kw1sh1sw1ph3pw0dh1dw1",
    "stem 7x7/2": "g1mb1ic3ih32iw41oc18kh7kw7sh2sw2ph3pw3dh1dw1",
    "RGB 3x3": "g1mb1ic3ih17iw34oc16kh3kw3sh1sw1ph1pw1dh1dw1",
    "1 -> n": "g1mb1ic1ih17iw34oc9kh3kw3sh1sw1ph1pw1dh1dw1",
    "n -> 1": "g1mb1ic9ih13iw18oc1kh3kw3sh1sw1ph1pw1dh1dw1",
    "n -> 3": "g1mb1ic9ih13iw18oc3kh5kw5sh1sw1ph2pw2dh1dw1",
    "grouped": "g4mb1ic16ih10iw12oc24kh3kw3sh1sw1ph1pw1dh1dw1",
    "grouped, everything unequal": "g2mb2ic6ih9iw31oc4kh4kw2sh3sw2ph0_2pw3_1dh2dw3",
    "depthwise 3x3": "g12mb2ic12ih13iw37oc12kh3kw3sh1sw1ph1pw1dh1dw1",
    "depthwise 3x3, stride 2": "g9mb1ic9ih14iw35oc9kh3kw3sh2sw2ph1pw1dh1dw1",
    "depthwise 5x5, multiplier 2": "g5mb1ic5ih12iw21oc10kh5kw5sh1sw1ph2pw2dh1dw1",
    "depthwise 7x7, dilated": "g3mb1ic3ih21iw40oc3kh7kw7sh1sw1ph6pw6dh2dw2",
    "depthwise 5x5, stride 3": "g4mb1ic4ih19iw23oc4kh5kw5sh3sw3ph2pw2dh1dw1",
    "planar 3x3": "g1mb1ic1ih23iw70oc1kh3kw3sh1sw1ph1pw1dh1dw1",
    "planar 5x5, narrow": "g1mb3ic1ih19iw6oc1kh5kw5sh1sw1ph2pw2dh1dw1",
    "planar 15x15": "g1mb1ic1ih33iw50oc1kh15kw15sh1sw1ph7pw7dh1dw1",
    "planar 31x31": "g1mb1ic1ih40iw45oc1kh31kw31sh1sw1ph15pw15dh1dw1",
    "planar 1x9": "g1mb1ic1ih5iw80oc1kh1kw9sh1sw1ph0pw4dh1dw1",
    "planar 9x1": "g1mb1ic1ih30iw11oc1kh9kw1sh1sw1ph4pw0dh1dw1",
    "planar 2x4, stride (1, 2)": "g1mb1ic1ih9iw21oc1kh2kw4sh1sw2ph0_1pw2_1dh1dw1",
    "large kernel, channels": "g1mb1ic2ih40iw36oc3kh13kw11sh1sw1ph6pw5dh1dw1",
    "kernel as large as the image": "g1mb2ic3ih5iw6oc4kh5kw6sh1sw1ph0pw0dh1dw1",
    "image of one pixel": "g1mb1ic2ih1iw1oc3kh3kw3sh1sw1ph1pw1dh1dw1",
    "stride larger than kernel": "g1mb1ic2ih17iw18oc3kh2kw2sh5sw4ph0pw0dh1dw1",
    "one dimension": "g1mb2ic4ih1iw90oc5kh1kw7sh1sw1ph0pw9dh1dw3",
    "one dimension, stride 2": "g1mb1ic4ih1iw91oc5kh1kw4sh1sw2ph0pw1_2dh1dw1",
    "empty batch": "g1mb0ic2ih5iw6oc3kh3kw3sh1sw1ph1pw1dh1dw1",
    "constant border": "g1mb1ic3ih8iw10oc4kh3kw3sh1sw1ph1_2pw2_1dh1dw1:float32:constant=2.0",
    "constant border, planar": "g1mb1ic1ih8iw20oc1kh3kw3sh1sw1ph1pw1dh1dw1:float32:constant=-3.0",
    "border wider than the image": "g1mb1ic2ih2iw3oc3kh3kw3sh1sw1ph7_5pw6_8dh1dw1:float32:reflect",
    "bias": "g1mb2ic5ih8iw9oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias",
    "bias, grouped": "g3mb1ic6ih8iw9oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias",
    "residual": "g1mb2ic5ih8iw9oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32:residual",
    "bias, residual and relu": "g1mb1ic5ih9iw20oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias:residual:relu",
    "1x1, bias, residual and clamp": "g1mb1ic8ih6iw7oc20kh1kw1sh1sw1ph0pw0dh1dw1:float32:bias:residual:clamp=-9,11",
    "depthwise, bias, residual and relu6": "g6mb1ic6ih9iw20oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias:residual:relu6",
    "planar, bias and relu": "g1mb1ic1ih9iw40oc1kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias:relu",
    "large kernel, bias, residual and clamp": "g1mb1ic2ih20iw21oc2kh9kw9sh1sw1ph4pw4dh1dw1:float32:bias:residual:clamp=-20,25",
    "channels-last": "g1mb2ic8ih9iw11oc12kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias:NHWC",
    "channels-last 1x1": "g1mb1ic9ih6iw7oc5kh1kw1sh1sw1ph0pw0dh1dw1:float32:NHWC",
    "channels-last, RGB, residual": "g1mb1ic3ih12iw13oc8kh5kw5sh2sw2ph2pw2dh1dw1:float32:residual:NHWC",
    "channels-last, depthwise": "g10mb1ic10ih9iw11oc10kh3kw3sh1sw1ph1pw1dh1dw1:float32:relu:NHWC",
}
for _mode, (_name, _geometry) in itertools.product(
    ("reflect", "symmetric", "replicate", "circular"),
    {
        "dense": "g1mb1ic3ih7iw10oc4kh3kw3sh1sw1ph1_2pw2_1dh1dw1",
        "stride": "g1mb1ic3ih9iw10oc2kh3kw5sh2sw2ph1pw2dh1dw1",
        "depthwise": "g3mb1ic3ih9iw20oc3kh3kw3sh1sw1ph1pw1dh1dw1",
        "planar": "g1mb1ic1ih12iw24oc1kh5kw5sh1sw1ph2pw2dh1dw1",
        "large kernel": "g1mb1ic1ih16iw17oc2kh11kw11sh1sw1ph5pw5dh1dw1",
    }.items(),
):
    GEOMETRIES[f"{_name}, {_mode}"] = f"{_geometry}:float32:{_mode}"

PROBLEMS = {name: ConvProblem.parse(text) for name, text in GEOMETRIES.items()}
#: The variants of Winograd differ in constants: for laws, and for dtypes other than float32, one of each kind stands for the others.
STANDING_FOR_WINOGRAD = {f"winograd:{name}" for name in ("f4x3", "f6x3", "f4x3s2", "f4x5", "f4x1x7", "f4x7x1")}
REPRESENTATIVES = [algorithm for algorithm in TABLE if algorithm.family != "winograd" or algorithm.name in STANDING_FOR_WINOGRAD]


@dataclass(frozen=True)
class Case:
    """One algorithm on one problem."""

    algorithm: Algorithm
    problem: ConvProblem

    def __str__(self) -> str:
        return f"{self.algorithm.name}-{self.problem}"


def supported(algorithm: Algorithm, problem: ConvProblem) -> bool:
    """Tell whether `algorithm` computes `problem`, if need be through another dtype."""
    return algorithm.why_not(algorithm.computed(problem)) is None


def cases(*dtypes: str, names: tuple[str, ...] | None = None) -> list[Case]:
    """Return every algorithm of the table on every problem that it supports, in float32 and, the representatives, in each of `dtypes`."""
    problems = [problem for name, problem in PROBLEMS.items() if names is None or name in names]
    return [
        Case(algorithm, problem.replace(dtype=dtype))
        for algorithm, problem, dtype in itertools.product(TABLE, problems, dtypes)
        if (dtype == "float32" or algorithm in REPRESENTATIVES) and supported(algorithm, problem.replace(dtype=dtype))
    ]


@dataclass
class Arrays:
    """The arrays of one problem, as (N, C, H, W); channels-last in memory where the problem says so."""

    x: Array
    w: Array
    bias: Array | None
    residual: Array | None


def _laid_out(array: Array, problem: ConvProblem) -> Array:
    if not problem.channels_last:
        return array
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def integers(problem: ConvProblem, amplitude: int = 2, seed: int = 0, density: float = 1.0) -> Arrays:
    """Return arrays of integers in [-amplitude, amplitude] (unsigned: [0, amplitude]), a share `density` of them not zero."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(problem.dtype)

    def draw(shape: tuple[int, ...]) -> Array:
        low = 0 if dtype.kind == "u" else -amplitude
        values: Array = rng.integers(low, amplitude + 1, shape)
        if dtype.kind == "c":
            values = values + 1j * rng.integers(low, amplitude + 1, shape)
        if density < 1:
            values = values * (rng.random(shape) < density)
        return values.astype(dtype)

    return _arrays(problem, draw)


def reals(problem: ConvProblem, seed: int = 0) -> Arrays:
    """Return normally distributed arrays."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> Array:
        values: Array = rng.standard_normal(shape)
        if problem.is_complex:
            values = values + 1j * rng.standard_normal(shape)
        return values.astype(problem.dtype)

    return _arrays(problem, draw)


def _arrays(problem: ConvProblem, draw: Any) -> Arrays:
    return Arrays(
        _laid_out(draw(problem.x_shape), problem),
        draw(problem.w_shape),
        draw((problem.oc,)) if problem.has_bias else None,
        _laid_out(draw(problem.out_shape), problem) if problem.has_residual else None,
    )


def plan(case: Case, arrays: Arrays, threads: int = 1) -> Plan:
    """Return the plan of the case, of exactly this algorithm."""
    return make_plan(case.algorithm, case.problem, arrays.w, arrays.bias, threads=threads, max_workspace=None)


def run(case: Case, arrays: Arrays, threads: int = 1) -> Array:
    """Return the result of the case."""
    return plan(case, arrays, threads)(arrays.x, arrays.residual)


def geometry(problem: ConvProblem) -> dict[str, Any]:
    """Return the problem's geometry in the oracle's words."""
    p = problem
    return {
        "stride": (p.sh, p.sw),
        "pads": ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)),
        "dilation": (p.dh, p.dw),
        "groups": p.g,
        "mode": p.padding_mode,
        "value": p.padding_value,
    }


def expected(problem: ConvProblem, arrays: Arrays) -> Array:
    """Return the oracle's result."""
    return oracle.convolve(arrays.x, arrays.w, arrays.bias, arrays.residual, problem.activation, **geometry(problem))


def by_naive_in_double(p: ConvProblem, x: Array, w: Array, bias: Array | None = None, residual: Array | None = None) -> Array:
    """Return what the naive backend makes of a problem's arrays in double precision."""
    wide = p.replace(dtype="complex128" if p.is_complex else "float64")
    terms = [None if t is None else t.astype(wide.dtype) for t in (bias, residual)]
    (naive,) = (row for row in TABLE if row.name == "naive")
    return naive.make_plan(wide, w.astype(wide.dtype), terms[0])(x.astype(wide.dtype), terms[1])
