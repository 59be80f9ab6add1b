"""The variants of Winograd convolution: which F(m, r) there are, for which kernels and strides, in which accuracy mode."""

from __future__ import annotations

from dataclasses import dataclass

from fastconv._typing import Accuracy
from fastconv.kernels.points import Bilinear, algorithm


@dataclass(frozen=True)
class Variant:
    """One F(m_h x m_w, r_h x r_w) and the stride it is for.

    Attributes
    ----------
    name : str
    m, r : (int, int)
        Outputs of a tile and taps, height first.
    stride : int
    standard_from : int, optional
        Channels per group from which its RMS error stays within four times that of plain summation; None: never.
        Sums over many channels are split, see `fastconv.kernels.winograd_products.SUM_CHANNELS`, so the more channels the better.
    """

    name: str
    m: tuple[int, int]
    r: tuple[int, int]
    stride: int = 1
    standard_from: int | None = 1

    @property
    def accuracy(self) -> Accuracy:
        """The mode that allows it for any number of channels."""
        return "standard" if self.standard_from == 1 else "fast"

    def accuracy_for(self, channels: int) -> Accuracy:
        """Return the mode that allows it for sums over `channels` channels."""
        return "standard" if self.standard_from is not None and channels >= self.standard_from else "fast"

    def _axis_stride(self, r: int) -> int:
        return self.stride if r > 1 else 1

    @property
    def along_height(self) -> Bilinear:
        """The algorithm along the height."""
        return algorithm(self.m[0], self.r[0], self._axis_stride(self.r[0]))

    @property
    def along_width(self) -> Bilinear:
        """The algorithm along the width."""
        return algorithm(self.m[1], self.r[1], self._axis_stride(self.r[1]))

    @property
    def xis(self) -> int:
        """Products per tile, channel and output channel."""
        return self.along_height.alpha * self.along_width.alpha

    @property
    def key(self) -> tuple[int, int, int, int, int, int]:
        """What `fastconv.kernels.winograd_transforms.transforms` takes."""
        (m_h, m_w), (r_h, r_w) = self.m, self.r
        return m_h, r_h, self._axis_stride(r_h), m_w, r_w, self._axis_stride(r_w)


def _line(m: int, r: int, standard_from: int | None = 1) -> tuple[Variant, Variant]:
    """Return the forms for kernels 1 x r and r x 1."""
    return (
        Variant(f"winograd:f{m}x1x{r}", (1, m), (1, r), standard_from=standard_from),
        Variant(f"winograd:f{m}x{r}x1", (m, 1), (r, 1), standard_from=standard_from),
    )


#: Named f<m>x<r> for square kernels, f<m>x<kh>x<kw> for kernels that are lines, f<m_h>x<m_w>x<kh>x<kw> for tiles that are no
#: squares, with s2 for stride 2. `standard_from` is the least multiple of 64 with at most 3.75 times the error of plain
#: summation, measured by ``python bench/accuracy.py``.
VARIANTS = (
    Variant("winograd:f4x3", (4, 4), (3, 3)),
    Variant("winograd:f6x3", (6, 6), (3, 3), standard_from=512),
    Variant("winograd:f5x3", (5, 5), (3, 3), standard_from=256),
    Variant("winograd:f6x4x3x3", (6, 4), (3, 3), standard_from=64),
    Variant("winograd:f4x2x3x3", (4, 2), (3, 3)),
    Variant("winograd:f3x3", (3, 3), (3, 3)),
    Variant("winograd:f2x3", (2, 2), (3, 3)),
    Variant("winograd:f4x3s2", (4, 4), (3, 3), stride=2),
    Variant("winograd:f2x3s2", (2, 2), (3, 3), stride=2),
    Variant("winograd:f2x5", (2, 2), (5, 5)),
    Variant("winograd:f4x5", (4, 4), (5, 5), standard_from=192),
    *_line(4, 3),
    *_line(2, 5),
    *_line(4, 5),
    *_line(2, 7),
    *_line(4, 7, standard_from=192),
)
