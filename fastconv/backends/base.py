"""What every algorithm says about itself. One row of the table in `fastconv.backends` is one `Algorithm`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba.core import config

from fastconv._typing import Accuracy, Array, Rounding
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import ConvProblem

#: Workspace that a plan may book by default: this much, or a tenth of source and result if that is more.
DEFAULT_WORKSPACE_NBYTES = 64 * 2**20
DEFAULT_WORKSPACE_SHARE = 0.1


@dataclass(frozen=True)
class Work:
    """What an algorithm does for one problem; feeds the cost model, ``explain`` and the roofline.

    Attributes
    ----------
    flops : float
        Floating-point operations that it issues, lanes that are thrown away included, in units that run at the
        machine's FMA peak (an operation that runs at half the peak counts twice).
    nbytes : float
        Bytes moved to and from memory or the last-level cache, beyond what hides behind the arithmetic.
    streamed_nbytes : float
        Bytes that each call reads once and in order while it computes, such as transformed weights: they are waited for where
        reading takes longer than the arithmetic.
    calls : int
        Calls into kernels from Python.
    setup_flops, setup_nbytes : float
        The same for making the plan (packing or transforming weights): paid once, or by each one-shot call.
    parallelism : int
        Independent pieces of work: more threads than this do not help.
    """

    flops: float
    nbytes: float
    streamed_nbytes: float = 0.0
    calls: int = 1
    setup_flops: float = 0.0
    setup_nbytes: float = 0.0
    parallelism: int = 1 << 30


class Algorithm(ABC):
    """One way to compute a convolution.

    Attributes
    ----------
    name : str
        "family" or "family:variant".
    rounding : {"elementwise", "tilewise", "normwise"}
        Whether an output's error is bounded by its own products, by its tile, or by a norm over a tile.
    accuracy : {"strict", "standard", "fast"}
        The strictest mode in which it may be chosen for any problem without being named; see `accuracy_for`.
    dtypes : tuple of str
        What it computes natively. A float16 problem is computed through float32 where "float16" is missing.
    summary : str
        One line for tables and the documentation.
    needs_compiler : bool
        Whether its kernels are generated machine code, which ``NUMBA_DISABLE_JIT=1`` leaves out.
    """

    name: ClassVar[str]
    rounding: ClassVar[Rounding]
    accuracy: ClassVar[Accuracy] = "strict"
    dtypes: ClassVar[tuple[str, ...]]
    summary: ClassVar[str]
    needs_compiler: ClassVar[bool] = True

    @property
    def family(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]

    def accuracy_for(self, problem: ConvProblem) -> Accuracy:  # noqa: ARG002  for those whose errors depend on it
        """Return the strictest mode in which it may be chosen for `problem`: `accuracy`, unless it errs less there."""
        return self.accuracy

    def refusal(self, problem: ConvProblem) -> str | None:
        """Return None if it can compute `problem` in this process, else the reason."""
        if self.needs_compiler and config.DISABLE_JIT:
            return "it needs a compiler, but NUMBA_DISABLE_JIT is set"
        return self.why_not(self.computed(problem))

    @abstractmethod
    def why_not(self, problem: ConvProblem) -> str | None:
        """Return None if it can compute `problem`, else the reason: "it needs ..., got ..."."""

    @abstractmethod
    def work(self, problem: ConvProblem, machine: Machine) -> Work:
        """Return what computing `problem` takes; only called where `why_not` is None."""

    def remark(self, problem: ConvProblem) -> str:  # noqa: ARG002
        """Return the line that `explain` shows: what it is, or what it would do for `problem`; only called where `why_not` is None."""
        return self.summary

    @abstractmethod
    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the bytes of workspace that `make_plan` books with these arguments, None if it raises for want of them.

        Only called where `why_not` is None; nothing is packed or compiled.
        """

    @abstractmethod
    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return a bound on abs(y - exact) per output element, before bias and activation.

        Parameters
        ----------
        x : ndarray of shape (N, IC, IH, IW)
        w : ndarray of shape (OC, IC/G, KH, KW)

        Returns
        -------
        ndarray of shape (N, OC, OH, OW), float64
        """

    @abstractmethod
    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Pack the weights and book the workspace.

        Parameters
        ----------
        problem : ConvProblem
            One that `why_not` accepts.
        w : ndarray of shape (OC, IC/G, KH, KW)
            Any strides; of the problem's dtype. The plan may keep it: nobody changes it while the plan lives.
        bias : ndarray of shape (OC,), optional
            Given exactly if ``problem.has_bias``; the plan may keep it too.
        threads : int
            Threads that a call may use.
        max_workspace : int, optional
            Bytes of scratch memory that a call may take; None = 64 MiB or a tenth of source and result.

        Raises
        ------
        UnsupportedProblem
            If it cannot work within `max_workspace`.
        """

    def computed(self, problem: ConvProblem) -> ConvProblem:
        """Return the problem that it really computes: in float32 where it does not store float16 itself."""
        if problem.dtype == "float16" and "float16" not in self.dtypes:
            return problem.replace(dtype="float32")
        return problem

    def dtype_reason(self, problem: ConvProblem) -> str | None:
        """Return the reason if the problem's dtype is not one of `dtypes`, else None."""
        if problem.dtype in self.dtypes:
            return None
        return f"it needs {' or '.join(self.dtypes)}, got {problem.dtype}"


