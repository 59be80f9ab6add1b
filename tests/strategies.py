"""Hypothesis strategies: problems of each shape class, so that every algorithm meets many that it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from cases import supported
from fastconv.backends.base import Algorithm
from fastconv.problem import ConvProblem

MODES = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")


@dataclass(frozen=True)
class ShapeClass:
    """Problems with the same choices of kernel, stride and grouping: few, since some kernels are compiled for each."""

    kernels: tuple[tuple[int, int], ...]
    strides: tuple[tuple[int, int], ...] = ((1, 1),)
    dilations: tuple[tuple[int, int], ...] = ((1, 1),)
    groups: tuple[int, ...] = (1,)
    most_channels: int = 9
    is_depthwise: bool = False


CLASSES = {
    "dense 3x3": ShapeClass(((3, 3),)),
    "dense 5x5": ShapeClass(((5, 5),), most_channels=5),
    "1x1": ShapeClass(((1, 1),), strides=((1, 1), (2, 2)), most_channels=30),
    "1x3": ShapeClass(((1, 3),)),
    "3x1": ShapeClass(((3, 1),)),
    "1x5": ShapeClass(((1, 5),), most_channels=5),
    "5x1": ShapeClass(((5, 1),), most_channels=5),
    "1x7": ShapeClass(((1, 7),), most_channels=5),
    "7x1": ShapeClass(((7, 1),), most_channels=5),
    "dense 3x3, stride 2": ShapeClass(((3, 3),), strides=((2, 2),), most_channels=5),
    "depthwise": ShapeClass(((3, 3),), strides=((1, 1), (2, 2)), groups=(2, 3, 9), is_depthwise=True),
    "planar": ShapeClass(((3, 3), (5, 5)), most_channels=1),
    "large": ShapeClass(((11, 11),), most_channels=2),
}
#: Algorithms whose machine code depends on kernel, channels, width and side borders together: they meet few of each.
COMPILED_PER_SHAPE = ("direct:depthwise", "direct:grouped", "direct:planar")
FEW_CLASSES = {
    "few channels": ShapeClass(((3, 3),), most_channels=2),
    "few channels, stride 2": ShapeClass(((5, 3),), strides=((2, 2),), most_channels=1),
    "row": ShapeClass(((1, 5),), most_channels=1),
    "grouped": ShapeClass(((3, 3),), groups=(2,), most_channels=2),
    "depthwise": ShapeClass(((3, 3),), strides=((1, 1), (2, 2)), groups=(3,), is_depthwise=True),
    "depthwise, dilated": ShapeClass(((4, 2),), dilations=((2, 3),), groups=(3,), is_depthwise=True),
    "large": ShapeClass(((11, 11),), most_channels=1),
}
#: Rows of the source beyond the least that fits the kernel, padding above and below; columns, padding left and right.
Size = tuple[int, int, int, int, int, int]
#: One pixel, less than a vector, a few columns, and many with a rest; no border, even ones, and a wide one on one side.
FEW_SIZES: tuple[Size, ...] = ((0, 0, 0, 0, 0, 0), (9, 1, 1, 0, 2, 1), (12, 2, 0, 6, 1, 1), (12, 0, 3, 37, 1, 1), (3, 1, 1, 37, 0, 4))
ALL_SIZES = st.tuples(st.integers(0, 12), *[st.integers(0, 4)] * 2, st.integers(0, 40), *[st.integers(0, 4)] * 2)
#: For algorithms whose machine code does not depend on the kernel's size.
ANY = ShapeClass(
    ((1, 1), (2, 3), (3, 3), (4, 2), (1, 5), (5, 1), (6, 7)),
    ((1, 1), (1, 2), (2, 1), (3, 2), (4, 4)),
    ((1, 1), (1, 2), (2, 1), (3, 3)),
    (1, 2, 3),
    4,
)


@st.composite
def problems_of(draw: st.DrawFn, shapes: ShapeClass, sizes: st.SearchStrategy[Size] = ALL_SIZES, **fixed: Any) -> ConvProblem:
    """Draw a problem of a shape class, of one of `sizes`; attributes in `fixed` are as given."""
    (kh, kw), (sh, sw), (dh, dw) = (draw(st.sampled_from(choice)) for choice in (shapes.kernels, shapes.strides, shapes.dilations))
    g = draw(st.sampled_from(shapes.groups))
    channels = st.integers(1, shapes.most_channels)
    ic, oc = (g, g) if shapes.is_depthwise else (g * draw(channels), g * draw(channels))
    more_rows, above, below, more_columns, left, right = draw(sizes)
    span_h, span_w = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    mode = draw(st.sampled_from(MODES))
    attributes: dict[str, Any] = {
        "g": g, "mb": draw(st.integers(1, 2)), "ic": ic, "oc": oc, "kh": kh, "kw": kw, "sh": sh, "sw": sw, "dh": dh, "dw": dw,
        "ph_lo": above, "ph_hi": below, "pw_lo": left, "pw_hi": right,
        "padding_mode": mode, "padding_value": draw(st.integers(0, 2)) if mode == "constant" else 0,
        "channels_last": draw(st.booleans()),
    }  # fmt: skip
    attributes.update(fixed)
    if attributes["padding_mode"] != "constant":
        attributes["padding_value"] = 0
    attributes.setdefault("ih", max(1, span_h - attributes["ph_lo"] - attributes["ph_hi"]) + more_rows)
    attributes.setdefault("iw", max(1, span_w - attributes["pw_lo"] - attributes["pw_hi"]) + more_columns)
    return ConvProblem(**attributes)


def problems(algorithm: Algorithm, **fixed: Any) -> st.SearchStrategy[ConvProblem]:
    """Return a strategy of problems that `algorithm` computes."""
    classes = [*CLASSES.values(), ANY] if computes_anything(algorithm) else list(CLASSES.values())
    sizes = ALL_SIZES
    if algorithm.name in COMPILED_PER_SHAPE:
        classes, sizes = list(FEW_CLASSES.values()), st.sampled_from(FEW_SIZES)
    found = []
    for shapes in classes:
        (kh, kw), (sh, sw), g = shapes.kernels[0], shapes.strides[0], shapes.groups[-1]
        channels = g if shapes.is_depthwise else g * min(shapes.most_channels, 4)
        probe = ConvProblem(g, 1, channels, 20, 40, channels, kh, kw, sh, sw)
        if supported(algorithm, probe):
            found.append(problems_of(shapes, sizes, **fixed))
    return st.one_of(found).filter(lambda problem: supported(algorithm, problem))


def computes_anything(algorithm: Algorithm) -> bool:
    """Tell whether `algorithm` computes a problem of no particular shape."""
    return supported(algorithm, ConvProblem(2, 1, 4, 12, 13, 6, 4, 2, 3, 2, dh=1, dw=2, pw_lo=1, padding_mode="reflect"))
