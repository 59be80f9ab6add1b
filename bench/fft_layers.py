"""FFT on the layers it is for, against direct and Winograd convolution and the other libraries: one run, alternating.

    python bench/fft_layers.py [--threads 1 2] [--cases WORD ...] [--seconds 0.2]        Markdown
    python bench/fft_layers.py --compile [--cases WORD ...]                              fill the cache of kernels, time nothing

Words pick cases by parts of their names: img512, img1024, img2048, float64, channels, line, crossover. Times are
best-of in milliseconds, weights prepared, NumPy arrays in and out, results checked against each other. "FFT GFLOP/s"
counts 5 N log2 N for each complex transform of N points that the tiles take, with its share of the measured FMA peak of the
threads; effective GFLOP/s are those of the definition; "model" is the predicted time by the measured one. The cases named
crossover give the size of kernel from which FFT beats direct and Winograd convolution.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

from fastconv._typing import Array
from fastconv.backends import TABLE, workspace_nbytes
from fastconv.backends.fft.tiles import TilesPlan
from fastconv.calibration import measured_rates
from fastconv.cost import predicted_s
from fastconv.machine import Machine, machine_with
from fastconv.plans import Plan
from fastconv.problem import ConvProblem

Run = Callable[[], Array]


def image(n: int, k: int, dtype: str) -> ConvProblem:
    """Return one plane of n x n and a kernel of k x k."""
    return ConvProblem(1, 1, 1, n, n, 1, k, k, dtype=dtype)


def layer(ic: int, oc: int, n: int, k: int, pad: int, g: int = 1) -> ConvProblem:
    """Return a square layer of channels."""
    return ConvProblem(g, 1, ic, n, n, oc, k, k, ph_lo=pad, ph_hi=pad, pw_lo=pad, pw_hi=pad)


CASES = {
    **{f"img{n}_{k}x{k}_{d}": image(n, k, d) for d in ("float32", "float64") for n in (512, 1024, 2048) for k in (7, 15, 31, 63, 127, 255)},
    "channels_16-16@256_15x15": layer(16, 16, 256, 15, 0),
    "channels_16-16@256_31x31": layer(16, 16, 256, 31, 0),
    "channels_dw31x31_128@56": layer(128, 128, 56, 31, 15, 128),
    "channels_64-64@56_7x7": layer(64, 64, 56, 7, 3),
    "channels_64-64@56_9x9": layer(64, 64, 56, 9, 4),
    "channels_64-64@56_11x11": layer(64, 64, 56, 11, 5),
    **{
        f"line{n}_{k}_{d}": ConvProblem(1, 1, 1, 1, n, 1, 1, k, dtype=d)
        for d in ("float32", "float64")
        for n, k in ((1000, 11), (10000, 101), (100000, 1001), (1000000, 101), (1000000, 10001), (10000000, 100001))
    },
    **{f"crossover_img1024_{k}x{k}": image(1024, k, "float32") for k in (3, 5, 7, 9, 11, 13)},
    **{f"crossover_64-64@56_{k}x{k}": layer(64, 64, 56, k, k // 2) for k in (3, 5, 7)},
    **{f"crossover_dw_128@56_{k}x{k}": layer(128, 128, 56, k, k // 2, 128) for k in (5, 7, 9, 11, 15)},
}
#: A library slower than this is measured once and not waited for again; our own direct sum with more flops, not at all.
SLOW_S = 0.2
MANY_FLOPS = 3e9


def ducc(p: ConvProblem, x: Array, w: Array, threads: int) -> Run | None:
    """Return a whole-image FFT correlation on ducc0, or None."""
    try:
        from ducc0 import fft  # noqa: PLC0415
    except ImportError:
        return None
    shape = tuple(fft.good_size(n, True) for n in (p.ih + p.ph_lo + p.ph_hi, p.iw + p.pw_lo + p.pw_hi))  # noqa: FBT003
    spectrum = fft.r2c(np.pad(w, ((0, 0), (0, 0), (0, shape[0] - p.kh), (0, shape[1] - p.kw))), axes=(2, 3), nthreads=threads).conj()
    icg, ocg = p.ic // p.g, p.oc // p.g

    def run() -> Array:
        padded = np.zeros((p.ic, *shape), p.dtype)
        padded[:, p.ph_lo : p.ph_lo + p.ih, p.pw_lo : p.pw_lo + p.iw] = x[0]
        f = fft.r2c(padded, axes=(1, 2), nthreads=threads)
        if icg == 1:
            product = np.repeat(f, ocg, axis=0) * spectrum[:, 0]
        else:
            product = np.einsum("gchw,gochw->gohw", f.reshape(p.g, icg, *f.shape[1:]), spectrum.reshape(p.g, ocg, icg, *f.shape[1:]))
            product = product.reshape(p.oc, *f.shape[1:])
        y: Array = fft.c2r(product, axes=(1, 2), lastsize=shape[1], inorm=2, forward=False, nthreads=threads)[:, : p.oh, : p.ow]
        return y[np.newaxis]

    return run


def torch_run(p: ConvProblem, x: Array, w: Array, threads: int) -> Run | None:
    """Return torch's convolution, or None."""
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return None
    torch.set_num_threads(threads)
    tx, tw = torch.from_numpy(x), torch.from_numpy(w)

    def run() -> Array:
        with torch.no_grad():
            y: Array = torch.nn.functional.conv2d(tx, tw, padding=(p.ph_lo, p.pw_lo), groups=p.g).numpy()
        return y

    return run


