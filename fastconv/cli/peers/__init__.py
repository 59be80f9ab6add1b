"""Other libraries on the same problems, each used the fastest way that its users can, NumPy arrays in and out.

One module a library; `PEERS` lists them. Weights are prepared outside the timing where the library can.
"""

from __future__ import annotations

from fastconv.cli.peers import ducc, jax, litert, ncnn, onnxruntime, opencv, openvino, scipy, torch
from fastconv.cli.peers.base import Peer

PEERS = (
    Peer("torch", "torch", "torch", torch.prepare),
    Peer("onnxruntime", "onnxruntime", "onnxruntime", onnxruntime.prepare),
    Peer("openvino", "openvino", "openvino", openvino.prepare),
    Peer("ncnn", "ncnn", "ncnn", ncnn.prepare),
    Peer("litert", "ai-edge-litert", "ai_edge_litert", litert.prepare),
    Peer("jax", "jax", "jax", jax.prepare),
    Peer("opencv", "opencv-python-headless", "cv2", opencv.prepare),
    Peer("ducc0 FFT", "ducc0", "ducc0", ducc.prepare),
    Peer("scipy.ndimage", "scipy", "scipy", scipy.prepare_ndimage),
    Peer("fftconvolve", "scipy", "scipy", scipy.transform("fftconvolve")),
    Peer("oaconvolve", "scipy", "scipy", scipy.transform("oaconvolve")),
)


def installed_peers() -> list[Peer]:
    """Return the other libraries that can be imported here."""
    return [peer for peer in PEERS if peer.is_installed]
