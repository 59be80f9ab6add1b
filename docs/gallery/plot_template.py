"""
Finding a template by correlation
=================================

Correlation with a piece of the picture is largest where the picture looks like the piece, if brightness and contrast are taken out:
normalised cross-correlation, three convolutions in all.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

import fastconv
from fastconv.cli.pictures import PHOTOGRAPH, read_picture

grey = read_picture(PHOTOGRAPH).planes.mean(axis=0).astype(np.float64)
top, left, height, width = 80, 132, 70, 78  # an eye of the cat
template = grey[top : top + height, left : left + width]

# %%
# The template, less its mean, is the kernel. A kernel of ones gives the sum, and on the squares the sum of squares, of each window:
# from these follows the length of each window less its own mean.


def window_sums(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the correlation of one picture with one kernel, where it fits."""
    return fastconv.conv2d(picture[np.newaxis, np.newaxis], kernel[np.newaxis, np.newaxis])[0, 0]


kernel = template - template.mean()
ones = np.ones_like(template)
noisy = np.clip(0.6 * grey + 0.15 + np.random.default_rng(0).normal(scale=0.05, size=grey.shape), 0, 1)
variance = window_sums(noisy**2, ones) - window_sums(noisy, ones) ** 2 / template.size
score = window_sums(noisy, kernel) / np.sqrt(np.maximum(variance, 1e-9) * np.sum(kernel**2))

found = np.unravel_index(score.argmax(), score.shape)
print(f"cut out at row {top}, column {left}; found at row {found[0]}, column {found[1]} with a score of {score.max():.2f}")

# %%
# The search was in a copy that is darker, of less contrast and full of noise.

figure, (template_axes, picture_axes, score_axes) = plt.subplots(1, 3, figsize=(12, 3.6), width_ratios=(0.6, 2, 2), layout="constrained")
template_axes.imshow(template, vmin=0, vmax=1)
template_axes.set_title("template")
picture_axes.imshow(noisy, vmin=0, vmax=1)
picture_axes.add_patch(Rectangle((found[1], found[0]), width, height, fill=False, edgecolor="#ff8c00", linewidth=2.5))
picture_axes.set_title("found here")
shown = score_axes.imshow(score, cmap="viridis")
score_axes.set_title("score")
figure.colorbar(shown, ax=score_axes, shrink=0.8)
for one in (template_axes, picture_axes, score_axes):
    one.axis("off")
plt.show()
