"""Run one case and compare it with the reference."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

import fastconv
import oracle
from fastconv.backends import TABLE, make_plan
from fastconv.backends.base import Algorithm
from fastconv.errors import UnsupportedProblem
from fastconv.problem import ConvProblem
from oracle import Array

from .case import Case
from .memory import Arena
from .reference import products, windows

ROWS: dict[str, Algorithm] = {row.name: row for row in TABLE}
#: Activations that are computed by an approximation, and their steepest slope.
CURVES, SLOPE = ("silu", "sigmoid", "tanh", "gelu"), 1.2
#: Where the limit at -infinity is 0, but the formula says -infinity times 0.
WITHOUT_LIMIT = ("silu", "gelu")


class Mismatch(Exception):  # noqa: N818  a finding
    """The result, or what happened beside it, is not what it has to be."""


def unit(dtype: str) -> float:
    """Return the unit roundoff of the arithmetic of `dtype`."""
    return {"float64": 2.0**-53, "complex128": 2.0**-53}.get(dtype, 2.0**-24)


def subnormal(dtype: str) -> float:
    """Return the smallest number above 0 of the parts of `dtype`."""
    return {"float16": 2.0**-24, "float64": 5e-324, "complex128": 5e-324}.get(dtype, 2.0**-149)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, data: str, scale: float = 1.0) -> Array:
    """Return an array of `dtype`; `scale` is the largest magnitude for "huge" and the typical one for "tiny"."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        if data in {"normal", "mixed"}:
            return rng.integers(limits.min, limits.max, shape, kind, endpoint=True)
        if data in {"huge", "special"}:
            return rng.choice(np.array([limits.min, limits.max, 0, 1], kind), shape)
        return rng.integers(max(limits.min, -3), 4, shape, kind) * (data != "zeros")
    if kind.kind == "c":
        part = "float32" if dtype == "complex64" else "float64"
        both = numbers(rng, shape, part, data, scale) + 1j * numbers(rng, shape, part, data, scale)
        return both.astype(kind)
    if data in {"integers", "zeros", "impulse"}:
        values = rng.integers(-3, 4, shape).astype(np.float64)
        if data == "zeros":
            values *= 0.0
        return values.astype(kind)
    values = rng.standard_normal(shape)
    if data == "mixed":
        values *= np.exp(rng.uniform(-9, 2 if dtype == "float16" else 9, shape))
    elif data == "huge":
        values = np.clip(values / 3, -1, 1)
    return (values * scale).astype(kind)


def _scales(p: ConvProblem, data: str, rng: np.random.Generator) -> tuple[float, float]:
    """Return magnitudes of source and weights, such that no sum overflows, or that the products lie below the normal range."""
    if p.is_integer or data not in {"huge", "tiny"}:
        return 1.0, 1.0
    limits = np.finfo({"complex64": "float32", "complex128": "float64"}.get(p.dtype, p.dtype))
    if data == "tiny":
        x = float(limits.tiny) * 10.0 ** rng.uniform(-3, 3)
        return (x, 1.0) if rng.random() < 0.5 else (float(limits.tiny) ** 0.5, float(limits.tiny) ** 0.5)
    most = 0.05 * float(limits.max)
    if p.dtype in {"float64", "complex128"}:
        most *= 1e-12  # the bounds are computed in float64 too
    x = most / 10.0 ** rng.uniform(0, 2)
    return x, min(x, most / (x * 2 * p.reduction))


