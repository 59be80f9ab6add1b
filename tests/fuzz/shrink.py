"""Make a failing case as small as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .case import DEFAULTS, Case

#: Attributes of the problem, and the value nearest to nothing.
_PLAIN = {
    "has_residual": False, "has_bias": False, "activation": None, "channels_last": False, "padding_mode": "zeros",
    "ph_lo": 0, "ph_hi": 0, "pw_lo": 0, "pw_hi": 0, "dh": 1, "dw": 1, "sh": 1, "sw": 1, "mb": 1,
}  # fmt: skip


def simpler(case: Case) -> Iterator[Case]:
    """Yield cases with one thing less; those that are no problem any more are passed over."""
    changes: list[dict[str, Any]] = [{name: value} for name, value in DEFAULTS.items() if name not in {"seed", "w_dtype"}]
    # With the seed go the checks that are made for a part of the cases.
    changes += [{"seed": seed} for seed in range(min(8, case.seed))] + [{"w_dtype": "same"}]
    p = case.problem
    changes += [{name: value} for name, value in _PLAIN.items()]
    if p.g > 1:
        changes += [{"g": 1, "ic": p.ic // p.g, "oc": p.oc // p.g}, {"g": 2, "ic": p.ic // p.g * 2, "oc": p.oc // p.g * 2}]
    for name, step in (("ic", p.g), ("oc", p.g), ("ih", 1), ("iw", 1), ("kh", 1), ("kw", 1), ("mb", 1)):
        value = getattr(p, name)
        changes += [{name: smaller} for smaller in (step, value // 2 // step * step, value - step) if 0 < smaller < value]
    for change in changes:
        if change.get("padding_mode") == "zeros":
            change["padding_value"] = 0
        try:
            candidate = case.replace(**change)
            _ = str(candidate)
        except (ValueError, TypeError):
            continue
        if candidate != case and not (candidate.out == "x" and candidate.problem.x_shape != candidate.problem.out_shape):
            yield candidate


def shrunk(case: Case, fails: Callable[[Case], bool], tries: int) -> Case:
    """Return the smallest case found with at most `tries` runs for which `fails` is still true."""
    progress = True
    while progress:
        progress = False
        for candidate in simpler(case):
            tries -= 1
            if tries < 0:
                return case
            if fails(candidate):
                case, progress = candidate, True
                break
    return case
