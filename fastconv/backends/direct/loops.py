"""direct:loops, the general row: plain loops compiled by LLVM, for every dtype and geometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, summation_bound
from fastconv.errors import UnsupportedProblem
from fastconv.kernels import loops
from fastconv.kernels.epilogue import apply_epilogue
from fastconv.kernels.threads import pool
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import DTYPES, ConvProblem

#: A task covers about this many products, so that the cost of starting it does not show.
TASK_MACS = 200_000
#: Share of the FMA peak that vectorised loops over rows reach (loads bound them, two per product), and what one
#: tap of one row costs besides, in flops at the peak: ``pytest bench/test_layers.py -k loops`` shows both.
LOOPS_EFFICIENCY = 0.16
TAP_FLOPS = 3000
#: What a call does in Python, in calls into a kernel: Numba takes the arrays apart. Least times of bench/regret.py --random.
PYTHON_CALLS = 10


class Loops(Algorithm):
    """Row by row: for each tap, a shifted source row times a scalar is added to the output row."""

    name = "direct:loops"
    rounding = "elementwise"
    dtypes = tuple(name for name in DTYPES if name != "float16")
    summary = "compiled loops over output rows; every dtype and geometry, integers exactly"
    needs_compiler = False

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for dtypes that it leaves to a conversion, else None."""
        return self.dtype_reason(problem)

    def work(self, problem: ConvProblem, machine: Machine) -> Work:  # noqa: ARG002
        """Return the definition's flops at the rate of loops that load each operand."""
        p = problem
        taps = p.mb * p.oc * p.oh * p.reduction
        tasks = p.mb * p.oc * -(-p.oh // _block(p))
        return Work(
            flops=p.flops / LOOPS_EFFICIENCY + TAP_FLOPS * taps, nbytes=p.x_nbytes + p.out_nbytes, calls=PYTHON_CALLS, parallelism=tasks
        )

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return a row of sums per thread; see `Algorithm.workspace_nbytes`."""
        row = problem.ow * _accumulator(problem).itemsize
        if max_workspace is not None and row:
            threads = min(threads, max_workspace // row)
        return threads * row if threads else None

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return gamma_k * S elementwise."""
        return summation_bound(problem, x, w)

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Copy the weights; scratch is one row per thread, so a tight workspace leaves fewer threads."""
        row = problem.ow * _accumulator(problem).itemsize
        if max_workspace is not None and row:
            if row > max_workspace:
                raise UnsupportedProblem(
                    f"backend {self.name!r} needs {row} bytes of workspace for {problem}, "
                    f"but max_workspace is {max_workspace}. Raise max_workspace or omit backend=."
                )
            threads = min(threads, max_workspace // row)
        return _LoopsPlan(self.name, problem, w, bias, threads)


def _accumulator(problem: ConvProblem) -> np.dtype[Any]:
    """Return the dtype that sums are kept in: 64 bits for integers."""
    return np.dtype({"i": np.int64, "u": np.uint64}.get(np.dtype(problem.dtype).kind, problem.dtype))


def _block(problem: ConvProblem) -> int:
    """Return the rows of the result that make a task."""
    return max(1, min(problem.oh, TASK_MACS // max(1, problem.ow * problem.reduction)))


class _LoopsPlan(Plan):
    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int) -> None:
        p = problem
        accumulator = _accumulator(p)
        super().__init__(backend, p, threads=threads, workspace_nbytes=threads * p.ow * accumulator.itemsize, packed_nbytes=w.nbytes)
        self._w = w.copy(order="C")
        self._bias = None if bias is None else bias.copy()
        self._rows, self._cols = p.row_index(), p.col_index()
        self._zero = np.zeros(0, accumulator)
        self._fill = np.asarray(p.padding_value, accumulator)[()]
        self._geometry = (p.ic // p.g, p.oc // p.g, p.sh, p.sw, p.dh, p.dw, p.pw_lo, p.iw)
        self._block = _block(p)

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        p = self.problem
        src = x if x.flags.c_contiguous and x.flags.writeable else x.copy(order="C")
        dst = out if out.flags.c_contiguous else np.empty(p.out_shape, p.dtype)
        loops.conv(
            pool.handle(self.threads), self.threads, src, self._w, dst, self._rows, self._cols,
            self._geometry, self._fill, self._zero, self._block,
        )  # fmt: skip
        with np.errstate(all="ignore"):
            apply_epilogue(dst, self._bias, residual, p.activation)
        if dst is not out:
            out[...] = dst
