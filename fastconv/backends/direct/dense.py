"""direct:dense: implicit matrix product on generated micro-kernels, for every geometry."""

from __future__ import annotations

import functools

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, summation_bound, workspace_limit
from fastconv.backends.direct.dense_plan import (
    DensePlan,
    geometry_of,
    parts_of,
    planned_layouts,
    real_dtype,
    scratch_nbytes,
)
from fastconv.errors import UnsupportedProblem
from fastconv.kernels import dense_fields
from fastconv.kernels.dense_cost import IMAGE_CYCLES, TASK_CYCLES, cycles
from fastconv.kernels.register_tile import register_tile
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import ConvProblem

#: Share of the memory traffic that does not hide behind the arithmetic. With these, predicted / measured time is 0.89 to
#: 1.15 over the dense layers of the benchmark suite (bench/direct_layers.py --dense --model).
SHOWN_TRAFFIC = 0.5
#: What a call does in Python, in calls into a kernel: tables looked up, a record of addresses and strides filled.
PYTHON_CALLS = 3


class Dense(Algorithm):
    """Panels of the implicitly unrolled input times packed weights."""

    name = "direct:dense"
    rounding = "elementwise"
    dtypes = ("float32", "float64", "complex64", "complex128")
    summary = "register-tiled matrix product over an input unrolled panel by panel in cache"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for dtypes and borders that it does not compute, else None."""
        return self.dtype_reason(problem)

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return the flops of the register tiles issued, with the time of packing and calls in the same unit."""
        p = problem
        per_cycle, amount = _modelled(p, machine.target.name)
        weights = parts_of(p) * p.w_nbytes
        return Work(
            flops=amount * per_cycle,
            nbytes=SHOWN_TRAFFIC * (p.x_nbytes + p.out_nbytes * (2 if p.has_residual else 1) + weights),
            calls=PYTHON_CALLS,
            setup_flops=weights / np.dtype(real_dtype(p)).itemsize * 2 * per_cycle / 4,
            setup_nbytes=2 * weights,
            parallelism=max(1, sum(layout.tasks for layout in planned_layouts(p, machine.cores))),
        )

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the scratch memory of the threads; see `Algorithm.workspace_nbytes`."""
        limit = workspace_limit(problem, max_workspace)
        nbytes = threads * scratch_nbytes(problem, threads)
        if nbytes > limit and threads > 1:
            threads = max(1, limit // scratch_nbytes(problem, threads))
            nbytes = threads * scratch_nbytes(problem, threads)
        return nbytes if nbytes <= limit else None

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return gamma_k * S elementwise."""
        return summation_bound(problem, x, w)

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Pack the weights for the design that the model finds faster."""
        plan = DensePlan(self.name, problem, w, bias, threads)
        limit = workspace_limit(problem, max_workspace)
        if plan.workspace_nbytes > limit and threads > 1:
            plan = DensePlan(self.name, problem, w, bias, max(1, limit // scratch_nbytes(problem, threads)))
        if plan.workspace_nbytes > limit:
            raise UnsupportedProblem(
                f"backend {self.name!r} needs {plan.workspace_nbytes} bytes of workspace for {problem}, "
                f"but max_workspace is {limit}. Raise max_workspace or omit backend=."
            )
        return plan


@functools.lru_cache(maxsize=512)
def _modelled(problem: ConvProblem, target_name: str) -> tuple[float, float]:
    """Return (flops per cycle at the peak, modelled cycles on one thread)."""
    del target_name
    p, parts = problem, parts_of(problem)
    g, itemsize = geometry_of(p), p.itemsize // parts
    tile = register_tile(itemsize)
    lanes = tile.columns // tile.vectors
    amount = 0.0
    for layout in planned_layouts(p, 1):
        r = g if layout.region is None else layout.region.geometry
        depth, pieces = r.ic * r.kh * r.kw, int(layout.fields[dense_fields.STEPS])
        images = int(layout.fields[dense_fields.IMAGES])
        block = cycles(images * r.oh * r.ow, r.oc, depth, pieces, tile, is_pixels=layout.is_pixels)
        amount += p.mb * p.g * (block / images + (IMAGE_CYCLES if images > 1 else 0.0)) + layout.tasks * TASK_CYCLES
        amount += p.mb * p.g * layout.fill_cycles
    return 4.0 * lanes, amount
