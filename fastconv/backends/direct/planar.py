"""direct:depthwise, direct:grouped and direct:planar: few channels per output, on kernels that tile rows."""

from __future__ import annotations

import functools

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, summation_bound, workspace_limit
from fastconv.backends.direct import channels
from fastconv.backends.direct.planar_plan import PlanarPlan, planar_layout
from fastconv.backends.direct.separable import separable_plan
from fastconv.errors import UnsupportedProblem
from fastconv.kernels.planar_spec import RESULT, SOURCE
from fastconv.kernels.target import host
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import DTYPES, ConvProblem

#: Channels per group up to which a tile of whole rows competes with a matrix product.
FEW_CHANNELS = 4
#: Share of the FMA peak of a register tile's inner loop, and cycles beside it per vector of results: between what ``python
#: bench/fit_model.py direct.planar INNER_EFFICIENCY,VECTOR_CYCLES,ROW_CYCLES`` finds with AVX-512 and what held on AVX2.
INNER_EFFICIENCY = 0.93
VECTOR_CYCLES = 1.0
#: The same loop with rows of stride 2 taken apart in registers.
DEINTERLEAVE_EFFICIENCY = 0.42
#: Time of a vector's product and sum of integers of so many bytes, in fused multiply-adds: times of layers in these dtypes.
INTEGER_PRODUCT = {1: 4.0, 2: 1.5, 4: 1.5, 8: 2.0}
#: Cycles to pack a vector of a source row, by whole vectors and by single elements.
PACK_CYCLES, PACK_ELEMENT_CYCLES = 1.5, 3.0
#: Cycles to turn a vector of a channels-last array.
TURN_CYCLES = 8.0
#: Bytes of channels-last arrays that move behind a cycle of arithmetic, and the share of them that is waited for at least: times of
#: ``python bench/direct_layers.py --model --nhwc``.
HIDDEN_NBYTES, SHOWN_SHARE = 8.0, 0.2
#: Cycles per row of the result beside its vectors, and per plane.
ROW_CYCLES = 4.0
PLANE_CYCLES = 60.0
#: Cycles of a small plane beside its products, and products of strided ones, whose vectors are shuffled, in others: times of layers of
#: 7x7 and 14x14 pixels with AVX-512.
SMALL_PLANE_CYCLES = 36.0
SHUFFLED_PRODUCT = 3.0
#: What a call does in Python, in calls into a kernel: geometry looked up, arrays described. Least times of bench/regret.py --random.
PYTHON_CALLS = 2


