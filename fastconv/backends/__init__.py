"""The backends, and the one ordered table that lists them all: in order of preference, `naive` last and total."""

from __future__ import annotations

import difflib
import functools

from fastconv._typing import Array
from fastconv.backends import direct, fft, im2col, naive, winograd
from fastconv.backends.base import Algorithm
from fastconv.backends.half import HalfPlan, copies_nbytes
from fastconv.errors import UnsupportedProblem
from fastconv.plans import Plan
from fastconv.problem import ConvProblem

#: Every algorithm. Tests, benchmarks, ``explain`` and the command line iterate this.
TABLE: tuple[Algorithm, ...] = (
    *winograd.ALGORITHMS,
    *direct.ALGORITHMS,
    *fft.ALGORITHMS,
    *im2col.ALGORITHMS,
    *naive.ALGORITHMS,
)


def backends() -> tuple[str, ...]:
    """Return the names of the backends in order of preference, without "auto".

    Each may have variants, named ``family:variant``; `fastconv.explain` lists them.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.backends()[-1]
    'naive'
    """
    return tuple(dict.fromkeys(algorithm.family for algorithm in TABLE))


@functools.cache
def named(name: str) -> tuple[Algorithm, ...]:
    """Return the algorithms that `name` means: one variant, or all variants of a family; empty for a word unknown.

    "auto" means every algorithm.
    """
    if name == "auto":
        return TABLE
    return tuple(algorithm for algorithm in TABLE if name in {algorithm.name, algorithm.family})


def suggestion(name: str) -> str:
    """Return the sentence that lists the allowed names, with the nearest one."""
    names = ("auto", *backends(), *(algorithm.name for algorithm in TABLE))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"must be 'auto', one of {', '.join(map(repr, backends()))}, or a variant such as {TABLE[0].name!r}; got {name!r}.{hint}"


def make_plan(algorithm: Algorithm, problem: ConvProblem, w: Array, bias: Array | None, *, threads: int, max_workspace: int | None) -> Plan:
    """Return a plan of `algorithm`, through float32 where it does not store float16 itself."""
    computed = algorithm.computed(problem)
    if computed is not problem:
        if max_workspace is not None:
            if copies_nbytes(problem) > max_workspace:
                raise UnsupportedProblem(
                    f"backend {algorithm.name!r} needs {copies_nbytes(problem)} bytes of workspace for float32 copies of {problem}, "
                    f"but max_workspace is {max_workspace}. Raise max_workspace or omit backend=."
                )
            max_workspace -= copies_nbytes(problem)
        inner = algorithm.make_plan(
            computed,
            w.astype("float32"),
            None if bias is None else bias.astype("float32"),
            threads=threads,
            max_workspace=max_workspace,
        )
        return HalfPlan(problem, inner)
    return algorithm.make_plan(problem, w, bias, threads=threads, max_workspace=max_workspace)


def workspace_nbytes(algorithm: Algorithm, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
    """Return the bytes of workspace that `make_plan` books with these arguments, None if it raises for want of them."""
    computed = algorithm.computed(problem)
    if computed is problem:
        return algorithm.workspace_nbytes(problem, threads, max_workspace)
    copies = copies_nbytes(problem)
    if max_workspace is not None and copies > max_workspace:
        return None
    booked = algorithm.workspace_nbytes(computed, threads, None if max_workspace is None else max_workspace - copies)
    return None if booked is None else booked + copies


def plan_by_name(name: str, problem: ConvProblem, w: Array, bias: Array | None, *, threads: int, max_workspace: int | None) -> Plan:
    """Return a plan of the algorithm called `name`: how a pickled plan comes back."""
    (algorithm,) = (row for row in TABLE if row.name == name)
    return make_plan(algorithm, problem, w, bias, threads=threads, max_workspace=max_workspace)
