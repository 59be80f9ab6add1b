"""Every message: one table of (call, class, exact text)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import ConfigError, DTypeError, ShapeError, UnsupportedProblem
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.problem import ConvProblem

pytestmark = pytest.mark.plain

X = np.zeros((1, 3, 32, 32), np.float32)
W = np.zeros((8, 3, 3, 3), np.float32)
DTYPES = "float16, float32, float64, complex64, complex128, int8, int16, int32, int64, uint8, uint16, uint32, uint64"
FAMILIES = ", ".join(map(repr, fastconv.backends()))
VARIANT = repr(TABLE[0].name)
SETTINGS = "backend, threads, accuracy, max_workspace, effort, wisdom, ndimage_precision, separable"
PADDINGS = "padding must be an int, a pair of ints, ((top, bottom), (left, right)), 'same', 'same_lower', 'full' or 'valid'"


def conv2d(x: Any = X, w: Any = W, *args: Any, **words: Any) -> Callable[[], Any]:
    return lambda: fastconv.conv2d(x, w, *args, **words)


def conv1d(x: Any = X[0, :, 0], w: Any = W[:, :, 0], *args: Any, **words: Any) -> Callable[[], Any]:
    return lambda: fastconv.conv1d(x, w, *args, **words)


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.zeros(shape, dtype)


TABLE_OF_ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # shapes
    (conv2d(w=zeros(8, 2, 3, 3), groups=2), ShapeError,
     "conv2d: x has 3 channels but w expects 4 (w.shape[1] = 2, groups = 2); x.shape = (1, 3, 32, 32), w.shape = (8, 2, 3, 3)."),
    (conv2d(x=zeros(3, 3)), ShapeError, "conv2d: x must have the shape (N, C, H, W) or (C, H, W); got 2 axes, x.shape = (3, 3)."),
    (conv2d(x=zeros(3, 3), data_format="NHWC"), ShapeError, "conv2d: x must have the shape (N, H, W, C) or (H, W, C); got 2 axes, x.shape = (3, 3)."),
    (conv1d(x=zeros(1, 1, 1, 3)), ShapeError, "conv1d: x must have the shape (N, C, L) or (C, L); got 4 axes, x.shape = (1, 1, 1, 3)."),
    (conv1d(x=zeros(3), data_format="NHWC"), ShapeError, "conv1d: x must have the shape (N, L, C) or (L, C); got 1 axes, x.shape = (3,)."),
    (conv2d(w=zeros(3, 3)), ShapeError, "conv2d: w must have the shape (C_out, C_in/groups, K_h, K_w); got 2 axes, w.shape = (3, 3)."),
    (conv1d(w=zeros(3, 3)), ShapeError, "conv1d: w must have the shape (C_out, C_in/groups, K); got 2 axes, w.shape = (3, 3)."),
    (conv2d(zeros(1, 4, 9, 9), zeros(3, 2, 3, 3), groups=2), ShapeError,
     "conv2d: groups must divide the output channels; got groups = 2 with w.shape[0] = 3."),
    (conv2d(zeros(1, 1, 3, 9), zeros(1, 1, 5, 3), dilation=(2, 1)), ShapeError,
     "conv2d: the kernel does not fit along height: it spans dilation*(k-1)+1 = 2*(5-1)+1 = 9, but the padded input has 0+3+0 = 3. "
     "Increase padding or use a smaller kernel."),
    (conv2d(zeros(1, 1, 9, 3), zeros(1, 1, 3, 7), padding=((0, 0), (1, 2))), ShapeError,
     "conv2d: the kernel does not fit along width: it spans dilation*(k-1)+1 = 1*(7-1)+1 = 7, but the padded input has 1+3+2 = 6. "
     "Increase padding or use a smaller kernel."),
    (conv1d(zeros(1, 3), zeros(1, 1, 4)), ShapeError,
     "conv1d: the kernel does not fit along the axis: it spans dilation*(k-1)+1 = 1*(4-1)+1 = 4, but the padded input has 0+3+0 = 3. "
     "Increase padding or use a smaller kernel."),
    (conv2d(bias=zeros(3)), ShapeError, "conv2d: bias must have the shape (C_out,) = (8,); got (3,)."),
    (conv2d(bias=np.float32(1)), ShapeError, "conv2d: bias must have the shape (C_out,) = (8,); got ()."),
    (conv2d(residual=zeros(1, 8, 32, 32)), ShapeError, "conv2d: residual must have the shape of the result, (1, 8, 30, 30); got (1, 8, 32, 32)."),
    (conv2d(zeros(1, 3, 0, 4)), ShapeError, "conv2d: the height of x must be at least 1; got 0."),
    (conv2d(zeros(1, 3, 4, 0)), ShapeError, "conv2d: the width of x must be at least 1; got 0."),
    (conv2d(zeros(1, 0, 4, 4), zeros(8, 0, 3, 3)), ShapeError, "conv2d: the number of input channels must be at least 1; got 0."),
    (conv2d(w=zeros(0, 3, 3, 3)), ShapeError, "conv2d: the number of output channels must be at least 1; got 0."),
    (conv2d(w=zeros(8, 3, 0, 3)), ShapeError, "conv2d: the kernel height must be at least 1; got 0."),
    (conv2d(w=zeros(8, 3, 3, 0)), ShapeError, "conv2d: the kernel width must be at least 1; got 0."),
    (lambda: fastconv.plan((1, 3, 9, 9), zeros(3, 3)), ShapeError,
     "plan: w must have 4 axes (C_out, C_in/groups, K_h, K_w), or 3 for one dimension; got the shape (3, 3)."),
    (lambda: fastconv.explain((1, 3, 9, 9), (3, 3)), ShapeError,
     "explain: w must have 4 axes (C_out, C_in/groups, K_h, K_w), or 3 for one dimension; got the shape (3, 3)."),
    (lambda: fastconv.Conv2d(zeros(3, 3, 3)), ShapeError, "Conv2d: w must have the shape (C_out, C_in/groups, K_h, K_w); got 3 axes, w.shape = (3, 3, 3)."),
    (lambda: fastconv.Conv2d(W, zeros(2)), ShapeError, "Conv2d: bias must have the shape (C_out,) = (8,); got (2,)."),
    (lambda: fastconv.Conv2d(W)(zeros(1, 4, 9, 9)), ShapeError,
     "Conv2d: x has 4 channels but w expects 3 (w.shape[1] = 3, groups = 1); x.shape = (1, 4, 9, 9), w.shape = (8, 3, 3, 3)."),
    (lambda: fastconv.Conv2d(zeros(3, 1, 3, 3), groups=2), ShapeError, "Conv2d: groups must divide the output channels; got groups = 2 with w.shape[0] = 3."),
    (lambda: ConvProblem(2, 1, 3, 5, 5, 4, 3, 3), ShapeError, "groups must divide the input and the output channels; got groups = 2 with 3 and 4."),
    # plans
    (lambda: fastconv.plan(X.shape, W)(zeros(1, 3, 31, 32)), ShapeError,
     "plan: x must have the shape (1, 3, 32, 32); got (1, 3, 31, 32). A plan has a fixed shape: use Conv2d for any size."),
    (lambda: fastconv.plan(X.shape, W)(X.astype(float)), DTypeError, "plan: x must be float32; got float64. Convert it with astype."),
    (lambda: fastconv.plan(X.shape, W)(X.astype(">f4")), DTypeError, "plan: x must be float32; got >f4. Convert it with astype."),
    (lambda: fastconv.plan(X.shape, W)(X, zeros(1, 8, 30, 30)), ShapeError, "plan: it was made without a residual, but the call gives one."),
    (lambda: fastconv.plan(X.shape, W, has_residual=True)(X), ShapeError, "plan: it was made with a residual, but the call gives none."),
    # dtypes
    (conv2d(X.astype(np.longdouble), W), DTypeError,
     f"conv2d: the arrays promote to {np.dtype(np.longdouble).name} (from {np.dtype(np.longdouble).name}, float32), but fastconv computes in {DTYPES}. "
     "Convert with astype."),
    (conv2d(X.astype(bool), W.astype(bool)), DTypeError,
     f"conv2d: the arrays promote to bool (from bool, bool), but fastconv computes in {DTYPES}. Convert with astype."),
    (conv2d(X.astype(object)), DTypeError,
     f"conv2d: the arrays promote to object (from object, float32), but fastconv computes in {DTYPES}. Convert with astype."),
    (conv2d(X.astype("M8[s]")), DTypeError,
     f"conv2d: the arrays promote to no common dtype (from datetime64[s], float32), but fastconv computes in {DTYPES}. Convert with astype."),
    (conv2d(X.astype(complex), activation="relu"), DTypeError,
     "conv2d: activation 'relu' is not defined for complex128. Apply it to the result's parts instead."),
    (conv2d(X.astype("int32"), W.astype("int32"), activation="silu"), DTypeError,
     "conv2d: activation 'silu' needs a floating dtype; got int32. Convert x or w with astype."),
    (lambda: ConvProblem(1, 1, 1, 5, 5, 1, 3, 3, dtype="bool"), DTypeError, f"the dtype must be one of {DTYPES}; got bool. Convert the arrays with astype."),
    # out
    (conv2d(out=zeros(1, 8, 32, 32)), ShapeError, "conv2d: out must have the shape of the result, (1, 8, 30, 30); got (1, 8, 32, 32)."),
    (conv2d(out=zeros(1, 8, 30, 30, dtype=float)), DTypeError, "conv2d: out must have the dtype of the result, float32; got float64."),
    (conv2d(out=[1.0]), DTypeError, "conv2d: out must be a NumPy array; got list."),
    (conv2d(out=np.broadcast_to(np.float32(1), (1, 8, 30, 30))), ValueError, "conv2d: out is read-only. Pass a writable array."),
    (conv2d(out=np.lib.stride_tricks.as_strided(zeros(30), (1, 8, 30, 30), (0, 0, 0, 4))), ValueError,
     "conv2d: out has a stride of 0, so its elements share memory. Pass an array with elements of its own."),
    # words
    (conv2d(padding="SAME"), ValueError, f"conv2d: {PADDINGS}; got 'SAME'. Did you mean 'same'?"),
    (conv2d(padding="fulll"), ValueError, f"conv2d: {PADDINGS}; got 'fulll'. Did you mean 'full'?"),
    (conv2d(padding="nothing"), ValueError, f"conv2d: {PADDINGS}; got 'nothing'."),
    (conv2d(padding=(1, 2, 3)), ValueError, f"conv2d: {PADDINGS}; got (1, 2, 3)."),
    (conv2d(padding=(1, (2, 3))), ValueError, f"conv2d: {PADDINGS}; got (1, (2, 3))."),
    (conv2d(padding=None), ValueError, "conv2d: padding must be an integer; got None."),
    (conv2d(padding=0.5), ValueError, "conv2d: padding must be an integer; got 0.5."),
    (conv2d(padding=-1), ValueError, "conv2d: padding must be at least 0; got -1."),
    (conv2d(padding=((0, 0), (0, -2))), ValueError, "conv2d: padding must be at least 0; got -2."),
    (conv1d(padding=(1, 2)), ValueError, "conv1d: padding must be an int, ((left, right),), 'same', 'same_lower', 'full' or 'valid'; got (1, 2)."),
    (conv2d(stride=0), ValueError, "conv2d: stride must be at least 1; got 0."),
    (conv2d(stride=(1, -2)), ValueError, "conv2d: stride must be at least 1; got -2."),
    (conv2d(stride=1.0), ValueError, "conv2d: stride must be an integer; got 1.0."),
    (conv2d(stride=(1, 2, 3)), ValueError, "conv2d: stride must be an int or 2 ints; got (1, 2, 3)."),
    (conv1d(stride=(1, 2)), ValueError, "conv1d: stride must be an int; got (1, 2)."),
    (conv2d(dilation="2"), ValueError, "conv2d: dilation must be an integer; got '2'."),
    (conv2d(dilation=0), ValueError, "conv2d: dilation must be at least 1; got 0."),
    (conv2d(groups=0), ValueError, "conv2d: groups must be at least 1; got 0."),
    (conv2d(groups=(1, 1)), ValueError, "conv2d: groups must be an integer; got (1, 1)."),
    (conv2d(padding_mode="edge"), ValueError,
     "conv2d: padding_mode must be one of 'zeros', 'constant', 'reflect', 'symmetric', 'replicate', 'circular'; got 'edge'."),
    (conv2d(padding_mode="reflekt"), ValueError,
     "conv2d: padding_mode must be one of 'zeros', 'constant', 'reflect', 'symmetric', 'replicate', 'circular'; got 'reflekt'. Did you mean 'reflect'?"),
    (conv2d(padding_value=1.0), ValueError,
     "conv2d: padding_value is used with padding_mode='constant' only; got padding_value = 1.0 with padding_mode='zeros'."),
    (conv2d(padding_value=1j, padding_mode="constant"), ValueError, "conv2d: padding_value must be real for float32; got 1j."),
    (conv2d(X.astype("uint8"), W.astype("uint8"), padding_value=256, padding_mode="constant"), ValueError,
     "conv2d: padding_value must be an integer from 0 to 255 for uint8; got 256."),
    (conv2d(X.astype("uint8"), W.astype("uint8"), padding_value=0.5, padding_mode="constant"), ValueError,
     "conv2d: padding_value must be an integer from 0 to 255 for uint8; got 0.5."),
    (conv2d(activation="swish"), ValueError,
     "conv2d: activation must be None, one of 'relu', 'relu6', 'silu', 'sigmoid', 'tanh', 'gelu', or a pair (low, high); got 'swish'."),
    (conv2d(activation=(2, 1)), ValueError, "conv2d: activation as a clamp must be a pair (low, high) with low <= high; got (2, 1)."),
    (conv2d(activation=3), ValueError, "conv2d: activation as a clamp must be a pair (low, high) with low <= high; got 3."),
    (conv2d(data_format="NWHC"), ValueError, "conv2d: data_format must be 'NCHW' or 'NHWC'; got 'NWHC'."),
    # backends
    (conv2d(backend="naiv"), ValueError,
     f"backend must be 'auto', one of {FAMILIES}, or a variant such as {VARIANT}; got 'naiv'. Did you mean 'naive'?"),
    (conv2d(backend="zzz"), ValueError, f"backend must be 'auto', one of {FAMILIES}, or a variant such as {VARIANT}; got 'zzz'."),
    (lambda: fastconv.explain((1, 3, 9, 9), (3, 3, 3, 3), backend="zzz"), ValueError,
     f"backend must be 'auto', one of {FAMILIES}, or a variant such as {VARIANT}; got 'zzz'."),
    # settings
    (lambda: fastconv.config(backend="naiv"), ConfigError,
     f"config: backend must be 'auto', one of {FAMILIES}, or a variant such as {VARIANT}; got 'naiv'. Did you mean 'naive'?"),
    (lambda: fastconv.config(backnd="naive"), ConfigError, f"config: unknown setting 'backnd'; the settings are {SETTINGS}. Did you mean 'backend'?"),
    (lambda: fastconv.set_config(zzz=1), ConfigError, f"set_config: unknown setting 'zzz'; the settings are {SETTINGS}."),
    (lambda: fastconv.set_config(zzz=None), ConfigError, f"set_config: unknown setting 'zzz'; the settings are {SETTINGS}."),
    (lambda: fastconv.config(threads=0), ConfigError, "config: threads must be 'auto' or an integer of at least 1; got 0."),
    (lambda: fastconv.config(threads=True), ConfigError, "config: threads must be 'auto' or an integer of at least 1; got True."),
    (lambda: fastconv.config(threads=2.0), ConfigError, "config: threads must be 'auto' or an integer of at least 1; got 2.0."),
    (lambda: fastconv.set_config(accuracy="strikt"), ConfigError,
     "set_config: accuracy must be one of 'strict', 'standard', 'fast'; got 'strikt'. Did you mean 'strict'?"),
    (lambda: fastconv.config(effort="none"), ConfigError, "config: effort must be one of 'estimate', 'measure'; got 'none'."),
    (lambda: fastconv.config(max_workspace="64 parsecs"), ConfigError,
     "config: max_workspace must be 'auto', a number of bytes or a size such as '64MiB'; got '64 parsecs'."),
    (lambda: fastconv.config(max_workspace=-1), ConfigError,
     "config: max_workspace must be 'auto', a number of bytes or a size such as '64MiB'; got -1."),
    (lambda: fastconv.config(wisdom=""), ConfigError, "config: wisdom must be 'auto', 'off' or the path of a file; got ''."),
    # problem strings
    (lambda: ConvProblem.parse("g1mb1"), ValueError,
     "the problem string 'g1mb1' does not have the form 'g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32' (unequal pads as ph0_1)."),
    (lambda: ConvProblem.parse("g1mb1ic1ih3iw3oc1kh2kw2sh1sw1ph0pw0dh1dw1:float33"), ValueError,
     "the problem string 'g1mb1ic1ih3iw3oc1kh2kw2sh1sw1ph0pw0dh1dw1:float33' has the unknown word 'float33'."),
    (lambda: ConvProblem.parse("g1mb1ic1ih3iw3oc1kh2kw2sh0sw1ph0pw0dh1dw1:float32"), ValueError, "stride must be at least 1 along each axis; got (0, 1)."),
    (lambda: ConvProblem(1, 1, 1, 3, 3, 1, 2, 2, ph_lo=-1), ValueError,
     "padding must not be negative; got ((-1, 0), (0, 0)). Crop x by slicing instead."),
    (lambda: ConvProblem(1, 1, 1, 3, 3, 1, 2, 2, padding_mode="edge"), ValueError,
     "padding_mode must be one of 'zeros', 'constant', 'reflect', 'symmetric', 'replicate', 'circular'; got 'edge'."),
    (lambda: ConvProblem(1, -1, 1, 3, 3, 1, 2, 2), ShapeError, "the batch size must be at least 0; got -1."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "text"), TABLE_OF_ERRORS, ids=[f"{i}-{text[:60]}" for i, (_, _, text) in enumerate(TABLE_OF_ERRORS)]
)
def test_the_text_of_every_message(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert type(raised.value) is kind
    assert str(raised.value) == text


def test_messages_do_not_depend_on_what_was_asked_before() -> None:
    fastconv.conv2d(X, W, stride=1)
    with pytest.raises(ValueError, match=r"stride must be an integer; got 1\.0\.$"):
        fastconv.conv2d(X, W, stride=1.0)  # type: ignore[arg-type]
    fastconv.conv2d(X, W, stride=(1, 1))
    with pytest.raises(ValueError, match=r"stride must be an integer; got 1\.0\.$"):
        fastconv.conv2d(X, W, stride=(1.0, 1))  # type: ignore[arg-type]


#: At least one of these is beyond each algorithm that does not compute everything.
UNSUPPORTED = (
    ConvProblem(1, 1, 1, 9, 9, 1, 4, 4, 2, 2, dtype="int32"),
    ConvProblem(1, 1, 4, 9, 9, 8, 1, 1, 2, 2),
    ConvProblem(1, 1, 4, 9, 9, 8, 3, 3, dh=2, dw=1),
    ConvProblem(1, 1, 64, 9, 9, 64, 3, 3),
)


@pytest.mark.parametrize(
    ("algorithm", "problem"),
    [(a, p) for a in TABLE for p in UNSUPPORTED if a.why_not(p) is not None],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_backend_that_cannot_says_why_and_which_can(algorithm: Algorithm, problem: ConvProblem) -> None:
    others = [a.name for a in TABLE if a.refusal(problem) is None]
    x, w = (np.zeros(shape, problem.dtype) for shape in (problem.x_shape, problem.w_shape))
    with pytest.raises(UnsupportedProblem) as raised:
        fastconv.conv2d(x, w, None, (problem.sh, problem.sw), 0, (problem.dh, problem.dw), backend=algorithm.name)
    assert str(raised.value) == (
        f"backend {algorithm.name!r} cannot compute {problem}: {algorithm.why_not(problem)}. "
        f"Backends that can: {', '.join(others)}. Omit backend= to let fastconv choose."
    )
    assert str(algorithm.why_not(problem)).startswith("it ")


def test_a_ragged_list_is_told_by_name() -> None:
    with pytest.raises(ShapeError, match=r"^conv2d: x is not an array: setting an array element with a sequence"):
        fastconv.conv2d([[1, 2], [3]], W)  # type: ignore[list-item]


def test_a_plan_that_does_not_know_its_origin_is_not_pickled() -> None:
    plan = TABLE[-1].make_plan(ConvProblem(1, 1, 1, 3, 3, 1, 2, 2), np.zeros((1, 1, 2, 2), np.float32))
    with pytest.raises(TypeError, match=r"does not know how it was made and cannot be pickled. Pickle the plan of fastconv.plan.$"):
        pickle.dumps(plan)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("accuracy = 'sloppy'", "{}: accuracy must be one of 'strict', 'standard', 'fast'; got 'sloppy'."),
        ("acuracy = 'fast'", f"{{}}: unknown setting 'acuracy'; the settings are {SETTINGS}. Did you mean 'accuracy'?"),
        ("threads = 1.5", "{}: threads must be 'auto' or an integer of at least 1; got 1.5."),
        ("accuracy", "{}: cannot be read as TOML: Expected '=' after a key in a key/value pair (at end of document)"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, text: str) -> None:
    path = tmp_path / "fastconv.toml"
    path.write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        fastconv.settings.forget_sources() or fastconv.get_config()
    assert str(raised.value) == text.format(path)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_EFFORT", "much")
    fastconv.settings.forget_sources()
    with pytest.raises(
        ConfigError, match=r"^environment variable FASTCONV_EFFORT: effort must be one of 'estimate', 'measure'; got 'much'.$"
    ):
        fastconv.get_config()
