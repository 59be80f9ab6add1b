"""The same words give the same result as in the libraries that the words come from; skipped where one is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv

RNG = np.random.default_rng(0)
X = RNG.integers(-4, 5, (2, 4, 13, 16)).astype(np.float32)
W = RNG.integers(-4, 5, (6, 4, 3, 4)).astype(np.float32)
BIAS = np.arange(6, dtype=np.float32)
IMAGE = RNG.integers(-4, 5, (21, 30)).astype(np.float32)

CALLS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (1, 3), "padding": (2, 0), "dilation": (2, 1)},
    {"padding": "same"},
    {"padding": "same", "dilation": (1, 2)},
    {"padding": "valid"},
    {"groups": 2},
]


@pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")
@pytest.mark.parametrize("words", CALLS, ids=str)
def test_conv2d_of_torch(words: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="peer torch is not installed")
    w = W[:, : 4 // words.get("groups", 1)]
    y = torch.nn.functional.conv2d(torch.from_numpy(X), torch.from_numpy(w.copy()), torch.from_numpy(BIAS), **words)
    np.testing.assert_array_equal(np.rint(fastconv.conv2d(X, w, BIAS, **words)), np.rint(y.numpy()))


def test_conv1d_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="peer torch is not installed")
    y = torch.nn.functional.conv1d(torch.from_numpy(X[:, :, 0]), torch.from_numpy(W[:, :, 0].copy()), torch.from_numpy(BIAS), 2, 3, 2)
    np.testing.assert_array_equal(np.rint(fastconv.conv1d(X[:, :, 0], W[:, :, 0], BIAS, 2, 3, 2)), np.rint(y.numpy()))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes_of_torch(mode: Any) -> None:
    torch = pytest.importorskip("torch", reason="peer torch is not installed")
    layer = torch.nn.Conv2d(4, 6, (3, 4), padding=(2, 3), padding_mode=mode)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(W))
        layer.bias.copy_(torch.from_numpy(BIAS))
        y = layer(torch.from_numpy(X)).numpy()
    np.testing.assert_array_equal(np.rint(fastconv.Conv2d(W, BIAS, 1, (2, 3), padding_mode=mode)(X)), np.rint(y))


@pytest.mark.parametrize("name", ["relu", "relu6", "silu", "sigmoid", "tanh", "gelu"])
def test_activations_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="peer torch is not installed")
    # torch.tanh and torch.sigmoid are functions of their own.
    curve = getattr(torch.nn.functional, name) if name not in {"sigmoid", "tanh"} else getattr(torch, name)
    y = curve(torch.nn.functional.conv2d(torch.from_numpy(X / 40), torch.from_numpy(W), torch.from_numpy(BIAS / 7))).numpy()
    np.testing.assert_allclose(fastconv.conv2d(X / 40, W, BIAS / np.float32(7), activation=name), y, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_of_onnx(pad: str, stride: int) -> None:
    onnx = pytest.importorskip("onnx", reason="peer onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="peer onnxruntime is not installed")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    words = {"pads": [0, 1, 2, 3]} if pad == "NOTSET" else {"auto_pad": pad}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[stride, stride], **words)
    shapes = {"x": X.shape, "w": W.shape, "b": BIAS.shape}
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info(name, real, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", real, None)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": X, "w": W, "b": BIAS})
    padding: Any = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid", "NOTSET": ((0, 2), (1, 3))}[pad]
    np.testing.assert_array_equal(np.rint(fastconv.conv2d(X, W, BIAS, stride, padding)), np.rint(y))


@pytest.mark.parametrize(
    ("border", "mode"), [("CONSTANT", "zeros"), ("REFLECT", "symmetric"), ("REFLECT_101", "reflect"), ("REPLICATE", "replicate")]
)
@pytest.mark.parametrize("size", [(3, 3), (4, 5), (5, 2)], ids=str)
def test_filter2d_of_opencv(border: str, mode: Any, size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2", reason="peer opencv-python-headless is not installed")
    kernel = RNG.integers(-4, 5, size).astype(np.float32)
    y = cv2.filter2D(IMAGE, -1, kernel, borderType=getattr(cv2, f"BORDER_{border}"))
    ours = fastconv.conv2d(IMAGE[np.newaxis], kernel[np.newaxis, np.newaxis], padding="same_lower", padding_mode=mode)
    np.testing.assert_array_equal(np.rint(ours[0]), np.rint(y))


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("size", [(3, 3), (4, 5), (5, 2)], ids=str)
def test_correlate_of_scipy_ndimage(mode: str, size: tuple[int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    kernel = RNG.integers(-4, 5, size).astype(np.float32)
    ours: Any = {"reflect": "symmetric", "mirror": "reflect", "nearest": "replicate", "wrap": "circular", "constant": "zeros"}[mode]
    y = fastconv.conv2d(IMAGE[np.newaxis], kernel[np.newaxis, np.newaxis], padding="same_lower", padding_mode=ours)
    np.testing.assert_array_equal(np.rint(y[0]), ndimage.correlate(IMAGE, kernel, mode=mode))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("size", [(3, 3), (4, 5), (5, 2)], ids=str)
def test_convolve2d_and_correlate2d_of_scipy_signal(mode: Any, size: tuple[int, int]) -> None:
    signal = pytest.importorskip("scipy.signal")
    kernel = RNG.integers(-4, 5, size).astype(np.float32)
    x, w = IMAGE[np.newaxis], kernel[np.newaxis, np.newaxis]
    np.testing.assert_array_equal(np.rint(fastconv.conv2d(x, w, padding=mode)[0]), signal.correlate2d(IMAGE, kernel, mode=mode))
    flipped = fastconv.conv2d(x, w, padding="same_lower" if mode == "same" else mode, flip_kernel=True)
    np.testing.assert_array_equal(np.rint(flipped[0]), signal.convolve2d(IMAGE, kernel, mode=mode))
