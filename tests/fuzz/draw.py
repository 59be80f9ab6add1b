"""Draw cases: skewed to few of the choices that machine code is compiled for, wide in all the others."""

# ruff: noqa: S311  the randomness is for variety
from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from cases import PROBLEMS
from fastconv.problem import ACTIVATIONS, ConvProblem
from strategies import COMPILED_PER_SHAPE, MODES

from .case import DATA, ROUTES, Case
from .check import ROWS

#: More products than this take the reference too long; the second number for one problem in `RARE`.
MOST_MACS, MORE_MACS, RARE = 60_000, 2_000_000, 50
#: The plain loops of Python take about a microsecond per tap and a nanosecond per product.
NAIVE_TAPS = 300
DTYPES = (
    *["float32"] * 12, *["float64"] * 6, *["float16"] * 2, "complex64", "complex128",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
KERNELS = (
    *[(3, 3)] * 8, *[(1, 1)] * 3, *[(5, 5)] * 3, (1, 3), (3, 1), (1, 5), (5, 1), (1, 7), (7, 1), (2, 2), (4, 4), (7, 7), (2, 3), (4, 1),
)  # fmt: skip
NARROWER = {
    "float64": ("float32", "int16"), "float32": ("float16", "int8"), "complex64": ("float32",), "complex128": ("float64", "complex64"),
    "int32": ("int16", "uint8"), "int64": ("int32",), "int16": ("uint8",), "uint16": ("uint8",),
}  # fmt: skip
AXES = ("nchw",) * 6 + ("nhwc",) * 3 + ("nwhc", "cnhw", "hwcn", "whcn", "nchw", "chwn")


#: Sets of arrays for each problem.
VARIATIONS = 4


def _few(rng: random.Random, most: int) -> int:
    """Return a number from 1 to `most`, mostly a small one."""
    return 1 + int(most * rng.random() ** 2.5)


def shape(rng: random.Random) -> dict[str, Any]:
    """Return the attributes of a problem that machine code may depend on, and its sizes."""
    pick = rng.choice
    kh, kw = pick(KERNELS) if rng.random() < 0.8 else (_few(rng, 12), _few(rng, 12))
    dtype = pick(DTYPES)
    sh, sw = pick(((1, 1),) * 8 + ((2, 2),) * 4 + ((1, 2), (2, 1), (3, 2), (4, 5)))
    dh, dw = pick(((1, 1),) * 10 + ((2, 2), (1, 2), (3, 1)))
    kind = rng.random()
    g = 1 if kind < 0.65 else rng.randint(2, 6)
    ic, oc = g * _few(rng, 12), g * _few(rng, 12)
    if kind > 0.85:
        ic, oc = g, g * pick((1, 1, 1, 2))
    elif kind < 0.15:
        ic, oc = pick(((1, 1), (1, oc), (3, oc), (ic, 1)))
    elif kind < 0.2:
        ic, oc = rng.randint(1, 70), rng.randint(1, 70)
    most = pick((8, 8, 14, 14, 30, 70))
    pads = [pick((0, 0, 1, 1, kh // 2, kw // 2, rng.randint(0, 6))) for _ in range(4)]
    if rng.random() < 0.5:
        pads = [kh // 2, kh // 2, kw // 2, kw // 2]
    found: dict[str, Any] = {
        "g": g, "ic": ic, "oc": oc, "kh": kh, "kw": kw, "sh": sh, "sw": sw, "dh": dh, "dw": dw, "dtype": dtype,
        "ph_lo": pads[0], "ph_hi": pads[1], "pw_lo": pads[2], "pw_hi": pads[3],
    }  # fmt: skip
    found["ih"] = max(1, dh * (kh - 1) + 1 - pads[0] - pads[1]) + int(most * rng.random())
    found["iw"] = max(1, dw * (kw - 1) + 1 - pads[2] - pads[3]) + int(most * rng.random())
    return found


def problem(rng: random.Random) -> ConvProblem:
    """Return a problem of any shape."""
    found = shape(rng)
    mode = rng.choice(MODES) if rng.random() < 0.5 else "zeros"
    found["padding_mode"] = mode
    if mode == "constant":
        found["padding_value"] = rng.choice((0, 1, 2, 3)) if found["dtype"].startswith("uint") else rng.choice((0, 1, -2, 0.5, -1.25))
        if "int" in found["dtype"]:
            found["padding_value"] = int(found["padding_value"])
    return ConvProblem(mb=rng.choice((0,) + (1,) * 12 + (2,) * 6 + (3, 5)), **found, **epilogue(rng, found["dtype"]))


def epilogue(rng: random.Random, dtype: str) -> dict[str, Any]:
    """Return what is added and applied last, and where the channels lie."""
    found: dict[str, Any] = {
        "has_bias": rng.random() < 0.35, "has_residual": rng.random() < 0.25, "channels_last": rng.random() < 0.25,
    }  # fmt: skip
    if rng.random() < 0.3 and not dtype.startswith("complex"):
        clamps = ((-1.0, 2.0), (0.0, 4.5), (-3.0, float("inf")))
        found["activation"] = rng.choice(("relu", "relu6", (-1, 3)) if "int" in dtype else (*ACTIVATIONS, *clamps))
    return found


def templates(count: int) -> list[ConvProblem]:
    """Return problems for the algorithms whose code is made per shape: those of the tests, and `count` drawn ones."""
    known = [p for p in PROBLEMS.values() if p.mb and p.macs <= MOST_MACS and (p.dtype == "float32")]
    drawn: list[ConvProblem] = []
    for k in range(count):
        rng = random.Random(k)
        while len(drawn) <= k:
            found = shape(rng)
            candidate = ConvProblem(mb=1, **found, **epilogue(rng, found["dtype"]))
            fits = candidate.macs <= MOST_MACS and candidate.dtype in {"float32", "float64"}
            if fits and any(ROWS[name].refusal(candidate) is None for name in COMPILED_PER_SHAPE):
                drawn.append(candidate)
    return known + drawn


def varied(rng: random.Random, template: ConvProblem) -> ConvProblem:
    """Return a problem for which the code of `template` serves: other heights, batches, borders above and below."""
    p = template
    span = p.dh * (p.kh - 1) + 1
    above, below = rng.choice((p.ph_lo, 0, 1, rng.randint(0, 4))), rng.choice((p.ph_hi, 0, 1, rng.randint(0, 4)))
    # The register tile depends on the rows of the result where they are few.
    height = max(1, span - above - below) + rng.choice((max(0, p.ih - span), rng.randint(8, 20)))
    return p.replace(mb=rng.choice((1, 1, 1, 2, 3)), ih=height, ph_lo=above, ph_hi=below)


def layout(rng: random.Random, *, written: bool = False, plain: bool = False) -> str:
    """Return a layout of an array with four axes."""
    if plain or rng.random() < 0.35:
        return "nchw"
    word = ""
    for letter in rng.choice(AXES):
        choice = rng.random()
        word += letter.upper() if choice < 0.15 else letter
        gap = rng.random()
        word += str(rng.randint(1, 3)) if gap < 0.15 else "~" if gap < 0.18 else "*" if gap < 0.23 and not written else ""
    if rng.random() < 0.15:
        word += f"+{rng.randint(1, 9)}"
    return word if written or rng.random() < 0.9 else word + "!"


def _padding_word(rng: random.Random, p: ConvProblem) -> tuple[ConvProblem, str]:
    """Return the problem with the pads that a word stands for."""
    word = rng.choice(("valid", "same", "same_upper", "same_lower", "full"))
    pads = []
    for n, k, s, d in ((p.ih, p.kh, p.sh, p.dh), (p.iw, p.kw, p.sw, p.dw)):
        span = d * (k - 1) + 1
        total = {"valid": 0, "full": 2 * (span - 1)}.get(word, max(0, (-(-n // s) - 1) * s + span - n))
        less, more = total // 2, total - total // 2
        pads += [more, less] if word == "same_lower" else [less, more]
    return p.replace(ph_lo=pads[0], ph_hi=pads[1], pw_lo=pads[2], pw_hi=pads[3]), word


def group(rng: random.Random, palette: list[ConvProblem]) -> Iterator[Case]:
    """Yield one problem on every algorithm that accepts it."""
    most = MORE_MACS if rng.random() * RARE < 1 else MOST_MACS
    is_templated = rng.random() < 0.3
    while True:
        # The first templates come up most.
        p = varied(rng, palette[int(len(palette) * rng.random() ** 2)]) if is_templated else problem(rng)
        if p.macs <= most and p.out_nbytes < 2**20 and p.x_nbytes < 2**20:
            break
    form = "batched"
    if rng.random() < 0.2 and p.mb == 1:
        form = "single"
    elif p.kh == p.sh == 1 and p.dh == 1 and rng.random() < 0.5:
        form, p = "line", p.replace(ih=1, ph_lo=0, ph_hi=0)
    padding = "numbers"
    if rng.random() < 0.1 and not is_templated and form != "line":
        try:
            p, padding = _padding_word(rng, p)
        except ValueError:  # the kernel does not fit
            padding = "numbers"
    rows = [
        row.name
        for row in ROWS.values()
        if (is_templated or row.name not in COMPILED_PER_SHAPE)
        and (row.name != "naive" or p.oc * p.reduction <= NAIVE_TAPS)
        and row.refusal(p) is None
    ]
    # What follows from a problem alone is computed once: several sets of arrays for each.
    for _ in range(VARIATIONS):
        base = Case(p, "", seed=rng.getrandbits(31), side=rng.choice(("behind", "before")), form=form, padding=padding, **arrays(rng, p))
        public = padding != "numbers" or form != "batched" or rng.random() < 0.2
        if public and rng.random() < 0.15:
            # Magnitudes that integers do not have stay out of it.
            base = base.replace(w_dtype=rng.choice(NARROWER.get(p.dtype, ("same",))), data=rng.choice(("integers", "normal")))
        in_place = p.x_shape == p.out_shape and not set("*!+~") & set(base.x) and p.mb > 0
        for name in rows:
            out = layout(rng, written=True) if rng.random() < 0.7 else "none"
            yield base.replace(
                algorithm=name,
                route=rng.choice(("plan", "conv2d") if form == "line" else ROUTES[1:]) if public else "row",
                threads=rng.choice((1, 1, 1, 2, 2, 3, 8)) if rng.random() < 0.5 else 1,
                out="x" if in_place and rng.random() < 0.1 else out,
                flip=int(public and rng.random() < 0.2),
            )


def arrays(rng: random.Random, p: ConvProblem) -> dict[str, Any]:
    """Return what the arrays hold and how they lie in memory."""
    plain = rng.random() < 0.3
    return {
        "data": rng.choice(DATA) if rng.random() < 0.6 else "normal",
        "x": layout(rng, plain=plain),
        "w": layout(rng, plain=plain),
        "residual": layout(rng, plain=plain) if p.has_residual else "nchw",
        "bias": rng.choice(("c", "c", "C", "c2", "c*", "c+1")) if p.has_bias else "c",
    }
