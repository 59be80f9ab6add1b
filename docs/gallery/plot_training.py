"""
Kernels being learned
=====================

Kernels need not be thought of: gradient descent finds them. A small network learns to read the scanned digits that come with scikit-learn,
8 x 8 pixels each. Its gradients are computed by ``fastconv.grad``; no other library takes part.
"""

import matplotlib.pyplot as plt
import numpy as np
from network import Network, digits

x, labels, unseen, unseen_labels = digits()
network = Network()

# %%
# Two convolutions and a matrix product, 1,437 digits to learn from, 30 times over in portions of 64 (see :doc:`/tutorial` for the network's code).

frames = {0: network.parameters["w1"].copy()}
losses = []
for step, loss in network.train(x, labels):
    losses.append(loss)
    if step in {5, 20, 60, 200, 660}:
        frames[step] = network.parameters["w1"].copy()

accuracy = network.accuracy(unseen, unseen_labels)
print(f"digits that it never saw: {len(unseen)}; read rightly: {accuracy:.1%}")
print(f"digits that it learned from: {len(x)}; read rightly: {network.accuracy(x, labels):.1%}")

# %%
# The eight 5 x 5 kernels of the first layer, from chance to detectors of strokes. Red weights want ink, blue ones want paper.

limit = max(np.abs(kernels).max() for kernels in frames.values())
figure, axes = plt.subplots(len(frames), 8, figsize=(9, 7.2), layout="constrained")
for row, (step, kernels) in zip(axes, frames.items(), strict=True):
    for one, kernel in zip(row, kernels[:, 0], strict=True):
        one.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
        one.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"step {step}", rotation=0, ha="right", va="center")
plt.show()

# %%
# The loss over the steps, and the digits among the unseen ones that it misreads.

figure, (loss_axes, wrong_axes) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
loss_axes.semilogy(losses, color="#3b82f6", linewidth=0.8, alpha=0.6)
loss_axes.semilogy(np.convolve(losses, np.ones(20) / 20, "valid"), color="#ea8a0c")
loss_axes.set(xlabel="step", ylabel="cross-entropy", title="loss of each portion, and its mean over 20")

answers = network.forward(unseen)[2].argmax(axis=1)
wrong = np.flatnonzero(answers != unseen_labels)[:8]
wrong_axes.axis("off")
wrong_axes.set_title("misread")
for n, index in enumerate(wrong):
    one = wrong_axes.inset_axes((0.25 * (n % 4), 0.5 - 0.5 * (n // 4), 0.23, 0.36))
    one.imshow(unseen[index, 0], cmap="gray_r")
    one.set(xticks=[], yticks=[])
    one.set_title(f"{unseen_labels[index]} read as {answers[index]}", fontsize=9)
plt.show()