def opencv(p: ConvProblem, x: Array, w: Array, threads: int) -> Run | None:
    """Return OpenCV's filter2D for one plane, or None."""
    try:
        import cv2  # noqa: PLC0415
    except ImportError:
        return None
    if p.ic != 1 or p.oc != 1 or p.ih == 1:
        return None
    cv2.setNumThreads(threads)
    top, left = p.kh // 2, p.kw // 2

    def run() -> Array:
        y = cv2.filter2D(x[0, 0], -1, w[0, 0], anchor=(left, top), borderType=cv2.BORDER_CONSTANT)
        return np.asarray(y[top : top + p.oh, left : left + p.ow])[np.newaxis, np.newaxis]

    return run


def scipy_run(function: str) -> Callable[[ConvProblem, Array, Array, int], Run | None]:
    """Return the maker of runs of one of scipy.signal's functions: for one plane, and it has no threads."""

    def make(p: ConvProblem, x: Array, w: Array, threads: int) -> Run | None:
        from scipy import signal  # noqa: PLC0415

        if p.ic != 1 or p.oc != 1 or threads != 1:
            return None
        flipped = w[0, 0, ::-1, ::-1]
        return lambda: np.asarray(getattr(signal, function)(x[0, 0], flipped, mode="valid"))[np.newaxis, np.newaxis]

    return make


PEERS = {"ducc0": ducc, "torch": torch_run, "cv2": opencv, "oaconvolve": scipy_run("oaconvolve"), "fftconvolve": scipy_run("fftconvolve")}


def fft_gflop(plan: Plan) -> float:
    """Return 10^9 flops of the transforms of a tile plan, 5 N log2 N each."""
    if not isinstance(plan, TilesPlan):
        return 0.0
    return plan.transforms() * 5 * plan.points() * math.log2(plan.points()) / 1e9


def measure(runs: dict[str, Run], seconds: float) -> dict[str, float]:
    """Return the best time of each, taking turns."""
    best: dict[str, float] = {}
    spent = dict.fromkeys(runs, 0.0)
    for _ in range(50):
        for name, run in runs.items():
            if spent[name] > seconds or best.get(name, 0.0) > SLOW_S:
                continue
            start = time.perf_counter()
            run()
            taken = time.perf_counter() - start
            spent[name] += taken
            best[name] = min(best.get(name, math.inf), taken)
    return best


