"""One run of the fuzzer as a value that prints as one line and reads back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fastconv.problem import ConvProblem

#: How a plan is come by: from the table's row, or by a public function.
ROUTES = ("row", "plan", "Conv2d", "conv2d")
#: What the arrays hold.
DATA = ("integers", "normal", "mixed", "huge", "tiny", "special", "zeros", "impulse")


@dataclass(frozen=True)
class Case:
    """A problem, an algorithm, and everything else that one run depends on.

    Attributes
    ----------
    problem : ConvProblem
    algorithm : str
        Full name of a row of the table.
    route : str
        One of `ROUTES`.
    data, seed : str, int
        What the arrays hold, and the seed of the numbers.
    threads : int
    side : str
        Whether arrays touch the inaccessible page "behind" or "before" them.
    x, w, bias, residual, out : str
        Layouts, see `tests.fuzz.memory`; `out` may also be "none" (the result is allocated) or "x" (in place).
    w_dtype : str
        Dtype of the weights given, where it is not the problem's: the two promote to the problem's.
    form : str
        "batched", "single" (no batch axis) or "line" (`conv1d`); with channels last where the problem says so.
    padding : str
        The word that the padding is given by, or "numbers".
    flip : int
        1 where the weights are given rotated, with ``flip_kernel=True``.
    """

    problem: ConvProblem
    algorithm: str
    route: str = "row"
    data: str = "normal"
    seed: int = 0
    threads: int = 1
    side: str = "behind"
    x: str = "nchw"
    w: str = "nchw"
    bias: str = "c"
    residual: str = "nchw"
    out: str = "none"
    w_dtype: str = "same"
    form: str = "batched"
    padding: str = "numbers"
    flip: int = 0

    def __str__(self) -> str:
        words = [f"{name}={getattr(self, name)}" for name, default in DEFAULTS.items() if getattr(self, name) != default]
        return " ".join((str(self.problem), self.algorithm, *words))

    @classmethod
    def parse(cls, text: str) -> Case:
        """Return the case that `str` printed."""
        problem, algorithm, *words = text.split()
        found: dict[str, Any] = dict(word.split("=", 1) for word in words)
        for name in ("seed", "threads", "flip"):
            if name in found:
                found[name] = int(found[name])
        return cls(ConvProblem.parse(problem), algorithm, **found)

    def replace(self, **changes: Any) -> Case:
        """Return a copy with some attributes changed; those of the problem by its own names."""
        own = {name: value for name, value in changes.items() if name in DEFAULTS or name == "algorithm"}
        rest = {name: value for name, value in changes.items() if name not in own}
        return dataclasses.replace(self, problem=self.problem.replace(**rest) if rest else self.problem, **own)


#: The attributes beside problem and algorithm, with the value that is not printed.
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Case) if field.name not in {"problem", "algorithm"}}
