"""The fuzzer: it sees faults, its reference is right, its cases print and read back; and a short run finds nothing."""

# ruff: noqa: S311  the randomness is for variety
from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import oracle
from cases import geometry
from fastconv.plans import Plan
from fastconv.problem import ConvProblem
from fuzz import check
from fuzz.case import Case
from fuzz.check import Checker, Mismatch
from fuzz.draw import group, problem, templates
from fuzz.memory import Arena
from fuzz.reference import correlate
from fuzz.shrink import shrunk
from oracle import Array

SECONDS = "60"
PROBLEM = ConvProblem.parse("g2mb2ic4ih6iw7oc4kh3kw2sh1sw1ph1pw1dh1dw1:float32:bias")
CASE = Case(PROBLEM, "direct:loops", out="nchw", seed=5)


@pytest.mark.skipif(sys.platform == "win32", reason="memory is protected with mprotect")
def test_a_minute_of_random_problems_finds_nothing() -> None:
    # In a process of its own: a crash there is a finding too.
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", SECONDS, "--seed", "1"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 50


def test_the_reference_agrees_with_scipy() -> None:
    rng = random.Random(0)
    for _ in range(60):
        p = problem(rng)
        if p.macs > 10_000 or p.padding_mode == "reflect":
            continue
        values = np.random.default_rng(1)
        x, w = (check.numbers(values, shape, p.dtype, "integers") for shape in (p.x_shape, p.w_shape))
        np.testing.assert_array_equal(correlate(p, x, w), oracle.correlate(x, w, **geometry(p)))


def test_cases_print_and_read_back() -> None:
    rng = random.Random(3)
    for _ in range(30):
        for case in group(rng, templates(0)):
            assert Case.parse(str(case)) == case


@pytest.mark.parametrize("side", ["behind", "before"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc", "NcH2w+3", "cnW~h1", "nc*h*w", "N*C3HW!"])
def test_layouts_are_what_their_words_say(layout: str, side: str) -> None:
    array, arena = np.arange(120.0).reshape(2, 3, 4, 5), Arena()
    placed = arena.place(array, layout, side)
    index = tuple(slice(0, 1) if f"{letter}*" in layout.lower() else slice(None) for letter in "nchw")
    np.testing.assert_array_equal(placed, np.broadcast_to(array[index], array.shape))
    for axis, letter in enumerate("nchw"):
        assert (placed.strides[axis] < 0) == (letter.upper() in layout and f"{letter.upper()}*" not in layout)
    assert placed.flags.writeable == ("!" not in layout)
    assert placed.flags.aligned == ("+" not in layout and "~" not in layout)
    assert arena.is_untouched()


def _break(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Array, Array | None, Array], None]) -> None:
    """Let every plan do `fault` after its work."""
    make_plan = check.make_plan

    def broken(*arguments: object, **words: object) -> Plan:
        plan = make_plan(*arguments, **words)  # type: ignore[arg-type]
        execute = plan.execute

        def faulty(x: Array, residual: Array | None, out: Array) -> None:
            execute(x, residual, out)
            fault(x, residual, out)

        plan.execute = faulty  # type: ignore[method-assign]
        return plan

    monkeypatch.setattr(check, "make_plan", broken)


def _beside(out: Array) -> None:
    """Write the element before the first one of `out`."""
    np.lib.stride_tricks.as_strided(out[0, 0, 0, :1], (2,), (-out.itemsize,))[1] = 1


FAULTS: dict[str, Callable[[Array, Array | None, Array], None]] = {
    "an element is wrong": lambda _x, _residual, out: out.__setitem__((0, 1, 2, 3), out[0, 1, 2, 3] * 1.001),
    "a product is lost": lambda x, _residual, out: out.__isub__(1e-3 * np.abs(x).max()),
    "an element is not written": lambda _x, _residual, out: out.__setitem__((1, 3, -1, -1), 77),
    "a NaN appears": lambda _x, _residual, out: out.__setitem__((0, 0, 0, 0), np.nan),
    "an input is written": lambda x, _residual, _out: x.__setitem__((0, 0, 0, 0), 5),
    "something beside the result is written": lambda _x, _residual, out: _beside(out),
}


@pytest.mark.plain
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Checker().run(CASE)
    _break(monkeypatch, FAULTS[fault])
    with pytest.raises(Mismatch):
        Checker().run(CASE)


@pytest.mark.plain
def test_bits_that_depend_on_the_threads_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASE.replace(seed=8)
    Checker().run(case)
    towards = iter((np.float32(np.inf), np.float32(-np.inf)))
    _break(monkeypatch, lambda _x, _residual, out: out.__setitem__((0, 0, 0, 0), np.nextafter(out[0, 0, 0, 0], next(towards))))
    with pytest.raises(Mismatch, match="number of threads"):
        Checker().run(case)


@pytest.mark.plain
def test_a_failing_case_shrinks_to_what_makes_it_fail() -> None:
    case = CASE.replace(x="nhWc", threads=3, ih=30, data="huge")
    small = shrunk(case, lambda c: c.problem.ih >= 9 and c.x == "nhWc", 1000)
    p = small.problem
    assert (p.ih, small.x, small.threads, small.data, p.g, p.mb, p.oc, p.has_bias) == (9, "nhWc", 1, "normal", 1, 1, 1, False)
