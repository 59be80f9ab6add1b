"""The drawings of the tutorial. Every result in them is computed by fastconv."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sheet import Sheet, Theme, cells

import fastconv

X = np.arange(9.0).reshape(1, 1, 3, 3)
W = np.arange(4.0).reshape(1, 1, 2, 2)


def _plane(x: npt.NDArray[np.float64], w: npt.NDArray[np.float64], **words: object) -> npt.NDArray[np.float64]:
    """Return channel 0 of the convolution of one image, without the sign of a rounded zero."""
    return fastconv.conv2d(x, w, **words)[0, 0] + 0.0  # type: ignore[arg-type]


def sliding(theme: Theme) -> Sheet:
    """The window in its four places."""
    sheet = Sheet(25, 10.6, theme)
    y = _plane(X, W)
    for n, (i, j) in enumerate(np.ndindex(2, 2)):
        left, top = 0.6 + 12.6 * (n % 2), 1.2 + 5.4 * (n // 2)
        sheet.grid(X[0, 0], (left, top), roles=cells(i, j, 2, 2, "window"), title="x" if n < 2 else "")
        sheet.frame((left + j, top + i), (2, 2))
        sheet.grid(W[0, 0], (left + 4, top + 0.5), role="kernel", title="w" if n < 2 else "")
        sheet.arrow((left + 6.4, top + 1.5), (left + 7.5, top + 1.5))
        shown = np.full((2, 2), np.nan)
        shown.flat[: n + 1] = y.flat[: n + 1]
        sheet.grid(shown, (left + 7.9, top + 0.5), roles={(i, j): "result"}, title="y" if n < 2 else "")
        window = X[0, 0, i : i + 2, j : j + 2]
        products = " + ".join(f"{a:g}·{b:g}" for a, b in zip(window.flat, W.flat, strict=True))
        sheet.text(f"{products} = {y[i, j]:g}", (left + 5, top + 3.65), size=11)
    return sheet


def rotating(theme: Theme) -> Sheet:
    """Correlation with the kernel as it is, convolution with the kernel rotated by 180 degrees."""
    sheet = Sheet(25, 5.4, theme)
    for left, name, kernel, flip in ((0.6, "correlation", W, False), (13.2, "convolution", W[:, :, ::-1, ::-1], True)):
        sheet.grid(X[0, 0], (left, 1.2), title="x", roles=cells(0, 0, 2, 2, "window"))
        sheet.grid(kernel[0, 0], (left + 4, 1.7), role="kernel", title="w, rotated" if flip else "w")
        sheet.arrow((left + 6.4, 2.7), (left + 7.5, 2.7))
        sheet.grid(_plane(X, W, flip_kernel=flip), (left + 7.9, 1.7), roles={(0, 0): "result"}, title="y")
        sheet.text(name, (left + 5, 4.85), size=11)
    return sheet


def _padded() -> npt.NDArray[np.float64]:
    return np.pad(X[0, 0], 1)


def _ring() -> dict[tuple[int, int], str | None]:
    return {(i, j): "border" for i in range(5) for j in range(5) if {i, j} & {0, 4}}


def padding(theme: Theme) -> Sheet:
    """One ring of zeros makes the result four by four."""
    sheet = Sheet(19.6, 6.9, theme)
    sheet.grid(_padded(), (0.6, 1.2), roles=_ring() | cells(0, 0, 2, 2, "window"), title="x with one ring of zeros")
    sheet.frame((0.6, 1.2), (2, 2))
    sheet.grid(W[0, 0], (7.2, 2.7), role="kernel", title="w")
    sheet.arrow((9.9, 3.7), (11.2, 3.7))
    sheet.grid(_plane(X, W, padding=1), (12, 1.7), roles={(0, 0): "result"}, title="y")
    sheet.text("0·0 + 0·1 + 0·2 + 0·3 = 0", (16.0 - 2, 6.45), size=11)
    return sheet


def striding(theme: Theme) -> Sheet:
    """The four places of the window at stride (3, 2)."""
    sheet = Sheet(21, 7.2, theme)
    roles = _ring()
    colors = {(0, 0): "window", (0, 1): "kernel", (1, 0): "result", (1, 1): "third"}
    for (i, j), role in colors.items():
        roles |= cells(3 * i, 2 * j, 2, 2, role)
    sheet.grid(_padded(), (1.2, 1.7), roles=roles, title="")
    for i, j in colors:
        sheet.frame((1.2 + 2 * j, 1.7 + 3 * i), (2, 2), color=theme.ink, width=1.6)
    sheet.arrow((1.3, 1.2), (3.2, 1.2))
    sheet.text("2 columns", (2.2, 0.75), size=9, is_faint=True)
    sheet.arrow((0.7, 1.8), (0.7, 4.7))
    sheet.axes.text(0.3, 3.2, "3 rows", rotation=90, ha="center", va="center", fontsize=9, color=theme.faint)
    sheet.arrow((7.2, 4.2), (8.5, 4.2))
    sheet.grid(_plane(X, W, padding=1, stride=(3, 2)), (9.2, 3.2), roles=dict(colors), title="y")
    for n, line in enumerate(
        ("0·0 + 0·1 + 0·2 + 0·3 = 0", "0·0 + 0·1 + 1·2 + 2·3 = 8", "0·0 + 6·1 + 0·2 + 0·3 = 6", "7·0 + 8·1 + 0·2 + 0·3 = 8")
    ):
        sheet.text(line, (12.6, 2.4 + 1.2 * n), size=11, align="left")
    return sheet


_CHANNELS = np.concatenate([X, X + 1, 2 * X], axis=1)
_KERNELS = np.concatenate([W, W + 1, W[:, :, ::-1]], axis=1)


def channels_in(theme: Theme) -> Sheet:
    """Three input channels, one kernel plane for each, one sum."""
    sheet = Sheet(19, 13.4, theme)
    for c in range(3):
        top = 1.2 + 4.2 * c
        sheet.grid(_CHANNELS[0, c], (1.6, top), roles=cells(0, 0, 2, 2, "window"), title="x" if c == 0 else "")
        sheet.text(f"c = {c}", (0.75, top + 1.5), size=9, is_faint=True)
        sheet.grid(_KERNELS[0, c], (5.8, top + 0.5), role="kernel", title="w[0]" if c == 0 else "")
        sheet.arrow((8.2, top + 1.5), (9.1, top + 1.5))
        sheet.grid(_plane(_CHANNELS[:, c : c + 1], _KERNELS[:, c : c + 1]), (9.5, top + 0.5), title="one channel" if c == 0 else "")
        sheet.arrow((11.8, top + 1.5), (14.6, 6.9 + 0.35 * (c - 1)))
        if c < 2:
            sheet.text("+", (10.5, top + 3.5), size=14)
    sheet.grid(_plane(_CHANNELS, _KERNELS), (15, 5.9), role="result", title="y[0]")
    return sheet


def channels_out(theme: Theme) -> Sheet:
    """Two output channels, each with a kernel as deep as the input."""
    sheet = Sheet(22.5, 10.9, theme)
    second = np.stack([W[0, 0].T, np.ones((2, 2)), np.zeros((2, 2))])[np.newaxis]
    both = np.concatenate([_KERNELS, second])
    y = fastconv.conv2d(_CHANNELS, both)[0]
    for c in reversed(range(3)):
        sheet.grid(_CHANNELS[0, c], (1 + 1.0 * c, 4.0 - 1.0 * c), order=3 - c)
    sheet.text("x: 3 channels", (3.5, 7.6), size=10)
    for o, top in enumerate((1.2, 6.3)):
        for c in reversed(range(3)):
            sheet.grid(both[o, c], (9.4 + 1.0 * c, top + 1.7 - 1.0 * c), role="kernel" if o == 0 else "third", order=3 - c)
        sheet.text(f"w[{o}]: 3 planes", (11.4, top + 4.15), size=10)
        sheet.arrow((6.4, 4.9), (9.1, top + 2.2))
        sheet.arrow((13.8, top + 2.2), (16.4, top + 2.2))
        sheet.grid(y[o], (16.9, top + 1.2), role="kernel" if o == 0 else "third")
        sheet.text(f"y[{o}]", (19.7, top + 2.2), size=10)
    return sheet


def padding_modes(theme: Theme) -> Sheet:
    """What each mode reads beyond the border."""
    sheet = Sheet(21, 10.2, theme)
    line = np.arange(1.0, 6.0).reshape(1, 1, 5)
    impulse = np.eye(7).reshape(7, 1, 7)
    sheet.text("beyond the border", (6.5 + 1.5, 0.6), size=9, is_faint=True)
    sheet.text("x", (6.5 + 5.5, 0.6), size=10)
    sheet.text("beyond the border", (6.5 + 9.5, 0.6), size=9, is_faint=True)
    for n, mode in enumerate(("zeros", "replicate", "symmetric", "reflect", "circular", "constant")):
        words: dict[str, object] = {"padding_mode": mode, "padding": 3}
        if mode == "constant":
            words["padding_value"] = 9.0
        # Output s of channel s: what the window's tap s reads, so that the row is the padded input itself.
        taps = fastconv.conv1d(line, impulse, **words)[0]  # type: ignore[arg-type]
        padded = np.concatenate([taps[0], taps[5][:1], taps[6]])
        top = 1.1 + 1.5 * n
        sheet.text(f'"{mode}"', (6.0, top + 0.5), size=10, align="right", is_code=True)
        sheet.grid(padded, (6.5, top), roles=cells(0, 0, 1, 3, "window") | cells(0, 8, 1, 3, "window"))
    return sheet


def dilating(theme: Theme) -> Sheet:
    """Taps one apart and two apart."""
    sheet = Sheet(17, 6.6, theme)
    x = np.arange(25.0).reshape(5, 5)
    for n, dilation in enumerate((1, 2)):
        left = 1.0 + 8.5 * n
        taps: dict[tuple[int, int], str | None] = {(r * dilation, s * dilation): "window" for r in range(3) for s in range(3)}
        sheet.grid(x, (left, 1.2), roles=taps, title=f"dilation={dilation}", size=10)
    return sheet


def network(theme: Theme) -> Sheet:
    """The small network's layers with the sizes of what passes between them."""
    sheet = Sheet(24, 4.2, theme)
    stations = (("8 x 8\ndigit", None), ("8 channels\n8 x 8", "window"), ("16 channels\n4 x 4", "kernel"), ("10 scores", "result"))
    for n, (words, role) in enumerate(stations):
        sheet.box(words, (0.2 + 6.6 * n, 1.2), (3.8, 2.6), role=role)
    for n, words in enumerate(("5x5, ReLU", "3x3/2, ReLU", "matrix")):
        sheet.arrow((4.0 + 6.6 * n, 2.5), (6.8 + 6.6 * n, 2.5), words)
    return sheet


FIGURES = {
    "network": network,
    "sliding": sliding,
    "rotating": rotating,
    "padding": padding,
    "striding": striding,
    "channels_in": channels_in,
    "channels_out": channels_out,
    "padding_modes": padding_modes,
    "dilating": dilating,
}
