"""Cook-Toom matrices in exact fractions, and the one table of interpolation points.

F(m, r) computes m outputs of a correlation with r taps by alpha = m + r - 1 multiplications:

    y = A^T [ (G g) o (B^T d) ],   y[i] = sum_k d[i + k] g[k],   d of length alpha.

The polynomial product behind it is evaluated at alpha - 1 finite points and at infinity. In exact arithmetic
any distinct points do; in floating point they decide the rounding error, so they are searched for
(bench/search_points.py) and kept here with what was measured.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Bilinear:
    """A bilinear algorithm ``y = at @ ((g @ taps) * (bt @ data))`` for one axis, in exact fractions.

    Attributes
    ----------
    at : Matrix of shape (m, alpha)
        Output transform A^T.
    g : Matrix of shape (alpha, r)
        Transform of the taps.
    bt : Matrix of shape (alpha, span)
        Transform of the data.
    """

    at: Matrix
    g: Matrix
    bt: Matrix

    @property
    def m(self) -> int:
        """Outputs."""
        return len(self.at)

    @property
    def alpha(self) -> int:
        """Multiplications."""
        return len(self.g)

    @property
    def r(self) -> int:
        """Taps."""
        return len(self.g[0])

    @property
    def span(self) -> int:
        """Data that one application reads."""
        return len(self.bt[0])


def _monic(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients, lowest first, of the product of (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        coefficients = [Fraction(0), *coefficients]
        for i in range(len(coefficients) - 1):
            coefficients[i] -= root * coefficients[i + 1]
    return coefficients


def cook_toom(m: int, r: int, points: Sequence[Fraction | int]) -> Bilinear:
    """Return the algorithm F(m, r) of stride 1 from its m + r - 2 finite points; infinity is always added.

    Parameters
    ----------
    m, r : int
        Outputs and taps, at least 1.
    points : sequence of Fraction or int
        m + r - 2 distinct numbers.

    Notes
    -----
    The rows of B^T are monic polynomials (their last non-zero entry is 1), which saves a multiplication each in
    the transform of the data; the denominators go into G, which is applied once per plan.
    Source: S. Winograd, Arithmetic Complexity of Computations, 1980; the form by transposition of Toom-Cook.
    """
    alpha = m + r - 1
    p = [Fraction(v) for v in points]
    if len(p) != alpha - 1 or len(set(p)) != len(p):
        raise ValueError(f"F({m}, {r}) takes {alpha - 1} distinct finite points, got {[str(v) for v in p]}")
    zero, one = Fraction(0), Fraction(1)
    if alpha == 1:
        return Bilinear(((one,),), ((one,),), ((one,),))
    at = [[*(v**i for v in p), one if i == m - 1 else zero] for i in range(m)]
    g, bt = [], []
    for j, v in enumerate(p):
        others = [*p[:j], *p[j + 1 :]]
        denominator = one
        for other in others:
            denominator *= v - other
        g.append([v**k / denominator for k in range(r)])
        bt.append([*_monic(others), zero])
    g.append([zero] * (r - 1) + [one])
    bt.append(_monic(p))
    return Bilinear(_freeze(at), _freeze(g), _freeze(bt))


def _freeze(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)


def strided(m: int, r: int, stride: int, algorithms: Sequence[Bilinear]) -> Bilinear:
    """Return an algorithm of stride `stride` from one stride-1 algorithm per phase of the taps.

    Tap k belongs to phase k mod stride; each phase is a stride-1 correlation of every stride-th datum, and the
    phases' products are simply more columns of A^T: alpha is the sum of theirs.

    Parameters
    ----------
    m, r : int
        Outputs and taps.
    stride : int
        At least 2.
    algorithms : sequence of Bilinear
        ``algorithms[phase]`` is F(m, ceil((r - phase) / stride)).
    """
    span = (m - 1) * stride + r
    at: list[list[Fraction]] = [[] for _ in range(m)]
    g, bt = [], []
    zero = Fraction(0)
    for phase, part in enumerate(algorithms):
        for row, more in zip(at, part.at, strict=True):
            row.extend(more)
        for taps, data in zip(part.g, part.bt, strict=True):
            wide_taps, wide_data = [zero] * r, [zero] * span
            wide_taps[phase::stride] = taps
            wide_data[phase : phase + stride * part.span : stride] = data
            g.append(wide_taps)
            bt.append(wide_data)
    return Bilinear(_freeze(at), _freeze(g), _freeze(bt))


def _symmetric(*values: Fraction | int) -> tuple[Fraction, ...]:
    """Return 0 and plus and minus each value."""
    return (Fraction(0), *(Fraction(sign * v) for v in values for sign in (1, -1)))


_THIRDS = _symmetric(Fraction(2, 3), Fraction(3, 2))

#: Finite points by (m, r). Beside each: RMS error over that of plain float32 summation at 64 channels, square (m x m) and
#: line (1 x m), from ``python bench/search_points.py --table``.
POINTS: dict[tuple[int, int], tuple[Fraction, ...]] = {
    (2, 2): _symmetric(1)[:2],  # 1.06, 1.01
    (2, 3): _symmetric(1),  # 0.63, 0.82
    (3, 3): _symmetric(Fraction(3, 4), -2)[:4],  # 1.52, 1.20
    (4, 3): _THIRDS,  # 1.76, 1.43
    (5, 3): (*_symmetric(1, Fraction(1, 2)), Fraction(3)),  # 5.58, 2.51
    (6, 3): _symmetric(1, 2, Fraction(1, 2)),  # 7.78, 2.88
    (2, 5): _THIRDS,  # 1.23, 1.22
    (4, 5): _symmetric(1, 2, Fraction(1, 2)),  # 4.26, 2.28
    (4, 2): _symmetric(Fraction(3, 4), 2)[:4],  # 2.31, 1.60
    (2, 7): _symmetric(1, 2, Fraction(1, 2)),  # 4.09, 2.06
    (4, 7): _symmetric(Fraction(2, 5), Fraction(4, 5), Fraction(5, 4), Fraction(5, 2)),  # 16.29, 4.31
}


@functools.cache
def algorithm(m: int, r: int, stride: int = 1) -> Bilinear:
    """Return the algorithm for m outputs and r taps on one axis with the points of the table.

    F(m, 1) and F(1, r) need no points: they are the plain products.
    """
    if stride > 1:
        return strided(m, r, stride, [algorithm(m, len(range(phase, r, stride))) for phase in range(min(r, stride))])
    if r == 1:
        identity = _freeze([[Fraction(int(i == j)) for j in range(m)] for i in range(m)])
        return Bilinear(identity, _freeze([[Fraction(1)]] * m), identity)
    return cook_toom(m, r, POINTS[m, r])
