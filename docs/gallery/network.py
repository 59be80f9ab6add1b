"""
A small network and its gradients
=================================

Two convolution layers and a matrix product that read 8 x 8 digits, with their derivatives by ``fastconv.grad``. The two next pages use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import fastconv
from fastconv import grad

Array = npt.NDArray[Any]

TRAINING_IMAGES = 1437


def digits() -> tuple[Array, Array, Array, Array]:
    """Return scikit-learn's scanned digits, from 0 to 1: images and labels to train with, images and labels to test with."""
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:TRAINING_IMAGES], order[TRAINING_IMAGES:]
    return x[train], labels[train], x[test], labels[test]


class Network:
    """5x5 convolution, ReLU, 3x3 convolution with stride 2, ReLU, matrix product: scores for ten classes."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)

        def weights(*shape: int) -> Array:
            """Draw weights whose sums of products keep the size of the input."""
            return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

        self.parameters = {
            "w1": weights(8, 1, 5, 5), "b1": np.zeros(8, np.float32),
            "w2": weights(16, 8, 3, 3), "b2": np.zeros(16, np.float32),
            "w3": weights(10, 16 * 4 * 4), "b3": np.zeros(10, np.float32),
        }  # fmt: skip

    def forward(self, x: Array) -> tuple[Array, Array, Array]:
        """Return the outputs of the three layers."""
        p = self.parameters
        y1 = fastconv.conv2d(x, p["w1"], p["b1"], padding=2, activation="relu")
        y2 = fastconv.conv2d(y1, p["w2"], p["b2"], stride=2, padding=1, activation="relu")
        return y1, y2, y2.reshape(len(x), -1) @ p["w3"].T + p["b3"]

    def gradients(self, x: Array, labels: Array) -> tuple[float, dict[str, Array]]:
        """Return the mean cross-entropy over `x`, and its derivative with respect to each parameter."""
        p = self.parameters
        y1, y2, scores = self.forward(x)
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        loss = -float(np.mean(np.log(probabilities[range(len(x)), labels] + 1e-12)))
        # Backwards, layer by layer: d... is the derivative of the loss with respect to ...
        d3 = (probabilities - np.eye(10, dtype=np.float32)[labels]) / len(x)
        d2 = (d3 @ p["w3"]).reshape(y2.shape) * (y2 > 0)
        d1 = grad.conv2d_input(y1.shape, p["w2"], d2, stride=2, padding=1) * (y1 > 0)
        return loss, {
            "w1": grad.conv2d_weight(x, p["w1"].shape, d1, padding=2), "b1": grad.conv2d_bias(d1),
            "w2": grad.conv2d_weight(y1, p["w2"].shape, d2, stride=2, padding=1), "b2": grad.conv2d_bias(d2),
            "w3": d3.T @ y2.reshape(len(x), -1), "b3": d3.sum(axis=0),
        }  # fmt: skip

    def train(self, x: Array, labels: Array, *, epochs: int = 30, batch: int = 64, rate: float = 0.05) -> Iterator[tuple[int, float]]:
        """Go down the gradient with momentum; give the step and the loss after each step."""
        rng = np.random.default_rng(1)
        velocity = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        step = 0
        for epoch in range(epochs):
            order = rng.permutation(len(x))
            for first in range(0, len(x) - batch + 1, batch):
                chosen = order[first : first + batch]
                loss, gradients = self.gradients(x[chosen], labels[chosen])
                for name in self.parameters:
                    velocity[name] = 0.9 * velocity[name] - rate * gradients[name]
                    self.parameters[name] += velocity[name]
                step += 1
                yield step, loss
            rate *= 0.5 if epoch in {epochs // 2, 3 * epochs // 4} else 1.0

    def accuracy(self, x: Array, labels: Array) -> float:
        """Return the share of `x` that gets the right class."""
        return float(np.mean(self.forward(x)[2].argmax(axis=1) == labels))