def plans_for(p: ConvProblem, w: Array, threads: int) -> dict[str, Plan]:
    """Return the plans of the FFT rows and of those that FFT has to beat."""
    plans: dict[str, Plan] = {}
    for algorithm in TABLE:
        if algorithm.family not in {"fft", "direct", "winograd"} or algorithm.name == "direct:loops" or algorithm.refusal(p):
            continue
        if algorithm.accuracy == "fast" or (algorithm.family == "direct" and p.flops > MANY_FLOPS):
            continue
        if workspace_nbytes(algorithm, p, threads, None) is not None:
            plans[algorithm.name] = algorithm.make_plan(p, w, threads=threads)
    return plans


def arrays(p: ConvProblem) -> tuple[Array, Array]:
    """Return x and w."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(p.x_shape).astype(p.dtype), rng.standard_normal(p.w_shape).astype(p.dtype)


def compare(name: str, p: ConvProblem, threads: int, seconds: float, machine: Machine) -> str:
    """Return the table row of one case."""
    x, w = arrays(p)
    plans = plans_for(p, w, threads)
    out = np.empty(p.out_shape, p.dtype)
    runs: dict[str, Run] = {name: lambda plan=plan: plan(x, out=out) for name, plan in plans.items()}  # type: ignore[misc]
    peers = {peer: run for peer, make in PEERS.items() if (run := make(p, x, w, threads)) is not None}
    if p.ic == 1 and (p.flops > MANY_FLOPS or p.dtype == "float64"):
        peers.pop("torch", None)  # seconds
    first = next(iter(runs.values()))().copy()
    for run in (*runs.values(), *peers.values()):
        np.testing.assert_allclose(run(), first, atol=2e-3 * float(np.abs(first).max()))
    times = measure({**runs, **peers}, seconds)
    own = min((n for n in runs if n.startswith("fft")), key=times.__getitem__)
    rival = min(peers, key=times.__getitem__)
    others = {family: min((times[n] for n in runs if n.startswith(family)), default=None) for family in ("direct", "winograd")}
    (row,) = (a for a in TABLE if a.name == own)
    predicted = predicted_s(row.work(p, machine), p, machine, threads, is_prepared=True)
    rate, peak = fft_gflop(plans[own]) / times[own], machine.peak(p.dtype) * threads / 1e9
    columns = [
        name, str(threads), own, f"{times[own] * 1e3:.3f}", f"{p.flops / times[own] / 1e9:.0f}", f"{rate:.1f} ({rate / peak:.0%})",
        f"{predicted / times[own]:.2f}",
        *("" if t is None else f"{t * 1e3:.3f} ({t / times[own]:.2f})" for t in others.values()),
        f"{rival} {times[rival] * 1e3:.3f}", f"**{times[rival] / times[own]:.2f}**",
        *(f"{times[peer] * 1e3:.2f} ({times[peer] / times[own]:.1f})" if peer in times else "" for peer in PEERS), plans[own].description,
    ]  # fmt: skip
    return "| " + " | ".join(columns) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", nargs="+", default=[""])
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    cases = {name: p for name, p in CASES.items() if any(word in name for word in options.cases)}
    if options.compile:
        measured_rates()
        for p in cases.values():
            x, w = arrays(p)
            for plan in plans_for(p, w, 2).values():
                plan(x)
        return
    machine = machine_with(measured_rates())
    heads = [
        "case", "threads", "row", "ms", "effective GFLOP/s", "FFT GFLOP/s (of peak)", "model", "direct ms (ratio)", "winograd ms (ratio)",
        "best other ms", "ratio", *(f"{peer} ms (ratio)" for peer in PEERS), "plan",
    ]  # fmt: skip
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name, p in cases.items():
        for threads in options.threads:
            print(compare(name, p, threads, options.seconds, machine), flush=True)


if __name__ == "__main__":
    main()
