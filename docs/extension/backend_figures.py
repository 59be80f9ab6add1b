"""The drawings of the backends' pages: layouts, and two charts computed by fastconv."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from sheet import Sheet, Theme, cells

import fastconv
from fastconv.backends import TABLE, named
from fastconv.cost import predicted_s
from fastconv.machine import nominal_machine
from fastconv.problem import ConvProblem

_COLORS = {"direct": "#3b82f6", "im2col": "#a855f7", "fft": "#16a34a", "winograd": "#ea8a0c", "naive": "#7a8089"}


def naive(theme: Theme) -> Sheet:
    """One pass per product of the kernel: a shifted plane times one weight."""
    sheet = Sheet(24.6, 5.0, theme)
    x, w = np.arange(9.0).reshape(3, 3), np.arange(4.0).reshape(2, 2)
    for n, (r, s) in enumerate(np.ndindex(2, 2)):
        left = 0.4 + 5.2 * n
        sheet.grid(x, (left, 1.2), roles=cells(r, s, 2, 2, "window"), title=f"(r, s) = ({r}, {s})")
        sheet.text(f"· {w[r, s]:g}", (left + 3.6, 2.7), size=12)
        sheet.text("+" if n < 3 else "=", (left + 4.6, 2.7), size=14)
    sheet.grid(fastconv.conv2d(x[None, None], w[None, None], backend="naive")[0, 0], (21.6, 1.7), role="result", title="y")
    return sheet


def im2col(theme: Theme) -> Sheet:
    """Windows as columns of a matrix; the kernel as a row."""
    sheet = Sheet(24.6, 7.2, theme)
    x = np.arange(9.0).reshape(3, 3)
    w = np.arange(4.0)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2)).reshape(4, 4).T
    sheet.grid(x, (0.5, 2.2), roles=cells(0, 0, 2, 2, "window"), title="x")
    sheet.arrow((4.0, 3.7), (5.4, 3.7), "unroll")
    sheet.grid(w[np.newaxis], (6.0, 3.2), role="kernel", title="w as a row")
    sheet.text("@", (10.7, 3.7), size=13)
    sheet.grid(windows, (11.4, 1.7), roles=cells(0, 0, 4, 1, "window"), title="one column per output pixel")
    sheet.text("=", (16.3, 3.7), size=14)
    sheet.grid(w[np.newaxis] @ windows, (17.2, 3.2), role="result", title="y as a row")
    sheet.text("K = C·KH·KW rows", (13.4, 6.4), size=9, is_faint=True)
    return sheet


def direct(theme: Theme) -> Sheet:
    """The register tile between packed weights and a packed panel of pixels."""
    sheet = Sheet(25, 13.6, theme)
    empty = np.full((6, 16), np.nan)
    k = np.full((5, 16), np.nan)
    sheet.text(
        "panel of pixels [k][NR], packed from x\nwhile it is needed: borders, stride\nand dilation are resolved here", (4.2, 3.3), size=9
    )
    sheet.grid(k, (8.2, 0.9), roles=cells(2, 0, 1, 16, "window"), title="")
    sheet.text("16 pixels = 2 vectors", (16.2, 0.45), size=9, is_faint=True)
    sheet.frame((8.2, 0.9), (5, 8), color=theme.faint, width=1.4)
    sheet.frame((16.2, 0.9), (5, 8), color=theme.faint, width=1.4)
    sheet.grid(np.full((6, 5), np.nan), (2.2, 7.0), roles=cells(0, 2, 6, 1, "kernel"))
    sheet.text("weights [k][MR], packed once", (4.7, 13.3), size=9, is_faint=True)
    sheet.grid(empty, (8.2, 7.0), role="result")
    sheet.frame((8.2, 7.0), (6, 8), color=theme.faint, width=1.4)
    sheet.frame((16.2, 7.0), (6, 8), color=theme.faint, width=1.4)
    sheet.text("register tile: 6 output channels x 2 vectors stay in registers over all k", (16.2, 13.3), size=9, is_faint=True)
    sheet.text("k", (7.8, 3.4), size=10)
    sheet.text("k", (4.7, 6.6), size=10)
    return sheet


def planar(theme: Theme) -> Sheet:
    """Rows of one plane: a register tile of rows and vectors, sums of shifted rows."""
    sheet = Sheet(24, 8.2, theme)
    sheet.grid(
        np.full((6, 10), np.nan), (0.5, 1.3), roles=cells(1, 2, 1, 4, "window") | cells(2, 2, 1, 4, "third"), title="source plane, unpadded"
    )
    sheet.grid(np.full((3, 3), np.nan), (12, 2.8), roles={(0, 0): "window", (1, 0): "third"}, title="w")
    sheet.grid(np.full((4, 6), np.nan), (17, 2.3), roles=cells(1, 2, 1, 4, "result"), title="rows of the result")
    sheet.arrow((15.3, 4.3), (16.7, 4.3))
    sheet.text("a row outside the image points at one shared row of zeros", (5.5, 7.7), size=9, is_faint=True)
    return sheet


def winograd(theme: Theme) -> Sheet:
    """Overlapping tiles through the transforms."""
    sheet = Sheet(26, 9.6, theme)
    sheet.grid(np.full((6, 6), np.nan), (0.6, 1.3), roles=cells(0, 0, 4, 4, "window"), title="x: tiles of 4 x 4 overlap by 2")
    sheet.frame((0.6, 1.3), (4, 4))
    sheet.frame((2.6, 1.3), (4, 4), color=theme.faint, width=1.6)
    sheet.arrow((7.0, 3.3), (8.8, 3.3), "Bᵀ x B")
    sheet.grid(np.full((4, 4), np.nan), (9.2, 1.3), role="window", title="V")
    sheet.text("·", (14.0, 3.3), size=22)
    sheet.grid(np.full((4, 4), np.nan), (14.8, 1.3), role="kernel", title="U")
    sheet.arrow((16.8, 7.1), (16.8, 5.6))
    sheet.text("G w Gᵀ", (18.4, 6.3), size=9, is_faint=True)
    sheet.text("w, once per plan", (16.8, 7.6), size=9, is_faint=True)
    sheet.arrow((19.3, 3.3), (21.9, 3.3), "Aᵀ (Σ U·V) A")
    sheet.grid(np.full((2, 2), np.nan), (22.4, 2.3), role="result", title="y: 2 x 2")
    sheet.text(
        "16 products give 4 outputs: 36 in the definition, 2.25 times fewer. Each place of U and V\nis a matrix product over the channels and tiles of its own.",
        (13, 8.9),
        size=9,
        is_faint=True,
    )
    return sheet


def fft(theme: Theme) -> Sheet:
    """Overlap-save: tiles overlap by the kernel's length less one."""
    sheet = Sheet(26, 9.3, theme)
    sheet.text("x", (0.6, 1.1), size=10)
    sheet.grid(np.full((1, 22), np.nan), (1.2, 0.6))
    roles: dict[tuple[int, int], str | None] = {}
    for n, role in enumerate(("window", "kernel", "third")):
        start, top = 6 * n, 2.2 + 1.3 * n
        sheet.grid(np.full((1, 10), np.nan), (1.2 + start, top), roles=cells(0, 0, 1, 6, role) | cells(0, 6, 1, 4, "border"))
        roles |= cells(0, start, 1, 6, role)
    sheet.text("tiles of 10", (13.2, 2.7), size=9, align="left", is_faint=True)
    sheet.arrow((8.5, 6.0), (8.5, 7.2))
    sheet.text("each: forward transform, times the spectrum of w, backward transform", (9.0, 6.6), size=9, align="left", is_faint=True)
    sheet.text("y", (0.6, 7.9), size=10)
    sheet.grid(np.full((1, 18), np.nan), (1.2, 7.4), roles=roles)
    sheet.text("each tile gives 10 - 5 + 1 = 6 outputs that saw no wrap-around", (1.2, 8.9), size=9, align="left", is_faint=True)
    return sheet


