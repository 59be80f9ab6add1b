"""
Unsharp masking and difference of Gaussians
===========================================

Convolution is linear, so pictures may be added and subtracted before or after it. A picture less its blurred copy keeps what changes
quickly. Adding that to the picture sharpens it; the difference of two blurs keeps details of one size.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv
from fastconv.cli.filters import gaussian
from fastconv.cli.pictures import PHOTOGRAPH, read_picture

grey = read_picture(PHOTOGRAPH).planes.mean(axis=0)[np.newaxis, np.newaxis]


def blurred(size: int) -> np.ndarray:
    """Return the photograph under a Gaussian of size x size pixels."""
    kernel = gaussian(size).astype(np.float32)[np.newaxis, np.newaxis]
    return fastconv.conv2d(grey, kernel, padding="same", padding_mode="symmetric")


details = grey - blurred(9)
band = blurred(5) - blurred(15)

# %%
# The signed pictures are shown around middle grey.

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
shown = {
    "photograph": (grey, 0, 1),
    "photograph - blur 9 x 9": (details, -0.2, 0.2),
    "unsharp masking: photograph + 1.5 details": (grey + 1.5 * details, 0, 1),
    "difference of Gaussians, 5 x 5 - 15 x 15": (band, -0.15, 0.15),
}
for one, (title, (picture, low, high)) in zip(axes.flat, shown.items(), strict=True):
    one.imshow(picture[0, 0], vmin=low, vmax=high)
    one.set_title(title)
    one.axis("off")
plt.show()

# %%
# Because it is linear, all of this is one convolution as well, with the kernel "2.5 times the impulse less 1.5 times the blur":

impulse = np.zeros((9, 9))
impulse[4, 4] = 1
kernel = (2.5 * impulse - 1.5 * gaussian(9)).astype(np.float32)[np.newaxis, np.newaxis]
at_once = fastconv.conv2d(grey, kernel, padding="same", padding_mode="symmetric")
print(f"largest difference: {np.abs(at_once - (grey + 1.5 * details)).max():.1e}")
