"""`ConvProblem`: a frozen value that prints as one string and parses back."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import GEOMETRIES, PROBLEMS
from fastconv.problem import ACTIVATIONS, DTYPES, ConvProblem
from strategies import ANY, CLASSES, problems_of

pytestmark = pytest.mark.plain

TEXT = "g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32"


@st.composite
def any_problems(draw: st.DrawFn) -> ConvProblem:
    dtype = draw(st.sampled_from(DTYPES))
    kind = np.dtype(dtype).kind
    words: dict[str, Any] = {"dtype": dtype, "has_bias": draw(st.booleans()), "has_residual": draw(st.booleans())}
    number: st.SearchStrategy[Any] = st.floats(allow_nan=False)
    if kind in "iu":
        limits = np.iinfo(dtype)
        number = st.integers(int(limits.min), int(limits.max))
    words["activation"] = draw(
        st.none()
        if kind == "c"
        else st.sampled_from(("relu", "relu6"))
        if kind in "iu"
        else st.one_of(st.none(), st.sampled_from(ACTIVATIONS))
    )
    if kind != "c" and draw(st.booleans()):
        words["activation"] = tuple(sorted((draw(number), draw(number))))
    if draw(st.booleans()):
        words["padding_mode"] = "constant"
        words["padding_value"] = draw(st.complex_numbers(allow_nan=False) if kind == "c" else number)
    return draw(problems_of(draw(st.sampled_from([*CLASSES.values(), ANY])), **words))


@given(any_problems())
def test_the_problem_string_parses_back(problem: ConvProblem) -> None:
    again = ConvProblem.parse(str(problem))
    assert again == problem
    assert hash(again) == hash(problem)
    assert str(again) == str(problem)


@given(any_problems())
def test_the_result_has_the_shape_of_the_definition(problem: ConvProblem) -> None:
    p = problem
    rows, cols = len(p.row_index()), len(p.col_index())
    assert p.out_shape == (
        p.mb,
        p.oc,
        len(range(0, rows - p.dh * (p.kh - 1), p.sh)),
        len(range(0, cols - p.dw * (p.kw - 1), p.sw)),
    )
    assert p.macs == int(np.prod(p.out_shape, dtype=object)) * p.ic // p.g * p.kh * p.kw
    assert p.flops == p.macs * (8 if p.is_complex else 2)
    assert p.out_nbytes == int(np.prod(p.out_shape, dtype=object)) * np.dtype(p.dtype).itemsize


@pytest.mark.parametrize("text", GEOMETRIES.values())
def test_the_strings_of_the_cases(text: str) -> None:
    problem = ConvProblem.parse(text)
    assert ConvProblem.parse(str(problem)) == problem


def test_the_short_form() -> None:
    problem = ConvProblem.parse(TEXT)
    assert str(problem) == TEXT
    assert problem == ConvProblem(1, 1, 64, 56, 56, 64, 3, 3, ph_lo=1, ph_hi=1, pw_lo=1, pw_hi=1)
    assert problem.out_shape == (1, 64, 56, 56)
    assert problem.flops == 2 * 64 * 64 * 9 * 56 * 56


def test_the_long_form() -> None:
    text = "g2mb2ic6ih9iw31oc4kh4kw2sh3sw2ph0_2pw3_1dh2dw3:float64:constant=-1.5:bias:residual:clamp=-1.0,6.5:NHWC"
    assert str(ConvProblem.parse(text)) == text


def test_frozen_hashable_and_small() -> None:
    problem = PROBLEMS["dense 3x3"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.ic = 3  # type: ignore[misc]
    assert len({problem, ConvProblem.parse(str(problem)), problem.replace(oc=1)}) == 2
    assert pickle.loads(pickle.dumps(problem)) == problem
    with pytest.raises(ValueError, match="padding_value"):
        problem.replace(padding_value=1)
