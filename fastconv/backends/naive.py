"""The definition in plain NumPy loops: the oracle's twin, for reading and for checking the others against."""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, pad, summation_bound
from fastconv.kernels.epilogue import apply_epilogue
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import DTYPES, ConvProblem


class Naive(Algorithm):
    """y[n, o, i, j] = sum over c, r, s of xp[n, c0(o) + c, i*sh + r*dh, j*sw + s*dw] * w[o, c, r, s]."""

    name = "naive"
    rounding = "elementwise"
    dtypes = DTYPES
    summary = "the definition in plain NumPy loops; computes everything, for teaching and checking"
    needs_compiler = False

    def why_not(self, problem: ConvProblem) -> str | None:  # noqa: ARG002  the last row supports everything
        """Return None: it computes every problem."""
        return None

    def work(self, problem: ConvProblem, machine: Machine) -> Work:  # noqa: ARG002
        """Return the definition's flops, one NumPy pass over the result per product, and its calls."""
        p = problem
        passes = p.oc * p.reduction
        return Work(flops=p.flops, nbytes=p.x_nbytes + 4.0 * p.out_nbytes * p.reduction, calls=3 * passes, parallelism=1)

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return 0: NumPy's temporaries are not counted."""
        del problem, threads, max_workspace
        return 0

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return gamma_k * S elementwise."""
        return summation_bound(problem, x, w)

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Keep a copy of the weights. It works in NumPy temporaries and on one thread, whatever is asked for."""
        del threads, max_workspace
        return _NaivePlan(self.name, problem, w, bias)


class _NaivePlan(Plan):
    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None) -> None:
        super().__init__(backend, problem, workspace_nbytes=0, packed_nbytes=w.nbytes)
        self._w = w
        self._bias = bias

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        p, w = self.problem, self._w
        compute = np.float32 if p.dtype == "float16" else np.dtype(p.dtype)
        padded = pad(p, x).astype(compute, copy=False)
        y = np.zeros(p.out_shape, compute)
        per_group = p.oc // p.g
        with np.errstate(all="ignore"):
            for o in range(p.oc):
                first = o // per_group * (p.ic // p.g)
                for c in range(p.ic // p.g):
                    for r in range(p.kh):
                        for s in range(p.kw):
                            rows = slice(r * p.dh, r * p.dh + (p.oh - 1) * p.sh + 1, p.sh)
                            cols = slice(s * p.dw, s * p.dw + (p.ow - 1) * p.sw + 1, p.sw)
                            y[:, o] += padded[:, first + c, rows, cols] * w[o, c, r, s].astype(compute)
            apply_epilogue(y, self._bias, residual, p.activation)
            out[...] = y


ALGORITHMS: tuple[Algorithm, ...] = (Naive(),)
