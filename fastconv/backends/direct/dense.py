"""direct:dense: implicit matrix product on generated micro-kernels, for every geometry."""

from __future__ import annotations

import functools

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, summation_bound, workspace_limit
from fastconv.errors import UnsupportedProblem
from fastconv.kernels import dense
from fastconv.kernels.dense_functions import functions
from fastconv.kernels.dense_layout import (
    DenseLayout,
    Geometry,
    channels_cost,
    make_layout,
    pack_bias,
    pack_weights,
    pixels_cost,
)
from fastconv.kernels.epilogue import activation_code
from fastconv.kernels.gemm import register_tile
from fastconv.kernels.threads import pool
from fastconv.machine import Machine
from fastconv.plans import Plan, address, element_strides
from fastconv.problem import ConvProblem

#: Cycles that a task and a tile of a micro-kernel take beside the products and the packing.
TASK_CYCLES = 3000.0
TILE_CYCLES = 45.0
#: Share of the memory traffic that does not hide behind the arithmetic. With these, predicted / measured time was 0.93 to
#: 1.1 over the dense layers of the benchmark suite.
SHOWN_TRAFFIC = 0.5
#: Layouts kept by a plan, one per set of strides of source, result and residual.
KEPT_LAYOUTS = 8


def geometry_of(problem: ConvProblem) -> Geometry:
    """Return the numbers of `problem`, channels per group."""
    p = problem
    return Geometry(
        p.mb, p.g, p.ic // p.g, p.oc // p.g, p.ih, p.iw, p.oh, p.ow, p.kh, p.kw, p.sh, p.sw, p.ph_lo, p.pw_lo, p.dh, p.dw,
        p.has_padding,
    )  # fmt: skip


class Dense(Algorithm):
    """Panels of the implicitly unrolled input times packed weights."""

    name = "direct:dense"
    rounding = "elementwise"
    dtypes = ("float32", "float64", "complex64", "complex128")
    summary = "register-tiled matrix product over an input unrolled panel by panel in cache"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for dtypes and borders that it does not compute, else None."""
        if problem.is_complex and problem.padding_value != 0:
            return f"it needs a padding value of 0 for complex dtypes, got {problem.padding_value}"
        return self.dtype_reason(problem)

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return the flops of the register tiles issued, with the time of packing and calls in the same unit."""
        p = real_problem(problem) if problem.is_complex else problem
        per_cycle, cycles, tasks = _modelled(p, machine.target.name)
        weights = p.w_nbytes
        return Work(
            flops=cycles * per_cycle,
            nbytes=SHOWN_TRAFFIC * (p.x_nbytes + p.out_nbytes * (2 if p.has_residual else 1) + weights),
            setup_flops=weights / p.itemsize * 2 * per_cycle / 4,
            setup_nbytes=2 * weights,
            parallelism=tasks,
        )

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the panels of the threads, and the parts of a complex problem; see `Algorithm.workspace_nbytes`."""
        p = real_problem(problem) if problem.is_complex else problem
        shared, limit = parts_nbytes(problem) if problem.is_complex else 0, workspace_limit(problem, max_workspace)
        nbytes = shared + threads * scratch_nbytes(p, threads)
        if nbytes > limit and threads > 1:
            threads = max(1, (limit - shared) // scratch_nbytes(p, threads))
            nbytes = shared + threads * scratch_nbytes(p, threads)
        return nbytes if nbytes <= limit else None

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return gamma_k * S elementwise."""
        return summation_bound(problem, x, w)

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Pack the weights for the design that the model finds faster."""
        kind = ComplexDensePlan if problem.is_complex else DensePlan
        plan = kind(self.name, problem, w, bias, threads)
        limit = workspace_limit(problem, max_workspace)
        if plan.workspace_nbytes > limit and threads > 1:
            spare = limit - plan.shared_nbytes
            plan = kind(self.name, problem, w, bias, max(1, spare // plan.per_thread_nbytes))
        if plan.workspace_nbytes > limit:
            raise UnsupportedProblem(
                f"backend {self.name!r} needs {plan.workspace_nbytes} bytes of workspace for {problem}, "
                f"but max_workspace is {limit}. Raise max_workspace or omit backend=."
            )
        return plan


@functools.lru_cache(maxsize=512)
def _modelled(problem: ConvProblem, target_name: str) -> tuple[float, float, int]:
    """Return (flops per cycle at the peak, modelled cycles, tasks of one thread)."""
    del target_name
    p = problem
    g = geometry_of(p)
    tile = register_tile(p.itemsize)
    lanes = tile.columns // tile.vectors
    layout = make_layout(g, p.itemsize, is_flat=True, is_channels_last=p.channels_last, reads_rows=not p.channels_last)
    pixels = g.oh * g.ow
    cost = pixels_cost if layout.is_pixels else channels_cost
    product = cost(pixels, g.oc, tile) * p.reduction
    blocks_of_k = -(-p.reduction // int(layout.fields[dense.KC]))
    tiles = -(-pixels * g.oc // (tile.rows * tile.columns)) * blocks_of_k
    cycles = p.mb * p.g * (product + tiles * TILE_CYCLES) + layout.tasks * TASK_CYCLES
    return 4.0 * lanes, cycles, max(1, layout.tasks)


@functools.lru_cache(maxsize=512)
def scratch_nbytes(problem: ConvProblem, threads: int) -> int:
    """Return the bytes of scratch that one of `threads` threads takes at most, whatever the arrays' strides."""
    g, p = geometry_of(problem), problem
    design = make_layout(
        g, p.itemsize, is_flat=True, is_channels_last=p.channels_last, reads_rows=not p.channels_last, threads=threads
    ).is_pixels
    return max(
        make_layout(
            g, p.itemsize, is_flat=flat, is_channels_last=last, reads_rows=rows, threads=threads, design=design
        ).workspace_nbytes_per_thread
        for flat in (True, False)
        for rows in (True, False)
        for last in ((False,) if design else (True, False))
    )


