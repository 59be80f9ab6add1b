"""
What a channel reacts to
========================

Which image excites a channel most? Start with noise and climb: the gradient of the channel's output with respect to the *image*
is a convolution of what comes back, ``fastconv.grad.conv2d_input``.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from network import Network, digits

import fastconv
from fastconv import grad

x, labels, unseen, unseen_labels = digits()
network = Network()
for _ in network.train(x, labels):
    pass
p = network.parameters
print(f"accuracy on unseen digits: {network.accuracy(unseen, unseen_labels):.1%}")

# %%
# The climb. ``upwards`` says how what is to grow changes with the second layer's output; two convolutions carry that down to the image.
# The image keeps to the digits' range and length, so that it must choose where to put its ink, and is smoothed a little.

LENGTH = float(np.mean(np.linalg.norm(x.reshape(len(x), -1), axis=1)))
smooth = np.array([[0, 1, 0], [1, 36, 1], [0, 1, 0]], np.float32)[np.newaxis, np.newaxis] / 40


def leaky(y: np.ndarray) -> np.ndarray:
    """Return the slope of ReLU, with a little below zero, or a silent channel would never begin."""
    return np.where(y > 0, 1, 0.1).astype(np.float32)


def climb(upwards: Callable[[np.ndarray], np.ndarray], steps: int = 300) -> np.ndarray:
    """Return the image that a walk uphill from noise ends at."""
    image = np.random.default_rng(0).uniform(0.2, 0.4, (1, 1, 8, 8)).astype(np.float32)
    for _ in range(steps):
        y1, y2, scores = network.forward(image)
        d1 = grad.conv2d_input(y1.shape, p["w2"], upwards(scores) * leaky(y2), stride=2, padding=1)
        slope = grad.conv2d_input(image.shape, p["w1"], d1 * leaky(y1), padding=2)
        image = fastconv.conv2d(image + 0.15 * slope / np.linalg.norm(slope), smooth, padding=1)
        image = np.clip(image * min(1.0, LENGTH / np.linalg.norm(image)), 0, 1)
    return image


# %%
# The sixteen channels of the second layer, each at one place in the middle of the image: strokes, corners, gaps.

figure, axes = plt.subplots(2, 8, figsize=(11, 3.2), layout="constrained")
for channel, one in enumerate(axes.flat):
    place = np.zeros((1, 16, 4, 4), np.float32)
    place[0, channel, 2, 2] = 1
    one.imshow(climb(lambda _scores, place=place: place)[0, 0], cmap="gray_r")
    one.set_title(str(channel), fontsize=9)
    one.set(xticks=[], yticks=[])
plt.show()

# %%
# And the ten digits: the image that the network is surest of. What grows is the logarithm of the digit's probability.


def surer_of(digit: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return how the logarithm of the probability of `digit` changes with the second layer's output."""

    def upwards(scores: np.ndarray) -> np.ndarray:
        probabilities = np.exp(scores - scores.max())
        return ((np.eye(10)[digit] - probabilities / probabilities.sum()) @ p["w3"]).reshape(1, 16, 4, 4).astype(np.float32)

    return upwards


figure, axes = plt.subplots(2, 5, figsize=(9, 4.2), layout="constrained")
for digit, one in enumerate(axes.flat):
    image = climb(surer_of(digit))
    answer = network.forward(image)[2].argmax()
    one.imshow(image[0, 0], cmap="gray_r")
    one.set_title(f"{digit}, read as {answer}", fontsize=10)
    one.set(xticks=[], yticks=[])
plt.show()