class Inputs:
    """The arrays of a case between their pages, and what follows from them; shared by the algorithms of one problem."""

    def __init__(self, arenas: dict[str, Arena], case: Case) -> None:
        p = case.problem
        rng = np.random.default_rng(case.seed)
        x_scale, w_scale = _scales(p, case.data, rng)
        most = 0.2 * x_scale if case.data == "huge" else 1.0
        drawn = {
            "x": numbers(rng, p.x_shape, p.dtype, case.data, x_scale),
            "w": numbers(rng, p.w_shape, p.dtype if case.w_dtype == "same" else case.w_dtype, case.data, w_scale),
            "bias": numbers(rng, (p.oc,), p.dtype, case.data, most) if p.has_bias else None,
            "residual": numbers(rng, p.out_shape, p.dtype, case.data, most) if p.has_residual else None,
        }
        if case.data == "impulse":
            keep = rng.random(p.x_shape) < 1.5 / max(1, np.prod(p.x_shape[1:]))
            drawn["x"] = drawn["x"] * keep.astype(p.dtype)
        if case.data == "special" and not p.is_integer:
            self._spoil(rng, drawn)
        self.arenas = arenas
        placed = {
            name: None if array is None else arenas[name].place(array, getattr(case, name), case.side) for name, array in drawn.items()
        }
        self.x, self.w, self.bias, self.residual = (placed[name] for name in ("x", "w", "bias", "residual"))
        self.has_special = case.data == "special" and not p.is_integer
        self._refer(p)

    @staticmethod
    def _spoil(rng: np.random.Generator, drawn: dict[str, Array | None]) -> None:
        for name, share in (("x", 0.8), ("w", 0.3), ("bias", 0.2), ("residual", 0.2)):
            array = drawn[name]
            if array is not None and array.size and rng.random() < share:
                for _ in range(rng.integers(1, 4)):
                    array[tuple(rng.integers(array.shape))] = rng.choice([np.nan, np.inf, -np.inf])

    def _refer(self, p: ConvProblem) -> None:
        """Compute the reference: sums, sums of magnitudes, and the result."""
        assert self.x is not None
        assert self.w is not None
        x, w = oracle.wide(self.x), oracle.wide(self.w.astype(p.dtype))
        seen = windows(p, x)
        sums = products(p, seen, w)
        if p.is_integer:
            total = sums.astype(p.dtype)
            if self.bias is not None:
                total = total + self.bias[:, None, None]
            if self.residual is not None:
                total = total + self.residual
            self.expected = oracle.activated(total, p.activation).astype(p.dtype)
            return
        #: Source and weights with the special values taken out, for bounds.
        self.plain_x, self.plain_w = self.x.copy(), self.w  # a result in the place of x overwrites it
        magnitudes = np.abs(seen)
        if self.has_special:
            self.plain_x = np.where(np.isfinite(self.x), self.x, 0).astype(p.dtype)
            self.plain_w = np.where(np.isfinite(self.w), self.w, 0).astype(p.dtype)
            magnitudes = np.where(np.isfinite(magnitudes), magnitudes, 0)
        self.sizes = products(p, magnitudes, np.abs(oracle.wide(self.plain_w.astype(p.dtype))))
        added = np.abs(sums) if p.activation in CURVES else None
        self.around = self.sizes
        with np.errstate(all="ignore"):
            if self.bias is not None:
                sums = sums + oracle.wide(self.bias)[:, None, None]
                self.around = self.around + np.abs(np.nan_to_num(oracle.wide(self.bias), posinf=0, neginf=0))[:, None, None]
            if self.residual is not None:
                sums = sums + oracle.wide(self.residual)
                self.around = self.around + np.abs(np.nan_to_num(oracle.wide(self.residual), posinf=0, neginf=0))
            self.expected = oracle.activated(sums, p.activation)
        self.no_limit = sums == -np.inf if added is not None and p.activation in WITHOUT_LIMIT else None
        self.bounds: dict[str, Array] = {}

    def summation(self, p: ConvProblem) -> Array:
        """Return the bound of plain summation in any order, with that of the reference; see `docs/accuracy.md`."""
        found = self.bounds.get("")
        if found is None:
            k, u = (p.reduction, unit(p.dtype)) if not p.is_complex else (2 * p.reduction + 2, unit(p.dtype) * 2**0.5)
            own = 4 * p.reduction * 2.0**-53 * self.sizes
            least = (4 if p.is_complex else 1) * p.reduction * (2.0**-149 if p.dtype == "float16" else subnormal(p.dtype))
            found = self.bounds[""] = k * u / (1 - k * u) * self.sizes + own + least
        return found

    def allowed(self, p: ConvProblem, bound: Array) -> Array:
        """Return the error that the result may have where the sums have errors up to `bound`."""
        u = unit(p.dtype)
        if p.activation in CURVES:
            bound = SLOPE * bound + 12 * u * (1 + self.around)
        if p.has_bias or p.has_residual:
            bound = bound + 4 * u * (self.around + bound) + 2 * subnormal(p.dtype)
        if p.dtype == "float16":
            bound = bound + 2.0**-11 * (np.abs(np.nan_to_num(self.expected, posinf=0, neginf=0)) + bound) + subnormal(p.dtype)
        return bound

    def row_bound(self, p: ConvProblem, row: Algorithm) -> Array:
        """Return the derived bound of an algorithm that is not elementwise, with the reference's own error."""
        found = self.bounds.get(row.name)
        if found is None:
            computed = row.computed(p)
            with np.errstate(all="ignore"):
                bound = row.error_bound(computed, self.plain_x.astype(computed.dtype), self.plain_w.astype(computed.dtype))
            found = self.bounds[row.name] = bound + self.summation(p)
        return found

    def untouched(self, written: str) -> str | None:
        """Return the name of an input that was written, beside that called `written`."""
        for name in ("x", "w", "bias", "residual"):
            if getattr(self, name) is not None and name != written and not self.arenas[name].is_untouched():
                return name
        return None