class DensePlan(Plan):
    """Weights packed for one design; tables for the strides of the arrays of a call."""

    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int) -> None:
        p = problem
        self._geometry = geometry_of(p)
        self._code, low, high = activation_code(p.activation)
        self._limits = np.array([low, high, p.padding_value.real], p.dtype)
        self._rows, self._columns = p.row_index(), p.col_index()
        self._threads = threads
        layout = make_layout(
            self._geometry, p.itemsize, is_flat=True, is_channels_last=p.channels_last, reads_rows=not p.channels_last,
            threads=threads,
        )  # fmt: skip
        self._is_pixels = layout.is_pixels
        self._functions = functions(p.dtype, is_pixels=layout.is_pixels)
        self._weights = pack_weights(layout, self._functions, w)
        self._bias = pack_bias(layout, bias, p.dtype)
        self._kept: dict[tuple[int, ...], tuple[DenseLayout, Array]] = {}
        #: Scratch of one thread, whatever the arrays' strides, and of the call as a whole.
        self.per_thread_nbytes = scratch_nbytes(p, threads)
        self.shared_nbytes = 0
        super().__init__(
            backend, p, threads=threads, workspace_nbytes=threads * self.per_thread_nbytes, packed_nbytes=self._weights.nbytes,
            description=f"{'pixels' if layout.is_pixels else 'channels'} in vectors, "
            f"{'read in place' if layout.in_place else 'strips'}, {layout.tasks} tasks",
        )  # fmt: skip

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute into `out`; a temporary array only where neither the pixels nor the channels of `out` are neighbours."""
        strides = _result_strides(out)
        if not self._can_store(strides):
            target = np.empty(out.shape, out.dtype)
            self.execute(x, residual, target)
            out[...] = target
            return
        added: tuple[int, ...] = (0, 0, 0, 0)
        if residual is not None:
            added = _result_strides(residual)
            # The kernel stores along the channels wherever they are neighbours, and reads the residual along the same axis.
            along = 1 if strides[1] == 1 and not self._is_pixels else 3
            if added[along] != 1:
                same_form = np.empty_like(out)
                same_form[...] = residual
                residual, added = same_form, _result_strides(same_form)
        x_strides = _source_strides(x)
        key = (*x_strides, *strides, *added)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= KEPT_LAYOUTS:
                self._kept.clear()
            kept = self._kept[key] = self._tables(x_strides, strides, added)
        layout, offsets = kept
        v = np.array((address(x), *x_strides, address(out), *strides, 0 if residual is None else address(residual), *added), np.int64)
        dense.dense(
            pool.handle(self._threads), self._threads, layout.tasks, self._functions, layout.fields, v, offsets, layout.tiles,
            self._rows, self._columns, layout.slots, address(self._weights), address(self._bias), address(self._limits),
        )  # fmt: skip

    def _can_store(self, strides: tuple[int, ...]) -> bool:
        return strides[3] == 1 or (strides[1] == 1 and not self._is_pixels)

    def _tables(self, x: tuple[int, ...], out: tuple[int, ...], residual: tuple[int, ...]) -> tuple[DenseLayout, Array]:
        g = self._geometry
        is_flat = g.oh == 1 or all(s[2] == g.ow * s[3] for s in (out, residual))
        layout = make_layout(
            g, self.problem.itemsize, is_flat=is_flat, is_channels_last=out[3] != 1, reads_rows=x[3] == 1,
            has_row_gaps=x[2] != g.iw * x[3], threads=self._threads, activation=self._code, design=self._is_pixels,
        )  # fmt: skip
        return layout, layout.offsets(x, g)


def real_problem(problem: ConvProblem) -> ConvProblem:
    """Return the real convolution that computes a complex one: real and imaginary parts as channels of their own."""
    p = problem
    real = {"complex64": "float32", "complex128": "float64"}[p.dtype]
    return p.replace(dtype=real, ic=2 * p.ic, oc=2 * p.oc, padding_value=0, channels_last=False)


def parts_nbytes(problem: ConvProblem) -> int:
    """Return the bytes of the real copies of a complex problem's arrays."""
    return problem.x_nbytes + problem.out_nbytes * (2 if problem.has_residual else 1)


