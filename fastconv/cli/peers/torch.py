"""torch: oneDNN behind `torch.nn.functional.conv2d`, on tensors that share the arrays' memory."""

from __future__ import annotations

import importlib
from typing import Any

from fastconv._typing import Array
from fastconv.cli.peers.base import Call, zeros_outside
from fastconv.problem import ConvProblem


def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Take the functional form without gradients."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    p, x = zeros_outside(p, x, is_even=True)
    source, weights = torch.from_numpy(x), torch.from_numpy(w)

    def call() -> Array:
        with torch.no_grad():
            found: Array = torch.nn.functional.conv2d(source, weights, None, (p.sh, p.sw), (p.ph_lo, p.pw_lo), (p.dh, p.dw), p.g).numpy()
        return found

    return call