class Checker:
    """Runs cases; remembers the inputs of the last problem.

    Attributes
    ----------
    vacuous : Counter
        Runs whose accepted error was more than a hundredth of the sum of the magnitudes, by algorithm, dtype and data.
    """

    def __init__(self) -> None:
        self._arenas = {name: Arena() for name in ("x", "w", "bias", "residual", "out")}
        self._key: Case | None = None
        self._inputs: Inputs | None = None
        self.vacuous: Counter[str] = Counter()

    def inputs(self, case: Case) -> Inputs:
        """Return the inputs of `case`, those of the run before if they are the same."""
        key = case.replace(algorithm="", route="", threads=0, out="", form="", padding="", flip=0)
        if key != self._key or self._inputs is None or case.out == "x":
            self._key = None
            self._inputs = Inputs(self._arenas, case)
            self._key = None if case.out == "x" else key
        return self._inputs

    def run(self, case: Case) -> None:
        """Run `case`; Mismatch if anything about it is wrong."""
        p, inputs = case.problem, self.inputs(case)
        out = inputs.x if case.out == "x" else None
        if case.out not in {"none", "x"}:
            out = self._arenas["out"].empty(p.out_shape, p.dtype, case.out, case.side)
        y, used = computed(case, inputs, out)
        if out is not None:
            y = y.copy()
            arena = self._arenas["x" if case.out == "x" else "out"]
            if not arena.only_elements_changed(out):
                raise Mismatch("memory beside the elements of out was written")
        touched = inputs.untouched("x" if case.out == "x" else "")
        if touched:
            self._key = None
            raise Mismatch(f"{touched} was written")
        if y.shape != p.out_shape or y.dtype != p.dtype:
            raise Mismatch(f"the result has shape {y.shape} and dtype {y.dtype}")
        self._compare(case, inputs, y, ROWS[used])
        self._same_bits(case, inputs, y, ROWS[used])

    def _compare(self, case: Case, inputs: Inputs, y: Array, row: Algorithm) -> None:
        p, expected = case.problem, inputs.expected
        if p.is_integer:
            if not np.array_equal(y, expected):
                raise Mismatch(_worst(y, expected, (y != expected).astype(float)))
            return
        if inputs.has_special:
            y, expected = self._special(p, inputs, y, expected)
        wide = y.astype(np.complex128 if p.is_complex else np.float64)
        with np.errstate(all="ignore"):
            error = np.abs(wide - expected)
        bound = inputs.allowed(p, inputs.summation(p))
        if (error <= bound).all():
            pass
        elif row.rounding == "elementwise":
            raise Mismatch(_worst(wide, expected, error / bound))
        else:
            bound = inputs.allowed(p, inputs.row_bound(p, row))
            if not (error <= bound).all():
                raise Mismatch(_worst(wide, expected, error / bound))
        if bound.size and bound.max() > 0.01 * inputs.around.max() > 1e-20:
            self.vacuous[f"{row.name} {p.dtype} {case.data}"] += 1

    @staticmethod
    def _special(p: ConvProblem, inputs: Inputs, y: Array, expected: Array) -> tuple[Array, Array]:
        """Check that special values stand where they have to; return both arrays with zeros there."""
        known = np.ones(y.shape, bool) if inputs.no_limit is None else ~inputs.no_limit
        tests = (np.isfinite,) if p.is_complex else (np.isnan, np.isposinf, np.isneginf)
        for test in tests:
            wrong = (test(y) != test(expected)) & known
            if wrong.any():
                raise Mismatch(_worst(y, expected, wrong.astype(float)))
        finite = np.isfinite(expected) & known
        return np.where(finite, y, 0), np.where(finite, expected, 0)

    @staticmethod
    def _same_bits(case: Case, inputs: Inputs, y: Array, row: Algorithm) -> None:
        """For a part of the cases: the same bits with other threads, alone of its batch, from other addresses.

        Only of results that lie alike in memory: strides may change the order of summation.
        """
        p, choice = case.problem, case.seed % 8
        if choice > 2 or case.out not in {"none", "nchw"} or not p.mb or (case.route != "row" and p.channels_last):
            return
        x, residual = inputs.x, inputs.residual
        assert x is not None
        assert inputs.w is not None
        w = inputs.w.astype(p.dtype)
        threads, rows, what = case.threads, slice(None), ""
        if choice == 0:
            threads, what = 3 - min(case.threads, 2), "another number of threads"
        elif choice == 1 and row.rounding != "normwise":  # tiles of two images may share an FFT
            rows, p, what = slice(p.mb - 1, p.mb), p.replace(mb=1), "the last image alone"
        elif case.x == "nchw":
            x, what = _elsewhere(x), "a source at another address"
        else:
            return
        plan = make_plan(row, p, w, inputs.bias, threads=threads, max_workspace=None)
        again = plan(x[rows], None if residual is None else residual[rows])
        if not np.array_equal(_bits(again), _bits(y[rows])):
            raise Mismatch(f"other bits with {what}: {_worst(again, y[rows], (again != y[rows]).astype(float))}")


