"""The classic kernels by name, as weights for `fastconv.conv2d`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

import numpy as np

from fastconv._typing import Array
from fastconv.cli.console import CliError

_SIZED = re.compile(r"(gaussian|box)(\d+)")
#: A Gaussian kernel of k x k pixels ends at three standard deviations.
SIGMAS_PER_HALF_WIDTH = 3.0
LARGEST_KERNEL = 511


@dataclass(frozen=True)
class Filter:
    """A picture filter.

    Attributes
    ----------
    name, summary : str
    kernels : ndarray of shape (K, 1, KH, KW), float64
        One kernel; or two, whose results are joined by their Euclidean norm (a gradient's length).
    is_signed : bool
        Whether results around zero are meant, which are shown around middle grey.
    """

    name: str
    summary: str
    kernels: Array
    is_signed: bool = False

    @property
    def size(self) -> str:
        """Height and width of the kernel, as "3x3"."""
        return f"{self.kernels.shape[2]}x{self.kernels.shape[3]}"

    def picture(self, responses: Array) -> Array:
        """Return the planes to show, from 0 to 1, of responses of shape (planes, K, H, W)."""
        joined = responses[:, 0] if responses.shape[1] == 1 else np.sqrt(np.square(responses).sum(axis=1))
        shown: Array = np.clip(joined + 0.5 if self.is_signed else joined, 0.0, 1.0)
        return shown


def _weights(*kernels: object) -> Array:
    return np.stack([np.asarray(kernel, np.float64)[np.newaxis] for kernel in kernels])


def gaussian(size: int) -> Array:
    """Return the size x size Gaussian kernel with sum 1 whose half width is three standard deviations."""
    half = (size - 1) / 2
    line = np.exp(-0.5 * np.square((np.arange(size) - half) / max(half / SIGMAS_PER_HALF_WIDTH, 1e-9)))
    kernel: Array = np.outer(line, line)
    kernel /= kernel.sum()
    return kernel


_SOBEL = np.outer([1, 2, 1], [-1, 0, 1])
_PREWITT = np.outer([1, 1, 1], [-1, 0, 1])
_IMPULSE5 = np.pad([[1.0]], 2)

_NAMED = (
    Filter("identity", "the picture itself", _weights([[0, 0, 0], [0, 1, 0], [0, 0, 0]])),
    Filter(
        "edges", "edges in all directions: each pixel against its eight neighbours", _weights([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
    ),
    Filter(
        "laplace", "the Laplacian: each pixel against its four neighbours", _weights([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]), is_signed=True
    ),
    Filter("sharpen", "the picture plus its edges", _weights([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])),
    Filter("unsharp", "unsharp masking: twice the picture less its 5x5 blur", _weights(2 * _IMPULSE5 - gaussian(5))),
    Filter("blur", "the mean of 3x3 pixels", _weights(np.full((3, 3), 1 / 9))),
    Filter("sobel", "length of the Sobel gradient", _weights(_SOBEL, _SOBEL.T)),
    Filter("sobel-x", "Sobel derivative from left to right", _weights(_SOBEL / 4), is_signed=True),
    Filter("sobel-y", "Sobel derivative from top to bottom", _weights(_SOBEL.T / 4), is_signed=True),
    Filter("prewitt", "length of the Prewitt gradient", _weights(_PREWITT, _PREWITT.T)),
    Filter("emboss", "light from the upper left on a relief", _weights([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])),
    Filter("motion", "the mean along a diagonal of nine pixels", _weights(np.eye(9) / 9)),
)
FILTERS = {item.name: item for item in _NAMED}
#: What `named_filter` knows beyond FILTERS, for people.
FAMILIES = (
    ("gaussianN", "Gaussian blur of NxN pixels, N odd: gaussian5, gaussian15, gaussian31 ..."),
    ("boxN", "mean of NxN pixels, N odd: box5, box15 ..."),
)


def named_filter(name: str) -> Filter:
    """Return the filter called `name`.

    Raises
    ------
    CliError
        If there is none; the message lists the names and the nearest one.
    """
    if name in FILTERS:
        return FILTERS[name]
    match = _SIZED.fullmatch(name)
    if match:
        size = int(match[2])
        if size % 2 == 0 or not 3 <= size <= LARGEST_KERNEL:
            raise CliError(f"kernel {name!r}: the size must be odd and from 3 to {LARGEST_KERNEL}; got {size}.")
        if match[1] == "gaussian":
            return Filter(name, f"Gaussian blur of {size}x{size} pixels", _weights(gaussian(size)))
        return Filter(name, f"mean of {size}x{size} pixels", _weights(np.full((size, size), size**-2.0)))
    near = difflib.get_close_matches(name, FILTERS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    names = ", ".join([*FILTERS, *(family for family, _ in FAMILIES)])
    raise CliError(f"there is no kernel {name!r}; the kernels are {names}.{hint}")
