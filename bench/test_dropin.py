"""fastconv.signal, fastconv.ndimage and gradients against SciPy and torch: ratios within one run, alternating.

    python bench/test_dropin.py [--group NAME ...] [--json FILE] [--limit SECONDS]
    python -m pytest bench/test_dropin.py -n 0

Each case is checked, then timed in turns: theirs, ours, theirs, ... ; the medians are compared. A call of the other library
that takes a quarter of a second is made once; where it would take longer than the limit, it is timed on as many rows of the
image as fit and scaled ("~" in the table). With compiled kernels (``--warm`` makes them) a group takes two to four minutes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

import fastconv
import fastconv.ndimage
import fastconv.signal
from fastconv import grad

#: Below this time of the other library, a call's overhead decides.
TINY_S = 20e-6
#: Longest call of the other library that is made in full, about; slower ones see some rows of the image only.
LIMIT_S = 0.3
#: Calls of the other library that take longer are made once.
ONCE_S = 0.25


@dataclass(frozen=True)
class Case:
    """One call of both libraries.

    Attributes
    ----------
    group, name : str
    ours, theirs : callable
        Without arguments; return the result.
    tolerance : float
        Largest difference allowed, relative to the largest result.
    partial : callable, optional
        ``partial(share)`` makes the other library's call on about this share of the rows.
    macs : float
        Products of the definition, to guess the other library's time.
    """

    group: str
    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    tolerance: float
    partial: Callable[[float], Any] | None = None
    macs: float = 0.0


def random_array(shape: Any, dtype: str, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if kind == "c" else values).astype(dtype)


def tolerance(dtype: str) -> float:
    kind = np.dtype(dtype)
    return 0.0 if kind.kind in "iu" else 1e3 * float(np.finfo(kind).eps)


def correlate2d_cases() -> Iterator[Case]:
    for dtype in ("float32", "float64", "complex128", "int16"):
        for size in (256, 512, 1024, 2048, 4096):
            for k in (3, 5, 9, 15, 31, 63) if dtype == "float32" else (3, 9, 31, 63):
                yield image_case(dtype, size, k, "fill")
            if dtype in {"float32", "float64"} and size in {256, 1024, 4096}:
                for k, border in itertools.product((3, 15, 63) if size < 4096 else (3,), ("wrap", "symm")):
                    yield image_case(dtype, size, k, border)


def image_case(dtype: str, size: int, k: int, border: str) -> Case:
    def arrays() -> tuple[Any, Any]:
        return cached(size, dtype), kernel((k, k), dtype)

    def run(function: Callable[..., Any], rows: int | None = None) -> Any:
        x, w = arrays()
        return function(x[:rows], w, "same", border)

    return Case(
        "correlate2d", f"{dtype} {size}x{size} {k}x{k} {border}", lambda: run(fastconv.signal.correlate2d),
        lambda: run(scipy.signal.correlate2d),
        tolerance(dtype), lambda share: run(scipy.signal.correlate2d, max(k, int(size * share))), float(size * size * k * k),
    )  # fmt: skip


_images: dict[tuple[Any, str], Any] = {}


def cached(shape: Any, dtype: str) -> Any:
    """Return an array of `shape`, keeping only the last few."""
    if (shape, dtype) not in _images:
        if len(_images) > 2:
            _images.clear()
        _images[shape, dtype] = random_array((shape, shape) if isinstance(shape, int) else shape, dtype)
    return _images[shape, dtype]


def ndimage_cases() -> Iterator[Case]:
    for dtype in ("float32", "float64", "uint8"):
        for size in (256, 1024, 4096):
            for name, make in (
                ("correlate 3x3", lambda m, x: m.correlate(x, W[3])), ("correlate 7x7", lambda m, x: m.correlate(x, W[7])),
                ("correlate 15x15", lambda m, x: m.correlate(x, W[15])), ("correlate 31x31", lambda m, x: m.correlate(x, W[31])),
                ("gaussian 1", lambda m, x: m.gaussian_filter(x, 1)), ("gaussian 3", lambda m, x: m.gaussian_filter(x, 3)),
                ("gaussian 10", lambda m, x: m.gaussian_filter(x, 10)), ("uniform 3", lambda m, x: m.uniform_filter(x, 3)),
                ("uniform 15", lambda m, x: m.uniform_filter(x, 15)), ("sobel", lambda m, x: m.sobel(x, 0)), ("laplace", lambda m,
                x: m.laplace(x)),
                ("correlate1d 9 axis 0", lambda m, x: m.correlate1d(x, W[9][0], 0)), ("correlate1d 9 axis 1", lambda m,
                x: m.correlate1d(x, W[9][0], 1)),
                ("gaussian_laplace 2", lambda m, x: m.gaussian_laplace(x, 2)),
            ):  # fmt: skip
                if size == 4096 and name in {"correlate 31x31", "correlate 15x15"} and dtype == "uint8":
                    continue
                k = int(name.split("x")[-1]) if name.startswith("correlate ") else 0

                def run(module: Any, rows: int | None = None, make: Any = make, size: int = size, dtype: str = dtype) -> Any:
                    return make(module, cached(size, dtype)[:rows])

                yield Case(
                    "ndimage", f"{name} {dtype} {size}x{size}", lambda run=run: run(fastconv.ndimage),
                    lambda run=run: run(scipy.ndimage), tolerance(dtype),
                    lambda share, run=run, size=size, k=k: run(scipy.ndimage, max(k + 1, 16, int(size * share))),
                    float(size * size * k * k),
                )  # fmt: skip


@functools.cache
def kernel(shape: Any, dtype: str) -> Any:
    return random_array(shape, dtype, 1)


W = {k: np.random.default_rng(k).standard_normal((k, k)) / k for k in (3, 7, 9, 15, 31)}


def line_cases() -> Iterator[Case]:
    for dtype in ("float32", "float64", "complex128"):
        for n in (10**3, 10**4, 10**5, 10**6, 10**7):
            for k in (5, 31, 101, 1001, 10001, 100001):
                if k > n or (dtype == "complex128" and n == 10**7):
                    continue
                for name in ("convolve", "fftconvolve", "oaconvolve") if dtype == "float64" else ("convolve",):

                    def run(module: Any, name: str = name, n: int = n, k: int = k, dtype: str = dtype) -> Any:
                        return getattr(module, name)(cached((n,), dtype), kernel(k, dtype), "same")

                    yield Case(
                        "lines",
                        f"{name} {dtype} {n} {k}",
                        lambda run=run: run(fastconv.signal),
                        lambda run=run: run(scipy.signal),
                        50 * tolerance(dtype),
                    )


def gradient_cases() -> Iterator[Case]:
    """Forward and gradient passes against torch, float32, batch 1 and 16."""
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return
    torch.set_num_threads(fastconv.get_config().threads)
    functional, gradients = torch.nn.functional, torch.nn.grad
    for c, size, oc, k, s, p, groups, batch in (
        (64, 56, 64, 3, 1, 1, 1, 1), (64, 56, 64, 3, 1, 1, 1, 16), (256, 14, 256, 3, 1, 1, 1, 16), (64, 56, 256, 1, 1, 0, 1, 1), (128,
        56, 128, 3, 2, 1, 1, 1),
        (128, 56, 128, 3, 2, 1, 1, 8), (3, 224, 64, 7, 2, 3, 1, 1), (96, 56, 96, 3, 1, 1, 96, 4), (1, 28, 6, 5, 1, 2, 1, 64), (6, 14, 16,
        5, 1, 0, 1, 64),
        (64, 32, 32, 4, 2, 1, 1, 8),
    ):  # fmt: skip
        x, w = random_array((batch, c, size, size), "float32"), random_array((oc, c // groups, k, k), "float32", 1)
        tx, tw = torch.from_numpy(x), torch.from_numpy(w)
        words = (s, p, 1, groups)
        tg = functional.conv2d(tx, tw, None, *words).contiguous()
        g = tg.numpy()
        name = f"{c}-{oc}@{size} {k}x{k} s{s} g{groups} b{batch}"
        yield Case(
            "torch",
            f"forward {name}",
            lambda x=x, w=w, a=words: fastconv.conv2d(x, w, None, *a),
            lambda x=tx, w=tw, a=words: functional.conv2d(x, w, None, *a).numpy(),
            1e-4,
        )
        yield Case(
            "torch", f"input gradient {name}", lambda x=x, w=w, g=g, a=words: grad.conv2d_input(x.shape, w, g, *a),
            lambda x=tx, w=tw, g=tg, a=words: gradients.conv2d_input(x.shape, w, g, *a).numpy(), 1e-4,
        )  # fmt: skip
        yield Case(
            "torch", f"weight gradient {name}", lambda x=x, w=w, g=g, a=words: grad.conv2d_weight(x, w.shape, g, *a),
            lambda x=tx, w=tw, g=tg, a=words: gradients.conv2d_weight(x, w.shape, g, *a).numpy(), 1e-4,
        )  # fmt: skip
        if groups == 1 and k > 1:
            wt, twt = np.ascontiguousarray(w.swapaxes(0, 1)), tw.swapaxes(0, 1).contiguous()
            yield Case(
                "torch", f"transposed {name}", lambda x=x, w=wt, s=s, p=p: fastconv.conv_transpose2d(x, w, None, s, p),
                lambda x=tx, w=twt, s=s, p=p: functional.conv_transpose2d(x, w, None, s, p).numpy(), 1e-4,
            )  # fmt: skip
    for c, size, oc in ((1, 32, 8), (16, 24, 16)):
        x, w = random_array((1, c, size, size, size), "float32"), random_array((oc, c, 3, 3, 3), "float32", 1)
        tx, tw = torch.from_numpy(x), torch.from_numpy(w)
        yield Case(
            "torch",
            f"conv3d {c}-{oc}@{size}",
            lambda x=x, w=w: fastconv.conv3d(x, w, padding=1),
            lambda x=tx, w=tw: functional.conv3d(x, w, padding=1).numpy(),
            1e-4,
        )


GROUPS = {"correlate2d": correlate2d_cases, "ndimage": ndimage_cases, "lines": line_cases, "torch": gradient_cases}


#: How long the threads of another library may go on spinning after a call, on the core that the next one needs.
SPIN_S = 0.01


def timed(function: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def compare(case: Case, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Return {"ours_s", "theirs_s", "ratio", "is_scaled"} of a case, after checking its result."""
    mine = case.ours()
    share = min(1.0, limit_s / (case.macs * 1.5e-9)) if case.partial is not None and case.macs else 1.0
    is_scaled = share < 0.5
    theirs = functools.partial(case.partial, share) if is_scaled and case.partial is not None else case.theirs
    start = time.perf_counter()
    reference = theirs()
    once = time.perf_counter() - start
    scale = mine.shape[0] / reference.shape[0] if is_scaled else 1.0
    assert mine.dtype == reference.dtype
    largest = max(1.0, float(np.abs(mine).max()))
    if is_scaled:
        mine, reference = same_rows(case, mine, reference)
    assert mine.shape == reference.shape
    assert np.abs(mine - reference).max(initial=0) <= case.tolerance * largest, case.name
    mine_s, theirs_s = [], [once]
    if once < ONCE_S:
        inner = max(1, int(2e-4 / max(once, 1e-7)))
        theirs_s.clear()
        for _ in range(max(3, min(25, int(0.1 / max(once, 1e-6))))):
            for function, times in ((theirs, theirs_s), (case.ours, mine_s)):
                time.sleep(SPIN_S)
                function()  # untimed: caches, and threads that sleep now
                times.append(timed(function, inner))
    else:
        inner = 1
    mine_s.extend(timed(case.ours, inner) for _ in range(2))
    ours_s, other_s = statistics.median(mine_s), statistics.median(theirs_s) * scale
    return {"ours_s": ours_s, "theirs_s": other_s, "ratio": other_s / ours_s, "is_scaled": is_scaled}