def workspace_limit(problem: ConvProblem, max_workspace: int | None) -> int:
    """Return the bytes of workspace that a plan for `problem` may book."""
    if max_workspace is not None:
        return max_workspace
    return max(DEFAULT_WORKSPACE_NBYTES, int(DEFAULT_WORKSPACE_SHARE * (problem.x_nbytes + problem.out_nbytes)))


def unit_roundoff(dtype: str) -> float:
    """Return u of the arithmetic behind `dtype` (that of the parts for complex; 0 for integers)."""
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    return 0.0 if np.dtype(real).kind in "iu" else float(np.finfo(real).eps) / 2


def gamma(k: float, u: float) -> float:
    """Return gamma_k = k*u / (1 - k*u), Higham's constant for k rounded operations; infinite where k*u >= 1."""
    return k * u / (1 - k * u) if k * u < 1 else float("inf")


def absolute_sum(problem: ConvProblem, x: Array, w: Array) -> Array:
    """Return S = sum |x||w| per output element in float64: what rounding errors of a summation scale with.

    Complex magnitudes count each part by the modulus, which bounds both.
    """
    padded = abs_padded(problem, x)
    weights = np.abs(w).astype(np.float64)
    p, per_group = problem, problem.oc // problem.g
    total = np.zeros(p.out_shape)
    for o in range(p.oc):
        first = o // per_group * (p.ic // p.g)
        for c, r, s in np.ndindex(*p.w_shape[1:]):
            rows = slice(r * p.dh, r * p.dh + (p.oh - 1) * p.sh + 1, p.sh)
            cols = slice(s * p.dw, s * p.dw + (p.ow - 1) * p.sw + 1, p.sw)
            total[:, o] += padded[:, first + c, rows, cols] * weights[o, c, r, s]
    return total


def abs_padded(problem: ConvProblem, x: Array) -> Array:
    """Return |x| with its padding, in float64."""
    return np.abs(pad(problem, x)).astype(np.float64)


def pad(problem: ConvProblem, x: Array) -> Array:
    """Return a padded copy of `x`: for references and bounds, never on a fast path."""
    rows, cols = problem.row_index(), problem.col_index()
    padded = x[:, :, rows][:, :, :, cols]
    if problem.padding_mode in {"zeros", "constant"}:
        padded[:, :, rows < 0] = problem.padding_value
        padded[:, :, :, cols < 0] = problem.padding_value
    return padded


def summation_bound(problem: ConvProblem, x: Array, w: Array) -> Array:
    """Return gamma_k * S with k = IC/G*KH*KW: holds for plain summation in any order, with or without FMA.

    A complex product takes two real products and an addition per part; k grows to 2K + 2 and S by sqrt(2).
    A float16 problem is summed in float32 and rounded once to float16.
    """
    if problem.is_integer:
        return np.zeros(problem.out_shape)
    total = absolute_sum(problem, x, w)
    k = problem.reduction
    if problem.dtype == "float16":
        inner = gamma(k, unit_roundoff("float32")) * total
        return inner + unit_roundoff("float16") * (total + inner) + float(np.finfo("float16").smallest_subnormal)
    u = unit_roundoff(problem.dtype)
    smallest = float(np.finfo(problem.dtype).smallest_subnormal)
    if problem.is_complex:
        return float(np.sqrt(2)) * gamma(2 * k + 2, u) * total + 4 * k * smallest
    return gamma(k, u) * total + k * smallest
