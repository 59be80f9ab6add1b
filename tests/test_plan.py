"""`Plan` and `Conv2d`: prepared once, never changed, shared by threads, pickled."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastconv
import oracle
from cases import Case, cases, plan, reals, supported
from fastconv.backends import TABLE, make_plan, workspace_nbytes
from fastconv.backends.base import Algorithm
from fastconv.problem import ConvProblem

RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, (2, 4, 9, 11)).astype(np.float32)
W = RNG.integers(-3, 4, (6, 4, 3, 3)).astype(np.float32)
BIAS = np.arange(6, dtype=np.float32)
FEW = ("dense 3x3, odd everything, batch", "1x1", "depthwise 3x3", "planar 5x5, narrow", "large kernel, channels", "stem 7x7/2")

PROBLEM = ConvProblem.parse("g1mb2ic4ih9iw11oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32:bias")
algorithms = pytest.mark.parametrize(
    "algorithm", [algorithm for algorithm in TABLE if supported(algorithm, PROBLEM)], ids=lambda algorithm: algorithm.name
)


def make(algorithm: Algorithm) -> fastconv.plans.Plan:
    return fastconv.plan(X.shape, W, BIAS, padding=1, backend=algorithm.name)


# ---- Plan


@algorithms
def test_a_plan_keeps_its_own_copy_of_the_weights(algorithm: Algorithm) -> None:
    w, bias = W.copy(), BIAS.copy()
    kept = fastconv.plan(X.shape, w, bias, padding=1, backend=algorithm.name)
    w[...], bias[...] = np.nan, np.nan
    np.testing.assert_array_equal(np.rint(kept(X)), oracle.convolve(X, W, BIAS, pads=((1, 1), (1, 1))))


@algorithms
def test_a_plan_survives_pickling(algorithm: Algorithm) -> None:
    kept = make(algorithm)
    again = pickle.loads(pickle.dumps(kept))
    assert repr(again) == repr(kept)
    np.testing.assert_array_equal(again(X), kept(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again))(X), kept(X))


@pytest.mark.plain
def test_pickling_keeps_the_form_of_the_arrays() -> None:
    kept = fastconv.plan((9, 11, 4), W, data_format="NHWC", flip_kernel=True, activation="relu", dtype="float64")
    x = np.moveaxis(X[0], 0, -1).astype(float)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(kept))(x), kept(x))
    assert kept(x).shape == (7, 9, 6)


@pytest.mark.parametrize("case", cases("float32", names=FEW), ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_one_plan_in_many_threads_at_once(case: Case, threads: int) -> None:
    sources = [reals(case.problem, seed).x for seed in range(12)]
    kept = plan(case, reals(case.problem), threads)
    alone = [kept(x) for x in sources]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for y, expected in zip(pool.map(kept, sources), alone, strict=True):
                np.testing.assert_array_equal(y.view(np.uint8), expected.view(np.uint8))


@algorithms
def test_what_a_plan_tells_of_itself(algorithm: Algorithm) -> None:
    kept = make(algorithm)
    assert kept.backend == algorithm.name
    assert kept.problem == PROBLEM
    assert repr(kept) == f"<fastconv.Plan {algorithm.name} {kept.problem}>"
    assert kept.threads >= 1
    assert kept.workspace_nbytes >= 0
    assert kept.packed_nbytes >= W.nbytes


@algorithms
@pytest.mark.parametrize("limit", [0, 1000, 100_000])
def test_workspace_stays_within_its_limit_or_the_plan_is_refused(algorithm: Algorithm, limit: int) -> None:
    booked = workspace_nbytes(algorithm, ConvProblem.parse("g1mb1ic8ih60iw64oc8kh3kw3sh1sw1ph1pw1dh1dw1:float32"), 1, limit)
    with fastconv.config(max_workspace=limit, threads=1):
        try:
            kept = fastconv.plan((1, 8, 60, 64), np.ones((8, 8, 3, 3), np.float32), padding=1, backend=algorithm.name)
        except fastconv.UnsupportedProblem:
            assert booked is None
            return
        assert kept.workspace_nbytes == booked <= limit
        np.testing.assert_allclose(kept(np.ones((1, 8, 60, 64), np.float32))[0, 0, 1, 1], 72, rtol=1e-4)


@pytest.mark.plain
def test_without_a_named_backend_a_tight_workspace_is_no_error() -> None:
    with fastconv.config(max_workspace=0):
        np.testing.assert_array_equal(np.rint(fastconv.conv2d(X, W)), oracle.correlate(X, W))


@pytest.mark.parametrize("case", cases("float32", "float16", "complex64", names=FEW), ids=str)
@pytest.mark.parametrize("limit", [10_000, 100_000, None])
def test_a_plan_books_what_its_algorithm_said(case: Case, limit: int | None) -> None:
    w = np.zeros(case.problem.w_shape, case.problem.dtype)
    w[..., 0, 0] = w[..., -1, -1] = 1  # of rank 2: a kernel of rank 1 may take two passes with scratch of their own
    bias = np.zeros(case.problem.oc, w.dtype) if case.problem.has_bias else None
    booked = workspace_nbytes(case.algorithm, case.problem, 2, limit)
    try:
        kept = make_plan(case.algorithm, case.problem, w, bias, threads=2, max_workspace=limit)
    except fastconv.UnsupportedProblem:
        assert booked is None
    else:
        assert kept.workspace_nbytes == booked
        assert limit is None or booked <= limit


@pytest.mark.plain
def test_a_plan_of_an_empty_batch() -> None:
    kept = fastconv.plan((0, 4, 9, 11), W)
    assert kept(np.zeros((0, 4, 9, 11), np.float32)).shape == (0, 6, 7, 9)


@pytest.mark.plain
def test_a_plan_of_one_dimension_and_of_mixed_dtypes() -> None:
    kept = fastconv.plan((4, 11), W[:, :, 0], dtype="float64")
    y = kept(X[0, :, 0].astype(float))
    np.testing.assert_array_equal(np.rint(y), oracle.correlate(X[:1, :, :1], W[:, :, :1])[0, :, 0])
    assert y.dtype == np.float64


@pytest.mark.plain
def test_a_plan_with_a_residual_writes_into_out() -> None:
    kept = fastconv.plan(X.shape, W, has_residual=True)
    residual = np.ones((2, 6, 7, 9), np.float32)
    out = np.empty_like(residual)
    assert kept(X, residual, out=out) is out
    np.testing.assert_array_equal(np.rint(out), oracle.correlate(X, W) + 1)


# ---- Conv2d


@algorithms
def test_a_layer_takes_arrays_of_any_size(algorithm: Algorithm) -> None:
    layer = fastconv.Conv2d(W, BIAS, 1, 1, backend=algorithm.name)
    for shape in ((2, 4, 9, 11), (1, 4, 5, 6), (4, 20, 33), (2, 4, 9, 11)):
        x = RNG.integers(-3, 4, shape).astype(np.float32)
        y = layer(x)
        batched = x if x.ndim == 4 else x[np.newaxis]
        expected = oracle.convolve(batched, W, BIAS, pads=((1, 1), (1, 1)))
        np.testing.assert_array_equal(np.rint(y), expected if x.ndim == 4 else expected[0])


@pytest.mark.plain
def test_a_layer_keeps_its_own_copy_and_forgets_old_shapes() -> None:
    w = W.copy()
    layer = fastconv.Conv2d(w, padding="same", padding_mode="symmetric", activation="relu", groups=1)
    w[...] = np.nan
    for width in range(5, 45):
        x = RNG.integers(-3, 4, (4, 6, width)).astype(np.float32)
        expected = oracle.convolve(x[np.newaxis], W, activation="relu", pads=((1, 1), (1, 1)), mode="symmetric")[0]
        np.testing.assert_array_equal(np.rint(layer(x)), expected)
    assert len(layer._plans) == 16


@pytest.mark.plain
def test_a_layer_keeps_no_more_packed_bytes_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = fastconv.Conv2d(W)
    one = layer.plan_for((1, 4, 9, 9)).packed_nbytes
    monkeypatch.setattr("fastconv.layer.PLANS_NBYTES", 3 * one)
    for width in range(10, 20):
        layer.plan_for((1, 4, 9, width))
        assert sum(plan.packed_nbytes for plan in layer._plans.values()) <= 3 * one
    assert len(layer._plans) > 1
    monkeypatch.setattr("fastconv.layer.PLANS_NBYTES", 0)
    layer.plan_for((1, 4, 9, 20))
    assert len(layer._plans) == 1


@pytest.mark.plain
def test_a_layer_gives_the_same_as_the_function() -> None:
    layer = fastconv.Conv2d(
        W[:, :2], BIAS, (2, 1), ((1, 0), (2, 2)), (1, 2), 2, padding_mode="reflect", flip_kernel=True, activation=(-5, 20)
    )
    residual = np.ones(layer(X).shape, np.float32)
    y = fastconv.conv2d(
        X,
        W[:, :2],
        BIAS,
        (2, 1),
        ((1, 0), (2, 2)),
        (1, 2),
        2,
        padding_mode="reflect",
        flip_kernel=True,
        activation=(-5, 20),
        residual=residual,
    )
    np.testing.assert_array_equal(np.rint(layer(X, residual)), np.rint(y))
    out = np.empty_like(y)
    assert layer(X, residual, out=out) is out


@pytest.mark.plain
def test_a_layer_of_integers_takes_a_floating_source_and_any_activation() -> None:
    w = np.ones((2, 3, 3, 3), np.int8)
    x = np.linspace(-1, 1, 108, dtype=np.float32).reshape(1, 3, 6, 6)
    expected = fastconv.conv2d(x, w.astype(np.float32), activation="sigmoid", padding_mode="constant", padding_value=0.5, padding=1)
    np.testing.assert_array_equal(
        fastconv.Conv2d(w, activation="sigmoid", padding_mode="constant", padding_value=0.5, padding=1)(x), expected
    )


def test_a_layer_promotes_dtypes_and_may_write_over_its_source() -> None:
    layer = fastconv.Conv2d(W[:4], padding=1)
    assert layer(X.astype(np.float64)).dtype == np.float64
    assert layer(X.astype(np.int8)).dtype == np.float32
    x = X.copy()
    assert layer(x, out=x) is x
    np.testing.assert_array_equal(np.rint(x), oracle.correlate(X, W[:4], pads=((1, 1), (1, 1))))


@pytest.mark.plain
def test_a_layer_survives_pickling_and_threads() -> None:
    layer = fastconv.Conv2d(W, BIAS)
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again(X), layer(X))
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(again, [X] * 20):
            np.testing.assert_array_equal(y, layer(X))


@pytest.mark.plain
def test_a_layer_is_one_short_line_and_takes_no_attributes() -> None:
    layer = fastconv.Conv2d(W, BIAS, stride=2)
    assert repr(layer) == f"<fastconv.Conv2d {W.shape} float32>"
    for name in ("stride", "w", "bias"):
        with pytest.raises(AttributeError):
            setattr(layer, name, None)


@pytest.mark.plain
def test_a_layer_follows_the_settings_of_the_call() -> None:
    layer = fastconv.Conv2d(W)
    with fastconv.config(backend="naive"):
        assert layer.plan_for(X.shape).backend == "naive"
    assert layer.plan_for(X.shape).backend != "naive"


# ---- explain


@pytest.mark.plain
def test_explain_lists_every_algorithm_once_and_marks_the_choice() -> None:
    shown = fastconv.explain((1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert [row[0] for row in shown.rows] == [algorithm.name for algorithm in TABLE]
    assert [row[0] for row in shown.rows if row[1]] == [shown.chosen]
    text = str(shown)
    assert text.splitlines()[0] == "g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32"
    assert f"chosen: {shown.chosen} (by cost model)" in text
    assert shown.chosen != "naive"
    page = shown._repr_html_()
    assert f"<b>{shown.chosen}</b>" in page
    for column in ("predicted", "measured", "GFLOP", "MB moved", "MB workspace", "error bound", "remark"):
        assert column in text
        assert f">{column}</th>" in page
    assert page.count("<tr") == len(TABLE) + 1


@pytest.mark.plain
def test_explain_says_why_not() -> None:
    shown = fastconv.explain((1, 4, 9, 9), (4, 4, 2, 2), stride=2, dtype="int32")
    reasons = {row[0]: row[-1] for row in shown.rows}
    for algorithm in TABLE:
        reason = algorithm.refusal(shown.problem)
        assert (reasons[algorithm.name] == f"no: {reason}") == (reason is not None)


@pytest.mark.compiler
def test_explain_chooses_what_fits_and_tells_workspace_and_error_bound() -> None:
    with fastconv.config(max_workspace=20_000, threads=1):
        shown = fastconv.explain((1, 8, 60, 64), (8, 8, 3, 3), padding=1)
    cells = {row[0]: row for row in shown.rows}
    workspace, bound = 6, 7
    assert float(cells[shown.chosen][workspace]) <= 0.02
    assert cells["fft:tiles"][workspace] == ""
    assert cells["fft:tiles"][-1] == "no: it does not fit into the workspace, 20000 bytes"
    u = 2.0**-24
    assert float(cells["direct:loops"][bound]) == pytest.approx(72 * u, rel=0.5)
    assert float(cells["fft:whole"][bound]) > float(cells["direct:loops"][bound])


@pytest.mark.plain
@pytest.mark.parametrize("accuracy", ["strict", "standard", "fast"])
def test_accuracy_limits_what_is_chosen_without_being_named(accuracy: str) -> None:
    rank = ("strict", "standard", "fast").index
    for x_shape, w_shape, padding in (
        ((1, 64, 56, 56), (64, 64, 3, 3), 1),
        ((1, 1, 512, 512), (1, 1, 31, 31), 15),
        ((1, 16, 30, 30), (16, 16, 5, 5), 2),
    ):
        with fastconv.config(accuracy=accuracy):
            shown = fastconv.explain(x_shape, w_shape, padding=padding)
        assert rank(shown.decision.algorithm.accuracy_for(shown.problem)) <= rank(accuracy)
        if accuracy == "strict":
            assert shown.decision.algorithm.rounding == "elementwise"


@pytest.mark.plain
def test_the_reference_is_never_chosen_for_large_work() -> None:
    for x_shape, w_shape, groups in (
        ((1, 3, 64, 64), (8, 3, 3, 3), 1),
        ((8, 32, 20, 20), (32, 1, 3, 3), 32),
        ((1, 1, 256, 256), (1, 1, 9, 9), 1),
    ):
        for dtype in ("float16", "float32", "float64", "complex64", "int32"):
            assert fastconv.explain(x_shape, w_shape, groups=groups, dtype=dtype).chosen != "naive"