class PlanarAlgorithm(Algorithm):
    """What the three rows share: sums of shifted source rows, a register tile of rows and vectors at a time."""

    rounding = "elementwise"
    dtypes = tuple(name for name in DTYPES if name != "float16")

    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return the cycles of the register tiles, borders and packing included, as flops at the peak."""
        if channels.computes(problem):
            return _channels_work(problem)
        per_cycle, cycles, tasks = _modelled(problem, machine.target.name)
        p = problem
        nbytes = p.x_nbytes + p.out_nbytes * (2 if p.has_residual else 1)
        return Work(
            flops=cycles * per_cycle,
            nbytes=nbytes,
            calls=PYTHON_CALLS,
            setup_nbytes=2 * p.w_nbytes,
            parallelism=tasks,
        )

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the packed strips of the threads; kernels of rank 1 take other scratch. See `Algorithm.workspace_nbytes`."""
        if channels.computes(problem):
            return 0
        needed, limit = planar_layout(problem).packed_nbytes, workspace_limit(problem, max_workspace)
        if needed > limit:
            return None
        return needed * min(threads, limit // needed) if needed else 0

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return gamma_k * S elementwise."""
        return summation_bound(problem, x, w)

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Pack the weights output channels innermost; kernels of rank 1 become two passes, as the plan's description says.

        Layers of few inputs per output in channels-last arrays are read and written where they lie.
        """
        if channels.computes(problem):
            return channels.ChannelsPlan(self.name, problem, w, bias, threads)
        limit = workspace_limit(problem, max_workspace)
        separable = separable_plan(self.name, problem, w, bias, threads)
        if separable is not None and separable.workspace_nbytes <= limit:
            return separable
        needed = planar_layout(problem).packed_nbytes
        if needed > limit:
            raise UnsupportedProblem(
                f"backend {self.name!r} needs {needed} bytes of workspace for {problem}, "
                f"but max_workspace is {limit}. Raise max_workspace or omit backend=."
            )
        return PlanarPlan(self.name, problem, w, bias, min(threads, limit // needed) if needed else threads)


class Depthwise(PlanarAlgorithm):
    """Each input channel has its own output channels."""

    name = "direct:depthwise"
    summary = "depthwise layers: rows of each channel in register tiles, read in place"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason unless each input channel is a group of its own."""
        p = problem
        if not p.is_depthwise:
            return f"it needs one input channel per group and several groups, got groups = {p.g} with {p.ic} input channels"
        return self.dtype_reason(p)


class Grouped(PlanarAlgorithm):
    """Groups too narrow for a matrix product."""

    name = "direct:grouped"
    summary = "grouped layers with few channels per group: several output channels share each source vector"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason unless there are groups of 2 to 16 input channels; integers have no matrix product, so any number will do."""
        p = problem
        most = p.ic if p.is_integer else 4 * FEW_CHANNELS
        if p.g == 1 or not 1 < p.ic // p.g <= most:
            return f"it needs several groups of 2 to {most} input channels, got groups = {p.g} with {p.ic} input channels"
        return self.dtype_reason(p)


class Planar(PlanarAlgorithm):
    """Single-channel images, first layers, layers that end in a few channels."""

    name = "direct:planar"
    summary = "images and layers with few input or output channels: register tiles of rows, read in place"

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason unless there is one group with few input or output channels, of integers any number."""
        p = problem
        if p.g != 1 or (not p.is_integer and min(p.ic, p.oc) > FEW_CHANNELS and max(p.ic, p.oc) > 4 * FEW_CHANNELS):
            return (
                f"it needs one group and at most {FEW_CHANNELS} input or output channels (or at most {4 * FEW_CHANNELS} of both), "
                f"got groups = {p.g}, {p.ic} -> {p.oc} channels"
            )
        return self.dtype_reason(p)


def _channels_work(problem: ConvProblem) -> Work:
    """Return the cycles of the tiles of pixels of channels-last arrays."""
    p, layout = problem, channels.ChannelsLayout(problem)
    cycles = p.mb * len(layout.starts) * -(-p.oh // layout.spec.r) * layout.tiles * layout.tile_cycles / INNER_EFFICIENCY
    moved = p.x_nbytes + p.out_nbytes * (2 if p.has_residual else 1)
    nbytes = max(SHOWN_SHARE * moved, moved - HIDDEN_NBYTES * cycles)
    return Work(
        flops=cycles * 4.0 * layout.lanes,
        nbytes=nbytes,
        calls=PYTHON_CALLS,
        setup_nbytes=2 * p.w_nbytes,
        parallelism=p.mb * layout.strips * layout.chunks,
    )


@functools.lru_cache(maxsize=512)
def _modelled(problem: ConvProblem, target_name: str) -> tuple[float, float, int]:
    """Return (flops per cycle at the peak, modelled cycles, number of tasks)."""
    del target_name
    p, layout = problem, planar_layout(problem)
    c, lanes, mo = layout.columns, layout.lanes, layout.tile.mo
    vectors = 1 if c.tail else c.tiles * c.v + c.rest + (2 if c.border == 2 else 0)
    rows = -(-p.oh // layout.tile.r) * layout.tile.r
    efficiency = DEINTERLEAVE_EFFICIENCY if layout.spec.deinterleaves else INNER_EFFICIENCY
    # Few independent sums leave the FMA units waiting; a single row or vector of narrow rows has no more.
    sums = min(12, mo * layout.tile.r * c.v)
    efficiency *= min(1.0, (sums + 4) / 12)
    if p.is_integer:
        efficiency /= INTEGER_PRODUCT[p.itemsize]
    per_vector = layout.parts * p.reduction / 2 / efficiency + (TURN_CYCLES if layout.turns & RESULT else VECTOR_CYCLES)
    cycles = layout.parts * p.oc * rows * (vectors * per_vector + ROW_CYCLES / mo) + layout.planes * PLANE_CYCLES
    if layout.small is not None:
        product = (1.0 if layout.small.by_columns else SHUFFLED_PRODUCT) / 2 * (INTEGER_PRODUCT[p.itemsize] if p.is_integer else 1.0)
        cycles = p.oc * (layout.small.products(lanes) * product + SMALL_PLANE_CYCLES)
    elif not layout.is_in_place:
        by_vectors = TURN_CYCLES if layout.turns & SOURCE else PACK_CYCLES if p.sw <= 2 else lanes * PACK_ELEMENT_CYCLES
        width = p.iw / lanes * by_vectors
        margins = len(layout.margins) * PACK_ELEMENT_CYCLES
        cycles += layout.parts * p.ic * layout.strips * layout.strip_rows * (width + margins + 8)
    # Integers are measured by the peak of float64.
    return 4.0 * (host().lanes(8) if p.is_integer else lanes), p.mb * cycles, p.mb * layout.chunks * layout.strips


ALGORITHMS: tuple[Algorithm, ...] = (Depthwise(), Grouped(), Planar())
