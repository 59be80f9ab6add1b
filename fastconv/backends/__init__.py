"""The backends, and the one ordered table that lists them all: in order of preference, `naive` last and total."""

from __future__ import annotations

import difflib
import functools

from fastconv.backends import direct, im2col, naive
from fastconv.backends.base import Algorithm

#: Every algorithm. Tests, benchmarks, ``explain`` and the command line iterate this.
TABLE: tuple[Algorithm, ...] = (
    *direct.ALGORITHMS,
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