def _elsewhere(array: Array) -> Array:
    """Return a contiguous copy that begins one element behind the start of a cache line."""
    memory = np.empty(array.nbytes + 64 + array.itemsize, np.uint8)
    start = -memory.ctypes.data % 64 + array.itemsize
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _bits(array: Array) -> Array:
    """Return the array with all NaN alike and as bytes."""
    if array.dtype.kind in "fc":
        array = np.where(np.isnan(array), np.nan, array).astype(array.dtype)
    return np.ascontiguousarray(array).view(np.uint8)


def _worst(y: Array, expected: Array, badness: Array) -> str:
    at = np.unravel_index(int(np.argmax(np.where(np.isnan(badness), np.inf, badness))), y.shape)
    place = ", ".join(map(str, at))
    return f"y[{place}] = {y[at]!r}, expected {expected[at]!r} ({badness[at]:.3g} times the accepted error)"


def computed(case: Case, inputs: Inputs, out: Array | None) -> tuple[Array, str]:
    """Compute the case by its route; return the result as (N, OC, OH, OW) and the algorithm that gave it."""
    p, x, w = case.problem, inputs.x, inputs.w
    assert x is not None
    assert w is not None
    if case.route == "row":
        plan = make_plan(ROWS[case.algorithm], p, w, inputs.bias, threads=case.threads, max_workspace=None)
        if case.seed % 16 == 3:
            plan = _within(plan, case, w, inputs.bias)
        return plan(x, inputs.residual, out=out), plan.backend

    def user(array: Array | None) -> Array | None:
        """Return the array as the public functions take it."""
        if array is None:
            return None
        if case.form == "line":
            array = array[:, :, 0]
        if p.channels_last:
            array = np.moveaxis(array, 1, -1)
        return array[0] if case.form == "single" else array

    weights = w[:, :, ::-1, ::-1] if case.flip else w
    line = case.form == "line"
    words: dict[str, Any] = {
        "stride": p.sw if line else (p.sh, p.sw),
        "padding": case.padding
        if case.padding != "numbers"
        else ((p.pw_lo, p.pw_hi),)
        if line
        else ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)),
        "dilation": p.dw if line else (p.dh, p.dw),
        "groups": p.g,
        "padding_mode": p.padding_mode,
        "padding_value": p.padding_value,
        "flip_kernel": bool(case.flip),
        "activation": p.activation,
        "data_format": "NHWC" if p.channels_last else "NCHW",
        "backend": None if case.algorithm == "auto" else case.algorithm,
    }
    source, residual = user(x), user(inputs.residual)
    assert source is not None
    target = user(out)
    with fastconv.config(threads=case.threads):
        if case.route == "conv2d":
            function = fastconv.conv1d if line else fastconv.conv2d
            y = function(source, weights[:, :, 0] if line else weights, inputs.bias, residual=residual, out=target, **words)
            used = case.algorithm
        elif case.route == "plan":
            plan = fastconv.plan(
                source.shape, weights[:, :, 0] if line else weights, inputs.bias, has_residual=residual is not None, dtype=p.dtype, **words
            )
            y, used = plan(source, residual, out=target), plan.backend
        else:
            layer = fastconv.Conv2d(weights, inputs.bias, **words)
            y, used = layer(source, residual, out=target), case.algorithm
    if target is not None and y is not target:
        raise Mismatch("the result is not the array given as out")
    if case.form == "single":
        y = y[np.newaxis]
    if p.channels_last:
        y = np.moveaxis(y, -1, 1)
    return (y[:, :, np.newaxis] if line else y), used


def _within(plan: Any, case: Case, w: Array, bias: Array | None) -> Any:
    """Return a plan that keeps to half the workspace, if there is one."""
    limit = plan.workspace_nbytes // 2
    try:
        smaller = make_plan(ROWS[case.algorithm], case.problem, w, bias, threads=case.threads, max_workspace=limit)
    except UnsupportedProblem:
        return plan
    if smaller.workspace_nbytes > limit:
        raise Mismatch(f"a plan for at most {limit} bytes of workspace says that it takes {smaller.workspace_nbytes}")
    return smaller
