"""The variants of Winograd convolution: which F(m, r) there are, for which kernels and strides, in which accuracy mode."""

from __future__ import annotations

from dataclasses import dataclass

from fastconv._typing import Accuracy
from fastconv.kernels.points import Bilinear, algorithm


@dataclass(frozen=True)
class Variant:
    """One F(m_h x m_w, r_h x r_w) and the stride it is for."""

    name: str
    m: tuple[int, int]
    r: tuple[int, int]
    stride: int = 1
    accuracy: Accuracy = "standard"

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


def _line(m: int, r: int, accuracy: Accuracy = "standard") -> tuple[Variant, Variant]:
    """Return the forms for kernels 1 x r and r x 1."""
    return (
        Variant(f"winograd:f{m}x1x{r}", (1, m), (1, r), accuracy=accuracy),
        Variant(f"winograd:f{m}x{r}x1", (m, 1), (r, 1), accuracy=accuracy),
    )


#: Named f<m>x<r> for square kernels, f<m>x<kh>x<kw> for kernels that are lines, with s2 for stride 2.
VARIANTS = (
    Variant("winograd:f4x3", (4, 4), (3, 3)),
    Variant("winograd:f6x3", (6, 6), (3, 3), accuracy="fast"),
    Variant("winograd:f2x3", (2, 2), (3, 3)),
    Variant("winograd:f4x3s2", (4, 4), (3, 3), stride=2),
    Variant("winograd:f2x3s2", (2, 2), (3, 3), stride=2),
    Variant("winograd:f2x5", (2, 2), (5, 5)),
    Variant("winograd:f4x5", (4, 4), (5, 5), accuracy="fast"),
    *_line(4, 3),
    *_line(2, 5),
    *_line(4, 5),
    *_line(2, 7),
    *_line(4, 7, "fast"),
)
