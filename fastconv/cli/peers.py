"""Other libraries on the same problems, each used the fastest way that its users can, NumPy arrays in and out."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import pad
from fastconv.problem import ConvProblem

Call = Callable[[], Array]


@dataclass(frozen=True)
class Peer:
    """Another library.

    Attributes
    ----------
    name : str
    package, module : str
        What is installed, and what is imported.
    prepare : callable
        ``prepare(problem, x, w, threads)`` returns a call without arguments, weights prepared, or None where the
        library does not compute the problem.
    """

    name: str
    package: str
    module: str
    prepare: Callable[[ConvProblem, Array, Array, int], Call | None]

    @property
    def version(self) -> str:
        """Version of the installed package."""
        return version(self.package)

    @property
    def is_installed(self) -> bool:
        """Whether the module can be imported."""
        return importlib.util.find_spec(self.module) is not None


def _zeros_outside(p: ConvProblem, x: Array) -> tuple[ConvProblem, Array]:
    """Return an equal problem whose borders are zeros: other modes are padded by hand, outside the timing."""
    if p.pads_with_zeros:
        return p, x
    h, w = p.ih + p.ph_lo + p.ph_hi, p.iw + p.pw_lo + p.pw_hi
    inner = p.replace(ih=h, iw=w, ph_lo=0, ph_hi=0, pw_lo=0, pw_hi=0, padding_mode="zeros", padding_value=0)
    return inner, pad(p, x)


def _is_one_plane(p: ConvProblem) -> bool:
    return p.ic == p.oc == p.sh == p.sw == p.dh == p.dw == 1


def _torch(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    p, x = _zeros_outside(p, x)
    if p.ph_lo != p.ph_hi or p.pw_lo != p.pw_hi:
        return None
    source, weights = torch.from_numpy(x), torch.from_numpy(w)

    def call() -> Array:
        with torch.no_grad():
            found: Array = torch.nn.functional.conv2d(source, weights, None, (p.sh, p.sw), (p.ph_lo, p.pw_lo), (p.dh, p.dw), p.g).numpy()
        return found

    return call


def _onnxruntime(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    if p.dtype != "float32":
        return None
    runtime: Any = importlib.import_module("onnxruntime")
    onnx: Any = importlib.import_module("onnx")
    p, x = _zeros_outside(p, x)
    make, element = onnx.helper, onnx.TensorProto.FLOAT
    node = make.make_node(
        "Conv", ["x", "w"], ["y"], strides=[p.sh, p.sw], dilations=[p.dh, p.dw], group=p.g,
        pads=[p.ph_lo, p.pw_lo, p.ph_hi, p.pw_hi], kernel_shape=[p.kh, p.kw],
    )  # fmt: skip
    graph = make.make_graph(
        [node], "conv", [make.make_tensor_value_info("x", element, p.x_shape)], [make.make_tensor_value_info("y", element, p.out_shape)],
        [onnx.numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    y = np.empty(p.out_shape, np.float32)
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, p.out_shape, y.ctypes.data)

    def call() -> Array:
        session.run_with_iobinding(binding)
        return y

    return call


def _ncnn(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    if p.dtype != "float32" or p.mb != 1:
        return None
    ncnn: Any = importlib.import_module("ncnn")
    p, x = _zeros_outside(p, x)
    x = np.ascontiguousarray(x)
    # A network of one layer, in ncnn's text and binary forms; the keys are those of its documentation.
    kind, more = ("ConvolutionDepthWise", f" 7={p.g}") if p.g > 1 else ("Convolution", "")
    keys = {0: p.oc, 1: p.kw, 11: p.kh, 2: p.dw, 12: p.dh, 3: p.sw, 13: p.sh, 4: p.pw_lo, 15: p.pw_hi, 14: p.ph_lo, 16: p.ph_hi, 6: w.size}
    words = " ".join(f"{key}={value}" for key, value in keys.items()) + more
    net = ncnn.Net()
    net.opt.num_threads = threads
    for flag in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, flag, False)
    net.load_param_mem(f"7767517\n2 2\nInput in 0 1 in\n{kind} conv 1 1 in out {words}\n")
    stored = np.zeros(4, np.uint8).tobytes() + np.ascontiguousarray(w).tobytes()  # a tag of 0: plain float32
    net.load_model_mem(stored)

    def call() -> Array:
        extractor = net.create_extractor()
        extractor.input("in", ncnn.Mat(x[0]))
        return np.array(extractor.extract("out")[1])[np.newaxis]

    return call


def _opencv(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    if not _is_one_plane(p):
        return None
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(threads)
    kernel = np.ascontiguousarray(w[0, 0])
    depth = cv2.CV_32F if p.dtype == "float32" else cv2.CV_64F
    top, left = (p.kh - 1) // 2, (p.kw - 1) // 2
    # With borders of its own only where they are those that are asked for; else the picture is padded before.
    if p.padding_mode == "symmetric" and (p.ph_lo, p.pw_lo, p.oh, p.ow) == (top, left, p.ih, p.iw):
        planes, crop = [np.ascontiguousarray(plane) for plane in x[:, 0]], (slice(None), slice(None))
    else:
        padded = pad(p, x)
        planes, crop = [np.ascontiguousarray(plane) for plane in padded[:, 0]], (slice(top, top + p.oh), slice(left, left + p.ow))

    def call() -> Array:
        y = np.empty(p.out_shape, p.dtype)
        for n, plane in enumerate(planes):
            y[n, 0] = cv2.filter2D(plane, depth, kernel, anchor=(left, top), borderType=cv2.BORDER_REFLECT)[crop]
        return y

    return call


def _ducc(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """FFT correlation on ducc0, spectra of the kernels prepared."""
    if p.sh != 1 or p.sw != 1 or p.dh != 1 or p.dw != 1 or p.g != 1 or p.kh * p.kw < 25:
        return None
    fft: Any = importlib.import_module("ducc0").fft
    p, x = _zeros_outside(p, x)
    h, width = p.ih + p.ph_lo + p.ph_hi, p.iw + p.pw_lo + p.pw_hi
    shape = (fft.good_size(h, real=True), fft.good_size(width, real=True))
    flipped = np.zeros((p.oc, p.ic, *shape), p.dtype)
    flipped[:, :, : p.kh, : p.kw] = w[:, :, ::-1, ::-1]
    spectra = fft.r2c(flipped, axes=(2, 3), nthreads=threads)
    top, left = p.kh - 1, p.kw - 1

    def call() -> Array:
        source = np.zeros((p.mb, p.ic, *shape), p.dtype)
        source[:, :, p.ph_lo : p.ph_lo + p.ih, p.pw_lo : p.pw_lo + p.iw] = x
        spectrum = fft.r2c(source, axes=(2, 3), nthreads=threads)
        product = spectrum * spectra[:, 0] if p.ic == p.oc == 1 else np.einsum("ncij,ocij->noij", spectrum, spectra)
        y = fft.c2r(product, lastsize=shape[1], axes=(2, 3), forward=False, inorm=2, nthreads=threads)
        return np.ascontiguousarray(y[:, :, top : top + p.oh, left : left + p.ow])

    return call


def _scipy_ndimage(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    del threads  # it has one
    if not _is_one_plane(p) or p.padding_mode != "symmetric" or p.out_shape != p.x_shape or p.kh * p.kw > 400:
        return None
    ndimage: Any = importlib.import_module("scipy.ndimage")
    kernel = w[0, 0]

    def call() -> Array:
        y = np.empty_like(x)
        for n in range(p.mb):
            ndimage.correlate(x[n, 0], kernel, output=y[n, 0], mode="reflect")
        return y

    return call


PEERS = (
    Peer("torch", "torch", "torch", _torch),
    Peer("onnxruntime", "onnxruntime", "onnxruntime", _onnxruntime),
    Peer("ncnn", "ncnn", "ncnn", _ncnn),
    Peer("opencv", "opencv-python-headless", "cv2", _opencv),
    Peer("ducc0 FFT", "ducc0", "ducc0", _ducc),
    Peer("scipy.ndimage", "scipy", "scipy", _scipy_ndimage),
)


def installed_peers() -> list[Peer]:
    """Return the other libraries that can be imported here."""
    return [peer for peer in PEERS if peer.is_installed]