def _chart(theme: Theme, width: float = 18, height: float = 10) -> tuple[Sheet, Axes]:
    """Return a sheet with axes for a chart in the theme's colours."""
    sheet = Sheet(width, height, theme)
    chart = sheet.figure.add_axes((0.12, 0.15, 0.85, 0.76), facecolor="none")
    chart.tick_params(colors=theme.ink, which="both", labelsize=9)
    for side, spine in chart.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(theme.faint)
    for label in (chart.xaxis.label, chart.yaxis.label):
        label.set_color(theme.ink)
        label.set_fontsize(10)
    chart.grid(visible=True, which="major", color=theme.faint, alpha=0.25, linewidth=0.7)
    return sheet, chart


def _best(family: str, problem: ConvProblem) -> float:
    """Return the cost model's time of the best variant of a family on assumed rates, NaN if none can."""
    machine = nominal_machine()
    return min(
        (
            predicted_s(row.work(problem, machine), problem, machine, 1, is_prepared=True)
            for row in named(family)
            if row.why_not(problem) is None and row.accuracy != "fast"
        ),
        default=float("nan"),
    )


def _when(theme: Theme, form: str, sizes: tuple[int, ...]) -> Sheet:
    sheet, chart = _chart(theme)
    for family in ("direct", "im2col", "fft", "winograd"):
        problems = [ConvProblem.parse(form.format(k=k, p=k // 2)) for k in sizes]
        times = [1e3 * _best(family, p) for p in problems]
        chart.plot(sizes, times, marker="o", markersize=4, color=_COLORS[family], label=family, linewidth=1.8)
    chart.set_xscale("log")
    chart.set_yscale("log")
    chart.set_xticks(sizes, [f"{k}" for k in sizes])
    chart.minorticks_off()
    chart.set_xlabel("kernel size K (K x K)")
    chart.set_ylabel("predicted ms, one thread")
    chart.legend(frameon=False, labelcolor=theme.ink, fontsize=9)
    return sheet


def when_image(theme: Theme) -> Sheet:
    """Predicted time of the families on one large image, by kernel size."""
    return _when(theme, "g1mb1ic1ih1024iw1024oc1kh{k}kw{k}sh1sw1ph{p}pw{p}dh1dw1:float32", (3, 5, 7, 11, 15, 31, 63))


def when_layer(theme: Theme) -> Sheet:
    """Predicted time of the families on a layer with 64 channels, by kernel size."""
    return _when(theme, "g1mb1ic64ih56iw56oc64kh{k}kw{k}sh1sw1ph{p}pw{p}dh1dw1:float32", (1, 3, 5, 7, 11, 15, 31))


def errors(theme: Theme) -> Sheet:
    """Measured RMS error of each variant for a 3x3 layer, in units of the rounding of the sum."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1, 64, 24, 24)).astype(np.float32)
    w = rng.uniform(-1, 1, (8, 64, 3, 3)).astype(np.float32)
    exact = fastconv.conv2d(x.astype(np.float64), w.astype(np.float64), padding=1, backend="naive")
    names = [
        row.name
        for row in TABLE
        if row.name in {"naive", "im2col", "direct:dense", "winograd:f2x3", "winograd:f4x3", "winograd:f6x3", "fft:tiles", "fft"}
    ]
    names += [
        row.name
        for row in named("fft")
        if row.name not in names and row.why_not(ConvProblem.parse("g1mb1ic64ih24iw24oc8kh3kw3sh1sw1ph1pw1dh1dw1:float32")) is None
    ]
    rms = {}
    for name in names:
        error = fastconv.conv2d(x, w, padding=1, backend=name) - exact
        rms[name] = float(np.sqrt(np.mean(error**2)) / np.sqrt(np.mean(exact**2)))
    sheet, chart = _chart(theme, 20, 1.0 * len(rms) + 2.4)
    chart.set_position((0.24, 0.22, 0.7, 0.72))
    ordered = sorted(rms, key=rms.__getitem__, reverse=True)
    chart.barh(ordered, [rms[name] for name in ordered], color=[_COLORS[name.partition(":")[0]] for name in ordered], height=0.62)
    for n, name in enumerate(ordered):
        chart.text(rms[name], n, f"  {rms[name]:.1e}", va="center", fontsize=9, color=theme.ink)
    chart.set_xlim(0, 1.18 * max(rms.values()))
    chart.set_xlabel("RMS error / RMS result, float32, 64 channels, 3x3")
    chart.grid(visible=False, axis="y")
    return sheet


FIGURES = {
    "naive": naive,
    "im2col": im2col,
    "direct": direct,
    "planar": planar,
    "winograd": winograd,
    "fft": fft,
    "when_image": when_image,
    "when_layer": when_layer,
    "errors": errors,
}
