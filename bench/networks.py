"""Write the convolution layers of whole networks, with how often each occurs: ``python bench/networks.py``.

The lists in fastconv/cli/data/networks/ are made here from the networks' published definitions, one image of the usual size.
Left out is what is no convolution of images: fully connected layers at the end, transposed convolutions (U-Net's four).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from fastconv.problem import ConvProblem

FOLDER = Path(__file__).parents[1] / "fastconv" / "cli" / "data" / "networks"


class Layers:
    """Collects the layers of a network while a picture goes through it."""

    def __init__(self, channels: int, size: int) -> None:
        self.channels, self.size = channels, size
        self.found: Counter[str] = Counter()

    def conv(self, outputs: int, kernel: int, stride: int = 1, *, padding: int | None = None, groups: int = 1) -> Layers:
        """Add a layer on the picture as it is now; padded to keep its size unless `padding` says otherwise."""
        p = kernel // 2 if padding is None else padding
        problem = ConvProblem(
            groups,
            1,
            self.channels,
            self.size,
            self.size,
            outputs,
            kernel,
            kernel,
            sh=stride,
            sw=stride,
            ph_lo=p,
            ph_hi=p,
            pw_lo=p,
            pw_hi=p,
        )
        self.found[str(problem)] += 1
        self.channels, self.size = outputs, problem.oh
        return self

    def depthwise(self, kernel: int, stride: int = 1) -> Layers:
        """Add a depthwise layer."""
        return self.conv(self.channels, kernel, stride, groups=self.channels)

    def at(self, channels: int, size: int) -> Layers:
        """Go on from another picture: after pooling, or where branches part."""
        self.channels, self.size = channels, size
        return self

    def pool(self) -> Layers:
        """Halve the picture."""
        return self.at(self.channels, self.size // 2)


def resnet50() -> Layers:
    """K. He et al., 2016, with the stride in the 3x3 layer, as in torchvision."""
    net = Layers(3, 224).conv(64, 7, 2).pool()
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            channels, size = net.channels, net.size
            net.conv(width, 1).conv(width, 3, stride).conv(4 * width, 1)
            if block == 0:
                after = net.size
                net.at(channels, size).conv(4 * width, 1, stride, padding=0).at(4 * width, after)
    return net


def vgg16() -> Layers:
    """K. Simonyan, A. Zisserman, 2015, configuration D."""
    net = Layers(3, 224)
    for width, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            net.conv(width, 3)
        net.pool()
    return net


def mobilenetv2() -> Layers:
    """M. Sandler et al., 2018, table 2."""
    net = Layers(3, 224).conv(32, 3, 2)
    for expansion, width, blocks, first_stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for block in range(blocks):
            if expansion > 1:
                net.conv(expansion * net.channels, 1)
            net.depthwise(3, first_stride if block == 0 else 1).conv(width, 1)
    return net.conv(1280, 1)


def efficientnet_b0() -> Layers:
    """M. Tan, Q. Le, 2019, table 1, with the 1x1 layers of squeeze and excitation."""
    net = Layers(3, 224).conv(32, 3, 2)
    for expansion, kernel, width, blocks, first_stride in (
        (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1),
    ):  # fmt: skip
        for block in range(blocks):
            entering = net.channels
            if expansion > 1:
                net.conv(expansion * entering, 1)
            net.depthwise(kernel, first_stride if block == 0 else 1)
            channels, size = net.channels, net.size
            net.at(channels, 1).conv(max(1, entering // 4), 1).conv(channels, 1).at(channels, size).conv(width, 1)
    return net.conv(1280, 1)


def convnext_tiny() -> Layers:
    """Z. Liu et al., 2022; its pointwise layers are counted as 1x1 convolutions."""
    net = Layers(3, 224).conv(96, 4, 4, padding=0)
    for stage, (width, blocks) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
        if stage:
            net.conv(width, 2, 2, padding=0)
        for _ in range(blocks):
            net.depthwise(7).conv(4 * width, 1).conv(width, 1)
    return net


def unet() -> Layers:
    """O. Ronneberger et al., 2015: unpadded, 572 x 572 pixels in."""
    net = Layers(1, 572)
    for level, width in enumerate((64, 128, 256, 512, 1024)):
        if level:
            net.pool()
        net.conv(width, 3, padding=0).conv(width, 3, padding=0)
    for width in (512, 256, 128, 64):
        net.at(2 * width, 2 * net.size).conv(width, 3, padding=0).conv(width, 3, padding=0)
    return net.conv(2, 1)


NETWORKS = {
    "resnet50": ("ResNet-50", resnet50),
    "vgg16": ("VGG-16", vgg16),
    "mobilenetv2": ("MobileNetV2", mobilenetv2),
    "efficientnet_b0": ("EfficientNet-B0", efficientnet_b0),
    "convnext_tiny": ("ConvNeXt-T", convnext_tiny),
    "unet": ("U-Net", unet),
}


def layer_name(problem: ConvProblem) -> str:
    """Return a name that tells a layer from the others of its network."""
    p = problem
    kind = "dw" if p.is_depthwise else ""
    stride = "" if p.sh == 1 else f"s{p.sh}"
    return f"{kind}{p.kh}x{p.kw}{stride}_{p.ic}-{p.oc}@{p.ih}"


def main() -> None:
    """Write all lists."""
    FOLDER.mkdir(exist_ok=True)
    for key, (title, build) in NETWORKS.items():
        net = build()
        rows = [
            {"name": f"{key}/{layer_name(ConvProblem.parse(text))}", "problem": text, "count": count} for text, count in net.found.items()
        ]
        lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        (FOLDER / f"{key}.json").write_text(f'{{\n  "title": "{title}",\n  "layers": [\n{lines}\n  ]\n}}\n', encoding="utf-8")
        macs = sum(ConvProblem.parse(text).macs * count for text, count in net.found.items())
        print(f"{title}: {sum(net.found.values())} layers, {len(rows)} different, {macs / 1e9:.2f} GMAC")


if __name__ == "__main__":
    main()
