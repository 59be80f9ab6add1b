"""The drawings of the architecture page."""

from __future__ import annotations

from sheet import Sheet, Theme

_LAYERS = (
    ("cli", "the commands; the only part that prints", None),
    ("patch, signal, ndimage", "other libraries' words translated into ours", None),
    ("api, grad, transposed, volumes", "the public functions", "window"),
    ("planner, explanation, cost", "argument > settings > wisdom > cost model", "window"),
    ("backends", "naive, direct, im2col, fft, winograd; each knows nothing of the others", "kernel"),
    ("plans, problem, settings, machine", "immutable descriptions, no algorithms", "third"),
    ("kernels", "generated machine code: addresses and integers, nothing checked", "result"),
    ("errors", "", None),
)


def layers(theme: Theme) -> Sheet:
    """The layers; each imports only what stands below it."""
    sheet = Sheet(24, 1.7 * len(_LAYERS) + 0.2, theme, scale=0.38)
    for n, (name, words, role) in enumerate(_LAYERS):
        sheet.box(name, (0.2, 0.1 + 1.7 * n), (9.6, 1.6), role=role, size=10)
        sheet.text(words, (10.3, 0.9 + 1.7 * n), size=10, align="left", is_faint=True)
    return sheet


_STATIONS = (
    ("conv2d(x, w, padding=1)", "api", "user words become numbers, once; everything below is trusted", None),
    ("ConvProblem", "problem", "frozen, hashable, no arrays: shapes, geometry, dtype; prints as one string", "third"),
    ("Decision", "planner", "argument > settings > wisdom > cost model, with the reasons of all candidates", "window"),
    ("Plan", "backends", "weights packed, workspace booked; immutable, for any number of threads at once", "kernel"),
    ("kernels", "kernels", "generated machine code on addresses, strides and sizes", "result"),
    ("ndarray", "", "outputs are split over threads, sums never are: the same bits for any number", None),
)


def one_way(theme: Theme) -> Sheet:
    """The stations of a call."""
    sheet = Sheet(27, 2.3 * len(_STATIONS) - 0.3, theme, scale=0.38)
    for n, (name, module, words, role) in enumerate(_STATIONS):
        top = 0.1 + 2.3 * n
        sheet.box(name, (0.2, top), (8.4, 1.5), role=role, size=10)
        sheet.text(module, (9.0, top + 0.45), size=9, align="left")
        sheet.text(words, (9.0, top + (1.0 if module else 0.75)), size=9, align="left", is_faint=True)
        if n + 1 < len(_STATIONS):
            sheet.arrow((4.4, top + 1.45), (4.4, top + 2.35))
    return sheet


FIGURES = {"layers": layers, "one_way": one_way}
