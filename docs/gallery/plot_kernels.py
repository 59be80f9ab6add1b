"""
Classic kernels on one photograph
=================================

Identity, edges, sharpen and blur, as in the well-known table: nine or so numbers decide what a convolution does.
The picture's borders are mirrored, so that the result is as large as the picture.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv
from fastconv.cli.filters import FILTERS
from fastconv.cli.pictures import PHOTOGRAPH, read_picture

# %%
# Three colour planes are three images with one channel each, so that every plane meets the same kernel.

planes = read_picture(PHOTOGRAPH).planes[:, np.newaxis]  # (3, 1, H, W), from 0 to 1
names = ("identity", "edges", "laplace", "sharpen", "blur", "sobel", "emboss", "motion")

figure, axes = plt.subplots(4, 4, figsize=(11, 8.4), width_ratios=(2.2, 1, 2.2, 1), layout="constrained")
for (picture_axes, kernel_axes), name in zip(axes.reshape(-1, 2), names, strict=True):
    chosen = FILTERS[name]
    responses = fastconv.conv2d(planes, chosen.kernels.astype(np.float32), padding="same", padding_mode="symmetric")
    gain = 3 if name in {"edges", "laplace"} else 1
    picture_axes.imshow(np.moveaxis(chosen.picture(gain * responses), 0, -1))
    picture_axes.set_title(name if gain == 1 else f"{name}, times {gain}")
    picture_axes.axis("off")

    kernel = chosen.kernels[0, 0]
    limit = np.abs(kernel).max()
    kernel_axes.imshow(kernel, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit)
    kernel_axes.set(xticks=[], yticks=[])
    if kernel.size == 9:
        for (i, j), value in np.ndenumerate(kernel):
            label = "1/9" if name == "blur" else f"{value:g}"
            kernel_axes.text(j, i, label, ha="center", va="center", color="black", fontsize=9)
plt.show()

# %%
# "sobel" joins two kernels, this one for changes from left to right and its transpose for changes downwards, by the length of the gradient.
# "motion" is the mean along a diagonal of nine pixels. On the command line, ``fastconv filter cat.png --kernel sharpen -o sharp.png`` does the same.