class ComplexDensePlan(Plan):
    """Complex convolution as a real one with twice the channels: [re, im] of each group, four real products each.

    ``[y_re, y_im] = [[w_re, -w_im], [w_im, w_re]] * [x_re, x_im]`` in one pass, so each part is one sum.
    """

    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int) -> None:
        p = problem
        blocks = w.reshape(p.g, p.oc // p.g, p.ic // p.g, p.kh, p.kw)
        top = np.concatenate((blocks.real, -blocks.imag), axis=2)
        bottom = np.concatenate((blocks.imag, blocks.real), axis=2)
        real = real_problem(p)
        weights = np.concatenate((top, bottom), axis=1).reshape(real.w_shape)
        self._groups = p.g
        parts = None if bias is None else self._split(bias.reshape(1, -1, 1, 1)).reshape(-1)
        self._plan = DensePlan(backend, real, weights, parts, threads)
        self.per_thread_nbytes = self._plan.per_thread_nbytes
        self.shared_nbytes = parts_nbytes(p)
        super().__init__(
            backend, p, threads=threads, workspace_nbytes=self._plan.workspace_nbytes + self.shared_nbytes,
            packed_nbytes=self._plan.packed_nbytes, description=f"re and im as channels, {self._plan.description}",
        )  # fmt: skip

    def _split(self, array: Array) -> Array:
        """Return (N, C, H, W) complex as (N, 2C, H, W) real, group by group [re, im]."""
        n, c, h, w = array.shape
        groups = array.reshape(n, self._groups, -1, h, w)
        return np.concatenate((groups.real, groups.imag), axis=2).reshape(n, 2 * c, h, w)

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        """Compute through arrays of the parts."""
        p = self.problem
        parts = np.empty(self._plan.problem.out_shape, self._plan.problem.dtype)
        self._plan.execute(self._split(x), None if residual is None else self._split(residual), parts)
        groups = parts.reshape(p.mb, p.g, 2, p.oc // p.g, p.oh, p.ow)
        for group in range(p.g):
            here = slice(group * (p.oc // p.g), (group + 1) * (p.oc // p.g))
            out.real[:, here], out.imag[:, here] = groups[:, group, 0], groups[:, group, 1]


def _source_strides(array: Array) -> tuple[int, ...]:
    """Return the element strides, with those of axes of length 1 as they would be in a contiguous array."""
    sn, sc, sh, sw = element_strides(array)
    _, c, h, w = array.shape
    if w == 1:
        sw = 1
    if h == 1:
        sh = w * sw
    return (sn, 1 if c == 1 and sw != 1 else sc, sh, sw)


def _result_strides(array: Array) -> tuple[int, ...]:
    """Return the element strides, with those of axes of length 1 as the kernel's tests for neighbours like them."""
    sn, sc, sh, sw = element_strides(array)
    _, c, h, w = array.shape
    if w == 1:
        sw = sh if h > 1 else 1
    if h == 1:
        sh = w * sw
    if c == 1 and sw != 1:
        sc = 1
    return (sn, sc, sh, sw)
