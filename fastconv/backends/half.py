"""float16 for algorithms that do not store it themselves: computed by their float32 plan, on float32 copies."""

from __future__ import annotations

import numpy as np

from fastconv._typing import Array
from fastconv.kernels.half import to_half, to_single
from fastconv.plans import Plan
from fastconv.problem import ConvProblem


def copies_nbytes(problem: ConvProblem) -> int:
    """Return the bytes of the float32 copies of a float16 problem's arrays."""
    return 2 * (problem.x_nbytes + problem.out_nbytes * (2 if problem.has_residual else 1))


class HalfPlan(Plan):
    """A float16 problem computed by a float32 plan, on float32 copies of source and result."""

    def __init__(self, problem: ConvProblem, inner: Plan) -> None:
        self._inner = inner
        super().__init__(
            inner.backend,
            problem,
            threads=inner.threads,
            workspace_nbytes=inner.workspace_nbytes + copies_nbytes(problem),
            packed_nbytes=inner.packed_nbytes,
            description=f"through float32; {inner.description}",
        )

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Convert, run the float32 plan, round."""
        result = np.empty_like(out, np.float32)
        added = None if residual is None else to_single(residual, self.threads)
        self._inner.execute(to_single(x, self.threads), added, result)
        to_half(result, out, self.threads)