def same_rows(case: Case, mine: Any, reference: Any) -> tuple[Any, Any]:
    """Return the rows of a full and of a partial result that see neither the cut nor, wrapped around, what lies behind it."""
    k = int(re.findall(r"(\d+)x\1", case.name)[-1 if case.group == "correlate2d" else 0])
    rows = slice(k if "wrap" in case.name else 0, max(0, reference.shape[0] - k))
    return mine[rows], reference[rows]


def cases() -> Iterator[Case]:
    for make in GROUPS.values():
        yield from make()


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: f"{case.group} {case.name}")
def test_no_case_is_slower(case: Case) -> None:
    found = compare(case)
    assert found["ratio"] >= 1 or found["theirs_s"] < TINY_S, found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="ratios of the other libraries' times to fastconv's")
    parser.add_argument("--group", nargs="*", choices=tuple(GROUPS), default=list(GROUPS))
    parser.add_argument("--match", default="", help="only cases whose names contain this")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="longest call of the other library made in full, in seconds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--budget", type=float, default=math.inf, help="stop after so many seconds")
    parser.add_argument("--warm", action="store_true", help="only make fastconv's calls once, so that a timing run finds compiled kernels")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many cases at the start")
    options = parser.parse_args(arguments)
    results, start = [], time.perf_counter()
    chosen = [case for group in options.group for case in GROUPS[group]() if options.match in case.name][options.skip :]
    if options.warm:
        for case in chosen:
            case.ours()
        return
    for position, case in enumerate(chosen):
        if time.perf_counter() - start > options.budget:
            print(f"stopped before case {options.skip + position} of {options.skip + len(chosen)}")
            break
        found = compare(case, options.limit)
        results.append({"group": case.group, "name": case.name, **found})
        mark = "~" if found["is_scaled"] else " "
        ours_ms, theirs_ms = found["ours_s"] * 1e3, found["theirs_s"] * 1e3
        line = f"{case.group:12} {case.name:44} ours {ours_ms:10.3f} ms  theirs {mark}{theirs_ms:10.3f} ms  {found['ratio']:8.2f}x"
        print(line, flush=True)
    if options.json:
        old = json.loads(options.json.read_text()) if options.json.exists() else []
        fresh = {(r["group"], r["name"]) for r in results}
        options.json.write_text(json.dumps([r for r in old if (r["group"], r["name"]) not in fresh] + results, indent=1))
    summarise(results)


def summarise(results: list[dict[str, Any]]) -> None:
    """Print geometric mean, smallest and largest ratio of each group and of all, and every case below 1."""
    for group in (*GROUPS, "all"):
        chosen = sorted((r for r in results if group in {r["group"], "all"}), key=lambda r: r["ratio"])
        if not chosen:
            continue
        mean = math.exp(sum(math.log(r["ratio"]) for r in chosen) / len(chosen))
        ends = [f"{r['ratio']:.2f} ({r['name']})" for r in (chosen[0], chosen[-1])]
        print(f"{group}: {len(chosen)} cases, geometric mean {mean:.1f}, smallest {ends[0]}, largest {ends[1]}")
    below = [r for r in results if r["ratio"] < 1]
    print(f"below 1: {len(below)} of {len(results)}")
    for r in below:
        print(f"  {r['group']} {r['name']}: {r['ratio']:.2f} ({r['theirs_s'] * 1e6:.0f} us in the other library)")


if __name__ == "__main__":
    main(sys.argv[1:])
