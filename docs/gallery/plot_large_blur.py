"""
A large kernel by FFT
=====================

A lens out of focus spreads each point of light over a disc. A disc of 61 pixels has 3,721 products per pixel in the definition;
by FFT the number hardly grows with the kernel. What is chosen, and what is predicted, can be asked.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv
from fastconv.cli.pictures import PHOTOGRAPH, read_picture

light = read_picture(PHOTOGRAPH).planes[:, np.newaxis] ** 2.2  # brightness as numbers of photons, not as the file's codes
size = 61
rows, columns = np.mgrid[:size, :size] - size // 2
disc = (np.hypot(rows, columns) <= size / 2).astype(np.float32)
disc /= disc.sum()

explanation = fastconv.explain(light.shape, (1, 1, size, size), padding="same", padding_mode="symmetric")
print("chosen:", explanation.chosen)

# %%
# The picture is blurred with the disc, and with a few points of light put in, which become discs.

with_lamps = light.copy()
for i, j in np.random.default_rng(3).integers(3, [297, 448], size=(9, 2)):
    with_lamps[:, 0, i - 2 : i + 3, j - 2 : j + 3] = 20
w = disc[np.newaxis, np.newaxis]
blurred = fastconv.conv2d(with_lamps, w, padding="same", padding_mode="symmetric")

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for one, picture, title in zip(axes, (with_lamps, blurred), ("in focus", "61 x 61 disc"), strict=True):
    one.imshow(np.clip(np.moveaxis(picture[:, 0], 0, -1), 0, 1) ** (1 / 2.2))
    one.set_title(title)
    one.axis("off")
plt.show()

# %%
# FFTs round differently from plain sums. In float32, against the plain sum in float64 at 200 pixels:

inner = np.pad(with_lamps[0, 0].astype(np.float64), size // 2, mode="symmetric")
rng = np.random.default_rng(0)
places = [(rng.integers(300), rng.integers(451)) for _ in range(200)]
exact = np.array([np.sum(inner[i : i + size, j : j + size] * disc) for i, j in places])
got = np.array([blurred[0, 0, i, j] for i, j in places])
print(f"largest error: {np.abs(got - exact).max():.1e} of a largest value of {blurred.max():.2f}")
