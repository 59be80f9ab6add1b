"""What another library is here, and what several of them share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from fastconv._typing import Array
from fastconv.backends.base import pad
from fastconv.problem import ConvProblem

Call = Callable[[], Array]


@dataclass(frozen=True)
class Peer:
    """Another library.

    Attributes
    ----------
    name : str
    package, module : str
        What is installed, and what is imported.
    prepare : callable
        ``prepare(problem, x, w, threads)`` returns a call without arguments, weights prepared, or None where the
        library does not compute the problem.
    """

    name: str
    package: str
    module: str
    prepare: Callable[[ConvProblem, Array, Array, int], Call | None]

    @property
    def version(self) -> str:
        """Version of the installed package."""
        return version(self.package)

    @property
    def is_installed(self) -> bool:
        """Whether the module can be imported."""
        return importlib.util.find_spec(self.module) is not None


def zeros_outside(p: ConvProblem, x: Array, *, is_even: bool = False) -> tuple[ConvProblem, Array]:
    """Return an equal problem whose borders are zeros: other modes are padded by hand, outside the timing.

    So are borders that differ on two opposite sides, if the library wants them to be the same (`is_even`).
    """
    if p.pads_with_zeros and not (is_even and (p.ph_lo, p.pw_lo) != (p.ph_hi, p.pw_hi)):
        return p, x
    h, w = p.ih + p.ph_lo + p.ph_hi, p.iw + p.pw_lo + p.pw_hi
    inner = p.replace(ih=h, iw=w, ph_lo=0, ph_hi=0, pw_lo=0, pw_hi=0, padding_mode="zeros", padding_value=0)
    return inner, pad(p, x)


def is_one_plane(p: ConvProblem) -> bool:
    """Return whether every image is one plane and every pixel gets a result: what image libraries compute."""
    return p.ic == p.oc == p.sh == p.sw == p.dh == p.dw == 1
