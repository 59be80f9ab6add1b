"""Types that several layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Pair: TypeAlias = int | tuple[int, int] | Sequence[int]
Padding: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]]
Activation: TypeAlias = str | tuple[float, float] | None
PaddingMode: TypeAlias = Literal["zeros", "constant", "reflect", "symmetric", "replicate", "circular"]
DataFormat: TypeAlias = Literal["NCHW", "NHWC"]
Accuracy: TypeAlias = Literal["strict", "standard", "fast"]
Rounding: TypeAlias = Literal["elementwise", "tilewise", "normwise"]
